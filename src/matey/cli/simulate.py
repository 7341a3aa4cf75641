"""`matey simulate`: trajectories of a system in the Well's layout, without any data."""

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matey.cli import Command
from matey.errors import ConfigError, DivergenceError, StoppedError
from matey.simulate import SYSTEMS

if TYPE_CHECKING:
    from matey.fields import Field
    from matey.simulate.stepper import Range
    from matey.simulate.trajectories import Simulation

SETTINGS = ("trajectories", "resolution", "steps", "seed", "ndim")


def add_arguments(parser: Any) -> None:
    from jsonargparse.typing import PositiveInt

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
    parser.add_argument(
        "--jobs",
        type=PositiveInt | None,
        help="trajectories at a time, which changes no bit; else as many as there are cores",
    )
    add_device(parser)


def run(options: Any) -> None:
    """Simulate, and write what came out. Raises ConfigError before any long work."""
    out = Path(os.path.abspath(options.out))
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"{options.out} is there already. Name a new folder, or remove it first.")
    from matey.cli.console import say
    from matey.device import choose_device
    from matey.simulate.parts import claim
    from matey.simulate.trajectories import Simulation
    from matey.train.lock import locked
    from matey.train.threads import usable_cores

    vary = dict(read_range(text) for text in options.vary or ())
    settings = {name: options[name] for name in SETTINGS}
    device = str(choose_device(options.device))
    simulation = Simulation(options.system, **settings, vary=vary, device=device)
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

    What was made stays in the folder of parts until all is done, or until a solution diverges.
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
    except DivergenceError:
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
