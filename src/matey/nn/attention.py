"""Multi-head attention of packed tokens: what a token asks, and where it is, for the kernel.

Axes: N cells in use, T times, D width, H heads, d width of a head.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn.functional import linear

from matey.nn.kernels import Heads, Kernel, Queries, attend
from matey.tokens.pack import Segments


class Attention(nn.Module):
    """Multi-head attention with normalised queries and keys.

    With several groupings (the axes of a grid, say) each attends apart with the same
    weights, and the results are averaged.
    """

    def __init__(self, embed_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim, bias=False)
        self.query_norm = nn.LayerNorm(embed_dim // heads)
        self.key_norm = nn.LayerNorm(embed_dim // heads)
        self.out = nn.Linear(embed_dim, embed_dim)
        self.kernel: Kernel = attend

    def forward(
        self,
        tokens: Float[Tensor, "N T D"],
        groupings: Sequence[Segments],
        turn: Complex[Tensor, "N 1 1 half"],
        scale: Float[Tensor, " D"],
        frames: int,
    ) -> Float[Tensor, "N frames D"]:
        """What the last `frames` of each cell attend to, times `scale`."""
        query, key, value = self.project(tokens, frames)
        query, key = self.query_norm(query), self.key_norm(key)
        if any(segments.time != "segment" for segments in groupings):
            query, key = rotate(query, turn), rotate(key, turn)
        mixed = self.kernel(query, key, value, groupings[0])
        for segments in groupings[1:]:
            mixed = mixed + self.kernel(query, key, value, segments)
        share = scale / len(groupings)
        # Scales go into the weights: one matrix, not all tokens, is multiplied.
        return linear(mixed.flatten(2), share[:, None] * self.out.weight, scale * self.out.bias)

    def project(self, tokens: Float[Tensor, "N T D"], frames: int) -> tuple[Queries, Heads, Heads]:
        """Queries of the last `frames`, keys and values of all: in one product if that is all."""
        split = (-1, self.heads, tokens.shape[2] // self.heads)
        if frames == tokens.shape[1]:
            query, key, value = self.qkv(tokens).unflatten(-1, split).unbind(2)
            return query, key, value
        width = tokens.shape[2]
        query = linear(tokens[:, -frames:], self.qkv.weight[:width]).unflatten(-1, split)
        pair = linear(tokens, self.qkv.weight[width:]).unflatten(-1, split)
        key, value = pair.unbind(2)
        return query.squeeze(2), key, value


def rotations(centre: Float[Tensor, "N 3"], width: int) -> Complex[Tensor, "N 1 1 half"]:
    """The turn of each pair of a head's channels, by where the cell is.

    Pairs turn with x, y and z in turn, 1, 2, 3, ... whole times across the domain: what two
    tokens make of each other depends on how far apart they are, also across periodic sides.
    Source: Su et al. (2021), on cell centres in three dimensions.
    """
    pair = torch.arange(width // 2, device=centre.device)
    position = centre[:, [2, 1, 0]].float()[:, pair % 3]
    angle = 2 * math.pi * position * (1 + pair // 3)
    return torch.polar(torch.ones_like(angle), angle)[:, None, None]


def rotate(heads: Heads, turn: Complex[Tensor, "N 1 1 half"]) -> Heads:
    """Queries or keys with each pair of channels turned."""
    pairs = heads.float().unflatten(-1, (-1, 2))
    return torch.view_as_real(torch.view_as_complex(pairs) * turn).flatten(-2)
