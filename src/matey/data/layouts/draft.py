"""Drafts the description of a file that no reader knows, by looking at it.

What arrays and their axes are called decides; where axes have no names, the lengths of
coordinates do; where there are none either, the number of axes. Everything that was assumed is
listed, for a person to check.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from matey.config import ArrayConfig, Axis, LayoutConfig
from matey.data.formats.container import Container
from matey.data.formats.encoding import number, text
from matey.data.formats.files import UnknownLayoutError, shown
from matey.data.layouts.draft_axes import ORDER, ArrayShape, Roles, axes_of, find_coordinates
from matey.fields import Variable

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
PARAMETERS = "Du Dv k gravity NU Nu eta zeta M beta rho Re Rem Bx"


@dataclass(frozen=True)
class Draft:
    """A description, and what was assumed to make it."""

    layout: LayoutConfig
    assumptions: tuple[str, ...]


def draft(file: Container) -> Draft | None:
    """A description of the file; None if it has no array that could be one over time and space.

    Raises UnknownLayoutError where its axes cannot be told.
    """
    stored = survey(file)
    coordinates = find_coordinates(stored)
    assumptions = left_complex(file)
    roles: dict[str, Roles] = {}
    candidates: list[str] = []
    for name, array in stored.items():
        if name in coordinates.values() or sum(size > 1 for size in array.shape) < 2:
            continue
        candidates.append(f"{name} of {array.shape} ({', '.join(array.dims) or 'no names'})")
        lengths = {axis: stored[c].shape[-1] for axis, c in coordinates.items()}
        its_axes = axes_of(array, lengths, name, assumptions)
        if its_axes is None:
            assumptions.append(f"{name} of shape {array.shape} is left out: its axes are unknown")
        else:
            roles[name] = its_axes
    space = widest(roles)
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
        parameters=find_parameters(file, stored),
    )
    return Draft(layout, tuple(dict.fromkeys(assumptions)))


def survey(file: Container) -> dict[str, ArrayShape]:
    """Arrays of numbers by name; groups that hold the same arrays are one, called `*`."""
    everything, groups = {}, defaultdict[str, dict[str, ArrayShape]](dict)
    for name in file.names():
        array = file.array(name)
        if array.dtype.kind in "fiub" and array.ndim:
            everything[name] = ArrayShape(tuple(array.shape), file.dims(name))
            group, _, rest = name.partition("/")
            if rest:
                groups[group][rest] = everything[name]
    contents = {
        tuple((name, len(a.shape)) for name, a in sorted(g.items())) for g in groups.values()
    }
    if len(groups) < 2 or len(contents) > 1:
        return everything
    alone = {name: array for name, array in everything.items() if "/" not in name}
    return alone | {f"*/{name}": array for name, array in groups[min(groups)].items()}


def left_complex(file: Container) -> list[str]:
    """A notice of complex arrays, which are left out."""
    names = [name for name in file.names() if file.array(name).dtype.kind == "c"]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    way_out = "store real and imaginary parts as two variables"
    return [f"{name}{more} of complex numbers left out: {way_out}" for name in names[:1]]


def first_of(file: Container, name: str) -> str:
    """The array that a name stands for, in the first group where it is in all of them."""
    if not name.startswith("*/"):
        return name
    return next(n for n in file.names() if n.endswith(name[1:]))


def widest(roles: Mapping[str, Roles]) -> tuple[Axis, ...]:
    """The axes of space of the array that changes in time and has the most of them."""
    over_time = (axes for axes in roles.values() if "time" in axes)
    spaces = (tuple(axis for axis in ORDER[1:] if axis in axes) for axes in over_time)
    return max(spaces, key=len, default=())


def describe(
    file: Container, name: str, roles: Roles, axes: Roles, space: tuple[Axis, ...]
) -> ArrayConfig:
    """One array: canonical names and units of what it holds."""
    first = first_of(file, name)
    attributes = file.attributes(first)
    pairs = zip(file.array(first).shape, roles, strict=True)
    sizes = [size for size, role in pairs if role == "component"]
    letters = "xyz"[: len(space)]
    stem = text(attributes.get("canonical_name", "")) or canonical(name, space)
    if all(size == 1 for size in sizes):
        variables: tuple[str, ...] = (stem,)
    elif all(size == len(space) for size in sizes):
        word = name.split("/")[-1].lower()
        stem = VECTORS.get(word.removesuffix("_field"), stem)
        variables = tuple(f"{stem}_{''.join(c)}" for c in product(letters, repeat=len(sizes)))
    else:
        stem = stem if stem[-2:] not in ("_x", "_y", "_z") else plain_name(name)
        variables = tuple(f"{stem}_{i}" for i in range(int(np.prod(sizes))))
    units = text(attributes.get("units", ""))
    return ArrayConfig(
        name,
        variables,
        units=(units,) if units else (),
        axes=roles if roles != axes else (),
        static=bool(number(attributes.get("static"))),
        pseudo=pseudo_of(variables, number(attributes.get("pseudo"))),
    )


def pseudo_of(
    variables: Sequence[str], written: float | None
) -> bool | tuple[bool | None, ...] | None:
    """Whether an array's variables are pseudo ones: as the file says, else by their names."""
    if written in (0, 1):
        return bool(written)
    turns = tuple(Variable(name).pseudo for name in variables)
    return turns[0] if len(set(turns)) == 1 else turns


def canonical(name: str, space: tuple[Axis, ...]) -> str:
    """The canonical name of an array; z is called y in a vertical section."""
    word = plain_name(name)
    canonical_name = NAME_OF.get(word, word)
    vertical = space == ("z", "x") and canonical_name.endswith("_z")
    return f"{canonical_name[:-2]}_y" if vertical else canonical_name


def plain_name(name: str) -> str:
    """An array's name as a variable's: small letters, digits and underscores."""
    word = re.sub(r"\W+", "_", name.split("/")[-1]).strip("_").lower()
    return word if re.match(r"[a-z]", word) else f"field_{word}"


def rename(array: ArrayConfig) -> ArrayConfig:
    """The same with the array's own name, with those of its groups, before each variable."""
    prefix, count = (
        canonical(array.array.replace("*/", "").replace("/", "_"), ()),
        len(array.variables),
    )
    variables = (prefix,) if count == 1 else tuple(f"{prefix}_{i}" for i in range(count))
    return replace(array, variables=variables)


def find_boundaries(
    file: Container, space: tuple[Axis, ...], assumptions: list[str]
) -> dict[str, str]:
    """Boundaries from attributes such as `boundary_x`; open where the file says nothing."""
    boundaries: dict[str, str] = {}
    for axis in space:
        words = text(file.attributes().get(f"boundary_{axis}", "")).lower().split()
        periodic = words.count("periodic") in (0, len(words))
        if len(words) in (1, 2) and set(words) <= {"periodic", "wall", "open"} and periodic:
            boundaries[axis] = " ".join(dict.fromkeys(words))
    unsaid = [axis for axis in space if axis not in boundaries]
    if unsaid:
        sides = ", ".join(unsaid)
        assumptions.append(f"the sides along {sides} are taken for open: the file does not say")
    return {axis: boundaries.get(axis, "open") for axis in space}


def find_parameters(file: Container, arrays: Mapping[str, ArrayShape]) -> dict[str, float | str]:
    """Attributes that are numbers, of the file or of every group that is a trajectory: known
    parameters, and in files of ours all of them."""
    attributes = file.attributes()
    if any(name.startswith("*/") for name in arrays):
        groups = {name.partition("/")[0] for name in file.names() if "/" in name}
        owners = [file.attributes(group) for group in sorted(groups)]
        attributes |= {k: v for k, v in owners[0].items() if all(k in o for o in owners)}
    ours = "system" in attributes
    values = {key: number(value) for key, value in attributes.items()}
    # By name, not by value: files of one system may differ.
    return {
        key: key
        for key, value in values.items()
        if value is not None
        and np.isfinite(value)
        and key != "dt"
        and (ours or key in PARAMETERS.split())
    }
