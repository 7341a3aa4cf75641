"""Reads Chombo's HDF5: boxes of several levels, of which the finest counts.

Source: Chombo design document, section on HDF5 I/O, https://commons.lbl.gov/display/chombo; PLUTO's
additions (domBeg, g_x2stretch) from its user's guide, https://plutocode.ph.unito.it
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from matey.data.formats.encoding import number, text
from matey.data.formats.files import shown
from matey.data.formats.hdf5 import member, open_hdf5
from matey.data.resample.blocks import Block, average, uncovered
from matey.data.resample.frames import Frame, Target, Values
from matey.errors import DataError
from matey.fields import Boundary, Sides

DATA, OFFSETS = "data:datatype=0", "data:offsets=0"
LETTERS = ("i", "j", "k")  # x, y, z
PERIODIC: Sides = (Boundary.PERIODIC, Boundary.PERIODIC)
OPEN: Sides = (Boundary.OPEN, Boundary.OPEN)


@dataclass(frozen=True)
class Level:
    """The boxes of one level, by their first and last cells along x, y, z [n d]; where cell 0
    begins, and how large cells are."""

    first: np.ndarray
    last: np.ndarray
    origin: np.ndarray
    size: np.ndarray

    @property
    def low(self) -> np.ndarray:
        return self.origin + self.size * self.first

    @property
    def high(self) -> np.ndarray:
        return self.origin + self.size * (self.last + 1)

    def edges(self, box: int) -> tuple[np.ndarray, ...]:
        """The edges of a box's cells, slowest first."""
        counts = [np.arange(a, b + 2) for a, b in zip(self.first[box], self.last[box], strict=True)]
        every = zip(self.origin, self.size, counts, strict=True)
        return tuple(origin + size * count for origin, size, count in every)[::-1]


def recognise(file: h5py.File) -> bool:
    """Whether an HDF5 file is one of Chombo that holds levels of boxes."""
    return "num_levels" in file.attrs and "level_0" in file and "component_0" in file.attrs


def frames(path: Path) -> list[Frame]:
    """The one time of a file."""
    with closing(open_hdf5(path)) as file:
        names = components(file)
        base = member(file, "level_0")
        domain = box_of(base.attrs["prob_domain"])
        ndim = len(domain[0])
        level = level_of(file, 0)
        low, high = (level.origin + level.size * np.add(domain[i], i) for i in range(2))
        marks = [number(base.attrs.get(f"is_periodic_{axis}")) for axis in range(ndim)]
        time = number(file.attrs.get("time", base.attrs.get("time")))
        settings = {k: v for k in file.attrs if (v := number(file.attrs[k])) is not None}
    sides = tuple(PERIODIC if mark else OPEN for mark in marks)[::-1]
    return [
        Frame(
            path,
            time,
            ("z", "y", "x")[3 - ndim :],
            tuple(zip(low.tolist(), high.tolist(), strict=True))[::-1],
            dict.fromkeys(names, ""),
            partial(onto, path),
            sides if None not in marks else None,
            settings,
        )
    ]


def onto(path: Path, names: Sequence[str], target: Target) -> Values:
    """Variables on a grid [C ...]."""
    with closing(open_hdf5(path)) as file:
        stored = components(file)
        channels = [stored.index(name) for name in names]
        return average(blocks(file, channels, len(stored)), len(names), target)


def blocks(file: h5py.File, channels: Sequence[int], count: int) -> Iterator[Block]:
    """The boxes of all levels, of each the cells that no finer box covers."""
    levels = [level_of(file, n) for n in range(int(file.attrs["num_levels"]))]
    for n, level in enumerate(levels):
        group = member(file, f"level_{n}")
        data, offsets = member(group, DATA), member(group, OFFSETS)[()]
        ghosts = ghosts_of(group, level.first.shape[1])
        finer = levels[n + 1] if n + 1 < len(levels) else None
        for box in range(len(level.first)):
            edges = level.edges(box)
            live = uncovered(edges, finer.low[:, ::-1], finer.high[:, ::-1]) if finer else None
            sizes = [len(each) - 1 + 2 * g for each, g in zip(edges, ghosts, strict=True)]
            begins, ends = int(offsets[box]), int(offsets[box + 1])
            if ends - begins != count * prod(sizes) or ends > len(data):
                raise DataError(
                    f"{shown(file.filename)}: box {box} of level {n} has {ends - begins} values, "
                    f"expected {count} variables of {sizes} cells: it is damaged."
                )
            yield Block(edges, partial(read, data, begins, sizes, ghosts, channels), live)


def read(
    data: Any, begins: int, sizes: Sequence[int], ghosts: Sequence[int], channels: Sequence[int]
) -> np.ndarray:
    """The values of a box [C ...] without ghost cells: one variable after the other, x fastest."""
    cells = prod(sizes)
    inside = tuple(slice(g, n - g) for g, n in zip(ghosts, sizes, strict=True))
    starts = [begins + channel * cells for channel in channels]
    return np.stack([data[s : s + cells].reshape(sizes)[inside] for s in starts])


def ghosts_of(group: h5py.Group, ndim: int) -> list[int]:
    """How many ghost cells each box is written with, slowest axis first."""
    attributes = member(group, "data_attributes").attrs if "data_attributes" in group else {}
    if "outputGhost" not in attributes:
        return [0] * ndim
    return [int(n) for n in np.ravel(attributes["outputGhost"])[0].item()][::-1]


def level_of(file: h5py.File, n: int) -> Level:
    """The boxes of a level."""
    group, base = member(file, f"level_{n}"), member(file, "level_0").attrs
    attributes, boxes = group.attrs, member(group, "boxes")[()]
    ndim = len(boxes.dtype.names) // 2
    first, last = (
        np.stack([boxes[f"{side}_{letter}"] for letter in LETTERS[:ndim]], axis=1)
        for side in ("lo", "hi")
    )
    if number(base.get("logr")):
        raise DataError(
            f"{shown(file.filename)}: its radial axis is logarithmic, which is not read. Write the "
            "run on an even one."
        )
    size = np.ravel(attributes.get("vec_dx", attributes.get("dx")))
    size = np.array(size[0].item() if size.dtype.names else size, np.float64)
    if len(size) == 1:
        size = np.repeat(size, ndim)
    stretch = [number(base.get(f"g_x{axis}stretch")) or 1.0 for axis in (1, 2, 3)][:ndim]
    origin = [number(base.get(f"domBeg{axis}")) or 0.0 for axis in (1, 2, 3)][:ndim]
    return Level(first, last, np.array(origin), size[:ndim] * stretch)


def components(file: h5py.File) -> list[str]:
    """The names of the variables."""
    count = int(file.attrs.get("num_components", 0))
    return [text(file.attrs[f"component_{n}"]).strip() for n in range(count)]


def box_of(stored: Any) -> tuple[list[int], list[int]]:
    """The first and the last cell of a box along x, y, z."""
    corners = [int(n) for n in np.ravel(stored)[0].item()]
    return corners[: len(corners) // 2], corners[len(corners) // 2 :]
