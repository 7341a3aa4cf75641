"""The path at high resolution: what a point makes of its neighbours, wherever tokens are.

Fields become features of pieces of two points along each axis, gated convolutions look at
neighbouring pieces, tokens add what is far away, more convolutions follow, and features become
increments at all points. It does not depend on the plan, and it sees across patch edges.

Axes: B samples, T times, C variables, P predicted variables, K channels, D width of the case,
points the active axes of the grid, and pieces those of the grid of pieces.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from matey.fields import Boundary
from matey.nn.cost import Cost
from matey.nn.embed import Named
from matey.nn.sides import CONVOLUTION, beyond, channels_last, outside

HALO = 2  # points around a piece that its features see
STILL = 1e-3  # of the fields' scale: a smaller last change is not magnified further
BLOCKS = (1, 2)  # of convolutions before and after the tokens
LEAST = 0.1  # of the usual deviation: an increment over it is not magnified further
FIRST = 0.01  # size of the weights of the increments before training: the stencil is not drowned


class Local(nn.Module):
    """Fields to features, and features to increments, on grids of `ndim` axes."""

    def __init__(
        self,
        ndim: int,
        history: int,
        width: int,
        blocks: tuple[int, int],
        case: int,
        piece: int,
        levels: int,
    ) -> None:
        super().__init__()
        self.ndim, self.history, self.width, self.piece = ndim, history, width, piece
        self.size = piece + 2 * HALO
        self.inputs = Named(width * history * self.size**ndim)
        self.sides = nn.Parameter(torch.zeros(width, 2, *(self.size,) * ndim))
        self.bias = nn.Parameter(torch.zeros(width))
        self.before = nn.ModuleList(Mix(ndim, width, case) for _ in range(blocks[0]))
        self.coarse = Descent(ndim, width, case, levels) if levels else None
        self.after = nn.ModuleList(Mix(ndim, width, case) for _ in range(blocks[1]))
        self.outputs = Named(width * piece**ndim * 3**ndim)

    def add(self, names: Sequence[str], predicted: Sequence[str]) -> None:
        """Make weights for the variables that have none yet."""
        self.inputs.add(twice(names))
        new = [name for name in twice(predicted) if name not in self.outputs]
        self.outputs.add(new)
        for name in new:
            nn.init.normal_(self.outputs.vector(name), std=FIRST)

    def read(
        self,
        fields: Float[Tensor, "B T C *points"],
        ratio: Float[Tensor, "B C"],
        names: Sequence[str],
        boundaries: Int[Tensor, "B axes 2"],
        case: Float[Tensor, "B D"],
    ) -> Float[Tensor, "B K *pieces"]:
        """The features of normalised fields, from the last frame and the changes before it.

        `ratio` is the deviation of a variable in the sample over that usual for the system:
        fields times it are larger where they are larger in truth.
        """
        wraps = (boundaries == Boundary.PERIODIC).all(dim=2)
        usual = fields * ratio[:, None].unflatten(2, (-1, *(1,) * self.ndim))
        usual = torch.cat([usual[:, -1:], usual.diff(dim=1)], dim=1)
        given = torch.cat([frame_and_changes(fields), usual], dim=2)
        given = beyond(given.flatten(1, 2), HALO, wraps, "nearest")
        points = tuple(fields.shape[3:])
        given = torch.cat([given, outside(boundaries, points, HALO, given)], dim=1)
        names = twice(names)
        shape = (len(names), self.width, self.history, *(self.size,) * self.ndim)
        weight = self.inputs(names).view(shape).movedim(0, 2).flatten(1, 2)
        weight = weight / math.sqrt(len(names) * self.history * self.size**self.ndim)
        weight = torch.cat([weight, self.sides], dim=1)
        convolve = CONVOLUTION[self.ndim]
        values = convolve(channels_last(given), weight, self.bias, stride=self.piece)
        for mix in self.before:
            values = mix(values, case, wraps)
        return values

    def write(
        self,
        values: Float[Tensor, "B K *pieces"],
        ratio: Float[Tensor, "B P"],
        names: Sequence[str],
        boundaries: Int[Tensor, "B axes 2"],
        case: Float[Tensor, "B D"],
    ) -> Float[Tensor, "B P *points"]:
        """The increments that features stand for: some over the sample's deviation, some over
        the usual one."""
        wraps = (boundaries == Boundary.PERIODIC).all(dim=2)
        if self.coarse is not None:
            values = self.coarse(values, case, wraps)
        for mix in self.after:
            values = mix(values, case, wraps)
        count, names = len(names), twice(names)
        shape = (len(names) * self.piece**self.ndim, self.width, *(3,) * self.ndim)
        # Small beside unit vectors, so that a step of Adam moves increments by about its rate.
        weight = self.outputs(names).view(shape) * (0.5 / math.sqrt(self.width * 3**self.ndim))
        values = CONVOLUTION[self.ndim](beyond(values, 1, wraps, "zero"), weight)
        sample, usual = dealt_out(values, len(names), self.piece).split(count, dim=1)
        return sample + usual / ratio.clamp(min=LEAST).unflatten(1, (-1, *(1,) * self.ndim))


def twice(names: Sequence[str]) -> list[str]:
    """Names of variables over the sample's deviation, then over the usual one."""
    return [*names, *(f"{name} over the usual" for name in names)]


def count_local(
    cost: Cost,
    sizes: tuple[int, int, int, int, int],
    variables: tuple[int, int],
    samples: int,
    points: Sequence[int],
) -> None:
    """Add the operations of a step of the local path on so many grid points.

    `sizes` are history, width, piece, levels and width of the case; `variables` how many are
    read and predicted.
    """
    (history, width, piece, levels, case), (inputs, outputs), ndim = sizes, variables, len(points)
    inputs, outputs = 2 * inputs, 2 * outputs  # over the sample's deviation, and the usual one
    rows, near = samples * math.prod(points) // piece**ndim, 3**ndim
    given = (inputs * history + len((Boundary.WALL, Boundary.OPEN))) * (piece + 2 * HALO) ** ndim
    cost.product("local", rows, given, width, first=True)
    mixes = [rows] * sum(BLOCKS)
    for level in range(1, levels + 1):
        low = rows // 2 ** (ndim * level)
        cost.product("local", low, width * 2**ndim, width)
        cost.product("local", low, width, width)
        mixes += [low, low]
    for pieces in mixes:
        cost.product("local", pieces, width * near, 2 * width)
        cost.product("local", pieces, width, width)
        cost.product("local", samples, case, 2 * width)
    cost.product("local", rows, width * near, outputs * piece**ndim)


class Descent(nn.Module):
    """What is seen at half the resolution, a quarter, ..., added: reach at little cost.

    Each level is smoothed on its way up, so that its pieces leave no edges.
    """

    def __init__(self, ndim: int, width: int, case: int, levels: int) -> None:
        super().__init__()
        self.ndim = ndim
        scale = 1 / math.sqrt(width * 2**ndim)
        self.down = nn.Parameter(torch.randn(width, width, *(2,) * ndim) * scale)
        self.first, self.second = Mix(ndim, width, case), Mix(ndim, width, case)
        self.below = Descent(ndim, width, case, levels - 1) if levels > 1 else None
        self.up = nn.Parameter(torch.randn(width, width, *(1,) * ndim) * 0.3 / math.sqrt(width))

    def forward(
        self,
        values: Float[Tensor, "B K *pieces"],
        case: Float[Tensor, "B D"],
        wraps: Bool[Tensor, "B axes"],
    ) -> Float[Tensor, "B K *pieces"]:
        convolve = CONVOLUTION[self.ndim]
        low = self.first(convolve(values, self.down, stride=2), case, wraps)
        if self.below is not None:
            low = self.below(low, case, wraps)
        low = convolve(self.second(low, case, wraps), self.up)
        return values + doubled(low, wraps)


def doubled(
    values: Float[Tensor, "B K *pieces"], wraps: Bool[Tensor, "B axes"]
) -> Float[Tensor, "B K *twice"]:
    """Values between those of a grid, on one of twice the resolution."""
    mode = ("linear", "bilinear", "trilinear")[values.ndim - 3]
    wide = nn.functional.interpolate(
        beyond(values, 1, wraps, "nearest"), scale_factor=2, mode=mode, align_corners=False
    )
    for axis in range(2, values.ndim):
        wide = wide.narrow(axis, 2, 2 * values.shape[axis])
    return wide


class Mix(nn.Module):
    """A convolution over neighbours with gates, told of the case; added to what came in.

    Gates are between 0 and 2: products of features without a bound would explode in rollouts.
    """

    def __init__(self, ndim: int, width: int, case: int) -> None:
        super().__init__()
        self.ndim = ndim
        scale = 1 / math.sqrt(width * 3**ndim)
        self.weight = nn.Parameter(torch.randn(2 * width, width, *(3,) * ndim) * scale)
        self.bias = nn.Parameter(torch.zeros(2 * width))
        self.out = nn.Parameter(torch.randn(width, width, *(1,) * ndim) * 0.3 / math.sqrt(width))
        self.case = nn.Linear(case, 2 * width)
        nn.init.normal_(self.case.weight, std=0.3 / math.sqrt(case))
        nn.init.zeros_(self.case.bias)

    def forward(
        self,
        values: Float[Tensor, "B K *pieces"],
        case: Float[Tensor, "B D"],
        wraps: Bool[Tensor, "B axes"],
    ) -> Float[Tensor, "B K *pieces"]:
        convolve = CONVOLUTION[self.ndim]
        # Zeros beyond a side tell where it is.
        hidden = convolve(beyond(values, 1, wraps, "zero"), self.weight, self.bias)
        value, gate = hidden.chunk(2, dim=1)
        told = self.case(case)
        scale, shift = told.view(len(told), -1, *(1,) * self.ndim).chunk(2, dim=1)
        return values + convolve(value * (1 + scale) * (2 * torch.sigmoid(gate + shift)), self.out)


def frame_and_changes(fields: Float[Tensor, "B T C *points"]) -> Float[Tensor, "B T C *points"]:
    """The last frame, and the changes from frame to frame over the size of the last one."""
    changes = fields.diff(dim=1)
    axes = tuple(range(3, fields.ndim))
    size = changes[:, -1:].square().mean(dim=axes, keepdim=True).sqrt().clamp(min=STILL)
    return torch.cat([fields[:, -1:], changes / size], dim=1)


def dealt_out(
    values: Float[Tensor, "B PS *pieces"], variables: int, piece: int
) -> Float[Tensor, "B P *points"]:
    """Channels dealt out to the points of each piece."""
    ndim = values.ndim - 2
    pieces = values.shape[2:]
    values = values.reshape(len(values), variables, *(piece,) * ndim, *pieces)
    order = [0, 1] + [axis for i in range(ndim) for axis in (2 + ndim + i, 2 + i)]
    points = [count * piece for count in pieces]
    return values.permute(order).reshape(len(values), variables, *points)
