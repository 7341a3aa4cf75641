"""Gathers files into runs: frames and stretches of one run by their names, their times and what
they hold.

Numbers in names say what belongs together, times say the order. Files that are one run by their
names, but differ in their grid, are refused; where names fit two readings, that is a doubt.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from matey.config import Join, LayoutConfig
from matey.data.formats.files import UnknownLayoutError, shown
from matey.data.formats.joined import Run
from matey.data.layouts.draft_axes import FEW
from matey.data.runs.glance import UNKNOWN, Glance, glance
from matey.data.runs.join import joined, stepped
from matey.data.runs.merge import NAMELESS, merged
from matey.data.runs.names import PART_WORDS, RUN_WORDS, Name, Number, parse, parse_all, varying
from matey.errors import MateyError

FEWEST = 3  # frames that make a run, where names alone tell


@dataclass(frozen=True)
class Asked:
    """What a data config says of how files are to be joined; `layout` is its description."""

    join: tuple[Join, ...] = ()
    drop: bool = False
    layout: LayoutConfig | None = None

    @property
    def in_time(self) -> bool:
        return "time" in self.join


@dataclass(frozen=True)
class Family:
    """Files that are called alike but for numbers, in order of their names. `frame` is the place
    of the number that counts frames or stretches, `doubt` what else it may be."""

    members: tuple[Glance, ...]
    names: tuple[Name, ...]
    frame: int | None
    doubt: str = ""

    def runs(self) -> list[list[tuple[Glance, Name]]]:
        """The members of each run, in order of the number."""
        place = self.frame
        others = [i for i in varying(self.names) if i != place] if len(self.names) > 1 else []
        groups = defaultdict[tuple[str, ...], list[tuple[Glance, Name]]](list)
        for member, name in zip(self.members, self.names, strict=True):
            rest = tuple(name.numbers[i].text for i in others)
            groups[rest].append((member, name))
        if place is None:
            return list(groups.values())
        return [
            sorted(run, key=lambda pair: pair[1].numbers[place].value) for run in groups.values()
        ]


def gather(
    files: Sequence[Path], asked: Asked, errors: dict[Path, MateyError], unsure: dict[Path, str]
) -> list[Path | Run]:
    """The runs that files in no known layout are, and the files that are left, in order.

    Why some cannot be joined joins the `errors`; of files that are left, and that may be parts of
    a run, `unsure` says so.
    """
    looks: dict[Path, Glance] = {}
    for path in files:
        try:
            seen = glance(path)
        except MateyError as error:
            errors[path] = error
            continue
        if seen is not None:
            looks[path] = seen
    runs: dict[Path, Run] = {}
    taken = set(errors)
    known = [*looks, *errors]
    names = dict(zip(known, parse_all(map(str, known)), strict=True))
    damaged = {names[path].skeleton for path in errors}
    for family in families(looks, names, asked):
        for members in family.runs():
            paths = [member.path for member, _ in members]
            try:
                made = run_of(members, family, asked, unsure)
            except MateyError as error:
                errors[paths[0]] = error
                taken |= set(paths)
                continue
            for run in made:
                taken |= set(run.files)
                if family.names[0].skeleton not in damaged:  # else it has a hole
                    runs[run.files[0]] = run
    left = [look for path, look in looks.items() if path not in taken]
    for alone in single_frames(left):
        try:
            for run in without_numbers(alone, asked):
                runs[run.files[0]] = run
        except MateyError as error:
            errors[alone[0].path] = error
        taken |= {look.path for look in alone}
    if not asked.join or "variables" in asked.join:
        for run in merged(runs, looks, [path for path in looks if path not in taken]):
            for path in run.files:
                runs.pop(path, None)
            runs[run.files[0]] = run
            taken |= set(run.files)
    return [runs.get(path, path) for path in files if path in runs or path not in taken]


def families(
    looks: Mapping[Path, Glance], names: Mapping[Path, Name], asked: Asked
) -> list[Family]:
    """Files by how they are called."""
    alike = defaultdict[str, list[tuple[Glance, Name]]](list)
    for path, look in looks.items():
        alike[names[path].skeleton].append((look, names[path]))
    return [family_of(pairs, asked) for pairs in alike.values()]


def family_of(pairs: Sequence[tuple[Glance, Name]], asked: Asked) -> Family:
    """A family, with the number that counts its frames or stretches.

    A word decides, as in `frame_0012` or `run3`; else the times in the files; else the file's name
    has one number only. Else it is the last one, which is a doubt.
    """
    members, names = tuple(look for look, _ in pairs), tuple(name for _, name in pairs)
    places = varying(names) if len(names) > 1 else []
    numbers = names[0].numbers
    left = [place for place in places if numbers[place].word not in RUN_WORDS]
    told = [
        p
        for p in left
        if numbers[p].word in PART_WORDS or any(name.numbers[p].is_time for name in names)
    ]
    timed = [p for p in reversed(left) if in_order(Family(members, names, p))]
    in_name = [place for place in left if not numbers[place].depth]
    if told:
        return Family(members, names, told[-1])
    if timed:
        return Family(members, names, timed[0])
    if not left:
        return Family(members, names, None)
    if len(in_name) == 1 or len(left) == 1:
        return Family(members, names, in_name[-1] if in_name else left[-1])
    last = in_name[-1] if in_name else left[-1]
    example = members[0].path.name if in_name else members[0].path
    doubt = f"the last of the numbers in {shown(example)} is taken for that of the frame"
    return Family(members, names, last, "" if asked.in_time else doubt)


def in_order(family: Family) -> bool:
    """Whether times are stored, and rise with the number in every run of several files."""
    runs = [[look for look, _ in run] for run in family.runs()]
    if any(look.clock is None for look in family.members) or all(len(run) < 2 for run in runs):
        return False
    starts = [[float(look.clock.times[0]) for look in run if look.clock] for run in runs]
    return all(bool((np.diff(times) > 0).all()) for times in starts)


def run_of(
    members: Sequence[tuple[Glance, Name]], family: Family, asked: Asked, unsure: dict[Path, str]
) -> list[Run]:
    """The run, or the runs, that some files are; none where each is a run by itself, of which some
    are `unsure`."""
    looks = [described(look, asked.layout) for look, _ in members]
    if any(look.steps for look in looks):
        return [stepped(look) for look in looks if look.steps]
    if family.frame is None or len(looks) < 2:
        return []
    numbers = [name.numbers[family.frame] for _, name in members]
    frames = [look.frames for look in looks]
    doubts = [family.doubt] if family.doubt else []
    if None in frames:
        if not any(number.is_time for number in numbers) and not asked.in_time:
            shapes = [array.shape for look in looks for array in look.arrays.values()]
            rank = max(sum(size > FEW for size in shape) for shape in shapes)
            if numbers[0].word in PART_WORDS or rank > 3 or len(looks) < FEWEST:
                return []
            every = family.members
            called = f"{len(every)} files as {shown(every[0].path.name)} of shape {shapes[0]}"
            if rank == 3:
                doubt = f"{called} are taken for runs; they may be frames of one (`join: time`)"
                unsure |= {look.path: doubt for look in looks}
                return []
            doubts.append(
                f"{called} are taken for frames of one run; each may be a run by itself, of "
                "(time, x). For that, take out `join`, and `y` from the axes"
            )
        looks = [as_frames(look) for look in looks]
    return joined(
        looks,
        numbers,
        drop=asked.drop,
        asked=asked.in_time,
        stretches=any((count or 0) > 1 for count in frames),
        doubts=doubts,
    )


def single_frames(looks: Sequence[Glance]) -> list[list[Glance]]:
    """Files of one frame each that no number tells the place of, by folder and what they hold."""
    groups = defaultdict[tuple[Path, tuple[str, ...]], list[Glance]](list)
    for look in looks:
        if look.frames is not None and look.frames < 2 and not look.steps:
            groups[look.path.parent, tuple(look.arrays)].append(look)
    return [group for group in groups.values() if len(group) >= FEWEST]


def without_numbers(looks: Sequence[Glance], asked: Asked) -> list[Run]:
    """The run that single frames are by their times. Raises UnknownLayoutError where these do not
    tell."""
    times = [float(look.clock.times[0]) for look in looks if look.clock is not None]
    of_runs = [n.word in RUN_WORDS for look in looks for n in parse(look.path.name).numbers]
    if len(set(times)) < len(looks) or any(of_runs):
        raise UnknownLayoutError(
            f"{len(looks)} files in {shown(looks[0].path.parent)}, as {shown(looks[0].path.name)}, "
            "hold one frame each, and neither names nor times tell which are of one run. Give the "
            "frames of each run a folder, and numbers in order of time."
        )
    names = [Number("", look.path.stem, 0.0, 0) for look in looks]
    return joined(looks, names, drop=asked.drop, asked=asked.in_time, stretches=False)


def described(look: Glance, layout: LayoutConfig | None) -> Glance:
    """The same with the axes of time that a description gives its arrays."""
    if layout is None:
        return look
    along: dict[str, int | None] = {}
    for array in layout.arrays:
        axes = array.axes or layout.axes
        shape = look.arrays[array.array].shape if array.array in look.arrays else ()
        if shape and "time" in axes:
            along[array.array] = axes.index("time") if len(shape) == len(axes) else None
    for name in NAMELESS if not along else ():
        if name in look.arrays and "time" in layout.axes:
            whole = len(look.arrays[name].shape) == len(layout.axes)
            along[name] = layout.axes.index("time") if whole else None
    others = [name for name in look.arrays if name not in along]
    arrays = {name: look.arrays[name] for name in along}
    return replace(look, arrays=arrays, along=along, others=(*look.others, *others))


def as_frames(look: Glance) -> Glance:
    """The same, its arrays taken for single frames."""
    along = {n: None if place == UNKNOWN else place for n, place in look.along.items()}
    return replace(look, along=along)
