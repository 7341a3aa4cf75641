"""Reads PDEBench's HDF5 files that carry a `config`: shallow water, diffusion-reaction,
diffusion-sorption and incompressible flow.

A layout is recognised by what is in the file; the file's name only decides, or gives a
parameter, where the content does not. Values are dimensionless. PDEBench stores x before y
in all but the diffusion-reaction files.

Source: https://doi.org/10.18419/darus-2986 for the files, arXiv:2210.07182 for the systems.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import yaml

from matey.config import SourceConfig
from matey.data.formats import files, hdf5
from matey.data.formats.container import Container, root
from matey.data.formats.encoding import text
from matey.data.formats.files import log, shown
from matey.data.layouts import base
from matey.data.layouts.base import Contents, Stored, Trajectory
from matey.errors import DataError, ShapeError
from matey.fields import Boundary, Variable
from matey.output import plain_yaml

REACTANTS = tuple(Variable(name, alias=name) for name in ("activator", "inhibitor"))
VELOCITY = tuple(Variable(f"velocity_{a}", axes=(a,), alias=f"velocity_{a}") for a in "xy")
FORCE = tuple(Variable(f"force_{a}", axes=(a,), static=True, alias=f"force_{a}") for a in "xy")
INCOMPRESSIBLE = (
    Stored("velocity", "ntxyc", VELOCITY),
    Stored("particles", "ntxyc", (Variable("tracer", alias="particles"),)),
    Stored("force", "nxyc", FORCE),
)


@dataclass(frozen=True)
class Tree:
    """A system stored as groups `0000`, `0001`, ... each one trajectory with its own grid.

    `marks` are the keys of `config` that tell the system, `hint` is part of the file's name.
    """

    system: str
    marks: tuple[str, ...]
    hint: str
    data: Stored
    boundary: Boundary
    parameters: tuple[str, ...] = ()


TREES = (
    Tree(
        "diffusion_reaction",
        ("Du", "Dv"),
        "diff-react",
        Stored("{key}/data", "tyxc", REACTANTS),
        Boundary.WALL,
        ("Du", "Dv", "k"),
    ),
    Tree(
        "shallow_water",
        ("gravity", "dam_radius"),
        "rdb",
        Stored("{key}/data", "txyc", (Variable("height", alias="data"),)),
        Boundary.OPEN,
        ("gravity",),
    ),
    # A fixed concentration on one side, a flux that depends on it on the other: neither is a wall.
    Tree(
        "diffusion_sorption",
        ("por", "rho_s", "k_f"),
        "diff-sorp",
        Stored("{key}/data", "txc", (Variable("concentration", alias="data"),)),
        Boundary.OPEN,
    ),
)


class PDEBenchTrees:
    """Shallow water, diffusion-reaction and diffusion-sorption: a group per trajectory."""

    name = "pdebench"
    formats = ("hdf5",)
    expected = "PDEBench: groups 0000, 0001, ... with data of [t, x, y, c] or [t, x, c]"

    def describe(self, file: Container, options: SourceConfig | None) -> Contents | None:
        path, content = file.path, root(file)
        keys = sorted(name for name in list(content) if re.fullmatch(r"\d{4,}", name))
        if not keys or "data" not in list(hdf5.member(content, keys[0])):
            return None
        tree = recognise(content, path.name, keys[0], file.array(f"{keys[0]}/data").ndim)
        if tree is None:
            return None
        base.required(path, list(hdf5.member(content, keys[0])), ("data", "grid"))
        trajectories = [read_group(file, tree, key) for key in keys]
        return base.make_contents(file, tree.system, (tree.data,), trajectories, options, keys)


def recognise(file: h5py.File, name: str, key: str, axes: int) -> Tree | None:
    """The system in a tree of groups: by the rank of its data, its `config`, or the file's name."""
    candidates = [tree for tree in TREES if len(tree.data.axes) == axes]
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    config = read_config(hdf5.member(file, key), f"{name}#{key}")
    marked = [tree for tree in candidates if set(tree.marks) & set(config)]
    for tree in (*marked, *(tree for tree in candidates if tree.hint in name.lower())):
        return tree
    raise DataError(
        f"{shown(name)}: groups of PDEBench's form, but neither attribute `config` of {key} "
        f"(keys {sorted(map(str, config))}) nor the file's name tells the system. Expected the "
        f"keys {' or '.join(str(tree.marks) for tree in candidates)}, or a name that contains "
        f"{' or '.join(tree.hint for tree in candidates)}."
    )


def read_group(file: Container, tree: Tree, key: str) -> Trajectory:
    """One trajectory: its times, its grid and its parameters."""
    path, axes = file.path, tree.data.axes
    where = f"{path.name}#{key}"
    config = read_config(hdf5.member(root(file), key), where)
    shape = file.array(f"{key}/data").shape
    if len(shape) != len(axes) or shape[-1] != len(tree.data.variables):
        raise ShapeError(
            f"{shown(path)}: {key}/data has shape {shape}, expected {len(tree.data.variables)} "
            f"variables in the axes [{', '.join(axes)}]."
        )
    size = dict(zip(axes, shape, strict=True))
    spatial = tuple(axis for axis in "yx" if axis in axes)
    points = {
        axis: files.read_coordinate(file.array(f"{key}/grid/{axis}"), path, f"{key}/grid/{axis}")
        for axis in ("t", *spatial)
    }
    place = f"{shown(path)}: {key}/data [{', '.join(axes)}] of shape {shape}"
    grid = base.make_grid(spatial, [points[a] for a in spatial], [size[a] for a in spatial], place)
    for axis, ends in (("x", ("x_left", "x_right")), ("y", ("y_bottom", "y_top"))):
        if axis in spatial:
            check_extent(axis, points[axis], config, ends, place)
    times = base.make_times(points["t"], size["t"], path, f"{key}/grid/t")
    values = {name: base.number(config[name]) for name in tree.parameters if name in config}
    sides = base.sides_of([(tree.boundary, tree.boundary)] * grid.ndim)
    return Trajectory(where, times, grid, sides, values)


class PDEBenchIncompressible:
    """Incompressible flow with an inhomogeneous force, on the unit square between walls."""

    name = "pdebench"
    formats = ("hdf5",)
    expected = "PDEBench: velocity, particles, force, t"

    def describe(self, file: Container, options: SourceConfig | None) -> Contents | None:
        path, content = file.path, root(file)
        names = list(content)
        stored = [array.name for array in INCOMPRESSIBLE]
        if len(set(stored) & set(names)) < 2:
            return None
        base.required(path, names, (*stored, "t"))
        sizes = base.same_sizes(file, INCOMPRESSIBLE)
        steps = sizes["t"]
        t = files.read_coordinate(file.array("t"), path, "t")
        if t.shape[:1] != (sizes["n"],) or t.ndim != 2:
            raise ShapeError(
                f"{shown(path)}: t has shape {t.shape}, expected ({sizes['n']}, {steps})."
            )
        config = read_config(content, path.name)
        values = {"NU": base.number(config["NU"])} if "NU" in config else {}
        written = int(base.number(file.attributes().get("latestIndex", steps - 1))) + 1
        if 0 < written < steps:
            log.warning(
                f"{shown(path)}: only {written} of {steps} frames were written; using those."
            )
            steps = written
        shape = (sizes["y"], sizes["x"])
        centres = [(np.arange(points) + 0.5) / points for points in shape]
        grid = base.make_grid(("y", "x"), centres, shape, shown(path))
        sides = base.sides_of([(Boundary.WALL, Boundary.WALL)] * 2)
        times = [base.make_times(each[:steps], steps, path, "t") for each in t]
        trajectories = base.alike(path, times, grid, sides, values)
        base.notice_extra(path, names, {*stored, "t"})
        return base.make_contents(file, "incompressible", INCOMPRESSIBLE, trajectories, options)


def read_config(group: h5py.Group, where: str) -> Mapping[str, Any]:
    """The YAML attribute `config`, its `sim` part merged in; empty where it is unreadable, as
    with tags that would make objects."""
    try:
        config = plain_yaml(text(group.attrs.get("config", "")))
    except (yaml.YAMLError, RecursionError, ValueError, AttributeError):
        log.warning(f"{shown(where)}: attribute config is not valid YAML; using the file's name.")
        return {}
    config = config if isinstance(config, dict) else {}
    inner = config.get("sim")
    return {**config, **inner} if isinstance(inner, dict) else config


def check_extent(
    axis: str, points: np.ndarray, config: Mapping[str, Any], ends: tuple[str, str], where: str
) -> None:
    """Raise ShapeError where a coordinate is not that of the configured domain: swapped ones show
    so on a square grid."""
    if not all(isinstance(config.get(end), int | float) for end in ends) or len(points) < 2:
        return
    low, high = (float(config[end]) for end in ends)
    spacing = (high - low) / len(points)
    first, last = float(points.min()), float(points.max())
    if abs(first - low) > spacing or abs(last - high) > spacing:
        raise ShapeError(
            f"{where}: coordinate {axis} runs from {first:.4g} to {last:.4g}, but "
            f"config says {ends[0]} {low:.4g}, {ends[1]} {high:.4g}. Are the axes swapped?"
        )
