"""A plain U-Net: the same at several resolutions, from fine to coarse and back.

Two convolutions a level, halved grids on the way down, and on the way up the fine values beside
the coarse ones. Sides of the domain are padded by what they are: wrapped where an axis is
periodic, repeated elsewhere. Group norm in one group and GELU stand where the paper has ReLU;
grids are halved by the mean.

Axes: B samples, K channels, and one to three axes of grid points.
Source: Ronneberger, Fischer and Brox (2015), arXiv:1505.04597.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from matey.nn.operations import Cost

LEVELS = 4  # that are coarser than the grid
FEWEST = 4  # points of an axis that is halved
CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
MEAN = {
    1: nn.functional.avg_pool1d,
    2: nn.functional.avg_pool2d,
    3: nn.functional.avg_pool3d,
}


class UNet(nn.Module):
    """Channels in, channels out, on any grid of `ndim` axes. `width` is that of the coarsest
    level; each finer level has half as many channels."""

    def __init__(self, ndim: int, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        widths = [max(1, round(width / 2 ** (LEVELS - level))) for level in range(LEVELS + 1)]
        convolution = CONVOLUTION[ndim]
        self.down = nn.ModuleList(Pair(ndim, a, b) for a, b in pairwise([inputs, *widths]))
        self.merge = nn.ModuleList(convolution(b, a, 1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(Pair(ndim, 2 * own, own) for own in widths[:-1])
        self.last = convolution(widths[0], outputs, 1)

    def forward(
        self, fields: Float[Tensor, "B K *points"], wraps: Bool[Tensor, "B axes"]
    ) -> Float[Tensor, "B P *points"]:
        """`wraps` says which axes of a sample are periodic."""
        levels = [self.down[0](fields, wraps)]
        for pair in self.down[1:]:
            levels.append(pair(halved(levels[-1], wraps), wraps))
        values = levels.pop()
        for merge, pair in zip(reversed(self.merge), reversed(self.up), strict=True):
            fine = levels.pop()
            values = doubled(merge(values), fine.shape[2:])
            values = pair(torch.cat([fine, values], dim=1), wraps)
        found: Tensor = self.last(values)
        return found

    def count(self, cost: Cost, samples: int, points: Sequence[int]) -> None:
        """Add the operations of a step on so many grid points."""
        grids = [list(points)]
        for _ in range(LEVELS):
            grids.append([(n + 1) // 2 if n >= FEWEST else n for n in grids[-1]])
        rows = [samples * math.prod(grid) for grid in grids]
        for part, pairs in (("down", self.down), ("up", self.up)):
            for pair, count in zip(pairs, rows, strict=False):
                for module in pair.children():
                    if not isinstance(module, nn.ModuleList):  # the norms, which have no products
                        cost.map(part, count, module)
        for module, count in zip(self.merge, rows[1:], strict=True):
            cost.map("up", count, module)
        cost.map("up", rows[0], self.last)


class Pair(nn.Module):
    """Two convolutions over neighbouring points, each normalised and bent."""

    def __init__(self, ndim: int, inputs: int, outputs: int) -> None:
        super().__init__()
        convolution = CONVOLUTION[ndim]
        self.first = convolution(inputs, outputs, 3, bias=False)
        self.second = convolution(outputs, outputs, 3, bias=False)
        self.norms = nn.ModuleList(nn.GroupNorm(1, outputs) for _ in range(2))

    def forward(
        self, values: Float[Tensor, "B K *points"], wraps: Bool[Tensor, "B axes"]
    ) -> Float[Tensor, "B L *points"]:
        for convolution, norm in zip((self.first, self.second), self.norms, strict=True):
            values = nn.functional.gelu(norm(convolution(padded(values, wraps))))
        return values


def padded(
    values: Float[Tensor, "B K *points"], wraps: Bool[Tensor, "B axes"]
) -> Float[Tensor, "B K *more"]:
    """One more point at each side of each axis."""
    for axis in range(2, values.ndim):
        wrap = of_samples(wraps, axis, values.ndim)
        low, high = values.narrow(axis, 0, 1), values.narrow(axis, values.shape[axis] - 1, 1)
        before, after = torch.where(wrap, high, low), torch.where(wrap, low, high)
        values = torch.cat([before, values, after], dim=axis)
    return values


def halved(
    values: Float[Tensor, "B K *points"], wraps: Bool[Tensor, "B axes"]
) -> Float[Tensor, "B K *half"]:
    """The mean of two by two points along the axes that have enough; an odd axis gets one more
    first, as `padded` would make it."""
    kernel = [2 if points >= FEWEST else 1 for points in values.shape[2:]]
    for axis, size in enumerate(kernel, start=2):
        if values.shape[axis] % size:
            low, high = values.narrow(axis, 0, 1), values.narrow(axis, values.shape[axis] - 1, 1)
            after = torch.where(of_samples(wraps, axis, values.ndim), low, high)
            values = torch.cat([values, after], dim=axis)
    found: Tensor = MEAN[len(kernel)](values, tuple(kernel))
    return found


def doubled(
    values: Float[Tensor, "B K *half"], points: Sequence[int]
) -> Float[Tensor, "B K *points"]:
    """Each value twice along the axes that were halved: the shape of the finer level."""
    for axis, count in enumerate(points, start=2):
        if values.shape[axis] != count:
            values = values.repeat_interleave(2, dim=axis).narrow(axis, 0, count)
    return values


def of_samples(wraps: Bool[Tensor, "B axes"], axis: int, ndim: int) -> Bool[Tensor, "B *ones"]:
    """Whether an axis wraps, in a shape that fits values of so many axes."""
    return wraps[:, axis - 2].view(-1, *(1,) * (ndim - 1))
