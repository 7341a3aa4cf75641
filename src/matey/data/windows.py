"""Windows: which frames of which trajectory make one training sample or the start of a rollout.

Axes: T times, C variables, (Z, Y, X) grid points.
"""

import logging
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby, pairwise
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import WindowConfig
from matey.data.formats import files
from matey.data.layouts.base import UNIFORM
from matey.data.layouts.stored import Corner, Piece, allocate
from matey.data.selection import Selection
from matey.data.symmetry import check_flips
from matey.data.trajectories import Fields
from matey.errors import ConfigError, DataError, ShapeError
from matey.fields import Batch, Field, Inputs, place_box, stack_crops, stack_fields
from matey.fields.grid import stack_points, stack_spacing

log = logging.getLogger("matey")

GOLDEN = 0.618033988749895  # steps of this share of a whole never come round to the same places
# The same in a space of three dimensions, of the root of x**4 = x + 1 (Roberts's sequence).
GOLDEN_BOX = 0.8191725133961645, 0.6710436067037893, 0.5497004779019703


def is_uniform(steps: Float[Tensor, " steps"]) -> bool:
    """Whether time steps, in units of their median, count as equal: within a tenth of it."""
    return bool(((steps - 1).abs() <= UNIFORM).all())


class Choice(NamedTuple):
    """A window to read, by number, and where its target lies: `pushes + lead` steps later. Of a
    crop, its first point (z, y, x)."""

    window: int
    lead: int = 1
    pushes: int = 0
    corner: Corner = (0, 0, 0)


class Place(NamedTuple):
    """Frames of one trajectory: those of a history, those `between`, and the target."""

    trajectory: int
    frames: range
    between: range
    target: int


class Windows:
    """Every window of some trajectories of one system: a start each, and a lead to choose.

    A step is `config.stride` frames, and `spec` has the dt of that. Raises DataError if no
    trajectory is as long as the history and the shortest lead, ConfigError if a setting does
    not suit the system. With `config.crop`, a batch has boxes of the grids.
    """

    def __init__(self, fields: Fields, trajectories: Sequence[int], config: WindowConfig) -> None:
        self.fields = fields
        self.config = config
        self.spec = replace(fields.spec, dt=fields.spec.dt * config.stride)
        self.trajectories = tuple(trajectories)
        check_flips(self.spec, config.flip)
        selected = [fields.trajectories[i] for i in trajectories]
        needed = (config.history - 1 + config.min_lead) * config.stride
        counts = [max(0, len(trajectory.times) - needed) for trajectory in selected]
        self._ends = list(accumulate(counts))
        self._lengths = {i: len(k.times) for i, k in zip(trajectories, selected, strict=True)}
        if trajectories and not len(self):
            self._refuse(max(len(trajectory.times) for trajectory in selected), needed + 1)
        uniform = (is_uniform(t.times.diff() / fields.spec.dt) for t in selected)
        self.even = dict(zip(trajectories, uniform, strict=True))
        if config.longest and not all(self.even.values()):
            raise ConfigError(
                f"windows.pushforward takes steps of equal length, and those of system "
                f"{fields.spec.name!r} are not. Set it to 0."
            )
        self._parameters = {
            i: [k.parameters[name] for name in self.spec.parameters]
            for i, k in zip(trajectories, selected, strict=True)
        }
        # A system has one kind of them.
        self._boundaries = np.array([k.boundaries for k in selected[:1]], np.int64).reshape(
            -1, 3, 2
        )
        self.groups = self._group_by_grid(counts)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _refuse(self, longest: int, needed: int) -> None:
        config, room = self.config, longest - self.config.min_lead
        way_out = "Lower them."
        if config.stride == 1 and room > 0:
            way_out = f"Set windows.history to {room} or less."
        if isinstance(self.fields, Selection):
            way_out += " Or give its stretch of time a larger share (data.split)."
        raise DataError(
            f"System {self.spec.name!r} has at most {longest} frames a trajectory: too few for "
            f"windows.history = {config.history} and a target (stride {config.stride}, "
            f"min_lead {config.min_lead}), which take {needed}. {way_out}"
        )

    def _group_by_grid(self, counts: Sequence[int]) -> dict[tuple[int, int, int], np.ndarray]:
        """Windows that can stand in one batch: those on one grid shape, or with crops of one."""
        groups: dict[tuple[int, int, int], list[np.ndarray]] = {}
        for trajectory, count, end in zip(self.trajectories, counts, self._ends, strict=True):
            if count:
                shape = self._crop_in(trajectory)
                groups.setdefault(shape, []).append(np.arange(end - count, end))
        return {shape: np.concatenate(parts) for shape, parts in groups.items()}

    def _crop_in(self, trajectory: int) -> tuple[int, int, int]:
        """The shape of a trajectory's windows."""
        return self.config.cropped(self.fields.trajectories[trajectory].grid.shape)

    def corner(self, window: int, shares: Sequence[float]) -> Corner:
        """The first point of a window's crop whose middle is at these shares of the axes."""
        trajectory, _ = self.place(window)
        grid = self.fields.trajectories[trajectory].grid.shape
        return place_box(grid, self._crop_in(trajectory), shares)

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
        places = [int(part * len(group)) for part in share]
        if len(group) <= most:  # all of them
            places = sorted(range(len(group)), key=share.__getitem__)
        windows = [int(group[place]) for place in places]
        shares = ([i * step % 1 for step in GOLDEN_BOX] for i in range(1, len(windows) + 1))
        corners = map(self.corner, windows, shares)
        return [Choice(i, corner=at) for i, at in zip(windows, corners, strict=True)]

    def batch(self, choices: Sequence[Choice]) -> Batch:
        """Read windows of one grid shape and of as many pushes from their files, as a batch; of
        crops no more than these."""
        places = [self._find(choice) for choice in choices]
        corners = [choice.corner for choice in choices]
        read = self._read(places, corners)
        parameters = [self._parameters[place.trajectory] for place in places]
        lead_times = [self._lead_time(*pair) for pair in zip(places, choices, strict=True)]
        grids = [self.fields.trajectories[place.trajectory].grid for place in places]
        history, shape = self.config.history, self._crop_in(places[0].trajectory)
        boundaries = torch.from_numpy(self._boundaries.repeat(len(places), axis=0))
        domains = [grid.shape for grid in grids]
        crop = stack_crops(corners, domains, shape, boundaries, self.config.margin)
        boxes = [(corner, shape) for corner in corners] if crop else None
        return Batch(
            values=read[:, :history],
            lead_time=torch.from_numpy(np.array(lead_times, np.float32)),
            boundaries=crop.neighbours(shape) if crop else boundaries,
            parameters=torch.from_numpy(np.array(parameters, np.float32)),
            spec=self.spec,
            sources=tuple(self._source(place) for place in places),
            target=read[:, -1],
            points=stack_points(grids, boxes),
            spacing=stack_spacing(grids),
            crop=crop,
            pushes=choices[0].pushes,
            between=read[:, history:-1] if places[0].between else None,
        )

    def _read(
        self, places: Sequence[Place], corners: Sequence[Corner]
    ) -> Float[Tensor, "B T C Z Y X"]:
        """The histories at places on one grid shape, each followed by the frames between and its
        target; those of one file are read together. Crops begin at `corners`."""
        shapes = {self._crop_in(place.trajectory) for place in places}
        if len(shapes) > 1:
            raise ShapeError(f"Windows on {sorted(shapes)} points do not stack into one batch.")
        grid, variables = shapes.pop(), len(self.spec.variables)
        count, length = len(places), self.config.history + len(places[0].between) + 1
        first = self.fields.readers[0]
        files.check_size(
            4 * count * length * variables * prod(grid), first.path, f"a batch of {count} windows"
        )
        # In memory a variable's frames follow each other, as in its dataset.
        values = allocate((count, variables, length, *grid), first.x_first).swapaxes(1, 2)
        self.fields.read_into(
            [
                Piece(trajectory, (*frames, *between, target), array, corner)
                for (trajectory, frames, between, target), array, corner in zip(
                    places, values, corners, strict=True
                )
            ]
        )
        return torch.from_numpy(values)

    def _find(self, choice: Choice) -> Place:
        """Where a choice lies. Raises DataError unless its target is after its history and
        before the end."""
        index, start = self.place(choice.window)
        trajectory, stride = self.fields.trajectories[index], self.config.stride
        last = start + (self.config.history - 1) * stride
        target = last + (choice.pushes + choice.lead) * stride
        if choice.lead < 1 or choice.pushes < 0:
            raise DataError(
                f"Lead time {choice.lead} after {choice.pushes} steps of {trajectory.name} is not "
                "positive. The target lies 1 step or more after the history."
            )
        if target >= self._lengths[index]:
            left = self.after(choice.window) - choice.pushes
            raise DataError(
                f"Lead time {choice.lead} after frame {last} of {trajectory.name} lies beyond its "
                f"end: {left} steps of {stride} frames are left."
            )
        steps = choice.pushes if self.config.learn_rollout else 0
        between = range(last + stride, last + stride * (steps + 1), stride)
        return Place(index, range(start, last + 1, stride), between, target)

    def _lead_time(self, place: Place, choice: Choice) -> float:
        """Steps from a history, or from what is pushed, to the target."""
        if self.even[place.trajectory]:
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
class RolloutBatch:
    """Rollouts on one grid: what a model is given, and the true fields, history included.

    `starts` are the trajectory and the first frame of each; `apart` is the time from each frame of
    the truth to the next, in dt.
    """

    starts: list[tuple[int, int]]
    inputs: Inputs
    truth: list[Field]
    apart: Float[Tensor, "B steps"]

    def spans(self, leads: Sequence[int]) -> list[Float[Tensor, " B"]]:
        """The time to each of some frames ahead from the one before it, in dt."""
        ahead = self.apart[:, self.inputs.values.shape[1] - 1 :]
        return [ahead[:, first:last].sum(dim=1) for first, last in pairwise([0, *leads])]


class Rollouts:
    """Where rollouts of `steps` frames start on some trajectories, and what truly follows.

    They start from every frame that leaves room for them, or from `limit` of these, spread evenly
    over the trajectories. The shortest trajectory says how many steps there can be. Raises
    DataError if it is too short for a history and a frame `lead` later.
    """

    def __init__(
        self,
        fields: Fields,
        trajectories: Sequence[int],
        history: int,
        steps: int,
        *,
        lead: int = 1,
        limit: int | None = None,
    ) -> None:
        self.fields, self.history = fields, history
        if not trajectories:
            raise DataError(
                f"System {fields.spec.name!r} has no test trajectory: {len(fields.trajectories)} "
                "in all."
            )
        shortest = min(len(fields.trajectories[i].times) for i in trajectories)
        if shortest < history + lead:
            ahead = "a frame to check" if lead == 1 else f"a frame {lead} later to check"
            raise DataError(
                f"Test trajectories of system {fields.spec.name!r} have {shortest} frames, too few "
                f"for a history of {history} and {ahead}."
            )
        self.steps = min(steps, shortest - history)
        if self.steps < steps:
            log.warning(
                f"{fields.spec.name}: rollouts of {self.steps} steps, not {steps}: the shortest "
                f"test trajectory has {shortest} frames, and {history} of them are given."
            )
        config = WindowConfig(history=history, min_lead=self.steps, max_lead=self.steps)
        windows = Windows(fields, trajectories, config)
        count = len(windows) if limit is None else min(limit, len(windows))
        self.starts = [windows.place(i * len(windows) // count) for i in range(count)]
        self.even = windows.even

    def batches(self, size: int) -> Iterator[RolloutBatch]:
        """The rollouts in their order, at most `size` at a time, each batch on one grid."""
        shapes = {t: self.fields.trajectories[t].grid.shape for t, _ in self.starts}
        for _, alike in groupby(self.starts, key=lambda start: shapes[start[0]]):
            same = list(alike)
            for first in range(0, len(same), size):
                yield self._read(same[first : first + size])

    def _read(self, starts: list[tuple[int, int]]) -> RolloutBatch:
        """The frames of each rollout; those that share frames of a trajectory share memory."""
        length, truth = self.history + self.steps, []
        for trajectory, same in groupby(starts, key=lambda start: start[0]):
            firsts = [first for _, first in same]
            whole = self.fields.read(trajectory, slice(firsts[0], firsts[-1] + length))
            truth += [cut(whole, first - firsts[0], length) for first in firsts]
        histories = [cut(field, 0, self.history) for field in truth]
        sources = [f"{self.fields.trajectories[t].name} frame {first}" for t, first in starts]
        times = torch.stack([field.times for field in truth])
        apart = times.diff(dim=1) / self.fields.spec.dt
        # Where steps count as even, each is exactly 1.
        apart[[self.even[trajectory] for trajectory, _ in starts]] = 1
        return RolloutBatch(
            starts, stack_fields(histories, [1.0] * len(starts), sources), truth, apart.float()
        )


def cut(field: Field, first: int, count: int) -> Field:
    """So many frames of a field, in the same memory."""
    frames = slice(first, first + count)
    return replace(field, values=field.values[frames], times=field.times[frames])
