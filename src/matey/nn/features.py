"""Patches of features to tokens and back: the tokenizer behind the local path.

Axes: B samples, K channels, (Z, Y, X) pieces, M cells of one level (_ where levels differ),
P pieces of a cell, D width.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from matey.nn.tokenizer import shape_key
from matey.tokens.lattice import Triple, all_patches, join_patches
from matey.tokens.pack import Packing


class FeatureTokenizer(nn.Module):
    """Encodes the cells in use, each level by its own weights, and decodes them."""

    def __init__(self, embed_dim: int, width: int, piece: int) -> None:
        super().__init__()
        self.embed_dim, self.width, self.piece = embed_dim, width, piece
        self.ends = nn.ModuleDict()

    def add(self, patches: Sequence[Triple]) -> None:
        """Make weights for the patch shapes that have none yet."""
        for patch in patches:
            if shape_key(patch) not in self.ends:
                inner = self.width * math.prod(self.pieces(patch))
                self.ends[shape_key(patch)] = Ends(inner, self.embed_dim)

    def pieces(self, points: Triple) -> Triple:
        """How many pieces lie along Z, Y and X."""
        z, y, x = (max(1, count // self.piece) for count in points)
        return z, y, x

    def ends_of(self, patch: Triple) -> "Ends":
        """The weights of a patch shape."""
        ends = self.ends[shape_key(patch)]
        assert isinstance(ends, Ends)
        return ends

    def encode(
        self, features: Float[Tensor, "B K Z Y X"], packing: Packing
    ) -> list[Float[Tensor, "_ 1 D"]]:
        """Tokens of each level's cells in use. The others are not embedded."""
        levels = []
        for level, (patch, used) in enumerate(zip(packing.plan.sizes, packing.levels, strict=True)):
            patches = all_patches(features[:, None], self.pieces(patch))
            if level > 0 or len(used) < len(patches):  # else they are all there, in order
                patches = patches.index_select(0, packing.plan.place(level, used))
            levels.append(self.ends_of(patch).encode(patches.flatten(2)))
        return levels

    def decode(
        self, levels: Sequence[Float[Tensor, "_ D"]], packing: Packing
    ) -> list[Float[Tensor, "B K Z Y X"]]:
        """What each level's cells in use add to the features, 0 elsewhere."""
        plan, fields = packing.plan, []
        for level, (patch, used) in enumerate(zip(plan.sizes, packing.levels, strict=True)):
            patches = self.ends_of(patch).decode(levels[level])
            cells = plan.samples * math.prod(plan.grid) // math.prod(patch)
            if level > 0 or len(used) < cells:
                everywhere = patches.new_zeros(cells, patches.shape[1])
                patches = everywhere.index_copy(0, plan.place(level, used), patches)
            patches = patches.unflatten(1, (self.width, *self.pieces(patch)))
            fields.append(join_patches(patches, self.pieces(plan.grid)))
        return fields


class Ends(nn.Module):
    """Features of a patch to a token, and a token to what it adds to them.

    Unit weights times an explicit factor, so that a step of Adam moves what comes out as far at
    any width.
    """

    def __init__(self, inner: int, embed_dim: int) -> None:
        super().__init__()
        self.into = nn.Parameter(torch.randn(embed_dim, inner))
        self.out = nn.Parameter(torch.randn(inner, embed_dim))
        self.bias = nn.Parameter(torch.zeros(inner))

    def encode(self, patches: Float[Tensor, "M 1 KP"]) -> Float[Tensor, "M 1 D"]:
        """Tokens of about the features' size."""
        return linear(patches, self.into / math.sqrt(self.into.shape[1]))

    def decode(self, tokens: Float[Tensor, "M D"]) -> Float[Tensor, "M KP"]:
        """Half as large as the tokens."""
        return linear(tokens, self.out * (0.5 / math.sqrt(self.out.shape[1])), self.bias)
