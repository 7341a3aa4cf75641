"""Windows: which frames of which trajectory make one training sample, and the split.

Axes: T times, C variables, (Z, Y, X) grid points.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import SplitConfig, WindowConfig
from matey.data.augment import check_flips
from matey.data.layout import UNIFORM
from matey.data.reader import Fields
from matey.errors import ConfigError, DataError
from matey.fields import Field, Window

SPLITS = ("train", "valid", "test")


def split_trajectories(fields: Fields, config: SplitConfig) -> dict[str, list[int]]:
    """Trajectories for training, validation and test: disjoint, and a pure function of the seed.

    Files that come divided keep their division. Others are shuffled and divided; of two
    trajectories one is for test, of three or more one for validation too.
    """
    given = [trajectory.split for trajectory in fields.trajectories]
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


@dataclass(frozen=True)
class Choice:
    """A window to read, by number, and where its target lies: `pushes + lead` steps later."""

    window: int
    lead: int = 1
    pushes: int = 0


@dataclass(frozen=True)
class Place:
    """Frames of one trajectory: those of a history, and the target."""

    trajectory: int
    frames: range
    target: int


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
        self._ends = np.cumsum(counts, dtype=np.int64)
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
        self.groups = self._group_by_grid(counts)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

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
        i = int(np.searchsorted(self._ends, window, side="right"))
        before = int(self._ends[i - 1]) if i else 0
        return self.trajectories[i], window - before

    def after(self, window: int) -> int:
        """Steps in the trajectory after the window's history."""
        trajectory, start = self.place(window)
        stride = self.config.stride
        last = start + (self.config.history - 1) * stride
        return (len(self.fields.trajectories[trajectory].times) - 1 - last) // stride

    def read(self, choices: Sequence[Choice]) -> list[Window]:
        """Read windows from their files. Of each trajectory every frame is read once, in order
        of time, however many of the windows hold it."""
        places = [self._find(choice) for choice in choices]
        needed: dict[int, set[int]] = {}
        for place in places:
            needed.setdefault(place.trajectory, set()).update([*place.frames, place.target])
        read = {
            trajectory: Frames(read_frames(self.fields, trajectory, sorted(frames)), sorted(frames))
            for trajectory, frames in needed.items()
        }
        return [
            self._cut(read[place.trajectory], place, choice)
            for place, choice in zip(places, choices, strict=True)
        ]

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
        if target >= len(known.times):
            left = self.after(choice.window) - choice.pushes
            raise DataError(
                f"Lead time {choice.lead} after frame {last} of {known.name} lies beyond its end: "
                f"{left} steps of {stride} frames are left."
            )
        return Place(trajectory, range(start, last + 1, stride), target)

    def _cut(self, read: "Frames", place: Place, choice: Choice) -> Window:
        """One window out of the frames read of its trajectory."""
        at, target = [read.position[frame] for frame in place.frames], read.position[place.target]
        times, values = take(read.field.times, at), take(read.field.values, at)
        whole = read.field
        history = Field(values, times, whole.grid, whole.boundaries, whole.parameters, self.spec)
        elapsed = float(read.field.times[target] - times[-1]) / self.spec.dt - choice.pushes
        by = f" by {self.config.stride}" if self.config.stride > 1 else ""
        name = self.fields.trajectories[place.trajectory].name
        return Window(
            history,
            read.field.values[target],
            # Where steps count as uniform, each is a lead of exactly 1.
            lead_time=float(choice.lead) if self._uniform[place.trajectory] else elapsed,
            source=f"{name} frames {place.frames[0]}-{place.frames[-1]}{by}",
        )


class Frames:
    """Some frames of one trajectory, and where each stands among them."""

    def __init__(self, field: Field, numbers: Sequence[int]) -> None:
        self.field = field
        self.position = {number: i for i, number in enumerate(numbers)}


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

    def __reduce__(self) -> Any:
        return EveryNth, (Fields(self.readers, self.spec.name), self.stride)


def read_frames(fields: Fields, trajectory: int, frames: Sequence[int]) -> Field:
    """The given frames, in order of time; each is read once, and no others are."""
    pieces = [fields.read(trajectory, frames) for frames in progressions(frames)]
    if len(pieces) == 1:
        return pieces[0]
    values, times = ([getattr(p, name) for p in pieces] for name in ("values", "times"))
    return replace(pieces[0], values=torch.cat(values), times=torch.cat(times))


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


def take(values: Tensor, at: Sequence[int]) -> Tensor:
    """Entries along the first axis: a view where they lie evenly."""
    slices = progressions(at)
    return values[slices[0]] if len(slices) == 1 else values[list(at)]
