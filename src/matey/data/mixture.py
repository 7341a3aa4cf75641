"""The mixture of systems: which windows make which batch, as a pure function of (seed, step).

One system and one grid shape per batch; systems take turns, so that they interleave under
gradient accumulation. Any batch can be made at any time, by any process: that is what lets
a run resume exactly.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from matey.config import DataConfig, WindowConfig
from matey.data.reader import Fields, open_source
from matey.data.windows import Windows, periodic_shift, roll, split_trajectories
from matey.errors import DataError
from matey.fields import Batch, SystemSpec, Window, stack_fields


@dataclass(frozen=True)
class System:
    """One system of a run: its files, and which trajectories are for what."""

    fields: Fields
    split: dict[str, list[int]]

    @property
    def spec(self) -> SystemSpec:
        return self.fields.spec

    def windows(self, split: str, config: WindowConfig) -> Windows:
        """The windows of one split."""
        return Windows(self.fields, self.split[split], config)


def open_systems(config: DataConfig) -> dict[str, System]:
    """Open the files that a data config names, and divide their trajectories.

    Raises DataError for a system without a trajectory to train on or none to score with.
    """
    if not config.systems:
        raise DataError(
            "No data given: pass --data mix.yaml (`matey data inspect FILES --write mix.yaml` "
            "writes it)."
        )
    systems = {}
    for source in config.systems:
        fields = open_source(source)
        split = split_trajectories(fields, config.split)
        if not split["train"]:
            raise DataError(
                f"System {source.name!r} has no trajectory left to train on: "
                f"{len(fields.trajectories)} in all. Lower data.split.test and data.split.valid."
            )
        split["train"] = split["train"][: config.trajectories]
        systems[source.name] = System(fields, split)
    return systems


class Mixture(Dataset[Batch]):
    """An endless sequence of batches: `mixture[i]` is the i-th, whoever asks and when."""

    def __init__(self, windows: Mapping[str, Windows], batch: int, seed: int) -> None:
        self.windows = {name: group for name, group in windows.items() if len(group)}
        self.batch = batch
        self.seed = seed
        if not self.windows:
            raise DataError(f"No window to train on in any of the systems {sorted(windows)}.")

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng([self.seed, 1, index])
        windows = self.windows[self.system(index)]
        sizes = np.array([len(group) for group in windows.groups])
        group = windows.groups[rng.choice(len(sizes), p=sizes / sizes.sum())]
        chosen = rng.choice(group, size=self.batch, replace=self.batch > len(group)).tolist()
        pushes = 0
        if windows.config.pushforward:
            # Fewer where a window stands at the end of its trajectory.
            room = min(windows.after(i) for i in chosen) - 1
            pushes = min(int(rng.integers(windows.config.pushforward + 1)), room)
        longest = [min(windows.after(i) - pushes, windows.config.max_lead) for i in chosen]
        leads = [int(rng.integers(1, lead + 1)) for lead in longest]
        read = [windows.read(i, lead, pushes) for i, lead in zip(chosen, leads, strict=True)]
        if windows.config.roll:
            read = [roll(window, periodic_shift(window.history, rng)) for window in read]
        return collate(read, pushes)

    def system(self, index: int) -> str:
        """The system of a batch: all of them once in each round, in an order of its own."""
        names = sorted(self.windows)
        turn, place = divmod(index, len(names))
        return names[np.random.default_rng([self.seed, 0, turn]).permutation(len(names))[place]]

    def batches(self, start: int, stop: int, workers: int = 0) -> Iterator[Batch]:
        """Batches from `start` up to `stop`, read ahead by worker processes if there are any."""
        loader: DataLoader[Batch] = DataLoader(
            self,
            batch_size=None,
            sampler=range(start, stop),
            num_workers=workers,
            generator=torch.Generator(),  # else it draws from the generator of the drop path
        )
        return iter(loader)


def collate(windows: Sequence[Window], pushes: int = 0) -> Batch:
    """Windows of one system and grid shape as a batch."""
    inputs = stack_fields(
        [window.history for window in windows],
        [window.lead_time for window in windows],
        [window.source for window in windows],
    )
    target = torch.stack([window.target for window in windows])
    return Batch(**vars(inputs), target=target, pushes=pushes)


def in_order(windows: Windows, batch: int, limit: int | None = None) -> Iterator[Batch]:
    """Windows at lead 1, each once, for validation: all, or `limit` spread evenly over them."""
    for group in windows.groups:
        count = len(group) if limit is None else min(limit, len(group))
        chosen = [group[i * len(group) // count] for i in range(count)]
        for first in range(0, count, batch):
            yield collate([windows.read(i, lead=1) for i in chosen[first : first + batch]])
