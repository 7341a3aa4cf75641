"""How long `matey simulate` takes for the training data of the paper's six systems.

    python benchmarks/simulate.py
    python benchmarks/simulate.py --jobs 1 2 --systems mhd thermals

Each system in a command of its own, one after the other: 32 trajectories of 21 frames at 64²,
from the start of the command to the file on disk. The aim is six minutes for all on two cores.
Numbers of `--jobs` are taken in turn, and `gain` is what the last saves over the first: only on a
machine that does nothing else.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import options, report, timed

SYSTEMS = (
    "shallow_water",
    "diffusion_reaction",
    "incompressible",
    "compressible",
    "thermals",
    "mhd_cavity",
)


def main() -> None:
    """Run, print the table, write the JSON."""
    parser = options(__doc__.splitlines()[0], "benchmarks/results/simulate.json")
    parser.add_argument("--trajectories", type=int, default=32)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--steps", type=int, default=21)
    parser.add_argument("--systems", nargs="*", default=SYSTEMS)
    parser.add_argument("--jobs", nargs="*", type=int, default=[], help="as many as cores, if none")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sizes = {name: getattr(args, name) for name in ("trajectories", "resolution", "steps")}
    words = [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
    rows = []
    for system in args.systems:
        row: dict[str, Any] = {"system": system}
        for jobs in args.jobs or [0]:
            name = f"seconds of {jobs} jobs" if jobs else "seconds"
            more = ["--jobs", str(jobs)] if jobs else []
            row[name], row["MB"] = simulated(system, [*words, *more])
        rows.append(row)
    names = [name for name in rows[0] if name != "system"]
    rows.append({"system": "all", **{name: sum(row[name] for row in rows) for name in names}})
    if len(args.jobs) > 1:
        first, last = (f"seconds of {args.jobs[place]} jobs" for place in (0, -1))
        rows = [{**row, "gain": row[first] / row[last]} for row in rows]
    report(rows, args.out, args.device, **sizes)


def simulated(system: str, words: Sequence[str]) -> tuple[float, float]:
    """Seconds that a command takes, and MB that it writes."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / system
        command = [sys.executable, "-m", "matey", "simulate", system, "--out", str(out), *words]
        seconds = timed(lambda: subprocess.run(command, check=True))
        return seconds, sum(file.stat().st_size for file in out.rglob("*.hdf5")) / 1e6


if __name__ == "__main__":
    main()
