"""Reads plot files and checkpoints of FLASH: blocks of one size in a tree, of which leaves count.

Source: FLASH4 user's guide, section 9.9, https://flash.rochester.edu/site/flashcode/user_support;
https://flash-x.github.io/Flash-X-docs/IO.html
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from matey.data.formats.encoding import text
from matey.data.formats.files import log, shown
from matey.data.formats.hdf5 import member, open_hdf5
from matey.data.resample.blocks import Block, average, even_edges
from matey.data.resample.frames import Frame, Target, Values, side
from matey.errors import DataError

LEAF = 1  # node type
BOUNDS = ("xl", "xr", "yl", "yr", "zl", "zr")


def recognise(file: h5py.File) -> bool:
    """Whether an HDF5 file is one of FLASH that holds blocks."""
    return "unknown names" in file and "bounding box" in file and "node type" in file


def frames(path: Path) -> list[Frame]:
    """The one time of a file."""
    with closing(open_hdf5(path)) as file:
        names = [text(name).strip() for name in np.ravel(member(file, "unknown names")[()])]
        scalars = listing(file, "real scalars") | listing(file, "integer scalars")
        numbers = listing(file, "real runtime parameters")
        words = {k: text(v) for k, v in listing(file, "string runtime parameters").items()}
        words |= {k: text(v) for k, v in listing(file, "string scalars").items()}
        ndim = int(scalars.get("dimensionality", member(file, "bounding box").shape[1]))
        boxes = leaves(file)[1][:, :ndim]
    geometry = words.get("geometry", "cartesian").strip().lower()
    if geometry != "cartesian":
        log.warning(
            f"{shown(path)}: the geometry is {geometry}; means are over its coordinates, called x, "
            "y, z."
        )
    axes = ("z", "y", "x")[3 - ndim :]
    words_of = [words.get(f"{bound}_boundary_type", "") for bound in BOUNDS[: 2 * ndim]]
    told = [side(word) for word in words_of]
    pairs = tuple(zip(told[::2], told[1::2], strict=True))
    return [
        Frame(
            path,
            float(scalars["time"]) if "time" in scalars else None,
            axes,
            tuple((float(b[:, 0].min()), float(b[:, 1].max())) for b in boxes.swapaxes(0, 1)[::-1]),
            dict.fromkeys(names, ""),
            partial(onto, path),
            pairs[::-1] if all(words_of) else None,
            {name: float(value) for name, value in numbers.items()},
        )
    ]


def onto(path: Path, names: Sequence[str], target: Target) -> Values:
    """Variables on a grid [C ...]."""
    with closing(open_hdf5(path)) as file:
        return average(blocks(file, names, len(target.shape)), len(names), target)


def blocks(file: h5py.File, names: Sequence[str], ndim: int) -> Iterator[Block]:
    """The leaves of the tree."""
    which, boxes = leaves(file)
    arrays = [member(file, stored_name(file, name)) for name in names]
    cells = arrays[0].shape[1:]
    for number, box in zip(which, boxes, strict=True):
        ends = [(box[axis, 0], box[axis, 1], cells[-1 - axis]) for axis in reversed(range(ndim))]
        edges = [even_edges(low, high, count) for low, high, count in ends]
        yield Block(tuple(edges), partial(read, arrays, int(number), ndim))


def read(arrays: Sequence[Any], number: int, ndim: int) -> np.ndarray:
    """The values of one block [C ...]; axes beyond the dimension have one cell."""
    values = np.stack([array[number] for array in arrays])
    return values.reshape(len(arrays), *values.shape[4 - ndim :])


def leaves(file: h5py.File) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the leaves, and their boxes [n, (x, y, z), (low, high)]."""
    which = np.flatnonzero(np.ravel(member(file, "node type")[()]) == LEAF)
    boxes = member(file, "bounding box")[()].astype(np.float64)
    if not len(which) or boxes.ndim != 3 or boxes.shape[2] != 2:
        raise DataError(f"{shown(file.filename)}: holds no leaf block with a box: it is damaged.")
    return which, boxes[which]


def stored_name(file: h5py.File, name: str) -> str:
    """The dataset of a variable: names have four letters, blanks where they are shorter."""
    return name if name in file else name.ljust(4)


def listing(file: h5py.File, name: str) -> dict[str, Any]:
    """One of the lists of names and values that a file has."""
    if name not in file:
        return {}
    entries = member(file, name)[()]
    return {text(entry["name"]).strip(): entry["value"] for entry in entries}
