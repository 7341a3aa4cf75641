"""Frames in sequence, from one stretch of a file to their rooms in memory.

Axes: T times, C variables, P points of the grid in the order of the file, K components of a
dataset, which are its fastest axis.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from matey.data.contiguous import Contiguous

BLOCK = 2**22  # bytes of components that are told apart at once: they stay in the largest cache


class Piece(NamedTuple):
    """Some frames of a trajectory, and the room [T C Z Y X] in memory that they go to."""

    trajectory: int
    frames: Sequence[int]
    values: np.ndarray


class Span(NamedTuple):
    """Frames of a trajectory, each the next after the last, and the room [C T P] they go to."""

    trajectory: int
    first: int
    room: np.ndarray


def spans_of(pieces: Iterable[Piece], x_first: bool) -> list[Span] | None:
    """The frames of pieces in spans: a history and the target next to it are one.

    None if a room does not have the points of a frame one after the other as the file has them.
    """
    spans: list[Span] = []
    for trajectory, frames, values in pieces:
        turned = values.transpose(1, 0, 4, 3, 2) if x_first else values.swapaxes(0, 1)
        if not turned[0, 0].flags.c_contiguous:
            return None
        room = turned.reshape(*turned.shape[:2], -1)
        begin = 0
        while begin < len(frames):
            first, end = frames[begin], len(frames)
            if frames[-1] - first >= end - begin:  # not all of them follow each other
                end = begin + 1
                while end < len(frames) and frames[end] == first + end - begin:
                    end += 1
            spans.append(Span(trajectory, first, room[:, begin:end]))
            begin = end
    return spans


class Stretches:
    """Where the frames of a dataset lie in it, each one stretch [P K].

    `frame` and `trajectory` are how many numbers lie between one and the next, 0 where the
    dataset does not vary; `channels` are the components' places in C.
    """

    def __init__(self, frame: int, trajectory: int, channels: Sequence[int]) -> None:
        self._frame, self._trajectory = frame, trajectory
        self._parts = len(channels)
        in_order = list(channels) == list(range(channels[0], channels[-1] + 1))
        self._channels: Any = slice(channels[0], channels[-1] + 1) if in_order else list(channels)
        self._places = channels

    def move(self, array: Contiguous, spans: Sequence[Span]) -> None:
        """Frames of the dataset to their rooms."""
        kept = array.kept(self._parts)
        if kept is not None:
            self._copy(kept, spans)
            return
        if not self._frame:
            self._repeat(array, spans)
            return
        if self._parts == 1:
            channel = self._places[0]
            for trajectory, first, room in spans:
                row = room[channel]
                start = trajectory * self._trajectory + first * self._frame
                array.read_into(start, [row] if row.flags.c_contiguous else list(row))
            return
        longest = max(room.shape[1] * room.shape[2] for _, _, room in spans) * self._parts
        scratch = np.empty(min(longest, BLOCK // 4) + 1, np.float32)
        for trajectory, first, room in spans:
            start = trajectory * self._trajectory + first * self._frame
            for part in cut(room, BLOCK // (4 * self._parts)):
                count = part.shape[1] * part.shape[2] * self._parts
                array.read_into(start, [scratch[:count]])
                self._tell_apart(scratch[: count + 1], part)
                start += count

    def _copy(self, kept: np.ndarray, spans: Sequence[Span]) -> None:
        """Frames of a dataset that is in memory [K N]."""
        for trajectory, first, room in spans:
            times, points = room.shape[1:] if self._frame else (1, room.shape[2])
            start = (trajectory * self._trajectory + first * self._frame) // self._parts
            found = kept[:, start : start + times * points]
            room[self._channels] = found.reshape(self._parts, times, points)

    def _tell_apart(self, mixed: np.ndarray, room: np.ndarray) -> None:
        """Components side by side [T P K], and one number more, each to its place in [C T P]."""
        shape = room.shape[1:]
        if self._parts == 2:
            # As an integer of 64 bits a pair is shortened to its first number, and a pair that
            # begins one later to its second: twice as fast as to copy every other number.
            bits, (one, other) = room.view("<u4"), self._places
            bits[one] = mixed[:-1].view("<u8").reshape(shape)
            bits[other] = mixed[1:].view("<u8").reshape(shape)
            return
        room[self._channels] = mixed[:-1].reshape(*shape, self._parts).transpose(2, 0, 1)

    def _repeat(self, array: Contiguous, spans: Sequence[Span]) -> None:
        """What does not vary in time, to every frame. It is read once for each trajectory."""
        known: dict[int, np.ndarray] = {}
        for trajectory, _, room in spans:
            if trajectory not in known:
                mixed = np.empty((room.shape[2], self._parts), np.float32)
                array.read_into(trajectory * self._trajectory, [mixed])
                known[trajectory] = np.ascontiguousarray(mixed.T)[:, None]
            room[self._channels] = known[trajectory]


def cut(room: np.ndarray, most: int) -> list[np.ndarray]:
    """A room [C T P] in parts of so many frames, or points of a frame, as are `most` at a time."""
    _, times, points = room.shape
    if times * points <= most:
        return [room]
    if points <= most:
        step = most // points
        return [room[:, i : i + step] for i in range(0, times, step)]
    steps = range(0, points, most)
    return [room[:, i : i + 1, at : at + most] for i in range(times) for at in steps]
