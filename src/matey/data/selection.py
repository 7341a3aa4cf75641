"""Some frames of trajectories: every n-th, or stretches of time for training and test."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from matey.config import SplitConfig
from matey.data.formats.files import shown
from matey.data.layouts.base import SPLITS
from matey.data.reader import Reader
from matey.data.trajectories import Fields
from matey.errors import DataError
from matey.fields import Field


class Part(NamedTuple):
    """Frames of one trajectory, which make a trajectory of their own."""

    trajectory: int
    frames: range
    name: str
    split: str | None


class Selection(Fields):
    """Parts of the trajectories of other fields, with the frames `step` times as far apart."""

    def __init__(self, whole: Fields, parts: Sequence[Part], step: int = 1) -> None:
        self.readers, self._whole, self.parts, self.step = whole.readers, whole, tuple(parts), step
        self.spec = replace(whole.spec, dt=whole.spec.dt * step)
        self.trajectories = [
            replace(
                whole.trajectories[part.trajectory],
                name=part.name,
                split=part.split,
                times=whole.trajectories[part.trajectory].times[
                    part.frames.start : part.frames.stop : part.frames.step
                ],
            )
            for part in parts
        ]

    def __len__(self) -> int:
        return len(self.parts)

    def place(self, trajectory: int) -> tuple[Reader, int, range]:
        """Where a trajectory lies: its file, its number there, and which frames it has of it."""
        reader, index, stored = self._whole.place(self.parts[trajectory].trajectory)
        frames = self.parts[trajectory].frames
        return reader, index, stored[frames.start : frames.stop : frames.step]

    def read(self, trajectory: int, frames: slice = slice(None)) -> Field:
        """The given ones of the frames that are left of a trajectory."""
        part = self.parts[trajectory]
        left = part.frames[frames]
        field = self._whole.read(part.trajectory, slice(left.start, left.stop, left.step))
        return field if field.spec == self.spec else replace(field, spec=self.spec)

    def __reduce__(self) -> Any:
        return Selection, (self._whole, self.parts, self.step)


def every_nth(fields: Fields, stride: int) -> Selection:
    """The same trajectories with every `stride`-th frame, from the first on, and a dt as long."""
    parts = [
        Part(i, range(0, len(trajectory.times), stride), trajectory.name, trajectory.split)
        for i, trajectory in enumerate(fields.trajectories)
    ]
    return Selection(fields, parts, stride)


def in_stretches(fields: Fields, split: SplitConfig) -> Selection:
    """Each trajectory cut into stretches of time: the first for training, the next for validation,
    the last for test, with `split.gap` frames left out in between. No frame is in two of them, and
    so no window.

    Trajectories of files that come divided stay whole. Raises DataError for one that is too short.
    """
    parts = []
    for i, trajectory in enumerate(fields.trajectories):
        count, name = len(trajectory.times), trajectory.name
        if trajectory.split:
            parts.append(Part(i, range(count), name, trajectory.split))
            continue
        for kind, frames in zip(SPLITS, stretches(count, split, name), strict=True):
            if frames:
                parts.append(Part(i, frames, f"{name}[{frames.start}:{frames.stop}]", kind))
    return Selection(fields, parts)


def stretches(count: int, split: SplitConfig, name: str) -> tuple[range, range, range]:
    """The frames of a trajectory for training, validation and test, in order of time."""
    valid, test = (max(round(count * part), int(part > 0)) for part in (split.valid, split.test))
    first_test = count - test
    last_valid = first_test - split.gap * bool(test)
    first_valid = last_valid - valid
    last_train = first_valid - split.gap * bool(valid)
    if last_valid < 0 or first_valid < 0 or (last_train < 1 and split.valid + split.test < 1):
        raise DataError(
            f"{shown(name)} has {count} frames, too few to leave any to train on beside {valid} to "
            f"validate on, {test} for the test and data.split.gap = {split.gap} between them. "
            "Lower data.split.valid, data.split.test or the gap."
        )
    return (
        range(max(0, last_train)),
        range(first_valid, last_valid),
        range(first_test, count),
    )
