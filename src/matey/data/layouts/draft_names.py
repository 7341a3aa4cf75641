"""Names and units of the variables that the arrays of a file hold."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from matey.config import ArrayConfig, Axis
from matey.data.formats.container import Container
from matey.data.formats.encoding import number, text
from matey.data.layouts.draft_axes import Roles
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


def first_of(file: Container, name: str) -> str:
    """The array that a name stands for, in the first group where it is in all of them."""
    if not name.startswith("*/"):
        return name
    return next(n for n in file.names() if n.endswith(name[1:]))


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


def with_names_of_their_own(arrays: Sequence[ArrayConfig]) -> list[ArrayConfig]:
    """The arrays, where none has the variables of another. `u` beside `vx` is no velocity."""
    counts = Counter(v for array in arrays for v in array.variables)
    clash = [array for array in arrays if any(counts[v] > 1 for v in array.variables)]
    short = [array for array in clash if len(array.array.split("/")[-1]) == 1]
    rest = Counter(v for array in clash if array not in short for v in array.variables)
    if short and max(rest.values(), default=0) == 1:
        return [plainly_named(array) if array in short else array for array in arrays]
    return [rename(array) if array in clash else array for array in arrays]


def plainly_named(array: ArrayConfig) -> ArrayConfig:
    """The same, its variables called as in the file: nothing more is known of them."""
    variables = named_after(plain_name(array.array), len(array.variables))
    return replace(array, variables=variables, pseudo=pseudo_of(variables, None))


def rename(array: ArrayConfig) -> ArrayConfig:
    """The same with the array's own name, with those of its groups, before each variable."""
    prefix = canonical(array.array.replace("*/", "").replace("/", "_"), ())
    return replace(array, variables=named_after(prefix, len(array.variables)))


def named_after(prefix: str, count: int) -> tuple[str, ...]:
    """Names of so many variables."""
    return (prefix,) if count == 1 else tuple(f"{prefix}_{i}" for i in range(count))
