"""Statistics of fields, taken as frames stream past: means, extremes, ranges, repeated frames.

Axes: T times, C variables, (Z, Y, X) grid points. Nothing here grows with the size of a frame;
a frame leaves a mark of 12 bytes, by which it is known again.
"""

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod

import numpy as np
from jaxtyping import Float
from torch import Tensor

from matey.config import WindowConfig
from matey.data.layouts.base import Trajectory
from matey.data.trajectories import Fields
from matey.fields import Field, SystemSpec
from matey.fields.mirrors import parity
from matey.metrics.extent import extents, sampling
from matey.records.ranges import Ranges, joined

LOOKED_AT, BLOCK = 2**24, 2**22  # numbers of a system that its ranges are of; at once
FEWEST = 8  # frames that they are of, however large


@dataclass(frozen=True)
class VariableStatistics:
    """Values of one variable over all its frames and points.

    `lowest_at` and `highest_at` say where the extremes are first met: trajectory and time.
    """

    minimum: float
    maximum: float
    mean: float
    std: float
    lowest_at: str = ""
    highest_at: str = ""

    @property
    def constant(self) -> bool:
        return self.minimum == self.maximum

    @property
    def farthest(self) -> tuple[float, str]:
        """The value farthest from the mean, and where."""
        if self.maximum - self.mean >= self.mean - self.minimum:
            return self.maximum, self.highest_at
        return self.minimum, self.lowest_at


class FieldStatistics:
    """Running statistics of variables: Chan's update, in float64."""

    def __init__(self, variables: int) -> None:
        self._count = np.zeros(variables)
        self._mean, self._squares = np.zeros(variables), np.zeros(variables)
        self._lowest, self._highest = np.full(variables, np.inf), np.full(variables, -np.inf)
        self._places = [["", ""] for _ in range(variables)]

    def add(self, field: Field, name: str) -> None:
        """Count the frames of the trajectory `name`, where they hold a field."""
        values, times, at = field.values, field.times, field.spec.mask
        held = None if at is None else field.held.numpy().reshape(-1)
        for c in range(values.shape[1]):
            frames = values[:, c].numpy().reshape(len(values), -1)
            if held is not None and c != at:
                frames = frames[:, held]
            flat = frames.astype(np.float64)
            mean, count = flat.mean(), flat.size
            shift, total = mean - self._mean[c], self._count[c] + count
            flat -= mean
            np.square(flat, out=flat)
            self._squares[c] += flat.sum() + shift**2 * (self._count[c] * count / total)
            self._mean[c] += shift * (count / total)
            self._count[c] = total
            lows, highs = frames.min(1), frames.max(1)
            if lows.min() < self._lowest[c]:
                self._lowest[c] = lows.min()
                self._places[c][0] = f"{name} at time {float(times[lows.argmin()]):.6g}"
            if highs.max() > self._highest[c]:
                self._highest[c] = highs.max()
                self._places[c][1] = f"{name} at time {float(times[highs.argmax()]):.6g}"

    def statistics(self) -> tuple[VariableStatistics, ...]:
        """One for each variable; none if nothing was counted."""
        if not self._count.all():
            return ()
        std = np.sqrt(self._squares / self._count)
        rows = zip(self._lowest, self._highest, self._mean, std, self._places, strict=True)
        return tuple(
            VariableStatistics(float(low), float(high), float(mean), float(deviation), *places)
            for low, high, mean, deviation, places in rows
        )


class Repeats:
    """Which trajectories have frames in common, to the bit."""

    def __init__(self) -> None:
        self._marks, self._owners = array("Q"), array("I")

    def add(self, trajectory: int, values: Float[Tensor, "T C Z Y X"]) -> None:
        """Remember the frames of a trajectory."""
        for frame in values.numpy():
            digest = hashlib.blake2b(frame.tobytes(), digest_size=8).digest()
            self._marks.append(int.from_bytes(digest, "little"))
            self._owners.append(trajectory)

    def shared(self) -> dict[tuple[int, int], int]:
        """How many frames a trajectory has in common with the first one that holds them."""
        if not self._marks:
            return {}
        marks, owners = np.array(self._marks, np.uint64), np.array(self._owners, np.int64)
        order = np.argsort(marks, kind="stable")
        marks, owners = marks[order], owners[order]
        starts = np.concatenate([[True], marks[1:] != marks[:-1]])
        first = owners[np.maximum.accumulate(np.where(starts, np.arange(len(marks)), 0))]
        apart = first != owners
        pairs, counts = np.unique(
            np.stack([first[apart], owners[apart]], 1), axis=0, return_counts=True
        )
        return {(int(a), int(b)): int(n) for (a, b), n in zip(pairs, counts, strict=True)}


def extents_of(fields: Fields, trajectories: Sequence[int]) -> Ranges:
    """The ranges of values and gradients in some trajectories: in all of their frames, or in as
    many, spread evenly over them, as hold about 17 million numbers, but in some eight at least."""
    counts = [len(fields.trajectories[i].times) for i in trajectories]
    sizes = [
        len(fields.spec.variables) * prod(fields.trajectories[i].grid.shape) for i in trajectories
    ]
    total = sum(count * size for count, size in zip(counts, sizes, strict=True))
    step = max(1, min(-(-total // LOOKED_AT), sum(counts) // FEWEST))
    before = [0, *accumulate(counts)]
    found: list[Ranges] = []
    for place, (i, size) in enumerate(zip(trajectories, sizes, strict=True)):
        block = max(1, BLOCK // size) * step
        # Each trajectory has another phase: steps may divide their length.
        for start in range((place - before[place]) % step, counts[place], block):
            stop = min(start + block, counts[place])
            found.append(extents(fields.read(i, slice(start, stop, step))))
    return joined(found)


def ranges_of(
    whole: Ranges, trajectories: Sequence[Trajectory], spec: SystemSpec, config: WindowConfig
) -> Ranges:
    """The ranges of training on some trajectories, the extents of whose fields are `whole`: also
    as mirrored images of training have them, and with time step, spacing and parameters."""
    parts = [whole]
    for axis in config.flip:
        turned = {v.name for v in spec.variables if parity(v, axis) < 0}
        parts += [
            {
                quantity: {
                    n: (-high, -low) for n, (low, high) in part[quantity].items() if n in turned
                }
                for quantity in ("value", "extreme")
            }
            for part in list(parts)
        ]
    for one in trajectories:
        steps = sampling(one.times, spec.dt, one.grid, one.parameters)
        low, high = steps["dt"][""]
        parts.append({**steps, "dt": {"": (config.stride * low, config.stride * high)}})
    return joined(parts)
