"""Cracks on a grid: the cells they cut, the strains beside them, the damage of least energy.

Axes: B trajectories, then points along y and x. Components of vectors stand on the faces they
cross, in arrays of one more point along both axes than there are cells.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

Crack = tuple[tuple[float, float], tuple[float, float]]
"""The ends of a straight cut, (x, y) each [m]."""


def cells_of(cracks: Sequence[Crack], h: float) -> Iterator[tuple[int, int]]:
    """Row and column of the cells along cracks, each with a side or a corner in common with the
    last, on a grid of spacing h that begins at 0."""
    for (x, y), (end_x, end_y) in cracks:
        count = max(1, round(max(abs(end_x - x), abs(end_y - y)) / h))
        for number in range(count):
            share = (number + 0.5) / count
            row, column = (y + share * (end_y - y)) / h, (x + share * (end_x - x)) / h
            yield math.floor(row), math.floor(column)


def strains(
    x: Float[Tensor, "B Y X"], y: Float[Tensor, "B Y X"], h: float
) -> tuple[Tensor, Tensor, Tensor]:
    """ε_xx and ε_yy at the centres, and 2 ε_xy at the corners inside, of both components."""
    x, y = x[:, :-1], y[..., :-1]
    sheared = x[..., 1:-1].diff(dim=-2).add_(y[:, 1:-1].diff(dim=-1))
    return x.diff(dim=-1).div_(h), y.diff(dim=-2).div_(h), sheared.div_(h)


def corner_sums(values: Float[Tensor, "B Y X"]) -> Float[Tensor, "B y x"]:
    """Sums of every four cells that meet at a corner."""
    pairs = values[:, 1:] + values[:, :-1]
    return pairs[..., 1:] + pairs[..., :-1]


def four_sums(wide: Float[Tensor, "B Y X"]) -> Float[Tensor, "B y x"]:
    """Sums of the four neighbours, from values with a margin of one point."""
    total = wide[:, :-2, 1:-1] + wide[:, 2:, 1:-1]
    return total.add_(wide[:, 1:-1, :-2]).add_(wide[:, 1:-1, 2:])


def least_energy(
    least: Float[Tensor, "B Y X"], drive: Float[Tensor, "B Y X"], width: float, sweeps: int
) -> Float[Tensor, "B Y X"]:
    """The damage d from `least` to 1 that minimises Σ d² + width² |δd|² + drive (1 - d)².

    δd are the differences to the next cells; none beyond the sides. Projected
    over-relaxation of the cells of both colours of a chessboard in turn. Source: Cryer, SIAM J.
    Control 9 (1971) 385.
    """
    near = width**2
    jacobi = 4 * near / (1 + 4 * near)  # what a sweep of Jacobi's method leaves of an error
    over = 2 / (1 + math.sqrt(1 - jacobi**2))
    wide = pad(least, (1, 1, 1, 1))
    inner = wide[:, 1:-1, 1:-1]
    neighbours = four_sums(pad(torch.ones_like(least), (1, 1, 1, 1)))
    weight = over / (1 + drive + near * neighbours)
    drive, weight = drive * weight, weight.mul_(near)
    rows, columns = (torch.arange(points, device=least.device) for points in least.shape[1:])
    red = (rows[:, None] + columns) % 2 == 0
    for _ in range(sweeps):
        for colour in (red, ~red):
            new = torch.addcmul(drive, four_sums(wide), weight).add_(inner, alpha=1 - over)
            inner.copy_(new.maximum(least).clamp_(max=1).where(colour, inner))
    return inner
