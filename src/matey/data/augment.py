"""Symmetries of physics that make more of little data: shifts and mirror images of windows.

A shift along a periodic axis moves values and nothing else. A mirror across an axis turns
the grid points round and swaps the two sides of the domain; of a tensor, each component
changes sign as often as it has that axis: velocity_x under a mirror across x, stress_xy
under one across x or y, stress_xx never. Pseudovectors (magnetic field, vorticity) are
curls of vectors and change sign once more: across x, magnetic_x stays and magnetic_y and
magnetic_z turn. Whether a variable is one cannot be told from its axes, so that they are
known by name (`PSEUDO`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from matey.config import WindowConfig
from matey.data.layout import Trajectory
from matey.errors import ConfigError
from matey.fields import PERIODIC_SIDES, Batch, SystemSpec, Variable, stack

AXES = "zyx"  # along array axes 0, 1, 2 of a grid
PSEUDO = re.compile(r"(induced_)?magnetic|vorticity|stream_?function|helicity|angular_velocity")
DIRECTED = re.compile(r"B[xyz]|.*_[xyz]")  # parameters that are components of a vector


@dataclass(frozen=True)
class Symmetry:
    """A shift in grid points along Z, Y, X, and the axes (0, 1, 2) mirrored before it."""

    shift: tuple[int, int, int] = (0, 0, 0)
    mirrored: tuple[int, ...] = ()


def draw_symmetry(known: Trajectory, config: WindowConfig, rng: np.random.Generator) -> Symmetry:
    """A random symmetry of one trajectory's windows, of those that the config asks for."""
    shift, mirrored = [0, 0, 0], []
    if config.roll:
        drawn = rng.integers(0, known.grid.shape).tolist()
        kinds = zip(drawn, known.boundaries, strict=True)
        shift = [points if sides == PERIODIC_SIDES else 0 for points, sides in kinds]
    for name in config.flip:
        if rng.integers(2) and AXES.index(name) >= 3 - known.grid.ndim:
            mirrored.append(AXES.index(name))
    return Symmetry((shift[0], shift[1], shift[2]), tuple(mirrored))


def apply(symmetries: Sequence[Symmetry], batch: Batch) -> Batch:
    """The batch with each sample mirrored, then shifted: history, target and boundaries alike."""
    if not any(symmetry.mirrored or any(symmetry.shift) for symmetry in symmetries):
        return batch
    boundaries = batch.boundaries.clone()
    for sides, symmetry in zip(boundaries, symmetries, strict=True):
        for axis in symmetry.mirrored:
            sides[axis] = sides[axis].flip(0)
    changed: dict[str, Any] = {
        name: stack([move(one, s, batch.spec) for one, s in zip(each, symmetries, strict=True)])
        for name in ("values", "target", "between")
        if (each := getattr(batch, name)) is not None
    }
    return replace(batch, boundaries=boundaries, **changed)


def move(
    values: Float[Tensor, "... C Z Y X"], symmetry: Symmetry, spec: SystemSpec
) -> Float[Tensor, "... C Z Y X"]:
    """Values of a system mirrored, then shifted."""
    for axis in symmetry.mirrored:
        signs = [parity(variable, AXES[axis]) for variable in spec.variables]
        values = values.flip(axis - 3) * values.new_tensor(signs)[:, None, None, None]
    return values.roll(symmetry.shift, (-3, -2, -1)) if any(symmetry.shift) else values


def parity(variable: Variable, axis: str) -> int:
    """The sign that a variable's value gets in a mirror across an axis, 1 or -1."""
    turns = variable.axes.count(axis) + bool(PSEUDO.match(variable.name))
    return -1 if turns % 2 else 1


def check_flips(spec: SystemSpec, flip: Sequence[str]) -> None:
    """Raise ConfigError if a mirror would have to change a system's parameters too."""
    directed = [name for name in spec.parameters if DIRECTED.fullmatch(name)]
    if flip and directed:
        raise ConfigError(
            f"windows.flip is {list(flip)}, but parameter {directed[0]} of system {spec.name!r} "
            "has a direction, which a mirror would turn. Set windows.flip to []."
        )
