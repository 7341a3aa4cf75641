"""Reads any NetCDF, HDF5, zarr or NumPy file of a user's own, by a description of it.

The description (`matey.config.LayoutConfig`) says which axis is what, which arrays hold which
variables, units, boundaries, times, parameters and split. Where the config has none, it is
drafted by looking at the file (`matey.data.layouts.draft`), and what was assumed is said.

Axes of the description keep their names; z and x alone are a vertical section, in which z lies
along Y.
"""

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from matey.config import ArrayConfig, LayoutConfig, SourceConfig
from matey.data.formats import files
from matey.data.formats.container import Container
from matey.data.formats.encoding import text
from matey.data.formats.files import log, shown
from matey.data.layouts import draft
from matey.data.layouts.base import (
    SPLITS,
    Contents,
    Stored,
    Trajectory,
    make_grid,
    make_spec,
    make_times,
    number,
    required,
    same_sizes,
)
from matey.errors import DataError, ShapeError
from matey.fields import PERIODIC_SIDES, Boundary, Grid, Sides, Variable

LETTERS = {"sample": "n", "time": "t", "component": "c", "single": "_"}


class Described:
    """Arrays in a layout that nobody but the user knows."""

    name = "described"
    formats = ("hdf5", "netcdf3", "npy", "npz", "zarr")
    expected = (
        "arrays of your own with an axis of time and 1 to 3 of space, which a data config describes"
    )

    def describe(self, file: Container, options: SourceConfig | None) -> Contents | None:
        if options is not None and options.layout is not None:
            return read_described(file, options.layout, options)
        drafted = draft.draft(file)
        if drafted is None:
            return None
        for assumption in drafted.assumptions:
            log.warning(f"{shown(file.path)}: {assumption}.")
        contents = read_described(file, drafted.layout, options)
        return replace(contents, described=drafted.layout, assumptions=drafted.assumptions)


def read_described(file: Container, layout: LayoutConfig, options: SourceConfig | None) -> Contents:
    """The contents of a file as a description says."""
    path, names = file.path, file.names()
    starred = [a.array.removeprefix("*/") for a in layout.arrays if a.array.startswith("*/")]
    keys = groups_with(names, starred[0]) if starred else []
    if starred and not keys:
        raise DataError(
            f"{shown(path)}: no group holds {starred[0]}. Found: {', '.join(names) or 'nothing'}."
        )
    axes = spatial_axes(layout, path)
    arrays = [store(array, layout, axes, bool(keys)) for array in layout.arrays]
    trajectories: list[Trajectory] = []
    for key in keys or [""]:
        here = [replace(a, name=a.name.format(key=key)) if keys else a for a in arrays]
        required(path, names, [a.name for a in here])
        trajectories += read_trajectories(file, layout, axes, here, key)
    variables = [variable for stored in arrays for variable in stored.variables]
    spec = make_spec(system_name(file), variables, trajectories, path, options)
    return Contents(spec, trajectories, arrays, keys)


def groups_with(names: Sequence[str], array: str) -> list[str]:
    """The groups at the top of a file that hold an array, in order of their names."""
    groups = dict.fromkeys(name.split("/")[0] for name in names if "/" in name)
    return sorted(group for group in groups if f"{group}/{array}" in names)


def spatial_axes(layout: LayoutConfig, path: Path) -> tuple[str, ...]:
    """The axes of space that the description names, slowest first."""
    used = {axis for array in layout.arrays for axis in array.axes or layout.axes}
    axes = tuple(axis for axis in "zyx" if axis in used)
    if not axes:
        raise DataError(
            f"{shown(path)}: its description has no axis z, y or x. Name one in layout.axes."
        )
    return axes


def store(
    array: ArrayConfig, layout: LayoutConfig, spatial: tuple[str, ...], grouped: bool
) -> Stored:
    """An array as the reader takes it."""
    letters = {**LETTERS, **dict(zip(spatial, "zyx"[3 - len(spatial) :], strict=True))}
    roles = array.axes or layout.axes
    name = array.array
    if grouped:
        name = name.replace("{", "{{").replace("}", "}}")
        name = "{key}/" + name.removeprefix("*/") if name.startswith("*/") else name
    units = array.units * len(array.variables) if len(array.units) == 1 else array.units
    units = units or ("",) * len(array.variables)
    pseudo = array.pseudo
    pseudo = pseudo if isinstance(pseudo, tuple) else (pseudo,) * len(array.variables)
    one = len(array.variables) == 1
    last = array.array.split("/")[-1]
    variables = tuple(
        Variable(
            variable,
            unit,
            tensor_axes(variable),
            array.static or "time" not in roles,
            last if one else f"{last}_{i}",
            mirrored,
        )
        for i, (variable, unit, mirrored) in enumerate(
            zip(array.variables, units, pseudo, strict=True)
        )
    )
    axes = "".join(letters[role] for role in roles)
    if axes.count("c") == 2:
        axes = axes[::-1].replace("c", "d", 1)[::-1]
    return Stored(name, axes, variables)


def tensor_axes(name: str) -> tuple[str, ...]:
    """Which component a variable is, by the end of its name: `velocity_x`, `stress_xy`."""
    ending = name.rpartition("_")[2] if "_" in name else ""
    return tuple(ending) if ending and len(ending) <= 2 and set(ending) <= set("xyz") else ()


def read_trajectories(
    file: Container,
    layout: LayoutConfig,
    spatial: tuple[str, ...],
    arrays: Sequence[Stored],
    key: str,
) -> list[Trajectory]:
    """The trajectories of one group, or of a file without groups."""
    path, sizes = file.path, same_sizes(file, arrays)
    if "t" not in sizes:
        raise DataError(f"{shown(path)}: its description has no axis time. Name it in layout.axes.")
    if key and "n" in sizes:
        raise DataError(
            f"{shown(path)}: its description has one group per trajectory, and an axis sample as "
            "well. Store trajectories one way: for an axis of one entry say `single`."
        )
    letters = dict(zip(spatial, "zyx"[3 - len(spatial) :], strict=True))
    shape = [sizes[letters[axis]] for axis in spatial]
    points = [
        positions(file, layout, arrays, axis, letters[axis], size, key)
        for axis, size in zip(spatial, shape, strict=True)
    ]
    place = f"{shown(path)}: {arrays[0].name} of {sizes}"
    grid: Grid = make_grid(spatial, points, shape, place)
    count = sizes.get("n", 1)
    times = read_times(file, layout, sizes["t"], count, key)
    values = [read_parameter(file, name, count, key) for name in layout.parameters.values()]
    sides = read_sides(layout, spatial)
    trajectories = []
    for n in range(count):
        name = f"{path.name}#{key}" if key else f"{path.name}#{n:04d}"
        parameters = {p: float(v[n]) for p, v in zip(layout.parameters, values, strict=True)}
        split = split_of(name, path, layout)
        trajectories.append(Trajectory(name, times[n], grid, sides, parameters, split))
    return trajectories


def positions(
    file: Container,
    layout: LayoutConfig,
    arrays: Sequence[Stored],
    axis: str,
    letter: str,
    size: int,
    key: str,
) -> np.ndarray:
    """Positions along an axis: its coordinate, or numbers of grid points.

    Raises ShapeError where an array names that axis after another coordinate.
    """
    written = layout.coordinates.get(axis)
    if written is None:
        return np.arange(size, dtype=np.float64)
    name = inside(written, key)
    required(file.path, file.names(), [name])
    dimensions = file.dims(name)
    for stored in arrays:
        dims = file.dims(stored.name)
        if len(dimensions) == 1 and len(dims) == len(stored.axes) and letter in stored.axes:
            named = dims[stored.axes.index(letter)]
            if named != dimensions[0]:
                raise ShapeError(
                    f"{shown(file.path)}: axis {stored.axes.index(letter)} of {stored.name} is "
                    f"{named} in the file, but {axis} with the coordinate {name} in its "
                    "description. Are the axes swapped?"
                )
    return files.read_coordinate(file.array(name), file.path, name)


def inside(name: str, key: str) -> str:
    """An array's name in one trajectory's group."""
    return f"{key}/{name.removeprefix('*/')}" if name.startswith("*/") else name


def read_times(
    file: Container, layout: LayoutConfig, steps: int, count: int, key: str
) -> list[Tensor]:
    """Times of each trajectory [T], from an array of [t] or [sample, t], or multiples of dt."""
    if not layout.time:
        return [torch.arange(steps, dtype=torch.float64) * layout.dt] * count
    name = inside(layout.time, key)
    required(file.path, file.names(), [name])
    stored = files.read_coordinate(file.array(name), file.path, name)
    if stored.ndim == 2 and len(stored) == count:
        return [make_times(times, steps, file.path, name) for times in stored]
    return [make_times(stored, steps, file.path, name)] * count


def read_parameter(file: Container, value: float | str, count: int, key: str) -> np.ndarray:
    """A parameter per trajectory [n]: a number, an attribute of group or file, or an array."""
    if not isinstance(value, str):
        return np.full(count, number(value))
    name = inside(value, key)
    if name in file.names():
        stored = files.read_coordinate(file.array(name), file.path, name).reshape(-1)
    else:
        attributes = {**file.attributes(), **(file.attributes(key) if key else {})}
        if value not in attributes:
            raise DataError(
                f"{shown(file.path)}: parameter {value} is neither an attribute "
                f"({', '.join(attributes) or 'none'}) nor an array ({', '.join(file.names())})."
            )
        stored = np.atleast_1d(np.asarray(attributes[value])).reshape(-1)
    if stored.size not in (1, count):
        raise ShapeError(
            f"{shown(file.path)}: parameter {value} has {stored.size} values, expected 1 or "
            f"{count}."
        )
    return np.array([number(v) for v in np.broadcast_to(stored, (count,))])


def read_sides(layout: LayoutConfig, spatial: tuple[str, ...]) -> tuple[Sides, Sides, Sides]:
    """The boundaries of Z, Y and X."""
    active = []
    for axis in spatial:
        words = layout.boundaries.get(axis, "open").upper().split()
        active.append((Boundary[words[0]], Boundary[words[-1]]))
    z, y, x = [PERIODIC_SIDES] * (3 - len(spatial)) + active
    return z, y, x


def split_of(name: str, path: Path, layout: LayoutConfig) -> str | None:
    """What a trajectory is for: as the description says, else as its folder does."""
    for split, patterns in layout.split.items():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            return split
    if layout.split:
        return "train"
    return path.parent.name if path.parent.name in SPLITS else None


def system_name(file: Container) -> str:
    """What the file says, else its folder's name: the files of one folder are of one system."""
    written = text(file.attributes().get("system", ""))
    folders = [part for part in file.path.parts[1:-1] if part not in (*SPLITS, "data")]
    return written or (folders[-1] if folders else file.path.stem)
