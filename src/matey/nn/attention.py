"""Multi-head attention of packed tokens: what a token asks, and where it is, for the kernel.

Axes: N cells in use, T times, D width, H heads, d width of a head.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn.functional import linear

from matey.nn.adapters.low_rank import matrix_trains
from matey.nn.embed import Scaled
from matey.nn.kernels import Heads, Kernel, Queries, attend, count_attention
from matey.nn.operations import Cost
from matey.tokens.pack import Segments
from matey.tokens.regions import joined


class Attention(nn.Module):
    """Multi-head attention with normalised queries and keys.

    With several groupings (the axes of a grid, say) each attends apart with the same
    weights, and the results are averaged. `factor` as in `ModelConfig.rate_factor`.
    """

    def __init__(self, embed_dim: int, heads: int, factor: float = 1.0) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Scaled(embed_dim, 3 * embed_dim, factor, bias=False)
        self.query_norm = nn.LayerNorm(embed_dim // heads)
        self.key_norm = nn.LayerNorm(embed_dim // heads)
        self.out = Scaled(embed_dim, embed_dim, factor)
        self.kernel: Kernel = attend

    def forward(
        self,
        tokens: Float[Tensor, "N T D"],
        groupings: Sequence[Segments],
        turn: Complex[Tensor, "N 1 1 half"],
        scale: Float[Tensor, " D"],
        frames: int,
        parts: int = 1,
    ) -> Float[Tensor, "N frames D"]:
        """What the last `frames` of each cell attend to, times `scale`. In several `parts`, one
        head attends after the other."""
        weight = self.qkv.matrix
        if parts == 1:
            mixed = self.mix(tokens, weight, groupings, turn, frames)
        else:
            own = weight.unflatten(0, (3, self.heads, -1)).unbind(1)
            each = (self.mix(tokens, w.flatten(0, 1), groupings, turn, frames) for w in own)
            mixed = joined(each, self.heads, axis=2)
        share = scale / len(groupings)
        # Scales go into the weights: one matrix, not all tokens, is multiplied.
        return linear(mixed.flatten(2), share[:, None] * self.out.matrix, scale * self.out.bias)

    def count(
        self, cost: Cost, groupings: Sequence[Segments], cells: int, times: int, frames: int
    ) -> None:
        """So many cells, of which the last `frames` of `times` are asked for."""
        part, width = "attention projections", self.qkv.in_features
        trains = matrix_trains(self.qkv)
        cost.product(part, cells * frames, width, width, trains=trains)
        cost.product(part, cells * times, width, 2 * width, trains=trains)
        cost.adapter(self.qkv)
        for segments in groupings:
            count_attention(cost, segments, times, frames, self.heads, width)
            if segments.time != "segment":
                cost.exchange(cells * frames * width, cells * times * width)
        cost.map(part, cells * frames, self.out)

    def mix(
        self,
        tokens: Float[Tensor, "N T D"],
        weight: Float[Tensor, "H3d D"],
        groupings: Sequence[Segments],
        turn: Complex[Tensor, "N 1 1 half"],
        frames: int,
    ) -> Queries:
        """What the heads with these weights attend to, summed over the groupings."""
        query, key, value = self.project(tokens, weight, frames)
        query, key = self.query_norm(query), self.key_norm(key)
        if any(segments.time != "segment" for segments in groupings):
            query, key = rotate(query, turn), rotate(key, turn)
        mixed = self.kernel(query, key, value, groupings[0])
        for segments in groupings[1:]:
            mixed = mixed + self.kernel(query, key, value, segments)
        return mixed

    def project(
        self, tokens: Float[Tensor, "N T D"], weight: Float[Tensor, "H3d D"], frames: int
    ) -> tuple[Queries, Heads, Heads]:
        """Queries of the last `frames`, keys and values of all."""
        if torch.is_autocast_enabled(tokens.device.type):
            dtype = torch.get_autocast_dtype(tokens.device.type)
            tokens, weight = tokens.to(dtype), weight.to(dtype)
        split = (-1, tokens.shape[2] // self.heads)
        if frames == tokens.shape[1]:
            query, key, value = Projections.apply(tokens, weight)
        else:
            asked = len(weight) // 3
            query = linear(tokens[:, -frames:], weight[:asked])
            key, value = linear(tokens, weight[asked:]).chunk(2, dim=-1)
        return query.unflatten(-1, split), key.unflatten(-1, split), value.unflatten(-1, split)


class Projections(torch.autograd.Function):
    """Tokens times each third of a matrix, as three tensors that are each in one piece.

    One product and its parts would have to be copied apart for the norms, and their gradients
    copied together again, at two to five per cent of a step.
    """

    @staticmethod
    def forward(ctx, tokens, weight):  # type: ignore[no-untyped-def]  # noqa: ANN001
        """`[N T D]` and `[3·D D]` to three of `[N T D]`."""
        # A frozen weight has no gradient, and then nothing asks for the tokens again.
        ctx.save_for_backward(tokens if ctx.needs_input_grad[1] else None, weight)
        return tuple(linear(tokens, part) for part in weight.chunk(3))

    @staticmethod
    def backward(ctx, *gradients):  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Gradients of tokens and weight, summed inside the products."""
        tokens, weight = ctx.saved_tensors
        shape = gradients[0].shape
        to_tokens, to_weight = None, None if tokens is None else torch.empty_like(weight)
        for i, (gradient, part) in enumerate(zip(gradients, weight.chunk(3), strict=True)):
            gradient = gradient.reshape(-1, shape[-1])
            if to_weight is not None:
                torch.mm(gradient.t(), tokens.flatten(0, 1), out=to_weight.chunk(3)[i])
            if to_tokens is None:
                to_tokens = gradient @ part
            else:
                torch.addmm(to_tokens, gradient, part, out=to_tokens)
        return to_tokens.view(shape), to_weight


class Share:
    """Which process computes which cells: here this one computes them all.

    With `parallel.sequence` the cells of one sample are spread over several: then
    `matey.train.parallel.sequence` puts its own share in place of this one.
    """

    def own(self, rows: Tensor) -> Tensor:
        """Of rows that stand for all cells, those of this process' cells."""
        return rows

    def all(self, rows: Tensor, cells: int) -> Tensor:
        """The rows of all `cells`, from those that each process has of its own."""
        return rows


def rotations(
    centre: Float[Tensor, "N 3"], width: int, axes: Sequence[int] = (0, 1, 2)
) -> Complex[Tensor, "N 1 1 half"]:
    """The turn of each pair of a head's channels, by where the cell is along some axes.

    Pairs turn with x, y and z in turn, 1, 2, 3, ... whole times across the domain: what two
    tokens make of each other depends on how far apart they are, also across periodic sides.
    Source: Su et al. (2021), on cell centres in three dimensions.
    """
    pair = torch.arange(width // 2, device=centre.device)
    order = sorted(axes, reverse=True)
    position = centre[:, order][:, pair % len(order)]
    angle = 2 * math.pi * position * (1 + pair // len(order))
    return torch.polar(torch.ones_like(angle), angle)[:, None, None]


def rotate(heads: Heads, turn: Complex[Tensor, "N 1 1 half"]) -> Heads:
    """Queries or keys with each pair of channels turned."""
    pairs = heads.to(turn.real.dtype).unflatten(-1, (-1, 2))
    return torch.view_as_real(torch.view_as_complex(pairs) * turn).flatten(-2)
