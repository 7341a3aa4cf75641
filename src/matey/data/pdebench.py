"""Reads PDEBench's HDF5 files: 2D shallow water, diffusion-reaction, incompressible and
compressible flow.

A layout is recognised by what is in the file; the file's name only decides, or gives a
parameter, where the content does not. Values are dimensionless. PDEBench stores x before y
in all but the diffusion-reaction files.

Source: https://doi.org/10.18419/darus-2986 for the files, arXiv:2210.07182 for the systems.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import yaml

from matey.config import SourceConfig
from matey.data import files
from matey.data.files import log, shown
from matey.data.layout import (
    ArrayReader,
    Stored,
    Trajectory,
    all_sides,
    make_grid,
    make_times,
    time_step,
)
from matey.errors import DataError, ShapeError
from matey.fields import Boundary, SystemSpec, Variable

HEIGHT = Variable("height", alias="data")
ACTIVATOR = Variable("activator", alias="activator")
INHIBITOR = Variable("inhibitor", alias="inhibitor")
VELOCITY = (
    Variable("velocity_x", axes=("x",), alias="Vx"),
    Variable("velocity_y", axes=("y",), alias="Vy"),
)
FORCE = (
    Variable("force_x", axes=("x",), static=True, alias="force_x"),
    Variable("force_y", axes=("y",), static=True, alias="force_y"),
)
TRACER = Variable("tracer", alias="particles")


@dataclass(frozen=True)
class GroupLayout:
    """A tree of groups `0000`, `0001`, ... each one trajectory with its own grid.

    `marks` are the keys of `config` that tell the system, `hint` is part of the file's name.
    """

    system: str
    marks: tuple[str, ...]
    hint: str
    data: Stored
    boundary: Boundary
    parameters: tuple[str, ...]


GROUPS = (
    GroupLayout(
        "diffusion_reaction",
        ("Du", "Dv"),
        "diff-react",
        Stored("{key}/data", "tyxc", (ACTIVATOR, INHIBITOR)),
        Boundary.WALL,
        ("Du", "Dv", "k"),
    ),
    GroupLayout(
        "shallow_water",
        ("gravity", "dam_radius"),
        "rdb",
        Stored("{key}/data", "txyc", (HEIGHT,)),
        Boundary.OPEN,
        ("gravity",),
    ),
)
FLOW_NAMES = {"density": "density", "pressure": "pressure", "Vx": "velocity_x", "Vy": "velocity_y"}
FLOW_PARAMETERS = ("eta", "zeta", "M")
EXPECTED = (
    "PDEBench: groups 0000, 0001, ... with data of [t, x, y, c]; or velocity, particles, "
    "force, t; or density, pressure, Vx, Vy of [n, t, x, y]"
)


def open_pdebench(path: Path, options: SourceConfig | None = None) -> ArrayReader | None:
    """A reader of the file, or None if it is none of PDEBench's 2D layouts.

    Raises DataError on a missing variable, ShapeError where axes do not fit coordinates.
    """
    with files.open_hdf5(path) as file:
        found = files.names(file)
        keys = sorted(name for name in found if re.fullmatch(r"\d{4,}", name))
        if keys and "data" in files.names(files.member(file, keys[0])):
            return read_groups(file, path, options, keys)
        if "particles" in found or {"velocity", "force"} <= set(found):
            return read_incompressible(file, path, options)
        if "Vx" in found and "Vz" not in found and rank(file, "Vx") == 4:
            return read_compressible(file, path, options)
    return None


def rank(file: h5py.File, name: str) -> int:
    """Number of axes of a dataset; 0 for a group."""
    return int(getattr(files.member(file, name), "ndim", 0))


def read_groups(
    file: h5py.File, path: Path, options: SourceConfig | None, keys: list[str]
) -> ArrayReader | None:
    """Shallow water and diffusion-reaction: one group per trajectory."""
    if rank(file, f"{keys[0]}/data") != 4:
        return None
    layout = recognise_groups(file, path, keys[0])
    required(path, files.names(files.member(file, keys[0])), ("data", "grid"))
    axes, count = layout.data.axes, len(layout.data.variables)
    trajectories = []
    for key in keys:
        where = f"{path.name}#{key}"
        config = read_config(files.member(file, key), where)
        shape = files.member(file, f"{key}/data").shape
        if len(shape) != 4 or shape[-1] != count:
            raise ShapeError(
                f"{shown(path)}: {key}/data has shape {shape}, expected {count} variables in "
                f"the axes [{', '.join(axes)}]."
            )
        x, y, t = (
            files.read_coordinate(files.member(file, f"{key}/grid/{a}"), path, f"{key}/grid/{a}")
            for a in "xyt"
        )
        size = dict(zip(axes, shape, strict=True))
        place = f"{shown(path)}: {key}/data [{', '.join(axes)}] of shape {shape}"
        grid = make_grid(("y", "x"), (y, x), (size["y"], size["x"]), place)
        check_extent("x", x, config, ("x_left", "x_right"), place)
        check_extent("y", y, config, ("y_bottom", "y_top"), place)
        times = make_times(t, size["t"], path, f"{key}/grid/t")
        values = {name: number(config[name]) for name in layout.parameters if name in config}
        sides = all_sides(2, layout.boundary)
        trajectories.append(Trajectory(where, times, grid, sides, values))
    spec = make_spec(layout.system, layout.data.variables, trajectories, path, options)
    return ArrayReader(path, options, "pdebench", spec, trajectories, (layout.data,), keys)


def recognise_groups(file: h5py.File, path: Path, key: str) -> GroupLayout:
    """Which system a tree of groups holds: by its `config`, else by the file's name."""
    config = read_config(files.member(file, key), f"{path.name}#{key}")
    for layout in GROUPS:
        if any(mark in config for mark in layout.marks):
            return layout
    for layout in GROUPS:
        if layout.hint in path.name.lower():
            return layout
    raise DataError(
        f"{shown(path)}: groups of PDEBench's form, but neither attribute `config` of {key} "
        f"(keys {sorted(config)}) nor the file's name tells the system. Expected the keys "
        f"{' or '.join(str(layout.marks) for layout in GROUPS)}, or a name that contains "
        f"{' or '.join(layout.hint for layout in GROUPS)}."
    )


def read_incompressible(file: h5py.File, path: Path, options: SourceConfig | None) -> ArrayReader:
    """Incompressible flow with an inhomogeneous force, on the unit square between walls."""
    required(path, files.names(file), ("velocity", "particles", "force", "t"))
    flow = tuple(
        Variable(v.name, axes=v.axes, alias=v.name) for v in VELOCITY
    )  # one dataset holds both components
    arrays = (
        Stored("velocity", "ntxyc", flow),
        Stored("particles", "ntxyc", (TRACER,)),
        Stored("force", "nxyc", FORCE),
    )
    batch, steps, nx, ny = same_shape(file, path, arrays)
    t = files.read_coordinate(files.member(file, "t"), path, "t")
    if t.shape[:1] != (batch,) or t.ndim != 2:
        raise ShapeError(f"{shown(path)}: t has shape {t.shape}, expected ({batch}, {steps}).")
    config = read_config(file, path.name)
    values = {"NU": number(config["NU"])} if "NU" in config else {}
    written = int(file.attrs.get("latestIndex", steps - 1)) + 1
    if 0 < written < steps:
        log.warning(f"{shown(path)}: only {written} of {steps} frames were written; using those.")
        steps = written
    centres = ((np.arange(ny) + 0.5) / ny, (np.arange(nx) + 0.5) / nx)
    grid = make_grid(("y", "x"), centres, (ny, nx), shown(path))
    sides = all_sides(2, Boundary.WALL)
    trajectories = [
        Trajectory(
            f"{path.name}#{n:04d}",
            make_times(t[n, :steps], steps, path, "t"),
            grid,
            sides,
            values,
        )
        for n in range(batch)
    ]
    variables = (*flow, TRACER, *FORCE)
    spec = make_spec("incompressible", variables, trajectories, path, options)
    notice_extra(path, files.names(file), {"velocity", "particles", "force", "t"})
    return ArrayReader(path, options, "pdebench", spec, trajectories, arrays)


def read_compressible(file: h5py.File, path: Path, options: SourceConfig | None) -> ArrayReader:
    """Compressible flow in a periodic box: one dataset per variable."""
    coordinates = ("t-coordinate", "x-coordinate", "y-coordinate")
    found = files.names(file)
    required(path, found, (*FLOW_NAMES, *coordinates))
    vectors = {v.alias: v for v in VELOCITY}
    variables = tuple(
        vectors.get(alias, Variable(name, alias=alias)) for alias, name in FLOW_NAMES.items()
    )
    arrays = tuple(Stored(variable.alias, "ntxy", (variable,)) for variable in variables)
    batch, steps, nx, ny = same_shape(file, path, arrays)
    t, x, y = (files.read_coordinate(files.member(file, n), path, n) for n in coordinates)
    place = f"{shown(path)}: density [n, t, x, y] of shape {(batch, steps, nx, ny)}"
    grid = make_grid(("y", "x"), (y, x), (ny, nx), place)
    times = make_times(t, steps, path, "t-coordinate")
    values = flow_parameters(file, path)
    sides = all_sides(2, Boundary.PERIODIC)
    trajectories = [
        Trajectory(f"{path.name}#{n:04d}", times, grid, sides, values) for n in range(batch)
    ]
    spec = make_spec("compressible", variables, trajectories, path, options)
    notice_extra(path, found, {*FLOW_NAMES, *coordinates})
    return ArrayReader(path, options, "pdebench", spec, trajectories, arrays)


def flow_parameters(file: h5py.File, path: Path) -> dict[str, float]:
    """Viscosities eta, zeta and Mach number M: attributes, else the file's name.

    Names write 1e-08 and 1.e-8 alike, as in `M0.1_Eta1e-08_Zeta1.e-8`.
    """
    values = {}
    for name in FLOW_PARAMETERS:
        written = re.search(rf"_{name}(\d[\d.]*(?:e[+-]?\d+)?)", path.name, re.IGNORECASE)
        if name in file.attrs:
            values[name] = number(file.attrs[name])
        elif written:
            values[name] = float(written[1].rstrip("."))
    return values


def same_shape(
    file: h5py.File, path: Path, arrays: tuple[Stored, ...]
) -> tuple[int, int, int, int]:
    """Sizes of n, t, x, y, after checking that all arrays agree on them."""
    sizes: dict[str, int] = {}
    for stored in arrays:
        shape = getattr(files.member(file, stored.name), "shape", ())
        if len(shape) != len(stored.axes):
            raise ShapeError(
                f"{shown(path)}: {stored.name} has shape {shape}, expected the axes "
                f"[{', '.join(stored.axes)}]."
            )
        here = dict(zip(stored.axes, shape, strict=True))
        if here.pop("c", len(stored.variables)) != len(stored.variables):
            raise ShapeError(
                f"{shown(path)}: {stored.name} has shape {shape}, expected "
                f"{len(stored.variables)} components on its last axis."
            )
        if any(sizes.setdefault(axis, size) != size for axis, size in here.items()):
            raise ShapeError(
                f"{shown(path)}: {stored.name} [{', '.join(stored.axes)}] has shape {shape}, "
                f"which does not fit {sizes} of {arrays[0].name}."
            )
    if sizes["n"] > files.MAX_COORDINATE:
        raise DataError(f"{shown(path)}: declares {sizes['n']} trajectories: it is damaged.")
    return sizes["n"], sizes["t"], sizes["x"], sizes["y"]


def required(path: Path, found: list[str], names: tuple[str, ...]) -> None:
    """Raise DataError that lists what is required and what is there."""
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(
            f"{shown(path)}: {', '.join(missing)} missing. Required: {', '.join(names)}; "
            f"found: {', '.join(found)}."
        )


def notice_extra(path: Path, found: list[str], used: set[str]) -> None:
    """Say which datasets are not read."""
    extra = sorted(set(found) - used)
    if extra:
        log.warning(f"{shown(path)}: {', '.join(extra)} ignored: not part of this layout.")


def read_config(group: h5py.Group, where: str) -> Mapping[str, Any]:
    """The YAML attribute `config`, its `sim` part merged in; empty where it is unreadable.

    It is plain data: tags that would make objects are malformed.
    """
    text = group.attrs.get("config", "")
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    try:
        config = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except (yaml.YAMLError, RecursionError, ValueError, AttributeError):
        log.warning(f"{shown(where)}: attribute config is not valid YAML; using the file's name.")
        return {}
    config = config if isinstance(config, dict) else {}
    inner = config.get("sim")
    return {**config, **inner} if isinstance(inner, dict) else config


def number(value: Any) -> float:
    """A finite parameter. Raises DataError on anything else."""
    try:
        result = float(np.asarray(value).reshape(()))
    except (TypeError, ValueError) as error:
        raise DataError(f"Parameter value {value!r} is not a number.") from error
    if not np.isfinite(result):
        raise DataError(f"Parameter value {value!r} is not finite.")
    return result


def check_extent(
    axis: str, points: np.ndarray, config: Mapping[str, Any], ends: tuple[str, str], where: str
) -> None:
    """Raise ShapeError where a coordinate is not that of the configured domain.

    That is how swapped coordinates show on a square grid.
    """
    if not all(isinstance(config.get(end), int | float) for end in ends) or len(points) < 2:
        return
    low, high = (float(config[end]) for end in ends)
    spacing = (high - low) / len(points)
    if abs(points[0] - low) > spacing or abs(points[-1] - high) > spacing:
        raise ShapeError(
            f"{where}: coordinate {axis} runs from {points[0]:.4g} to {points[-1]:.4g}, but "
            f"config says {ends[0]} {low:.4g}, {ends[1]} {high:.4g}. Are the axes swapped?"
        )


def make_spec(
    system: str,
    variables: tuple[Variable, ...],
    trajectories: list[Trajectory],
    path: Path,
    options: SourceConfig | None,
) -> SystemSpec:
    """The system of a file. Raises DataError where its trajectories disagree on dt or
    parameter names."""
    if not trajectories:
        raise DataError(f"{shown(path)} holds no trajectory.")
    steps: dict[int, float] = {}
    for trajectory in trajectories:
        steps.setdefault(
            id(trajectory.times), time_step(trajectory.times, options, trajectory.name)
        )
        if set(trajectory.parameters) != set(trajectories[0].parameters):
            raise DataError(
                f"{shown(path)}: {trajectory.name} has the parameters "
                f"{sorted(trajectory.parameters)}, {trajectories[0].name} has "
                f"{sorted(trajectories[0].parameters)}. Give all of them, or split the file."
            )
    dt = float(torch.tensor(list(steps.values()), dtype=torch.float64).median())
    return SystemSpec(system, 2, variables, tuple(trajectories[0].parameters), dt)
