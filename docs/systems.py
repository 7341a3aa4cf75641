"""Writes docs/systems.md: what the code says of every system that has a picture.

    python docs/pictures.py --systems two_phase --stills src/matey/simulate/stills.txt
    python docs/systems.py

The table of what few cells hold is that of benchmarks/results/benefit.json.
"""

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from matey.cli.simulate import equation_of
from matey.fields import Boundary, Variable
from matey.output import write_text
from matey.simulate import SYSTEMS, find_system
from matey.simulate.schemes.stepper import Range, Simulator

ROOT = Path(__file__).parents[1]
PICTURES, BENEFIT = ROOT / "docs/pictures", ROOT / "benchmarks/results/benefit.json"
SIDES = {Boundary.PERIODIC: "periodic", Boundary.WALL: "walls", Boundary.OPEN: "open"}
RESOLUTIONS = (64, 128, 256)  # a quarter of them in three dimensions
Row = dict[str, float | str]
INTRODUCTION = """\
# Systems

What `matey simulate` makes, without any data. Each trajectory of a system has an initial state of
its own, and parameters of its own where the list below says so, or where they are asked for:

```bash
matey simulate --list
matey simulate burgers --out data/burgers --vary Nu=1e-2:1e-1:log
matey simulate shallow_water --out data/slow --set span=2 --set radius=0.1:0.2
```

`--vary` draws parameters of the equations; `--set` changes what else a simulator has, as the time
that it covers, and what initial states are drawn from.

The equations, their symbols, the scheme and its source stand in each system's module
([API](reference.md#simulators)). Pictures show one of 21 frames on 128² points, in three
dimensions the middle slice of 32³, and the cells that the default rule would cut finer, in up to
three sizes (two in three dimensions), from the four frames up to it.
"""
TABLE = """\
## Where fine tokens can pay

The share of coarse cells that the default threshold refines, and what they hold of the squared
increment over the next step; what a quarter of the cells, those of the largest variance, holds,
and the quarter that changes most: 0.25 where the change is the same everywhere. The last column is
the processor time of a trajectory of 21 frames, in one thread [s], on machines whose speed
differed up to twofold. Coarse cells are 16 points wide
at every resolution, 8 in three dimensions: on finer grids thin structures lie in fewer of them.
Made by `python benchmarks/benefit.py`; [Where the tokens go](tokens.md) tells what follows for a
model.

| System | Grid | Refined | They hold | A quarter holds | The best quarter | CPU seconds |
|---|---|---|---|---|---|---|
"""
MEASURED = """\
## Whether they do

NRMSE on test trajectories, one and ten steps ahead, after fifteen minutes of one core with other
programs beside it, one seed, one learning rate (4e-3), the local path in pieces of 4: adaptive
patches (cells by `change`, a bulk of 0.9) against the best uniform ones. Patches were chosen by
validation after 144 s, of 32 and 16 points in two dimensions, 16 and 8 in three: the best uniform
ones are 16 on shallow water (0.97 of the error of 32), 32 on the other three (16 had 1.00 to 1.03
times the error), 8 in three dimensions (0.99 of that of 16); adaptive ones of 32 and 16 are better
than of 32 and 8 on all four (1.03 to 1.12), and those in three dimensions are of 16 and 8. Steps
were planned by times measured before; the adaptive ones took 0.86, 1.14, 1.02, 0.96 and 1.14 of the
CPU time of the uniform ones, row by row, which flatters them on blasts (with 1,758 steps, 1.21 of
that time, they had 0.226 / 0.596 in two dimensions). The stencil has 0.494 / 0.687 on blasts in
three dimensions.

| System, trajectories to train on | Persistence | Uniform | Adaptive | Ratio | Tokens |
|---|---|---|---|---|---|
| reacting, 256 × 256, 5 | 0.737 / 1.04 | 0.261 / 0.690 (1,643 steps) | 0.267 / 0.673 (1,364) | 1.02 / 0.97 | 64, 120 |
| blast, 256 × 256, 7 | 0.569 / 1.29 | 0.233 / 0.565 (1,602) | 0.231 / 0.629 (1,448) | 0.99 / 1.11 | 64, 136 |
| fracture, 256 × 256, 5 | 0.372 / 0.97 | 0.192 / 0.801 (1,491) | 0.188 / 0.747 (1,330) | 0.98 / 0.93 | 64, 144 |
| shallow_water, 256 × 256, 11 | 0.0459 / 0.200 | 0.0025 / 0.0131 (2,155) | 0.0025 / 0.0130 (2,117) | 1.00 / 0.99 | 256, 94 |
| blast, 64 × 64 × 64, 5 | 0.549 / 1.13 | 0.433 / 0.666 (250) | 0.431 / 0.659 (264) | 1.00 / 0.99 | 512, 183 |

    python benchmarks/accuracy.py --data large.yaml --out results --seconds 900 --share 0.16 \\
        --models large "large adaptive" --windows 12 --also "--batch 2 --model.local_piece 4 \\
        --model.depth 4 --windows.pushforward 2 --windows.end_share 0.2"

The last three settings are the recipe of that time, with [rollouts all along](model.md#one-system-at-a-time-beside-others).
In three dimensions the models are `"large 3D"` and `"large 3D adaptive"`.

So on these grids adaptive tokens cost next to nothing and gain little: two and seven per cent on
fracture, nothing that one seed can tell on the others (on blasts they lose a tenth ten steps ahead), though a quarter of the cells holds 0.44 to
0.91 of what changes. Perhaps because what changes fast is thin fronts, which the local path follows
at full resolution in all cells alike: tokens then tell what is farther away, for which coarse ones
are enough. [The model](model.md#on-large-grids) has a U-Net, an FNO and a stencil on such grids.
"""  # noqa: E501


def page(names: Sequence[str]) -> str:
    """The page of some systems."""
    parts = [INTRODUCTION, *map(section, names)]
    if BENEFIT.exists():
        rows = json.loads(BENEFIT.read_text())["rows"]
        parts += [table({tuple(key.split()[:2]): row for key, row in rows.items()}), MEASURED]
    return "\n".join(parts)


def section(name: str) -> str:
    """A system: what it is, its picture, its equation and what there is to know before use."""
    system = find_system(name)
    title, equation = equation_of(name)
    dimensions = system.dimensions or (system.spec(1.0).ndim,)
    facts = [
        f"in {' and '.join(map(str, dimensions))} dimensions"
        if len(dimensions) < 3
        else "in 1 to 3 dimensions",
        f"stored: {', '.join(map(stored, system.spec(1.0).variables))}",
        f"sides: {sides(system)}",
        f"parameters: {', '.join(parameters(system)) or 'none'}",
    ]
    lines = [f"- {fact}" for fact in (*facts, *cost(name))]
    return (
        f"## {name}\n\n{title}\n\n![{name}](pictures/system-{name}.png)\n\n"
        f"```text\n{equation}\n```\n\n" + "\n".join(lines) + "\n"
    )


def stored(variable: Variable) -> str:
    """A variable with its units."""
    units = f" [{variable.units}]" if variable.units else ""
    return f"`{variable.name}`{units}" + (" (static)" if variable.static else "")


def sides(system: Simulator) -> str:
    """The sides of each axis, in words."""
    active = system.boundaries[3 - system.spec(1.0).ndim :]
    axes = zip(reversed(active), "xyz", strict=False)
    told = {axis: " and ".join(dict.fromkeys(SIDES[side] for side in pair)) for pair, axis in axes}
    if len(set(told.values())) == 1:
        return next(iter(told.values()))
    return ", ".join(f"{kind} along {axis}" for axis, kind in told.items())


def parameters(system: Simulator) -> list[str]:
    """The parameters of the equations, with their value or the range that they are drawn from."""
    told = []
    for name in system.spec(1.0).parameters:
        its = system.vary.get(name, getattr(system, name))
        if isinstance(its, Range):
            how = " by logarithm" if its.log else ""
            told.append(f"`{name}` from {its.low:g} to {its.high:g}{how}")
        elif isinstance(its, tuple):
            told.append(f"`{name}` from {its[0]:g} to {its[1]:g}")
        else:
            told.append(f"`{name}` = {its:g}")
    return told


def cost(name: str) -> list[str]:
    """What the module says of the seconds of one core that a trajectory takes."""
    paragraphs = (import_module(f"matey.simulate.{name}").__doc__ or "").split("\n\n")
    texts = [" ".join(paragraph.split()) for paragraph in paragraphs]
    sentences = [part for text in texts for part in re.split(r"(?<=[^\s.]{2})\. (?=[A-Z])", text)]
    return [sentence.rstrip(".") for sentence in sentences if "of one core" in sentence]


def table(rows: Mapping[tuple[str, ...], Row]) -> str:
    """The rows by system and resolution, and which of them are missing."""
    every = [(name, str(points)) for name in SYSTEMS for points in RESOLUTIONS]
    lines = "".join(line(rows[key]) for key in every if key in rows)
    gaps = [
        f"{points}² of {', '.join(missing)}"
        for points in RESOLUTIONS
        if (missing := [name for name in SYSTEMS if (name, str(points)) not in rows])
    ]
    return TABLE + lines + (f"\nNot measured: {'; '.join(gaps)}.\n" if gaps else "")


def line(row: Row) -> str:
    """A row of the table."""
    shares = [f"{row[key]:.2f}" for key in ("refined", "hold", "quarter", "best quarter")]
    seconds = float(f"{row['cpu seconds']:.2g}")
    cells = [str(row["system"]), str(row["grid"]), *shares, f"{seconds:g}"]
    return f"| {' | '.join(cells)} |\n"


def drawn() -> list[str]:
    """The systems that have a picture."""
    return [name for name in SYSTEMS if (PICTURES / f"system-{name}.png").exists()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/systems.md")
    write_text(parser.parse_args().out, page(drawn()))
