"""The grid that fields are put on: its points, its domain, its sides."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from matey.data.formats.files import shown
from matey.data.resample.blocks import even_edges
from matey.data.resample.frames import Frame, Target
from matey.data.trajectories import open as open_fields
from matey.errors import ConfigError, DataError
from matey.fields import Boundary, Grid, Sides

SAME = 1e-6  # of its extent: domains that differ by less are the same
OPEN: Sides = (Boundary.OPEN, Boundary.OPEN)
Points = tuple[int, ...] | Grid
Domain = Sequence[tuple[float, float]]


def parse_grid(words: str) -> Points:
    """`128x256`, slowest axis first; or a file whose grid it is."""
    if re.fullmatch(r"\d+([xX×]\d+)*", words):
        points = tuple(int(n) for n in re.split("[xX×]", words))
        if min(points) < 1 or max(points) < 2:
            raise ConfigError(f"--grid {words} has no points along an axis.")
        return points
    if not Path(words).expanduser().exists():
        raise ConfigError(
            f"--grid {words} is neither points along each axis, slowest first, as 128x256, nor a "
            "file or folder whose grid to take."
        )
    fields = open_fields(words)
    grid: Grid = fields.trajectories[0].grid
    return grid


def parse_domain(words: str) -> Domain:
    """`-1:1x0:2`: the low and the high end of each axis, slowest first."""
    pairs = [part.split(":") for part in re.split("[xX×]", words)]
    try:
        domain = [(float(low), float(high)) for low, high in pairs]
    except ValueError:
        domain = []
    if not domain or any(not low < high for low, high in domain):
        raise ConfigError(
            f"--domain {words} is not low:high along each axis, slowest first, as 0:1x-2:2."
        )
    return domain


def parse_sides(words: str) -> list[Sides]:
    """`wall-open,periodic`: what happens at the low and the high side of each axis."""
    sides = []
    for part in words.split(","):
        names = [name.strip().upper() for name in part.split("-")]
        known = all(name in Boundary.__members__ for name in names) and len(names) in (1, 2)
        if not known or names.count("PERIODIC") not in (0, len(names)):
            raise ConfigError(
                f"--sides {words} is not periodic, wall, open or, as wall-open, two of the last "
                "for the low and the high side, of each axis, slowest first, with commas between."
            )
        sides.append((Boundary[names[0]], Boundary[names[-1]]))
    return sides


def target_of(frame: Frame, points: Points, domain: Domain | None) -> Target:
    """The grid for a run whose first frame this is. Raises DataError where the axes do not fit."""
    axes = ", ".join(frame.axes)
    if isinstance(points, Grid):
        if points.ndim != len(frame.axes):
            raise DataError(
                f"{shown(frame.path)} has the axes {axes}, but the grid to take has "
                f"{', '.join(points.axes)}."
            )
        each = range(3 - points.ndim, 3)
        return Target(
            tuple(points.coordinate(axis).numpy() for axis in each),
            tuple(points.cell_edges(axis).numpy() for axis in each),
        )
    example = "x".join(["64"] * len(frame.axes))
    if len(points) != len(frame.axes):
        raise DataError(
            f"{shown(frame.path)} has the axes {axes}: the grid takes {len(frame.axes)} numbers of "
            f"points, in this order, as {example}, with 1 for the mean along an axis."
        )
    if domain is not None and len(domain) != len(frame.axes):
        raise DataError(
            f"{shown(frame.path)} has the axes {axes}: the domain takes {len(frame.axes)} pairs, "
            "in this order."
        )
    ends = frame.extent if domain is None else domain
    edges = tuple(even_edges(*pair, n) for pair, n in zip(ends, points, strict=True))
    return Target(tuple((e[1:] + e[:-1]) / 2 for e in edges), edges)


def check_extent(frame: Frame, first: Frame) -> None:
    """Raise DataError where the domain of a frame is not that of the first."""
    for axis, here, there in zip(frame.axes, frame.extent, first.extent, strict=False):
        apart = max(abs(a - b) for a, b in zip(here, there, strict=True))
        if apart > SAME * (there[1] - there[0]):
            raise DataError(
                f"{shown(frame.path)}: {axis} extends over {here[0]:g} to {here[1]:g}, in "
                f"{shown(first.path)} over {there[0]:g} to {there[1]:g}. Say over which to put all "
                "of them with --domain."
            )


def sides_on(frame: Frame, target: Target, given: Sequence[Sides] | None) -> list[Sides]:
    """The sides of a grid: as they are given; else those of the file, where the grid reaches them;
    else open. Raises DataError unless as many are given as there are axes."""
    if given is not None and len(given) != len(frame.axes):
        raise DataError(
            f"{shown(frame.path)} has the axes {', '.join(frame.axes)}: sides are given of "
            f"{len(given)}."
        )
    if given is not None:
        return list(given)
    sides = []
    for axis, edges in enumerate(target.edges):
        low, high = frame.extent[axis]
        reached = np.abs([edges[0] - low, edges[-1] - high]) <= SAME * (high - low)
        told = OPEN if frame.sides is None else frame.sides[axis]
        if Boundary.PERIODIC in told:
            sides.append(told if reached.all() else OPEN)
        else:
            pair = [s if there else Boundary.OPEN for s, there in zip(told, reached, strict=True)]
            sides.append((pair[0], pair[1]))
    return sides
