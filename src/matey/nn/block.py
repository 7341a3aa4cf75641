"""The transformer block: the same for every scheme.

Axes: N cells in use, T times, D width, B samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear

from matey.config import ModelConfig, Scheme
from matey.nn.attention import Attention
from matey.nn.embed import Case, Scaled
from matey.nn.operations import Cost
from matey.tokens.pack import Packing, Segments, TokenSequence
from matey.tokens.regions import joined, spans


@dataclass(frozen=True)
class Surroundings:
    """What a block is told of its tokens: who attends to whom, where they are, whose they are.

    `stages` are the groupings of each stage, `turn` is from `rotations`, `sample` the sample
    of each cell, of `samples` in all. In several `parts`, heads attend one after the other, and so
    many parts of the tokens go through the MLP.
    """

    stages: Sequence[Sequence[Segments]]
    turn: Complex[Tensor, "N 1 1 half"]
    sample: Int[Tensor, " N"]
    samples: int
    parts: int = 1


@dataclass(frozen=True)
class Layout:
    """Which cells of a batch are tokens, where they are, and what a block of each scheme is told
    of them."""

    packing: Packing
    sequence: TokenSequence
    around: Mapping[Scheme, Surroundings]


@dataclass(frozen=True)
class Given:
    """What blocks are given, and what goes past them: the case, and features of a local path."""

    tokens: Float[Tensor, "N T D"]
    case: Case
    features: Float[Tensor, "B K z y x"] | None


class Block(nn.Module):
    """Pre-norm attention, one stage after the other, then the MLP; each scaled and skipped.

    `stages` is the number of attention stages of the scheme: 1 for ViT, 2 for SViT and AViT.
    """

    def __init__(self, config: ModelConfig, stages: int, drop_path: float) -> None:
        super().__init__()
        width, factor = config.embed_dim, config.rate_factor
        self.drop_path = drop_path
        self.attentions = nn.ModuleList(
            Attention(width, config.heads, factor) for _ in range(stages)
        )
        self.attention_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(stages))
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp_in = Scaled(width, config.mlp_ratio * width, factor)
        self.mlp_out = Scaled(config.mlp_ratio * width, width, factor)
        self.scales = nn.Parameter(torch.full((stages + 1, width), config.layer_scale))

    def forward(
        self, tokens: Float[Tensor, "N T D"], around: Surroundings, frames: int
    ) -> Float[Tensor, "N frames D"]:
        """The last `frames` of the tokens, after this block. All are attended to."""
        parts = zip(self.attentions, self.attention_norms, self.scales, around.stages, strict=False)
        for attention, norm, scale, groupings in parts:
            branch = attention(norm(tokens), groupings, around.turn, scale, frames, around.parts)
            tokens = tokens[:, -frames:] + self.skip(branch, around)
        if around.parts == 1:
            return tokens + self.skip(self.mlp(tokens), around)
        each = (self.mlp(tokens[slice(*rows)]) for rows in spans(len(tokens), around.parts))
        return tokens + self.skip(joined(each, len(tokens), axis=0), around)

    def mlp(self, tokens: Float[Tensor, "N T D"]) -> Float[Tensor, "N T D"]:
        """The second branch."""
        scale = self.scales[-1]
        hidden = nn.functional.gelu(self.mlp_in(self.mlp_norm(tokens)))
        # The scale goes into the weights, as in the attention.
        return linear(hidden, scale[:, None] * self.mlp_out.matrix, scale * self.mlp_out.bias)

    def count(
        self, cost: Cost, stages: Sequence[Sequence[Segments]], cells: int, times: int, frames: int
    ) -> None:
        """So many cells, of which the last `frames` of `times` are asked for."""
        for attention, groupings in zip(self.attentions, stages, strict=True):
            assert isinstance(attention, Attention)
            attention.count(cost, groupings, cells, times, frames)
            times = frames
        cost.map("mlp", cells * frames, self.mlp_in)
        cost.map("mlp", cells * frames, self.mlp_out)

    def skip(self, branch: Float[Tensor, "N T D"], around: Surroundings) -> Float[Tensor, "N T D"]:
        """Drop path: in training, leave a branch out for whole samples at random."""
        if not self.training or self.drop_path == 0:
            return branch
        keep = 1 - self.drop_path
        kept = torch.rand(around.samples, device=branch.device) < keep
        return branch * (kept / keep)[around.sample, None, None]
