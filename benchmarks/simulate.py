"""How long `matey simulate` takes for the training data of the paper's six systems.

    python benchmarks/simulate.py

Each system in a process of its own, one after the other: 32 trajectories of 21 frames at 64²,
from the start of the command to the file on disk. The aim is six minutes for all on two cores.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

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
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sizes = {name: getattr(args, name) for name in ("trajectories", "resolution", "steps")}
    words = [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
    rows = []
    for system in SYSTEMS:
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / system
            command = [sys.executable, "-m", "matey", "simulate", system, "--out", str(out), *words]
            seconds = timed(lambda command=command: subprocess.run(command, check=True))
            size = sum(file.stat().st_size for file in out.rglob("*.hdf5")) / 1e6
        rows.append({"system": system, "seconds": seconds, "MB": size})
    rows.append({"system": "all", **{k: sum(row[k] for row in rows) for k in ("seconds", "MB")}})
    report(rows, args.out, args.device, **sizes)


if __name__ == "__main__":
    main()
