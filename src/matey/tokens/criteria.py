"""What is measured in each cell to tell whether it deserves finer tokens.

Axes: B samples, T times, C variables, (Z, Y, X) grid points, (Kz, Ky, Kx) cells.
Source: arXiv:2412.20601, section 3, for the variance.
"""

from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from matey.errors import ConfigError, ShapeError, nearest
from matey.tokens.lattice import Triple, cells

Criterion = Callable[[Tensor, Triple], Tensor]
CRITERIA: dict[str, Criterion] = {}


def criterion(name: str) -> Callable[[Criterion], Criterion]:
    """Register a criterion under the name that `model.refine.criterion` gives.

    It receives normalised fields [B T C Z Y X] and a cell (z, y, x) in grid points, and
    returns a number [B Kz Ky Kx] for each cell: the larger, the more it deserves refining.
    """

    def register(function: Criterion) -> Criterion:
        CRITERIA[name] = function
        return function

    return register


def find_criterion(name: str) -> Criterion:
    """The criterion of a name. Raises ConfigError, with the nearest name, if there is none."""
    if name not in CRITERIA:
        raise ConfigError(
            f"model.refine.criterion is {name!r}, which is not registered. "
            f"{nearest(name, CRITERIA)} Register your own with @matey.criterion(name)."
        )
    return CRITERIA[name]


@criterion("variance")
def cell_variance(
    fields: Float[Tensor, "B T C Z Y X"], cell: Triple
) -> Float[Tensor, "B Kz Ky Kx"]:
    """Variance inside each cell over time and space, averaged over variables.

    `cell` is (z, y, x) in grid points. Pass normalised, dimensionless `fields`: otherwise
    the variable of largest magnitude decides alone.
    Raises ShapeError if the cells do not tile the grid.
    """
    patches = rearrange(cells(fields, cell), "B Kz Ky Kx T C z y x -> B Kz Ky Kx C (T z y x)")
    offset = patches - patches.mean(dim=-1, keepdim=True)
    return offset.square().mean(dim=(-1, -2))


@criterion("change")
def cell_change(fields: Float[Tensor, "B T C Z Y X"], cell: Triple) -> Float[Tensor, "B Kz Ky Kx"]:
    """Mean square of the change from the last frame but one to the last, over cell and variables.

    What moves now mostly moves next, and the next change is what a model has to predict.
    Raises ShapeError if the cells do not tile the grid, or there is one frame only.
    """
    if fields.shape[1] < 2:
        raise ShapeError(
            "The criterion 'change' compares the last two frames, and a history of one was given. "
            "Give windows.history 2 or more, or choose model.refine.criterion variance."
        )
    return cells(fields[:, -1:] - fields[:, -2:-1], cell).square().mean(dim=(4, 5, 6, 7, 8))


@criterion("gradient")
def cell_gradient(
    fields: Float[Tensor, "B T C Z Y X"], cell: Triple
) -> Float[Tensor, "B Kz Ky Kx"]:
    """Magnitude of the gradient per grid point, averaged over cell, time and variables.

    Central differences, one-sided at the edges of the array.
    Raises ShapeError if the cells do not tile the grid.
    """
    axes = [axis for axis in (3, 4, 5) if fields.shape[axis] > 1]
    slopes = torch.gradient(fields, dim=axes) if axes else [torch.zeros_like(fields)]
    magnitude = torch.stack([slope.square() for slope in slopes]).sum(dim=0).sqrt()
    return cells(magnitude, cell).mean(dim=(4, 5, 6, 7, 8))
