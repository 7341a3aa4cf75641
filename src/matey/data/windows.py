"""Windows: which frames of which trajectory make one training sample, and the split.

Axes: T times, C variables, (Z, Y, X) grid points.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from matey.config import SplitConfig, WindowConfig
from matey.data.layout import UNIFORM
from matey.data.reader import Fields
from matey.errors import ConfigError, DataError
from matey.fields import PERIODIC_SIDES, Field, Window

SPLITS = ("train", "valid", "test")


def periodic_shift(field: Field, rng: np.random.Generator) -> list[int]:
    """A random shift in grid points along each periodic axis of a field, 0 along the others."""
    drawn = rng.integers(0, field.grid.shape).tolist()
    kinds = zip(drawn, field.boundaries, strict=True)
    return [shift if sides == PERIODIC_SIDES else 0 for shift, sides in kinds]


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


def roll(window: Window, shift: Sequence[int]) -> Window:
    """The window shifted by so many points along Z, Y and X, across periodic sides."""
    amount, axes = tuple(shift), (-3, -2, -1)
    history = replace(window.history, values=window.history.values.roll(amount, axes))
    return replace(window, history=history, target=window.target.roll(amount, axes))


def is_uniform(steps: Float[Tensor, " steps"]) -> bool:
    """Whether time steps, in units of their median, count as equal: within a tenth of it."""
    return bool(((steps - 1).abs() <= UNIFORM).all())


class Windows:
    """Every window of some trajectories of one system: a start each, and a lead to choose.

    Raises DataError if no trajectory is as long as the history and one frame more.
    """

    def __init__(self, fields: Fields, trajectories: Sequence[int], config: WindowConfig) -> None:
        self.fields = fields
        self.config = config
        self.starts = [
            (trajectory, start)
            for trajectory in trajectories
            for start in range(len(fields.trajectories[trajectory].times) - config.history)
        ]
        if trajectories and not self.starts:
            longest = max(len(fields.trajectories[i].times) for i in trajectories)
            raise DataError(
                f"System {fields.spec.name!r} has at most {longest} frames a trajectory: too few "
                f"for windows.history = {config.history} and a target. "
                f"Set it to {longest - 1} or less."
            )
        if config.pushforward and not all(
            is_uniform(fields.trajectories[i].times.diff() / fields.spec.dt) for i in trajectories
        ):
            raise ConfigError(
                f"windows.pushforward takes steps of equal length, and those of system "
                f"{fields.spec.name!r} are not. Set it to 0."
            )
        self.groups = self._group_by_grid()

    def __len__(self) -> int:
        return len(self.starts)

    def _group_by_grid(self) -> list[list[int]]:
        """Windows that can stand in one batch: those on one grid shape."""
        groups: dict[tuple[int, int, int], list[int]] = {}
        for i, (trajectory, _) in enumerate(self.starts):
            groups.setdefault(self.fields.trajectories[trajectory].grid.shape, []).append(i)
        return list(groups.values())

    def after(self, window: int) -> int:
        """Frames of the trajectory after the window's history."""
        trajectory, start = self.starts[window]
        return len(self.fields.trajectories[trajectory].times) - start - self.config.history

    def read(self, window: int, lead: int, pushes: int = 0) -> Window:
        """Read a window from its file: its own frames, and the one `pushes + lead` later."""
        trajectory, start = self.starts[window]
        stop = start + self.config.history
        history = self.fields.read(trajectory, slice(start, stop))
        target = self.fields.read(trajectory, slice(stop + pushes + lead - 1, stop + pushes + lead))
        elapsed = float(target.times[0] - history.times[-1]) / self.fields.spec.dt - pushes
        steps = self.fields.trajectories[trajectory].times.diff() / self.fields.spec.dt
        return Window(
            history,
            target.values[0],
            # Where steps count as uniform, each is a lead of exactly 1.
            lead_time=float(lead) if is_uniform(steps) else elapsed,
            source=f"{self.fields.trajectories[trajectory].name} frames {start}-{stop - 1}",
        )
