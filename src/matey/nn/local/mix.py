"""Gated convolutions of features, at the resolution of pieces and at coarser ones.

Axes: B samples, K channels, D width of the case, points and pieces those of a grid.
"""

import math
from collections.abc import Sequence
from itertools import starmap
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import rms_norm

from matey.nn.adapters.low_rank import adapted
from matey.nn.embed import case_map
from matey.nn.local.sides import CONVOLUTION, Rows, beyond, in_regions, taken
from matey.nn.operations import Cost
from matey.tokens.lattice import continued, cropped
from matey.tokens.regions import joined, spans, strip


class Mix(nn.Module):
    """A convolution over neighbours with gates, told of the case; added to what came in.

    Gates are between 0 and 2, and features may be `bounded`: products without a bound would explode
    in rollouts.
    """

    ADAPTABLE: ClassVar = {"weight": 1}

    def __init__(self, ndim: int, width: int, case: int, bound: float, factor: float) -> None:
        super().__init__()
        self.ndim, self.bound = ndim, bound
        scale = 1 / math.sqrt(width * 3**ndim)
        self.weight = nn.Parameter(torch.randn(2 * width, width, *(3,) * ndim) * scale)
        self.bias = nn.Parameter(torch.zeros(2 * width))
        self.out = nn.Parameter(torch.randn(width, width, *(1,) * ndim) * 0.3 / math.sqrt(width))
        self.case = case_map(case, 2 * width, factor)

    def forward(
        self,
        values: Float[Tensor, "B K *pieces"],
        case: Float[Tensor, "B D"],
        wraps: Bool[Tensor, "B axes"],
    ) -> Float[Tensor, "B K *pieces"]:
        convolve, weight, told = CONVOLUTION[self.ndim], adapted(self), self.case(case)
        scale, shift = told.view(len(told), -1, *(1,) * self.ndim).chunk(2, dim=1)

        def mixed(near: Tensor, rows: Rows) -> Tensor:
            """Some rows of pieces, of those around them."""
            seen = bounded(near, self.bound)
            value, gate = convolve(seen, weight, self.bias).chunk(2, dim=1)
            gated = value * (1 + scale) * (2 * torch.sigmoid(gate + shift))
            return strip(values, 2, rows) + convolve(gated, self.out)

        # Zeros beyond a side tell where it is.
        return in_regions(values, 1, wraps, "zero", mixed)

    def count(self, cost: Cost, samples: int, rows: int) -> None:
        """So many pieces, of all samples together."""
        width = self.out.shape[0]
        cost.product("local", rows, width * 3**self.ndim, 2 * width)
        cost.product("local", rows, width, width)
        cost.map("local", samples, self.case)
        cost.adapter(self)


class Coarser(nn.Module):
    """What is seen at half the resolution, a quarter, ..., added: reach at little cost.

    Each level is smoothed on its way up, so that its pieces leave no edges.
    """

    def __init__(
        self, ndim: int, width: int, case: int, bound: float, factor: float, levels: int
    ) -> None:
        super().__init__()
        self.ndim = ndim
        scale = 1 / math.sqrt(width * 2**ndim)
        self.down = nn.Parameter(torch.randn(width, width, *(2,) * ndim) * scale)
        sizes = ndim, width, case, bound, factor
        self.first, self.second = (Mix(*sizes) for _ in range(2))
        self.below = Coarser(*sizes, levels - 1) if levels > 1 else None
        self.up = nn.Parameter(torch.randn(width, width, *(1,) * ndim) * 0.3 / math.sqrt(width))

    def forward(
        self,
        values: Float[Tensor, "B K *pieces"],
        case: Float[Tensor, "B D"],
        wraps: Bool[Tensor, "B axes"],
    ) -> Float[Tensor, "B K *pieces"]:
        convolve, (rows, *pieces) = CONVOLUTION[self.ndim], values.shape[2:]
        halves = -(-rows // 2)

        def halved(first: int, last: int) -> Tensor:
            """Some rows at half the resolution."""
            pairs = taken(values, 2, (2 * first, 2 * last), wraps[:, 0], "nearest")
            even = [2 * (last - first), *(count + count % 2 for count in pieces)]
            return convolve(continued(pairs, even, wraps), self.down, stride=2)

        low = self.first(joined(starmap(halved, spans(halves)), halves, axis=2), case, wraps)
        if self.below is not None:
            low = self.below(low, case, wraps)
        low = convolve(self.second(low, case, wraps), self.up)

        def added(first: int, last: int) -> Tensor:
            """Some rows at the resolution above, with what is seen at this one."""
            here = strip(values, 2, (2 * first, min(2 * last, rows)))
            return here + cropped(doubled(low, wraps, (first, last)), here.shape[2:])

        return joined(starmap(added, spans(halves)), rows, axis=2)

    def count(self, cost: Cost, samples: int, pieces: Sequence[int]) -> None:
        """So many pieces of each sample along each axis at the resolution above."""
        halves = [-(-count // 2) for count in pieces]
        width, low = self.up.shape[0], samples * math.prod(halves)
        cost.product("local", low, width * 2**self.ndim, width)
        cost.product("local", low, width, width)
        for mix in (self.first, self.second):
            mix.count(cost, samples, low)
        if self.below is not None:
            self.below.count(cost, samples, halves)


def doubled(
    values: Float[Tensor, "B K *pieces"], wraps: Bool[Tensor, "B axes"], rows: Rows
) -> Float[Tensor, "B K *twice"]:
    """Some rows of values on a grid of twice the resolution, linearly between those of this one.

    Sums in one order on every device: interpolation by torch is not deterministic on CUDA.
    """
    values = beyond(values, 1, wraps, "nearest", rows)
    for axis in range(2, values.ndim):
        count = values.shape[axis] - 2
        low, here, high = (values.narrow(axis, start, count) for start in range(3))
        near = 0.75 * here
        both = torch.stack([0.25 * low + near, near + 0.25 * high], dim=axis + 1)
        values = both.flatten(axis, axis + 1)
    return values


def bounded(values: Float[Tensor, "B K *points"], bound: float) -> Float[Tensor, "B K *points"]:
    """Features whose root mean square over channels is below a bound, and which are nearly as they
    are where it is far below; 0 bounds nothing.

    Each gated convolution can make features a few times as large, and what it makes is added to
    them: those of a history unlike most of training would grow from one to the next, by powers.
    """
    if not bound:
        return values
    held = rms_norm(values.movedim(1, -1), values.shape[1:2], eps=bound**2)
    return bound * held.movedim(-1, 1)
