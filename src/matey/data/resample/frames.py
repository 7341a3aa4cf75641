"""What a program wrote at one time, and the grid that it is put on.

Axes: C variables; the file's own axes slowest first, as (z, y, x) or (y, x).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from matey.fields import Boundary, Sides

WALLS = ("wall", "reflect", "slip")  # in the words of programs
Values = Float64[np.ndarray, "C ..."]


@dataclass(frozen=True)
class Target:
    """A grid: its points along each axis of the file, and the edges of their cells.

    `kept` is what a reader works out once for this grid and a mesh that stays the same.
    """

    points: tuple[np.ndarray, ...]
    edges: tuple[np.ndarray, ...]
    kept: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(points) for points in self.points)


@dataclass(frozen=True)
class Frame:
    """One time of a file.

    `axes` are those along which the domain extends, slowest first, and `extent` (low, high) along
    each. `units` lists the variables by their names in the file. `onto` gives some of them on a
    grid [C ...], NaN where the file has no field. `sides` are None where the file does not tell
    them; `settings` are the numbers of the run that it tells.
    """

    path: Path
    time: float | None
    axes: tuple[str, ...]
    extent: tuple[tuple[float, float], ...]
    units: Mapping[str, str]
    onto: Callable[[Sequence[str], Target], Values]
    sides: tuple[Sides, ...] | None = None
    settings: Mapping[str, float] = field(default_factory=dict)


def side(word: str) -> Boundary:
    """What a program's word for a side of its domain means."""
    word = word.lower()
    if "periodic" in word:
        return Boundary.PERIODIC
    return Boundary.WALL if any(wall in word for wall in WALLS) else Boundary.OPEN
