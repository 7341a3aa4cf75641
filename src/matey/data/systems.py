"""The systems of a data config: their files, and which trajectories are for what."""

from dataclasses import dataclass

import numpy as np

from matey.config import DataConfig, SplitConfig, WindowConfig
from matey.data.formats.files import shown
from matey.data.layouts.base import SPLITS
from matey.data.trajectories import Fields, open_source
from matey.data.windows import Windows
from matey.errors import DataError
from matey.fields import SystemSpec


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
        fields = open_source(source)
        split = split_trajectories(fields, config.split)
        if training:
            split["train"] = take_training(split["train"], config.trajectories, fields)
        systems[source.name] = System(fields, split)
    return systems


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
    trajectories one is for test, of three or more one for validation too. Raises DataError where
    some come divided and some do not: to divide the others might tear apart what belongs together.
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
    return {
        "test": sorted(shuffled[:test]),
        "valid": sorted(shuffled[test : test + valid]),
        "train": sorted(shuffled[test + valid :]),
    }
