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

from matey.config import SourceConfig
from matey.data import files
from matey.data.containers import Container, open_container
from matey.data.contiguous import Contiguous
from matey.data.files import shown
from matey.data.layout import Contents, Stored, Trajectory
from matey.data.spans import Piece, Stretches, spans_of
from matey.errors import DataError, ShapeError
from matey.fields import Field


class Reader:
    """Trajectories stored as arrays in one file. Keeps no handle itself.

    `x_first` says that x is the slowest axis in the file, as in the Well.
    """

    def __init__(
        self, path: Path, options: SourceConfig | None, layout: str, contents: Contents
    ) -> None:
        self.path = path
        self.layout = layout
        self.contents = contents
        self.spec = contents.spec
        self.trajectories: Sequence[Trajectory] = contents.trajectories
        self.x_first = x_first(contents.arrays)
        order = {variable.name: i for i, variable in enumerate(self.spec.variables)}
        self._channels = [[order[v.name] for v in stored.variables] for stored in contents.arrays]
        self._stretches: dict[str, Stretches | None] = {}  # by name of the array
        self._options = options
        self._stamp = files.stamp(path)

    def __reduce__(self) -> Any:
        """Pickle as the path alone: a spawned worker opens the file itself."""
        from matey.data.reader import open_reader

        return open_reader, (self.path, self._options)

    def read(self, index: int, frames: slice = slice(None)) -> Field:
        """The given frames as a Field of float32 values; no others are read.

        Raises DataError on values that are damaged, complex or not finite, on a file that
        changed since it was opened, and on more bytes than memory holds.
        """
        trajectory = self.trajectories[index]
        frames = whole_slice(frames, len(trajectory.times), trajectory.name)
        times = trajectory.times[frames]
        shape = (len(times), len(self.spec.variables), *trajectory.grid.shape)
        files.check_size(4 * prod(shape), self.path, f"reading {len(times)} frames")
        values = room_for(shape, self.x_first)
        whole = range(frames.start, frames.stop, frames.step)
        pieces = [Piece(range(len(self.trajectories))[index], whole, values)]
        self.read_into(pieces)
        self.check_finite(pieces)
        return Field(
            torch.from_numpy(values),
            times,
            trajectory.grid,
            trajectory.boundaries,
            dict(trajectory.parameters),
            self.spec,
        )

    def read_into(self, pieces: Sequence[Piece]) -> None:
        """Frames of the file, each piece into its room. Of data in chunks every frame is read
        once, in order of time, however many of the pieces hold it. That they are finite is left
        to `check_finite`: to look at many pieces at once is faster.

        Raises DataError on values that are damaged or complex, or a file that changed.
        """
        files.check_unchanged(self.path, self._stamp)
        keys = self.contents.keys
        with files.guarded(self.path):
            file = files.handle(self.path, self._stamp, open_container)
            # Trajectories lie in the same arrays, or each in those of its own group.
            for alike in by_trajectory(pieces) if keys else [pieces]:
                first = alike[0].trajectory
                spans = spans_of(alike, self.x_first)
                for stored, channels in zip(self.contents.arrays, self._channels, strict=True):
                    name = stored.name.format(key=keys[first]) if keys else stored.name
                    array = file.array(name)
                    if name not in self._stretches:
                        self._stretches[name] = self._find_stretches(array, stored, channels, first)
                    stretches = self._stretches[name]
                    if spans is None or stretches is None:
                        copy_frames(file, stored, name, alike, channels)
                    else:
                        stretches.move(array, spans)

    def check_finite(self, pieces: Sequence[Piece]) -> None:
        """Raise DataError that names the first value of what was read that is not finite."""
        for index, frames, values in pieces:
            if np.isfinite(values).all():
                continue
            trajectory = self.trajectories[index]
            t, c, *point = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
            variable = self.spec.variables[c]
            raise DataError(
                f"{shown(self.path)}: {variable.alias or variable.name} of trajectory "
                f"{shown(trajectory.name)} is {values[t, c][tuple(point)]} at time "
                f"{float(trajectory.times[frames[t]]):.6g}, index {tuple(point)} (z, y, x). Values "
                "that are not finite in float32 are never trained on: remove the trajectory or "
                "mend the file."
            )

    def _find_stretches(
        self, array: Any, stored: Stored, channels: Sequence[int], index: int
    ) -> Stretches | None:
        """Where the frames of an array lie, if each is one stretch of the file, with its grid
        axes in the order of `x_first`."""
        if not isinstance(array, Contiguous) or stored.background is not None:
            return None
        trajectory = self.trajectories[index]
        z, y, x = trajectory.grid.shape
        sizes = {"n": len(self.trajectories), "t": len(trajectory.times), "z": z, "y": y, "x": x}
        axes = stored.axes.rstrip("cd")
        grid = "xyz"[: trajectory.grid.ndim] if self.x_first else "zyx"[3 - trajectory.grid.ndim :]
        if axes not in (grid, "t" + grid, "n" + grid, "nt" + grid):
            return None
        fits = array.shape[: len(axes)] == tuple(sizes[axis] for axis in axes)
        if not fits or prod(array.shape[len(axes) :]) != len(channels):
            return None
        frame = len(channels) * z * y * x
        whole = frame * sizes["t"] if "t" in axes else frame
        return Stretches(frame if "t" in axes else 0, whole if "n" in axes else 0, channels)


def x_first(arrays: Sequence[Stored]) -> bool:
    """Whether x is the slowest grid axis of the arrays, as in the Well."""
    stored = max((array.axes for array in arrays), key=len)
    spatial = "".join(axis for axis in stored if axis in "zyx")
    return len(spatial) > 1 and "xyz".find(spatial) == 0


def room_for(shape: tuple[int, ...], x_first: bool) -> np.ndarray:
    """Room for values [... Z Y X], in memory with the grid axes as the files have them.

    To turn them takes longer than to read: where x is the slowest the values are a view, and
    whoever needs them in another order turns them while copying anyway.
    """
    if not x_first:
        return np.empty(shape, np.float32)
    room = np.empty((*shape[:-3], *shape[:-4:-1]), np.float32)
    return room.swapaxes(-3, -1)


def by_trajectory(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """The pieces of each trajectory."""
    groups: dict[int, list[Piece]] = {}
    for piece in pieces:
        groups.setdefault(piece.trajectory, []).append(piece)
    return list(groups.values())


def copy_frames(
    file: Container, stored: Stored, name: str, pieces: Sequence[Piece], channels: Sequence[int]
) -> None:
    """Frames of one dataset of any order and form to their rooms."""
    varies = "t" in stored.axes
    for own in by_trajectory(pieces):
        numbers = {frame for piece in own for frame in piece.frames} if varies else {0}
        for frames in progressions(sorted(numbers)):
            array = read_stored(file, stored, name, own[0].trajectory, frames)
            if stored.background is not None:
                array = array.astype(np.float64) + stored.background
            read = range(frames.start, frames.stop, frames.step)
            for piece in own:
                for i, frame in enumerate(piece.frames):
                    if varies and frame not in read:
                        continue
                    found = array[read.index(frame) if varies else 0]
                    with np.errstate(over="ignore"):  # `check_finite` reports it
                        for values, channel in zip(found, channels, strict=True):
                            piece.values[i, channel] = values


def read_stored(
    file: Container, stored: Stored, name: str, index: int, frames: slice
) -> np.ndarray:
    """One dataset's frames in the order T C Z Y X; axes that do not vary have one point."""
    path, dataset = file.path, file.array(name)
    if len(dataset.shape) != len(stored.axes):  # h5py keeps the shape, but asks for `ndim`
        raise ShapeError(
            f"{shown(path)}: {name} has shape {dataset.shape}, expected the axes "
            f"[{', '.join(stored.axes)}]."
        )
    chosen = {"n": index, "t": frames, "_": 0}
    selection = tuple(chosen.get(axis, slice(None)) for axis in stored.axes)
    array = files.read_array(dataset, selection, path, name)
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


def progressions(numbers: Sequence[int]) -> list[slice]:
    """Increasing numbers as slices of constant step: 3 4 5 9 11 as 3:6 and 9:12:2."""
    slices: list[slice] = []
    first = 0
    while first < len(numbers):
        last = min(first + 1, len(numbers) - 1)
        step = max(1, numbers[last] - numbers[first])
        while last + 1 < len(numbers) and numbers[last + 1] - numbers[last] == step:
            last += 1
        slices.append(slice(numbers[first], numbers[last] + 1, step))
        first = last + 1
    return slices
