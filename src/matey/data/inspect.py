"""Look through a set of files, and check that they can be trained on.

Values are streamed a few frames at a time, so a file may be larger than memory.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Literal

from matey.config import DataConfig, Join, LayoutConfig, SourceConfig, SplitConfig, WindowConfig
from matey.data.checks import (
    check_division,
    odd_values,
    overlaps,
    uneven_lengths,
    unresolved,
)
from matey.data.formats.files import UnknownLayoutError, log, quiet
from matey.data.reader import Reader
from matey.data.runs.open import open_named
from matey.data.statistics import FieldStatistics, Repeats, VariableStatistics
from matey.data.systems import usual_splits
from matey.data.trajectories import Fields, group_by_system, open_source, undecided, unused
from matey.data.windows import is_uniform
from matey.errors import MateyError
from matey.fields import Boundary, SystemSpec

UNEVEN = "Set `uneven: allow`"  # in what is said of uneven times
BLOCK = 2**24  # bytes of values read at once; a frame at least
Watch = Callable[[int, int], None]


Opened = dict[Fields, tuple[Path, ...]]  # systems, and the paths that a config names for each


@dataclass(frozen=True)
class SystemReport:
    """One system: where it lies, what it holds, and what stands against training on it.

    `frames` and `shapes` count trajectories by frames and by grid points of the active axes;
    `parameters` are (lowest, highest). `problems` make training refuse the data, `notices`
    do not. `described` is the draft of a layout that no reader knows, with what it assumes;
    `uneven` is what a data config must say of time steps for it to be opened, `ask` if nobody said
    that they may be uneven, `join` and
    `duplicates` of files that are one run, and `split` how it divides this system if not as the
    others.
    """

    name: str
    layout: str
    paths: tuple[Path, ...]
    spec: SystemSpec
    axes: tuple[str, ...]
    trajectories: int
    frames: dict[int, int]
    shapes: dict[tuple[int, ...], int]
    splits: dict[str, int]
    times: tuple[float, float]
    boundaries: dict[str, str]
    parameters: dict[str, tuple[float, float]]
    statistics: tuple[VariableStatistics, ...]
    window_bytes: int
    problems: tuple[str, ...]
    notices: tuple[str, ...]
    described: LayoutConfig | None = None
    assumptions: tuple[str, ...] = ()
    uneven: Literal["refuse", "allow", "ask"] = "refuse"
    split: SplitConfig | None = None
    mask: str = ""
    join: tuple[Join, ...] = ()
    duplicates: Literal["refuse", "drop"] = "refuse"


@dataclass(frozen=True)
class Inspection:
    """The systems found, the files that could not be read, and how a draft divides the data."""

    systems: tuple[SystemReport, ...]
    problems: tuple[str, ...]
    split: SplitConfig = field(default_factory=SplitConfig)

    @property
    def refused(self) -> list[str]:
        """Why training would be refused; empty where it would not."""
        return [*self.problems, *(p for system in self.systems for p in system.problems)]


def inspect(
    paths: Sequence[str | Path] | DataConfig,
    windows: WindowConfig | None = None,
    watch: Watch = lambda done, total: None,
    options: SourceConfig | None = None,
) -> Inspection:
    """Look through every value of the files that the paths name, or a data config.

    `options` says how files are to be opened, as one entry of a data config does; `windows`
    what a sample would be; `watch` hears how many frames were looked at, of how many. Files that
    cannot be read are problems of the result. Raises DataError only where a path names nothing.
    """
    windows = windows or WindowConfig()
    if isinstance(paths, DataConfig):
        opened, problems = open_config(paths)
        split, others = paths.split, own_splits(paths, opened)
    else:
        opened, problems = open_systems_in(paths, options)
        needed = (windows.history - 1 + windows.min_lead) * windows.stride + 1
        split, others = usual_splits(opened, needed)
    total = sum(len(t.times) for fields in opened for t in fields.trajectories)
    done = 0

    def count(frames: int) -> None:
        nonlocal done
        done += frames
        watch(done, total)

    reports = [
        replace(report(fields, places, windows, others.get(fields, split), count), split=own)
        for fields, places in opened.items()
        for own in [others.get(fields)]
    ]
    if options is not None and options.uneven == "allow":
        reports = [replace(r, uneven="allow" if r.uneven == "ask" else r.uneven) for r in reports]
    return Inspection(tuple(reports), tuple(problems), split)


def report(
    fields: Fields,
    paths: tuple[Path, ...],
    windows: WindowConfig,
    split: SplitConfig,
    count: Callable[[int], None],
) -> SystemReport:
    """Read all of one system; `count` hears how many frames were read."""
    running, repeats, problems = FieldStatistics(len(fields.spec.variables)), Repeats(), []
    for i in range(len(fields)):
        try:
            read_all(fields, i, running, repeats, count)
        except MateyError as error:
            problems.append(str(error))
    trajectories, statistics = fields.trajectories, running.statistics()
    lost = [] if problems else unresolved(fields, statistics)  # of a damaged file no more is read
    parts, refused, short = check_division(fields, split, windows, problems)
    problems += [*refused, *undecided(fields.readers)]
    alike = all(
        s.constant or v.mask or v.name in lost
        for v, s in zip(fields.spec.variables, statistics, strict=bool(statistics))
    )
    notices = [
        *([] if lost and alike else overlaps(fields, repeats.shared(), parts)),
        *odd_values(fields, statistics, lost),
        *uneven_lengths(fields),
        *short,
    ]
    grid = trajectories[0].grid
    sides = trajectories[0].boundaries[3 - grid.ndim :]
    points = max(prod(t.grid.shape) for t in trajectories)
    values = {p: [t.parameters[p] for t in trajectories] for p in fields.spec.parameters}
    first = fields.readers[0].contents
    even = all(is_uniform(t.times.diff() / fields.spec.dt) for t in trajectories)
    return SystemReport(
        name=fields.spec.name,
        layout=fields.readers[0].layout,
        paths=paths,
        spec=fields.spec,
        axes=grid.axes,
        trajectories=len(trajectories),
        frames=dict(Counter(len(t.times) for t in trajectories)),
        shapes=dict(Counter(t.grid.shape[3 - grid.ndim :] for t in trajectories)),
        splits=dict(Counter(t.split for t in trajectories if t.split)),
        times=(
            min(float(t.times[0]) for t in trajectories),
            max(float(t.times[-1]) for t in trajectories),
        ),
        boundaries={
            axis: "-".join(dict.fromkeys(Boundary(side).name.lower() for side in pair))
            for axis, pair in zip(grid.axes, sides, strict=True)
        },
        parameters={p: (min(v), max(v)) for p, v in values.items()},
        statistics=statistics,
        window_bytes=4 * (windows.history + 1) * len(fields.spec.variables) * points,
        problems=tuple(problems),
        notices=tuple(notices),
        described=first.described,
        assumptions=tuple(first.assumptions),
        uneven="refuse" if even else "ask",
        mask=first.mask if first.described is not None else "",
        join=fields.readers[0].join,
        duplicates="drop" if any(reader.dropped for reader in fields.readers) else "refuse",
    )


def read_all(
    fields: Fields,
    index: int,
    running: FieldStatistics,
    repeats: Repeats,
    count: Callable[[int], None],
) -> None:
    """Look at a trajectory's values, a block of frames at a time.

    Raises DataError that names the first value that cannot be trained on.
    """
    trajectory = fields.trajectories[index]
    frame = 4 * len(fields.spec.variables) * prod(trajectory.grid.shape)
    block = max(1, BLOCK // frame)
    for start in range(0, len(trajectory.times), block):
        read = fields.read(index, slice(start, start + block))
        running.add(read, trajectory.name)
        repeats.add(index, read.values)
        count(len(read))


def open_config(config: DataConfig) -> tuple[Opened, list[str]]:
    """The systems of a data config, and why others cannot be opened."""
    opened: Opened = {}
    problems = []
    for source in config.systems:
        try:
            opened[open_source(source)] = tuple(map(Path, source.paths))
        except MateyError as error:
            problems.append(str(error))
    return opened, problems


def own_splits(config: DataConfig, opened: Opened) -> dict[Fields, SplitConfig]:
    """The systems of a data config that say how they are divided."""
    said = {source.name: source.split for source in config.systems}
    return {fields: split for fields in opened if (split := said[fields.spec.name])}


def open_systems_in(
    paths: Sequence[str | Path], options: SourceConfig | None
) -> tuple[Opened, list[str]]:
    """The systems in files, folders or patterns, and why some files cannot be opened.

    Raises DataError only where a path names nothing.
    """
    opened: Opened = {}
    problems: list[str] = []
    names: set[str] = set()
    origin = open_each(paths, options, problems)
    groups = [g for system in group_by_system(origin) for g in group_by_draft(system)]
    for group in groups:
        name = unused(group[0].spec.name, names)
        names.add(name)
        try:
            opened[Fields(group, name)] = tuple(config_paths(group, groups, origin))
        except MateyError as error:
            problems.append(str(error))
    return opened, problems


def open_each(
    paths: Sequence[str | Path], options: SourceConfig | None, problems: list[str]
) -> dict[Reader, str | Path]:
    """A reader per file, and the path that named it; errors join the `problems`. Files with uneven
    times are opened all the same, for a draft that asks what to do with them."""
    origin, errors = open_named(paths, options)
    whole = {os.path.abspath(path) for path in paths}
    for file, error in errors.items():
        if origin and isinstance(error, UnknownLayoutError) and str(file) not in whole:
            log.warning(f"Left out: {error}")
        else:
            problems.append(str(error))
    if any(UNEVEN in str(error) for error in errors.values()):
        given = options or SourceConfig("inspect", tuple(map(str, paths)))
        with quiet():  # what there is to say is said
            origin, _ = open_named(paths, replace(given, uneven="allow"))
    return origin


def group_by_draft(readers: list[Reader]) -> list[list[Reader]]:
    """Readers of one system by their drafted layout, as one entry of a config has one."""
    groups: dict[str, list[Reader]] = {}
    for reader in readers:
        layout = reader.contents.described
        drafted = layout and replace(layout, doubts=())
        groups.setdefault(repr((drafted, reader.join)), []).append(reader)
    return list(groups.values())


def config_paths(
    group: list[Reader], groups: list[list[Reader]], origin: dict[Reader, str | Path]
) -> list[Path]:
    """The paths that a data config names for a system: the user's path, or the file's folder, if
    that holds no other system; else the file."""
    others = [r for other in groups if other is not group for r in other]
    paths: dict[Path, None] = {}
    for reader in group:
        path, folder = origin[reader], reader.path.parent
        if len(reader.files) > 1 and Path(os.path.abspath(path)) in reader.files:
            paths |= dict.fromkeys(reader.files)  # one by one, as a pattern that the shell expands
        elif not any(origin[other] == path for other in others):
            paths.setdefault(Path(os.path.abspath(path)))
        elif Path(path).is_dir() and not any(o.path.is_relative_to(folder) for o in others):
            paths.setdefault(folder)
        else:
            paths |= dict.fromkeys(reader.files)
    return list(paths)
