"""Writes fields: trajectories in the Well's HDF5 layout, predictions as NetCDF.

A file appears under its name only when it is complete and on disk. The Well stores
(sample, time, x, y[, z]) and components last; further attributes keep what that layout
cannot say, so that reading gives back the same fields.

Source: https://polymathic-ai.org/the_well/data_format
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from matey.errors import DataError, ShapeError
from matey.fields import Boundary, Field, Variable
from matey.output import replacing

FRAMES = {"compression": "gzip", "compression_opts": 1, "shuffle": True}


@dataclass(frozen=True)
class Group:
    """Variables that are one dataset of the Well: a scalar, or all components of a tensor.

    `channels` are their indices in the system's variables, in the order of the components.
    """

    name: str
    order: int
    channels: tuple[int, ...]


def write_well(
    fields: Sequence[Field], folder: Path, *, name: str, split: str | None = None
) -> Path:
    """Write trajectories of one grid as `folder/data/<split>/<name>.hdf5`; that path.

    Without a split the folder is `all`, and readers divide the trajectories themselves.
    Each field is taken once, in order, so a lazy sequence never lies in memory as a whole.
    Raises DataError if there is none or their systems differ, ShapeError if grids do.
    """
    if not fields:
        raise DataError(f"No fields to write as {name!r}.")
    if Path(name).name != name or name in ("", ".", "..") or "\0" in name:
        raise DataError(f"File name {name!r} is not a plain name, expected one without folders.")
    if split not in (None, "train", "valid", "test"):
        raise DataError(f"Split {split!r} is unknown, expected train, valid or test.")
    path = Path(folder) / "data" / (split or "all") / f"{name}.hdf5"
    first = fields[0]
    groups = group_variables(first.spec.variables, first.spec.ndim)
    times = np.empty((len(fields), len(first)))
    parameters = {key: np.empty(len(fields)) for key in first.spec.parameters}
    with replacing(path) as temporary, h5py.File(os.fsencode(temporary), "x") as file:
        datasets = [create(file, group, first, len(fields)) for group in groups]
        for n, field in enumerate(fields):
            check_alike(field, first, n)
            times[n] = field.times.numpy()
            for key in parameters:
                parameters[key][n] = field.parameters[key]
            for group, dataset in zip(groups, datasets, strict=True):
                dataset[n] = arrange(field, group)
        write_root(file, first, len(fields))
        write_dimensions(file, first, times)
        write_parameters(file, parameters)
        write_boundaries(file, first)
    return path


def check_alike(field: Field, first: Field, number: int) -> None:
    """Raise an error unless the field fits in one file with the first."""
    if field.spec != first.spec:
        raise DataError(f"Field {number} is of system {field.spec}, the first of {first.spec}.")
    if (field.grid, field.boundaries, len(field)) != (first.grid, first.boundaries, len(first)):
        raise ShapeError(
            f"Field {number} has {len(field)} frames, {field.grid} and {field.boundaries}; the "
            f"first has {len(first)}, {first.grid} and {first.boundaries}. Write them to "
            "separate files."
        )


def group_variables(variables: Sequence[Variable], ndim: int) -> list[Group]:
    """Which variables are components of one vector or tensor: same stem, all components."""
    places = {variable.name: i for i, variable in enumerate(variables)}
    groups: list[Group] = []
    taken: set[str] = set()
    for variable in variables:
        if variable.name in taken:
            continue
        order, ending = len(variable.axes), "_" + "".join(variable.axes)
        stem = variable.name.removesuffix(ending)
        members = [
            variables[places[name]]
            for along in product("xyz"[:ndim], repeat=order)
            if (name := f"{stem}_{''.join(along)}") in places
            and variables[places[name]].axes == along
            and variables[places[name]].static == variable.static
        ]
        if order in (1, 2) and variable in members and len(members) == ndim**order:
            taken.update(member.name for member in members)
            groups.append(Group(stem, order, tuple(places[m.name] for m in members)))
        else:
            groups.append(Group(variable.name, 0, (places[variable.name],)))
    return groups


def create(file: h5py.File, group: Group, field: Field, count: int) -> h5py.Dataset:
    """An empty dataset for one group of variables, a frame per chunk."""
    variables = [field.spec.variables[i] for i in group.channels]
    static, ndim = variables[0].static, field.grid.ndim
    frame = (*reversed(field.grid.shape[3 - ndim :]), *[ndim] * group.order)
    shape = (count, *([] if static else [len(field)]), *frame)
    chunks = (1,) * (len(shape) - len(frame)) + frame
    owner = file.require_group(f"t{group.order}_fields")
    dataset = owner.create_dataset(group.name, shape, np.float32, chunks=chunks, **FRAMES)
    dataset.attrs["dim_varying"] = np.ones(ndim, bool)
    dataset.attrs["sample_varying"] = True
    dataset.attrs["time_varying"] = not static
    set_texts(dataset, "canonical_names", [variable.name for variable in variables])
    set_texts(dataset, "units", [variable.units for variable in variables])
    set_texts(dataset, "aliases", [variable.alias for variable in variables])
    set_texts(dataset, "axes", [" ".join(variable.axes) for variable in variables])
    return dataset


def arrange(field: Field, group: Group) -> np.ndarray:
    """One group's values in the Well's order: [T] x y z, components last.

    Raises DataError if a static variable varies in time.
    """
    ndim = field.grid.ndim
    values = field.values[:, list(group.channels)].cpu()
    values = values.reshape(*values.shape[:2], *field.grid.shape[3 - ndim :])
    variable = field.spec.variables[group.channels[0]]
    if variable.static:
        if not torch.equal(values, values[:1].expand_as(values)):
            raise DataError(f"Variable {variable.name} is static, but varies in time.")
        values = values[:1]
    order = (0, *range(ndim + 1, 1, -1), 1)
    array = values.permute(order).numpy()
    array = array.reshape(*array.shape[:-1], *[ndim] * group.order)
    return array[0] if variable.static else array


def set_texts(owner: Any, name: str, texts: Sequence[str]) -> None:
    """A list of strings as an attribute, possibly empty."""
    owner.attrs.create(name, np.array(list(texts), dtype=object), dtype=h5py.string_dtype())


def write_root(file: h5py.File, field: Field, count: int) -> None:
    """Root attributes: those of the Well, then our own."""
    for order in range(3):
        owner = file.require_group(f"t{order}_fields")
        set_texts(owner, "field_names", list(owner))
    file.attrs["dataset_name"] = field.spec.name
    file.attrs["grid_type"] = "cartesian"
    file.attrs["n_spatial_dims"] = field.grid.ndim
    file.attrs["n_trajectories"] = count
    file.attrs["dt"] = field.spec.dt
    file.attrs["grid_origin"] = field.grid.origin
    file.attrs["grid_spacing"] = field.grid.spacing
    set_texts(file, "variable_order", [variable.name for variable in field.spec.variables])


def write_dimensions(file: h5py.File, field: Field, times: np.ndarray) -> None:
    """Coordinates; times once if all samples share them."""
    group = file.create_group("dimensions")
    names = list(reversed(field.grid.axes))
    set_texts(group, "spatial_dims", names)
    for i, name in enumerate(names):
        dataset = group.create_dataset(name, data=field.grid.coordinate(2 - i).numpy())
        dataset.attrs["sample_varying"] = dataset.attrs["time_varying"] = False
    shared = bool((times == times[0]).all())
    dataset = group.create_dataset("time", data=times[0] if shared else times)
    dataset.attrs["sample_varying"], dataset.attrs["time_varying"] = not shared, True


def write_parameters(file: h5py.File, parameters: Mapping[str, np.ndarray]) -> None:
    """Parameters as scalars and root attributes: one number, or one per sample."""
    set_texts(file, "simulation_parameters", list(parameters))
    group = file.create_group("scalars")
    set_texts(group, "field_names", list(parameters))
    for name, values in parameters.items():
        shared = bool((values == values[0]).all())
        dataset = group.create_dataset(name, data=values[0] if shared else values)
        dataset.attrs["sample_varying"], dataset.attrs["time_varying"] = not shared, False
        if name not in file.attrs:
            file.attrs[name] = values[0] if shared else values


def write_boundaries(file: h5py.File, field: Field) -> None:
    """A condition per axis and type, with the end points it holds at."""
    group = file.create_group("boundary_conditions")
    ndim = field.grid.ndim
    for axis, name in zip(range(3 - ndim, 3), field.grid.axes, strict=True):
        sides = field.boundaries[axis]
        if field.grid.shape[axis] == 1 and sides[0] != sides[1]:
            raise ShapeError(f"Axis {name} of one point has two boundaries, {sides}.")
        for boundary in sorted(set(sides)):
            kind = Boundary(boundary).name
            condition = group.create_group(f"{name}_{kind.lower()}")
            condition.attrs["bc_type"] = kind
            set_texts(condition, "associated_dims", [name])
            set_texts(condition, "associated_fields", [])
            condition.attrs["sample_varying"] = condition.attrs["time_varying"] = False
            mask = np.zeros(field.grid.shape[axis], bool)
            mask[0] |= sides[0] == boundary
            mask[-1] |= sides[1] == boundary
            condition.create_dataset("mask", data=mask)


def write_netcdf(field: Field, path: Path, *, provenance: Mapping[str, str]) -> None:
    """Write one trajectory as NetCDF4: names and units of the file it came from, and
    `provenance` as global attributes."""
    dataset = field.to_xarray()
    for values, variable in zip(dataset.data_vars.values(), field.spec.variables, strict=True):
        values.attrs["static"] = int(variable.static)
    axes = field.grid.axes
    dataset.attrs |= {
        f"boundary_{name}": " ".join(Boundary(side).name for side in sides)
        for name, sides in zip(axes, field.boundaries[3 - len(axes) :], strict=True)
    }
    clash = sorted(set(dataset.attrs) & set(provenance))
    if clash:
        raise DataError(f"Provenance {', '.join(clash)} would replace attributes of the field.")
    dataset.attrs |= provenance
    encoding = {name: {"zlib": True, "complevel": 1} for name in dataset.data_vars}
    with replacing(Path(path)) as temporary:
        dataset.to_netcdf(temporary, engine="netcdf4", format="NETCDF4", encoding=encoding)
