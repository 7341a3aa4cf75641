"""Patches to tokens and back, one encoder and one decoder for each shape of patch.

Variables are mixed into a latent space by a learned vector per name. That is a linear map
before a linear map, so it is folded into the patch projection: no latent field is made.

Axes: B samples, T times, C variables, (Z, Y, X) grid points, M cells of one level (_ where
levels differ), (z, y, x) points of a cell, P = z·y·x, E latent channels, D width.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from matey.config import ModelConfig
from matey.fields import Inputs, SystemSpec
from matey.fields.inputs import periodic
from matey.nn.adapters.low_rank import adapted
from matey.nn.embed import Case, Named, Scaled
from matey.nn.operations import Cost
from matey.tokens.lattice import Triple, continued, cropped, patches_of, put_patches
from matey.tokens.pack import Packing
from matey.tokens.regions import joined, strip

Stem = Literal["linear", "hierarchical"]


class Tokenizer(nn.Module):
    """Encodes the cells in use, each level by its own weights, and decodes them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.inputs = Named(config.latent_channels)
        self.outputs = Named(config.latent_channels)
        self.encoders = nn.ModuleDict()
        self.decoders = nn.ModuleDict()

    def add(self, patches: Sequence[Triple]) -> None:
        """Make encoders and decoders for the patch shapes that have none yet."""
        for patch in patches:
            if shape_key(patch) not in self.encoders:
                stages = stem_stages(patch, self.config.stem)
                self.encoders[shape_key(patch)] = Encoder(self.config, stages)
                self.decoders[shape_key(patch)] = Decoder(self.config, stages)

    def add_system(self, spec: SystemSpec, patches: Sequence[Triple]) -> None:
        """Make the weights that a system needs and that are not there yet."""
        self.inputs.add([variable.name for variable in spec.variables])
        self.outputs.add(predicted_names(spec))
        self.add(patches)

    def named(self, ndim: int) -> tuple[Named, Named]:
        """The weights by name of what is read and of what is predicted."""
        return self.inputs, self.outputs

    def has(self, patch: Triple) -> bool:
        """Whether there are weights for a patch shape."""
        return shape_key(patch) in self.encoders

    def unused(self, spec: SystemSpec, patches: Sequence[Triple]) -> list[nn.Parameter]:
        """The weights that no batch of a system reaches: those of other names and patch shapes."""
        shapes = {shape_key(patch) for patch in patches}
        coders = (self.encoders, self.decoders)
        modules = [coder[key] for coder in coders for key in coder if key not in shapes]
        return [
            *self.inputs.others([variable.name for variable in spec.variables]),
            *self.outputs.others(predicted_names(spec)),
            *(parameter for module in modules for parameter in module.parameters()),
        ]

    def embed(
        self,
        fields: Float[Tensor, "B T C Z Y X"],
        inputs: Inputs,
        packing: Packing,
        case: Case,
    ) -> tuple[list[Float[Tensor, "_ T D"]], None]:
        """Tokens of each level; nothing goes past the blocks."""
        plan = packing.plan
        wide = continued(fields, plan.grid, periodic(inputs.boundaries), plan.before)
        return self.encode(wide, packing, [v.name for v in inputs.spec.variables]), None

    def predict(
        self,
        levels: Sequence[Float[Tensor, "_ D"]],
        features: Tensor | None,
        inputs: Inputs,
        packing: Packing,
        case: Case,
        rest: Float[Tensor, "B P Z Y X"] | float,
        coarse: bool,
    ) -> tuple[Tensor, Tensor]:
        """The sum of `rest` and what the tokens of each level say of the next frame; and that of
        the first level alone."""
        frames = self.decode(levels, packing, predicted_names(inputs.spec))
        here, before = inputs.values.shape[-3:], packing.plan.before
        frames = [cropped(frame, here, before) for frame in frames]
        frames[0] = frames[0] + rest
        return torch.stack(frames).sum(dim=0) if len(frames) > 1 else frames[0], frames[0]

    def encode(
        self, fields: Float[Tensor, "B T C Z Y X"], packing: Packing, names: Sequence[str]
    ) -> list[Float[Tensor, "_ T D"]]:
        """Tokens of each level's cells in use. The others are not embedded."""
        variables = self.inputs(names)
        levels = []
        for level, (patch, used) in enumerate(zip(packing.plan.sizes, packing.levels, strict=True)):
            patches = patches_of(fields, patch, packing.plan.index_of(level, used))
            encoder = self.encoders[shape_key(patch)]
            tokens = (encoder(each, variables) for each in patches)
            levels.append(joined(tokens, len(used), axis=0))
        return levels

    def decode(
        self, levels: Sequence[Float[Tensor, "_ D"]], packing: Packing, names: Sequence[str]
    ) -> list[Float[Tensor, "B C Z Y X"]]:
        """What each level's cells in use say of the named variables, 0 elsewhere.

        Where cells tile the domain, the sum of the levels is the field.
        """
        variables = self.outputs(names)
        plan, fields = packing.plan, []
        for level, (patch, used) in enumerate(zip(plan.sizes, packing.levels, strict=True)):
            decoder = self.decoders[shape_key(patch)]
            assert isinstance(decoder, Decoder)
            make = partial(decoder.patches, levels[level], variables, patch)
            index = plan.index_of(level, used)
            fields.append(put_patches(make, patch, index, plan.samples, plan.grid))
        return fields

    def count(
        self, cost: Cost, packing: Packing, spec: SystemSpec, times: int, coarse: bool
    ) -> None:
        """Patches of a system's fields to tokens, and the last frame's tokens to patches."""
        inputs, outputs = len(spec.variables), len(spec.predicted)
        for patch, used in zip(packing.plan.sizes, packing.levels, strict=True):
            key: str = shape_key(patch)
            encoder, decoder = self.encoders[key], self.decoders[key]
            assert isinstance(encoder, Encoder)
            assert isinstance(decoder, Decoder)
            encoder.count(cost, len(used) * times, patch, inputs)
            decoder.count(cost, len(used), outputs)


class Encoder(nn.Module):
    """Patches of one shape to tokens, behind the mixing of variables.

    `stages` are the shapes that points, and then what came of them, are merged in; with one
    stage the map is linear. Norms see one piece of a patch at a time, so that a patch becomes
    the same token whatever its neighbours are.
    """

    ADAPTABLE: ClassVar = {"weight": 1}

    def __init__(self, config: ModelConfig, stages: Sequence[Triple]) -> None:
        super().__init__()
        self.stages = tuple(stages)
        latent, inner = config.latent_channels, config.embed_dim // 4
        first, *widths = [inner] * (len(stages) - 1) + [config.embed_dim]
        # Tokens of about unit variance for normalised fields and unit variable vectors.
        points = math.prod(stages[0])
        scale = 1 / math.sqrt(latent * points)
        self.factor = config.latent_factor
        self.weight = nn.Parameter(torch.randn(first, latent, points) * (scale / self.factor))
        self.bias = nn.Parameter(torch.zeros(first))
        self.norms = nn.ModuleList(nn.LayerNorm(inner) for _ in stages[1:])
        self.linears = nn.ModuleList(
            Scaled(inner * math.prod(stage), width, config.rate_factor)
            for stage, width in zip(stages[1:], widths, strict=True)
        )

    def forward(
        self, patches: Float[Tensor, "M T C z y x"], variables: Float[Tensor, "C E"]
    ) -> Float[Tensor, "M T D"]:
        folded = einsum(adapted(self), variables, "D E P, C E -> D C P")
        folded = folded / (math.sqrt(len(variables)) / self.factor)
        tokens = linear(merge(patches, self.stages[0]), folded.flatten(1), self.bias)
        for norm, stage, project in zip(self.norms, self.stages[1:], self.linears, strict=True):
            tokens = project(merge(gelu(norm(tokens)).movedim(-1, 2), stage))
        return tokens.flatten(1, 4)

    def count(self, cost: Cost, rows: int, patch: Triple, variables: int) -> None:
        """So many patches, of fields that need no gradient."""
        first, latent, points = self.weight.shape
        cost.product("encode", first * points, latent, variables)  # variables folded in
        cost.adapter(self)
        pieces = rows * math.prod(patch) // points
        cost.product("encode", pieces, variables * points, first, fields=True)
        for stage, project in zip(self.stages[1:], self.linears, strict=True):
            pieces //= math.prod(stage)
            cost.map("encode", pieces, project)


class Decoder(nn.Module):
    """Tokens to the points of their patches, in front of the variables: an encoder reversed."""

    ADAPTABLE: ClassVar = {"weight": 2}

    def __init__(self, config: ModelConfig, stages: Sequence[Triple]) -> None:
        super().__init__()
        self.stages = tuple(stages)
        latent, inner = config.latent_channels, config.embed_dim // 4
        widths = [config.embed_dim, *([inner] * (len(stages) - 1))]
        self.linears = nn.ModuleList(
            Scaled(width, inner * math.prod(stage), config.rate_factor)
            for width, stage in zip(widths, self.stages[:0:-1], strict=False)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(inner) for _ in stages[1:])
        # Small first predictions: a tenth of the normalised fields.
        points, last = math.prod(stages[0]), widths[-1]
        scale = 0.1 / math.sqrt(last * latent)
        self.factor = config.rate_factor * config.latent_factor
        self.weight = nn.Parameter(torch.randn(latent, points, last) * (scale / self.factor))
        self.bias = nn.Parameter(torch.zeros(latent, points))

    def forward(
        self, tokens: Float[Tensor, "M D"], variables: Float[Tensor, "C E"]
    ) -> Float[Tensor, "M C P"]:
        folded = einsum(adapted(self), variables, "E P D, C E -> C P D")
        folded = folded * self.factor if self.factor != 1 else folded
        bias = einsum(self.bias, variables, "E P, C E -> C P")
        pieces = tokens[:, None, None, None]
        for norm, stage, project in zip(self.norms, self.stages[:0:-1], self.linears, strict=True):
            pieces = gelu(norm(divide(project(pieces), stage)))
        values = linear(pieces, folded.flatten(0, 1), bias.flatten())
        return rearrange(divide(values, self.stages[0]), "M z y x C -> M C (z y x)")

    def patches(
        self,
        tokens: Float[Tensor, "M D"],
        variables: Float[Tensor, "C E"],
        patch: Triple,
        first: int,
        last: int,
    ) -> Float[Tensor, "_ C z y x"]:
        """What some of the tokens say of the points of their patches."""
        values = self(strip(tokens, 0, (first, last)), variables)
        return values.to(variables.dtype).unflatten(2, patch)  # out of autocast

    def count(self, cost: Cost, rows: int, variables: int) -> None:
        """So many tokens."""
        latent, points, last = self.weight.shape
        cost.product("decode", last * points, latent, variables)  # variables folded in
        cost.adapter(self)
        for stage, project in zip(self.stages[:0:-1], self.linears, strict=True):
            cost.map("decode", rows, project)
            rows *= math.prod(stage)
        cost.product("decode", rows, last, variables * points)


def merge(patches: Float[Tensor, "M T C z y x"], piece: Triple) -> Float[Tensor, "M T ..."]:
    """The channels of all points of each piece of the patches side by side, `[M T Z Y X C·P]`."""
    z, y, x = piece
    pattern = "M T C (Z z) (Y y) (X x) -> M T Z Y X (C z y x)"
    return rearrange(patches, pattern, z=z, y=y, x=x)


def divide(pieces: Float[Tensor, "M Z Y X CP"], piece: Triple) -> Float[Tensor, "M ..."]:
    """Channels dealt out to the points of each piece, `[M Z·z Y·y X·x C]`: `merge` reversed."""
    z, y, x = piece
    pattern = "M Z Y X (C z y x) -> M (Z z) (Y y) (X x) C"
    return rearrange(pieces, pattern, z=z, y=y, x=x)


def stem_stages(patch: Triple, stem: Stem) -> list[Triple]:
    """The shapes that a patch is merged in: one, or up to three whose first is the largest.

    A patch of 16 is merged by 4, 2 and 2: little is computed at full resolution.
    """
    sizes = [points for points in patch if points > 1]
    later = sum(all(n % factor == 0 and n > factor for n in sizes) for factor in (2, 4) if sizes)
    if stem == "linear" or later == 0:
        return [patch]
    halves: Triple = tuple(2 if points > 1 else 1 for points in patch)  # type: ignore[assignment]
    first: Triple = tuple(points // 2**later if points > 1 else 1 for points in patch)  # type: ignore[assignment]
    return [first] + [halves] * later


def predicted_names(spec: SystemSpec) -> list[str]:
    """Names of the variables that change in time."""
    return [spec.variables[i].name for i in spec.predicted]


def shape_key(patch: Triple) -> str:
    """The name of a patch shape in the weights: `1x16x16`."""
    return "x".join(str(points) for points in patch)
