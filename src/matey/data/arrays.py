"""The one reader: frames of arrays in a file, as fields on (T, C, Z, Y, X).

What a layout found out of a file says where the values lie (`Stored`); reading them is the same
for every layout and every format.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from matey.config import SourceConfig
from matey.data import files
from matey.data.containers import Container, open_container
from matey.data.contiguous import Contiguous
from matey.data.files import shown
from matey.data.layout import Contents, Stored, Trajectory
from matey.errors import DataError, ShapeError
from matey.fields import Field, SystemSpec

BLOCK = 2**18  # bytes of components that are told apart at once: they stay in the cache


@dataclass(frozen=True)
class Piece:
    """Some frames of a trajectory, and the room [T C Z Y X] in memory that they go to."""

    frames: range
    values: np.ndarray


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
        known = self.trajectories[trajectory]
        frames = whole_slice(frames, len(known.times), known.name)
        times = known.times[frames]
        shape = (len(times), len(self.spec.variables), *known.grid.shape)
        files.check_size(4 * prod(shape), self.path, f"reading {len(times)} frames")
        values = room_for(shape, self.x_first)
        self.read_into(trajectory, [Piece(range(frames.start, frames.stop, frames.step), values)])
        return Field(
            torch.from_numpy(values),
            times,
            known.grid,
            known.boundaries,
            dict(known.parameters),
            self.spec,
        )

    def read_into(self, trajectory: int, pieces: Sequence[Piece]) -> None:
        """Frames of one trajectory, each piece into its room. Of data in chunks every frame is
        read once, in order of time, however many of the pieces hold it.

        Raises DataError like `read`.
        """
        files.check_unchanged(self.path, self._stamp)
        trajectory = range(len(self.trajectories))[trajectory]  # -1 is the last one
        keys, rows = self.contents.keys, self._rows(pieces)
        with files.guarded(self.path), np.errstate(over="ignore"):  # overflow is reported below
            file = files.handle(self.path, self._stamp, open_container)
            for stored, channels in zip(self.contents.arrays, self._channels, strict=True):
                name = stored.name.format(key=keys[trajectory]) if keys else stored.name
                array = file.array(name)
                if rows and self._is_in_order(array, stored, trajectory):
                    move_frames(array, stored, trajectory, rows, channels)
                else:
                    copy_frames(file, stored, name, trajectory, pieces, channels)
        for piece in pieces:
            check_finite(piece, self, trajectory)

    def _is_in_order(self, array: Any, stored: Stored, trajectory: int) -> bool:
        """Whether every frame of an array is one stretch of the file, with its grid axes as in
        rows."""
        if not isinstance(array, Contiguous):
            return False
        known = self.trajectories[trajectory]
        grid = "xyz"[: known.grid.ndim] if self.x_first else "zyx"[3 - known.grid.ndim :]
        if stored.background is not None or not re.fullmatch(f"n?t?{grid}c?d?", stored.axes):
            return False
        sizes = dict(zip("zyx", known.grid.shape, strict=True))
        sizes |= {"n": len(self.trajectories), "t": len(known.times)}
        expected = tuple(sizes[axis] for axis in stored.axes if axis not in "cd")
        fits = array.shape[: len(expected)] == expected
        return fits and prod(array.shape[len(expected) :]) == len(stored.variables)

    def _rows(self, pieces: Sequence[Piece]) -> list[tuple[int, np.ndarray]]:
        """Every frame of the pieces by its number, with its room [C, points] in the order of the
        file; none if memory is in another order."""
        rows: list[tuple[int, np.ndarray]] = []
        for piece in pieces:
            values = piece.values.transpose(0, 1, 4, 3, 2) if self.x_first else piece.values
            if not values.flags.c_contiguous:
                return []
            rows += list(zip(piece.frames, values.reshape(*values.shape[:2], -1), strict=True))
        return rows


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


def move_frames(
    array: Contiguous,
    stored: Stored,
    trajectory: int,
    rows: Sequence[tuple[int, np.ndarray]],
    channels: Sequence[int],
) -> None:
    """Frames from where they lie in the file to their rooms [C, points]; frames in sequence in
    one go. Components, which are the fastest axis of a file, are told apart in between."""
    points, parts = rows[0][1].shape[-1], len(channels)
    size = points * parts
    first = 0
    if "n" in stored.axes:
        first = trajectory * size * (array.shape[1] if "t" in stored.axes else 1)
    step = size if "t" in stored.axes else 0
    if parts == 1:
        for run in sequences([number for number, _ in rows]):
            rooms = [row[channels[0]] for _, row in rows[run]]
            array.read_into(first + step * rows[run.start][0], rooms)
        return
    mixed = np.empty((min(points, max(1, BLOCK // (4 * parts))), parts), np.float32)
    for number, row in rows:
        for start in range(0, points, len(mixed)):
            part = mixed[: points - start]
            array.read_into(first + step * number + parts * start, [part])
            for component, channel in enumerate(channels):
                row[channel, start : start + len(part)] = part[:, component]


def copy_frames(
    file: Container,
    stored: Stored,
    name: str,
    trajectory: int,
    pieces: Sequence[Piece],
    channels: Sequence[int],
) -> None:
    """Frames of one dataset in any order and form to their rooms."""
    static = "t" not in stored.axes
    for frames in progressions(sorted({n for piece in pieces for n in piece.frames})):
        array = read_stored(file, stored, name, trajectory, frames)
        if stored.background is not None:
            array = array.astype(np.float64) + stored.background
        read = range(frames.start, frames.stop, frames.step)
        for piece in pieces:
            here = [i for i, number in enumerate(piece.frames) if number in read]
            for i in here:
                frame = array[0 if static else read.index(piece.frames[i])]
                for variable, channel in enumerate(channels):
                    piece.values[i, channel] = frame[variable]


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


def sequences(numbers: Sequence[int]) -> list[slice]:
    """Where the numbers go up by one: of 3 4 5 4 5, the slices 0:3 and 3:5."""
    ends = [i for i in range(1, len(numbers)) if numbers[i] != numbers[i - 1] + 1]
    return [slice(*pair) for pair in pairwise([0, *ends, len(numbers)])]


def check_finite(piece: Piece, reader: Reader, trajectory: int) -> None:
    """Raise DataError that names the first value of a piece that is not finite."""
    values = piece.values
    if np.isfinite(values).all():
        return
    known = reader.trajectories[trajectory]
    t, c, *point = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
    variable = reader.spec.variables[c]
    raise DataError(
        f"{shown(reader.path)}: {variable.alias or variable.name} of trajectory "
        f"{shown(known.name)} is {values[t, c][tuple(point)]} at time "
        f"{float(known.times[piece.frames[t]]):.6g}, index {tuple(point)} "
        "(z, y, x). Values that are not finite in float32 are never trained on: remove the "
        "trajectory or mend the file."
    )
