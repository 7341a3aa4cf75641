"""`matey data`: what is in files, the data config for them, and files that read faster."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from matey.cli import Command

if TYPE_CHECKING:
    from rich.table import Table

    from matey.config import DataConfig
    from matey.data.convert import Converted, Rate
    from matey.data.inspect import Inspection, SystemReport


PATHS = "files, folders or patterns; or a data config (.yaml)"
MIRROR = {None: "unknown", False: "true", True: "pseudo"}  # scalar, vector or tensor
PATIENCE = 1.0  # seconds; what takes no longer shows no lines of progress


def add_inspect_arguments(parser: Any) -> None:
    parser.add_argument("paths", nargs="+", help=PATHS)
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


def check_options(config: "DataConfig | None", path: str, **given: bool) -> None:
    """Raise ConfigError for an option that was given beside a data config, and means files."""
    from matey.errors import ConfigError

    for name in given if config else ():
        if given[name]:
            raise ConfigError(f"{path} is a data config: leave out --{name}, or give files.")


def run_inspect(options: Any) -> int:
    """Report on the files; 1 if training on them would be refused."""
    import logging
    from pathlib import Path

    from matey.cli.console import console
    from matey.cli.notices import notices
    from matey.cli.options import read_data
    from matey.cli.progress import show_progress
    from matey.config import SourceConfig, WindowConfig
    from matey.data.inspect import inspect
    from matey.errors import DataError

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
        console.print(f"notice: {message}", markup=False, highlight=False, soft_wrap=True)
    for message in inspection.refused:
        console.print(f"refused: {message}", markup=False, highlight=False, soft_wrap=True)
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
    """Convert files; say what of them does not survive, and what was gained."""
    import logging
    from pathlib import Path

    from matey.cli.console import console
    from matey.cli.notices import notices
    from matey.cli.options import read_data
    from matey.cli.progress import show_progress
    from matey.config import SourceConfig
    from matey.data.convert import convert

    config = read_data(options.source)
    source = SourceConfig("convert", tuple(options.source), options.uneven, options.thermodynamics)
    usual = SourceConfig("convert", source.paths)
    check_options(
        config,
        options.source[0],
        uneven=source.uneven != usual.uneven,
        thermodynamics=source.thermodynamics != usual.thermodynamics,
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
        console.print(f"notice: {message}", markup=False, highlight=False, soft_wrap=True)
    for system in converted:
        for line in gains(system):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def gains(system: "Converted") -> list[str]:
    """What a conversion made of one system, in sizes and in windows read per second."""
    from matey.data.formats.files import shown

    before, after = system.rate_before, system.rate_after
    lines = [
        f"{shown(system.name)}: {system.trajectories} trajectories, {system.frames} frames, in "
        f"{system.files} file{'s' if system.files > 1 else ''} below {shown(system.folder)}",
        f"  size       {mebibytes(system.size_before)} before, "
        f"{mebibytes(system.size_after)} after",
    ]
    if before and after:
        gain = after.windows_per_second / before.windows_per_second
        lines.append(
            f"  read rate  {per_second(before)} before, {per_second(after)} after: x {gain:.2g}"
        )
        lines.append(f"             windows of {before.history} frames and a target, one process")
    return lines


def mebibytes(size: int) -> str:
    """A size for people."""
    return f"{size / 2**20:.1f} MiB"


def per_second(rate: "Rate") -> str:
    """A rate for people."""
    return f"{rate.windows_per_second:.0f} windows/s"


def show(system: "SystemReport") -> None:
    """Print one system: a few lines, the table of variables, what is odd."""
    from matey.cli.console import console, plain
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
        console.print(f"notice: {notice}", markup=False, highlight=False, soft_wrap=True)


def variable_table(system: "SystemReport") -> "Table":
    """Names, units and ranges of a system's variables, and whether they are pseudo quantities."""
    from rich.box import SIMPLE
    from rich.table import Table

    from matey.cli.console import plain

    table = Table(box=SIMPLE, padding=0, pad_edge=False)
    for heading in ("variable", "in the file", "units", "mirror"):
        table.add_column(heading, overflow="fold")
    for heading in ("min", "max", "mean", "std"):
        table.add_column(heading, justify="right")
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
    """Write the data config, unless training on the files would be refused."""
    from matey.cli.console import console
    from matey.data.draft_config import config_text
    from matey.output import write_text

    if inspection.refused:
        console.print(f"{target} is not written.", markup=False, highlight=False)
        return
    text = config_text(inspection, target.parent)
    write_text(target, text)
    console.print(f"\nWrote {target}.", markup=False, highlight=False, soft_wrap=True)


def together(messages: Iterable[str]) -> list[str]:
    """Notices that say the same of several files as one."""
    files: dict[str, list[str]] = {}
    for message in messages:
        file, _, text = message.partition(": ")
        files.setdefault(text, []).append(file)
    return [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {text}"
        for text, names in files.items()
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
}
