"""The local path around the tokens: fields to features, patches of features to tokens and back,
and features to increments.

Axes: B samples, T times, C variables, P predicted variables, K channels, (Z, Y, X) grid points or
pieces, M cells of one level (_ where levels differ), I features of a cell, D width.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from matey.config import ModelConfig
from matey.fields import Inputs, SystemSpec
from matey.fields.inputs import periodic
from matey.nn.adapters.low_rank import adapted
from matey.nn.embed import Case, Named
from matey.nn.local.path import Local
from matey.nn.local.usual import DEVIATION
from matey.nn.operations import Cost
from matey.nn.tokenizer import predicted_names, shape_key
from matey.tokens.lattice import Triple, continued, cropped, patches_of, put_patches
from matey.tokens.pack import Packing
from matey.tokens.refine import RefinementPlan
from matey.tokens.regions import joined, strip


class Sandwich(nn.Module):
    """A local path for each number of dimensions, and between its halves the ends of the tokens.

    The `history` is folded into one frame of features.
    """

    def __init__(self, config: ModelConfig, history: int) -> None:
        super().__init__()
        self.config, self.history = config, history
        self.width, self.piece = config.local, config.piece
        self.paths = nn.ModuleDict()
        self.ends = nn.ModuleDict()

    def add_system(self, spec: SystemSpec, patches: Sequence[Triple]) -> None:
        """Make the weights that a system needs and that are not there yet."""
        if str(spec.ndim) not in self.paths:
            self.paths[str(spec.ndim)] = Local(spec.ndim, self.history, self.config)
        self.path(spec.ndim).add([v.name for v in spec.variables], predicted_names(spec))
        for patch in patches:
            if shape_key(patch) not in self.ends:
                inner = self.width * math.prod(self.pieces(patch))
                sizes = inner, self.config.embed_dim, self.config.rate_factor
                self.ends[shape_key(patch)] = Ends(*sizes)

    def path(self, ndim: int) -> Local:
        """The local path for fields of so many dimensions."""
        path = self.paths[str(ndim)]
        assert isinstance(path, Local)
        return path

    def pieces(self, points: Triple) -> Triple:
        """How many pieces along Z, Y and X hold so many points."""
        z, y, x = (-(-count // self.piece) for count in points)
        return z, y, x

    def before(self, plan: RefinementPlan) -> Triple:
        """How many pieces of the lattice lie before the domain."""
        assert all(points % self.piece == 0 for points in plan.before)
        return self.pieces(plan.before)

    def named(self, ndim: int) -> tuple[Named, Named]:
        """The weights by name of what is read and of what is predicted."""
        return self.path(ndim).inputs, self.path(ndim).outputs

    def unused(self, spec: SystemSpec, patches: Sequence[Triple]) -> list[nn.Parameter]:
        """The weights that no batch of a system reaches: those of other names, patch shapes and
        dimensions."""
        shapes = {shape_key(patch) for patch in patches}
        modules = [ends for key, ends in self.ends.items() if key not in shapes]
        modules += [path for key, path in self.paths.items() if key != str(spec.ndim)]
        inputs, outputs = self.named(spec.ndim)
        return [
            *inputs.others([variable.name for variable in spec.variables]),
            *outputs.others(predicted_names(spec)),
            *(parameter for module in modules for parameter in module.parameters()),
        ]

    def has(self, patch: Triple) -> bool:
        """Whether there are weights for a patch shape."""
        return shape_key(patch) in self.ends

    def embed(
        self,
        fields: Float[Tensor, "B T C Z Y X"],
        inputs: Inputs,
        packing: Packing,
        case: Case,
    ) -> tuple[list[Float[Tensor, "_ 1 D"]], Float[Tensor, "B K z y x"]]:
        """Tokens of each level, and the features, which go past the blocks."""
        features = self.read(fields, inputs, case)
        plan, wraps = packing.plan, periodic(inputs.boundaries)
        wide = continued(features, self.pieces(plan.grid), wraps, self.before(plan))
        return self.encode(wide, packing), features

    def predict(
        self,
        levels: Sequence[Float[Tensor, "_ D"]],
        features: Float[Tensor, "B K z y x"] | None,
        inputs: Inputs,
        packing: Packing,
        case: Case,
        rest: Float[Tensor, "B P Z Y X"] | float,
        coarse: bool,
    ) -> tuple[Tensor, Tensor]:
        """The sum of `rest` and what features say after the tokens of all levels; and after those
        of the first level alone, if the `coarse` pass is asked for."""
        assert features is not None
        pieces, before = features.shape[2:], self.before(packing.plan)
        added = [cropped(each, pieces, before) for each in self.decode(levels, packing)]
        values = features + sum(added[1:], added[0])
        if coarse:
            output = rest + self.write(values, inputs, case)
            return output, rest + self.write(features + added[0], inputs, case)
        del added
        output = rest + self.write(values, inputs, case)
        return output, output

    def read(
        self, fields: Float[Tensor, "B T C Z Y X"], inputs: Inputs, case: Case
    ) -> Float[Tensor, "B K z y x"]:
        """The features of normalised fields."""
        spec, grid = inputs.spec, self.pieces(tuple(fields.shape[3:]))  # type: ignore[arg-type]
        active = fields.reshape(*fields.shape[:3], *fields.shape[6 - spec.ndim :])
        sides = inputs.boundaries[:, 3 - spec.ndim :]
        names = [variable.name for variable in spec.variables]
        deviation = case.ratios[:, :, DEVIATION]
        share = None if case.space is None else case.space.volumes
        if share is not None:
            share = share.reshape(len(share), 1, *active.shape[3:]).to(active)
        features = self.path(spec.ndim).read(active, deviation, names, sides, case.vector, share)
        return features.reshape(*features.shape[:2], *grid)

    def encode(
        self, features: Float[Tensor, "B K Z Y X"], packing: Packing
    ) -> list[Float[Tensor, "_ 1 D"]]:
        """Tokens of each level's cells in use. The others are not embedded."""
        levels = []
        for level, (patch, used) in enumerate(zip(packing.plan.sizes, packing.levels, strict=True)):
            index = packing.plan.index_of(level, used)
            patches = patches_of(features[:, None], self.pieces(patch), index)
            tokens = (self.ends_of(patch).encode(each.flatten(2)) for each in patches)
            levels.append(joined(tokens, len(used), axis=0))
        return levels

    def decode(
        self, levels: Sequence[Float[Tensor, "_ D"]], packing: Packing
    ) -> list[Float[Tensor, "B K Z Y X"]]:
        """What each level's cells in use add to the features, 0 elsewhere."""
        plan, added = packing.plan, []
        for level, (patch, used) in enumerate(zip(plan.sizes, packing.levels, strict=True)):
            make = partial(self.ends_of(patch).patches, levels[level], self.pieces(patch))
            index, pieces = plan.index_of(level, used), self.pieces(patch)
            added.append(put_patches(make, pieces, index, plan.samples, self.pieces(plan.grid)))
        return added

    def write(
        self,
        features: Float[Tensor, "B K z y x"],
        inputs: Inputs,
        case: Case,
    ) -> Float[Tensor, "B P Z Y X"]:
        """The increments that features stand for."""
        spec = inputs.spec
        active = features.reshape(*features.shape[:2], *features.shape[5 - spec.ndim :])
        sides = inputs.boundaries[:, 3 - spec.ndim :]
        deviation = case.ratios[:, list(spec.predicted), DEVIATION]
        names = predicted_names(spec)
        change = self.path(spec.ndim).write(active, deviation, names, sides, case.vector)
        still = (1,) * (3 - spec.ndim)
        change = change.float().reshape(*change.shape[:2], *still, *change.shape[2:])
        return cropped(change, inputs.values.shape[-3:])

    def ends_of(self, patch: Triple) -> "Ends":
        """The weights of a patch shape."""
        ends = self.ends[shape_key(patch)]
        assert isinstance(ends, Ends)
        return ends

    def count(
        self, cost: Cost, packing: Packing, spec: SystemSpec, times: int, coarse: bool
    ) -> None:
        """Add the operations of a step of the local path, and of the tokens' ends."""
        plan = packing.plan
        points = plan.domain[3 - spec.ndim :]
        sizes = (len(spec.variables), len(spec.predicted), 1 + coarse)
        self.path(spec.ndim).count(cost, plan.samples, points, *sizes)
        for patch, used in zip(plan.sizes, packing.levels, strict=True):
            inner, ends = self.width * math.prod(self.pieces(patch)), self.ends_of(patch)
            cost.product("encode", len(used), inner, self.config.embed_dim)
            cost.product("decode", len(used), self.config.embed_dim, inner)
            for name in ends.ADAPTABLE:
                cost.adapter(ends, name)


class Ends(nn.Module):
    """Features of a patch to a token, and a token to what it adds to them.

    Weights of about unit size times an explicit size, so that a step of Adam moves what comes out
    as far at any width. `factor` as in `ModelConfig.rate_factor`.
    """

    ADAPTABLE: ClassVar = {"into": 1, "out": 1}

    def __init__(self, inner: int, embed_dim: int, factor: float) -> None:
        super().__init__()
        start = math.sqrt(factor)
        self.size = 0.5 * start / math.sqrt(embed_dim)
        self.into = nn.Parameter(torch.randn(embed_dim, inner))
        self.out = nn.Parameter(torch.randn(inner, embed_dim) / start)
        self.bias = nn.Parameter(torch.zeros(inner))

    def encode(self, patches: Float[Tensor, "M 1 I"]) -> Float[Tensor, "M 1 D"]:
        """Tokens of about the features' size."""
        return linear(patches, adapted(self, "into") / math.sqrt(self.into.shape[1]))

    def decode(self, tokens: Float[Tensor, "M D"]) -> Float[Tensor, "M I"]:
        """Half as large as the tokens."""
        return linear(tokens, adapted(self, "out") * self.size, self.bias)

    def patches(
        self, tokens: Float[Tensor, "M D"], pieces: Triple, first: int, last: int
    ) -> Float[Tensor, "_ K z y x"]:
        """What some of the tokens add to the features of their cells, of so many pieces."""
        return self.decode(strip(tokens, 0, (first, last))).unflatten(1, (-1, *pieces))
