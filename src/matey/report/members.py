"""The members of an example rollout, as `matey evaluate --members` left them.

Axes: S steps, M members, C variables, P points, K mapped steps, (Z, Y, X) grid points.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from matey.errors import DataError
from matey.report.example import read_arrays

SHAPES = {
    "steps": "S",
    "mapped": "K",
    "variables": "C",
    "points": "P3",
    "members": "SMCP",
    "truth": "SCP",
    "member_means": "SMC",
    "truth_mean": "SC",
    "spread": "KCZYX",
    "error": "KCZYX",
}


@dataclass(frozen=True)
class Members:
    """The members of one rollout: at a few `points` and in the mean over the domain at all steps,
    and maps of their standard deviation and of the error of their mean at some steps."""

    steps: tuple[int, ...]
    mapped: tuple[int, ...]
    variables: tuple[str, ...]
    points: tuple[tuple[int, ...], ...]
    members: Float32[np.ndarray, "S M C P"]
    truth: Float32[np.ndarray, "S C P"]
    member_means: Float32[np.ndarray, "S M C"]
    truth_mean: Float32[np.ndarray, "S C"]
    spread: Float32[np.ndarray, "K C Z Y X"]
    error: Float32[np.ndarray, "K C Z Y X"]


def load_members(path: Path) -> Members:
    """The arrays of a file, with shapes that fit each other. Raises DataError."""
    arrays = read_arrays(path)
    sizes = {"3": 3}
    for name, axes in SHAPES.items():
        shape = arrays[name].shape if name in arrays else None
        fits = shape is not None and len(shape) == len(axes) and 0 not in shape
        if not fits or any(
            sizes.setdefault(axis, size) != size
            for axis, size in zip(axes, shape or (), strict=True)
        ):
            raise DataError(f"{path}: {name} has shape {shape}, expected {list(axes)} of {sizes}.")
    plain = {name: arrays[name].astype(np.float32) for name in list(SHAPES)[4:]}
    return Members(
        tuple(int(step) for step in arrays["steps"]),
        tuple(int(step) for step in arrays["mapped"]),
        tuple(str(name) for name in arrays["variables"]),
        tuple(tuple(int(i) for i in point) for point in arrays["points"]),
        **plain,
    )
