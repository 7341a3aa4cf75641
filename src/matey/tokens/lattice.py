"""Cells of a grid: the lattice of one patch size, and the patches of values in it.

Where patches do not divide the grid, the lattice goes on past its high end. Each room continues
what it has to the lattice's size, and drops what lies there afterwards: plans the fields and
points (`tokens.refine`), the tokenizer and the local path's halves their features
(`nn.local.sandwich`), while convolutions end where the grid does (`nn.local.path`).

Axes: B samples, T times, C variables, (Z, Y, X) grid points, (Kz, Ky, Kx) cells,
M cells of all samples, (z, y, x) points of one cell.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from matey.errors import ConfigError, ShapeError
from matey.tokens.regions import regions, spans

Triple = tuple[int, int, int]
NOWHERE: Triple = (0, 0, 0)


def patch_shape(ndim: int, patch: int | Sequence[int]) -> Triple:
    """A patch of `patch` points along each active axis, as (z, y, x); of one number for each axis,
    slowest first, the last ones count. Raises ConfigError where there are too few."""
    sizes = (patch,) * ndim if isinstance(patch, int) else tuple(patch)[-ndim:]
    if len(sizes) < ndim:
        raise ConfigError(
            f"model.patches has a size of {list(sizes)} points, and a system has {ndim} axes. Give "
            "one number for each axis, or one for all."
        )
    z, y, x = (1,) * (3 - ndim) + sizes
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


def covering(points: Triple, cell: Triple, before: Triple = NOWHERE) -> Triple:
    """The least grid that cells tile and that holds a grid of so many points, and `before` more at
    the low end of each axis."""
    z, y, x = (
        -(-(count + more) // size) * size
        for count, size, more in zip(points, cell, before, strict=True)
    )
    return z, y, x


def continued(
    fields: Float[Tensor, "B ..."],
    grid: Sequence[int],
    wraps: Bool[Tensor, "B axes"],
    before: Sequence[int] = NOWHERE,
) -> Float[Tensor, "B ..."]:
    """Fields continued past the ends of each of their last axes, to as many points as `grid` has,
    of which so many lie `before` the first: by what lies across the side where an axis is periodic
    in a sample, else by the outermost point again."""
    for axis, more in enumerate(grid):
        place = axis - len(grid)
        count = fields.shape[place]
        if more > count:
            places = torch.arange(more, device=fields.device) - before[axis]
            periodic = wraps[:, axis].view(-1, *(1,) * (fields.ndim - 1))
            across = fields.index_select(place, places % count)
            still = fields.index_select(place, places.clamp(0, count - 1))
            fields = torch.where(periodic, across, still)
    return fields


def cropped(
    fields: Num[Tensor, "*points"], grid: Sequence[int], before: Sequence[int] = NOWHERE
) -> Num[Tensor, "*fewer"]:
    """The fields without what lies beyond a grid of so many points: `continued` reversed."""
    for axis, count in enumerate(grid):
        place = axis - len(grid)
        if fields.shape[place] > count:
            fields = fields.narrow(place, before[axis], count)
    return fields


def cells(fields: Float[Tensor, "B T C Z Y X"], cell: Triple) -> Float[Tensor, "B Kz Ky Kx ..."]:
    """The fields cell by cell, `[B Kz Ky Kx T C z y x]`. A view: nothing is copied."""
    kz, ky, kx = lattice_shape(_points(fields), cell)
    split = (
        fields.unflatten(5, (kx, cell[2])).unflatten(4, (ky, cell[1])).unflatten(3, (kz, cell[0]))
    )
    return split.permute(0, 3, 5, 7, 1, 2, 4, 6, 8)


def all_patches(fields: Float[Tensor, "B T C Z Y X"], cell: Triple) -> Float[Tensor, "M T C z y x"]:
    """The patches of all cells, in order of sample, Z, Y, X."""
    return cells(fields, cell).flatten(0, 3)


def patches_of(
    fields: Float[Tensor, "B T C Z Y X"], cell: Triple, index: Int[Tensor, " M"] | None
) -> Iterator[Float[Tensor, "_ T C z y x"]]:
    """The patches of cells of a lattice, by their `index` in it, or of all of them in order; those
    of a region at a time, so that no copy of all fields is made."""
    if regions() == 1:
        patches = all_patches(fields, cell)
        yield patches if index is None else patches.index_select(0, index)
        return
    each = cells(fields, cell)  # a view
    count = math.prod(each.shape[:4]) if index is None else len(index)
    for rows in spans(count):
        yield each[places(rows, index, each)]


def put_patches(
    make: Callable[[int, int], Float[Tensor, "_ C z y x"]],
    cell: Triple,
    index: Int[Tensor, " M"] | None,
    samples: int,
    grid: Triple,
) -> Float[Tensor, "B C Z Y X"]:
    """Fields of so many samples made of the patches of some cells, by their `index` in the lattice,
    or of all of them in order; 0 elsewhere. `make` gives those from the first up to the last of
    these cells: a region at a time."""
    whole = samples * math.prod(grid) // math.prod(cell)
    if regions() == 1:
        patches = make(0, whole if index is None else len(index))
        if index is not None:
            patches = patches.new_zeros(whole, *patches.shape[1:]).index_copy(0, index, patches)
        return join_patches(patches, grid)
    fields = torch.empty(0)
    for first, last in spans(whole if index is None else len(index)):
        patches = make(first, last)
        if first == 0:
            fields = patches.new_zeros(samples, patches.shape[1], *grid)
            each = cells(fields[:, None], cell)  # a view
        each[places((first, last), index, each)] = patches[:, None]
    return fields


def places(
    rows: tuple[int, int], index: Int[Tensor, " M"] | None, each: Float[Tensor, "B Kz Ky Kx ..."]
) -> tuple[Int[Tensor, " _"], ...]:
    """Sample, Z, Y and X of some of the cells of a lattice, from the first up to the last of those
    in the `index`, or of all."""
    flat = torch.arange(*rows, device=each.device) if index is None else index[slice(*rows)]
    return torch.unravel_index(flat, each.shape[:4])


def join_patches(patches: Float[Tensor, "M C z y x"], points: Triple) -> Float[Tensor, "B C Z Y X"]:
    """Join the patches of all cells into fields: the inverse of `all_patches`."""
    cell = patches.shape[2:]
    kz, ky, kx = (count // size for count, size in zip(points, cell, strict=True))
    return rearrange(
        patches,
        "(B Kz Ky Kx) C z y x -> B C (Kz z) (Ky y) (Kx x)",
        Kz=kz,
        Ky=ky,
        Kx=kx,
    )


def corners(lattice: Triple, cell: Triple, device: torch.device) -> Int[Tensor, "K 3"]:
    """The lowest grid point of each cell of a lattice, in order Z, Y, X."""
    axes = [torch.arange(n, device=device) * size for n, size in zip(lattice, cell, strict=True)]
    return torch.cartesian_prod(*axes).reshape(-1, 3)


def _points(fields: Tensor) -> Triple:
    z, y, x = fields.shape[-3:]
    return z, y, x
