"""Drafts the description of a file that no reader knows, by looking at it.

What arrays and their axes are called decides; where axes have no names, the lengths of
coordinates do. Everything that was assumed is listed, for a person to check; where neither
decides, all readings are listed as doubts, which a person has to settle.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from matey.config import ArrayConfig, Axis, LayoutConfig
from matey.data.formats.container import Container
from matey.data.formats.encoding import text
from matey.data.formats.files import UnknownLayoutError, shown
from matey.data.formats.times import are_dates
from matey.data.layouts.conventions import (
    SLOWEST_FIRST,
    axes_of_dimensions,
    axis_by_attributes,
    axis_of,
)
from matey.data.layouts.draft_axes import (
    ORDER,
    ArrayShape,
    Order,
    Roles,
    axes_of,
    find_coordinates,
    is_vector,
    like,
)
from matey.data.layouts.draft_grid import SharedGrid, goes_round, never_changes, share_grid
from matey.data.layouts.draft_names import (
    describe,
    find_parameters,
    numbers_beside,
    time_step,
    with_names_of_their_own,
)
from matey.data.layouts.positions import at_points, by_grids_of_positions, refuse_meshes


@dataclass(frozen=True)
class Draft:
    """A description, and what was assumed to make it."""

    layout: LayoutConfig
    assumptions: tuple[str, ...]


def draft(file: Container) -> Draft | None:
    """A description of the file; None if it has no array that could be one over time and space.

    Raises UnknownLayoutError where its axes cannot be told.
    """
    stored = survey(list_arrays(file))
    coordinates = find_coordinates(stored)
    assumptions = left_complex(file)
    doubts: list[str] = []
    arrays_of_fields = {
        name: array
        for name, array in stored.items()
        if name not in coordinates.values() and sum(size > 1 for size in array.shape) > 1
    }
    refuse_meshes(file, arrays_of_fields)
    candidates = [
        f"{name} of {array.shape} ({', '.join(array.dims) or 'no names'})"
        for name, array in arrays_of_fields.items()
    ]
    lengths = {axis: lengths_of(stored[name], axis) for axis, name in coordinates.items()}
    roles = read_axes(arrays_of_fields, lengths, order_of(file, coordinates), assumptions, doubts)
    space = widest(roles)
    if not space and any({"y", "x"} & set(axes) for axes in roles.values()):
        raise UnknownLayoutError(
            f"{shown(file.path)}: no array has an axis of time, of {shown('; '.join(candidates))}: "
            "it is one frame. Give all files of the run together, as a folder or a pattern, which "
            "joins them in time."
        )
    if not space and candidates:
        raise UnknownLayoutError(
            f"{shown(file.path)}: it cannot be told which axis is time and which is space, of "
            f"{shown('; '.join(candidates))}. Say it in the `layout` of a data config "
            "(docs/formats.md), or name the dimensions time, z, y, x."
        )
    if not space and assumptions:
        raise UnknownLayoutError(f"{shown(file.path)}: {assumptions[0]}.")
    if not space:
        return None
    kept = {name: its for name, its in roles.items() if set(its) & {"z", "y", "x"} == set(space)}
    assumptions += [
        f"{name} is left out: it does not lie on the axes {', '.join(space)}"
        for name in roles
        if name not in kept
    ]
    grid = share_grid(file, stored, kept, coordinates, assumptions)
    kept = {name: kept[name] for name in grid.staggered}
    usual = Counter(its for its in kept.values() if "time" in its) or Counter(kept.values())
    axes = usual.most_common(1)[0][0]
    arrays = [
        replace(describe(file, name, r, axes, space, assumptions), staggered=grid.staggered[name])
        for name, r in kept.items()
    ]
    arrays = with_static(file, arrays, axes, assumptions)
    arrays = with_names_of_their_own(arrays)
    assumptions += at_points(file, arrays, [axis for axis in space if axis not in grid.coordinates])
    time = grid.coordinates.get("time", "") or dates_along(file, kept, stored)
    numbers = numbers_beside(file, stored)
    layout = LayoutConfig(
        axes=axes,
        arrays=tuple(arrays),
        time=time,
        dt=1.0 if time else time_step(file, numbers, assumptions),
        coordinates={a: name for a, name in grid.coordinates.items() if a in space},
        boundaries=find_boundaries(file, space, grid, assumptions),
        parameters=find_parameters(file, stored, numbers, assumptions),
        doubts=tuple(dict.fromkeys(doubts)),
    )
    return Draft(layout, tuple(dict.fromkeys(assumptions)))


def survey(everything: Mapping[str, ArrayShape]) -> dict[str, ArrayShape]:
    """Arrays of a file by name; groups that hold the same arrays are one, called `*`."""
    groups = defaultdict[str, dict[str, ArrayShape]](dict)
    for name, array in everything.items():
        group, _, rest = name.partition("/")
        if rest:
            groups[group][rest] = array
    contents = {
        tuple((name, len(a.shape)) for name, a in sorted(g.items())) for g in groups.values()
    }
    if len(groups) < 2 or len(contents) > 1:
        return dict(everything)
    alone = {name: array for name, array in everything.items() if "/" not in name}
    return alone | {f"*/{name}": array for name, array in groups[min(groups)].items()}


def list_arrays(file: Container) -> dict[str, ArrayShape]:
    """Arrays of numbers by name, with the axes that their dimensions stand for."""
    marks = marked_axes(file)
    stored = {
        name: ArrayShape(tuple(array.shape), dims, axes_of_dimensions(dims, marks))
        for name in file.names()
        if (array := file.array(name)).dtype.kind in "fiubMm"
        and array.ndim
        and is_numeric(file, name)
        and (dims := file.dims(name)) is not None
    }
    return by_grids_of_positions(file, stored)


def marked_axes(file: Container) -> dict[str, Axis]:
    """The axes of dimensions by what attributes of their coordinates say; where there is none of
    the dimension's name, of another one along it."""
    marks: dict[str, Axis] = {}
    others: dict[str, Axis] = {}
    for name in file.names():
        dims = file.dims(name)
        axis = axis_by_attributes(file.attributes(name)) if len(dims) == 1 else None
        if axis:
            itself = dims[0] == name.split("/")[-1]
            (marks if itself else others).setdefault(dims[0], axis)
    return {dim: axis for dim, axis in others.items() if axis_of(dim) is None} | marks


def is_numeric(file: Container, name: str) -> bool:
    """Whether an array holds numbers: MATLAB keeps text as numbers too."""
    return text(file.attributes(name).get("MATLAB_class", "")) not in ("char", "cell", "struct")


def order_of(file: Container, coordinates: Mapping[Axis, str]) -> Order:
    """In what order a file lists axes: in reverse as MATLAB's (version 7.3) do, by its own marks;
    or as a program does that is known by what it calls coordinates."""
    if any("MATLAB_class" in file.attributes(name) for name in file.names()[:1]):
        return "backwards"
    places = {name.split("/")[-1] for axis, name in coordinates.items() if axis != "time"}
    return "slowest first" if places and places <= SLOWEST_FIRST else "any"


def lengths_of(array: ArrayShape, axis: Axis) -> int:
    """The number of positions, or of times, that an array holds."""
    whole = is_vector(array.shape)
    return max(array.shape) if whole or axis != "time" else array.shape[-1]


def read_axes(
    arrays: Mapping[str, ArrayShape],
    lengths: Mapping[Axis, int],
    order: Order,
    assumptions: list[str],
    doubts: list[str],
) -> dict[str, Roles]:
    """The axes of each array. Those without names are read like the largest of them."""
    roles: dict[str, Roles] = {}
    unnamed = [n for n, array in arrays.items() if not array.is_named or not array.dims]
    unnamed.sort(key=lambda name: -len(arrays[name].shape))
    main = unnamed[0] if unnamed else ""
    timed = any("time" in array.axes for array in arrays.values())
    for name in (*unnamed, *(name for name in arrays if name not in unnamed)):
        array, its = arrays[name], None
        if name in unnamed and main in roles:
            its = like(array.shape, arrays[main].shape, roles[main])
        largest = name == main and not timed
        its = its or axes_of(array, lengths, name, assumptions, doubts, order, largest)
        if its is None:
            assumptions.append(f"{name} of shape {array.shape} is left out: its axes are unknown")
        else:
            roles[name] = its
    return {name: roles[name] for name in arrays if name in roles}


def with_static(
    file: Container, arrays: Sequence[ArrayConfig], axes: Roles, assumptions: list[str]
) -> list[ArrayConfig]:
    """The arrays, where those that never change in time are static, if others change."""
    still = [
        array.array
        for array in arrays
        if "time" in (array.axes or axes)
        and not array.static
        and never_changes(file, all_of(file, array.array), array.axes or axes)
    ]
    if not any(a.array not in still and "time" in (a.axes or axes) for a in arrays):
        return list(arrays)
    assumptions += [f"{name} never changes, and is static: read, never predicted" for name in still]
    return [replace(a, static=True) if a.array in still else a for a in arrays]


def dates_along(
    file: Container, roles: Mapping[str, Roles], stored: Mapping[str, ArrayShape]
) -> str:
    """An array of dates as text along the axis of time; empty where there is none."""
    over_time = {n: its for n, its in roles.items() if stored[n].dims and "time" in its}
    dims = {stored[n].dims[its.index("time")] for n, its in over_time.items()}
    for name in file.names():
        its = file.dims(name)
        if axis_of(name) == "time" and its and its[0] in dims and are_dates(file.array(name)):
            return name
    return ""


def all_of(file: Container, name: str) -> list[str]:
    """The arrays that a name stands for: `*/u` is one in each group."""
    return [n for n in file.names() if n == name or (name[0] == "*" and n.endswith(name[1:]))]


def left_complex(file: Container) -> list[str]:
    """A notice of complex arrays, which are left out."""
    names = [name for name in file.names() if file.array(name).dtype.kind == "c"]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    way_out = "store real and imaginary parts as two variables"
    return [f"{name}{more} of complex numbers left out: {way_out}" for name in names[:1]]


def widest(roles: Mapping[str, Roles]) -> tuple[Axis, ...]:
    """The axes of space of the array that changes in time and has the most of them."""
    over_time = (axes for axes in roles.values() if "time" in axes)
    spaces = (tuple(axis for axis in ORDER[1:] if axis in axes) for axes in over_time)
    return max(spaces, key=len, default=())


def find_boundaries(
    file: Container, space: tuple[Axis, ...], grid: SharedGrid, assumptions: list[str]
) -> dict[str, str]:
    """Boundaries from attributes such as `boundary_x`; open where the file says nothing.

    Axes are periodic too where a program that is listed stores as many faces as centres, and
    longitudes that go round the globe.
    """
    boundaries: dict[str, str] = {}
    for axis in space:
        as_many, coordinate = axis in grid.periodic, grid.coordinates.get(axis, "")
        if as_many or goes_round(file, coordinate):
            boundaries[axis] = "periodic"
            why = "there are as many faces as centres" if as_many else "longitudes go round"
            assumptions.append(f"the sides along {axis} are periodic: {why}")
    for axis in space:
        words = text(file.attributes().get(f"boundary_{axis}", "")).lower().split()
        both = words.count("periodic") in (0, len(words))
        if len(words) in (1, 2) and set(words) <= {"periodic", "wall", "open"} and both:
            boundaries[axis] = " ".join(dict.fromkeys(words))
    unsaid = [axis for axis in space if axis not in boundaries]
    if unsaid:
        sides = ", ".join(unsaid)
        assumptions.append(f"the sides along {sides} are taken for open: the file does not say")
    return {axis: boundaries.get(axis, "open") for axis in space}
