"""Patches to tokens and back, one encoder and one decoder for each shape of patch.

Variables are mixed into a latent space by a learned vector per name. That is a linear map
before a linear map, so it is folded into the patch projection: no latent field is made.

Axes: B samples, T times, C variables, (Z, Y, X) grid points, M cells of one level
(_ where levels differ),
(z, y, x) points of a cell, P = z·y·x, E latent channels, D width.
"""

import math
from collections.abc import Sequence

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from matey.nn.embed import Named
from matey.tokens.lattice import Triple, all_patches, put_patches, take_patches
from matey.tokens.refine import RefinementPlan


class Tokenizer(nn.Module):
    """Encodes the leaves of a plan, each level by its own weights, and decodes them."""

    def __init__(self, embed_dim: int, latent_channels: int) -> None:
        super().__init__()
        self.embed_dim, self.latent_channels = embed_dim, latent_channels
        self.inputs = Named(latent_channels)
        self.outputs = Named(latent_channels)
        self.encoders = nn.ModuleDict()
        self.decoders = nn.ModuleDict()

    def add(self, patches: Sequence[Triple]) -> None:
        """Make encoders and decoders for the patch shapes that have none yet."""
        for patch in patches:
            if shape_key(patch) not in self.encoders:
                self.encoders[shape_key(patch)] = Encoder(
                    self.embed_dim, self.latent_channels, math.prod(patch)
                )
                self.decoders[shape_key(patch)] = Decoder(
                    self.embed_dim, self.latent_channels, math.prod(patch)
                )

    def encode(
        self, fields: Float[Tensor, "B T C Z Y X"], plan: RefinementPlan, names: Sequence[str]
    ) -> list[Float[Tensor, "_ T D"]]:
        """Tokens of each level's leaves. Cells that are not in use are not touched."""
        variables = self.inputs(names)
        levels = []
        for level, patch in enumerate(plan.sizes):
            used = plan.at(level)
            if len(plan.sizes) == 1:
                patches = all_patches(fields, patch)
            else:
                patches = take_patches(fields, patch, plan.sample[used], plan.corner[used])
            levels.append(self.encoders[shape_key(patch)](patches, variables))
        return levels

    def decode(
        self, levels: Sequence[Float[Tensor, "_ D"]], plan: RefinementPlan, names: Sequence[str]
    ) -> Float[Tensor, "B C Z Y X"]:
        """The fields that the leaves' tokens tile, for the named variables only."""
        variables = self.outputs(names)
        fields = levels[0].new_zeros(plan.samples, len(names), *plan.grid)
        for level, (patch, tokens) in enumerate(zip(plan.sizes, levels, strict=True)):
            used = plan.at(level)
            values = self.decoders[shape_key(patch)](tokens, variables)
            patches = values.unflatten(2, patch).to(fields.dtype)
            fields = put_patches(fields, patches, plan.sample[used], plan.corner[used])
        return fields


class Encoder(nn.Module):
    """A linear projection of one patch shape, behind the mixing of variables."""

    def __init__(self, embed_dim: int, latent_channels: int, points: int) -> None:
        super().__init__()
        # Tokens of about unit variance for normalised fields and unit variable vectors.
        scale = 1 / math.sqrt(latent_channels * points)
        self.weight = nn.Parameter(torch.randn(embed_dim, latent_channels, points) * scale)
        self.bias = nn.Parameter(torch.zeros(embed_dim))

    def forward(
        self, patches: Float[Tensor, "M T C z y x"], variables: Float[Tensor, "C E"]
    ) -> Float[Tensor, "M T D"]:
        folded = einsum(self.weight, variables, "D E P, C E -> D C P") / math.sqrt(len(variables))
        return linear(patches.flatten(2), folded.flatten(1), self.bias)


class Decoder(nn.Module):
    """The projection of a token to the points of its patch, in front of the variables."""

    def __init__(self, embed_dim: int, latent_channels: int, points: int) -> None:
        super().__init__()
        # Small first predictions: a tenth of the normalised fields.
        scale = 0.1 / math.sqrt(embed_dim * latent_channels)
        self.weight = nn.Parameter(torch.randn(latent_channels, points, embed_dim) * scale)
        self.bias = nn.Parameter(torch.zeros(latent_channels, points))

    def forward(
        self, tokens: Float[Tensor, "M D"], variables: Float[Tensor, "C E"]
    ) -> Float[Tensor, "M C P"]:
        folded = einsum(self.weight, variables, "E P D, C E -> C P D")
        bias = einsum(self.bias, variables, "E P, C E -> C P")
        values = linear(tokens, folded.flatten(0, 1), bias.flatten())
        return rearrange(values, "M (C P) -> M C P", C=len(variables))


def shape_key(patch: Triple) -> str:
    """The name of a patch shape in the weights: `1x16x16`."""
    return "x".join(str(points) for points in patch)
