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


def page(names: Sequence[str]) -> str:
    """The page of some systems."""
    parts = [INTRODUCTION, *map(section, names)]
    if BENEFIT.exists():
        rows = json.loads(BENEFIT.read_text())["rows"]
        parts.append(table({tuple(key.split()[:2]): row for key, row in rows.items()}))
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
