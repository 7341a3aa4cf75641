"""Tells the axes of an array by their names, else by the lengths of coordinates, else by their
number.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from matey.config import Axis

Roles = tuple[Axis, ...]

AXES: dict[Axis, str] = {
    "sample": "n sample samples trajectory trajectories run runs batch member ensemble "
    "realization realisation simulation case",
    "time": "t time times step steps frame frames timestep",
    "z": "z lev level levels plev pressure_level isobaric isobaricinhpa depth altitude bottom_top "
    "nz",
    "y": "y lat latitude south_north row rows ny",
    "x": "x lon long longitude west_east col cols column columns nx",
    "component": "c channel channels component components comp variable variables field fields",
}
AXIS_OF: dict[str, Axis] = {word: axis for axis, words in AXES.items() for word in words.split()}
ORDER: tuple[Axis, ...] = ("time", "z", "y", "x")
BY_RANK: dict[int, Roles] = {
    2: ("time", "x"),
    3: ("time", "y", "x"),
    4: ("sample", "time", "y", "x"),
    5: ("sample", "time", "z", "y", "x"),
}
FEW = 4  # axes of up to so many entries may be components


@dataclass(frozen=True)
class ArrayShape:
    """The shape of an array of numbers, and the names of its axes where the file has them."""

    shape: tuple[int, ...]
    dims: tuple[str, ...]


def axis_of(name: str) -> Axis | None:
    """The axis that a name stands for: `x`, `lon`, `x-coordinate`, `grid/t`, `time_axis`."""
    word = name.split("/")[-1].lower()
    word = re.sub(r"[-_ ]?(coordinates?|coords?|centers?|centres?|axis|values?)$", "", word)
    return AXIS_OF.get(word)


def axes_named(dims: Sequence[str]) -> list[Axis | None]:
    """The axes that the names of an array's dimensions stand for.

    `height` is a variable elsewhere; among dimensions it is y beside `width`, as in images, else z.
    """
    words = [dim.lower() for dim in dims]
    image: dict[str, Axis] = {"height": "y" if "width" in words else "z", "width": "x"}
    return [image.get(word) or axis_of(word) for word in words]


def find_coordinates(arrays: Mapping[str, ArrayShape]) -> dict[Axis, str]:
    """The array of positions along each axis, and of times."""
    coordinates: dict[Axis, str] = {}
    for name, array in arrays.items():
        axis = axes_named(array.dims)[0] if array.dims == (name,) else axis_of(name)
        flat = len(array.shape) == 1 or (axis == "time" and len(array.shape) == 2)
        fits = len(array.dims) != 1 or axes_named(array.dims)[0] in (axis, None)
        if axis in ("time", "z", "y", "x") and flat and fits:
            coordinates.setdefault(axis, name)
    return coordinates


def axes_of(
    array: ArrayShape, lengths: Mapping[Axis, int], name: str, assumptions: list[str]
) -> Roles | None:
    """The axes of an array; None if they cannot be told. A z of one point is `single`."""
    shape = array.shape
    named = axes_named(array.dims) if array.dims else [None] * len(shape)
    roles: Roles | None
    if any(named) or set(lengths.values()) & set(shape):
        roles = axes_by_length(shape, lengths, name, assumptions, named)
    else:
        roles = BY_RANK.get(len(shape))
        if len(shape) > 3 and shape[-1] <= FEW and len(shape) - 1 in BY_RANK:
            roles = (*BY_RANK[len(shape) - 1], "component")
        if roles:
            assumptions.append(f"the axes of {name} {shape} are taken for {', '.join(roles)}")
    if roles and {"y", "x"} & set(roles):
        pairs = zip(roles, shape, strict=True)
        return tuple("single" if pair == ("z", 1) else pair[0] for pair in pairs)
    return roles


def distinct(roles: Iterable[Axis]) -> Roles | None:
    """The axes, unless one stands twice; of components and axes of one entry there may be two."""
    axes = tuple(roles)
    once = [role for role in axes if role not in ("single", "component")]
    return axes if len(set(once)) == len(once) else None


def axes_by_length(
    shape: tuple[int, ...],
    lengths: Mapping[Axis, int],
    name: str,
    assumptions: list[str],
    named: Sequence[Axis | None],
) -> Roles | None:
    """Axes by their names, else by the coordinates that are as long; of equally long ones in the
    order t z y x.

    Axes without a coordinate are samples or times before the others, and space after time. Where
    one is called time, no other becomes it.
    """
    roles = list(named)
    for place, size in enumerate(shape):
        if roles[place]:
            continue
        fitting = [axis for axis in ORDER if lengths.get(axis) == size and axis not in roles]
        if len(fitting) > 1:
            assumptions.append(
                f"axes of {size} entries of {name} are taken for {', '.join(fitting)} in this order"
            )
        roles[place] = fitting[0] if fitting else "single" if size == 1 else None
    if roles[-1] is None and shape[-1] <= FEW and len(shape) > 2:
        roles[-1] = "component"
    unknown = [place for place, role in enumerate(roles) if role is None]
    if not unknown:
        return distinct(role for role in roles if role)
    placed = [place for place, role in enumerate(roles) if role in ORDER]
    before = [place for place in unknown if place < min(placed, default=0)]
    after = [place for place in unknown if place not in before]
    if "time" not in roles and before:
        roles[before.pop()] = "time"
    if before and "sample" not in roles:
        roles[before.pop()] = "sample"
    if after and len(after) <= 3 and not {"z", "y", "x"} & set(roles):
        for place, axis in zip(after, ORDER[-len(after) :], strict=True):
            roles[place] = axis
    axes = distinct(role for role in roles if role)
    if axes is None or len(axes) < len(roles):
        return None
    assumptions.append(f"the axes of {name} {shape} are taken for {', '.join(axes)}")
    return axes
