"""Joins files along time: frames in files or groups of their own, and stretches of a run that was
restarted.

Stretches continue each other where the next begins a step after the last ends, or where they
overlap with the same values. Of frames that stand twice those of the later file are taken.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from matey.data.formats.container import open_container
from matey.data.formats.files import shown
from matey.data.formats.joined import TIME, Part, Run, Series
from matey.data.layouts.base import ROUNDING
from matey.data.runs.clock import Clock, on_one_clock
from matey.data.runs.glance import Glance, labels, taken_for
from matey.data.runs.names import PART_WORDS, Number
from matey.errors import DataError

CONTINUES = 1.5  # steps from the end of a stretch to the beginning of the next
COMPARED = 8  # frames that stand twice, of which values are compared
DATES = {"units": "seconds since 1970-01-01"}


class Stretch:
    """A file of a run: its frames' times and number, and how many of its frames are taken."""

    def __init__(self, look: Glance, number: Number, times: np.ndarray) -> None:
        self.look, self.number, self.times = look, number, times
        self.stop = max(1, look.frames or 1)

    @property
    def name(self) -> str:
        return shown(self.look.path.name)


def joined(
    looks: Sequence[Glance],
    numbers: Sequence[Number],
    *,
    drop: bool,
    asked: bool,
    stretches: bool,
    doubts: Sequence[str] = (),
) -> list[Run]:
    """The runs that files of one name are, in order of the number that differs.

    `stretches` are files of many frames, which are one run only where they continue each other;
    `asked` says that a data config joins them. Raises DataError where frames of one run differ in
    their grid, or stand twice and are not to be dropped.
    """
    apart = stretches and any(look.parameters != looks[0].parameters for look in looks)
    if apart and not (asked or numbers[0].word in PART_WORDS):
        return []  # runs of their own
    looks, left_out = check_alike(looks)
    doubts, said = list(doubts), [left_out] if left_out else []
    clock, times = moments(looks, numbers, stretches, doubts, said)
    if times is None and stretches and not (asked or numbers[0].word in PART_WORDS):
        return []
    if times is None:
        parts = [Stretch(*pair, np.empty(0)) for pair in zip(looks, numbers, strict=True)]
        said.append(f"{len(parts)} files are one run, in order of the numbers in their names")
        return [make_run(parts, None, said, doubts)]
    parts = [Stretch(*each) for each in zip(looks, numbers, times, strict=True)]
    parts.sort(key=lambda part: float(part.times[0]))
    chains = [parts] if asked or not stretches else continuing(parts, doubts)
    runs = []
    for chain in chains:
        if len(chain) < 2:
            continue
        notes = [*said, f"{len(chain)} files as {chain[0].name} are one run"]
        unsure = list(doubts)
        repeated = cut_repeated(chain, drop, asked, notes, unsure)
        runs.append(make_run(chain, clock, notes, unsure, repeated))
    if len(chains) > 1 and runs:
        ends = float(chains[0][-1].times[-1]), float(chains[1][0].times[0])
        note = f"no frame lies between the times {ends[0]:g} and {ends[1]:g}: runs of their own"
        runs[0] = replace(runs[0], assumptions=(*runs[0].assumptions, note))
    return runs


def check_alike(looks: Sequence[Glance]) -> tuple[list[Glance], str]:
    """The files with the arrays that all of them have, and a notice of others. Raises DataError
    where grids or parameters differ."""
    first = looks[0]
    names = [name for name in first.arrays if all(name in look.arrays for look in looks)]
    if not names:
        other = next(look for look in looks if not set(look.arrays) & set(first.arrays))
        raise DataError(
            apart(first, other, f"{', '.join(first.arrays)} and {', '.join(other.arrays)}")
        )
    for look in looks[1:]:
        for name in names:
            if look.shape_of(name) != first.shape_of(name):
                what = f"{name} of {first.shape_of(name)} and of {look.shape_of(name)} points"
                raise DataError(apart(first, look, what))
        for axis, points in first.coordinates.items():
            other_points = look.coordinates.get(axis)
            if other_points is None or not np.array_equal(points, other_points):
                raise DataError(apart(first, look, f"other positions along {axis}"))
        if look.parameters != first.parameters:
            what = f"the parameters {first.parameters} and {look.parameters}"
            raise DataError(apart(first, look, what))
    extra = {name: look for look in looks for name in look.arrays if name not in names}
    kept = [
        replace(
            look,
            arrays={name: look.arrays[name] for name in names},
            along={name: look.along[name] for name in names},
            others=tuple(name for name in look.others if name in first.others),
        )
        for look in looks
    ]
    if not extra:
        return kept, ""
    name, look = next(iter(extra.items()))
    more = f" and {len(extra) - 1} more arrays" if len(extra) > 1 else ""
    return kept, f"{name}{more} left out: only in some of the files, as {shown(look.path.name)}"


def apart(first: Glance, other: Glance, what: str) -> str:
    """Why two files called alike are no frames of one run, and the way out."""
    return (
        f"{shown(first.path)} and {shown(other.path.name)} are frames of one run by their names, "
        f"but hold {what}. Name the files that belong together, as a system each, in `paths` of a "
        "data config, with `join: time`."
    )


def moments(
    looks: Sequence[Glance],
    numbers: Sequence[Number],
    stretches: bool,
    doubts: list[str],
    said: list[str],
) -> tuple[Clock | None, list[np.ndarray] | None]:
    """The times in each file, by a clock that all share; of single frames without times the numbers
    in their names. None where nothing tells."""
    clocks = [look.clock for look in looks if look.clock is not None]
    name = shown(looks[0].path.name)
    if clocks and len(clocks) < len(looks):
        without = next(look for look in looks if look.clock is None)
        raise DataError(
            f"{shown(without.path)} holds no time, and {len(clocks)} files called like it do. "
            "Leave it out, or give it one."
        )
    if clocks:
        times = on_one_clock(clocks)
        wrong = [
            look
            for look, t in zip(looks, times, strict=True)
            if len(t) < max(1, look.frames or 1) or not np.isfinite(t).all()
        ]
        if wrong:
            raise DataError(f"{shown(wrong[0].path)}: its times are not those of its frames.")
        still = len({float(t[0]) for t in times}) == 1
        if stretches or not still:
            return clocks[0], times
        doubts.append(
            f"all of {len(looks)} files as {name} hold the time {float(times[0][0]):g}: the "
            "numbers in their names are taken for times"
        )
    if any((look.frames or 1) > 1 for look in looks):
        return None, None
    values = [np.array([number.value]) for number in numbers]
    dates = all(number.is_date for number in numbers)
    what = "dates in their names, in seconds" if dates else "numbers in their names"
    said.append(f"files as {name} hold no time: the {what} are taken for times")
    return Clock(TIME, values[0], DATES["units"] if dates else ""), values


def continuing(parts: Sequence[Stretch], doubts: list[str]) -> list[list[Stretch]]:
    """Stretches in chains that continue each other."""
    chains: list[list[Stretch]] = [[parts[0]]]
    for part in parts[1:]:
        if follows(chains[-1][-1], part, doubts):
            chains[-1].append(part)
        else:
            chains.append([part])
    return chains


def follows(first: Stretch, second: Stretch, doubts: list[str]) -> bool:
    """Whether the second stretch goes on where the first ends."""
    steps = np.diff(np.concatenate([first.times, second.times]))
    forward = steps[steps > 0]
    dt = float(np.median(forward)) if len(forward) else 0.0
    gap = float(second.times[0] - first.times[-1])
    rising = second.times[0] > first.times[0] and second.times[-1] > first.times[-1]
    if not rising or gap > CONTINUES * dt:
        return False
    if gap > ROUNDING * dt:
        return True
    # What stands twice with other values is told, where names say that these are parts.
    return same_values(first, second) is True or second.number.word in PART_WORDS


def same_values(first: Stretch, second: Stretch) -> bool | None:
    """Whether two files hold the same values where they share times; None where they share none."""
    pairs = shared_frames(first, second)[:COMPARED]
    if not pairs:
        return None
    with (
        closing(open_container(first.look.path)) as a,
        closing(open_container(second.look.path)) as b,
    ):
        for name in first.look.arrays:
            for i, j in pairs:
                one = a.array(first.look.names.get(name, name))[frame_at(first.look, name, i)]
                there = second.look.names.get(name, name)
                other = b.array(there)[frame_at(second.look, name, j)]
                if not np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
                    return False
    return True


def frame_at(look: Glance, name: str, frame: int) -> tuple[slice | int, ...]:
    """The index of a frame of an array."""
    along, rank = look.along[name], len(look.arrays[name].shape)
    if along is None:
        return (slice(None),) * rank
    return tuple(frame if axis == along else slice(None) for axis in range(rank))


def shared_frames(first: Stretch, second: Stretch) -> list[tuple[int, int]]:
    """Frames of two stretches at the same times."""
    whole = np.concatenate([first.times, second.times])
    steps = np.diff(np.unique(whole))
    tolerance = ROUNDING * float(np.median(steps)) if len(steps) else 0.0
    pairs = []
    for j, time in enumerate(second.times):
        i = int(np.argmin(np.abs(first.times - time)))
        if abs(first.times[i] - time) <= tolerance:
            pairs.append((i, j))
    return pairs


def cut_repeated(
    chain: Sequence[Stretch], drop: bool, asked: bool, said: list[str], doubts: list[str]
) -> bool:
    """End every stretch where the next begins, and whether any frame stands twice. Raises DataError
    where one lies inside of another, or a data config does not say that such frames are dropped."""
    repeated = False
    for first, second in pairwise(chain):
        if second.times[-1] < first.times[-1]:
            raise DataError(
                f"{shown(second.look.path)} lies within {first.name}: times {second.times[0]:g} to "
                f"{second.times[-1]:g} of {first.times[0]:g} to {first.times[-1]:g}. Leave one out."
            )
        pairs = shared_frames(first, second)
        begins = float(second.times[0])
        step = float(np.min(np.diff(first.times))) if len(first.times) > 1 else 0.0
        stop = int(np.searchsorted(first.times, begins - ROUNDING * step, side="left"))
        if stop >= len(first.times):
            continue
        twice = len(first.times) - stop
        more = f" and {twice - 1} more" if twice > 1 else ""
        text = f"the frame at time {begins:g}{more} stands twice, in {first.name} and {second.name}"
        if asked and not drop:
            raise DataError(
                f"{shown(second.look.path.parent)}: {text}. Set `duplicates: drop` for this system "
                "to take those of the later file, or leave one out of its paths."
            )
        said.append(f"{text}: those of the later file are taken (`duplicates: drop`)")
        if not asked and same_values(first, second) is not True:
            at_same = "with other values" if pairs else "at times in between"
            doubts.append(f"{text}, {at_same}: they may be two runs")
        first.stop, repeated = min(first.stop, stop), True
    return repeated


def make_run(
    parts: Sequence[Stretch],
    clock: Clock | None,
    said: Sequence[str],
    doubts: Sequence[str],
    repeated: bool = False,
) -> Run:
    """The run of some stretches in their order; those of their frames that are `repeated` are left
    out."""
    first = parts[0].look
    times = [] if clock is None else [t for part in parts for t in part.times[: part.stop]]
    series = Series(
        tuple(Part(p.look.path, p.look.stamp, 0, p.stop, p.look.names) for p in parts),
        dict(first.along),
        first.others,
        labels(first),
    )
    return Run(
        spanned(parts),
        (series,),
        tuple(float(time) for time in times),
        clock.name if clock else TIME,
        clock.attributes if clock else {},
        ("time",),
        repeated,
        (*said, *taken_for(first)),
        tuple(doubts),
    )


def spanned(parts: Sequence[Stretch]) -> Path:
    """A path that stands for all files of a run: `run1/out_0000-0011.nc`."""
    first, last = parts[0].look.path, parts[-1]
    number, depth = parts[0].number, parts[0].number.depth
    span = f"{number.text}-{last.number.text}"
    if depth:
        top = first.parents[depth]
        return top / f"{first.stem}_{span}{first.suffix}"
    before, _, after = first.name.rpartition(number.text)
    return first.with_name(f"{before}{span}{after}")


def stepped(look: Glance) -> Run:
    """The run whose frames are groups or datasets of one file."""
    steps = look.steps
    left = [name for name in look.arrays if name not in steps[0].names]
    arrays = {name: look.arrays[name] for name in steps[0].names}
    look = replace(look, arrays=arrays, along=dict.fromkeys(arrays))
    timed = all(step.time is not None for step in steps)
    times = [step.time if timed else step.number.value for step in steps]
    if timed:
        steps = tuple(sorted(steps, key=lambda step: step.time or 0.0))
    ordered = sorted(float(time) for time in times if time is not None)
    said = f"{len(steps)} numbered groups or datasets are frames of one run, in order of "
    said += "time" if timed else "their numbers, which are taken for times"
    parts = tuple(Part(look.path, look.stamp, 0, 1, step.names) for step in steps)
    along = dict.fromkeys(steps[0].names)
    series = Series(parts, along, look.others, labels(look))
    doubts = (look.doubt,) if look.doubt else ()
    more = f" and {len(left) - 1} more arrays" if len(left) > 1 else ""
    apart = [f"{name}{more} left out: not in each of the {len(steps)} frames" for name in left[:1]]
    notes = (said, *apart, *taken_for(look))
    return Run(look.path, (series,), tuple(ordered), TIME, {}, ("time",), False, notes, doubts)
