"""What a token is told besides its patch: where, when, at which boundary, of which case.

Axes: N cells in use, T times, D width, B samples, P parameters, F features, C variables, S sizes,
W numbers of noise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from matey.fields import CUT, Boundary
from matey.fields.grid import Points
from matey.nn.adapters.low_rank import adapted
from matey.nn.operations import Cost
from matey.tokens.pack import TokenSequence


class Named(nn.Module):
    """A learned vector for each name. A new name is a new key: nothing old changes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.vectors = nn.ParameterDict()

    def add(self, names: Sequence[str]) -> None:
        """Make vectors, of unit normal entries, for the names that have none yet."""
        for name in names:
            if name not in self:
                self.vectors[_key(name)] = nn.Parameter(torch.randn(self.width))

    def forward(self, names: Sequence[str]) -> Float[Tensor, "names width"]:
        """The vectors of some names, stacked in their order."""
        return torch.stack([self.vectors[_key(name)] for name in names])

    def vector(self, name: str) -> nn.Parameter:
        """The vector of one name."""
        return self.vectors[_key(name)]

    def others(self, names: Sequence[str]) -> list[nn.Parameter]:
        """The vectors of all other names."""
        keys = {_key(name) for name in names}
        return [vector for key, vector in self.vectors.items() if key not in keys]

    def __contains__(self, name: str) -> bool:
        return _key(name) in self.vectors

    def names(self) -> list[str]:
        """All names that have a vector."""
        return [key.removesuffix("_") for key in self.vectors]


def _key(name: str) -> str:
    # A trailing underscore keeps names such as `keys` apart from a dictionary's own attributes.
    return f"{name}_"


class Scaled(nn.Linear):
    """A linear map by `factor` times its weights, which start as much larger.

    It begins as any other, but a step of Adam, which moves each weight by about the learning rate,
    moves its output by `factor` times as much.
    """

    ADAPTABLE: ClassVar = {"weight": 1}

    def __init__(self, inputs: int, outputs: int, factor: float, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self.factor = factor
        self.weight.data /= factor

    @property
    def matrix(self) -> Float[Tensor, "outputs inputs"]:
        """What values are multiplied by."""
        weight = adapted(self)
        return weight if self.factor == 1 else weight * self.factor

    def forward(self, values: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
        return nn.functional.linear(values, self.matrix, self.bias)


def case_map(case: int, width: int, factor: float) -> Scaled:
    """A map of the vector that tells the case to `width` numbers, by which features are scaled and
    gates shifted: small at the start."""
    made = Scaled(case, width, factor)
    nn.init.normal_(made.weight, std=0.3 / math.sqrt(case) / factor)
    nn.init.zeros_(made.bias)
    return made


def waves(position: Float[Tensor, "*axes"], count: int) -> Float[Tensor, "*axes F"]:
    """Sines and cosines of `count` whole periods and fewer: smooth across periodic sides."""
    angle = 2 * math.pi * position[..., None] * torch.arange(1, count + 1, device=position.device)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def octaves(value: Float[Tensor, "*axes"], count: int) -> Float[Tensor, "*axes F"]:
    """The value, and sines and cosines of its multiples 2, 1, 1/2, 1/4, ...: any range."""
    angle = value[..., None] * 2.0 ** (1 - torch.arange(count, device=value.device))
    return torch.cat([value[..., None], angle.sin(), angle.cos()], dim=-1)


class Position(nn.Module):
    """Where and when a token is: centre, size, time, and the boundaries it touches.

    Unless `absolute`, only what does not change when a periodic domain is shifted. With
    `jitter` the seam of a periodic axis is no place of the domain, and is not marked.
    """

    CENTRE, SIZE, TIME = 8, 6, 6  # frequencies of each

    def __init__(self, embed_dim: int, absolute: bool, jitter: bool) -> None:
        super().__init__()
        self.absolute, self.mark_seams = absolute, absolute and not jitter
        self.centre = nn.Linear(3 * 2 * self.CENTRE, embed_dim)
        self.size = nn.Linear(3 * (2 * self.SIZE + 1), embed_dim, bias=False)
        self.time = nn.Linear(2 * self.TIME + 1, embed_dim, bias=False)
        self.sides = nn.Linear(3 * 2 * len(Boundary), embed_dim, bias=False)
        for linear in (self.centre, self.size, self.time, self.sides):
            nn.init.normal_(linear.weight, std=0.5 / math.sqrt(linear.in_features))

    def forward(
        self,
        tokens: TokenSequence,
        sides: Int[Tensor, "B 3 2"],
        offset: Float[Tensor, " 3"],
    ) -> Float[Tensor, "N T D"]:
        """`offset` is how far the fields were shifted, as a fraction of the domain."""
        place = self.size(octaves(tokens.size.log2(), self.SIZE).flatten(1))
        touched = touched_sides(tokens, sides)
        if self.absolute:
            place = place + self.centre(waves(tokens.centre - offset, self.CENTRE).flatten(1))
        if not self.mark_seams:
            kinds = torch.arange(len(Boundary), device=touched.device)
            touched = touched * (kinds != Boundary.PERIODIC)
        place = place + self.sides(touched.flatten(1))
        return place[:, None] + self.time(octaves(tokens.time / 4, self.TIME))

    def count(self, cost: Cost, cells: int, times: int) -> None:
        """So many cells at so many times."""
        cost.map("position", times, self.time, first=True)
        for linear in (self.size, self.sides, *([self.centre] if self.absolute else [])):
            cost.map("position", cells, linear, first=True)


def touched_sides(
    tokens: TokenSequence, sides: Int[Tensor, "B 3 2"]
) -> Float[Tensor, "N 3 2 kinds"]:
    """1 for each axis and side of the domain that a cell touches, at the kind of boundary.

    A cell that spans an axis whole, as on the inactive axes, touches none of its sides; nor does
    any touch where a crop was cut.
    """
    here = sides[tokens.sample].long()
    touches = tokens.at_side & (here != CUT)
    touches = touches & ~touches.all(dim=-1, keepdim=True)
    kinds = nn.functional.one_hot(here.clamp(max=len(Boundary) - 1), len(Boundary))
    return (kinds * touches[..., None]).to(tokens.centre)


@dataclass(frozen=True)
class Case:
    """What is told of a sample besides its fields: a vector of its lead time and parameters, and
    the sizes of its variables over the usual ones, of a model with a local path; and the points of
    its fields where these do not all count alike."""

    vector: Float[Tensor, "B D"]
    ratios: Float[Tensor, "B C S"]
    space: Points | None = None


class Conditioning(nn.Module):
    """One vector per sample from its lead time and its named PDE parameters, and from `noise`
    numbers that tell the members of an ensemble apart: these add nothing before training.

    `factor` as in `ModelConfig.rate_factor`.
    """

    FEATURES = 8

    def __init__(self, embed_dim: int, factor: float = 1.0, noise: int = 0) -> None:
        super().__init__()
        features = 2 * self.FEATURES + 1
        self.lead = nn.Sequential(
            nn.Linear(features, embed_dim), nn.SiLU(), Scaled(embed_dim, embed_dim, factor)
        )
        self.parameter_in = nn.Linear(features + 1, embed_dim)
        self.parameter_out = Scaled(embed_dim, embed_dim, factor, bias=False)
        self.names = Named(embed_dim)
        self.noise = nn.Linear(noise, embed_dim, bias=False) if noise else None
        if self.noise is not None:
            nn.init.zeros_(self.noise.weight)

    def forward(
        self,
        lead_time: Float[Tensor, " B"],
        parameters: Float[Tensor, "B P"],
        names: Sequence[str],
        noise: Float[Tensor, "B W"] | None = None,
    ) -> Float[Tensor, "B D"]:
        vector = self.lead(octaves(lead_time.log(), self.FEATURES))
        if self.noise is not None and noise is not None:
            vector = vector + self.noise(noise)
        if not names:
            return vector
        # Parameters span decades and may be zero or negative: log of the size, and the sign.
        size = octaves((parameters.abs() + 1e-12).log(), self.FEATURES)
        features = torch.cat([size, parameters.sign()[..., None]], dim=-1)
        hidden = nn.functional.silu(self.parameter_in(features) + self.names(names))
        return vector + self.parameter_out(hidden).sum(dim=1) / math.sqrt(len(names))

    def count(self, cost: Cost, samples: int, names: Sequence[str]) -> None:
        """The vectors of so many samples."""
        cost.map("conditioning", samples, self.lead[0], first=True)
        cost.map("conditioning", samples, self.lead[2])
        if self.noise is not None:
            cost.map("conditioning", samples, self.noise, first=True)
        if names:
            cost.map("conditioning", samples * len(names), self.parameter_in, first=True)
            cost.map("conditioning", samples * len(names), self.parameter_out)
