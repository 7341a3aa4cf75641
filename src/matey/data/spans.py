"""Frames in sequence, from one stretch of a file to their rooms in memory.

Axes: T times, C variables, P points of the grid in the order of the file, K components of a
dataset, which are its fastest axis.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from matey.data.contiguous import Contiguous

BLOCK = 2**18  # bytes of components that are told apart at once: they stay in the cache


class Piece(NamedTuple):
    """Some frames of a trajectory, and the room [T C Z Y X] in memory that they go to."""

    trajectory: int
    frames: range
    values: np.ndarray


class Span(NamedTuple):
    """Frames of a trajectory, each the next after the last, and rooms [T C P] one after the
    other that they go to."""

    trajectory: int
    first: int
    rooms: list[np.ndarray]


def spans_of(pieces: Iterable[Piece], x_first: bool) -> list[Span] | None:
    """The frames of pieces, in as few spans as their order allows: a target that follows on its
    history is in the same. None if a room is not in memory as the frames are in the file.
    """
    spans: list[Span] = []
    before = following = -1
    for trajectory, frames, values in pieces:
        inside = values.swapaxes(2, 4) if x_first else values
        if not inside.flags.c_contiguous:
            return None
        room = inside.reshape(*inside.shape[:2], -1)
        rooms = [room] if frames.step == 1 else [room[i : i + 1] for i in range(len(room))]
        for first, one in zip(frames, rooms, strict=False):
            if trajectory == before and first == following:
                spans[-1].rooms.append(one)
            else:
                spans.append(Span(trajectory, first, [one]))
            before, following = trajectory, first + len(one)
    return spans


class Stretches:
    """Where the frames of a dataset lie in it, each one stretch [P K].

    `frame` and `trajectory` are how many numbers lie between one and the next, 0 where the
    dataset does not vary; `channels` are the components' places in C.
    """

    def __init__(self, frame: int, trajectory: int, channels: Sequence[int]) -> None:
        self._frame, self._trajectory = frame, trajectory
        self._parts, self._first = len(channels), channels[0]
        in_order = list(channels) == list(range(channels[0], channels[-1] + 1))
        self._channels: Any = slice(channels[0], channels[-1] + 1) if in_order else list(channels)

    def move(self, array: Contiguous, spans: Sequence[Span]) -> None:
        """Frames of the dataset to their rooms."""
        if not self._frame:
            self._repeat(array, spans)
            return
        scratch = np.empty(BLOCK // 4 + 1 if self._parts > 1 else 0, np.float32)
        for trajectory, first, rooms in spans:
            start = trajectory * self._trajectory + first * self._frame
            if self._parts == 1:
                array.read_into(start, [row for room in rooms for row in room[:, self._first]])
                continue
            for room in rooms:
                for part in cut(room, BLOCK // (4 * self._parts)):
                    count = len(part) * part.shape[2] * self._parts
                    array.read_into(start, [scratch[:count]])
                    self._tell_apart(scratch[: count + 1], part)
                    start += count

    def _tell_apart(self, mixed: np.ndarray, room: np.ndarray) -> None:
        """Components side by side [T P K], and one number more, each to its place in [T C P]."""
        times, _, points = room.shape
        if self._parts == 2 and isinstance(self._channels, slice):
            # As one integer of 64 bits a pair is shortened to its first number, and a pair that
            # begins one later to its second: twice as fast as every other number.
            bits = room.view("<u4")
            bits[:, self._first] = mixed[:-1].view("<u8").reshape(times, points)
            bits[:, self._first + 1] = mixed[1:].view("<u8").reshape(times, points)
            return
        room[:, self._channels] = mixed[:-1].reshape(times, points, self._parts).swapaxes(1, 2)

    def _repeat(self, array: Contiguous, spans: Sequence[Span]) -> None:
        """What does not vary in time, to every frame. It is read once for each trajectory."""
        known: dict[int, np.ndarray] = {}
        for trajectory, _, rooms in spans:
            if trajectory not in known:
                mixed = np.empty((rooms[0].shape[2], self._parts), np.float32)
                array.read_into(trajectory * self._trajectory, [mixed])
                known[trajectory] = np.ascontiguousarray(mixed.T)
            for room in rooms:
                room[:, self._channels] = known[trajectory]


def cut(room: np.ndarray, most: int) -> list[np.ndarray]:
    """A room [T C P] in parts of so many frames, or points of a frame, as are `most` at a time."""
    times, _, points = room.shape
    if times * points <= most:
        return [room]
    if points <= most:
        step = most // points
        return [room[i : i + step] for i in range(0, times, step)]
    steps = range(0, points, most)
    return [room[i : i + 1, :, at : at + most] for i in range(times) for at in steps]
