"""One rollout for the eye: truth, prediction, and the cells that the model looked at.

Axes: S steps of a rollout, M leaf cells, C variables, (Z, Y, X) grid points.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Integer

from matey.errors import DataError

DIMENSIONS = {
    "truth": 5,
    "prediction": 5,
    "last": 4,
    "steps": 1,
    "variables": 1,
    "corner": 2,
    "size": 2,
    "level": 1,
}
# The cells of each step's frame, one step after the other; older files have none.
LATER = {"step_cells": 1, "step_corner": 2, "step_size": 2, "step_level": 1}


@dataclass(frozen=True)
class Cells:
    """The leaf cells of one plan: `corner` and `size` are (z, y, x) in grid points, `level` 0 is
    the coarsest."""

    corner: Integer[np.ndarray, "M 3"]
    size: Integer[np.ndarray, "M 3"]
    level: Integer[np.ndarray, " M"]

    def __len__(self) -> int:
        return len(self.level)


@dataclass(frozen=True)
class Example:
    """One rollout of one test trajectory, with the cells of the last frame given and of each step.

    `later` are those that each predicted frame is cut into for the next step; None in files of
    older versions.
    """

    truth: Float32[np.ndarray, "S C Z Y X"]
    prediction: Float32[np.ndarray, "S C Z Y X"]
    last: Float32[np.ndarray, "C Z Y X"]
    steps: tuple[int, ...]
    variables: tuple[str, ...]
    cells: Cells
    later: tuple[Cells, ...] | None = None

    @property
    def ndim(self) -> int:
        """Dimensions of the grid that have more than one point."""
        return max(1, sum(points > 1 for points in self.last.shape[1:]))


def load_example(path: Path) -> Example:
    """The arrays of one example, with shapes that fit each other. Raises DataError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a readable .npz file of plain arrays: {error}") from error
    moving = any(name in arrays for name in LATER)
    check_shapes(path, arrays, DIMENSIONS | (LATER if moving else {}))
    return Example(
        truth=arrays["truth"].astype(np.float32),
        prediction=arrays["prediction"].astype(np.float32),
        last=arrays["last"].astype(np.float32),
        steps=tuple(int(step) for step in arrays["steps"]),
        variables=tuple(str(name) for name in arrays["variables"]),
        cells=cells_of(arrays, "", slice(None)),
        later=divided(path, arrays) if moving else None,
    )


def check_shapes(
    path: Path, arrays: Mapping[str, np.ndarray], dimensions: Mapping[str, int]
) -> None:
    """Raise DataError unless the arrays are there, and their shapes fit each other."""
    for name, ndim in dimensions.items():
        if name not in arrays:
            raise DataError(f"{path} has no array {name!r}; found {sorted(arrays)}.")
        if arrays[name].ndim != ndim:
            raise DataError(f"{path}: {name} has shape {arrays[name].shape}, not {ndim} axes.")
    truth = arrays["truth"]
    expected = {
        "prediction": truth.shape,
        "last": truth.shape[1:],
        "steps": truth.shape[:1],
        "variables": truth.shape[1:2],
    }
    for prefix in ("", "step_"):
        if prefix + "level" in dimensions:
            cells = len(arrays[prefix + "level"])
            expected |= {prefix + "corner": (cells, 3), prefix + "size": (cells, 3)}
    if "step_cells" in dimensions:
        expected["step_cells"] = truth.shape[:1]
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise DataError(f"{path}: {name} has shape {arrays[name].shape}, expected {shape}.")
    if 0 in truth.shape:
        raise DataError(f"{path}: truth has shape {truth.shape}, which holds nothing.")


def cells_of(arrays: Mapping[str, np.ndarray], prefix: str, part: slice) -> Cells:
    """Some of the cells in a file."""
    names = ("corner", "size", "level")
    return Cells(*(arrays[prefix + name][part].astype(np.int64) for name in names))


def divided(path: Path, arrays: Mapping[str, np.ndarray]) -> tuple[Cells, ...]:
    """The cells of each step. Raises DataError where their counts do not add up to all."""
    counts = arrays["step_cells"].astype(np.int64)
    if (counts < 0).any() or counts.sum() != len(arrays["step_level"]):
        raise DataError(
            f"{path}: step_cells adds up to {counts.sum()}, but step_level has "
            f"{len(arrays['step_level'])} cells."
        )
    ends = counts.cumsum()
    return tuple(
        cells_of(arrays, "step_", slice(end - count, end))
        for end, count in zip(ends.tolist(), counts.tolist(), strict=True)
    )
