"""How the lattice of patches moves from step to step, so that no edge stays in one place.

Fields are rolled round along axes that are periodic in every sample and evenly spaced. Along others
the lattice begins before the fields, which are continued past their ends.

Axes: B samples.
"""

from collections.abc import Sequence

import torch

from matey.config import ModelConfig
from matey.fields import Inputs
from matey.fields.inputs import periodic
from matey.tokens.lattice import NOWHERE, Triple


def draw(
    config: ModelConfig, cell: Triple, inputs: Inputs, generator: torch.Generator | None
) -> Triple:
    """A random shift by less than a coarse cell, in grid points along Z, Y and X: along the axes
    that roll round of a model with `jitter`, along all of one with `jitter_sides`, there by whole
    pieces of a local path."""
    if not config.jitter:
        return NOWHERE
    drawn = torch.rand(3, generator=generator).tolist()
    points = [int(number * size) for number, size in zip(drawn, cell, strict=True)]
    z, y, x = (
        count if roll else config.jitter_sides * (count // config.piece * config.piece)
        for count, roll in zip(points, rolls(inputs), strict=True)
    )
    return z, y, x


def rolls(inputs: Inputs) -> list[bool]:
    """Which axes are periodic in every sample, and evenly spaced."""
    wraps: list[bool] = periodic(inputs.boundaries).all(dim=0).tolist()
    if inputs.points is None:
        return wraps
    return [wrap and not s for wrap, s in zip(wraps, inputs.points.stretched, strict=True)]


def parted(shift: Triple, inputs: Inputs) -> tuple[Triple, Triple]:
    """How many points fields are rolled, and how many the lattice begins before them."""
    if not any(shift):
        return NOWHERE, NOWHERE
    round_axes = rolls(inputs)
    return only(shift, round_axes), only(shift, [not roll for roll in round_axes])


def only(shift: Triple, axes: Sequence[bool]) -> Triple:
    """The shift along some axes."""
    z, y, x = (points if chosen else 0 for points, chosen in zip(shift, axes, strict=True))
    return z, y, x


def most_before(config: ModelConfig, cell: Triple) -> Triple:
    """The most points that the lattice of a model may begin before a grid."""
    z, y, x = (config.jitter_sides * ((size - 1) // config.piece * config.piece) for size in cell)
    return z, y, x
