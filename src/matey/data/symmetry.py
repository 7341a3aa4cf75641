"""Symmetries of physics that make more of little data: shifts and mirror images of windows.

A shift along a periodic axis moves values and nothing else; along a stretched one there is
none. What a mirror does to fields, `matey.fields.mirrors` says.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import WindowConfig
from matey.data.layouts.base import Trajectory
from matey.errors import ConfigError
from matey.fields import PERIODIC_SIDES, Batch, SystemSpec, stack
from matey.fields.mirrors import AXES, mirror

DIRECTED = re.compile(r"B[xyz]|.*_[xyz]")  # parameters that are components of a vector


@dataclass(frozen=True)
class Symmetry:
    """A shift in grid points along Z, Y, X, and the axes (0, 1, 2) mirrored before it."""

    shift: tuple[int, int, int] = (0, 0, 0)
    mirrored: tuple[int, ...] = ()


def draw_symmetry(
    trajectory: Trajectory, config: WindowConfig, rng: np.random.Generator
) -> Symmetry:
    """A random symmetry of one trajectory's windows, of those that the config asks for."""
    shift, mirrored = [0, 0, 0], []
    if config.roll:
        drawn = rng.integers(0, trajectory.grid.shape).tolist()
        kinds = zip(drawn, trajectory.boundaries, trajectory.grid.positions, strict=True)
        shift = [
            points if sides == PERIODIC_SIDES and not stretched else 0
            for points, sides, stretched in kinds
        ]
    for name in config.flip:
        if rng.integers(2) and AXES.index(name) >= 3 - trajectory.grid.ndim:
            mirrored.append(AXES.index(name))
    return Symmetry((shift[0], shift[1], shift[2]), tuple(mirrored))


def apply(symmetries: Sequence[Symmetry], batch: Batch) -> Batch:
    """The batch with each sample mirrored, then shifted: all frames and boundaries alike. Along an
    axis that a crop is a part of, a shift moves the place where it lies, and no value."""
    if not any(symmetry.mirrored or any(symmetry.shift) for symmetry in symmetries):
        return batch
    boundaries = batch.boundaries.clone()
    for sides, symmetry in zip(boundaries, symmetries, strict=True):
        for axis in symmetry.mirrored:
            sides[axis] = sides[axis].flip(0)
    crop, shape = batch.crop, batch.values.shape[-3:]
    shifts = torch.tensor([symmetry.shift for symmetry in symmetries])
    if crop is not None:
        whole = crop.domain == torch.tensor(shape)
        crop = crop.moved([s.mirrored for s in symmetries], shifts * ~whole, shape)
        shifts = shifts * whole
    each_own = list(zip(symmetries, shifts.tolist(), strict=True))
    alike = [Symmetry((z, y, x), symmetry.mirrored) for symmetry, (z, y, x) in each_own]
    frames: dict[str, Any] = {
        name: stack([move(one, s, batch.spec) for one, s in zip(each, alike, strict=True)])
        for name in ("values", "between", "target")
        if (each := getattr(batch, name)) is not None
    }
    points = batch.points and batch.points.mirrored([s.mirrored for s in symmetries])
    return replace(batch, **frames, boundaries=boundaries, points=points, crop=crop)


def move(
    values: Float[Tensor, "... C Z Y X"], symmetry: Symmetry, spec: SystemSpec
) -> Float[Tensor, "... C Z Y X"]:
    """Values of a system mirrored, then shifted."""
    values = mirror(values, symmetry.mirrored, spec.variables)
    return values.roll(symmetry.shift, (-3, -2, -1)) if any(symmetry.shift) else values


def check_flips(spec: SystemSpec, flip: Sequence[str]) -> None:
    """Raise ConfigError if it is not known what a mirror does to a variable of a system, or if
    it would have to change a parameter too."""
    if not flip:
        return
    unknown = [variable.name for variable in spec.variables if variable.pseudo is None]
    if unknown:
        raise ConfigError(
            f"windows.flip is {list(flip)}, but nothing says whether {unknown[0]} of system "
            f"{spec.name!r} changes its sign in a mirror. Set `pseudo: {{{unknown[0]}: false}}` of "
            "this system in the data config (or `pseudo` of its array in a layout) for a true "
            "scalar, vector or tensor, true for a pseudo one; or set windows.flip to []."
        )
    directed = [name for name in spec.parameters if DIRECTED.fullmatch(name)]
    if directed:
        raise ConfigError(
            f"windows.flip is {list(flip)}, but parameter {directed[0]} of system {spec.name!r} "
            "has a direction, which a mirror would turn. Set windows.flip to []."
        )
