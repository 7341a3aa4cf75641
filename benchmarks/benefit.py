"""Where fine cells can pay: how much of what changes next lies in few cells, of every system.

    python benchmarks/benefit.py
    python benchmarks/benefit.py --systems burgers shallow_water --resolutions 64 128

A row for each system and resolution (a quarter of it in three dimensions), kept when it is made:
the same command again goes on where it was. Coarse cells of 16 points (8 in three dimensions) are
cut once. `refined` and `hold` are the share of cells that the default threshold refines and what
they hold of the squared increment over the next of 20 steps, as `matey benchmark cost` tells; a
quarter of the cells, those of the largest variance, holds `quarter`, and the best quarter that
there is `best quarter`: 0.25 where the change is the same everywhere. `cpu seconds` are those of
the process for each trajectory, in one thread: other work on the machine hardly changes them.
"""

import json
import time
from dataclasses import replace
from pathlib import Path

import torch
from common import machine, options

from matey.config import RefineConfig
from matey.cost.benefit import change_in_cells, refined_by
from matey.errors import MateyError
from matey.fields import Batch, Field, stack_fields
from matey.output import write_text
from matey.simulate import SYSTEMS, find_system, simulate
from matey.tokens.lattice import patch_shape
from matey.tokens.normalise import measure
from matey.tokens.refine import plan_refinement

HISTORY, STEPS, EVERY = 4, 21, 4  # frames of a window and of a trajectory, windows apart
QUARTER = 0.25
COLUMNS = ("refined", "hold", "quarter", "best quarter", "cpu seconds")


def main() -> None:
    """Make the rows that are missing, and print all."""
    parser = options(__doc__.splitlines()[0], "benchmarks/results/benefit.json")
    parser.add_argument("--systems", nargs="*", default=list(SYSTEMS))
    parser.add_argument("--resolutions", nargs="*", type=int, default=[64, 128, 256])
    parser.add_argument("--trajectories", type=int, default=2)
    args = parser.parse_args()
    path = Path(args.out)
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    rows = {key: row for key, row in rows.items() if row.keys() >= set(COLUMNS)}
    for name in args.systems:
        for resolution in args.resolutions:
            key = f"{name} {resolution} {args.trajectories}"
            if key in rows:
                continue
            try:
                rows[key] = row_of(name, resolution, args.trajectories)
            except MateyError as error:
                print(f"{key}: {error}", flush=True)
                continue
            content = {"machine": machine("cpu"), "rows": rows}
            write_text(path, json.dumps(content, indent=2) + "\n")
            print(key, rows[key], flush=True)
    show(rows)


def row_of(name: str, resolution: int, trajectories: int) -> dict[str, float | str]:
    """The means over windows of some trajectories of a system."""
    ndim = find_system(name).spec(1.0).ndim
    points = resolution // 4 if ndim == 3 else resolution
    began = time.process_time()
    fields = simulate(name, trajectories=trajectories, resolution=points, steps=STEPS, seed=0)
    seconds = time.process_time() - began
    sizes = [patch_shape(ndim, patch) for patch in ((8, 4) if ndim == 3 else (16, 8))]
    found = [measured(batch, sizes) for field in fields for batch in windows(field)]
    means = [sum(values) / len(values) for values in zip(*found, strict=True)]
    grid = " × ".join(str(n) for n in fields[0].grid.shape[3 - ndim :])
    row = dict(zip(COLUMNS, (*means, seconds / trajectories), strict=True))
    return {"system": name, "grid": grid, **row}


def windows(field: Field) -> list[Batch]:
    """Histories of a trajectory, each with the frame that follows."""
    batches = []
    for start in range(0, STEPS - HISTORY, EVERY):
        kept = slice(start, start + HISTORY)
        history = replace(field, values=field.values[kept], times=field.times[kept])
        inputs = stack_fields([history], [1.0], [field.spec.name])
        target = field.values[start + HISTORY]
        batches.append(Batch(**vars(inputs), target=target[None]))
    return batches


def measured(batch: Batch, sizes: list[tuple[int, int, int]]) -> tuple[float, ...]:
    """What cells hold in one window: of the default threshold, of a quarter, of the best one."""
    change = change_in_cells(batch, sizes[0])
    normalised = measure(batch.values, batch.space).normalise(batch.values)
    shares = []
    for rule in (RefineConfig(), RefineConfig(fraction=QUARTER)):
        plan = plan_refinement(normalised, batch.boundaries, sizes, rule, batch.space)
        refined = refined_by(plan, [len(plan.leaves)], change)
        shares += [refined.cells, refined.holds or 0.0]
    ordered = change.flatten().sort(descending=True).values
    best = ordered[: round(QUARTER * len(ordered))].sum() / ordered.sum()
    return shares[0], shares[1], shares[3], float(torch.nan_to_num(best))


def show(rows: dict[str, dict[str, float | str]]) -> None:
    """Print the rows as a Markdown table."""
    print("\n| System | Grid | " + " | ".join(COLUMNS) + " |")
    print("|---|---|" + "---|" * len(COLUMNS))
    for row in rows.values():
        shares = [f"{row[name]:.2f}" for name in COLUMNS[:-1]]
        cells = [str(row["system"]), str(row["grid"]), *shares, f"{row['cpu seconds']:.2g}"]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
