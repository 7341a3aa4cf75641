"""The data that say what a pretrained model is worth: trajectories of systems it has not seen.

    python benchmarks/pretrained_data.py --out worth-data

NEAR is the thermals, FAR are the cavity, fracture and excitable media, named before any model was
pretrained. Each trajectory has a file of its own, in a folder `train`, `valid` or `test`: a split
that nothing changes, so that every method learns from, chooses by and is tested on the same. Each
system has a data config, `<system>.yaml`. The first so many trajectories of the seed are those to
train on, then come those to choose by, then those of the test.

The cost of each system is told first, by two frames that are made for it. What is there is not made
again; a system that was cut short goes on with the trajectory where it stopped.
"""

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

from matey.data.draft_config import config_text
from matey.data.inspect import inspect
from matey.data.write import write_well
from matey.output import remove, write_text
from matey.simulate import SYSTEMS
from matey.simulate.parts import claim, make_parts
from matey.simulate.trajectories import Simulation
from matey.train.lock import locked
from matey.words import duration

NEAR = ("thermals",)
FAR = ("mhd_cavity", "fracture", "excitable")
SPLITS = ("train", "valid", "test")


def main() -> None:
    """Make the systems that are not there yet."""
    args = asked()
    out, total = Path(args.out), sum(args.trajectories)
    missing = {
        name: Simulation(name, total, args.resolution, args.steps, args.seed)
        for name in args.systems
        if not (out / f"{name}.yaml").exists()
    }
    for name, simulation in missing.items():
        print(f"{name}: {total} trajectories, {cost(simulation)}", flush=True)
    if args.plan:
        return
    for name, simulation in missing.items():
        began = time.perf_counter()
        make(simulation, args.trajectories, out, args.jobs)
        print(f"{name}: made in {duration(time.perf_counter() - began)}", flush=True)
    for name in args.systems:
        print(f"--data {name}={out / name}.yaml")


def asked() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, help="the folder of the data")
    parser.add_argument("--systems", nargs="+", default=[*NEAR, *FAR], choices=list(SYSTEMS))
    parser.add_argument(
        "--trajectories",
        nargs=3,
        type=int,
        default=[8, 2, 8],
        metavar=("TRAIN", "VALID", "TEST"),
        help="how many to train on, to choose by and to test on",
    )
    parser.add_argument("--resolution", type=int, default=64, help="points along the shortest axis")
    parser.add_argument("--steps", type=int, default=21, help="frames of a trajectory")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=1, help="trajectories at a time")
    parser.add_argument("--plan", action="store_true", help="tell the cost, and make nothing")
    return parser.parse_args()


def cost(simulation: Simulation) -> str:
    """What a simulation takes, by the first two frames of one trajectory."""
    begun, values = [time.process_time()], 0
    for frame in replace(simulation, trajectories=1, frames=2).run(range(1)):
        begun.append(time.process_time())
        values = frame.numel()
    first, second = (after - before for before, after in pairwise(begun))
    seconds = simulation.trajectories * (first + (simulation.steps - 1) * second)
    size = 4 * values * simulation.steps * simulation.trajectories
    return f"about {duration(seconds)} of a core, at most {size / 1e6:.0f} MB"


def make(simulation: Simulation, numbers: Sequence[int], out: Path, jobs: int) -> None:
    """Write the trajectories of a system in files of their own, and then its data config."""
    name = simulation.name
    parts = out / f".{name}.unfinished"
    with locked(parts, "--out"):
        if there := claim(simulation, parts):
            print(f"{name}: {there} trajectories are there", flush=True)
        fields = make_parts(simulation, parts, jobs)
        splits = [split for split, count in zip(SPLITS, numbers, strict=True) for _ in range(count)]
        for i, (field, split) in enumerate(zip(fields, splits, strict=True)):
            write_well([field], out / name, name=f"{name}_{i:02d}", split=split)
        write_text(out / f"{name}.yaml", config_text(inspect([out / name]), out))
        remove(parts)


if __name__ == "__main__":
    main()
