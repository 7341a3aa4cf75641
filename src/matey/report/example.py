"""One rollout for the eye: truth, prediction, and the cells that the model looked at.

Axes: S steps of a rollout, M leaf cells, C variables, (Z, Y, X) grid points.
"""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Integer

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
# Edges of the points' cells along each axis, where a grid is stretched.
EDGES = {"edges_z": 1, "edges_y": 1, "edges_x": 1}
FINEST = 4  # points of an even raster for each point of a stretched axis, at most


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
    older versions. Fields on a stretched grid are those of the nearest points on an even raster,
    so that they are drawn where they are: `edges` are those of the points' cells in points of
    the raster, and `extent` is the domain along each axis; None on even grids, which are as they
    are.
    """

    truth: Float32[np.ndarray, "S C Z Y X"]
    prediction: Float32[np.ndarray, "S C Z Y X"]
    last: Float32[np.ndarray, "C Z Y X"]
    steps: tuple[int, ...]
    variables: tuple[str, ...]
    cells: Cells
    later: tuple[Cells, ...] | None = None
    extent: tuple[tuple[float, float], ...] | None = None
    edges: tuple[np.ndarray, ...] = ()

    def __post_init__(self) -> None:
        if not self.edges:
            even = tuple(np.arange(points + 1) for points in self.last.shape[1:])
            object.__setattr__(self, "edges", even)

    @property
    def aspect(self) -> float:
        """Width over height of its pictures: of the points on an even grid, where these may well be
        squares, and of the domain on a stretched one, no more than four times the one the other."""
        _, height, width = self.last.shape[1:]
        if self.extent is None:
            return width / height
        (_, (bottom, top), (left, right)) = self.extent
        return min(4.0, max(0.25, (right - left) / (top - bottom)))

    @property
    def ndim(self) -> int:
        """Dimensions of the grid that have more than one point."""
        return max(1, sum(points > 1 for points in self.last.shape[1:]))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a `.npz` file, without unpickling anything. Raises DataError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a readable .npz file of plain arrays: {error}") from error


def load_example(path: Path) -> Example:
    """The arrays of one example, with shapes that fit each other. Raises DataError."""
    arrays = read_arrays(path)
    moving, stretched = (any(name in arrays for name in some) for some in (LATER, EDGES))
    wanted = DIMENSIONS | (LATER if moving else {}) | (EDGES if stretched else {})
    check_shapes(path, arrays, wanted)
    example = Example(
        truth=arrays["truth"].astype(np.float32),
        prediction=arrays["prediction"].astype(np.float32),
        last=arrays["last"].astype(np.float32),
        steps=tuple(int(step) for step in arrays["steps"]),
        variables=tuple(str(name) for name in arrays["variables"]),
        cells=cells_of(arrays, "", slice(None)),
        later=divided(path, arrays) if moving else None,
    )
    return on_raster(example, [arrays[name] for name in EDGES]) if stretched else example


def on_raster(example: Example, edges: Sequence[Float[np.ndarray, " _"]]) -> Example:
    """The example on an even raster, fine enough for the smallest cell of its stretched grid, up
    to `FINEST` points for each of the grid's."""
    kept, places = [], []
    for one in edges:
        points, extent = len(one) - 1, float(one[-1] - one[0])
        raster = min(FINEST * points, max(points, round(extent / float(np.diff(one).min()))))
        place = (one - one[0]) / extent * raster
        kept.append(np.searchsorted(place, np.arange(raster) + 0.5, side="right") - 1)
        places.append(np.round(place, 2))
    z, y, x = kept
    fields = (example.truth, example.prediction, example.last)
    truth, prediction, last = (values[..., z[:, None, None], y[:, None], x] for values in fields)
    return replace(
        example,
        truth=truth,
        prediction=prediction,
        last=last,
        extent=tuple((float(one[0]), float(one[-1])) for one in edges),
        edges=tuple(places),
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
    if "edges_x" in dimensions:
        sizes = zip(EDGES, truth.shape[2:], strict=True)
        expected |= {name: (points + 1,) for name, points in sizes}
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise DataError(f"{path}: {name} has shape {arrays[name].shape}, expected {shape}.")
    for name in EDGES:
        steps = np.diff(arrays[name]) if name in dimensions else np.ones(1)
        if not (np.isfinite(steps) & (steps > 0)).all():
            raise DataError(f"{path}: {name} does not increase from edge to edge.")
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
