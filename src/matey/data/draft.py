"""Drafts the description of a file that no reader knows, by looking at it.

What arrays and their axes are called decides; where axes have no names, the lengths of
coordinates do; where there are none either, the number of axes. Everything that was assumed is
listed, for a person to check.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from matey.config import ArrayConfig, Axis, LayoutConfig
from matey.data.containers import Container
from matey.data.packing import number, text

Roles = tuple[Axis, ...]

AXES: dict[Axis, str] = {
    "sample": "n sample samples trajectory trajectories run runs batch member ensemble "
    "realization realisation simulation case",
    "time": "t time times step steps frame frames timestep",
    "z": "z lev level depth altitude nz",
    "y": "y lat latitude ny",
    "x": "x lon long longitude nx",
    "component": "c channel channels component components comp variable field",
}
AXIS_OF: dict[str, Axis] = {word: axis for axis, words in AXES.items() for word in words.split()}
ORDER: tuple[Axis, ...] = ("time", "z", "y", "x")
BY_RANK: dict[int, Roles] = {
    2: ("time", "x"),
    3: ("time", "y", "x"),
    4: ("sample", "time", "y", "x"),
    5: ("sample", "time", "z", "y", "x"),
}
CANONICAL = {
    "velocity_x": "u vx velx uwnd x_velocity velocity_x",
    "velocity_y": "v vy vely vwnd y_velocity velocity_y",
    "velocity_z": "w vz velz wwnd z_velocity velocity_z",
    "density": "rho dens density",
    "pressure": "p pres press pressure",
    "temperature": "temp temperature",
    "potential_temperature": "theta potential_temperature",
    "magnetic_x": "bx magnetic_x",
    "magnetic_y": "by magnetic_y",
    "magnetic_z": "bz magnetic_z",
    "height": "h height",
}
NAME_OF = {word: name for name, words in CANONICAL.items() for word in words.split()}
VECTORS = {"vel": "velocity", "u": "velocity", "v": "velocity", "b": "magnetic", "f": "force"}
PARAMETERS = [
    "Du",
    "Dv",
    "k",
    "gravity",
    "NU",
    "Nu",
    "eta",
    "zeta",
    "M",
    "beta",
    "rho",
    "Re",
    "Rem",
    "Bx",
]
FEW = 4  # axes of up to so many entries may be components


@dataclass(frozen=True)
class Draft:
    """A description, and what was assumed to make it."""

    layout: LayoutConfig
    assumptions: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """An array of numbers: its shape, what its axes are called, where the file says so."""

    shape: tuple[int, ...]
    dims: tuple[str, ...]


def draft(file: Container) -> Draft | None:
    """A description of the file; None if it has no array over time and space."""
    found = survey(file)
    coordinates = find_coordinates(found)
    assumptions: list[str] = []
    roles: dict[str, Roles] = {}
    for name, array in found.items():
        if name in coordinates.values() or sum(size > 1 for size in array.shape) < 2:
            continue
        lengths = {axis: found[c].shape[-1] for axis, c in coordinates.items()}
        known = axes_of(array, lengths, name, assumptions)
        if known is None:
            assumptions.append(f"{name} of shape {array.shape} is left out: its axes are unknown")
        else:
            roles[name] = known
    space = widest(roles)
    if not space:
        return None
    kept = {}
    for name, known in roles.items():
        here = {axis for axis in known if axis in ("z", "y", "x")}
        if here == set(space):
            kept[name] = known
        else:
            assumptions.append(
                f"{name} is left out: it does not lie on the axes {', '.join(space)}"
            )
    axes = Counter(kept.values()).most_common(1)[0][0]
    arrays = [describe(file, name, r, axes, space) for name, r in kept.items()]
    names = Counter(v for array in arrays for v in array.variables)
    if max(names.values()) > 1:
        arrays = [rename(array) for array in arrays]
    time, dt = coordinates.get("time", ""), number(file.attributes().get("dt"))
    if not time and not (dt and dt > 0):
        assumptions.append("no times are stored, so that a frame is one unit of time")
    layout = LayoutConfig(
        axes=axes,
        arrays=tuple(arrays),
        time=time,
        dt=dt if not time and dt and dt > 0 else 1.0,
        coordinates={axis: coordinates[axis] for axis in space if axis in coordinates},
        boundaries=find_boundaries(file, space, assumptions),
        parameters=find_parameters(file, found),
    )
    return Draft(layout, tuple(dict.fromkeys(assumptions)))


def survey(file: Container) -> dict[str, Found]:
    """Arrays of numbers by name; groups that hold the same arrays are one, called `*`."""
    everything = {}
    for name in file.names():
        array = file.array(name)
        if array.dtype.kind in "fiub" and array.ndim:
            everything[name] = Found(tuple(array.shape), file.dims(name))
    groups: dict[str, dict[str, Found]] = {}
    for name, array in everything.items():
        group, _, rest = name.partition("/")
        if rest:
            groups.setdefault(group, {})[rest] = array
    contents = {
        tuple((name, len(a.shape)) for name, a in sorted(g.items())) for g in groups.values()
    }
    if len(groups) < 2 or len(contents) > 1:
        return everything
    alone = {name: array for name, array in everything.items() if "/" not in name}
    return alone | {f"*/{name}": array for name, array in groups[min(groups)].items()}


def axis_of(name: str) -> Axis | None:
    """The axis that a name stands for: `x`, `lon`, `x-coordinate`, `grid/t`, `time_axis`."""
    word = name.split("/")[-1].lower()
    word = re.sub(r"[-_ ]?(coordinates?|coords?|centers?|centres?|axis|values?)$", "", word)
    return AXIS_OF.get(word)


def find_coordinates(found: Mapping[str, Found]) -> dict[Axis, str]:
    """The array of positions along each axis, and of times."""
    coordinates: dict[Axis, str] = {}
    for name, array in found.items():
        axis = axis_of(name)
        flat = len(array.shape) == 1 or (axis == "time" and len(array.shape) == 2)
        own = len(array.dims) != 1 or axis_of(array.dims[0]) in (axis, None)
        if axis in ("time", "z", "y", "x") and flat and own:
            coordinates.setdefault(axis, name)
    return coordinates


def axes_of(
    array: Found, lengths: Mapping[Axis, int], name: str, assumptions: list[str]
) -> Roles | None:
    """What the axes of an array are; None if that cannot be told."""
    if array.dims:
        named = [axis_of(dim) for dim in array.dims]
        known = tuple(axis for axis in named if axis)
        if len(known) == len(named) and len(set(known)) == len(known):
            return known
    shape = array.shape
    if set(lengths.values()) & set(shape):
        return axes_by_length(shape, lengths, name, assumptions)
    roles: Roles | None = BY_RANK.get(len(shape))
    if len(shape) > 3 and shape[-1] <= FEW and len(shape) - 1 in BY_RANK:
        roles = (*BY_RANK[len(shape) - 1], "component")
    if roles:
        assumptions.append(f"the axes of {name} {shape} are taken for {', '.join(roles)}")
    return roles


def axes_by_length(
    shape: tuple[int, ...], lengths: Mapping[Axis, int], name: str, assumptions: list[str]
) -> Roles | None:
    """Axes by the coordinates that are as long; of equally long ones in the order t z y x.

    Axes without a coordinate are samples or times before the others, and space after time.
    """
    roles: list[Axis | None] = []
    for size in shape:
        fitting = [axis for axis in ORDER if lengths.get(axis) == size and axis not in roles]
        if len(fitting) > 1:
            assumptions.append(
                f"axes of {size} entries of {name} are taken for {', '.join(fitting)} in this order"
            )
        roles.append(fitting[0] if fitting else "single" if size == 1 else None)
    if roles[-1] is None and shape[-1] <= FEW and len(shape) > 2:
        roles[-1] = "component"
    unknown = [place for place, role in enumerate(roles) if role is None]
    if not unknown:
        return tuple(role for role in roles if role)
    known = [place for place, role in enumerate(roles) if role in ORDER]
    before = [place for place in unknown if place < min(known, default=0)]
    after = [place for place in unknown if place not in before]
    if "time" not in roles and before:
        roles[before.pop()] = "time"
    if before:
        roles[before.pop()] = "sample"
    if after and len(after) <= 3 and not {"z", "y", "x"} & set(roles):
        for place, axis in zip(after, ORDER[-len(after) :], strict=True):
            roles[place] = axis
    found = tuple(role for role in roles if role)
    if len(found) < len(roles):
        return None
    assumptions.append(f"the axes of {name} {shape} are taken for {', '.join(found)}")
    return found


def widest(roles: Mapping[str, Roles]) -> tuple[Axis, ...]:
    """The axes of space of the array that changes in time and has the most of them."""
    over_time = [known for known in roles.values() if "time" in known]
    spaces = [tuple(axis for axis in ORDER[1:] if axis in known) for known in over_time]
    return max(spaces, key=len, default=())


def describe(
    file: Container, name: str, roles: Roles, axes: Roles, space: tuple[Axis, ...]
) -> ArrayConfig:
    """One array: canonical names and units of what it holds."""
    first = name
    if name.startswith("*/"):
        first = next(n for n in file.names() if n.endswith(name[1:]))
    attributes = file.attributes(first)
    static = bool(number(attributes.get("static", 0)) or False)
    sizes = [
        size
        for size, role in zip(file.array(first).shape, roles, strict=True)
        if role == "component"
    ]
    letters = "xyz"[: len(space)]
    stem = text(attributes.get("canonical_name", "")) or canonical(name, space)
    if all(size == 1 for size in sizes):
        variables: tuple[str, ...] = (stem,)
    elif all(size == len(space) for size in sizes):
        word = name.split("/")[-1].lower()
        stem = VECTORS.get(word.removesuffix("_field"), stem)
        variables = tuple(f"{stem}_{''.join(c)}" for c in product(letters, repeat=len(sizes)))
    else:
        variables = tuple(f"{stem}_{i}" for i in range(int(np.prod(sizes))))
    units = text(attributes.get("units", ""))
    return ArrayConfig(
        name, variables, (units,) if units else (), roles if roles != axes else (), static
    )


def canonical(name: str, space: tuple[Axis, ...]) -> str:
    """The canonical name of an array; z is called y in a vertical section."""
    word = re.sub(r"\W+", "_", name.split("/")[-1]).strip("_")
    found = NAME_OF.get(word.lower(), word.lower())
    if space == ("z", "x") and found.endswith("_z"):
        found = f"{found[:-2]}_y"
    return found if re.match(r"[a-z]", found) else f"field_{found}"


def rename(array: ArrayConfig) -> ArrayConfig:
    """The same with the array's own name, with those of its groups, before each variable."""
    prefix = canonical(array.array.replace("*/", "").replace("/", "_"), ())
    variables = tuple(f"{prefix}_{i}" for i in range(len(array.variables)))
    return ArrayConfig(
        array.array,
        variables if len(variables) > 1 else (prefix,),
        array.units,
        array.axes,
        array.static,
    )


def find_boundaries(
    file: Container, space: tuple[Axis, ...], assumptions: list[str]
) -> dict[str, str]:
    """Boundaries from attributes such as `boundary_x`; open where the file says nothing."""
    attributes = file.attributes()
    found: dict[str, str] = {}
    unsaid: list[str] = []
    for axis in space:
        words = text(attributes.get(f"boundary_{axis}", "")).lower().split()
        periodic = words.count("periodic") in (0, len(words))
        fits = len(words) in (1, 2) and set(words) <= {"periodic", "wall", "open"} and periodic
        found[axis] = " ".join(dict.fromkeys(words)) if fits else "open"
        if not fits:
            unsaid.append(axis)
    if unsaid:
        sides = ", ".join(unsaid)
        assumptions.append(f"the sides along {sides} are taken for open: the file does not say")
    return found


def find_parameters(file: Container, found: Mapping[str, Found]) -> dict[str, float | str]:
    """Attributes that are numbers: known parameters, and in files of ours all of them."""
    attributes = file.attributes()
    ours = "system" in attributes
    values = {key: number(value) for key, value in attributes.items()}
    known = {
        key: value
        for key, value in values.items()
        if value is not None and np.isfinite(value) and (ours or key in PARAMETERS)
    }
    if any(name.startswith("*/") for name in found):
        return {}
    # By name where the file has it: files of one system may differ.
    return {key: key for key in known if key != "dt"}
