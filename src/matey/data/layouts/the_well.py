"""Reads the Well's HDF5 files, and those that `matey.data.write` makes in the same layout.

The Well stores (sample, time, x, y[, z]) and components last; fields here are (T C Z Y X), so
its first axis becomes X whatever its name. Files of ours say in further attributes what the
layout cannot: units, aliases, exact grid and dt.

Source: https://polymathic-ai.org/the_well/data_format
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml
from torch import Tensor

from matey.config import SourceConfig
from matey.data.formats import files, hdf5
from matey.data.formats.container import Container, root
from matey.data.formats.encoding import texts
from matey.data.formats.files import log, shown
from matey.data.layouts import base
from matey.data.layouts.base import SPLITS, Contents, Stored, Trajectory
from matey.errors import DataError, ShapeError
from matey.fields import Boundary, Grid, Sides, Variable
from matey.output import plain_yaml

MAX_STATS = 2**20  # bytes of stats.yaml
STEMS = {"magnetic_field": "magnetic"}  # the Well's names that have another canonical one
# Scalars and tensors of the published sets that are true ones, beside canonical names.
TRUE = {
    0: "a b buoyancy c_zz electron_fraction energy entropy internal_energy mask pressure_im "
    "pressure_re speed_of_sound",
    1: "",
    2: "c d e",
}
COLUMNS = ("canonical_names", "units", "aliases", "axes")  # of variables, in files of ours
PSEUDO: dict[bool | None, str] = {None: "", False: "false", True: "true"}  # in files of ours


@dataclass(frozen=True)
class Dimensions:
    """Axes of a file: names in its order (x first), points, times of each trajectory."""

    names: tuple[str, ...]
    grid: Grid
    times: tuple[Tensor, ...]

    @property
    def sizes(self) -> dict[str, int]:
        """Points by axis letter, as in `Stored.axes`."""
        z, y, x = self.grid.shape
        return {"n": len(self.times), "t": len(self.times[0]), "z": z, "y": y, "x": x}


class TheWell:
    """A file of the Well. It keeps the split of its folder."""

    name = "the_well"
    formats = ("hdf5",)
    expected = "the Well: dimensions, and t0_fields, t1_fields or t2_fields"

    def describe(self, file: Container, options: SourceConfig | None) -> Contents | None:
        path, content = file.path, root(file)
        names = list(content)
        groups = [f"t{order}_fields" for order in range(3) if f"t{order}_fields" in names]
        if "dimensions" not in names or not groups:
            return None
        dimensions = read_dimensions(content, path)
        arrays: list[Stored] = []
        for group in groups:
            arrays += read_group(content, path, group, int(group[1]), dimensions)
        sides, masks = read_boundaries(content, path, dimensions)
        arrays += masks
        parameters = read_parameters(content, path, len(dimensions.times))
        variables = [variable for stored in arrays for variable in stored.variables]
        order = texts(content.attrs.get("variable_order", []))
        variables.sort(key=lambda v: order.index(v.name) if v.name in order else len(order))
        split = path.parent.name if path.parent.name in SPLITS else None
        prefix = f"{split}/{path.name}" if split else path.name
        trajectories = [
            Trajectory(f"{prefix}#{n:04d}", times, dimensions.grid, sides, values, split)
            for n, (times, values) in enumerate(zip(dimensions.times, parameters, strict=True))
        ]
        name = texts(content.attrs.get("system", content.attrs.get("dataset_name", path.stem)))[0]
        spec = base.make_spec(name, variables, trajectories, path, options)
        if "dt" in content.attrs:  # exact, in files of ours
            spec = replace(spec, dt=base.number(content.attrs["dt"]))
        return Contents(spec, trajectories, arrays)


def attribute(owner: Any, name: str, path: Path) -> Any:
    """A required attribute. Raises DataError that names it."""
    if name not in owner.attrs:
        raise DataError(
            f"{shown(path)}: {owner.name} lacks attribute {name}, which the Well's layout "
            f"requires. Found: {', '.join(owner.attrs) or 'none'}."
        )
    return owner.attrs[name]


def read_dimensions(file: h5py.File, path: Path) -> Dimensions:
    """Grid and times."""
    group = hdf5.member(file, "dimensions")
    names = tuple(texts(attribute(group, "spatial_dims", path)))
    if not 1 <= len(names) <= 3:
        raise ShapeError(f"{shown(path)}: spatial_dims are {names}, expected 1 to 3 of them.")
    points = []
    for name in reversed(names):
        stored = files.read_coordinate(hdf5.member(group, name), path, f"dimensions/{name}")
        rows = stored.reshape(-1, stored.shape[-1]) if stored.ndim else stored[None, None]
        if (rows != rows[0]).any():
            log.warning(
                f"{shown(path)}: dimensions/{name} differs between samples or times; the first "
                "one's positions are used for all."
            )
        points.append(rows[0])
    shape = tuple(len(p) for p in points)
    grid = base.make_grid(tuple(reversed(names)), points, shape, shown(path))
    kind = texts(file.attrs.get("grid_type", "cartesian"))[0]
    if kind != "cartesian":
        log.info(
            f"{shown(path)}: grid_type is {kind}: its coordinates are taken as they are, and means "
            "and errors are over them, not over volumes of space."
        )
    if {"grid_origin", "grid_spacing"} <= set(file.attrs):  # exact, in files of ours
        origin, spacing = (triple(file, name, path) for name in ("grid_origin", "grid_spacing"))
        grid = replace(grid, origin=origin, spacing=spacing)
    count = int(base.number(attribute(file, "n_trajectories", path)))
    if not 0 < count <= files.MAX_COORDINATE:
        raise DataError(f"{shown(path)}: n_trajectories is {count}, expected 1 or more.")
    time = files.read_coordinate(hdf5.member(group, "time"), path, "dimensions/time")
    if time.ndim == 2 and len(time) == count:
        times = tuple(base.make_times(t, time.shape[1], path, "dimensions/time") for t in time)
    else:
        times = (base.make_times(time, time.shape[-1], path, "dimensions/time"),) * count
    return Dimensions(names, grid, times)


def triple(file: h5py.File, name: str, path: Path) -> tuple[float, float, float]:
    """An attribute of three numbers for Z, Y, X."""
    value = np.asarray(file.attrs[name])
    if value.shape != (3,) or value.dtype.kind not in "fiu":
        raise DataError(f"{shown(path)}: attribute {name} is {value!r}, expected three numbers.")
    return base.zyx(value.astype(float).tolist())


def read_group(
    file: h5py.File, path: Path, group: str, order: int, dimensions: Dimensions
) -> list[Stored]:
    """The arrays of t0_fields (order 0), t1_fields (vectors) or t2_fields (tensors)."""
    owner = hdf5.member(file, group)
    listed = texts(owner.attrs.get("field_names", list(owner)))
    extra = sorted(set(owner) - set(listed))
    if extra:
        log.warning(f"{shown(path)}: {group}: {', '.join(extra)} not in field_names; ignored.")
    arrays = []
    for name in listed:
        dataset = hdf5.member(owner, name)
        axes = stored_axes(dataset, path, order, dimensions)
        variables = read_variables(dataset, name, axes, order, dimensions)
        arrays.append(Stored(f"{group}/{name}", axes, variables))
    return arrays


def stored_axes(dataset: h5py.Dataset, path: Path, order: int, dimensions: Dimensions) -> str:
    """A letter per axis of the dataset, as in `Stored`. Axes that do not vary are absent, or
    have one point. Raises ShapeError where the shape fits neither."""
    spatial = "xyz"[: len(dimensions.names)]
    along = np.atleast_1d(attribute(dataset, "dim_varying", path))
    varies = dict(zip(spatial, along, strict=False))
    varies["n"] = attribute(dataset, "sample_varying", path)
    varies["t"] = attribute(dataset, "time_varying", path)
    every = "nt" + spatial
    kept = "".join(axis for axis in every if varies.get(axis, True))
    sizes = {axis: size if varies.get(axis, True) else 1 for axis, size in dimensions.sizes.items()}
    components = "cd"[:order]
    for axes in (kept, every):
        expected = tuple(sizes[axis] for axis in axes)
        if dataset.shape[: len(axes)] == expected and dataset.ndim == len(axes) + order:
            fixed = {a: "_" for a in "nt" if not varies[a]}
            return "".join(fixed.get(axis, axis) for axis in axes) + components
    raise ShapeError(
        f"{shown(path)}: {dataset.name} has shape {dataset.shape}, expected "
        f"{tuple(sizes[axis] for axis in kept)} as [{', '.join(kept)}] and {order} axes of "
        f"components. Are the axes swapped? x, y, z stand for {', '.join(dimensions.names)}."
    )


def read_variables(
    dataset: h5py.Dataset, name: str, axes: str, order: int, dimensions: Dimensions
) -> tuple[Variable, ...]:
    """The variables that a dataset holds, one per component."""
    static = "t" not in axes
    sizes = dataset.shape[dataset.ndim - order :]
    written = dataset.attrs
    if "canonical_names" in written:  # a file of ours
        names, *columns = (texts(written[k]) for k in COLUMNS)
        mirrored = texts(written.get("pseudo", [""] * len(names)))
        said, mask = {text: pseudo for pseudo, text in PSEUDO.items()}, bool(written.get("mask"))
        return tuple(
            Variable(each, units, tuple(along.split()), static, alias, said.get(pseudo), mask)
            for each, units, alias, along, pseudo in zip(names, *columns, mirrored, strict=True)
        )
    if any(size > 3 for size in sizes):
        raise ShapeError(f"{dataset.name} has shape {dataset.shape}, expected up to 3 components.")
    stem = canonical(name)
    variables = []
    for place in product(*(range(size) for size in sizes)):
        along = tuple("xyz"[i] for i in place)
        letters = [dimensions.names[i] if i < len(dimensions.names) else "xyz"[i] for i in place]
        canonical_name = "_".join([stem, "".join(along)]) if along else stem
        alias = "_".join([name, "".join(letters)]) if along else name
        pseudo = False if stem in TRUE[order].split() else None
        variables.append(Variable(canonical_name, "", along, static, alias, pseudo))
    return tuple(variables)


def canonical(name: str) -> str:
    """A name of the Well as a variable's: letters, digits and underscores."""
    stem = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return STEMS.get(stem, stem if stem[:1].isalpha() else f"field_{stem}")


def read_boundaries(
    file: h5py.File, path: Path, dimensions: Dimensions
) -> tuple[tuple[Sides, Sides, Sides], list[Stored]]:
    """What happens at each side, and the masks of conditions inside the domain.

    A mask along one axis says which of its end points a condition holds at. A mask over all
    axes is an obstacle, say: a static variable. A side that no condition names is open.
    """
    ndim = len(dimensions.names)
    sides = {axis: [Boundary.OPEN, Boundary.OPEN] for axis in dimensions.names}
    masks: list[Stored] = []
    there = "boundary_conditions" in list(file)
    group = hdf5.member(file, "boundary_conditions") if there else {}
    for name in group:
        condition = hdf5.member(group, name)
        kind = texts(attribute(condition, "bc_type", path))[0].upper()
        if kind not in Boundary.__members__:
            raise DataError(
                f"{shown(path)}: {condition.name} has bc_type {kind}, expected "
                f"{', '.join(Boundary.__members__)}."
            )
        along = texts(attribute(condition, "associated_dims", path))
        dataset = hdf5.member(condition, "mask")
        axes = ["xyz"[dimensions.names.index(a)] for a in along if a in dimensions.names]
        sizes = tuple(dimensions.sizes[axis] for axis in axes)
        if ndim > 1 and len(axes) == ndim and dataset.shape == sizes:
            variable = Variable(f"{canonical(name)}_mask", static=True, alias=name, pseudo=False)
            masks.append(Stored(f"boundary_conditions/{name}/mask", "".join(axes), (variable,)))
            continue
        associated = texts(condition.attrs.get("associated_fields", ()))
        if associated:
            log.info(
                f"{shown(path)}: boundary condition {name} is kept for all variables, and not for "
                f"{', '.join(associated)} alone."
            )
        if len(axes) != 1 or dataset.shape != sizes:
            log.warning(f"{shown(path)}: boundary condition {name} is on no side; ignored.")
            continue
        mask = files.read_coordinate(dataset, path, f"{name}/mask")
        if mask[1:-1].any():
            log.info(
                f"{shown(path)}: boundary condition {name} is kept only at the ends of its axis."
            )
        falls = along[0] in dimensions.grid.falling  # masks are in the order of the file
        for side, end in enumerate((-1, 0) if falls else (0, -1)):
            if mask[end]:
                sides[along[0]][side] = Boundary[kind]
    active = [(sides[axis][0], sides[axis][1]) for axis in reversed(dimensions.names)]
    return base.sides_of(active), masks


def stated_statistics(file: Path, arrays: Sequence[Stored]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation by variable, as `stats.yaml` beside a file of the Well says.

    Empty where there is no such file, or it does not fit the variables.
    """
    path = file.parents[min(2, len(file.parents) - 1)] / "stats.yaml"
    if not path.is_file() or files.stamp(path)[0] > MAX_STATS:
        return {}
    try:
        written = plain_yaml(path.read_text(encoding="utf-8"))
        columns = [written["mean"], written["std"]]
        stated: dict[str, tuple[float, float]] = {}
        for stored in arrays:
            field = stored.name.split("/")[-1]
            if all(field in column for column in columns):
                values = [np.asarray(c[field], np.float64).reshape(-1).tolist() for c in columns]
                names = [variable.name for variable in stored.variables]
                stated |= dict(zip(names, zip(*values, strict=True), strict=True))
    except (OSError, yaml.YAMLError, ValueError, TypeError, KeyError, RecursionError) as error:
        log.warning(f"{shown(path)} is not read: {' '.join(str(error).split())}.")
        return {}
    return stated


def read_parameters(file: h5py.File, path: Path, count: int) -> list[dict[str, float]]:
    """`simulation_parameters` per trajectory, from the scalars, else the root's attributes."""
    scalars = hdf5.member(file, "scalars") if "scalars" in list(file) else {}
    columns: dict[str, np.ndarray] = {}
    listed = texts(file.attrs.get("simulation_parameters", []))
    extra = sorted(set(scalars) - set(listed))
    if extra:
        log.info(
            f"{shown(path)}: scalars {', '.join(extra)} are no simulation_parameters; left out."
        )
    for name in listed:
        value: Any = file.attrs.get(name)
        if name in list(scalars):
            stored = hdf5.member(scalars, name)
            if not stored.attrs.get("time_varying", False):
                value = files.read_coordinate(stored, path, f"scalars/{name}")
        numbers = np.atleast_1d(np.asarray([] if value is None else value))
        if numbers.dtype.kind not in "fiub" or numbers.size not in (1, count):
            log.warning(f"{shown(path)}: parameter {name} is not a constant number; ignored.")
            continue
        if not np.isfinite(numbers).all():
            raise DataError(f"{shown(path)}: parameter {name} is {value}, expected a number.")
        columns[name] = np.broadcast_to(numbers.astype(np.float64).reshape(-1), (count,))
    return [{name: float(c[n]) for name, c in columns.items()} for n in range(count)]
