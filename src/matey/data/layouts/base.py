"""Layouts of files: the system, the trajectories, and where their values lie.

A layout is a small class (`Layout`) whose `describe` looks into an open file and returns
`Contents`, or None where the file is not in that layout. The functions below are what layouts
share: they check what files claim.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from matey.config import LayoutConfig, SourceConfig
from matey.data.formats import files
from matey.data.formats.container import Container
from matey.data.formats.files import log, shown
from matey.errors import DataError, ShapeError
from matey.fields import PERIODIC_SIDES, Grid, Labels, Sides, SystemSpec, Variable

UNIFORM = 0.1  # steps within this fraction of their median count as uniform
EVEN = 0.01  # steps between grid points within this fraction of their mean are even
ROUNDING = 1e-3  # below this they are equal but for rounding
Entry = TypeVar("Entry")
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Trajectory:
    """A trajectory without its values.

    `name` is unique and stable, as in `2D_rdb_NA_NA.h5#0003`; `times` is [T] in float64;
    `split` is `train`, `valid` or `test` where the files come divided, else None.
    """

    name: str
    times: Tensor
    grid: Grid
    boundaries: tuple[Sides, Sides, Sides]
    parameters: dict[str, float]
    split: str | None = None


class Staggered(NamedTuple):
    """An axis of an array along which it lies on faces: `outer`, `inner`, `left` or `right`."""

    letter: str
    position: str
    periodic: bool


@dataclass(frozen=True)
class Stored:
    """A dataset that holds one variable or several.

    `axes` has a letter per axis of the dataset: n trajectory, t time, c and d components,
    z y x grid, _ an axis of one entry. A grid axis, n or t that is absent does not vary. In
    `name`, `{key}` stands for the trajectory's own group. `background` is added to the stored
    values in float64; it has the axes Z Y X, or one point where it does not vary. `staggered`
    lists the letters of axes along which the array lies on the faces of cells.
    """

    name: str
    axes: str
    variables: tuple[Variable, ...]
    background: np.ndarray | None = None
    staggered: tuple[Staggered, ...] = ()


@dataclass(frozen=True)
class Contents:
    """A file but for its values: its system, its trajectories, and its arrays.

    `keys` are the trajectories' groups, where each has one. `described` is the draft that a
    file in no layout here was read by, with what it assumes; `doubts` are what a person has to
    decide before it is trained on. `named` says that the file or its layout names the system, and
    not its folder. `labels` are the file's names of axes, and what it says of its arrays. `mask`
    says which points hold a field: `missing` those where no variable is missing at the first time;
    or it names a static variable.
    """

    spec: SystemSpec
    trajectories: Sequence[Trajectory]
    arrays: Sequence[Stored]
    keys: Sequence[str] = ()
    described: LayoutConfig | None = None
    assumptions: Sequence[str] = ()
    doubts: Sequence[str] = ()
    labels: Labels | None = None
    named: bool = True
    mask: str = ""


@runtime_checkable
class Layout(Protocol):
    """How some program arranges its files.

    `name` stands in reports, `formats` are those of `files.kind` that it comes in, `expected`
    says in a few words what such a file holds.
    """

    @property
    def name(self) -> str: ...

    @property
    def formats(self) -> tuple[str, ...]: ...

    @property
    def expected(self) -> str: ...

    def describe(self, file: Container, options: SourceConfig | None) -> Contents | None:
        """What the open file holds, or None if it is not in this layout.

        Raises DataError or ShapeError where it is, but is wrong.
        """


def make_times(stored: np.ndarray, count: int, path: Path, name: str) -> Tensor:
    """The times of `count` frames [T]; a file may list one time more, for the next frame."""
    if stored.ndim != 1 or len(stored) not in (count, count + 1):
        raise ShapeError(
            f"{shown(path)}: {name} has shape {stored.shape}, expected the times of {count} frames."
        )
    return torch.from_numpy(stored[:count].astype(np.float64))


def time_step(times: Tensor, options: SourceConfig | None, where: str) -> float:
    """The median step between the times [T]; 1 for a single frame.

    Raises DataError if times do not increase, or if a step differs from the median by more
    than a tenth and the options do not allow that.
    """
    if len(times) < 2:
        return 1.0
    steps = times.diff()
    if not bool(torch.isfinite(times).all() and (steps > 0).all()):
        raise DataError(
            f"{shown(where)}: times do not increase: {times[:8].tolist()} ... Of a run that "
            "was restarted keep each frame once: `drop_duplicates('time', keep='last')` in xarray."
        )
    median = float(steps.median())
    deviation = float((steps - median).abs().max()) / median
    if deviation > UNIFORM and (options is None or options.uneven == "refuse"):
        raise DataError(
            f"{shown(where)}: time steps differ from their median {median:.6g} by up to "
            f"{deviation:.0%}. Set `uneven: allow` for this source (`matey data inspect --uneven "
            "allow --write` does) to take the elapsed time as lead time, or store even times."
        )
    if deviation > ROUNDING:
        treated = "counted as uniform" if deviation <= UNIFORM else "allowed"
        log.info(f"{shown(where)}: time steps vary by up to {deviation:.1%}; {treated}.")
    return float(f"{median:.6g}")  # float32 times make 0.05 of 0.0499999


def make_grid(
    axes: tuple[str, ...], coordinates: Sequence[np.ndarray], shape: Sequence[int], where: str
) -> Grid:
    """The grid of the coordinates of its axes, slowest first, as `shape` is.

    A coordinate that falls is turned round: `Grid.falling` says so, and the reader turns values.
    Steps within a hundredth of their mean count as even, and so do those that float32 rounds.
    Raises ShapeError where coordinate and axis differ in length: the axes may be swapped.
    """
    missing, falling = 3 - len(axes), []
    origin, spacing, sizes = [0.0] * missing, [1.0] * missing, [1] * missing
    positions: list[tuple[float, ...]] = [()] * missing
    for axis, stored, size in zip(axes, coordinates, shape, strict=True):
        if stored.shape != (size,):
            raise ShapeError(
                f"{where}: axis {axis} has {size} points, but its coordinate has shape "
                f"{stored.shape}. Are the axes swapped?"
            )
        points = stored
        if size > 1 and stored[0] > stored[-1]:
            points = stored[::-1]
            falling.append(axis)
            log.info(
                f"{where}: coordinate {axis} falls from {stored[0]:g} to {stored[-1]:g}; fields "
                "are turned round, and predictions turned back when they are written."
            )
        steps = np.diff(points)
        if not np.isfinite(points).all() or (steps <= 0).any():
            raise ShapeError(
                f"{where}: coordinate {axis} neither rises nor falls throughout. Mend it in "
                "the file, or leave it out of `coordinates` in the `layout` of a data config, "
                "which numbers the grid points."
            )
        stretched = not has_even_steps(points, steps)
        if stretched:
            log.info(
                f"{where}: coordinate {axis} is stretched, in steps of {steps.min():.4g} to "
                f"{steps.max():.4g}: means and errors weigh points by the size of their cells."
            )
        origin.append(float(points[0]))
        spacing.append(float(steps.mean()) if size > 1 else 1.0)
        sizes.append(size)
        positions.append(tuple(points.tolist()) if stretched else ())
    return Grid(axes, zyx(sizes), zyx(origin), zyx(spacing), zyx(positions), tuple(falling))


def zyx(entries: Sequence[Entry]) -> tuple[Entry, Entry, Entry]:
    """An entry for each of Z, Y and X."""
    z, y, x = entries
    return z, y, x


def has_even_steps(points: np.ndarray, steps: np.ndarray) -> bool:
    """Whether steps between points are equal but for a hundredth, or the rounding of float32."""
    if len(steps) < 2:
        return True
    rounded = bool((points.astype(np.float32) == points).all())
    rounding = 2.0**-22 * float(np.abs(points).max()) if rounded else 0.0
    mean = float(steps.mean())
    return float(np.abs(steps - mean).max()) <= max(EVEN * mean, rounding)


def sides_of(active: Sequence[Sides]) -> tuple[Sides, Sides, Sides]:
    """The sides of Z, Y and X from those of the active axes; the others are periodic."""
    return zyx([PERIODIC_SIDES] * (3 - len(active)) + list(active))


def alike(
    path: Path,
    times: Sequence[Tensor],
    grid: Grid,
    sides: tuple[Sides, Sides, Sides],
    parameters: dict[str, float],
) -> list[Trajectory]:
    """Trajectories of a file that differ in their times [T] and values alone, by number."""
    return [
        Trajectory(f"{path.name}#{n:04d}", each, grid, sides, parameters)
        for n, each in enumerate(times)
    ]


def same_sizes(file: Container, arrays: Sequence[Stored]) -> dict[str, int]:
    """Points of each axis by its letter, after checking that all arrays agree on them."""
    sizes: dict[str, int] = {}
    for stored in arrays:
        shape = file.array(stored.name).shape
        axes = f"{stored.name} [{', '.join(stored.axes)}]"
        if len(shape) != len(stored.axes):
            raise ShapeError(f"{shown(file.path)}: {axes} has shape {shape}: other axes.")
        here = dict(zip(stored.axes, shape, strict=True))
        for axis in stored.staggered:
            here[axis.letter] += {"outer": -1, "inner": 1}.get(axis.position, 0)
        if here.pop("_", 1) != 1:
            raise ShapeError(f"{shown(file.path)}: {axes} has shape {shape}, expected 1 on _.")
        count = here.pop("c", 1) * here.pop("d", 1)
        if count != len(stored.variables):
            raise ShapeError(
                f"{shown(file.path)}: {axes} has shape {shape}, expected "
                f"{len(stored.variables)} components on its last axis."
            )
        if any(sizes.setdefault(axis, size) != size for axis, size in here.items()):
            raise ShapeError(
                f"{shown(file.path)}: {axes} has shape {shape}, which does not fit {sizes} of "
                f"{arrays[0].name}. Are the axes swapped?"
            )
    if sizes.get("n", 1) > files.MAX_COORDINATE:
        raise DataError(f"{shown(file.path)}: declares {sizes['n']} trajectories: it is damaged.")
    return sizes


def required(path: Path, stored: Sequence[str], names: Sequence[str]) -> None:
    """Raise DataError that lists what is required and what is there."""
    missing = [name for name in names if name not in stored]
    if missing:
        raise DataError(
            f"{shown(path)}: {', '.join(missing)} missing. Required: {', '.join(names)}; "
            f"found: {', '.join(stored)}."
        )


def notice_extra(path: Path, stored: Sequence[str], used: Collection[str]) -> None:
    """Say which datasets are not read."""
    extra = sorted(set(stored) - set(used))
    if extra:
        log.warning(f"{shown(path)}: {', '.join(extra)} ignored: not part of this layout.")


def number(value: Any) -> float:
    """A finite parameter. Raises DataError on anything else."""
    try:
        result = float(np.asarray(value).reshape(()))
    except (TypeError, ValueError) as error:
        raise DataError(f"Parameter value {value!r} is not a number.") from error
    if not np.isfinite(result):
        raise DataError(f"Parameter value {value!r} is not finite.")
    return result


def make_contents(
    file: Container,
    system: str,
    arrays: Sequence[Stored],
    trajectories: Sequence[Trajectory],
    options: SourceConfig | None,
    keys: Sequence[str] = (),
) -> Contents:
    """The contents of a file; its system has the variables of the arrays in their order."""
    variables = [variable for stored in arrays for variable in stored.variables]
    spec = make_spec(system, variables, trajectories, file.path, options)
    return Contents(spec, trajectories, arrays, keys)


def make_spec(
    system: str,
    variables: Sequence[Variable],
    trajectories: Sequence[Trajectory],
    path: Path,
    options: SourceConfig | None,
) -> SystemSpec:
    """The system of a file. Raises DataError where its trajectories disagree on dt, boundaries
    or parameter names."""
    if not trajectories:
        raise DataError(f"{shown(path)} holds no trajectory.")
    first = trajectories[0]
    steps: dict[int, float] = {}
    for trajectory in trajectories:
        times = trajectory.times
        if not len(times):
            raise DataError(
                f"{shown(path)}: {trajectory.name} holds no frame. Leave the file out, or wait for "
                "the program that writes it."
            )
        if id(times) not in steps:
            steps[id(times)] = time_step(times, options, trajectory.name)
        if set(trajectory.parameters) != set(first.parameters):
            raise DataError(
                f"{shown(path)}: {trajectory.name} has the parameters "
                f"{sorted(trajectory.parameters)}, {first.name} has "
                f"{sorted(first.parameters)}. Give all of them, or split the file."
            )
        if trajectory.boundaries != first.boundaries:
            raise DataError(
                f"{shown(path)}: {trajectory.name} has other boundaries than {first.name}. A "
                "system has one kind of them: split the file."
            )
    dt = float(torch.tensor(list(steps.values()), dtype=torch.float64).median())
    apart = max(steps.values()) - min(steps.values())
    if apart > UNIFORM * dt and (options is None or options.uneven == "refuse"):
        raise DataError(
            f"{shown(path)}: time steps of its trajectories run from {min(steps.values()):.6g} to "
            f"{max(steps.values()):.6g}. Set `uneven: allow` for this source, or split the file."
        )
    return SystemSpec(system, first.grid.ndim, tuple(variables), tuple(first.parameters), dt)
