"""From arrays as files store them to fields on (T, C, Z, Y, X).

A layout is a list of `Stored` arrays: which dataset, what each of its axes is, and which
variables it holds. One reader, `ArrayReader`, serves every layout that is described so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from matey.config import SourceConfig
from matey.data import files
from matey.data.files import log, shown
from matey.errors import DataError, ShapeError
from matey.fields import PERIODIC_SIDES, Boundary, Field, Grid, Sides, SystemSpec, Variable

UNIFORM = 0.1  # steps within this fraction of their median count as uniform
ROUNDING = 1e-3  # below this they are equal but for rounding


@dataclass(frozen=True)
class Trajectory:
    """What is known of a trajectory without reading its values.

    `name` is unique and stable, as in `2D_rdb_NA_NA.h5#0003`; `times` is [T] in float64;
    `split` is `train`, `valid` or `test` where the files come divided, else None.
    """

    name: str
    times: Tensor
    grid: Grid
    boundaries: tuple[Sides, Sides, Sides]
    parameters: dict[str, float]
    split: str | None = None


@dataclass(frozen=True)
class Stored:
    """A dataset that holds one variable or several.

    `axes` has a letter per axis of the dataset: n trajectory, t time, c and d components,
    z y x grid, _ an axis of one entry. A grid axis, n or t that is absent does not vary. In
    `name`, `{key}` stands for the trajectory's own group.
    """

    name: str
    axes: str
    variables: tuple[Variable, ...]


class ArrayReader:
    """Reads trajectories stored as arrays in one HDF5 file. Keeps no handle itself."""

    def __init__(
        self,
        path: Path,
        options: SourceConfig | None,
        layout: str,
        spec: SystemSpec,
        trajectories: Sequence[Trajectory],
        arrays: Sequence[Stored],
        keys: Sequence[str] = (),
    ) -> None:
        self.path = path
        self.layout = layout
        self.spec = spec
        self.trajectories = trajectories
        self._options = options
        self._arrays = arrays
        self._keys = keys
        self._stamp = files.stamp(path)

    def __reduce__(self) -> Any:
        """Pickle as the path alone: a spawned worker opens the file itself."""
        from matey.data.reader import open_reader

        return open_reader, (self.path, self._options)

    def read(self, trajectory: int, frames: slice = slice(None)) -> Field:
        """The given frames as a Field of float32 values; no others are read.

        Raises DataError on values that are damaged, complex or not finite, on a file that
        changed since it was opened, and on more bytes than memory holds.
        """
        files.check_unchanged(self.path, self._stamp)
        file = files.handle(self.path, self._stamp, files.open_hdf5)
        known = self.trajectories[trajectory]
        frames = whole_slice(frames, len(known.times), known.name)
        times = known.times[frames]
        points = known.grid.shape
        shape = (len(times), len(self.spec.variables), *points)
        files.check_size(4 * prod(shape), self.path, f"reading {len(times)} frames")
        values = np.empty(shape, np.float32)
        order = {variable.name: i for i, variable in enumerate(self.spec.variables)}
        for stored in self._arrays:
            key = self._keys[trajectory] if self._keys else ""
            name = stored.name.format(key=key) if key else stored.name
            array = read_stored(file, self.path, stored, name, trajectory, frames)
            channels = [order[variable.name] for variable in stored.variables]
            with np.errstate(over="ignore"):  # a float64 beyond float32 is reported below
                values[:, channels] = array
        check_finite(values, times, self.spec, self.path, known.name)
        return Field(
            torch.from_numpy(values),
            times,
            known.grid,
            known.boundaries,
            dict(known.parameters),
            self.spec,
        )


def read_stored(
    file: Any, path: Path, stored: Stored, name: str, trajectory: int, frames: slice
) -> np.ndarray:
    """One dataset's frames in the order T C Z Y X; axes that do not vary have one point."""
    dataset = files.member(file, name)
    if dataset.ndim != len(stored.axes):
        raise ShapeError(
            f"{shown(path)}: {name} has shape {dataset.shape}, expected the axes "
            f"[{', '.join(stored.axes)}]."
        )
    chosen = {"n": trajectory, "t": frames, "_": 0}
    index = tuple(chosen.get(axis, slice(None)) for axis in stored.axes)
    array = files.read_array(dataset, index, path, name)
    axes = stored.axes.replace("n", "").replace("_", "")
    array = array.transpose([axes.index(axis) for axis in "tcdzyx" if axis in axes])
    sizes = dict(zip([axis for axis in "tcdzyx" if axis in axes], array.shape, strict=True))
    t, c, d, z, y, x = (sizes.get(axis, 1) for axis in "tcdzyx")
    if c * d != len(stored.variables):
        raise ShapeError(
            f"{shown(path)}: {name} of shape {dataset.shape} holds {c * d} variables, expected "
            f"{[variable.name for variable in stored.variables]}."
        )
    return array.reshape(t, c * d, z, y, x)


def whole_slice(frames: slice, count: int, where: str) -> slice:
    """The slice with start, stop and step written out. Raises DataError if it is empty."""
    start, stop, step = frames.indices(count)
    if step < 1 or stop <= start:
        raise DataError(f"{where}: frames {frames} of {count} select nothing in order of time.")
    return slice(start, stop, step)


def check_finite(
    values: np.ndarray, times: Tensor, spec: SystemSpec, path: Path, trajectory: str
) -> None:
    """Raise DataError that names the first value [T C Z Y X] that is not finite."""
    if np.isfinite(values).all():
        return
    t, c, *point = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
    variable = spec.variables[c]
    raise DataError(
        f"{shown(path)}: {variable.alias or variable.name} of trajectory {shown(trajectory)} is "
        f"{values[t, c][tuple(point)]} at time {float(times[t]):.6g}, index {tuple(point)} "
        "(z, y, x). Values that are not finite in float32 are never trained on: remove the "
        "trajectory or mend the file."
    )


def make_times(stored: np.ndarray, count: int, path: Path, name: str) -> Tensor:
    """The times of `count` frames [T]; a file may list one time more, for the next frame."""
    if stored.ndim != 1 or len(stored) not in (count, count + 1):
        raise ShapeError(
            f"{shown(path)}: {name} has shape {stored.shape}, expected the times of {count} frames."
        )
    return torch.from_numpy(stored[:count].astype(np.float64))


def time_step(times: Tensor, options: SourceConfig | None, where: str) -> float:
    """The median step between the times [T]; 1 for a single frame.

    Raises DataError if times do not increase, or if a step differs from the median by more
    than a tenth and the options do not allow that.
    """
    if len(times) < 2:
        return 1.0
    steps = times.diff()
    if not bool(torch.isfinite(times).all() and (steps > 0).all()):
        raise DataError(f"{shown(where)}: times do not increase: {times[:8].tolist()} ...")
    median = float(steps.median())
    deviation = float((steps - median).abs().max()) / median
    if deviation > UNIFORM and (options is None or options.uneven == "refuse"):
        raise DataError(
            f"{shown(where)}: time steps differ from their median {median:.6g} by up to "
            f"{deviation:.0%}. Set `uneven: allow` for this source to take the elapsed time "
            "as lead time, or store even times."
        )
    if deviation > ROUNDING:
        treated = "counted as uniform" if deviation <= UNIFORM else "allowed"
        log.info(f"{shown(where)}: time steps vary by up to {deviation:.1%}; {treated}.")
    return float(f"{median:.6g}")  # float32 times make 0.05 of 0.0499999


def make_grid(
    axes: tuple[str, ...], coordinates: Sequence[np.ndarray], shape: Sequence[int], where: str
) -> Grid:
    """A uniform grid from the coordinates of its axes, slowest first, as `shape` is.

    Raises ShapeError where coordinate and axis differ in length: the axes may be swapped.
    """
    missing = 3 - len(axes)
    origin, spacing, sizes = [0.0] * missing, [1.0] * missing, [1] * missing
    for axis, points, size in zip(axes, coordinates, shape, strict=True):
        if points.shape != (size,):
            raise ShapeError(
                f"{where}: axis {axis} has {size} points, but its coordinate has shape "
                f"{points.shape}. Are the axes swapped?"
            )
        steps = np.diff(points)
        if not np.isfinite(points).all() or (steps <= 0).any():
            raise ShapeError(f"{where}: coordinate {axis} does not increase.")
        mean = float(steps.mean()) if size > 1 else 1.0
        if size > 1 and float(np.abs(steps - mean).max()) > 0.01 * mean:
            log.info(f"{where}: coordinate {axis} is not uniform; its mean spacing is used.")
        origin.append(float(points[0]))
        spacing.append(mean)
        sizes.append(size)
    return Grid(
        axes,
        (sizes[0], sizes[1], sizes[2]),
        (origin[0], origin[1], origin[2]),
        (spacing[0], spacing[1], spacing[2]),
    )


def all_sides(ndim: int, boundary: Boundary) -> tuple[Sides, Sides, Sides]:
    """The same boundary on every side of the active axes."""
    z, y, x = [PERIODIC_SIDES] * (3 - ndim) + [(boundary, boundary)] * ndim
    return z, y, x
