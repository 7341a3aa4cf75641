"""Names and units of the variables that the arrays of a file hold, and the numbers beside them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import product
from math import prod

import numpy as np

from matey.config import ArrayConfig, Axis
from matey.data.formats import files
from matey.data.formats.container import Container
from matey.data.formats.encoding import number, text
from matey.data.layouts.conventions import CLOCKS, axis_of, plain_word, words
from matey.data.layouts.draft_axes import ArrayShape, Roles
from matey.errors import MateyError
from matey.fields import Variable
from matey.fields.quantities import PSEUDOVECTORS, TRUE_VECTORS

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
PARAMETERS = words("Du Dv k gravity NU Nu eta zeta M beta rho Re Rem Bx")
DESCRIBED = words("units standard_name long_name grid_mapping_name axis")  # attributes of others
# An array that is called after one of these has components.
VECTOR_WORDS = words(f"{TRUE_VECTORS} {PSEUDOVECTORS} velocities wind winds uv displacement flux")
# Axes so called hold variables one after the other, no components.
CHANNELS = words("channel channels variable variables field fields")


def first_of(file: Container, name: str) -> str:
    """The array that a name stands for, in the first group where it is in all of them."""
    if not name.startswith("*/"):
        return name
    return next(n for n in file.names() if n.endswith(name[1:]))


def describe(
    file: Container,
    name: str,
    roles: Roles,
    axes: Roles,
    space: tuple[Axis, ...],
    assumptions: list[str],
) -> ArrayConfig:
    """One array: canonical names and units of what it holds. Several variables are called as the
    file labels them, else they are components of a vector, else numbered."""
    first = first_of(file, name)
    attributes = file.attributes(first)
    pairs = zip(file.array(first).shape, roles, strict=True)
    sizes = [size for size, role in pairs if role == "component"]
    letters = "xyz"[: len(space)]
    stem = text(attributes.get("canonical_name", "")) or canonical(name, space)
    labels = labels_along(file, first, roles.index("component")) if len(sizes) == 1 else []
    word = name.split("/")[-1].lower().removesuffix("_field")
    variables: tuple[str, ...]
    if labels and not {*labels} <= {*"xyz"}:
        variables = named_by(labels, space)
    elif all(size == 1 for size in sizes):
        variables = (stem,)
    elif all(size == len(space) for size in sizes) and not are_channels(file, first, roles, word):
        if len(sizes) == 1 and not labels and not is_vectors(word):
            assumptions.append(
                f"the {len(space)} entries of {name} are taken for the components of a vector "
                f"along {', '.join(letters)}"
            )
        stem = VECTORS.get(word, stem)
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


def is_vectors(word: str) -> bool:
    """Whether an array of this name, in small letters, holds a vector."""
    return word in VECTORS or bool({*re.split("[^a-z]+", word)} & VECTOR_WORDS)


def are_channels(file: Container, name: str, roles: Roles, word: str) -> bool:
    """Whether the axis of components is called as one of variables, and nothing says vector."""
    dims = file.dims(name)
    called = plain_word(dims[roles.index("component")]) if dims else ""
    return called in CHANNELS and not is_vectors(word)


def labels_along(file: Container, name: str, place: int) -> list[str]:
    """What a file calls the entries of an axis, by texts along it, or of its name where axes have
    none; empty where it calls them nothing."""
    size, dims = file.array(name).shape[place], file.dims(name)
    dim, group = dims[place] if dims else "", name.rpartition("/")[0]
    for other in file.names():
        array = file.array(other)
        if array.dtype.kind not in "SUOT" or tuple(array.shape[:1]) != (size,):
            continue
        along = file.dims(other)[:1] == (dim,) if dim else axis_of(other) == "component"
        if not along or other.rpartition("/")[0] not in ("", group):
            continue
        with suppress(MateyError, ValueError):  # of objects that would have to be unpickled
            rows = np.ma.filled(array[:], b"") if array.dtype.kind == "S" else np.asarray(array[:])
            if rows.dtype.kind == "S" and rows.ndim > 1:  # the characters of NetCDF
                rows = np.array([b"".join(row) for row in rows.reshape(size, -1)])
            labels = [text(entry).strip("\0 ") for entry in rows.reshape(-1)]
            if len(set(labels)) == size and all(re.search("[^0-9.]", label) for label in labels):
                return labels
    return []


def named_by(labels: Sequence[str], space: tuple[Axis, ...]) -> tuple[str, ...]:
    """Variables by their labels: by canonical names, where these differ."""
    names = tuple(canonical(label.replace("/", "_"), space) for label in labels)
    plain = tuple(plain_name(label.replace("/", "_")) for label in labels)
    kept = next((each for each in (names, plain) if len(set(each)) == len(labels)), None)
    return kept or tuple(f"{name}_{i}" for i, name in enumerate(plain))


def numbers_beside(file: Container, arrays: Mapping[str, ArrayShape]) -> dict[str, list[str]]:
    """The arrays of one entry, by name; where groups are trajectories, those that all have are one:
    `*/Re`."""
    grouped = any(name.startswith("*/") for name in arrays)
    groups = {name.partition("/")[0] for name in file.names() if "/" in name}
    numbers: dict[str, list[str]] = {}
    for name in file.names():
        array = file.array(name)
        if array.dtype.kind in "fiu" and prod(array.shape) == 1:
            rest = name.partition("/")[2]
            numbers.setdefault(f"*/{rest}" if grouped and rest else name, []).append(name)
    return {k: its for k, its in numbers.items() if k[0] != "*" or len(its) == len(groups)}


def time_step(
    file: Container, numbers: Mapping[str, Sequence[str]], assumptions: list[str]
) -> float:
    """The time between frames where no times are stored: the attribute or the number dt, else 1."""
    stated = number(file.attributes().get("dt"))
    if stated and stated > 0:
        return stated
    names = [name for key, its in numbers.items() if key.split("/")[-1] == "dt" for name in its]
    steps = {
        float(files.read_coordinate(file.array(name), file.path, name).reshape(-1)[0])
        for name in names
    }
    dt = steps.pop() if len(steps) == 1 else 0.0
    if 0 < dt < np.inf:
        assumptions.append(
            f"frames are taken to be {dt:g} apart, as {names[0]} says, which may be the step of a "
            "solver that wrote fewer frames"
        )
        return dt
    assumptions.append("no times are stored, so that a frame is one unit of time")
    return 1.0


def find_parameters(
    file: Container,
    arrays: Mapping[str, ArrayShape],
    numbers: Mapping[str, Sequence[str]],
    assumptions: list[str],
) -> dict[str, float | str]:
    """Attributes that are numbers, of the file or of every group that is a trajectory, and numbers
    beside arrays: known parameters, and in files of ours all attributes. Other numbers that nothing
    describes are said to be unused."""
    attributes = file.attributes()
    if any(name.startswith("*/") for name in arrays):
        groups = {name.partition("/")[0] for name in file.names() if "/" in name}
        owners = [file.attributes(group) for group in sorted(groups)]
        attributes |= {k: v for k, v in owners[0].items() if all(k in o for o in owners)}
    ours = "system" in attributes
    values = {key: number(value) for key, value in attributes.items()}
    # By name, not by value: files of one system may differ.
    parameters: dict[str, float | str] = {
        key: key
        for key, value in values.items()
        if value is not None and np.isfinite(value) and key != "dt" and (ours or key in PARAMETERS)
    }
    last = Counter(key.split("/")[-1] for key in numbers)
    stored = {key.split("/")[-1]: key for key in numbers}
    parameters |= {word: stored[word] for word in stored if word in PARAMETERS and last[word] == 1}
    unused = [
        key.removeprefix("*/")
        for key, (first, *_) in numbers.items()
        if key not in parameters.values() and is_bare(file, key, first)
    ]
    if unused:
        assumptions.append(
            f"the numbers {', '.join(unused)} are not used: those that are parameters of the "
            "equations belong into `parameters`"
        )
    return parameters


def is_bare(file: Container, key: str, name: str) -> bool:
    """Whether a number at the top of a file, or of each group, may be anything: neither its name
    nor an attribute says that it is a coordinate."""
    word = key.removeprefix("*/")
    known = axis_of(word) is not None or plain_word(word) in CLOCKS or word == "dt"
    return not known and "/" not in word and not DESCRIBED & {*file.attributes(name)}


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
    stems = {variable.rpartition("_")[0] for variable in array.variables}
    if len(array.variables) > 1 and (len(stems) > 1 or stems == {""}):  # labels, no components
        return replace(array, variables=tuple(f"{prefix}_{v}" for v in array.variables))
    return replace(array, variables=named_after(prefix, len(array.variables)))


def named_after(prefix: str, count: int) -> tuple[str, ...]:
    """Names of so many variables."""
    return (prefix,) if count == 1 else tuple(f"{prefix}_{i}" for i in range(count))
