"""Attention within segments of packed tokens: one kernel for every scheme.

Axes: N cells in use, T times, D width, H heads, d width of a head; S segments, L cells of
one segment.
"""

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from matey.tokens.pack import Segments

Heads = Float[Tensor, "N T H d"]


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

    def forward(
        self,
        tokens: Float[Tensor, "N T D"],
        groupings: Sequence[Segments],
        turn: Complex[Tensor, "N 1 1 half"],
    ) -> Float[Tensor, "N T D"]:
        heads = rearrange(
            self.qkv(tokens), "N T (three H d) -> three N T H d", three=3, H=self.heads
        )
        query, key, value = heads.unbind(0)
        query, key = self.query_norm(query), self.key_norm(key)
        if any(segments.time != "segment" for segments in groupings):
            query, key = rotate(query, turn), rotate(key, turn)
        mixed = attend(query, key, value, groupings[0])
        for segments in groupings[1:]:
            mixed = mixed + attend(query, key, value, segments)
        if len(groupings) > 1:
            mixed = mixed / len(groupings)
        return self.out(rearrange(mixed, "N T H d -> N T (H d)"))


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


def attend(query: Heads, key: Heads, value: Heads, segments: Segments) -> Heads:
    """Attention of each token over the tokens of its own segment.

    One dense call where all segments have one length, else one call per segment: nothing
    is padded.
    """
    if segments.order is not None:
        query, key, value = (heads.index_select(0, segments.order) for heads in (query, key, value))
        mixed = attend(query, key, value, Segments(segments.lengths, segments.time))
        return mixed.index_select(0, torch.argsort(segments.order))
    times, lengths = query.shape[1], segments.lengths
    if segments.time == "segment":
        return _dense(query, key, value, "N T H d -> N H T d", T=times)
    inside = segments.time == "inside"
    pattern = "(S L) T H d -> S H (L T) d" if inside else "(S L) T H d -> (S T) H L d"
    if len(set(lengths)) == 1:
        return _dense(query, key, value, pattern, S=len(lengths), T=times)
    pieces = zip(query.split(lengths), key.split(lengths), value.split(lengths), strict=True)
    return torch.cat([_dense(q, k, v, pattern, S=1, T=times) for q, k, v in pieces])


def _dense(query: Heads, key: Heads, value: Heads, pattern: str, **sizes: int) -> Heads:
    """Attention over the last but one axis of the tensors rearranged by the pattern."""
    query, key, value = (rearrange(heads, pattern, **sizes) for heads in (query, key, value))
    mixed = scaled_dot_product_attention(query, key, value)
    before, after = pattern.split(" -> ")
    return rearrange(mixed, f"{after} -> {before}", **sizes)
