"""The one reader: frames of arrays in a file, as fields on (T, C, Z, Y, X).

What a layout found out of a file says where the values lie (`Stored`); reading them is the same
for every layout and every format.
"""

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from matey.config import SourceConfig
from matey.data import files
from matey.data.containers import Container, open_container
from matey.data.files import shown
from matey.data.layout import Contents, Stored, Trajectory
from matey.errors import DataError, ShapeError
from matey.fields import Field, SystemSpec


class Reader:
    """Trajectories stored as arrays in one file. Keeps no handle itself."""

    def __init__(
        self, path: Path, options: SourceConfig | None, layout: str, contents: Contents
    ) -> None:
        self.path = path
        self.layout = layout
        self.contents = contents
        self.spec = contents.spec
        self.trajectories: Sequence[Trajectory] = contents.trajectories
        self._options = options
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
        known = self.trajectories[trajectory]
        frames = whole_slice(frames, len(known.times), known.name)
        times = known.times[frames]
        points = known.grid.shape
        shape = (len(times), len(self.spec.variables), *points)
        files.check_size(4 * prod(shape), self.path, f"reading {len(times)} frames")
        keys = self.contents.keys
        order = {variable.name: i for i, variable in enumerate(self.spec.variables)}
        with files.guarded(self.path), np.errstate(over="ignore"):  # overflow is reported below
            file = files.handle(self.path, self._stamp, open_container)
            arrays = self.contents.arrays
            values = None if len(arrays) == 1 else room_for(shape, arrays)
            for stored in arrays:
                name = stored.name.format(key=keys[trajectory]) if keys else stored.name
                array = read_stored(file, stored, name, trajectory, frames)
                if stored.background is not None:
                    array = array.astype(np.float64) + stored.background
                if values is None:
                    if is_whole(array, shape, stored, self.spec):
                        values = array
                        break
                    values = room_for(shape, arrays)
                for i, variable in enumerate(stored.variables):
                    values[:, order[variable.name]] = array[:, i]
            assert values is not None
        check_finite(values, times, self.spec, self.path, known.name)
        return Field(
            torch.from_numpy(values),
            times,
            known.grid,
            known.boundaries,
            dict(known.parameters),
            self.spec,
        )


def is_whole(array: np.ndarray, shape: tuple[int, ...], stored: Stored, spec: SystemSpec) -> bool:
    """Whether an array can stand for all values [T C Z Y X] as it is, without a copy."""
    fits = array.shape == shape and stored.variables == spec.variables
    return fits and array.dtype == np.float32 and array.flags.writeable


def room_for(shape: tuple[int, ...], arrays: Sequence[Stored]) -> np.ndarray:
    """Room for values [T C Z Y X], in memory with the grid axes as the files have them.

    To turn them takes longer than to read: where x is the slowest, as in the Well, the values
    are a view, and whoever needs them in another order turns them while copying anyway.
    """
    stored = max((array.axes for array in arrays), key=len)
    spatial = "".join(axis for axis in stored if axis in "zyx")
    if len(spatial) > 1 and "xyz".find(spatial) == 0:
        return np.empty((*shape[:2], *shape[:1:-1]), np.float32).transpose(0, 1, 4, 3, 2)
    return np.empty(shape, np.float32)


def read_stored(
    file: Container, stored: Stored, name: str, trajectory: int, frames: slice
) -> np.ndarray:
    """One dataset's frames in the order T C Z Y X; axes that do not vary have one point."""
    path, dataset = file.path, file.array(name)
    if len(dataset.shape) != len(stored.axes):  # h5py keeps the shape, but asks for `ndim`
        raise ShapeError(
            f"{shown(path)}: {name} has shape {dataset.shape}, expected the axes "
            f"[{', '.join(stored.axes)}]."
        )
    chosen = {"n": trajectory, "t": frames, "_": 0}
    index = tuple(chosen.get(axis, slice(None)) for axis in stored.axes)
    array = files.read_array(dataset, index, path, name)
    axes = stored.axes.replace("n", "").replace("_", "")
    sizes = dict(zip(axes, array.shape, strict=True))
    array = array.transpose([axes.index(axis) for axis in "tcdzyx" if axis in axes])
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
