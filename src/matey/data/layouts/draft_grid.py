"""The grid that the arrays of a file share, and which of them lie on the faces of its cells.

The centres of cells are the grid. Arrays on faces are averaged to centres where the names of their
axes are those of a program that is listed here; others are left out, and why is said.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from matey.config import Axis, Faces
from matey.data.formats import files
from matey.data.formats.container import Container
from matey.data.formats.encoding import text
from matey.data.layouts.conventions import (
    CLOCKS,
    DEGREES,
    HALF,
    SHIFTED,
    Position,
    axis_by_attributes,
    axis_of,
    plain_word,
    position_of,
)
from matey.data.layouts.draft_axes import (
    SPACE,
    ArrayShape,
    Roles,
    are_times_of_samples,
    is_vector,
)

PREFERRED: tuple[Position, ...] = (
    *("center", "left", "right", "half", "face", "corner", "inner", "outer"),
)
# Faces beside as many, one more or one fewer centres.
BESIDE: dict[Position, dict[int, Faces]] = {
    "left": {0: "left"},
    "right": {0: "right"},
    "outer": {1: "outer"},
    "inner": {-1: "inner"},
    "half": {0: "left", 1: "outer", -1: "inner"},
    "face": {0: "left", 1: "outer", -1: "inner"},
    "corner": {0: "right", 1: "outer", -1: "inner"},
}
BLOCK = 2**20  # bytes of values compared at once; a frame at least


@dataclass(frozen=True)
class SharedGrid:
    """The arrays that a grid takes, each with the axes along which it lies on faces; the coordinate
    of each axis; and the axes that are periodic by the number of their faces."""

    staggered: dict[str, dict[str, Faces]] = field(default_factory=dict)
    coordinates: dict[Axis, str] = field(default_factory=dict)
    periodic: tuple[Axis, ...] = ()


@dataclass(frozen=True)
class Line:
    """The points of an array along one axis: what the file calls them, and how many there are."""

    dim: str
    size: int
    position: Position


def share_grid(
    file: Container,
    stored: Mapping[str, ArrayShape],
    roles: Mapping[str, Roles],
    by_name: Mapping[Axis, str],
    assumptions: list[str],
) -> SharedGrid:
    """The grid of arrays with these axes. Those that cannot share it are left out with a notice.

    `by_name` are coordinates that no dimension leads to.
    """
    axes = [axis for axis in SPACE if any(axis in its for its in roles.values())]
    lines = {
        name: {axis: line_of(file, stored[name], its, axis) for axis in axes}
        for name, its in roles.items()
    }
    dims = {line.dim for its in lines.values() for line in its.values()}
    lines = {
        name: {axis: half_way(line, dims) for axis, line in its.items()}
        for name, its in lines.items()
    }
    centres = {axis: centre_of([its[axis] for its in lines.values()]) for axis in axes}
    staggered: dict[str, dict[str, Faces]] = {}
    periodic: dict[Axis, None] = {}
    for name, its in lines.items():
        apart = [axis for axis in axes if not shares(file, stored, its[axis], centres[axis])]
        if apart:
            here, there = (points(each[apart[0]]) for each in (its, centres))
            assumptions.append(
                f"{name} is left out: along {apart[0]} it has {here}, others {there}"
            )
            continue
        on_faces: dict[str, Faces] = {}
        for axis in axes:
            faces = beside(its[axis], centres[axis])
            if faces:
                on_faces[axis] = faces
            if faces == "left" and its[axis].position == "face":
                periodic[axis] = None
        shifted = SHIFTED.get(its["z"].dim) if "z" in its else None
        if shifted in axes and centres["z"].dim == "deptht":
            on_faces[shifted] = "right"
        staggered[name] = on_faces
        if on_faces:
            assumptions.append(
                f"{name} lies on the faces of cells along {', '.join(on_faces)}, and is averaged "
                "to their centres"
            )
    named = name_coordinates(file, stored, centres, time_line(stored, roles), by_name)
    return SharedGrid(staggered, named, tuple(periodic))


def half_way(line: Line, dims: Collection[str]) -> Line:
    """The same points, on faces where those of the centres stand beside them: `xh` beside `x`."""
    half = line.position == "center" and line.dim in HALF and line.dim[:-1] in dims
    return replace(line, position="half") if half else line


def name_coordinates(
    file: Container,
    stored: Mapping[str, ArrayShape],
    centres: Mapping[Axis, Line],
    frames: Line,
    by_name: Mapping[Axis, str],
) -> dict[Axis, str]:
    """The arrays of positions along each axis, and of times."""
    lines: dict[Axis, Line] = {"time": frames, **centres}
    coordinates: dict[Axis, str] = {}
    for axis, line in lines.items():
        name = coordinate_along(file, stored, axis, line) or by_name.get(axis, "")
        if name and fits(name, stored[name], line.size, axis):
            coordinates[axis] = name
    return coordinates


def points(line: Line) -> str:
    """The points along an axis in words."""
    return f"{line.size} points" + (f" ({line.dim})" if line.dim else "")


def line_of(file: Container, array: ArrayShape, roles: Roles, axis: Axis) -> Line:
    """An array's points along an axis."""
    place = roles.index(axis)
    dim = array.dims[place] if array.dims else ""
    attributes = file.attributes(dim) if dim in file.names() else {}
    return Line(dim, array.shape[place], position_of(dim, attributes) if dim else "center")


def time_line(stored: Mapping[str, ArrayShape], roles: Mapping[str, Roles]) -> Line:
    """The frames of the first array that has several."""
    for name, its in roles.items():
        if "time" in its:
            array, place = stored[name], its.index("time")
            return Line(array.dims[place] if array.dims else "", array.shape[place], "center")
    return Line("", 0, "center")


def centre_of(lines: list[Line]) -> Line:
    """Which points along an axis are centres of cells: by convention, else those of most arrays."""
    counts = Counter(lines)
    return min(counts, key=lambda line: (PREFERRED.index(line.position), -counts[line]))


def beside(line: Line, centre: Line) -> Faces | None:
    """Where faces lie beside centres of cells; None where they do not, or are centres."""
    if line.dim == centre.dim or line.position == "center":
        return None
    return BESIDE[line.position].get(line.size - centre.size)


def shares(file: Container, stored: Mapping[str, ArrayShape], line: Line, centre: Line) -> bool:
    """Whether an array with these points along an axis can share the grid."""
    if line.dim != centre.dim and line.position != "center":
        return beside(line, centre) is not None
    return line.size == centre.size and same_points(file, stored, line, centre)


def same_points(
    file: Container, stored: Mapping[str, ArrayShape], line: Line, centre: Line
) -> bool:
    """Whether two dimensions of the same length have the same positions, or say nothing of them."""
    names = [line.dim, centre.dim]
    if line.dim == centre.dim or any(name not in stored for name in names):
        return True
    first, second = (files.read_array(file.array(n), (), file.path, n) for n in names)
    return first.shape == second.shape and bool(np.allclose(first, second))


def coordinate_along(
    file: Container, stored: Mapping[str, ArrayShape], axis: Axis, line: Line
) -> str:
    """The array of positions, or of times, along a dimension; empty where there is none."""
    if not line.dim:
        return ""
    ranked: list[tuple[int, int, str]] = []
    for place, (name, array) in enumerate(stored.items()):
        if line.dim not in array.dims or not fits(name, array, line.size, axis):
            continue
        itself = name.split("/")[-1] == line.dim
        attributes = file.attributes(name) if not name.startswith("*/") else {}
        if itself:
            rank = 0
        elif axis_of(name) == axis and plain_word(name) not in CLOCKS:
            rank = 1
        elif axis_by_attributes(attributes) == axis and len(array.shape) == 1:
            rank = 2
        else:
            continue
        ranked.append((rank, place, name))
    return min(ranked)[2] if ranked else ""


def goes_round(file: Container, name: str) -> bool:
    """Whether a coordinate is of longitudes in even steps round the globe."""
    if name not in file.names():
        return False
    units = DEGREES.fullmatch(text(file.attributes(name).get("units", "")).strip())
    eastward = units is not None and units[1].lower().startswith("e")
    if not eastward and plain_word(name) not in ("lon", "longitude", "longitudes", "lons"):
        return False
    degrees = files.read_coordinate(file.array(name), file.path, name).reshape(-1)
    steps = np.diff(degrees)
    return len(steps) > 1 and bool(
        np.allclose(steps, steps[0], rtol=1e-2)
        and abs(abs(steps.mean()) * len(degrees) - 360) < 0.01 * abs(steps.mean())
    )


def fits(name: str, array: ArrayShape, size: int, axis: Axis) -> bool:
    """Whether an array may hold the positions of so many points, or times of frames."""
    if axis == "time" and are_times_of_samples(name, array):
        return array.shape[1] in (size, size + 1)
    count = prod(array.shape)
    return is_vector(array.shape) and (count == size or (axis == "time" and count == size + 1))


def never_changes(file: Container, names: Sequence[str], roles: Roles) -> bool:
    """Whether arrays with an axis of time are each the same in all of two or more frames."""
    return all(is_still(file, name, roles.index("time")) for name in names)


def is_still(file: Container, name: str, place: int) -> bool:
    """Whether an array of two or more frames, with time at this place, is the same in all."""
    array = file.array(name)
    frames, before = array.shape[place], (slice(None),) * place
    if frames < 2:
        return False
    first = files.read_array(array, (*before, slice(0, 1)), file.path, name)
    step = max(1, BLOCK // max(1, first.nbytes))
    parts = [slice(1, 2)]  # most differ at once; archives are read forwards only
    parts += [slice(start, start + step) for start in range(2, frames, step)]
    for part in parts:
        values = files.read_array(array, (*before, part), file.path, name)
        if not np.array_equal(np.broadcast_to(first, values.shape), values, equal_nan=True):
            return False
    return True
