"""Cells of a grid: the lattice of one patch size, and the patches of values in it.

Axes: B samples, T times, C variables, (Z, Y, X) grid points, (Kz, Ky, Kx) cells,
M chosen cells, (z, y, x) points of one cell.
"""

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from matey.errors import ShapeError

Triple = tuple[int, int, int]


def patch_shape(ndim: int, patch: int) -> Triple:
    """A patch of `patch` points along each active axis, as (z, y, x)."""
    z, y, x = (1,) * (3 - ndim) + (patch,) * ndim
    return z, y, x


def check_tiles(points: Triple, cell: Triple) -> None:
    """Raise ShapeError, with the way out, unless the cells tile the grid."""
    for axis, count, size in zip("ZYX", points, cell, strict=True):
        if count % size:
            raise ShapeError(
                f"Axis {axis} has {count} grid points, which cells of {size} cannot tile. Crop it "
                f"to {count - count % size}, or choose model.patches that divide {count}."
            )


def lattice_shape(points: Triple, cell: Triple) -> Triple:
    """How many cells lie along Z, Y and X. Raises ShapeError if they do not tile the grid."""
    check_tiles(points, cell)
    z, y, x = (count // size for count, size in zip(points, cell, strict=True))
    return z, y, x


def cells(fields: Float[Tensor, "B T C Z Y X"], cell: Triple) -> Float[Tensor, "B Kz Ky Kx ..."]:
    """The fields seen cell by cell, `[B Kz Ky Kx T C z y x]`. A view: nothing is copied."""
    kz, ky, kx = lattice_shape(_points(fields), cell)
    split = (
        fields.unflatten(5, (kx, cell[2])).unflatten(4, (ky, cell[1])).unflatten(3, (kz, cell[0]))
    )
    return split.permute(0, 3, 5, 7, 1, 2, 4, 6, 8)


def all_patches(fields: Float[Tensor, "B T C Z Y X"], cell: Triple) -> Float[Tensor, "M T C z y x"]:
    """The patches of every cell, samples first, then cells in order Z, Y, X."""
    return cells(fields, cell).flatten(0, 3)


def take_patches(
    fields: Float[Tensor, "B T C Z Y X"],
    cell: Triple,
    sample: Int[Tensor, " M"],
    corner: Int[Tensor, "M 3"],
) -> Float[Tensor, "M T C z y x"]:
    """The patches of chosen cells, given by their sample and lowest grid point."""
    z, y, x = (corner // torch.tensor(cell, device=corner.device)).unbind(1)
    return cells(fields, cell)[sample, z, y, x]


def put_patches(
    fields: Float[Tensor, "B C Z Y X"],
    patches: Float[Tensor, "M C z y x"],
    sample: Int[Tensor, " M"],
    corner: Int[Tensor, "M 3"],
) -> Float[Tensor, "B C Z Y X"]:
    """The fields with the chosen cells replaced by patches: the inverse of `take_patches`."""
    z_size, y_size, x_size = patches.shape[2:]
    z, y, x = (corner // torch.tensor(patches.shape[2:], device=corner.device)).unbind(1)
    view = rearrange(
        fields,
        "B C (Kz z) (Ky y) (Kx x) -> B Kz Ky Kx C z y x",
        z=z_size,
        y=y_size,
        x=x_size,
    )
    filled = view.index_put((sample, z, y, x), patches)
    return rearrange(filled, "B Kz Ky Kx C z y x -> B C (Kz z) (Ky y) (Kx x)")


def _points(fields: Tensor) -> Triple:
    z, y, x = fields.shape[-3:]
    return z, y, x
