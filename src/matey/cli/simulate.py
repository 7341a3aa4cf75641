"""`matey simulate`: trajectories of a system in the Well's layout, without any data."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matey.cli import Command
from matey.errors import ConfigError
from matey.simulate import SYSTEMS

if TYPE_CHECKING:
    from matey.simulate.stepper import Range

SETTINGS = ("trajectories", "resolution", "steps", "seed", "ndim")


def add_arguments(parser: Any) -> None:
    from matey.cli.options import add_device

    parser.add_argument("system", type=str, help=", ".join(SYSTEMS))
    parser.add_argument("--out", type=Path, required=True, help="new folder for the files")
    parser.add_argument("--trajectories", type=int, default=32, help="how many")
    parser.add_argument(
        "--resolution", type=int, default=64, help="grid points along the shortest axis"
    )
    parser.add_argument(
        "--ndim", type=int, help="dimensions, of systems in periodic boxes: 1, 2 or 3"
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
        "--seed", type=int, default=0, help="of the random initial states and parameters"
    )
    add_device(parser)


def run(options: Any) -> None:
    """Simulate, and write what came out. Raises ConfigError before any long work."""
    if options.out.exists() and not (options.out.is_dir() and not any(options.out.iterdir())):
        raise ConfigError(f"{options.out} is there already. Name a new folder, or remove it first.")
    from matey.cli.console import show_progress
    from matey.data.write import write_well
    from matey.device import choose_device
    from matey.simulate import find_system, simulate

    find_system(options.system, options.ndim)
    vary = dict(read_range(text) for text in options.vary or ())
    device = choose_device(options.device)
    began = time.perf_counter()
    with show_progress(options.system) as progress:
        settings = {name: options[name] for name in SETTINGS}
        fields = simulate(options.system, **settings, vary=vary, device=device, progress=progress)
    folder = write_well(fields, options.out, name=options.system)
    points = " x ".join(str(n) for n in fields[0].grid.shape[3 - fields[0].grid.ndim :])
    print(
        f"{len(fields)} trajectories of {options.system}, {options.steps} frames of {points} "
        f"points, in {time.perf_counter() - began:.1f} s: {folder}"
    )


def read_range(text: str) -> tuple[str, "Range"]:
    """The parameter and its range in words like `nu=1e-4:1e-2:log`. Raises ConfigError."""
    from matey.simulate.stepper import Range

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


COMMANDS = {
    "": Command(
        "make trajectories of a system, in the Well's layout",
        "matey simulate shallow_water --out data/swe --trajectories 32 --resolution 64",
        add_arguments,
        run,
    )
}
