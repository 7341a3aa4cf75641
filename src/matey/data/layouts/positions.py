"""Positions along an axis, also where they stand at every point of a grid.

Such is X of (y, x), as `numpy.meshgrid` makes it, or of (time, y, x), which changes along x only.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from matey.config import ArrayConfig, Axis
from matey.data.formats import files
from matey.data.formats.container import Container
from matey.data.formats.encoding import text
from matey.data.formats.files import UnknownLayoutError, shown
from matey.data.layouts.conventions import (
    NOT_POSITIONS,
    axis_by_attributes,
    axis_of,
    plain_word,
    words,
)
from matey.data.layouts.draft_axes import ORDER, SPACE, ArrayShape, is_vector

WHOLE = 2**20  # entries of a grid that are all compared; of a larger one these lines are:
# What programs call the axis of cells, or points, of a mesh.
OF_MESHES = words("ncells ncell ncol cell cells node nodes nedges nvertices nmesh2d_face")
# Latitudes and longitudes of WRF, CICE and POP, NEMO, MOM6, ROMS.
AT_POINTS = re.compile(r"(?:x|t|nav_|geo)?(lat|lon)g?(?:_rho|_t)?")
LINES = 8  # beside the first, evenly apart from the first corner to the last


def read_positions(file: Container, name: str) -> np.ndarray:
    """The positions in an array [N], where it changes along one axis only; else the array.

    Raises DataError where it is damaged, or too large for a coordinate.
    """
    array = file.array(name)
    line = None if len(array.shape) < 2 or is_vector(array.shape) else line_along(file, name)
    return files.read_coordinate(array, file.path, name) if line is None else line[1]


def line_along(file: Container, name: str) -> tuple[int, np.ndarray] | None:
    """The axis along which an array changes, and its values there; None where it changes along
    several. Of one that is the same everywhere, the last axis."""
    array = file.array(name)
    shape = tuple(array.shape)
    whole = prod(shape) <= WHOLE
    values = read(file, array, name, ()) if whole else None
    lines: list[tuple[int, np.ndarray]] = []
    for place in range(len(shape)):
        along = through([0] * len(shape), place)
        line = read(file, array, name, along).reshape(-1) if values is None else values[along]
        line = line.reshape(-1)
        if len(line) and not (line == line[0]).all():
            lines.append((place, line))
    if len(lines) > 1:
        return None
    place, line = lines[0] if lines else (len(shape) - 1, line)
    if values is None:
        corners = [[(n - 1) * k // LINES for n in shape] for k in range(1, LINES + 1)]
        same = all(
            np.array_equal(read(file, array, name, through(corner, place)).reshape(-1), line)
            for corner in corners
        )
    else:
        rest = (1,) * (len(shape) - 1 - place)
        same = np.array_equal(
            values, np.broadcast_to(line.reshape(-1, *rest), shape), equal_nan=True
        )
    return (place, line) if same else None


def through(corner: Sequence[int], place: int) -> tuple[slice, ...]:
    """The line along an axis through a point."""
    return tuple(slice(None) if p == place else slice(n, n + 1) for p, n in enumerate(corner))


def read(file: Container, array: Any, name: str, index: tuple[slice, ...]) -> np.ndarray:
    """A part of an array in float64."""
    return files.read_array(array, index, file.path, name).astype(np.float64)


def by_grids_of_positions(
    file: Container, stored: Mapping[str, ArrayShape]
) -> dict[str, ArrayShape]:
    """The same arrays, where grids of positions among them that change along one axis are the
    coordinates of it: arrays of their shape without names of axes have those of the grids."""
    found: dict[str, tuple[Axis, int, tuple[int, ...]]] = {}
    arrays = dict(stored)
    for name, array in stored.items():
        axis = axis_of(name)
        grid = len(array.shape) > 1 and not is_vector(array.shape)
        if axis not in SPACE or not grid or not prod(array.shape):
            continue
        if plain_word(name) in NOT_POSITIONS and not array.is_named:
            continue
        line = line_along(file, name)
        if line is None or name.startswith("*/"):
            continue
        place, points = line
        if array.is_named:
            dim = array.dims[place]
            if array.axes[place] == axis and dim not in stored:
                arrays[name] = ArrayShape((len(points),), (dim,), (axis,))
            continue
        if (points == points[0]).all():  # of an axis that the grid does not have
            del arrays[name]
            continue
        arrays[name] = ArrayShape((len(points),), (), (axis,))
        found[name] = (axis, place, array.shape)
    for axis, place, shape in found.values():
        for name, array in arrays.items():
            before = len(array.shape) - len(shape)
            here = next((s for s in (0, before) if s >= 0 and matches(array, shape, s)), None)
            if here is None or name in found or (array.is_named and array.dims):
                continue
            axes: list[Axis | None] = [*array.axes] or [None] * len(array.shape)
            if axes[place + here] is None:
                axes[place + here] = axis
            arrays[name] = replace(array, axes=tuple(axes))
    return arrays


def at_points(file: Container, arrays: Sequence[ArrayConfig], space: Sequence[Axis]) -> list[str]:
    """A notice of positions that stand at every point as static variables, along axes of space
    that have no coordinate."""
    names = [
        array.array
        for array in arrays
        if (array.static or (array.axes and "time" not in array.axes))
        and axis_at_points(file, array.array) in space
    ]
    if not names:
        return []
    return [
        f"{', '.join(names)} stand at every point, as on a curved grid: static variables. The grid "
        f"is read as one whose points are one apart along {', '.join(space)}"
    ]


def axis_at_points(file: Container, name: str) -> Axis | None:
    """The axis that positions at every point are of: `x`, `XLAT`, `lon_rho`."""
    found = AT_POINTS.fullmatch(plain_word(name))
    by_name: Axis | None = None if found is None else "y" if found[1] == "lat" else "x"
    return axis_of(name) or axis_by_attributes(file.attributes(name)) or by_name


def refuse_meshes(file: Container, fields: Mapping[str, ArrayShape]) -> None:
    """Raise UnknownLayoutError where fields lie on the cells of a mesh, which one axis counts: its
    name says so, an attribute, or that latitudes and longitudes lie along it."""
    along: dict[str, set[Axis]] = {}
    meshes: set[str] = set()
    for name in file.names():
        dims, attributes = file.dims(name), file.attributes(name)
        if text(attributes.get("CDI_grid_type", "")) == "unstructured":
            meshes |= {*dims[-1:]}
        if len(dims) == 1:
            axis = axis_by_attributes(attributes) or axis_of(name.removeprefix("c"))
            along.setdefault(dims[0], set()).update([axis] if axis in ("y", "x") else [])
    for name, array in fields.items():
        for dim in array.dims:
            places, own = along.get(dim, set()), axis_of(dim) in ORDER and dim in file.names()
            counted = places >= {"y", "x"} and not own and axis_of(dim) not in ("time", "sample")
            if counted or dim in meshes or (dim.lower() in OF_MESHES and not places):
                raise UnknownLayoutError(
                    f"{shown(file.path)}: {name} of {array.shape} lies on a mesh, whose cells the "
                    f"axis {shown(dim)} counts. Put it on a grid first, as `cdo "
                    "remapcon,r360x180 IN OUT` does, or xESMF."
                )


def matches(array: ArrayShape, shape: tuple[int, ...], start: int) -> bool:
    """Whether an array has the shape of a grid from an axis on."""
    return len(shape) > 1 and array.shape[start : start + len(shape)] == shape
