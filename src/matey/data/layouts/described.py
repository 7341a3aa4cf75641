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
from matey.data.formats import files, times
from matey.data.formats.container import Container
from matey.data.formats.encoding import text
from matey.data.formats.files import log, shown
from matey.data.layouts import base, draft
from matey.data.layouts.base import SPLITS, Contents, Staggered, Stored, Trajectory
from matey.data.layouts.conventions import axis_of
from matey.data.layouts.positions import read_positions
from matey.data.layouts.prediction import labels_of
from matey.errors import DataError, ShapeError
from matey.fields import Boundary, Variable

# What folders of a split are called elsewhere.
CALLED = {"training": "train", "val": "valid", "validation": "valid", "dev": "valid"}
CALLED["testing"] = "test"
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
            contents = read_described(file, options.layout, options)
            return replace(contents, doubts=options.layout.doubts)
        drafted = draft.draft(file)
        if drafted is None:
            return None
        for assumption in drafted.assumptions:
            log.warning(f"{shown(file.path)}: {assumption}.")
        layout = drafted.layout
        contents = read_described(file, layout, options)
        return replace(
            contents, described=layout, assumptions=drafted.assumptions, doubts=layout.doubts
        )


def read_described(file: Container, layout: LayoutConfig, options: SourceConfig | None) -> Contents:
    """The contents of a file as a description says."""
    path, names = file.path, file.names()
    starred = [a.array.removeprefix("*/") for a in layout.arrays if a.array.startswith("*/")]
    keys = groups_with(names, starred[0]) if starred else []
    if starred and not keys:
        raise DataError(
            f"{shown(path)}: no group holds {starred[0]}. Found: {', '.join(names) or 'nothing'}."
        )
    letters = spatial_axes(layout, path)
    arrays = [store(array, layout, letters, bool(keys)) for array in layout.arrays]
    trajectories: list[Trajectory] = []
    for key in keys or [""]:
        here = [replace(a, name=a.name.format(key=key)) if keys else a for a in arrays]
        base.required(path, names, [a.name for a in here])
        trajectories += read_trajectories(file, layout, letters, here, key)
    written = text(file.attributes().get("system", ""))
    name = written or name_of_folder(path.parent) or path.stem
    contents = base.make_contents(file, name, arrays, trajectories, options, keys)
    labels = None if keys else labels_of(file, layout, arrays, letters)
    return replace(contents, named=bool(written), labels=labels)


def groups_with(names: Sequence[str], array: str) -> list[str]:
    """The groups at the top of a file that hold an array, in order of their names."""
    groups = dict.fromkeys(name.split("/")[0] for name in names if "/" in name)
    return sorted(group for group in groups if f"{group}/{array}" in names)


def spatial_axes(layout: LayoutConfig, path: Path) -> dict[str, str]:
    """The axes of space that the description names, slowest first, with their letters here."""
    used = {axis for array in layout.arrays for axis in array.axes or layout.axes}
    axes = [axis for axis in "zyx" if axis in used]
    if not axes:
        raise DataError(
            f"{shown(path)}: its description has no axis z, y or x. Name one in layout.axes."
        )
    return dict(zip(axes, "zyx"[3 - len(axes) :], strict=True))


def store(array: ArrayConfig, layout: LayoutConfig, letters: dict[str, str], keyed: bool) -> Stored:
    """An array as the reader takes it."""
    roles, count, name = array.axes or layout.axes, len(array.variables), array.array
    if keyed:
        name = name.replace("{", "{{").replace("}", "}}")
        name = "{key}/" + name.removeprefix("*/") if name.startswith("*/") else name
    units = array.units * count if len(array.units) == 1 else array.units or ("",) * count
    pseudo = array.pseudo if isinstance(array.pseudo, tuple) else (array.pseudo,) * count
    static, last = array.static or "time" not in roles, array.array.split("/")[-1]
    aliases = [last] if count == 1 else [f"{last}_{i}" for i in range(count)]
    variables = tuple(
        Variable(variable, unit, tensor_axes(variable), static, alias, mirrored)
        for variable, unit, alias, mirrored in zip(
            array.variables, units, aliases, pseudo, strict=True
        )
    )
    axes = "".join({**LETTERS, **letters}[role] for role in roles)
    if axes.count("c") == 2:
        axes = axes[::-1].replace("c", "d", 1)[::-1]
    staggered = tuple(
        Staggered(letters[axis], position, layout.boundaries.get(axis) == "periodic")
        for axis, position in array.staggered.items()
    )
    return Stored(name, axes, variables, staggered=staggered)


def tensor_axes(name: str) -> tuple[str, ...]:
    """Which component a variable is, by the end of its name: `velocity_x`, `stress_xy`."""
    ending = name.rpartition("_")[2] if "_" in name else ""
    return tuple(ending) if ending and len(ending) <= 2 and set(ending) <= set("xyz") else ()


def read_trajectories(
    file: Container,
    layout: LayoutConfig,
    letters: dict[str, str],
    arrays: Sequence[Stored],
    key: str,
) -> list[Trajectory]:
    """The trajectories of one group, or of a file without groups."""
    path, sizes = file.path, base.same_sizes(file, arrays)
    if "t" not in sizes:
        raise DataError(f"{shown(path)}: its description has no axis time. Name it in layout.axes.")
    if key and "n" in sizes:
        raise DataError(
            f"{shown(path)}: {arrays[0].name} has {sizes['n']} samples, and is one of several "
            "groups of the file: trajectories are either samples or groups. Write a file for each "
            "group, in folders as train, valid and test; for an axis of one entry say `single`."
        )
    shape = [sizes[letter] for letter in letters.values()]
    points = [
        positions(file, inside(layout.coordinates[axis], key), arrays, axis, letter)
        if axis in layout.coordinates
        else np.arange(sizes[letter], dtype=np.float64)
        for axis, letter in letters.items()
    ]
    place = f"{shown(path)}: {arrays[0].name} of {sizes}"
    grid = base.make_grid(tuple(letters), points, shape, place)
    count = sizes.get("n", 1)
    moments = read_times(file, layout, sizes["t"], count, key)
    values = [read_parameter(file, name, count, key) for name in layout.parameters.values()]
    sides = [layout.boundaries.get(axis, "open").upper().split() for axis in letters]
    boundaries = base.sides_of([(Boundary[words[0]], Boundary[words[-1]]) for words in sides])
    trajectories = []
    for n in range(count):
        name = f"{path.name}#{key}" if key else f"{path.name}#{n:04d}"
        parameters = {p: float(v[n]) for p, v in zip(layout.parameters, values, strict=True)}
        split = split_of(name, path, layout, key)
        trajectories.append(Trajectory(name, moments[n], grid, boundaries, parameters, split))
    return trajectories


def positions(
    file: Container, name: str, arrays: Sequence[Stored], axis: str, letter: str
) -> np.ndarray:
    """Positions along an axis, from its coordinate.

    Raises ShapeError where an array names that axis after another coordinate.
    """
    base.required(file.path, file.names(), [name])
    points, dimensions = read_positions(file, name), file.dims(name)
    if points.ndim == 2 and 1 in points.shape:  # a vector of MATLAB
        points = points.reshape(-1)
    for stored in arrays:
        dims = file.dims(stored.name)
        if len(dimensions) == 1 and len(dims) == len(stored.axes) and letter in stored.axes:
            named = dims[stored.axes.index(letter)]
            if not same_dimension(named, dimensions[0]):
                raise ShapeError(
                    f"{shown(file.path)}: axis {stored.axes.index(letter)} of {stored.name} is "
                    f"{named} in the file, but {axis} with the coordinate {name} in its "
                    "description. Are the axes swapped?"
                )
    return points


def same_dimension(first: str, second: str) -> bool:
    """Whether two names may be those of one dimension: `x` and its scale, or an axis on faces."""
    axis = axis_of(first)
    return not first or first == second or (axis is not None and axis == axis_of(second))


def inside(name: str, key: str) -> str:
    """An array's name in one trajectory's group."""
    return f"{key}/{name.removeprefix('*/')}" if name.startswith("*/") else name


def read_coordinate(file: Container, name: str) -> np.ndarray:
    """A short array that the description names. Raises DataError where it is missing."""
    base.required(file.path, file.names(), [name])
    return files.read_coordinate(file.array(name), file.path, name)


def read_times(
    file: Container, layout: LayoutConfig, steps: int, count: int, key: str
) -> list[Tensor]:
    """Times of each trajectory [T], from an array of [t] or [sample, t], or multiples of dt."""
    if not layout.time:
        return [torch.arange(steps, dtype=torch.float64) * layout.dt] * count
    name = inside(layout.time, key)
    base.required(file.path, file.names(), [name])
    stored = times.read(file, name)
    if stored.ndim == 2 and len(stored) == count and stored.shape[1] in (steps, steps + 1):
        return [base.make_times(each, steps, file.path, name) for each in stored]
    if stored.ndim == 2 and 1 in stored.shape:  # a vector of MATLAB
        stored = stored.reshape(-1)
    return [base.make_times(stored, steps, file.path, name)] * count


def read_parameter(file: Container, value: float | str, count: int, key: str) -> np.ndarray:
    """A parameter per trajectory [n]: a number, an attribute of group or file, or an array."""
    if not isinstance(value, str):
        return np.full(count, base.number(value))
    attributes = {**file.attributes(), **(file.attributes(key) if key else {})}
    if inside(value, key) in file.names():
        stored = read_coordinate(file, inside(value, key)).reshape(-1)
    elif value in attributes:
        stored = np.asarray(attributes[value]).reshape(-1)
    else:
        raise DataError(
            f"{shown(file.path)}: parameter {value} is neither an attribute "
            f"({', '.join(attributes) or 'none'}) nor an array ({', '.join(file.names())})."
        )
    if stored.size not in (1, count):
        raise ShapeError(
            f"{shown(file.path)}: parameter {value} has {stored.size} values, expected 1 or "
            f"{count}."
        )
    return np.array([base.number(v) for v in np.broadcast_to(stored, (count,))])


def split_of(name: str, path: Path, layout: LayoutConfig, key: str = "") -> str | None:
    """The split of a trajectory: as the description says, else as its group or its folder does."""
    for split, patterns in layout.split.items():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            return split
    if layout.split:
        return "train"
    called = {split: split for split in SPLITS} | CALLED
    return called.get(key.lower()) or called.get(path.parent.name.lower())


def name_of_folder(folder: Path) -> str:
    """A system's name after a folder: the files of one folder are of one system."""
    parts = [part for part in folder.parts[1:] if part not in (*SPLITS, *CALLED, "data")]
    return parts[-1] if parts else ""
