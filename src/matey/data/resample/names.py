"""Canonical names of the variables that simulation programs write."""

import re
from collections import Counter
from collections.abc import Sequence

from matey.data.layouts.described import tensor_axes
from matey.data.layouts.draft_names import NAME_OF, plain_name
from matey.fields import Variable

VECTORS = {
    "vel velocity v u": "velocity",
    "mag b magnetic magnetic_field bfield": "magnetic",
    "mom momentum momentum_density": "momentum",
}
VECTOR_OF = {word: name for words, name in VECTORS.items() for word in words.split()}
NUMBERED = {"1": "x", "2": "y", "3": "z"}  # velocity_1
BEHIND = re.compile(r"(?P<stem>[a-z_]+?)_?(?P<axis>[xyz]|(?<=[a-z]{2})[123]|(?<=_)[123])")
BEFORE = re.compile(r"(?P<axis>[xyz])_(?P<stem>[a-z_]+)")
PREFIX = re.compile(r"(prim|cons)_(?=.)")  # Parthenon's kinds of variables


def variables(names: Sequence[str], units: Sequence[str], axes: Sequence[str]) -> list[Variable]:
    """Variables by their names in a file.

    Of the `axes` of the fields, slowest first, the last is called x in components, the one before
    it y.
    """
    others = [axis for axis in "xyz" if axis not in axes]
    turned = dict(zip([*reversed(axes), *others], "xyz", strict=False))
    short = [canonical(PREFIX.sub("", plain_name(name)), turned) for name in names]
    counts = Counter(short)
    long = [canonical(plain_name(name), turned) for name in names]
    chosen = [s if counts[s] == 1 else n for s, n in zip(short, long, strict=True)]
    if len(set(chosen)) < len(chosen):
        chosen = [plain_name(name.replace("/", "_")) for name in names]
    return [
        Variable(new, unit, tensor_axes(new), alias=name)
        for new, unit, name in zip(chosen, units, names, strict=True)
    ]


def canonical(word: str, turned: dict[str, str]) -> str:
    """The canonical name of a variable, its axis as the fields have it."""
    for pattern in (BEFORE, BEHIND):
        found = pattern.fullmatch(word)
        if found and found["stem"] in VECTOR_OF:
            axis = NUMBERED.get(found["axis"], found["axis"])
            return f"{VECTOR_OF[found['stem']]}_{turned.get(axis, axis)}"
    name = NAME_OF.get(word, word)
    stem, _, ending = name.rpartition("_")
    letters = set(ending) <= set("xyz") and 0 < len(ending) <= 2
    return (
        f"{stem}_{''.join(turned.get(axis, axis) for axis in ending)}" if stem and letters else name
    )
