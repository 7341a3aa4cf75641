"""Windows: which frames of which trajectory make one training sample, and the split.

Axes: T times, C variables, (Z, Y, X) grid points.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import isfinite, prod
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import SplitConfig, WindowConfig
from matey.data import files
from matey.data.arrays import room_for
from matey.data.augment import check_flips
from matey.data.files import shown
from matey.data.layout import UNIFORM
from matey.data.reader import Fields, Reader
from matey.data.spans import Piece
from matey.errors import ConfigError, DataError, ShapeError
from matey.fields import Batch, Field, Window

SPLITS = ("train", "valid", "test")
GOLDEN = 0.618033988749895  # steps of this share of a whole never come round to the same places


def split_trajectories(fields: Fields, config: SplitConfig) -> dict[str, list[int]]:
    """Trajectories for training, validation and test: disjoint, and a pure function of the seed.

    Files that come divided keep their division. Others are shuffled and divided; of two
    trajectories one is for test, of three or more one for validation too. Raises DataError where
    some come divided and some do not: to divide the others might tear apart what belongs together.
    """
    given = [trajectory.split for trajectory in fields.trajectories]
    if any(given) and not all(given):
        divided, loose = given.index(next(filter(None, given))), given.index(None)
        raise DataError(
            f"System {fields.spec.name!r}: {shown(fields.trajectories[divided].name)} comes for "
            f"{given[divided]}, but {shown(fields.trajectories[loose].name)} in no folder called "
            f"{', '.join(SPLITS)}. Put its file into one of these, or make it another system."
        )
    if all(given):
        return {name: [i for i, split in enumerate(given) if split == name] for name in SPLITS}
    count = len(fields.trajectories)
    # By name, so that the order in which files are listed does not matter.
    by_name = sorted(range(count), key=lambda i: fields.trajectories[i].name)
    seed = [config.seed, *fields.spec.name.encode()]
    shuffled = [by_name[i] for i in np.random.default_rng(seed).permutation(count)]
    test = max(round(count * config.test), int(config.test > 0 and count >= 2))
    valid = max(round(count * config.valid), int(config.valid > 0 and count >= 3))
    return {
        "test": sorted(shuffled[:test]),
        "valid": sorted(shuffled[test : test + valid]),
        "train": sorted(shuffled[test + valid :]),
    }


def is_uniform(steps: Float[Tensor, " steps"]) -> bool:
    """Whether time steps, in units of their median, count as equal: within a tenth of it."""
    return bool(((steps - 1).abs() <= UNIFORM).all())


class Choice(NamedTuple):
    """A window to read, by number, and where its target lies: `pushes + lead` steps later."""

    window: int
    lead: int = 1
    pushes: int = 0


class Place(NamedTuple):
    """Frames of one trajectory: those of a history, and the target."""

    trajectory: int
    frames: range
    target: int
    between: range


class Windows:
    """Every window of some trajectories of one system: a start each, and a lead to choose.

    A step is `config.stride` frames, and `spec` has the dt of that. Raises DataError if no
    trajectory is as long as the history and the shortest lead, ConfigError if a setting does
    not suit the system.
    """

    def __init__(self, fields: Fields, trajectories: Sequence[int], config: WindowConfig) -> None:
        self.fields = fields
        self.config = config
        self.spec = replace(fields.spec, dt=fields.spec.dt * config.stride)
        self.trajectories = tuple(trajectories)
        check_flips(self.spec, config.flip)
        known = [fields.trajectories[i] for i in trajectories]
        needed = (config.history - 1 + config.min_lead) * config.stride
        counts = [max(0, len(trajectory.times) - needed) for trajectory in known]
        self._ends = list(accumulate(counts))
        self._lengths = {i: len(k.times) for i, k in zip(trajectories, known, strict=True)}
        if trajectories and not len(self):
            self._refuse(max(len(trajectory.times) for trajectory in known), needed + 1)
        self._uniform = dict(
            zip(
                trajectories,
                (is_uniform(t.times.diff() / fields.spec.dt) for t in known),
                strict=True,
            )
        )
        if config.pushforward and not all(self._uniform.values()):
            raise ConfigError(
                f"windows.pushforward takes steps of equal length, and those of system "
                f"{fields.spec.name!r} are not. Set it to 0."
            )
        self._parameters = {
            i: [k.parameters[name] for name in self.spec.parameters]
            for i, k in zip(trajectories, known, strict=True)
        }
        # A system has one kind of them.
        self._boundaries = np.array([k.boundaries for k in known[:1]], np.int64).reshape(-1, 3, 2)
        self.groups = self._group_by_grid(counts)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _refuse(self, longest: int, needed: int) -> None:
        config, room = self.config, longest - self.config.min_lead
        way_out = "Lower them."
        if config.stride == 1 and room > 0:
            way_out = f"Set windows.history to {room} or less."
        raise DataError(
            f"System {self.spec.name!r} has at most {longest} frames a trajectory: too few for "
            f"windows.history = {config.history} and a target (stride {config.stride}, "
            f"min_lead {config.min_lead}), which take {needed}. {way_out}"
        )

    def _group_by_grid(self, counts: Sequence[int]) -> dict[tuple[int, int, int], np.ndarray]:
        """Windows that can stand in one batch: those on one grid shape."""
        groups: dict[tuple[int, int, int], list[np.ndarray]] = {}
        for trajectory, count, end in zip(self.trajectories, counts, self._ends, strict=True):
            shape = self.fields.trajectories[trajectory].grid.shape
            groups.setdefault(shape, []).append(np.arange(end - count, end))
        joined = {shape: np.concatenate(parts) for shape, parts in groups.items()}
        return {shape: windows for shape, windows in joined.items() if len(windows)}

    def place(self, window: int) -> tuple[int, int]:
        """Trajectory and first frame of a window."""
        if not 0 <= window < len(self):
            raise IndexError(f"Window {window} of {len(self)} of system {self.spec.name!r}.")
        i = bisect_right(self._ends, window)
        before = self._ends[i - 1] if i else 0
        return self.trajectories[i], window - before

    def after(self, window: int) -> int:
        """Steps in the trajectory after the window's history."""
        trajectory, start = self.place(window)
        stride = self.config.stride
        last = start + (self.config.history - 1) * stride
        return (self._lengths[trajectory] - 1 - last) // stride

    def scattered(self, most: int) -> list[Choice]:
        """At most so many windows on the largest grid, each far from the one before it.

        Steps of the golden ratio's share never fall in step with the lengths of trajectories, as
        even ones may.
        """
        group = self.groups[max(self.groups, key=prod)]
        share = [i * GOLDEN % 1 for i in range(min(most, len(group)))]
        if len(group) > most:
            places = [int(part * len(group)) for part in share]
        else:  # all of them
            places = sorted(range(len(group)), key=share.__getitem__)
        return [Choice(int(group[place])) for place in places]

    def batch(self, choices: Sequence[Choice]) -> Batch:
        """Read windows of one grid shape and of as many pushes from their files, as a batch."""
        places = [self._find(choice) for choice in choices]
        read = self._read(places)
        parameters = [self._parameters[place.trajectory] for place in places]
        lead_times = [self._lead_time(*pair) for pair in zip(places, choices, strict=True)]
        return Batch(
            values=read.histories,
            lead_time=torch.from_numpy(np.array(lead_times, np.float32)),
            boundaries=torch.from_numpy(self._boundaries.repeat(len(places), axis=0)),
            parameters=torch.from_numpy(np.array(parameters, np.float32)),
            spec=self.spec,
            sources=tuple(self._source(place) for place in places),
            target=read.targets,
            pushes=choices[0].pushes,
            between=read.between if self.config.learn_rollout else None,
        )

    def read(self, choices: Sequence[Choice]) -> list[Window]:
        """Read windows from their files one by one, whatever their grids."""
        windows = []
        for choice in choices:
            place = self._find(choice)
            read, known = self._read([place]), self.fields.trajectories[place.trajectory]
            history = Field(
                read.histories[0],
                known.times[place.frames.start : place.frames.stop : place.frames.step],
                known.grid,
                known.boundaries,
                dict(known.parameters),
                self.spec,
            )
            target = read.targets[0]
            windows.append(
                Window(history, target, self._lead_time(place, choice), self._source(place))
            )
        return windows

    def _read(self, places: Sequence["Place"]) -> "Frames":
        """The frames at places on one grid shape; those of one file are read together."""
        shapes = {self.fields.trajectories[place.trajectory].grid.shape for place in places}
        if len(shapes) > 1:
            raise ShapeError(f"Windows on {sorted(shapes)} points do not stack into one batch.")
        grid, variables = shapes.pop(), len(self.spec.variables)
        history = self.config.history
        count, length = len(places), history + len(places[0].between) + 1
        first = self.fields.readers[0]
        files.check_size(
            4 * count * length * variables * prod(grid), first.path, f"a batch of {count} windows"
        )
        # In memory a variable's frames follow each other, as in its dataset.
        values = room_for((count, variables, length, *grid), first.x_first).swapaxes(1, 2)
        pieces = [
            Piece(trajectory, (*frames, *between, target), room)
            for (trajectory, frames, target, between), room in zip(places, values, strict=True)
        ]
        self.fields.read_into(pieces)
        # A sum with a value that is not finite is not finite, and one pass is all it takes; so
        # may be the sum of very large values, which a look at each tells apart. einsum adds twice
        # as fast as NumPy's sum; torch's starts threads, and they take longer than a small batch.
        if not isfinite(np.einsum("i->", values.ravel(order="K"))):
            self.fields.check_finite(pieces)
        read = torch.from_numpy(values)
        return Frames(read[:, :history], read[:, history:-1], read[:, -1])

    def _find(self, choice: Choice) -> Place:
        """Where a choice lies. Raises DataError unless its target is after its history and
        before the end."""
        trajectory, start = self.place(choice.window)
        known, stride = self.fields.trajectories[trajectory], self.config.stride
        last = start + (self.config.history - 1) * stride
        target = last + (choice.pushes + choice.lead) * stride
        if choice.lead < 1 or choice.pushes < 0:
            raise DataError(
                f"Lead time {choice.lead} after {choice.pushes} steps of {known.name} is not "
                "positive. The target lies 1 step or more after the history."
            )
        if target >= self._lengths[trajectory]:
            left = self.after(choice.window) - choice.pushes
            raise DataError(
                f"Lead time {choice.lead} after frame {last} of {known.name} lies beyond its end: "
                f"{left} steps of {stride} frames are left."
            )
        steps = choice.pushes if self.config.learn_rollout else 0
        between = range(last + stride, last + stride * (steps + 1), stride)
        return Place(trajectory, range(start, last + 1, stride), target, between)

    def _lead_time(self, place: Place, choice: Choice) -> float:
        """Steps from a history, or from what is pushed, to the target."""
        if self._uniform[place.trajectory]:
            return float(choice.lead)  # where steps count as uniform, each is a lead of exactly 1
        times = self.fields.trajectories[place.trajectory].times
        elapsed = float(times[place.target] - times[place.frames[-1]])
        return elapsed / self.spec.dt - choice.pushes

    def _source(self, place: Place) -> str:
        """Trajectory and frames of a history, for messages."""
        name = self.fields.trajectories[place.trajectory].name
        by = f" by {self.config.stride}" if self.config.stride > 1 else ""
        return f"{name} frames {place.frames[0]}-{place.frames[-1]}{by}"


@dataclass(frozen=True)
class Frames:
    """What was read of some windows: `histories` [B T C Z Y X], the frames `between` them and
    the `targets` [B C Z Y X]."""

    histories: Tensor
    between: Tensor
    targets: Tensor


class EveryNth(Fields):
    """The same trajectories with every `stride`-th frame, from the first on, and a dt as long."""

    def __init__(self, fields: Fields, stride: int) -> None:
        super().__init__(fields.readers, fields.spec.name)
        self.stride, self._whole = stride, self.trajectories
        self.spec = replace(self.spec, dt=self.spec.dt * stride)
        self.trajectories = [replace(t, times=t.times[::stride]) for t in self._whole]

    def read(self, trajectory: int, frames: slice = slice(None)) -> Field:
        """The given frames of those that are left."""
        chosen = range(len(self._whole[trajectory].times))[:: self.stride][frames]
        return super().read(trajectory, slice(chosen.start, chosen.stop, chosen.step))

    def _by_reader(self, pieces: Sequence[Piece]) -> dict[Reader, list[Piece]]:
        thinned = []
        for trajectory, frames, values in pieces:
            chosen = [frame * self.stride for frame in frames]
            thinned.append(Piece(trajectory, chosen, values))
        return super()._by_reader(thinned)

    def __reduce__(self) -> Any:
        return EveryNth, (Fields(self.readers, self.spec.name), self.stride)
