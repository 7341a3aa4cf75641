"""Writes fields: trajectories in the Well's HDF5 layout, predictions as NetCDF or zarr.

A file or folder appears under its name only when it is complete and on disk. The Well stores
(sample, time, x, y[, z]) and components last; further attributes keep what that layout
cannot say, so that reading gives back the same fields.

Source: https://polymathic-ai.org/the_well/data_format
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import matey
from matey.data.formats.append import CHUNK, NetCDF, Sink, Zarr
from matey.data.formats.files import shown
from matey.data.layouts.base import SPLITS, Trajectory
from matey.data.layouts.the_well import COLUMNS, PSEUDO
from matey.data.reader import Reader
from matey.data.trajectories import Fields
from matey.errors import DataError, ShapeError
from matey.fields import Boundary, Ensemble, Field, SystemSpec, Variable
from matey.fields.labels import plain_labels
from matey.output import heeding_terminate, replacing

COMPRESSED = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
VERSION = {"matey_version": matey.__version__}
BLOCK = 2**26  # bytes of values in memory at once


@dataclass(frozen=True)
class Group:
    """Variables that are one dataset of the Well: a scalar, or all components of a tensor.

    `channels` are their indices in the system's variables, in the order of the components.
    """

    name: str
    order: int
    channels: tuple[int, ...]


class InMemory:
    """Fields of one system, read piece by piece. Raises DataError where their systems differ."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self.spec = fields[0].spec
        for number, field in enumerate(fields):
            if field.spec != self.spec:
                raise DataError(
                    f"Field {number} is of system {field.spec}, the first of {self.spec}."
                )
        self.fields = fields
        self.trajectories: Sequence[Trajectory] = [
            Trajectory(f"Field {n}", f.times, f.grid, f.boundaries, f.parameters)
            for n, f in enumerate(fields)
        ]

    def read(self, index: int, frames: slice = slice(None)) -> Field:
        """Some frames of one field."""
        field = self.fields[index]
        return replace(field, values=field.values[frames], times=field.times[frames])


@contextmanager
def making_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, which takes its name when the block ends well.

    Raises DataError if something is there already, or it cannot be written; then nothing is
    left behind.
    """
    folder = Path(os.path.abspath(folder))
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(f"{shown(folder)} is there already. Name a new folder, or remove it first.")
    with heeding_terminate(folder), replacing(folder) as temporary:
        temporary.mkdir()
        yield temporary


def write_well(
    fields: Sequence[Field], folder: str | Path, *, name: str, split: str | None = None
) -> Path:
    """Write trajectories of one grid as `folder/data/<split>/<name>.hdf5`; that path.

    Without a split the folder is `all`, and readers divide the trajectories themselves.
    Raises DataError if there is none or their systems differ, ShapeError if grids do.
    """
    if not fields:
        raise DataError(f"No fields to write as {name!r}.")
    return copy_to_well(InMemory(fields), range(len(fields)), Path(folder), name=name, split=split)


def copy_to_well(
    source: Reader | Fields | InMemory,
    chosen: Sequence[int],
    folder: Path,
    *,
    name: str,
    split: str | None = None,
    compress: bool = True,
    watch: Callable[[int], None] = lambda frames: None,
) -> Path:
    """Write the chosen trajectories of a source like `write_well`, some frames at a time.

    Memory does not grow with their length or number. Compressed files are smaller and take
    several times longer to read. `watch` is told how many frames were written.
    """
    if Path(name).name != name or name in ("", ".", "..") or "\0" in name:
        raise DataError(f"File name {name!r} is not a plain name, expected one without folders.")
    if split not in (None, *SPLITS):
        raise DataError(f"Split {split!r} is unknown, expected {', '.join(SPLITS)}.")
    path = Path(folder) / "data" / (split or "all") / f"{name}.hdf5"
    spec, trajectories = source.spec, [source.trajectories[i] for i in chosen]
    first, steps = trajectories[0], len(trajectories[0].times)
    for trajectory in trajectories:
        if shape_of(trajectory) != shape_of(first):
            raise ShapeError(
                f"{trajectory.name} has {len(trajectory.times)} frames, {trajectory.grid} and "
                f"{trajectory.boundaries}; the first has {steps}, {first.grid} and "
                f"{first.boundaries}. Write them to separate files."
            )
    groups = group_variables(spec.variables, spec.ndim)
    block = max(1, BLOCK // (4 * len(spec.variables) * prod(first.grid.shape)))
    with replacing(path) as temporary, h5py.File(os.fsencode(temporary), "x") as file:
        datasets = [create(file, group, spec, first, len(chosen), compress) for group in groups]
        for n, index in enumerate(chosen):
            for start in range(0, steps, block):
                field = source.read(index, slice(start, start + block))
                for group, dataset in zip(groups, datasets, strict=True):
                    write_frames(dataset, n, start, arrange(field, group), spec, group)
                watch(len(field))
        write_root(file, spec, first, len(chosen))
        write_dimensions(file, first, np.stack([t.times.numpy() for t in trajectories]))
        write_parameters(file, spec.parameters, trajectories)
        write_boundaries(file, first)
    return path


def shape_of(trajectory: Trajectory) -> tuple[Any, ...]:
    """What the trajectories of one file have in common."""
    return trajectory.grid, trajectory.boundaries, len(trajectory.times)


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


def create(
    file: h5py.File, group: Group, spec: SystemSpec, first: Trajectory, count: int, compress: bool
) -> h5py.Dataset:
    """An empty dataset for one group of variables. Uncompressed it is one stretch of the file.
    Compressed, a chunk holds whole frames of one trajectory, so that a window reads a few."""
    variables = [spec.variables[i] for i in group.channels]
    static, ndim, steps = variables[0].static, spec.ndim, len(first.times)
    frame = (*reversed(first.grid.shape[3 - ndim :]), *[ndim] * group.order)
    times = [] if static else [steps]
    together = [min(n, max(1, CHUNK // (4 * prod(frame)))) for n in times]
    chunked: dict[str, Any] = {"chunks": (1, *together, *frame), **COMPRESSED} if compress else {}
    owner = file.require_group(f"t{group.order}_fields")
    dataset = owner.create_dataset(group.name, (count, *times, *frame), np.float32, **chunked)
    dataset.attrs["dim_varying"] = np.ones(ndim, bool)
    set_varying(dataset, sample=True, time=not static)
    columns = [(v.name, v.units, v.alias, " ".join(v.axes), PSEUDO[v.pseudo]) for v in variables]
    for name, texts in zip((*COLUMNS, "pseudo"), zip(*columns, strict=True), strict=True):
        set_texts(dataset, name, texts)
    if any(variable.mask for variable in variables):
        dataset.attrs["mask"] = True
    return dataset


def arrange(field: Field, group: Group) -> np.ndarray:
    """One group's values in the Well's order: T x y z, components last."""
    ndim = field.grid.ndim
    values = field.values[:, list(group.channels)].cpu()
    values = values.reshape(*values.shape[:2], *field.grid.shape[3 - ndim :])
    array = values.permute(0, *range(ndim + 1, 1, -1), 1).numpy()
    return array.reshape(*array.shape[:-1], *[ndim] * group.order)


def write_frames(
    dataset: h5py.Dataset, n: int, start: int, frames: np.ndarray, spec: SystemSpec, group: Group
) -> None:
    """Write frames [T] x y z of trajectory n from `start` on; of a static variable only one.

    Raises DataError if a static variable varies in time.
    """
    variable = spec.variables[group.channels[0]]
    if not variable.static:
        dataset[n, start : start + len(frames)] = frames
        return
    if start == 0:
        dataset[n] = frames[0]
    if not (frames == dataset[n]).all():
        raise DataError(f"Variable {variable.name} is static, but varies in time.")


def set_texts(owner: Any, name: str, texts: Sequence[str]) -> None:
    """A list of strings as an attribute, possibly empty."""
    owner.attrs.create(name, np.array(list(texts), dtype=object), dtype=h5py.string_dtype())


def set_varying(owner: Any, *, sample: bool, time: bool) -> None:
    """Say whether an array of the Well differs between samples and between times."""
    owner.attrs["sample_varying"], owner.attrs["time_varying"] = sample, time


def write_root(file: h5py.File, spec: SystemSpec, first: Trajectory, count: int) -> None:
    """Root attributes: those of the Well, then our own."""
    for order in range(3):
        owner = file.require_group(f"t{order}_fields")
        set_texts(owner, "field_names", list(owner))
    file.attrs["dataset_name"] = spec.name
    file.attrs["grid_type"] = "cartesian"
    file.attrs["n_spatial_dims"] = spec.ndim
    file.attrs["n_trajectories"] = count
    file.attrs["dt"] = spec.dt
    file.attrs["grid_origin"] = first.grid.origin
    file.attrs["grid_spacing"] = first.grid.spacing
    set_texts(file, "variable_order", [variable.name for variable in spec.variables])


def write_dimensions(file: h5py.File, first: Trajectory, times: np.ndarray) -> None:
    """Coordinates; times once if all samples share them."""
    group = file.create_group("dimensions")
    names = list(reversed(first.grid.axes))
    set_texts(group, "spatial_dims", names)
    for i, name in enumerate(names):
        dataset = group.create_dataset(name, data=first.grid.coordinate(2 - i).numpy())
        set_varying(dataset, sample=False, time=False)
    shared = bool((times == times[0]).all())
    dataset = group.create_dataset("time", data=times[0] if shared else times)
    set_varying(dataset, sample=not shared, time=True)


def write_parameters(
    file: h5py.File, names: Sequence[str], trajectories: Sequence[Trajectory]
) -> None:
    """Parameters as scalars and root attributes: one number, or one per sample."""
    set_texts(file, "simulation_parameters", names)
    group = file.create_group("scalars")
    set_texts(group, "field_names", names)
    for name in names:
        values = np.array([trajectory.parameters[name] for trajectory in trajectories])
        shared = bool((values == values[0]).all())
        dataset = group.create_dataset(name, data=values[0] if shared else values)
        set_varying(dataset, sample=not shared, time=False)
        if name not in file.attrs:
            file.attrs[name] = dataset[()]


def write_boundaries(file: h5py.File, first: Trajectory) -> None:
    """A condition per axis and type, with the end points it holds at."""
    group = file.create_group("boundary_conditions")
    ndim = first.grid.ndim
    for axis, name in zip(range(3 - ndim, 3), first.grid.axes, strict=True):
        sides = first.boundaries[axis]
        if first.grid.shape[axis] == 1 and sides[0] != sides[1]:
            raise ShapeError(f"Axis {name} of one point has two boundaries, {sides}.")
        for boundary in sorted(set(sides)):
            kind = Boundary(boundary).name
            condition = group.create_group(f"{name}_{kind.lower()}")
            condition.attrs["bc_type"] = kind
            set_texts(condition, "associated_dims", [name])
            set_texts(condition, "associated_fields", [])
            set_varying(condition, sample=False, time=False)
            mask = np.zeros(first.grid.shape[axis], bool)
            mask[0] |= sides[0] == boundary
            mask[-1] |= sides[1] == boundary
            condition.create_dataset("mask", data=mask)


def write_field(
    field: Field | Ensemble, path: str | Path, *, provenance: Mapping[str, str] | None = None
) -> Path:
    """Write one trajectory, or the members of an ensemble along an axis of their own: as a zarr
    store where the path ends in `.zarr`, else as NetCDF4.

    Arrays have the names and units of the file that the field came from; global attributes tell
    its provenance, what `provenance` adds to that, and the version of matey. `matey.open` reads
    the field back as it is. The path. Raises DataError if it cannot be written, if provenance
    would replace what describes the field, or if zarr is not installed.
    """
    return write_steps([field], path, told=lambda: provenance or {})


def write_steps(
    stretches: Iterable[Field | Ensemble],
    path: str | Path,
    *,
    told: Callable[[], Mapping[str, str]] = dict,
) -> Path:
    """Write a trajectory, or an ensemble, of which each stretch of time is written when it comes,
    as `write_field` writes all of it: memory does not grow with their number. `told` is asked in
    the end for what is added to the provenance of the first."""
    path = Path(path)
    sink: Sink | None = None
    with heeding_terminate(path), replacing(path) as temporary:
        try:
            for stretch in stretches:
                one = stretch[0] if isinstance(stretch, Ensemble) else stretch
                dataset = stretch.to_xarray()
                if sink is None:
                    about = one.provenance
                    own = set(dataset.attrs) - set(one.labels.of("") if one.labels else {})
                    if clash := sorted(own & {*about, *told(), *VERSION}):
                        raise DataError(
                            f"{shown(path)}: {', '.join(clash)} of the field is a name of what is "
                            "noted of it. Rename it, by `parameters` of a data config."
                        )
                    time = (one.labels or plain_labels(one.grid)).dim("time")
                    zarr = path.suffix == ".zarr"
                    sink = Zarr(temporary, time, path) if zarr else NetCDF(temporary, time)
                sink.add(dataset)
                del stretch, one, dataset  # before the next one is made
            if sink is None:
                raise DataError(f"No frame to write as {shown(path)}.")
            sink.close({**about, **told(), **VERSION})
        finally:
            if sink is not None:
                sink.abandon()
    return path
