"""Frames of stored arrays, copied into memory in the order T C Z Y X."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from matey.data.formats import files
from matey.data.formats.container import Container
from matey.data.formats.files import shown
from matey.data.layouts.base import Staggered, Stored
from matey.errors import ShapeError

Corner = tuple[int, int, int]


class Piece(NamedTuple):
    """Some frames of a trajectory, and the array [T C Z Y X] in memory that they go to: the box of
    its size that begins at a `corner` (z, y, x) of the grid."""

    trajectory: int
    frames: Sequence[int]
    values: np.ndarray
    corner: Corner = (0, 0, 0)

    @property
    def box(self) -> dict[str, slice]:
        """The points of the grid that it has along each axis."""
        ends = zip(self.corner, self.values.shape[-3:], strict=True)
        return dict(zip("zyx", (slice(first, first + n) for first, n in ends), strict=True))


def x_first(arrays: Sequence[Stored]) -> bool:
    """Whether x is the slowest grid axis of the arrays, as in the Well."""
    stored = max((array.axes for array in arrays), key=len)
    spatial = "".join(axis for axis in stored if axis in "zyx")
    return len(spatial) > 1 and "xyz".find(spatial) == 0


def allocate(shape: tuple[int, ...], x_first: bool) -> np.ndarray:
    """An array [... Z Y X], in memory with the grid axes in the order of the file."""
    if not x_first:
        return np.empty(shape, np.float32)
    return np.empty((*shape[:-3], *shape[:-4:-1]), np.float32).swapaxes(-3, -1)


def places(channels: list[int]) -> slice | list[int]:
    """Channels as an index; as a slice, which is faster, where each follows the last."""
    first, last = channels[0], channels[-1]
    return slice(first, last + 1) if channels == [*range(first, last + 1)] else channels


def copy_frames(
    file: Container, stored: Stored, name: str, pieces: Sequence[Piece], channels: slice | list[int]
) -> None:
    """Read frames of one dataset and trajectory into the array of each piece. What lies outside of
    their boxes is not read."""
    boxes: dict[tuple[int, ...], list[Piece]] = {}
    for piece in pieces:
        boxes.setdefault((*piece.corner, *piece.values.shape[-3:]), []).append(piece)
    for alike in boxes.values():
        copy_boxes(file, stored, name, alike, channels)


def copy_boxes(
    file: Container, stored: Stored, name: str, pieces: Sequence[Piece], channels: slice | list[int]
) -> None:
    """Read frames of one box into the array of each piece."""
    varies, box = "t" in stored.axes, pieces[0].box
    wanted: Sequence[int] = pieces[0].frames if varies else (0,)
    if varies and len(pieces) > 1:
        wanted = sorted({frame for piece in pieces for frame in piece.frames})
    parts = [
        read_stored(file, stored, name, pieces[0].trajectory, frames, box)
        for frames in progressions(wanted)
    ]
    array = np.concatenate(parts) if len(parts) > 1 else parts[0]
    if stored.background is not None:
        array = array.astype(np.float64) + inside(stored.background, box)
    row = {frame: i for i, frame in enumerate(wanted)}
    for piece in pieces:
        for values, frame in zip(piece.values, piece.frames, strict=True):
            values[channels] = array[row[frame] if varies else 0]


def inside(values: np.ndarray, box: Mapping[str, slice]) -> np.ndarray:
    """What of values [... Z Y X], or of the last of these axes, lies in a box; axes that do not
    vary have one point."""
    values = values.reshape((1,) * (3 - values.ndim) + values.shape)
    z, y, x = (
        box[axis] if count > 1 else slice(None)
        for axis, count in zip("zyx", values.shape[-3:], strict=True)
    )
    return values[..., z, y, x]


def read_stored(
    file: Container,
    stored: Stored,
    name: str,
    trajectory: int,
    frames: slice,
    box: Mapping[str, slice] | None = None,
) -> np.ndarray:
    """One dataset's frames in the order T C Z Y X, of a box or of all points; axes that do not vary
    have one point."""
    path, dataset = file.path, file.array(name)
    if len(dataset.shape) != len(stored.axes):  # h5py keeps the shape, but asks for `ndim`
        raise ShapeError(
            f"{shown(path)}: {name} has shape {dataset.shape}, expected the axes "
            f"[{', '.join(stored.axes)}]."
        )
    picked = {"n": trajectory, "t": frames, "_": 0} | parts_of(dataset.shape, stored, box or {})
    index = tuple([picked.get(axis, slice(None)) for axis in stored.axes])
    array = files.read_array(dataset, index, path, name)
    axes = stored.axes.replace("n", "").replace("_", "")
    order = [axis for axis in "tcdzyx" if axis in axes]
    array = array.transpose([axes.index(axis) for axis in order])
    for side in stored.staggered:
        array = to_centres(array, order.index(side.letter), side)
        if box:  # all faces along the axis were read
            array = array[(slice(None),) * order.index(side.letter) + (box[side.letter],)]
    size = iter(array.shape)
    t, c, d, *grid = [next(size) if axis in axes else 1 for axis in "tcdzyx"]
    if c * d != len(stored.variables):
        raise ShapeError(
            f"{shown(path)}: {name} of shape {dataset.shape} holds {c * d} variables, expected "
            f"{[variable.name for variable in stored.variables]}."
        )
    return array.reshape(t, c * d, *grid)


def parts_of(
    shape: Sequence[int], stored: Stored, box: Mapping[str, slice]
) -> dict[str, int | slice]:
    """The part of each axis of a dataset that a box takes, of those that it does not take whole;
    along axes that are staggered all of it is read."""
    on_faces = {side.letter for side in stored.staggered}
    return {
        axis: box[axis]
        for axis, count in zip(stored.axes, shape, strict=True)
        if axis in box and axis not in on_faces and box[axis] != slice(0, count)
    }


def to_centres(faces: np.ndarray, axis: int, side: Staggered) -> np.ndarray:
    """Values at centres of cells: the mean of the two faces of each, or of the one that there is,
    at a side of the domain or beside a missing value."""
    first, last = (np.take(faces, [end], axis) for end in (0, -1))
    within = np.take(faces, range(1, faces.shape[axis]), axis)
    before = np.take(faces, range(faces.shape[axis] - 1), axis)
    if side.position == "outer":
        low, high = before, within
    elif side.position == "inner":
        low, high = np.concatenate([first, faces], axis), np.concatenate([faces, last], axis)
    elif side.position == "left":
        low, high = faces, np.concatenate([within, first if side.periodic else last], axis)
    else:
        low, high = np.concatenate([last if side.periodic else first, before], axis), faces
    mean = (low + high) / 2
    return np.where(np.isnan(low), high, np.where(np.isnan(high), low, mean))


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
