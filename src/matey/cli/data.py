"""`matey data`: what is in files, the data config for them, and files that read faster."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from matey.cli import Command

if TYPE_CHECKING:
    from rich.table import Table

    from matey.config import DataConfig
    from matey.data.convert import Converted
    from matey.data.inspect import Inspection, SystemReport


PATHS = "files, folders or patterns; or a data config (.yaml)"
MODELS = PATHS + "; or a run, a model folder or a model that ships, which is described"
MIRROR = {None: "unknown", False: "true", True: "pseudo"}  # scalar, vector or tensor
PATIENCE = 1.0  # seconds; what takes no longer shows no lines of progress


def add_inspect_arguments(parser: Any) -> None:
    parser.add_argument("paths", nargs="+", help=MODELS)
    parser.add_argument("--write", metavar="YAML", help="write a data config for what is there")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing YAML file")
    parser.add_argument("--history", type=int, default=4, help="frames that a model is given")
    add_uneven(parser)


def add_uneven(parser: Any) -> None:
    from typing import Literal

    parser.add_argument(
        "--uneven",
        type=Literal["refuse", "allow"],
        default="refuse",
        help="what to do with time steps that differ by more than 10 %",
    )


def check_options(config: "DataConfig | None", path: str, **options: bool) -> None:
    """Raise ConfigError for options that apply to files only, beside a data config."""
    from matey.errors import ConfigError

    for name in options if config else ():
        if options[name]:
            raise ConfigError(f"{path} is a data config: leave out --{name}, or give files.")


def run_inspect(options: Any) -> int:
    """Report on the files, 1 if training on them would be refused; or on a trained model."""
    import logging
    from pathlib import Path

    from matey.cli import notices
    from matey.cli.console import say, show_progress
    from matey.cli.options import read_data
    from matey.config import SourceConfig, WindowConfig
    from matey.data.inspect import inspect
    from matey.errors import DataError
    from matey.nn.folder import card_of, is_model

    if len(options.paths) == 1 and is_model(Path(options.paths[0])):
        say(card_of(Path(options.paths[0])).rstrip())
        return 0
    target = Path(options.write) if options.write else None
    if target and target.exists() and not options.overwrite:
        raise DataError(f"{target} exists. Give --overwrite to replace it, or another name.")
    config, allowed = read_data(options.paths), options.uneven == "allow"
    check_options(config, options.paths[0], write=bool(target), uneven=allowed)
    windows = WindowConfig(history=options.history)
    source = SourceConfig("inspect", tuple(options.paths), "allow") if allowed else None
    with notices(logging.INFO, show=False) as heard, show_progress("reading", PATIENCE) as watch:
        inspection = inspect(config or options.paths, windows, watch, source)
    for system in inspection.systems:
        show(system)
    for message in together(heard.messages):
        say(f"notice: {message}")
    for message in alike(inspection.refused):
        say(f"refused: {message}")
    if target:
        write_config(inspection, target)
    return 1 if inspection.refused else 0


def add_convert_arguments(parser: Any) -> None:
    from typing import Literal

    parser.add_argument("source", nargs="+", help=PATHS)
    parser.add_argument("destination", help="new folder for the files")
    parser.add_argument(
        "--compress", action="store_true", help="smaller files, several times slower to read"
    )
    add_uneven(parser)
    parser.add_argument(
        "--thermodynamics",
        type=Literal["full", "perturbation"],
        default="full",
        help="of miniWeather: which density and potential temperature",
    )


def run_convert(options: Any) -> None:
    """Convert files; report what is lost and how much faster they read."""
    import logging
    from pathlib import Path

    from matey.cli import notices
    from matey.cli.console import say, show_progress
    from matey.cli.options import read_data
    from matey.config import SourceConfig
    from matey.data.convert import convert

    config = read_data(options.source)
    source = SourceConfig("convert", tuple(options.source), options.uneven, options.thermodynamics)
    check_options(
        config,
        options.source[0],
        uneven=options.uneven != SourceConfig.uneven,
        thermodynamics=options.thermodynamics != SourceConfig.thermodynamics,
    )
    with notices(logging.INFO, show=False) as heard, show_progress("writing", PATIENCE) as watch:
        converted = convert(
            config or options.source,
            Path(options.destination),
            options=source,
            compress=options.compress,
            watch=watch,
        )
    for message in together(heard.messages):
        say(f"notice: {message}")
    for system in converted:
        show_gains(system)


def show_gains(system: "Converted") -> None:
    """Print what a conversion made of one system, in sizes and in windows read per second."""
    from matey.cli.console import say
    from matey.data.formats.files import shown

    say(
        f"{shown(system.name)}: {system.trajectories} trajectories, {system.frames} frames, in "
        f"{system.files} file{'s' if system.files > 1 else ''} below {shown(system.folder)}"
    )
    before, after = (f"{size / 2**20:.1f} MiB" for size in (system.size_before, system.size_after))
    say(f"  size       {before} before, {after} after")
    if system.rate_before and system.rate_after:
        rates = [rate.windows_per_second for rate in (system.rate_before, system.rate_after)]
        before, after = (f"{rate:.0f} windows/s" for rate in rates)
        say(f"  read rate  {before} before, {after} after: x {rates[1] / rates[0]:.2g}")
        say(
            f"             windows of {system.rate_before.history} frames and a target, one process"
        )


def add_resample_arguments(parser: Any) -> None:
    parser.add_argument(
        "source", nargs="+", help="files, folders or patterns: outputs of AMR codes, or meshes"
    )
    parser.add_argument("destination", help="new folder for the files")
    parser.add_argument(
        "--grid",
        required=True,
        metavar="ZxYxX",
        help="points along each axis, slowest first, as 128x256 (1: the mean along it); or a file "
        "whose grid to take",
    )
    parser.add_argument(
        "--domain",
        metavar="Z:ZxY:YxX:X",
        help="low:high of each axis, as --domain=-1:1x0:2 (default: that of the files)",
    )
    parser.add_argument("--variables", nargs="+", default=[], help="those to take (default: all)")
    parser.add_argument(
        "--parameters", nargs="+", default=[], help="numbers of the run to keep with it, as gamma"
    )
    parser.add_argument(
        "--sides",
        help="periodic, wall or open for each axis, as wall-open,periodic, if files do not tell",
    )
    parser.add_argument("--dt", type=float, help="between files, if these do not tell their times")


def run_resample(options: Any) -> None:
    """Put outputs on one grid, and say what was written."""
    import logging
    from pathlib import Path

    from matey.cli import notices
    from matey.cli.console import say, show_progress
    from matey.data.formats.files import shown
    from matey.data.resample.grid import parse_domain, parse_grid, parse_sides
    from matey.data.resample.run import Choices, resample

    choices = Choices(
        parse_grid(options.grid),
        parse_domain(options.domain) if options.domain else None,
        options.variables,
        options.parameters,
        parse_sides(options.sides) if options.sides else None,
        options.dt,
    )
    with notices(logging.INFO, show=False) as heard, show_progress("frames", PATIENCE) as watch:
        written = resample(options.source, Path(options.destination), choices, watch)
    for message in together(heard.messages):
        say(f"notice: {message}")
    for path in written:
        say(f"Wrote {shown(path)}")
    say(f"Next: matey data inspect {shown(options.destination)} --write mix.yaml")


def show(system: "SystemReport") -> None:
    """Print one system: its grid and times, its variables, and what is odd."""
    from matey.cli.console import console, plain, say
    from matey.data.draft_config import describe

    console.print(f"\n[bold]{plain(system.name)}[/bold]", highlight=False)
    lines = [line for line in describe(system) if not line.startswith("variables:")]
    lines.append(
        f"times {system.times[0]:.6g} to {system.times[1]:.6g}; "
        f"{system.window_bytes / 2**20:.3g} MiB a window"
    )
    lines += [f"in {path}" for path in system.paths]
    for line in lines:
        console.print(f"  {plain(line)}", highlight=False, soft_wrap=True)
    if system.statistics:
        console.print(variable_table(system))
    for notice in system.notices:
        say(f"notice: {notice}")


def variable_table(system: "SystemReport") -> "Table":
    """Names, units and ranges of a system's variables, and whether they are pseudo quantities."""
    from matey.cli.console import make_table, plain

    words, numbers = ("variable", "in the file", "units", "mirror"), ("min", "max", "mean", "std")
    table = make_table(None, words, numbers, gap=0)
    for variable, values in zip(system.spec.variables, system.statistics, strict=True):
        table.add_row(
            plain(variable.name),
            plain(variable.alias) + (" (static)" if variable.static else ""),
            plain(variable.units or "-"),
            MIRROR[variable.pseudo],
            *(f"{v:.4g}" for v in (values.minimum, values.maximum, values.mean, values.std)),
        )
    return table


def write_config(inspection: "Inspection", target: Any) -> None:
    """Write the data config, with marks at what training would refuse."""
    from matey.cli.console import say
    from matey.data.draft_config import config_text
    from matey.output import write_text

    if not inspection.systems:
        say(f"{target} is not written: nothing could be opened.")
        return
    write_text(target, config_text(inspection, target.parent))
    marked = ", with marks at what has to be mended first" if inspection.refused else ""
    say(f"\nWrote {target}{marked}.")


def together(messages: Iterable[str]) -> list[str]:
    """Merge notices that say the same of several files."""
    files: dict[str, list[str]] = {}
    for message in messages:
        file, _, text = message.partition(": ")
        files.setdefault(text, []).append(file)
    return [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {text}"
        for text, names in files.items()
    ]


def alike(messages: Iterable[str]) -> list[str]:
    """The first of refusals that differ in names and numbers alone, and how many more there are."""
    groups: dict[str, list[str]] = {}
    for message in messages:
        groups.setdefault(re.sub(r"\S*[/.\d]\S*", "", message), []).append(message)
    return [
        f"{group[0]}{f' (and {len(group) - 1} more like it)' if len(group) > 1 else ''}"
        for group in groups.values()
    ]


COMMANDS = {
    "inspect": Command(
        "what is in files, whether it can be trained on, and the data config for them",
        "matey data inspect data/2D_rdb_NA_NA.h5 --write mix.yaml",
        add_inspect_arguments,
        run_inspect,
    ),
    "convert": Command(
        "files to the Well's layout: all that training reads of them, and faster to read",
        "matey data convert 2D_rdb_NA_NA.h5 data/shallow_water",
        add_convert_arguments,
        run_convert,
    ),
    "resample": Command(
        "outputs of AMR codes and meshes onto one grid, in the Well's layout",
        "matey data resample sod_hdf5_plt_cnt_* data/sod --grid 128x256",
        add_resample_arguments,
        run_resample,
    ),
}
