"""Criteria: what is measured in each cell to decide whether it is refined.

Axes: B samples, T times, C variables, (Z, Y, X) grid points, (Kz, Ky, Kx) cells.
Source: arXiv:2412.20601, section 3, for the variance.
"""

from collections.abc import Callable, Sequence
from inspect import signature
from itertools import starmap

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from matey.errors import ConfigError, ShapeError, nearest
from matey.fields.grid import Points
from matey.tokens.lattice import Triple, cells
from matey.tokens.regions import joined, slowest, spans

Criterion = Callable[..., Tensor]
CRITERIA: dict[str, Criterion] = {}
LOCAL: set[str] = set()  # those that look no farther than at the neighbouring cells


def criterion(name: str, local: bool = False) -> Callable[[Criterion], Criterion]:
    """Register a criterion under the name that `model.refine.criterion` gives.

    It receives normalised fields [B T C Z Y X] and a cell (z, y, x) in grid points, and
    returns a number [B Kz Ky Kx] for each cell: the larger, the more it deserves refining. A
    criterion with a third argument, `points: Points | None = None`, is also given the positions
    of stretched grid points; any other treats them as evenly spaced. `local` says that the number
    of a cell depends on values in it and the neighbouring cells only, so that large fields are
    measured by regions.
    """

    def register(function: Criterion) -> Criterion:
        CRITERIA[name] = function
        LOCAL.discard(name)
        LOCAL.update([name] if local else [])
        return function

    return register


def find_criterion(name: str) -> Criterion:
    """Look up a criterion. Raises ConfigError, with the nearest name, if there is none."""
    if name not in CRITERIA:
        raise ConfigError(
            f"model.refine.criterion is {name!r}, which is not registered. "
            f"{nearest(name, CRITERIA)} Register your own with @matey.criterion(name)."
        )
    return CRITERIA[name]


def measure_cells(
    name: str, fields: Float[Tensor, "B T C Z Y X"], cell: Triple, points: Points | None = None
) -> Float[Tensor, "B Kz Ky Kx"]:
    """Apply a criterion to every cell, on even or stretched grids."""
    measure = find_criterion(name)
    if points is not None and "points" in signature(measure).parameters:
        return measure(fields, cell, points)
    axis = slowest(fields.shape)
    count, size = fields.shape[axis] // cell[axis], cell[axis]
    if name not in LOCAL or fields.shape[axis] % size:
        return measure(fields, cell)

    def rows(first: int, last: int) -> Tensor:
        """Some rows of cells, measured with those beside them."""
        low, high = max(first - 1, 0), min(last + 1, count)
        near = fields.narrow(axis, low * size, (high - low) * size)
        return measure(near, cell).narrow(axis, first - low, last - first)

    return joined(starmap(rows, spans(count)), count, axis)


@criterion("variance", local=True)
def cell_variance(
    fields: Float[Tensor, "B T C Z Y X"], cell: Triple, points: Points | None = None
) -> Float[Tensor, "B Kz Ky Kx"]:
    """Variance inside each cell over time and space, averaged over variables.

    `cell` is (z, y, x) in grid points. Pass normalised, dimensionless `fields`: otherwise
    the variable of largest magnitude decides alone. On stretched grids points are weighted by
    their volume.
    Raises ShapeError if the cells do not tile the grid.
    """
    if points is not None:
        patches, share = cells(fields, cell), shares(points, fields, cell)
        mean = cell_mean(patches, share).mean(dim=4, keepdim=True)
        return cell_mean((patches - mean).square(), share).mean(dim=(4, 5, 6, 7, 8))
    patches = rearrange(cells(fields, cell), "B Kz Ky Kx T C z y x -> B Kz Ky Kx C (T z y x)")
    offset = patches - patches.mean(dim=-1, keepdim=True)
    return offset.square().mean(dim=(-1, -2))


@criterion("change", local=True)
def cell_change(
    fields: Float[Tensor, "B T C Z Y X"], cell: Triple, points: Points | None = None
) -> Float[Tensor, "B Kz Ky Kx"]:
    """Mean square of the change between the last two frames, over the cell and all variables.

    What changes now mostly changes next, and that change is what a model has to predict. On
    stretched grids points are weighted by their volume.
    Raises ShapeError if the cells do not tile the grid, or there is only one frame.
    """
    if fields.shape[1] < 2:
        raise ShapeError(
            "The criterion 'change' compares the last two frames, and a history of one was given. "
            "Give windows.history 2 or more, or choose model.refine.criterion variance."
        )
    change = cells(fields[:, -1:] - fields[:, -2:-1], cell).square()
    if points is not None:
        change = cell_mean(change, shares(points, fields, cell))
    return change.mean(dim=(4, 5, 6, 7, 8))


@criterion("gradient", local=True)
def cell_gradient(
    fields: Float[Tensor, "B T C Z Y X"], cell: Triple, points: Points | None = None
) -> Float[Tensor, "B Kz Ky Kx"]:
    """Magnitude of the gradient per grid point, averaged over cell, time and variables.

    Central differences, one-sided at the edges of the array. On stretched grids derivatives are
    per mean step of each axis, and points are weighted by their volume.
    Raises ShapeError if the cells do not tile the grid.
    """
    axes = [axis for axis in (3, 4, 5) if fields.shape[axis] > 1]
    slopes = slopes_along(fields, axes, points) if axes else [torch.zeros_like(fields)]
    magnitude = torch.stack([slope.square() for slope in slopes]).sum(dim=0).sqrt()
    if points is not None:
        share = shares(points, fields, cell)
        return cell_mean(cells(magnitude, cell), share).mean(dim=(4, 5, 6, 7, 8))
    return cells(magnitude, cell).mean(dim=(4, 5, 6, 7, 8))


def slopes_along(
    fields: Float[Tensor, "B T C Z Y X"], axes: Sequence[int], points: Points | None
) -> Sequence[Float[Tensor, "B T C Z Y X"]]:
    """Derivatives along the tensor's `axes`, per mean step between grid points.

    With unequal steps they are exact for parabolas; at the ends, for straight lines.
    """
    if points is None:
        return torch.gradient(fields, dim=list(axes))
    slopes = []
    for axis in axes:
        edges = points.edges[axis - 3]  # of a grid that is continued they go on past 1
        steps = points.centres[axis - 3] / (edges[:, -1:] - edges[:, :1])
        positions = steps.to(fields) * fields.shape[axis]
        each = zip(fields, positions, strict=True)
        rows = [torch.gradient(one, spacing=(x,), dim=axis - 1)[0] for one, x in each]
        slope = torch.stack(rows)
        slopes.append(slope if points.mask is None else slope * known(points.mask, axis - 1))
    return slopes


def known(mask: Bool[Tensor, "B 1 Z Y X"], axis: int) -> Bool[Tensor, "B 1 1 Z Y X"]:
    """Where there is a field at a point and at its neighbours along an axis."""
    count = mask.shape[axis]
    places = torch.arange(-1, count + 1, device=mask.device).clamp(0, count - 1)
    wide = mask.index_select(axis, places)
    parts = [wide.narrow(axis, first, count) for first in range(3)]
    return (parts[0] & parts[1] & parts[2])[:, None]


def shares(
    points: Points, fields: Float[Tensor, "B T C Z Y X"], cell: Triple
) -> Float[Tensor, "B Kz Ky Kx 1 1 z y x"]:
    """Each grid point's share of the volume of its cell."""
    volumes = cells(points.volumes[:, None], cell)
    whole = volumes.sum(dim=(-3, -2, -1), keepdim=True)
    if points.mask is not None:  # of a cell without a field none, and not nothing over nothing
        whole = torch.where(whole > 0, whole, 1)
    return (volumes / whole).to(fields)


def cell_mean(
    patches: Float[Tensor, "B Kz Ky Kx T C z y x"], share: Float[Tensor, "B Kz Ky Kx 1 1 z y x"]
) -> Float[Tensor, "B Kz Ky Kx T C 1 1 1"]:
    """Mean over the volume of each cell, at each time and for each variable."""
    return (patches * share).sum(dim=(-3, -2, -1), keepdim=True)


def cell_volumes(points: Points, cell: Triple) -> Float[Tensor, "B Kz Ky Kx"]:
    """The volume of each cell over the mean volume."""
    volumes = cells(points.volumes[:, None], cell).sum(dim=(4, 5, 6, 7, 8))
    return (volumes * volumes[0].numel()).float()
