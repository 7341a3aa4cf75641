"""The systems of a data config: their files, and which trajectories are for what."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np

from matey.config import DataConfig, SplitConfig, WindowConfig
from matey.data.formats.files import shown
from matey.data.layouts.base import SPLITS
from matey.data.runs.overlap import sharing_frames
from matey.data.selection import in_stretches
from matey.data.statistics import extents_of, ranges_of
from matey.data.trajectories import Fields, open_source
from matey.data.windows import Windows
from matey.errors import DataError
from matey.fields import SystemSpec
from matey.records.ranges import Ranges


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

    @cached_property
    def extents(self) -> Ranges:
        """The ranges of values and gradients in the training trajectories, read once."""
        return extents_of(self.fields, self.split["train"])

    def ranges(self, config: WindowConfig) -> Ranges:
        """The ranges of all that a model learns from."""
        trained = [self.fields.trajectories[i] for i in self.split["train"]]
        return ranges_of(self.extents, trained, self.spec, config)


def open_systems(config: DataConfig, *, training: bool = True) -> dict[str, System]:
    """Open the files that a data config names, and divide their trajectories.

    For `training` a system keeps as many training trajectories as the config asks for. Raises
    DataError for a system with fewer of them, or none; without `training` none are needed.
    """
    if not config.systems:
        raise DataError(
            "No data given: pass --data mix.yaml (`matey data inspect FILES --write mix.yaml` "
            "writes it)."
        )
    systems = {}
    for source in config.systems:
        how = source.split or config.split
        fields = divide(open_source(source), how)
        split = split_trajectories(fields, how)
        if training:
            if problem := single(fields, how):
                raise DataError(problem)
            split["train"] = take_training(split["train"], config.trajectories, fields)
        systems[source.name] = System(fields, split)
    return systems


def training_windows(systems: Mapping[str, System], config: WindowConfig) -> dict[str, Windows]:
    """The windows to train on. Raises DataError where those, or the ones to validate on, are of
    trajectories that are too short: before any work."""
    windows = {name: system.windows("train", config) for name, system in systems.items()}
    for system in systems.values():
        system.windows("valid", config)
    return windows


def divide(fields: Fields, config: SplitConfig) -> Fields:
    """The trajectories, or where they are to be split in time, their stretches. Raises DataError
    where trajectories share frames, which would be in the test and in training."""
    if config.by != "time":
        return fields
    for first, second, *_ in sharing_frames(fields):
        names = [shown(fields.trajectories[i].name) for i in (first, second)]
        raise DataError(
            f"System {fields.spec.name!r}: {names[0]} and {names[1]} share frames, which a split "
            "in time would put into training and test. Join them (`join: time`, "
            "`duplicates: drop`), or leave one out."
        )
    return in_stretches(fields, config)


def usual_splits(
    systems: Collection[Fields], needed: int
) -> tuple[SplitConfig, dict[Fields, SplitConfig]]:
    """How a draft divides data, and those systems that are a single run beside others: by
    trajectories, and a single run by time, in stretches of at least the `needed` frames. Nothing is
    divided of a run that is too short for that."""
    alone = {}
    for fields in systems:
        if single(fields, SplitConfig()):
            frames = len(fields.trajectories[0].times)
            share = max(SplitConfig.test, min(0.25, ceil(100 * needed / frames) / 100))
            in_time = SplitConfig(by="time", valid=share, test=share)
            whole = SplitConfig(valid=0, test=0)
            alone[fields] = in_time if round(share * frames) >= needed else whole
    same = set(map(repr, alone.values()))
    if len(alone) == len(systems) and len(same) == 1:
        return next(iter(alone.values())), {}
    return SplitConfig(), alone


def single(fields: Fields, config: SplitConfig) -> str:
    """Why a run of one trajectory cannot be divided as the config says; empty where it can, or
    need not."""
    one = len(fields.trajectories) == 1 and not fields.trajectories[0].split
    if not one or not config.valid + config.test:
        return ""
    return (
        f"System {fields.spec.name!r} is one trajectory: none is left to validate and test on. "
        "Divide it in time (`split: {by: time}` in the data config, or --data.split.by time), or "
        "train on all of it (--data.split.valid 0 --data.split.test 0)."
    )


def take_training(there: list[int], wanted: int | None, fields: Fields) -> list[int]:
    """The first `wanted` of the training trajectories; all where none says how many."""
    name, whole = fields.spec.name, len(fields.trajectories)
    if not there:
        raise DataError(
            f"System {name!r} has no trajectory left to train on: {whole} in all. Lower "
            "data.split.test and data.split.valid."
        )
    if wanted is not None and wanted > len(there):
        raise DataError(
            f"System {name!r} has {len(there)} trajectories to train on, and data.trajectories "
            f"asks for {wanted}. Lower it (--trajectories {len(there)}), or data.split.test and "
            "data.split.valid."
        )
    return there[:wanted]


def split_trajectories(fields: Fields, config: SplitConfig) -> dict[str, list[int]]:
    """Trajectories for training, validation and test: disjoint, and a pure function of the seed.

    Files that come divided keep their division. Others are shuffled and divided; of two
    trajectories one is for test, of three or more one for validation too. Those that share frames
    stay together, for training if one of them is. Raises DataError where some come divided and some
    do not: to divide the others might tear apart what belongs together.
    """
    splits = [trajectory.split for trajectory in fields.trajectories]
    if any(splits) and not all(splits):
        divided, loose = splits.index(next(filter(None, splits))), splits.index(None)
        raise DataError(
            f"System {fields.spec.name!r}: {shown(fields.trajectories[divided].name)} comes for "
            f"{splits[divided]}, but {shown(fields.trajectories[loose].name)} in no folder called "
            f"{', '.join(SPLITS)}. Put its file into one of these, or make it another system."
        )
    if all(splits):
        return {name: [i for i, split in enumerate(splits) if split == name] for name in SPLITS}
    count = len(fields.trajectories)
    # By name, so that the order in which files are listed does not matter.
    by_name = sorted(range(count), key=lambda i: fields.trajectories[i].name)
    seed = [config.seed, *fields.spec.name.encode()]
    shuffled = [by_name[i] for i in np.random.default_rng(seed).permutation(count)]
    test = max(round(count * config.test), int(config.test > 0 and count >= 2))
    valid = max(round(count * config.valid), int(config.valid > 0 and count >= 3))
    part_of = dict.fromkeys(shuffled, "train")
    part_of |= dict.fromkeys(shuffled[:test], "test")
    part_of |= dict.fromkeys(shuffled[test : test + valid], "valid")
    for group in sharing_frames(fields):
        parts = {part_of[i] for i in group}
        part_of |= dict.fromkeys(group, next(name for name in SPLITS if name in parts))
    return {name: sorted(i for i in shuffled if part_of[i] == name) for name in SPLITS}
