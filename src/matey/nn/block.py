"""The transformer block: the same for every scheme.

Axes: N cells in use, T times, D width.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn

from matey.config import ModelConfig
from matey.nn.attention import Attention
from matey.tokens.pack import Segments


class Block(nn.Module):
    """Pre-norm attention, one stage after the other, then the MLP; each scaled and skipped.

    `stages` is the number of attention stages of the scheme: 1 for ViT, 2 for SViT.
    """

    def __init__(self, config: ModelConfig, stages: int, drop_path: float) -> None:
        super().__init__()
        width = config.embed_dim
        self.drop_path = drop_path
        self.attentions = nn.ModuleList(Attention(width, config.heads) for _ in range(stages))
        self.attention_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(stages))
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, config.mlp_ratio * width),
            nn.GELU(),
            nn.Linear(config.mlp_ratio * width, width),
        )
        scales = torch.full((stages + 1, width), config.layer_scale)
        self.scales = nn.Parameter(scales)

    def forward(
        self,
        tokens: Float[Tensor, "N T D"],
        stages: Sequence[Sequence[Segments]],
        turn: Complex[Tensor, "N 1 1 half"],
        sample: Int[Tensor, " N"],
    ) -> Float[Tensor, "N T D"]:
        attention_scales, mlp_scale = self.scales[:-1], self.scales[-1]
        for attention, norm, scale, groupings in zip(
            self.attentions, self.attention_norms, attention_scales, stages, strict=True
        ):
            tokens = tokens + self.skip(scale * attention(norm(tokens), groupings, turn), sample)
        return tokens + self.skip(mlp_scale * self.mlp(self.mlp_norm(tokens)), sample)

    def skip(
        self, branch: Float[Tensor, "N T D"], sample: Int[Tensor, " N"]
    ) -> Float[Tensor, "N T D"]:
        """Drop path: in training, leave a branch out for whole samples at random."""
        if not self.training or self.drop_path == 0:
            return branch
        keep = 1 - self.drop_path
        samples = int(sample[-1]) + 1
        kept = torch.rand(samples, device=branch.device) < keep
        return branch * (kept / keep)[sample, None, None]
