"""`matey simulate`: trajectories of a system in the Well's layout, without any data."""

import ast
import inspect
import itertools
import os
import signal
import string
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matey.simulate
from matey.cli import Command
from matey.errors import ConfigError, DivergenceError, StoppedError
from matey.simulate import SYSTEMS

if TYPE_CHECKING:
    from rich.text import Text

    from matey.fields import Field
    from matey.simulate.schemes.stepper import Range
    from matey.simulate.trajectories import Setting, Simulation

# The levels of a still, and how they are shown: colours of viridis, dark to bright, or shades.
LEVELS = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
COLOURS = (
    (68, 1, 84),
    (65, 68, 135),
    (42, 120, 142),
    (34, 168, 132),
    (122, 209, 81),
    (253, 231, 37),
)
SHADES = " ░▒▓█"
WIDEST = 110  # columns that a picture and the longest equation take
SETTINGS = ("trajectories", "resolution", "steps", "seed", "ndim")


def add_arguments(parser: Any) -> None:
    from jsonargparse.typing import PositiveInt

    from matey.cli.options import add_device

    parser.add_argument("system", type=str | None, nargs="?", help=", ".join(SYSTEMS))
    parser.add_argument("--list", action="store_true", help="show all systems, and make nothing")
    parser.add_argument("--out", type=Path | None, help="new folder for the files")
    parser.add_argument("--trajectories", type=int, default=32, help="how many")
    parser.add_argument(
        "--resolution", type=int, default=64, help="grid points along the shortest axis"
    )
    parser.add_argument(
        "--ndim", type=int, help="dimensions, of systems that exist in several: 1, 2 or 3"
    )
    parser.add_argument(
        "--steps", type=int, default=21, help="frames per trajectory, the initial state included"
    )
    parser.add_argument(
        "--vary",
        action="append",
        metavar="NAME=LOW:HIGH[:log]",
        help="draw a parameter of the equations for each trajectory, evenly or evenly in its "
        "logarithm; NAME=NUMBER holds it there; may be given several times",
    )
    parser.add_argument(
        "--set",
        action="append",
        metavar="NAME=NUMBER or NAME=LOW:HIGH",
        help="another setting of the simulator, as its span or a range that initial states are "
        "drawn from; each module of matey.simulate lists its own; may be given several times",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the random initial states and parameters"
    )
    parser.add_argument(
        "--jobs",
        type=PositiveInt | None,
        help="trajectories at a time, which changes no bit; else as many as there are cores",
    )
    add_device(parser)


def run(options: Any) -> None:
    """Simulate, and write what came out. Raises ConfigError before any long work."""
    if options.list:
        show_systems()
        return
    if options.system is None or options.out is None:
        missing = "a system, one of those of `--list`" if options.system is None else "--out FOLDER"
        raise ConfigError(f"What is to be simulated, and where to? Give {missing}.")
    out = Path(os.path.abspath(options.out))
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"{options.out} is there already. Name a new folder, or remove it first.")
    from matey.cli.console import say
    from matey.device import choose_device
    from matey.simulate.parts import claim
    from matey.simulate.trajectories import Simulation
    from matey.train.lock import locked
    from matey.train.threads import usable_cores

    vary = once("--vary", [read_range(text) for text in options.vary or ()])
    change = once("--set", [read_setting(text) for text in options.set or ()])
    settings = {name: options[name] for name in SETTINGS}
    device = str(choose_device(options.device))
    simulation = Simulation(options.system, **settings, vary=vary, device=device, change=change)
    jobs = options.jobs or (usable_cores() if device == "cpu" else 1)
    began, parts = time.perf_counter(), out.with_name(f".{out.name}.unfinished")
    with locked(parts, "--out"):
        if there := claim(simulation, parts):
            say(f"Going on: {there} of {simulation.trajectories} trajectories are in {parts}.")
        fields, path = make(simulation, parts, out, jobs)
    points = " x ".join(str(n) for n in fields[0].grid.shape[3 - fields[0].grid.ndim :])
    print(
        f"{len(fields)} trajectories of {options.system}, {options.steps} frames of {points} "
        f"points, in {time.perf_counter() - began:.1f} s: {path}"
    )


def make(simulation: "Simulation", parts: Path, out: Path, jobs: int) -> tuple[list["Field"], Path]:
    """Make the trajectories in a folder of parts, and of them the folder `out`; its file, too.

    What was made stays in the folder of parts until all is done, or until a solution diverges or a
    trajectory's parameters are refused: the same command would not get any further.
    """
    from matey.cli.console import show_progress
    from matey.data.write import write_well
    from matey.output import remove
    from matey.simulate.parts import make_parts

    whole = parts / "whole"
    remove(whole)
    try:
        with show_progress(simulation.name) as progress:
            fields = make_parts(simulation, parts, jobs, progress)
    except (ConfigError, DivergenceError):
        remove(parts)
        raise
    except KeyboardInterrupt:
        raise StoppedError(
            "Interrupted. The same command goes on where it was.", signal.SIGINT
        ) from None
    path = write_well(fields, whole, name=simulation.name)
    whole.rename(out)
    remove(parts)
    return fields, out / path.relative_to(whole)


def read_range(text: str) -> tuple[str, "Range"]:
    """The parameter and its range in words like `nu=1e-4:1e-2:log`. Raises ConfigError."""
    from matey.simulate.schemes.stepper import Range

    name, _, rest = text.partition("=")
    low, *others = rest.split(":")
    try:
        if others[1:] not in ([], ["log"]):
            raise ValueError
        return name, Range(float(low), float((others or [low])[0]), others[1:] == ["log"])
    except ValueError:
        expected = "NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=NUMBER"
        raise ConfigError(f"--vary is {text!r}, expected {expected}.") from None
    except ConfigError as error:
        raise ConfigError(f"--vary {text}: {error}") from error


def read_setting(text: str) -> tuple[str, "Setting"]:
    """The setting and its value in words like `span=0.25` or `radius=0.1:0.2`. Raises
    ConfigError."""
    name, _, rest = text.partition("=")
    try:
        numbers = [float(word) for word in rest.split(":")]
        if len(numbers) == 1:
            return name, numbers[0]
        low, high = numbers
    except ValueError:
        expected = "NAME=NUMBER or NAME=LOW:HIGH"
        raise ConfigError(f"--set is {text!r}, expected {expected}.") from None
    return name, (low, high)


def once(option: str, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Pairs by name. Raises ConfigError for a name that was given twice."""
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{option} {name} was given {names.count(name)} times. Give it once.")
    return dict(pairs)


def show_systems() -> None:
    """Print every system with a small picture, its name, what it is and its equation."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else WIDEST)
    grid, stills = Table.grid(padding=(0, 2)), read_stills()
    colours = console.color_system is not None
    for name in SYSTEMS:
        title, equation = equation_of(name)
        text = Text.assemble((name, "bold"), f"\n{title}\n\n{equation}\n")
        grid.add_row(picture(*stills.get(name, (1, "")), colours), text)
    console.print(grid)


def equation_of(name: str) -> tuple[str, str]:
    """The first line and the equations of a system's module, as they stand at its beginning."""
    source = (Path(matey.simulate.__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    title, *paragraphs = (ast.get_docstring(ast.parse(source)) or name).split("\n\n")
    lines = itertools.takewhile(lambda text: text.startswith("    "), paragraphs)
    equation = next(iter(lines), "")
    return title, inspect.cleandoc(equation)


def read_stills() -> dict[str, tuple[int, str]]:
    """The picture of each system: how many points a row has, and a letter for the level of each,
    from the upper left one on. `docs/pictures.py` draws them."""
    path = Path(matey.simulate.__file__).parent / "stills.txt"
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    return {name: (int(columns), letters) for name, columns, letters in lines}


def picture(columns: int, letters: str, colours: bool) -> "Text":
    """A still in blocks of two points, one above the other: in colours, or else in shades."""
    from rich.text import Text

    text = Text()
    levels = [LEVELS.index(letter) / 63 for letter in letters]
    rows = [levels[start : start + columns] for start in range(0, len(levels), columns)]
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        for high, low in zip(upper, lower, strict=True):
            if colours:
                text.append("▀", f"{colour(high)} on {colour(low)}")
            else:
                text.append(SHADES[round((high + low) / 2 * (len(SHADES) - 1))])
        text.append("\n")
    return text


def colour(level: float) -> str:
    """A colour between the two of `COLOURS` that are nearest to a level in [0, 1]."""
    place = level * (len(COLOURS) - 1)
    below = min(int(place), len(COLOURS) - 2)
    pairs = zip(COLOURS[below], COLOURS[below + 1], strict=True)
    parts = (round(low + (high - low) * (place - below)) for low, high in pairs)
    return "#" + "".join(f"{part:02x}" for part in parts)


COMMANDS = {
    "": Command(
        "make trajectories of a system, in the Well's layout",
        "matey simulate shallow_water --out data/swe --trajectories 32 --resolution 64",
        add_arguments,
        run,
    )
}
