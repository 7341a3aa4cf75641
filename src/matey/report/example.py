"""One rollout for the eye: truth, prediction, and the cells that the model looked at.

Axes: S steps of a rollout, M leaf cells, C variables, (Z, Y, X) grid points.
"""

import zipfile
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


@dataclass(frozen=True)
class Example:
    """One rollout of one test trajectory, and the leaf cells of its first plan.

    `corner` and `size` are (z, y, x) in grid points; `level` 0 is the coarsest.
    """

    truth: Float32[np.ndarray, "S C Z Y X"]
    prediction: Float32[np.ndarray, "S C Z Y X"]
    last: Float32[np.ndarray, "C Z Y X"]
    steps: tuple[int, ...]
    variables: tuple[str, ...]
    corner: Integer[np.ndarray, "M 3"]
    size: Integer[np.ndarray, "M 3"]
    level: Integer[np.ndarray, " M"]

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
    for name, ndim in DIMENSIONS.items():
        if name not in arrays:
            raise DataError(f"{path} has no array {name!r}; found {sorted(arrays)}.")
        if arrays[name].ndim != ndim:
            raise DataError(f"{path}: {name} has shape {arrays[name].shape}, not {ndim} axes.")
    truth, last = arrays["truth"], arrays["last"]
    cells = len(arrays["level"])
    expected = {
        "prediction": truth.shape,
        "last": truth.shape[1:],
        "steps": truth.shape[:1],
        "variables": truth.shape[1:2],
        "corner": (cells, 3),
        "size": (cells, 3),
    }
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise DataError(f"{path}: {name} has shape {arrays[name].shape}, expected {shape}.")
    if 0 in truth.shape:
        raise DataError(f"{path}: truth has shape {truth.shape}, which holds nothing.")
    return Example(
        truth=truth.astype(np.float32),
        prediction=arrays["prediction"].astype(np.float32),
        last=last.astype(np.float32),
        steps=tuple(int(step) for step in arrays["steps"]),
        variables=tuple(str(name) for name in arrays["variables"]),
        corner=arrays["corner"].astype(np.int64),
        size=arrays["size"].astype(np.int64),
        level=arrays["level"].astype(np.int64),
    )
