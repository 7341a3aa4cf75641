"""Grids: the positions of a field's points, and the cell around each point.

Cell edges lie midway between neighbouring points; the outermost cells are symmetric about their
points. Across the seam of a periodic axis, points are thus the mean of the first and the last
step apart. The volume of a cell is the product of its sizes along the axes, also of angles.

Axes: B samples, N cells in use, (Z, Y, X) grid points.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from matey.errors import ShapeError

LEAST = 1e-30  # in place of a volume without points


@dataclass(frozen=True)
class Grid:
    """The positions of grid points, evenly spaced or stretched along each axis.

    `axes` names the active axes as the file does, slowest first: `("y", "x")`, or
    `("z", "x")` for a vertical section. `shape`, `origin` (first point) and `spacing` (mean step)
    are always (Z, Y, X); an inactive axis has one point. `positions` lists the points of each
    stretched axis, and is empty for an even one. Positions increase; `falling` names the axes
    that the file stores from high to low, as latitudes often are.
    """

    axes: tuple[str, ...]
    shape: tuple[int, int, int]
    origin: tuple[float, float, float]
    spacing: tuple[float, float, float]
    positions: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]] = field(
        default=((), (), ()), repr=False
    )
    falling: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.axes) <= 3:
            raise ShapeError(f"A grid has 1 to 3 axes, not {len(self.axes)}: {self.axes}.")
        if any(points < 1 for points in self.shape):
            raise ShapeError(f"Grid shape {self.shape} has an axis without points.")
        if any(points != 1 for points in self.shape[: 3 - len(self.axes)]):
            raise ShapeError(f"Grid of shape {self.shape} has more than the axes {self.axes}.")
        if any(not step > 0 for step in self.spacing):
            raise ShapeError(f"Grid spacing {self.spacing} is not positive on every axis.")
        for axis, points in enumerate(self.positions):
            if points and len(points) != self.shape[axis]:
                raise ShapeError(f"{len(points)} positions do not fit a grid of {self.shape}.")
            if any(not after > before for before, after in pairwise(points)):
                raise ShapeError(f"Positions along {'ZYX'[axis]} of a grid do not increase.")
        if not set(self.falling) <= set(self.axes):
            raise ShapeError(f"Axes {self.falling} are not all axes of the grid: {self.axes}.")

    @property
    def ndim(self) -> int:
        return len(self.axes)

    @property
    def stretched(self) -> tuple[str, ...]:
        """Names of the axes that are not evenly spaced."""
        return tuple(
            name
            for name, points in zip(self.axes, self.positions[3 - self.ndim :], strict=True)
            if points
        )

    @property
    def turned(self) -> tuple[int, ...]:
        """Array axes 0 (Z), 1 (Y), 2 (X) that the file stores from high to low."""
        return tuple(3 - self.ndim + self.axes.index(name) for name in self.falling)

    def coordinate(self, axis: int) -> Float[Tensor, " points"]:
        """Positions of the grid points along array axis 0 (Z), 1 (Y) or 2 (X)."""
        if self.positions[axis]:
            return torch.tensor(self.positions[axis], dtype=torch.float64)
        points = torch.arange(self.shape[axis], dtype=torch.float64)
        return self.origin[axis] + self.spacing[axis] * points

    def cell_edges(self, axis: int) -> Float[Tensor, " edges"]:
        """Edges of the cells along an axis: one more than there are points."""
        points = self.coordinate(axis)
        if len(points) == 1:
            half = self.spacing[axis] / 2
            return torch.stack([points[0] - half, points[0] + half])
        middle = (points[1:] + points[:-1]) / 2
        return torch.cat([2 * points[:1] - middle[:1], middle, 2 * points[-1:] - middle[-1:]])


@dataclass(frozen=True)
class Points:
    """Positions of the grid points of several samples, and which of them hold a field.

    `centres` [B points] and `edges` [B points + 1] of the points' cells along Z, Y and X are
    fractions of the domain, which extends from the first edge to the last. `stretched` tells
    along which axes any sample is. `mask` is 1 where there is a field and 0 where there is none;
    None where it is everywhere. Of a crop they are fractions of the domain that it is a `part` of.
    Inputs on even grids have None instead of their points.
    """

    centres: tuple[Float[Tensor, "B Z"], Float[Tensor, "B Y"], Float[Tensor, "B X"]]
    edges: tuple[Float[Tensor, "B _z"], Float[Tensor, "B _y"], Float[Tensor, "B _x"]]
    stretched: tuple[bool, bool, bool]
    mask: Bool[Tensor, "B 1 Z Y X"] | None = None
    part: bool = False

    @cached_property
    def volumes(self) -> Float[Tensor, "B 1 Z Y X"]:
        """Each point's share of the domain, of what of it is here and holds a field: the weights of
        means over space. All are 0 where nothing does."""
        z, y, x = (edges.diff(dim=1) for edges in self.edges)
        shares = (z[:, :, None, None] * y[:, None, :, None] * x[:, None, None, :])[:, None]
        if self.mask is None and not self.part:
            return shares
        held = shares if self.mask is None else shares * self.mask
        return held / held.sum(dim=(-3, -2, -1), keepdim=True).clamp(min=LEAST)

    def at(self, sample: Int[Tensor, " N"], edge: Int[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Edges by their indices along Z, Y and X, as fractions of the domain."""
        each = [edges[sample, edge[:, axis]] for axis, edges in enumerate(self.edges)]
        return torch.stack(each, dim=1)

    def to(self, device: torch.device) -> "Points":
        """The same on another device."""
        return self._each(lambda values: values.to(device, non_blocking=True))

    def take(self, samples: Bool[Tensor, " B"]) -> "Points":
        """The points of the chosen samples."""
        return self._each(lambda values: values[samples.to(values.device)])

    def mirrored(self, axes: Sequence[Sequence[int]]) -> "Points":
        """The same with each sample mirrored across its `axes`."""
        sides = []
        for each in (self.centres, self.edges):
            rows = [values.clone() for values in each]
            for sample, chosen in enumerate(axes):
                for axis in chosen:
                    rows[axis][sample] = 1 - each[axis][sample].flip(0)
            sides.append((rows[0], rows[1], rows[2]))
        return replace(self, centres=sides[0], edges=sides[1])

    def rolled(self, shift: Sequence[int]) -> "Points":
        """The same with the mask moved by so many points along Z, Y and X, which are even there."""
        mask = None if self.mask is None else self.mask.roll(tuple(shift), (-3, -2, -1))
        return replace(self, mask=mask)

    def continued(self, grid: tuple[int, int, int], before: Sequence[int] = (0, 0, 0)) -> "Points":
        """The same on a larger grid, of which so many points lie `before` the first along each
        axis: what lies beyond holds no field."""
        z, y, x = (
            lengthened(centres, edges, count, first)
            for centres, edges, count, first in zip(
                self.centres, self.edges, grid, before, strict=True
            )
        )
        samples, device = len(self.centres[0]), self.centres[0].device
        held = torch.zeros(samples, 1, *grid, dtype=torch.bool, device=device)
        inside = [
            slice(first, first + centres.shape[1])
            for centres, first in zip(self.centres, before, strict=True)
        ]
        held[:, :, inside[0], inside[1], inside[2]] = True if self.mask is None else self.mask
        return Points((z[0], y[0], x[0]), (z[1], y[1], x[1]), self.stretched, held, self.part)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Points":
        z, y, x = map(change, self.centres)
        low, middle, high = map(change, self.edges)
        mask = None if self.mask is None else change(self.mask)
        return Points((z, y, x), (low, middle, high), self.stretched, mask, self.part)


Box = tuple[tuple[int, int, int], tuple[int, int, int]]  # its first point, and how many it has


def stack_points(grids: Sequence[Grid], boxes: Sequence[Box] | None = None) -> Points | None:
    """The points of several grids of one shape, or of `boxes` of one shape in them; None where all
    grids are even."""
    if not any(points for grid in grids for points in grid.positions):
        return None
    return locate_points(grids, boxes)


def stack_spacing(grids: Sequence[Grid]) -> Float[Tensor, "B 3"]:
    """The mean step of several grids along Z, Y and X."""
    return torch.tensor([grid.spacing for grid in grids], dtype=torch.float64)


def lengthened(
    centres: Tensor, edges: Tensor, count: int, before: int = 0
) -> tuple[Tensor, Tensor]:
    """So many points [B points] and the edges of their cells along an axis, those beyond the
    outermost, so many of them `before` the first, as far apart as its cell is wide."""
    more = torch.arange(1, count - before - centres.shape[1] + 1, device=edges.device)
    less = torch.arange(-before, 0, device=edges.device)
    high = (edges[:, -1:] - edges[:, -2:-1]) * more
    low = (edges[:, 1:2] - edges[:, :1]) * less
    return (
        torch.cat([centres[:, :1] + low, centres, centres[:, -1:] + high], dim=1),
        torch.cat([edges[:, :1] + low, edges, edges[:, -1:] + high], dim=1),
    )


def even_points(samples: int, shape: tuple[int, int, int], device: torch.device) -> Points:
    """The points of so many samples on even grids."""
    edges = [
        torch.arange(n + 1, dtype=torch.float64, device=device).expand(samples, -1) / n
        for n in shape
    ]
    z, y, x = ((row[:, 1:] + row[:, :-1]) / 2 for row in edges)
    return Points((z, y, x), (edges[0], edges[1], edges[2]), (False, False, False))


def locate_points(grids: Sequence[Grid], boxes: Sequence[Box] | None = None) -> Points:
    """The points of grids of one shape, or of boxes of one shape in them, even or not."""
    z, y, x = (stack_axis(grids, axis, boxes) for axis in range(3))
    stretched = [any(grid.positions[axis] for grid in grids) for axis in range(3)]
    return Points(
        (z[0], y[0], x[0]),
        (z[1], y[1], x[1]),
        (stretched[0], stretched[1], stretched[2]),
        part=boxes is not None,
    )


def join_points(parts: Sequence[Points | None], shape: tuple[int, int, int]) -> Points | None:
    """The points of several inputs on grids of one shape; None where all of them are even."""
    if not any(parts):
        return None
    even = locate_points([Grid(("z", "y", "x"), shape, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))])
    rows = [part or even for part in parts]
    centres, edges = (
        [torch.cat([getattr(row, name)[axis] for row in rows]) for axis in range(3)]
        for name in ("centres", "edges")
    )
    z, y, x = (any(row.stretched[axis] for row in rows) for axis in range(3))
    part = any(row.part for row in rows)
    return Points(
        (centres[0], centres[1], centres[2]), (edges[0], edges[1], edges[2]), (z, y, x), part=part
    )


def stack_axis(
    grids: Sequence[Grid], axis: int, boxes: Sequence[Box] | None = None
) -> tuple[Tensor, Tensor]:
    """Points and edges of cells along one axis, as fractions of each grid's own extent."""
    points, edges = [], []
    for number, grid in enumerate(grids):
        centres, ends = grid.coordinate(axis), grid.cell_edges(axis)
        low, high = ends[0], ends[-1]
        first, count = (box[axis] for box in boxes[number]) if boxes else (0, len(centres))
        points.append((centres[first : first + count] - low) / (high - low))
        edges.append((ends[first : first + count + 1] - low) / (high - low))
    return torch.stack(points), torch.stack(edges)
