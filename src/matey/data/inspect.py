"""What is in a set of files, and whether it can be trained on.

Values are streamed a few frames at a time, so a file may be larger than memory.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

from matey.config import DataConfig, LayoutConfig, SourceConfig, SplitConfig, WindowConfig
from matey.data.files import shown
from matey.data.gather import Opened, open_config, open_systems_in
from matey.data.precision import unresolved
from matey.data.reader import Fields
from matey.data.tally import Repeats, Statistics, Tally
from matey.data.the_well import stated_statistics
from matey.data.verdict import Parts, divided, is_even, too_short, without_training
from matey.errors import MateyError
from matey.fields import Boundary, SystemSpec

BLOCK = 2**24  # bytes of values read at once; a frame at least
OUTLIER = 50  # standard deviations from the mean; strong shocks reach 25
OVERLAP = 0.5  # share of frames in common that makes two trajectories one; all start alike at rest
LISTED = 20  # notices of one kind
Watch = Callable[[int, int], None]


@dataclass(frozen=True)
class SystemReport:
    """One system: where it lies, what it holds, and what stands against training on it.

    `frames` and `shapes` count trajectories by frames and by grid points of the active axes;
    `parameters` are (lowest, highest). `problems` make training refuse the data, `notices`
    do not. `described` is the draft of a layout that no reader knows, with what it assumes;
    `uneven` is what a data config must say of time steps for it to be opened.
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
    statistics: tuple[Statistics, ...]
    window_bytes: int
    problems: tuple[str, ...]
    notices: tuple[str, ...]
    described: LayoutConfig | None = None
    assumptions: tuple[str, ...] = ()
    uneven: Literal["refuse", "allow"] = "refuse"


@dataclass(frozen=True)
class Inspection:
    """The systems found, and the files that could not be read."""

    systems: tuple[SystemReport, ...]
    problems: tuple[str, ...]

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
    if isinstance(paths, DataConfig):
        opened, problems, split = *open_config(paths), paths.split
    else:
        opened, problems, split = *open_systems_in(paths, options), SplitConfig()
    total = sum(len(t.times) for system in opened for t in system.fields.trajectories)
    done = 0

    def count(frames: int) -> None:
        nonlocal done
        done += frames
        watch(done, total)

    windows = windows or WindowConfig()
    reports = [report(system, windows, split, count) for system in opened]
    return Inspection(tuple(reports), tuple(problems))


def report(
    opened: Opened, windows: WindowConfig, split: SplitConfig, count: Callable[[int], None]
) -> SystemReport:
    """Read all of one system; `count` hears how many frames were read."""
    fields = opened.fields
    tally, repeats, problems = Tally(len(fields.spec.variables)), Repeats(), []
    for i in range(len(fields)):
        try:
            read_all(fields, i, tally, repeats, count)
        except MateyError as error:
            problems.append(str(error))
    known, statistics = fields.trajectories, tally.statistics()
    lost = [] if problems else unresolved(fields, statistics)  # of a damaged file no more is read
    parts = divided(fields, split, problems)
    refused, short = too_short(fields, parts, windows)
    problems += [*without_training(fields, parts), *refused]
    alike = all(
        s.constant or v.name in lost
        for v, s in zip(fields.spec.variables, statistics, strict=bool(statistics))
    )
    notices = [
        *([] if lost and alike else overlaps(fields, repeats.shared(), parts)),
        *odd_values(fields, statistics, lost),
        *uneven_lengths(fields),
        *short,
    ]
    grid = known[0].grid
    sides = known[0].boundaries[3 - grid.ndim :]
    points = max(prod(t.grid.shape) for t in known)
    values = {p: [t.parameters[p] for t in known] for p in fields.spec.parameters}
    first = fields.readers[0].contents
    return SystemReport(
        name=fields.spec.name,
        layout=fields.readers[0].layout,
        paths=opened.paths,
        spec=fields.spec,
        axes=grid.axes,
        trajectories=len(known),
        frames=dict(Counter(len(t.times) for t in known)),
        shapes=dict(Counter(t.grid.shape[3 - grid.ndim :] for t in known)),
        splits=dict(Counter(t.split for t in known if t.split)),
        times=(min(float(t.times[0]) for t in known), max(float(t.times[-1]) for t in known)),
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
        uneven="refuse" if is_even(fields) else "allow",
    )


def read_all(
    fields: Fields,
    trajectory: int,
    tally: Tally,
    repeats: Repeats,
    count: Callable[[int], None],
) -> None:
    """Look at a trajectory's values, a block of frames at a time.

    Raises DataError that names the first value that cannot be trained on.
    """
    known = fields.trajectories[trajectory]
    frame = 4 * len(fields.spec.variables) * prod(known.grid.shape)
    block = max(1, BLOCK // frame)
    for start in range(0, len(known.times), block):
        read = fields.read(trajectory, slice(start, start + block))
        tally.add(read.values, read.times, known.name)
        repeats.add(trajectory, read.values)
        count(len(read))


def overlaps(fields: Fields, shared: dict[tuple[int, int], int], parts: Parts) -> list[str]:
    """Trajectories that have most of their frames in common, and those on both sides of a split.

    A model is scored on what it was trained on where one is for training and one for test.
    """
    known = fields.trajectories
    part = {i: name for name, chosen in parts.items() for i in chosen}
    divided = all(trajectory.split for trajectory in known)
    notices = []
    for (a, b), count in shared.items():
        lengths = len(known[a].times), len(known[b].times)
        if count < OVERLAP * min(lengths):
            continue
        same = count == lengths[0] == lengths[1]
        what = "is a duplicate of" if same else f"has {count} of {lengths[1]} frames in common with"
        text = f"{shown(known[b].name)} {what} {shown(known[a].name)}"
        if part.get(a) != part.get(b):
            whose = "the files put" if divided else "the usual split puts"
            text += f", and {whose} them into {part[b]} and {part[a]}"
        notices.append(f"{text}.")
    return listed(notices)


def odd_values(fields: Fields, statistics: Sequence[Statistics], lost: Sequence[str]) -> list[str]:
    """Constants, outliers, and statistics that are not those stated beside the data. The variation
    of variables called `lost` is too small for float32."""
    notices = []
    stated = stated_statistics(fields.readers[0])
    for variable, found in zip(fields.spec.variables, statistics, strict=bool(statistics)):
        if variable.name in lost:
            notices.append(
                f"{variable.name} varies by less than a millionth of its mean {found.mean:.6g}: "
                "float32, which everything here computes in, cannot resolve that. Subtract the "
                "mean before it is stored."
            )
            continue
        if found.constant:
            notices.append(f"{variable.name} is constant, {found.minimum:.6g} everywhere.")
            continue
        value, place = found.farthest
        distance = abs(value - found.mean) / found.std
        if distance > OUTLIER:
            notices.append(
                f"{variable.name} has an outlier: {value:.6g} in {shown(place)}, {distance:.0f} "
                f"standard deviations from the mean {found.mean:.6g}."
            )
        if variable.name in stated:
            mean, std = stated[variable.name]
            if abs(found.mean - mean) > std or not 0.5 * std <= found.std <= 2 * std:
                notices.append(
                    f"{variable.name} has mean {found.mean:.6g} and standard deviation "
                    f"{found.std:.6g}, but stats.yaml states {mean:.6g} and {std:.6g}."
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
