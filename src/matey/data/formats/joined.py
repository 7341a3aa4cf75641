"""A run that lies in many files, groups or datasets, as one file.

Frames or stretches of frames follow each other along time, and files with different variables stand
side by side. Nothing is copied: a part is opened when a frame of it is asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from matey.config import Join
from matey.data.formats import files
from matey.data.formats.container import Container, open_container
from matey.data.formats.files import Stamp, shown
from matey.errors import DataError, ShapeError

TIME = "time"  # what the times of a run are called where its files have no name for them


@dataclass(frozen=True)
class Part:
    """Frames `start` to `stop` of a file. `names` are those of its arrays in the file, by their
    names in the run, where they differ."""

    path: Path
    stamp: Stamp
    start: int
    stop: int
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Series:
    """Parts that follow each other in time.

    `along` has the arrays of which each part has a share, by their names in the run, with their
    axis of time in a part; None where a part is one frame without such an axis. `others` are the
    arrays that are the same in all parts. `dims` are names of axes that the files do not give.
    """

    parts: tuple[Part, ...]
    along: Mapping[str, int | None]
    others: tuple[str, ...] = ()
    dims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """The files of one run. `path` is no file: it stands for all of them in names and messages.

    `times` are those of all its frames, called `time`, with `clock` as their attributes; none where
    nothing says them. `join` is what a data config says of it, and `dropped` whether frames stood
    twice. `assumptions` and `doubts` are as in a draft.
    """

    path: Path
    series: tuple[Series, ...]
    times: tuple[float, ...] = ()
    time: str = TIME
    clock: Mapping[str, Any] = field(default_factory=dict)
    join: tuple[Join, ...] = ()
    dropped: bool = False
    assumptions: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it lies in."""
        paths = (part.path for series in self.series for part in series.parts)
        return tuple(dict.fromkeys(paths))

    def lie_in(self, frames: range) -> list[tuple[Path, int, int]]:
        """The files that frames of the run lie in, with the first there and the one after the
        last; of frames in groups or datasets their places in the file."""
        places = []
        for series in self.series:
            begin = 0
            inside = 1 == len({part.path for part in series.parts}) < len(series.parts)
            for part in series.parts:
                end = begin + part.stop - part.start
                first, last = max(frames.start, begin), min(frames.stop, end)
                shift = 0 if inside else part.start - begin
                if first < last:
                    places.append((part.path, first + shift, last + shift))
                elif not series.along:  # all of an array in a file of its own
                    places.append((part.path, frames.start, frames.stop))
                begin = end
        return places

    @property
    def stamp(self) -> Stamp:
        """A mark of this run among the open files of the process."""
        stamps = [part.stamp for series in self.series for part in series.parts]
        return sum(size for size, _ in stamps), hash((self.path, tuple(stamps)))


class JoinedContainer:
    """A run as a container. It keeps no file open itself."""

    def __init__(self, run: Run) -> None:
        self.path = run.path
        self._run = run
        self._series: dict[str, Series] = {}
        self._arrays: dict[str, JoinedArray] = {}
        for series in run.series:
            for name in (*series.along, *series.others):
                self._series.setdefault(name, series)

    def names(self) -> list[str]:
        times = [self._run.time] if self._run.times else []
        return list(dict.fromkeys([*self._series, *times]))

    def array(self, name: str) -> Any:
        if name == self._run.time and self._run.times:
            return np.array(self._run.times)
        series = self._of(name)
        if name in series.along:
            if name not in self._arrays:
                self._arrays[name] = JoinedArray(series, name)
            return self._arrays[name]
        return open_part(series.parts[0]).array(stored_name(series.parts[0], name))

    def dims(self, name: str) -> tuple[str, ...]:
        if name == self._run.time and self._run.times:
            return (name,)
        series = self._of(name)
        if name in series.dims:
            return series.dims[name]
        first = series.parts[0]
        file, stored = open_part(first), stored_name(first, name)
        dims = file.dims(stored)
        if series.along.get(name, 0) is None:
            return (self._run.time, *(dims or ("",) * len(file.array(stored).shape)))
        return dims

    def attributes(self, name: str = "") -> dict[str, Any]:
        if name == self._run.time and self._run.times:
            return dict(self._run.clock)
        series = self._of(name) if name else self._run.series[0]
        stored = stored_name(series.parts[0], name) if name else ""
        return open_part(series.parts[0]).attributes(stored)

    def _of(self, name: str) -> Series:
        if name not in self._series:
            listed = ", ".join(shown(stored) for stored in self.names())
            raise DataError(f"{shown(self.path)}: {name} is missing. Found: {listed}.")
        return self._series[name]

    def close(self) -> None:
        """Parts are closed by whoever keeps the open files of the process."""


class JoinedArray:
    """An array whose entries along time lie in the parts of a run, opened as they are read."""

    def __init__(self, series: Series, name: str) -> None:
        self._series, self._name = series, name
        self._axis = series.along[name]
        first = series.parts[0]
        array = open_part(first).array(stored_name(first, name))
        lengths = [part.stop - part.start for part in series.parts]
        self._ends = np.cumsum(lengths)
        shape = list(array.shape)
        if self._axis is None:
            shape.insert(0, sum(lengths))
        else:
            shape[self._axis] = sum(lengths)
        self.shape, self.ndim, self.dtype = tuple(shape), len(shape), array.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        index = index if isinstance(index, tuple) else (index,)
        index = index + (slice(None),) * (self.ndim - len(index))
        axis = self._axis or 0
        wanted, before, after = index[axis], index[:axis], index[axis + 1 :]
        if not isinstance(wanted, slice):
            one = slice(int(wanted), int(wanted) + 1)
            whole = self[(*before, one, *after)]
            return whole.take(0, sum(isinstance(part, slice) for part in before))
        frames = range(*wanted.indices(self.shape[axis]))
        place = sum(isinstance(part, slice) for part in before)
        pieces = [
            self._read(part, first, step, count, before, after, place)
            for part, first, step, count in self._shares(frames)
        ]
        if not pieces:
            return self[(*before, slice(0, 1), *after)].take([], place)
        return np.concatenate(pieces, place) if len(pieces) > 1 else pieces[0]

    def _shares(self, frames: range) -> list[tuple[int, int, int, int]]:
        """Which frames of which part are wanted: part, first one there, step, count."""
        shares: list[tuple[int, int, int, int]] = []
        left = frames
        while left:
            part = int(np.searchsorted(self._ends, left[0], side="right"))
            end = int(self._ends[part])
            start = int(self._ends[part - 1]) if part else 0
            count = len(range(left[0], min(left.stop, end), left.step))
            shares.append((part, left[0] - start, left.step, count))
            left = left[count:]
        return shares

    def _read(
        self,
        number: int,
        first: int,
        step: int,
        count: int,
        before: tuple[Any, ...],
        after: tuple[Any, ...],
        place: int,
    ) -> np.ndarray:
        """Frames of one part, with an axis of time. Raises ShapeError if its shape is another."""
        part = self._series.parts[number]
        array = open_part(part).array(self._stored(number))
        rest = self.shape[1:] if self._axis is None else self.shape
        here = list(array.shape)
        if self._axis is not None and len(here) == self.ndim:
            here[self._axis] = self.shape[self._axis]
        if tuple(here) != rest:
            raise ShapeError(
                f"{shown(part.path)}: {self._name} has shape {tuple(array.shape)}, unlike that of "
                f"{shown(self._series.parts[0].path.name)}. Frames of one run are on one grid."
            )
        if self._axis is None:
            return np.asarray(array[after])[None]
        start = part.start + first
        frames = slice(start, start + (count - 1) * step + 1, step)
        return np.asarray(array[(*before, frames, *after)])

    def _stored(self, number: int) -> str:
        return stored_name(self._series.parts[number], self._name)


def stored_name(part: Part, name: str) -> str:
    """The name in its file of an array of the run."""
    return part.names.get(name, name)


def open_part(part: Part) -> Container:
    """The file of a part, kept open while it is among the last used. Raises DataError if it changed
    since it was first looked at."""
    files.check_unchanged(part.path, part.stamp)
    with files.guarded(part.path):
        file: Container = files.handle(part.path, part.stamp, open_container)
    return file
