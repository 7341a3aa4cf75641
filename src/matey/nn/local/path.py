"""The path at high resolution: what a point makes of its neighbours, wherever tokens are.

Fields become features of pieces of two points along each axis, a gated convolution looks at
neighbouring pieces, tokens add what is far away, coarser resolutions and two more convolutions
follow, and features become increments at all points. It does not depend on the plan, and it sees
across patch edges. On stretched grids neighbours are those by index.

Fields come twice, over the deviation of the sample and over that usual for their system, and
increments are made of both: an equation has fixed coefficients in the second, and any amplitude is
as well resolved in the first.

Axes: B samples, T times, C variables, P predicted variables, K channels, D width of the case,
points the active axes of the grid, and pieces those of the grid of pieces.
"""

import math
from collections.abc import Sequence
from itertools import starmap

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from matey.config import ModelConfig
from matey.fields.inputs import periodic
from matey.nn.embed import Named
from matey.nn.local.mix import Coarser, Mix, bounded
from matey.nn.local.sides import (
    CONVOLUTION,
    Rows,
    channels_last,
    in_regions,
    outside,
    taken,
)
from matey.nn.local.spectral import Spectral
from matey.nn.operations import Cost
from matey.tokens.regions import joined, spans, strip

HALO = 2  # points around a piece that its features see
STILL = 1e-3  # of the fields' scale: a smaller last change is not magnified further
BLOCKS = (1, 2)  # of convolutions before and after the tokens
LEAST = 0.1  # of the usual deviation: increments over a smaller one are not magnified further
FIRST = 0.01  # size of the weights of the increments before training: the stencil is not drowned


class Local(nn.Module):
    """Fields to features, and features to increments, on grids of `ndim` axes, as `config` has it.

    The vector that tells lead time and parameters is as wide as tokens are.
    """

    def __init__(self, ndim: int, history: int, config: ModelConfig) -> None:
        super().__init__()
        width, piece, case = config.local, config.piece, config.embed_dim
        self.ndim, self.history, self.width, self.piece = ndim, history, width, piece
        self.bound = config.bound
        self.size = piece + 2 * HALO
        self.inputs = Named(2 * width * history * self.size**ndim)
        self.sides = nn.Parameter(torch.zeros(width, 2, *(self.size,) * ndim))
        self.bias = nn.Parameter(torch.zeros(width))
        sizes = ndim, width, case, config.bound, config.rate_factor
        self.before = nn.ModuleList(Mix(*sizes) for _ in range(BLOCKS[0]))
        self.coarser = Coarser(*sizes, config.levels) if config.levels else None
        waves = (ndim, width, case, config.rate_factor, config.waves)
        self.spectral = Spectral(*waves) if config.waves else None
        self.after = nn.ModuleList(Mix(*sizes) for _ in range(BLOCKS[1]))
        self.outputs = Named(2 * piece**ndim * width * 3**ndim)

    def add(self, names: Sequence[str], predicted: Sequence[str]) -> None:
        """Make weights for the variables that have none yet."""
        self.inputs.add(names)
        new = [name for name in predicted if name not in self.outputs]
        self.outputs.add(new)
        for name in new:
            nn.init.normal_(self.outputs.vector(name), std=FIRST)

    def read(
        self,
        fields: Float[Tensor, "B T C *points"],
        deviation: Float[Tensor, "B C"],
        names: Sequence[str],
        boundaries: Int[Tensor, "B axes 2"],
        case: Float[Tensor, "B D"],
        share: Float[Tensor, "B 1 *points"] | None = None,
    ) -> Float[Tensor, "B K *pieces"]:
        """The features of normalised fields, from the last frame and the changes before it.

        `deviation` is that of each variable in the sample over the usual one, `share` what each
        point has in means over space, if not all have the same. Where pieces do not tile the grid,
        the last ones lie partly beyond it.
        """
        wraps, points = periodic(boundaries), tuple(fields.shape[3:])
        shape = (len(names), 2, self.width, self.history, *(self.size,) * self.ndim)
        weight = self.inputs(names).view(shape).movedim((2, 3, 1, 0), (0, 1, 2, 3)).flatten(1, 3)
        weight = weight / math.sqrt(2 * len(names) * self.history * self.size**self.ndim)
        weight = torch.cat([weight, self.sides], dim=1)
        size = size_of_change(fields, share)
        pieces = [-(-count // self.piece) for count in points]

        def features(first: int, last: int) -> Tensor:
            """Those of some rows of pieces."""
            rows = first * self.piece - HALO, last * self.piece + HALO
            near = taken(fields.flatten(1, 2), 2, rows, wraps[:, 0], "nearest")
            near = near.unflatten(1, fields.shape[1:3])
            usual = near * self.everywhere(deviation)[:, None]
            usual = torch.cat([usual[:, -1:], usual.diff(dim=1)], dim=1)
            given = torch.cat([frame_and_changes(near, size), usual], dim=2).flatten(1, 2)
            ends = [rows, *((-HALO, self.piece * n + HALO) for n in pieces[1:])]
            for axis in range(3, given.ndim):  # [B 2TC *points]
                given = taken(given, axis, ends[axis - 2], wraps[:, axis - 2], "nearest")
            given = torch.cat([given, outside(boundaries, points, ends, given)], dim=1)
            convolve = CONVOLUTION[self.ndim]
            return convolve(channels_last(given), weight, self.bias, stride=self.piece)

        values: Tensor = joined(starmap(features, spans(pieces[0])), pieces[0], axis=2)
        for mix in self.before:
            values = mix(values, case, wraps)
        return values

    def write(
        self,
        values: Float[Tensor, "B K *pieces"],
        deviation: Float[Tensor, "B P"],
        names: Sequence[str],
        boundaries: Int[Tensor, "B axes 2"],
        case: Float[Tensor, "B D"],
    ) -> Float[Tensor, "B P *points"]:
        """The increments that features stand for, over the sample's deviation; those of the last
        pieces also where they lie beyond the grid."""
        wraps = periodic(boundaries)
        if self.coarser is not None:
            values = self.coarser(values, case, wraps)
        if self.spectral is not None:
            values = self.spectral(values, case, wraps)
        for mix in self.after:
            values = mix(values, case, wraps)
        shape = (len(names), 2, self.piece**self.ndim, self.width, *(3,) * self.ndim)
        # Small beside unit vectors, so that a step of Adam moves increments by about its rate.
        weight = self.outputs(names).view(shape) * (0.5 / math.sqrt(self.width * 3**self.ndim))
        weight = weight.transpose(0, 1).flatten(0, 2)
        least = self.everywhere(deviation).clamp(min=LEAST)

        def increments(near: Tensor, rows: Rows) -> Tensor:
            """Those of some rows of pieces."""
            values = CONVOLUTION[self.ndim](bounded(near, self.bound), weight)
            sample, usual = dealt_out(values, 2 * len(names), self.piece).chunk(2, dim=1)
            return sample + usual / least

        return in_regions(values, 1, wraps, "zero", increments, self.piece)

    def everywhere(self, values: Float[Tensor, "B C"]) -> Float[Tensor, "B C *ones"]:
        """Values of each variable, to be multiplied with fields."""
        return values.view(*values.shape, *(1,) * self.ndim)

    def count(
        self,
        cost: Cost,
        samples: int,
        points: Sequence[int],
        inputs: int,
        outputs: int,
        writes: int,
    ) -> None:
        """Add the operations of a step on so many grid points and variables, written so often."""
        ndim, width, near = self.ndim, self.width, 3**self.ndim
        pieces = [-(-count // self.piece) for count in points]
        rows = samples * math.prod(pieces)
        inner = (2 * inputs * self.history + 2) * self.size**ndim
        cost.product("local", rows, inner, width, fields=True)
        for mix in [*self.before, *(writes * [*self.after])]:
            assert isinstance(mix, Mix)
            mix.count(cost, samples, rows)
        for part in [each for each in (self.coarser, self.spectral) if each is not None]:
            for _ in range(writes):
                part.count(cost, samples, pieces)
        cost.product("local", writes * rows, width * near, 2 * outputs * self.piece**ndim)


def frame_and_changes(
    fields: Float[Tensor, "B T C *points"], size: Float[Tensor, "B _ C *ones"]
) -> Float[Tensor, "B T C *points"]:
    """The last frame, and the changes from frame to frame over the size of the last one."""
    return torch.cat([fields[:, -1:], fields.diff(dim=1) / size], dim=1)


def size_of_change(
    fields: Float[Tensor, "B T C *points"], share: Float[Tensor, "B 1 *points"] | None
) -> Float[Tensor, "B _ C *ones"]:
    """The root of the mean square over space of the last change, where each point has its `share`,
    if not all have the same; nothing of a history of one frame."""
    axes, power = tuple(range(3, fields.ndim)), fields.new_zeros(())
    for rows in spans(fields.shape[3]):
        here = strip(fields, 3, rows)
        change = (here[:, -1:] - here[:, -2:-1]).square()
        if share is None:
            part = change.mean(dim=axes, keepdim=True) * (here.shape[3] / fields.shape[3])
        else:
            part = (change * strip(share, 2, rows)[:, None]).sum(dim=axes, keepdim=True)
        power = power + part
    return power.clamp(min=STILL**2).sqrt()  # a root has no gradient at zero


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
