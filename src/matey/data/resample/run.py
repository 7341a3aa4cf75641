"""Puts whole runs on a grid, and writes them in the Well's layout."""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import torch

from matey.config import SourceConfig
from matey.data.formats.files import PARALLEL, log, shown
from matey.data.formats.find import find_files
from matey.data.formats.hdf5 import open_hdf5
from matey.data.layouts.base import make_grid, sides_of, time_step
from matey.data.masks import NAME
from matey.data.resample.frames import Frame, Target
from matey.data.resample.grid import Domain, Points, check_extent, sides_on, target_of
from matey.data.resample.names import variables as name_variables
from matey.data.resample.programs import Program, program_of
from matey.data.resample.series import Series, in_order, series_of
from matey.data.resample.vtk_files import named_by
from matey.data.write import making_folder, write_well
from matey.errors import DataError, nearest
from matey.fields import Field, Grid, Sides, SystemSpec, Variable

Watch = Callable[[int, int], None]


@dataclass(frozen=True)
class Choices:
    """What is taken, and onto which grid.

    Args:
        grid: points along each axis of the files, slowest first (1 for the mean along it); or the
            grid itself.
        domain: (low, high) of each axis; by default that of the files.
        variables: by their names in the files or canonical ones; all by default.
        parameters: numbers of the run that the files tell, as `gamma`, to keep with it.
        sides: of each axis, if the files do not tell them.
        dt: between frames, if the files do not tell their times.
    """

    grid: Points
    domain: Domain | None = None
    variables: Sequence[str] = ()
    parameters: Sequence[str] = ()
    sides: Sequence[Sides] | None = None
    dt: float | None = None


@dataclass
class Resampled:
    """A run on its grid: values [T C+1 ...] in a file, NaN where there is no field; the last of the
    variables has room for the mask."""

    name: str
    frames: list[Frame]
    target: Target
    variables: list[Variable]
    values: np.ndarray

    @property
    def held(self) -> np.ndarray:
        """The points that hold a field."""
        return np.isfinite(self.values[0, : len(self.variables)]).all(axis=0)

    def keep(self, channels: Sequence[int], masked: bool) -> np.ndarray:
        """Values [T C ...] of some variables, 0 where there is no field, and the mask if there is
        to be one, in the same place."""
        held = self.held
        for new, old in enumerate(channels):
            for frame in self.values:
                frame[new] = np.where(held, frame[old], 0.0)
        self.values[:, len(channels)] = held
        return self.values[:, : len(channels) + masked]


def resample(
    paths: Sequence[str | Path],
    destination: str | Path,
    choices: Choices,
    watch: Watch = lambda done, total: None,
) -> list[Path]:
    """Put runs on blocks of several sizes or on meshes onto one grid: the files that are written.

    Files called alike but for a number are one run, in order of time, and become a trajectory in
    `destination/data/all`. Cells of blocks and of plane meshes are averaged by volume, so that
    integrals stay; values at points of a mesh are interpolated. Points outside the mesh are masked.
    `watch` hears how many frames are done, of how many. Raises DataError where nothing of that kind
    is there, runs differ in their variables, or a variable, parameter or axis is not there.
    """
    destination = Path(destination)
    runs = find_runs(paths)
    with (
        making_folder(destination) as temporary,
        tempfile.TemporaryDirectory(dir=temporary.parent, prefix=".resample") as scratch,
    ):
        done: list[Resampled] = []
        ordered = [(run, frames_of(run, programs, choices.dt)) for run, programs in runs]
        total = sum(len(frames) for _, frames in ordered)
        for n, (run, frames) in enumerate(ordered):
            before = sum(len(each.frames) for each in done)
            file = Path(scratch) / str(n)
            count = watch_from(watch, before, total)
            done.append(onto_grid(run.name, frames, choices, file, count))
        fields = as_fields(done, choices, destination.absolute().name)
        written = [
            write_well([field], temporary, name=run.name)
            for run, field in zip(done, fields, strict=True)
        ]
        names = [path.relative_to(temporary) for path in written]
    return [destination / name for name in names]


def watch_from(watch: Watch, before: int, total: int) -> Callable[[int], None]:
    """What hears how many frames of one run are done."""
    return lambda frames: watch(before + frames, total)


def find_runs(paths: Sequence[str | Path]) -> list[tuple[Series, dict[Path, Program]]]:
    """The runs in files, folders or patterns, with the program of each file."""
    programs: dict[Path, Program] = {}
    others: list[Path] = []
    for path in find_files(paths):
        program = program_of(path)
        if program is None:
            others.append(path)
        else:
            programs[path] = program
    for path in others:
        if path.is_file() and h5py.is_hdf5(os.fsencode(path)):
            open_hdf5(path).close()  # of what is cut short or locked it says so
    if not programs:
        named = f", as {shown(others[0].name)}" if others else ""
        raise DataError(
            f"{shown(paths[0])} holds no blocks of several sizes (FLASH, Chombo, AthenaPK, "
            f"openPMD) and no mesh (VTK, Exodus, CGNS){named}. What is on one grid already is read "
            f"as it is: matey data inspect {shown(paths[0])}"
        )
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        log.warning(f"Left out: {shown(others[0])}{more}: neither blocks nor a mesh.")
    pieces = {piece.absolute() for path in programs for piece in pieces_of(path)}
    whole = [path for path in programs if path not in pieces]
    return [(run, programs) for run in series_of(whole)]


def pieces_of(path: Path) -> list[Path]:
    """The files that a file of VTK names: they are parts of it, and no runs of their own."""
    if path.suffix.lower() not in (*PARALLEL, ".pvd", ".vtm"):
        return []
    return [piece for piece, _ in named_by(path)]


def frames_of(run: Series, programs: dict[Path, Program], dt: float | None) -> list[Frame]:
    """The frames of a run in order of time. Raises DataError where they differ in their axes or
    variables."""
    read = [(frame, n) for path, n in run.files for frame in programs[path].frames(path)]
    if not read:
        raise DataError(f"{shown(run.files[0][0])} holds no frame.")
    frames = in_order(read, dt)
    if any(frame.time is None for frame, _ in read) and not dt:
        log.warning(
            f"{run.name}: the files tell no times; their numbers are taken. For others give --dt."
        )
    for frame in frames:
        if frame.axes != frames[0].axes:
            raise DataError(
                f"{shown(frame.path)} has the axes {', '.join(frame.axes)}, "
                f"{shown(frames[0].path)} of the same run {', '.join(frames[0].axes)}."
            )
    return frames


def onto_grid(
    name: str, frames: list[Frame], choices: Choices, file: Path, count: Callable[[int], None]
) -> Resampled:
    """All frames of a run on its grid. Raises DataError for values beyond float32, and for points
    that hold a field at some times only."""
    first, target = frames[0], target_of(frames[0], choices.grid, choices.domain)
    active = [axis for axis, n in zip(first.axes, target.shape, strict=True) if n > 1]
    every = name_variables(list(first.units), list(first.units.values()), active)
    chosen = choose(every, choices.variables, first.path)
    names = [variable.alias for variable in chosen]
    shape = (len(frames), len(names) + 1, *target.shape)
    values = np.memmap(file, np.float32, "w+", shape=shape)
    for t, frame in enumerate(frames):
        lacks = [alias for alias in names if alias not in frame.units]
        if lacks:
            raise DataError(
                f"{shown(frame.path)} lacks {', '.join(lacks)} of {shown(first.path)}. Choose "
                "those that all frames have with --variables."
            )
        if choices.domain is None and not isinstance(choices.grid, Grid):
            check_extent(frame, first)
        with np.errstate(over="ignore"):
            values[t, :-1] = frame.onto(names, target)
        check_values(values, t, frame, names)
        count(t + 1)
    run = Resampled(name, frames, target, chosen, values)
    if not run.held.any():
        raise DataError(
            f"{shown(first.path)}: no point of the grid holds a value of every variable: give the "
            "grid a --domain that lies in the file's, or leave variables out with --variables."
        )
    return run


def check_values(values: np.ndarray, t: int, frame: Frame, names: Sequence[str]) -> None:
    """Raise DataError for infinite values, and where those are missing that the first frame has."""
    where = f"{shown(frame.path)}: "
    for c, name in enumerate(names):
        if np.isinf(values[t, c]).any():
            raise DataError(f"{where}{name} is infinite, or beyond float32.")
        if (np.isnan(values[t, c]) != np.isnan(values[0, c])).any():
            raise DataError(
                f"{where}{name} is missing at points of the grid where it is not at the first "
                "time, or the other way round: a mesh that moves. Choose a part that is always "
                "inside with --domain."
            )


def choose(every: Sequence[Variable], asked: Sequence[str], path: Path) -> list[Variable]:
    """The variables that are asked for, by either name; all if none is."""
    if not asked:
        return list(every)
    chosen = []
    for name in asked:
        found = [variable for variable in every if name in (variable.name, variable.alias)]
        if not found:
            known = [variable.alias for variable in every]
            raise DataError(f"{shown(path)} has no variable {name!r}. {nearest(name, known)}")
        chosen += [variable for variable in found if variable not in chosen]
    return chosen


def as_fields(runs: Sequence[Resampled], choices: Choices, system: str) -> list[Field]:
    """Runs as fields of one system. What never changes in any of them is static; components across
    the plane that are zero throughout are left out; the mask is a variable where one is needed.

    Raises DataError where runs differ in their variables.
    """
    first = runs[0]
    for run in runs:
        if [v.name for v in run.variables] != [v.name for v in first.variables]:
            raise DataError(
                f"{run.name} has the variables {', '.join(v.alias for v in run.variables)}, "
                f"{first.name} has {', '.join(v.alias for v in first.variables)}. Name the files "
                "of one of them, or choose common ones with --variables."
            )
    across = "xyz"[sum(n > 1 for n in first.target.shape) :]
    kept, variables = [], []
    for c, variable in enumerate(first.variables):
        if set(variable.axes) & set(across) and all(is_zero(run.values[:, c]) for run in runs):
            log.info(f"{variable.alias} is zero throughout, and left out.")
            continue
        still = all(len(run.frames) > 1 and is_still(run.values[:, c]) for run in runs)
        kept.append(c)
        variables.append(replace(variable, static=still))
    masked = any(not run.held.all() for run in runs)
    if masked:
        name = f"resample_{NAME}" if NAME in [v.name for v in variables] else NAME
        variables.append(Variable(name, static=True, alias=name, pseudo=False, mask=True))
    source = SourceConfig("resample", ("resample",), uneven="allow")
    times = [torch.tensor([f.time for f in run.frames], dtype=torch.float64) for run in runs]
    steps = [time_step(each, source, run.name) for each, run in zip(times, runs, strict=True)]
    dt = float(np.median(steps))
    ndim = sum(n > 1 for n in first.target.shape)
    spec = SystemSpec(system, ndim, tuple(variables), tuple(choices.parameters), dt)
    return [
        as_field(run, kept, masked, each, choices, spec)
        for run, each in zip(runs, times, strict=True)
    ]


def is_zero(values: np.ndarray) -> bool:
    """Whether there is nothing but zeros."""
    return not np.nan_to_num(values[:]).any()


def is_still(values: np.ndarray) -> bool:
    """Whether all frames [T ...] are the same."""
    return all(np.array_equal(frame, values[0], equal_nan=True) for frame in values[1:])


def as_field(
    run: Resampled,
    kept: Sequence[int],
    masked: bool,
    times: torch.Tensor,
    choices: Choices,
    spec: SystemSpec,
) -> Field:
    """One run as a field; at masked points it holds zeros."""
    first, target = run.frames[0], run.target
    active = [axis for axis, n in enumerate(target.shape) if n > 1]
    axes = tuple(first.axes[axis] for axis in active)
    points = [target.points[axis] for axis in active]
    grid = make_grid(axes, points, [len(each) for each in points], shown(first.path))
    told = sides_on(first, target, choices.sides)
    if first.sides is None and choices.sides is None:
        log.warning(f"{run.name}: the files do not tell the sides; taken as open. See --sides.")
    values = run.keep(kept, masked)
    return Field(
        torch.from_numpy(values.reshape(*values.shape[:2], *grid.shape)),
        times,
        grid,
        sides_of([told[axis] for axis in active]),
        {name: setting(first, name) for name in choices.parameters},
        spec,
    )


def setting(frame: Frame, name: str) -> float:
    """A number of a run by its name. Raises DataError where the file does not tell it."""
    if name not in frame.settings:
        known = nearest(name, frame.settings) if frame.settings else "It tells none."
        raise DataError(f"{shown(frame.path)} tells no parameter {name!r}. {known}")
    return frame.settings[name]
