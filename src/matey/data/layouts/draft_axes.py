"""Tells the axes of an array by their names, else by the lengths of coordinates.

Where neither decides, every reading that the field uses is listed, for a person to choose from.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations, product
from typing import Literal

from matey.config import Axis
from matey.data.layouts.conventions import CLOCKS, NOT_POSITIONS, axis_of, plain_word

Roles = tuple[Axis, ...]
# `backwards`: reversed, as HDF5 lists those of MATLAB; `slowest first`: z, y, x.
Order = Literal["any", "backwards", "slowest first"]
SPACE: tuple[Axis, ...] = ("z", "y", "x")
ORDER: tuple[Axis, ...] = ("time", *SPACE)
LETTERS: dict[str, Axis] = {
    "n": "sample",
    "t": "time",
    "c": "component",
    "z": "z",
    "y": "y",
    "x": "x",
}
# In what orders arrays without names are stored; of the same length the likeliest first.
READINGS = (
    *("tx", "xt"),
    *("tyx", "ntx", "yxt", "tcx", "txc", "nxt"),
    *("ntyx", "tcyx", "tzyx", "tyxc", "ntcx", "ntxc", "nyxt", "zyxt", "cyxt"),
    *("ntcyx", "ntyxc", "ntzyx", "tczyx", "tzyxc", "nzyxt", "ncyxt"),
    *("ntczyx", "ntzyxc"),
)
STATIC = ("x", "yx", "zyx", "nx", "nyx", "nzyx")  # only where coordinates fit
FEW = 4  # an axis of up to so many entries is none of space, unless something says so
MANY = 128  # and one of more is none of components
LISTED = 4  # readings named in a doubt


@dataclass(frozen=True)
class ArrayShape:
    """The shape of an array of numbers, the names of its dimensions where the file has them, and
    the axes that these stand for."""

    shape: tuple[int, ...]
    dims: tuple[str, ...] = ()
    axes: tuple[Axis | None, ...] = ()

    @property
    def is_named(self) -> bool:
        """Whether the file says what any of its axes is."""
        return any(self.axes)


def find_coordinates(arrays: Mapping[str, ArrayShape]) -> dict[Axis, str]:
    """The array of positions along each axis, and of times, where arrays have no named axes; and
    where they do, the likeliest by its name: `t` before T, and before counters."""
    coordinates: dict[Axis, str] = {}

    def unlikely(pair: tuple[str, ArrayShape]) -> tuple[bool, bool, bool]:
        name, array = pair
        return plain_word(name) in CLOCKS, not is_vector(array.shape), is_temperature(name)

    for name, array in sorted(arrays.items(), key=unlikely):
        itself = array.dims == (name.split("/")[-1],)
        axis = array.axes[0] if itself else axis_of(name)
        flat = is_vector(array.shape) or (axis == "time" and are_times_of_samples(name, array))
        fits = len(array.dims) != 1 or array.axes[0] in (axis, None)
        may_be = itself or plain_word(name) not in NOT_POSITIONS
        if axis in ORDER and flat and fits and may_be:
            coordinates.setdefault(axis, name)
    return coordinates


def is_temperature(name: str) -> bool:
    """Whether an array is called T, which among fields is no time."""
    return name.split("/")[-1] == "T"


def are_times_of_samples(name: str, array: ArrayShape) -> bool:
    """Whether an array that is called as times are may hold those of each sample, of (sample,
    time): T of two axes is a temperature, and what lies along an axis of space a field."""
    two = len(array.shape) == 2 and not is_vector(array.shape)
    return two and not is_temperature(name) and not {*array.axes} & {*SPACE}


def is_vector(shape: Sequence[int]) -> bool:
    """Whether an array has one axis, or a second one of a single entry, as in MATLAB."""
    return len(shape) == 1 or (len(shape) == 2 and 1 in shape and max(shape) > 1)


def axes_of(
    array: ArrayShape,
    lengths: Mapping[Axis, int],
    name: str,
    assumptions: list[str],
    doubts: list[str],
    order: Order = "any",
    largest: bool = False,
) -> Roles | None:
    """The axes of an array; None if they cannot be told. A z of one point is `single`.

    `lengths` are those of coordinates. What one reading alone fits joins the `assumptions`; where
    several fit, the first is taken, and the `doubts` name all of them. `order` says in what order
    the program that wrote the file lists axes, where that is known. The `largest` array is one over
    time.
    """
    shape = array.shape
    named = array.axes or (None,) * len(shape)
    if all(named):
        roles = distinct([axis for axis in named if axis])
        return as_single(roles, shape) if roles else None
    readings = list(dict.fromkeys(fitting(shape, named, lengths, order == "backwards")))
    if largest:
        readings = [r for r in readings if "time" in r] or readings
    if order == "slowest first":
        readings = [r for r in readings if in_order(r)] or readings
    # Those that most coordinates fit, to the entry.
    used = [
        sum(lengths.get(axis) == size for axis, size in zip(reading, shape, strict=True))
        for reading in readings
    ]
    readings = [r for r, count in zip(readings, used, strict=True) if count == max(used)]
    if not readings:
        return None
    roles = readings[0]
    if len(readings) > 1:
        listing = [f"[{', '.join(reading)}]" for reading in readings]
        more = f" or {len(listing) - LISTED} more" if len(listing) > LISTED else ""
        doubts.append(
            f"{name} of shape {shape} may be {' or '.join(listing[:LISTED])}{more}: nothing in the "
            "file decides"
        )
    elif not all(axis in lengths or axis in named for axis in roles if axis != "single"):
        assumptions.append(f"the axes of {name} {shape} are taken for {', '.join(roles)}")
    return as_single(roles, shape)


def in_order(roles: Roles) -> bool:
    """Whether axes of space run z, y, x."""
    space = [axis for axis in roles if axis in SPACE]
    return space == [axis for axis in SPACE if axis in space]


def as_single(roles: Roles, shape: Sequence[int]) -> Roles:
    """The axes, with a z of one point beside y or x as none of space."""
    if not {"y", "x"} & set(roles):
        return roles
    pairs = zip(roles, shape, strict=True)
    return tuple("single" if pair == ("z", 1) else pair[0] for pair in pairs)


def distinct(axes: Sequence[Axis]) -> Roles | None:
    """The axes, unless one stands twice; of components and axes of one entry there may be two."""
    once = [axis for axis in axes if axis not in ("single", "component")]
    return tuple(axes) if len(set(once)) == len(once) else None


def fitting(
    shape: tuple[int, ...],
    named: Sequence[Axis | None],
    lengths: Mapping[Axis, int],
    backwards: bool,
) -> Iterator[Roles]:
    """The readings of an array that agree with its named axes and the lengths of coordinates."""
    single = {
        place
        for place, (size, axis) in enumerate(zip(shape, named, strict=True))
        if size == 1 and axis is None
    }
    places = [place for place in range(len(shape)) if place not in single]
    for reading in candidates(len(places), lengths, named):
        order = reverse(reading, lengths, named) if backwards else reading
        roles: list[Axis] = ["single"] * len(shape)
        for place, axis in zip(places, order, strict=True):
            roles[place] = axis
        if all(
            may_be(axis, size, given, lengths)
            for axis, size, given in zip(roles, shape, named, strict=True)
        ):
            yield tuple(roles)


def reverse(reading: Roles, lengths: Mapping[Axis, int], named: Sequence[Axis | None]) -> Roles:
    """A reading backwards; axes of space that nothing tells apart stay z, y, x: a program that
    starts with x has its arrays listed with x last."""
    space = [axis for axis in reading if axis in SPACE]
    if {*lengths, *named} >= set(space):
        return reading[::-1]
    rest = iter(space)
    return tuple(next(rest) if axis in SPACE else axis for axis in reading[::-1])


def candidates(
    rank: int, lengths: Mapping[Axis, int], named: Sequence[Axis | None]
) -> Iterator[Roles]:
    """All orders of so many axes that arrays are stored in; axes of space in any order where names
    or coordinates tell them apart."""
    told = {*lengths, *(axis for axis in named if axis)}
    for letters in (*READINGS, *STATIC):
        if len(letters) != rank:
            continue
        count = sum(letter in "zyx" for letter in letters)
        for space in spaces(count, told):
            told_apart = told >= set(space)
            if letters in STATIC and not told_apart:
                continue
            for order in permutations(space) if told_apart else [space]:
                rest = iter(order)
                yield tuple(next(rest) if c in "zyx" else LETTERS[c] for c in letters)


def spaces(count: int, told: Collection[Axis]) -> list[Roles]:
    """Which axes of space so many may be, slowest first: those that are told, then x, y, z."""
    here = [axis for axis in SPACE if axis in told]
    if len(here) >= count:
        return list(combinations(here, count))
    more = [axis for axis in reversed(SPACE) if axis not in told][: count - len(here)]
    return [tuple(axis for axis in SPACE if axis in {*here, *more})]


def may_be(axis: Axis, size: int, given: Axis | None, lengths: Mapping[Axis, int]) -> bool:
    """Whether an axis of an array with so many entries may be this one."""
    if given is not None or axis == "single":
        return given in (axis, None)
    if axis in lengths:
        return size == lengths[axis] or (axis == "time" and size + 1 == lengths[axis])
    if axis == "component":
        return size <= MANY
    return size > FEW or axis in ("sample", "time")


def like(shape: tuple[int, ...], main: tuple[int, ...], roles: Roles) -> Roles | None:
    """The axes of an array without names that has some of those of a larger one, in its order; None
    if none fit or several do."""
    fits = set()
    for keep in product((True, False), repeat=len(main)):
        kept = [place for place, kept in enumerate(keep) if kept]
        if tuple(main[place] for place in kept) == shape:
            fits.add(tuple(roles[place] for place in kept))
    return fits.pop() if len(fits) == 1 else None
