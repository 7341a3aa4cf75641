"""Checks that a data set can be trained on, and what is odd about its values."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing

import numpy as np

from matey.config import SplitConfig, WindowConfig
from matey.data.formats import files
from matey.data.formats.encoding import Decoded
from matey.data.formats.files import shown
from matey.data.layouts.base import SPLITS, Stored
from matey.data.layouts.stored import read_stored
from matey.data.layouts.the_well import TheWell, stated_statistics
from matey.data.reader import Reader
from matey.data.selection import Selection
from matey.data.statistics import VariableStatistics
from matey.data.systems import divide, single, split_trajectories
from matey.data.trajectories import Fields
from matey.errors import DataError

Parts = dict[str, list[int]]
SHARE = {"train": "train on", "valid": "validate on"}
OUTLIER = 50  # standard deviations from the mean; strong shocks reach 25
OVERLAP = 0.5  # share of frames in common that makes two trajectories one; all start alike at rest
LISTED = 20  # notices of one kind
RESOLVED = 1e-6  # of its mean a variable varies by more; numbers of float32 are up to 1.2e-7 apart


def check_division(
    fields: Fields, split: SplitConfig, windows: WindowConfig, problems: list[str]
) -> tuple[Parts, list[str], list[str]]:
    """The split of whole trajectories, empty where they are split in time; problems and notices of
    the division."""
    try:
        stretches = divide(fields, split)
    except DataError as error:
        return {}, [str(error)], []
    parts = divided(stretches, split, problems)
    refused, short = too_short(stretches, parts, windows)
    alone = single(stretches, split)
    refused = [*without_training(stretches, parts), *([alone] if alone else []), *refused]
    return {} if split.by == "time" else parts, refused, short


def divided(fields: Fields, split: SplitConfig, problems: list[str]) -> Parts:
    """The split that training would make; empty where it refuses, which joins the `problems`."""
    try:
        return split_trajectories(fields, split)
    except DataError as error:
        problems.append(str(error))
        return {name: [] for name in SPLITS}


def without_training(fields: Fields, parts: Parts) -> list[str]:
    """A problem where nothing is left to train on."""
    if parts["train"] or not any(parts.values()):
        return []
    there = ", ".join(f"{len(parts[split])} {split}" for split in SPLITS if parts[split])
    return [
        f"System {shown(fields.spec.name)} has no trajectory left to train on: {there}. Give "
        "files for training as well."
    ]


def too_short(fields: Fields, parts: Parts, windows: WindowConfig) -> tuple[list[str], list[str]]:
    """Problems and notices of trajectories without one window: training takes some that are short,
    but not where all are that it trains on, or all that it validates on."""
    needed = (windows.history - 1 + windows.min_lead) * windows.stride
    short = {
        i for i, trajectory in enumerate(fields.trajectories) if len(trajectory.times) <= needed
    }
    longer = "a larger share (data.split)" if isinstance(fields, Selection) else "longer ones"
    name, few = shown(fields.spec.name), f"too few frames for windows.history = {windows.history}"
    problems = [
        f"All {len(parts[split])} trajectories of {name} to {purpose} have {few} and a target. "
        f"Lower it (--history), or give {longer}."
        for split, purpose in SHARE.items()
        if parts[split] and short.issuperset(parts[split])
    ]
    if not short or problems:
        return problems, []
    return [], [f"{len(short)} of {len(fields)} trajectories of {name} have {few} and a target."]


def overlaps(fields: Fields, shared: dict[tuple[int, int], int], parts: Parts) -> list[str]:
    """Trajectories that have most of their frames in common, and those on both sides of a split.

    A model is scored on what it was trained on where one is for training and one for test.
    """
    trajectories = fields.trajectories
    part = {i: name for name, chosen in parts.items() for i in chosen}
    come_divided = all(trajectory.split for trajectory in trajectories)
    notices = []
    for (a, b), count in shared.items():
        lengths = len(trajectories[a].times), len(trajectories[b].times)
        if count < OVERLAP * min(lengths):
            continue
        same = count == lengths[0] == lengths[1]
        what = "is a duplicate of" if same else f"has {count} of {lengths[1]} frames in common with"
        text = f"{shown(trajectories[b].name)} {what} {shown(trajectories[a].name)}"
        if part.get(a) != part.get(b):
            whose = "the files put" if come_divided else "the usual split puts"
            text += f", and {whose} them into {part[b]} and {part[a]}"
        notices.append(f"{text}.")
    return listed(notices)


def odd_values(
    fields: Fields, statistics: Sequence[VariableStatistics], lost: Sequence[str]
) -> list[str]:
    """Constants, outliers, and statistics that are not those stated beside the data. The variation
    of variables called `lost` is too small for float32."""
    notices = []
    first = fields.readers[0]
    in_well = first.layout == TheWell.name
    stated = stated_statistics(first.path, first.contents.arrays) if in_well else {}
    for variable, measured in zip(fields.spec.variables, statistics, strict=bool(statistics)):
        if variable.name in lost:
            notices.append(
                f"{variable.name} varies by less than a millionth of its mean {measured.mean:.6g}: "
                "float32, which everything here computes in, cannot resolve that. Subtract the "
                "mean before it is stored."
            )
            continue
        if variable.mask:
            notices.append(
                f"{1 - measured.mean:.1%} of the grid points hold no field, by {variable.name}: "
                "they count in no normalisation, loss or score."
            )
            continue
        if measured.constant:
            notices.append(f"{variable.name} is constant, {measured.minimum:.6g} everywhere.")
            continue
        value, place = measured.farthest
        distance = abs(value - measured.mean) / measured.std
        if distance > OUTLIER:
            notices.append(
                f"{variable.name} has an outlier: {value:.6g} in {shown(place)}, {distance:.0f} "
                f"standard deviations from the mean {measured.mean:.6g}."
            )
        if variable.name in stated:
            mean, std = stated[variable.name]
            if abs(measured.mean - mean) > std or not 0.5 * std <= measured.std <= 2 * std:
                notices.append(
                    f"{variable.name} has mean {measured.mean:.6g} and standard deviation "
                    f"{measured.std:.6g}, but stats.yaml states {mean:.6g} and {std:.6g}."
                )
    return notices


def uneven_lengths(fields: Fields) -> list[str]:
    """Trajectories that stop before most of the others do."""
    lengths = Counter(len(trajectory.times) for trajectory in fields.trajectories)
    usual = lengths.most_common(1)[0][0]
    return listed(
        [
            f"{shown(trajectory.name)} has {len(trajectory.times)} frames, most have {usual}."
            for trajectory in fields.trajectories
            if len(trajectory.times) < usual
        ]
    )


def listed(notices: list[str]) -> list[str]:
    """The first of many notices, and how many more there are."""
    more = len(notices) - LISTED
    return [*notices[:LISTED], f"And {more} more like the last."] if more > 0 else notices


def wider_types(readers: Sequence[Reader]) -> dict[str, str]:
    """Variables whose numbers float32 does not hold to the last digit, and their type in the
    first file where they have one."""
    types: dict[str, str] = {}
    for reader in readers:
        with files.guarded(reader.path), closing(reader.open()) as file:
            for stored in reader.contents.arrays:
                array = file.array(name_in(reader, stored))
                dtype = array.stored if isinstance(array, Decoded) else array.dtype
                if not np.can_cast(dtype, np.float32):
                    for variable in stored.variables:
                        types.setdefault(variable.name, dtype.name)
    return types


def unresolved(fields: Fields, statistics: Sequence[VariableStatistics]) -> list[str]:
    """Variables that vary in the file, but in float32 hardly or not at all: their variation is
    below about a millionth of their mean."""
    nearly = [
        variable.name
        for variable, measured in zip(fields.spec.variables, statistics, strict=bool(statistics))
        if measured.std < RESOLVED * abs(measured.mean)
        and not (measured.constant and fields.spec.mask is not None)  # raw values vary on land
    ]
    reader = fields.readers[0]
    if not nearly or not set(nearly) & set(wider_types([reader])):
        return []
    with files.guarded(reader.path), closing(reader.open()) as file:
        varying: set[str] = set()
        for stored in reader.contents.arrays:
            frames = read_stored(file, stored, name_in(reader, stored), 0, slice(0, 2))
            pairs = zip(stored.variables, frames.swapaxes(0, 1), strict=True)
            varying |= {variable.name for variable, values in pairs if np.ptp(values) > 0}
    return [name for name in nearly if name in varying]


def name_in(reader: Reader, stored: Stored) -> str:
    """The array's name in the file, in the group of the first trajectory."""
    keys = reader.contents.keys
    return stored.name.format(key=keys[0]) if keys else stored.name
