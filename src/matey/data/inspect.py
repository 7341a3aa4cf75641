"""What is in a set of files, and whether it can be trained on.

Values are streamed frame by frame, so a file may be larger than memory. The result is also
the draft of a data config.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import torch
import yaml
from jaxtyping import Float
from torch import Tensor

from matey.config import SplitConfig, WindowConfig
from matey.data.files import UnknownLayoutError, log, shown
from matey.data.reader import Fields, Reader, find_files, group_by_system, open_reader
from matey.errors import DataError, MateyError
from matey.fields import Boundary, SystemSpec

BLOCK = 2**26  # bytes of values read at once


@dataclass(frozen=True)
class Statistics:
    """Values of one variable over all its frames and points."""

    minimum: float
    maximum: float
    mean: float
    std: float

    @property
    def constant(self) -> bool:
        return self.minimum == self.maximum


@dataclass(frozen=True)
class SystemReport:
    """One system: where it lies, what it holds, and what stands against training on it.

    `frames` and `shapes` count trajectories by frames and by grid points of the active axes;
    `parameters` are (lowest, highest). `problems` make training refuse the data, `notices`
    do not.
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


@dataclass(frozen=True)
class Inspection:
    """The systems found, and the files that could not be read."""

    systems: tuple[SystemReport, ...]
    problems: tuple[str, ...]

    @property
    def refused(self) -> list[str]:
        """Why training would be refused; empty where it would not."""
        return [*self.problems, *(p for system in self.systems for p in system.problems)]


@dataclass
class _Tally:
    """Running count, mean and squared deviation per variable [C]: Chan's update, float64."""

    count: int = 0
    mean: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.float64))
    squares: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.float64))
    lowest: Tensor = field(default_factory=lambda: torch.tensor([torch.inf]).double())
    highest: Tensor = field(default_factory=lambda: torch.tensor([-torch.inf]).double())

    def add(self, values: Float[Tensor, "T C Z Y X"]) -> None:
        flat = values.double().transpose(0, 1).flatten(1)
        mean, count = flat.mean(1), flat.shape[1]
        shift, total = mean - self.mean, self.count + count
        self.squares = (
            self.squares
            + (flat - mean[:, None]).square().sum(1)
            + shift.square() * (self.count * count / total)
        )
        self.mean = self.mean + shift * (count / total)
        self.lowest = torch.minimum(self.lowest, flat.amin(1))
        self.highest = torch.maximum(self.highest, flat.amax(1))
        self.count = total

    def statistics(self) -> tuple[Statistics, ...]:
        if not self.count:
            return ()
        columns = (self.lowest, self.highest, self.mean, (self.squares / self.count).sqrt())
        return tuple(Statistics(*row) for row in torch.stack(columns, 1).tolist())


def inspect(
    paths: Sequence[str | Path],
    windows: WindowConfig | None = None,
    watch: Callable[[str], None] = lambda _: None,
) -> Inspection:
    """Look through every value of the files that the paths name.

    `windows` says what a sample would be; `watch` hears the name of each trajectory before
    it is read. Files that cannot be read are problems of the result. Raises DataError only
    where a path names nothing.
    """
    readers: list[Reader] = []
    problems: list[str] = []
    origin: dict[Path, str | Path] = {}
    for path in paths:
        unknown, known = [], 0
        for file in find_files([path]):
            if file in origin:
                continue
            origin[file] = path
            try:
                readers.append(open_reader(file))
                known += 1
            except UnknownLayoutError as error:
                unknown.append(str(error))
            except MateyError as error:
                problems.append(str(error))
        if known and unknown and not Path(path).is_file():
            for message in unknown:
                log.warning(f"Left out: {message}")
        else:
            problems += unknown
    names: Counter[str] = Counter()
    reports = []
    groups = group_by_system(readers)
    for group in groups:
        first = group[0].spec.name
        names[first] += 1
        name = first if names[first] == 1 else f"{first}_{names[first]}"
        try:
            fields = Fields(group, name)
        except MateyError as error:
            problems.append(str(error))
            continue
        used = tuple(config_paths(group, groups, origin))
        reports.append(report(fields, used, windows or WindowConfig(), watch))
    return Inspection(tuple(reports), tuple(problems))


def config_paths(
    group: list[Reader], groups: list[list[Reader]], origin: dict[Path, str | Path]
) -> list[Path]:
    """What to write for a system: the path given, or the file's folder, if that names no
    other system; else the file."""
    others = [r.path for other in groups if other is not group for r in other]
    chosen: dict[Path, None] = {}
    for reader in group:
        given = origin[reader.path]
        folder = reader.path.parent
        if not any(origin[path] == given for path in others):
            chosen.setdefault(Path(os.path.abspath(given)))
        elif Path(given).is_dir() and not any(path.is_relative_to(folder) for path in others):
            chosen.setdefault(folder)
        else:
            chosen.setdefault(reader.path)
    return list(chosen)


def report(
    fields: Fields, paths: tuple[Path, ...], windows: WindowConfig, watch: Callable[[str], None]
) -> SystemReport:
    """Read all of one system."""
    tally, problems, notices = _Tally(), [], []
    seen: dict[bytes, str] = {}
    for i, trajectory in enumerate(fields.trajectories):
        watch(trajectory.name)
        try:
            mark = read_all(fields, i, tally)
        except MateyError as error:
            problems.append(str(error))
            continue
        if mark in seen:
            notices.append(
                f"{shown(trajectory.name)} has the first and last frame of {shown(seen[mark])}: "
                "a duplicate, which may put the same data in training and test."
            )
        seen.setdefault(mark, trajectory.name)
    known = fields.trajectories
    statistics = tally.statistics()
    for variable, found in zip(fields.spec.variables, statistics, strict=bool(statistics)):
        if found.constant:
            notices.append(f"{variable.name} is constant, {found.minimum:.6g} everywhere.")
    frames = Counter(len(t.times) for t in known)
    short = sum(count for length, count in frames.items() if length <= windows.history)
    if short:
        message = (
            f"{short} of {len(known)} trajectories of {shown(fields.spec.name)} have too few "
            f"frames for windows.history = {windows.history} and a target."
        )
        (problems if short == len(known) else notices).append(message)
    grid = known[0].grid
    sides = known[0].boundaries[3 - grid.ndim :]
    points = max(prod(t.grid.shape) for t in known)
    values = {p: [t.parameters[p] for t in known] for p in fields.spec.parameters}
    return SystemReport(
        name=fields.spec.name,
        layout=fields.readers[0].layout,
        paths=paths,
        spec=fields.spec,
        axes=grid.axes,
        trajectories=len(known),
        frames=dict(frames),
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
    )


def read_all(fields: Fields, trajectory: int, tally: _Tally) -> bytes:
    """Add a trajectory's values to the tally; a digest of its first and last frame."""
    known = fields.trajectories[trajectory]
    frame = 4 * len(fields.spec.variables) * prod(known.grid.shape)
    block = max(1, BLOCK // frame)
    digest = hashlib.blake2b(digest_size=16)
    for start in range(0, len(known.times), block):
        values = fields.read(trajectory, slice(start, start + block)).values
        tally.add(values)
        if start == 0:
            digest.update(values[0].numpy().tobytes())
    digest.update(values[-1].numpy().tobytes())
    return digest.digest()


def config_text(inspection: Inspection, folder: Path) -> str:
    """A data config in YAML for a file in `folder`: what `matey train --data` takes.

    Paths below the folder are relative, so that both can be moved together.
    Raises DataError if training would be refused.
    """
    if inspection.refused:
        raise DataError(f"No data config is written: {inspection.refused[0]}")
    lines = ["# Drafted by `matey data inspect`. Use: matey train --data THIS_FILE ...", "systems:"]
    for system in inspection.systems:
        lines += [f"  # {shown(line)}" for line in describe(system)]
        lines += [f"  - name: {quoted(system.name)}", "    paths:"]
        lines += [f"      - {quoted(relative(path, folder))}" for path in system.paths]
    split = SplitConfig()
    lines.append("# Fractions of the trajectories. Files that come divided keep their division.")
    lines.append("split:")
    lines += [f"  {key}: {getattr(split, key)}" for key in ("valid", "test", "seed")]
    return "\n".join(lines) + "\n"


def describe(system: SystemReport) -> list[str]:
    """A system in a few lines: sizes, variables, parameters."""
    shapes = ", ".join("x".join(map(str, shape)) for shape in system.shapes)
    frames = ", ".join(map(str, sorted(system.frames)))
    parameters = ", ".join(
        f"{name} {low:.6g}" if low == high else f"{name} {low:.6g} to {high:.6g}"
        for name, (low, high) in system.parameters.items()
    )
    sides = ", ".join(f"{axis} {kind}" for axis, kind in system.boundaries.items())
    lines = [
        f"{system.layout}, {system.spec.ndim}D: {system.trajectories} trajectories of {frames} "
        f"frames on {shapes} ({', '.join(system.axes)}), dt {system.spec.dt:.6g}",
        f"variables: {', '.join(variable.name for variable in system.spec.variables)}",
        f"boundaries: {sides}; parameters: {parameters or 'none'}",
    ]
    if system.splits:
        divided = ", ".join(f"{count} {name}" for name, count in system.splits.items())
        lines.append(f"comes divided: {divided}")
    return lines


def relative(path: Path, folder: Path) -> str:
    """The path from the folder if it lies below it, else the absolute path."""
    folder = Path(os.path.abspath(folder))
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def quoted(text: str) -> str:
    """Text as a YAML value on one line."""
    return yaml.safe_dump(text, allow_unicode=True, width=10**6).removesuffix("...\n").strip()
