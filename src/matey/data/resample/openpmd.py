"""Reads openPMD in HDF5: meshes, also refined ones, whose finer levels are called NAME_lvl1, ...

Source: openPMD standard 1.1.0 and its extension MeshRefinement,
https://github.com/openPMD/openPMD-standard
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from matey.data.formats.encoding import number, text, texts
from matey.data.formats.files import log, shown
from matey.data.formats.hdf5 import member, open_hdf5
from matey.data.resample.blocks import Block, average, uncovered
from matey.data.resample.frames import Frame, Target, Values
from matey.errors import DataError

LEVEL = re.compile(r"(?P<name>.+?)(?:_lvl(?P<level>\d+)(?:_(?P<patch>\d+))?)?")
BASES = ("m", "kg", "s", "A", "K", "mol", "cd")  # of unitDimension
CENTRE = 0.5  # of a cell, as `position` says it


@dataclass(frozen=True)
class Patch:
    """One stored array of a variable, where its points are along each axis (slowest first), and
    what turns its numbers into SI."""

    array: Any  # a dataset, or a constant
    edges: tuple[np.ndarray, ...]
    unit: float

    @property
    def low(self) -> np.ndarray:
        return np.array([each[0] for each in self.edges])

    @property
    def high(self) -> np.ndarray:
        return np.array([each[-1] for each in self.edges])

    def read(self, where: tuple[slice, ...]) -> np.ndarray:
        """Some of its values, in SI."""
        return np.asarray(self.array[where], np.float64) * self.unit


Levels = dict[int, list[Patch]]


def recognise(file: h5py.File) -> bool:
    """Whether an HDF5 file is openPMD, and has refined meshes."""
    return is_openpmd(file) and any(
        (found := LEVEL.fullmatch(name)) and found["level"]
        for _, group in iterations(file)
        for name in meshes(file, group)
    )


def is_openpmd(file: h5py.File) -> bool:
    """Whether an HDF5 file is openPMD."""
    return "openPMD" in file.attrs and "data" in file


def frames(path: Path) -> list[Frame]:
    """The iterations of a file, in order."""
    with closing(open_hdf5(path)) as file:
        return [frame(path, file, name, group) for name, group in iterations(file)]


def frame(path: Path, file: h5py.File, iteration: str, group: h5py.Group) -> Frame:
    """One iteration: its variables by name, those of vectors as `E_x`."""
    stored, units, axes = levels_of(file, group)
    if not stored:
        raise DataError(f"{shown(path)}: iteration {iteration} holds no mesh.")
    base = [patch for levels in stored.values() for patch in levels[min(levels)]]
    low = np.min([patch.low for patch in base], axis=0)
    high = np.max([patch.high for patch in base], axis=0)
    time = number(group.attrs.get("time"))
    seconds = number(group.attrs.get("timeUnitSI")) or 1.0
    return Frame(
        path,
        None if time is None else time * seconds,
        axes,
        tuple(zip(low.tolist(), high.tolist(), strict=True)),
        units,
        partial(onto, path, iteration),
    )


def onto(path: Path, iteration: str, names: Sequence[str], target: Target) -> Values:
    """Variables on a grid [C ...]. Each is averaged by itself: it may have points of its own."""
    with closing(open_hdf5(path)) as file:
        stored, _, _ = levels_of(file, dict(iterations(file))[iteration])
        return np.concatenate(
            [average(blocks(stored[name], f"{shown(path)}: {name}"), 1, target) for name in names]
        )


def blocks(levels: Levels, where: str) -> Iterator[Block]:
    """The pieces of all levels, of each the cells that no finer one covers."""
    pieces = {
        n: [(patch, box) for patch in patches for box in written(patch.array)]
        for n, patches in levels.items()
    }
    order = sorted(pieces)
    for n in order:
        finer = [cut(*piece) for m in order if m > n for piece in pieces[m]]
        low = np.array([[each[0] for each in edges] for edges in finer])
        high = np.array([[each[-1] for each in edges] for edges in finer])
        for patch, box in pieces[n]:
            edges = cut(patch, box)
            live = uncovered(edges, low, high) if finer else None
            yield Block(edges, partial(read, patch, box, n, where), live)


def cut(patch: Patch, box: tuple[slice, ...]) -> tuple[np.ndarray, ...]:
    """The edges of some of a patch's cells."""
    return tuple(
        edges[part.start : part.stop + 1] for edges, part in zip(patch.edges, box, strict=True)
    )


def read(patch: Patch, box: tuple[slice, ...], level: int, where: str) -> np.ndarray:
    """The values of a piece [1 ...]. Raises DataError where those of a finer level may never have
    been written: HDF5 gives the value that fills the gaps there."""
    values = patch.read(box)
    fill = getattr(patch.array, "fillvalue", None)
    if level and fill is not None and patch.array.size and (values == fill * patch.unit).any():
        raise DataError(
            f"{where} of level {level} is {fill} at some of its cells, as where a program has "
            "written nothing: what the level covers cannot be told. Write each patch as a mesh of "
            f"its own (NAME_lvl{level}_0, ...), or leave the variable out with --variables."
        )
    return values[None]


def written(array: Any) -> list[tuple[slice, ...]]:
    """The parts of an array that are in the file: its chunks, where some are not."""
    whole = tuple(slice(0, size) for size in array.shape)
    if not isinstance(array, h5py.Dataset) or array.chunks is None:
        return [whole]
    stored = [array.id.get_chunk_info(n) for n in range(array.id.get_num_chunks())]
    every = list(product(*(range(0, n, c) for n, c in zip(array.shape, array.chunks, strict=True))))
    if len(stored) == len(every):
        return [whole]
    return [
        tuple(
            slice(start, min(start + size, end))
            for start, size, end in zip(info.chunk_offset, array.chunks, array.shape, strict=True)
        )
        for info in stored
    ]


def levels_of(
    file: h5py.File, group: h5py.Group
) -> tuple[dict[str, Levels], dict[str, str], tuple[str, ...]]:
    """The variables of an iteration with the patches of each level, their units, and the axes.

    Raises DataError for meshes of other axes, or that are not cartesian.
    """
    stored = defaultdict[str, Levels](dict)
    units: dict[str, str] = {}
    axes: tuple[str, ...] = ()
    for record, mesh in meshes(file, group).items():
        found = LEVEL.fullmatch(record)
        assert found is not None
        level = int(found["level"] or 0)
        labels = tuple(texts(mesh.attrs.get("axisLabels", ())))
        turned = text(mesh.attrs.get("dataOrder", "C")) == "F"
        labels = labels[::-1] if turned else labels
        if text(mesh.attrs.get("geometry", "cartesian")) != "cartesian":
            log.warning(f"{shown(file.filename)}: mesh {record} is not cartesian; left out.")
            continue
        if axes and labels != axes:
            raise DataError(
                f"{shown(file.filename)}: mesh {record} has the axes {labels}, others {axes}. "
                "Choose those of one kind with --variables."
            )
        axes = labels
        for component, owner in parts(mesh).items():
            name = f"{found['name']}_{component}" if component else found["name"]
            stored[name].setdefault(level, []).append(patch_of(mesh, owner, turned))
            units[name] = unit_of(np.ravel(mesh.attrs.get("unitDimension", ())))
    return dict(stored), units, axes


def patch_of(mesh: Any, owner: Any, turned: bool) -> Patch:
    """One component of a mesh, and where its cells are: around its points."""
    array: Any = owner
    if isinstance(owner, h5py.Group):  # a constant
        shape = tuple(int(n) for n in np.ravel(owner.attrs["shape"]))
        array = np.broadcast_to(np.float64(owner.attrs["value"]), shape)
    rank, scale = array.ndim, number(mesh.attrs.get("gridUnitSI")) or 1.0
    spacing, offset = (
        np.ravel(mesh.attrs.get(key, default)).astype(np.float64)
        for key, default in (("gridSpacing", np.ones(rank)), ("gridGlobalOffset", np.zeros(rank)))
    )
    position = np.ravel(owner.attrs.get("position", np.full(rank, CENTRE))).astype(np.float64)
    if turned:
        spacing, offset, position = spacing[::-1], offset[::-1], position[::-1]
    edges = tuple(
        (o + s * (np.arange(n + 1) + p - CENTRE)) * scale
        for o, s, p, n in zip(offset, spacing, position, array.shape, strict=True)
    )
    return Patch(array, edges, number(owner.attrs.get("unitSI")) or 1.0)


def parts(mesh: Any) -> dict[str, Any]:
    """The components of a mesh by name; of a scalar, itself under the empty one."""
    if isinstance(mesh, h5py.Dataset) or "value" in mesh.attrs:
        return {"": mesh}
    return {name: member(mesh, name) for name in mesh}


def unit_of(powers: np.ndarray) -> str:
    """A unit of the SI by the powers of its bases, as `kg m-3`."""
    pairs = [(base, power) for base, power in zip(BASES, powers, strict=False) if power]
    return " ".join(base if power == 1 else f"{base}{power:g}" for base, power in pairs)


def iterations(file: h5py.File) -> list[tuple[str, h5py.Group]]:
    """The iterations of a file, in order of their numbers."""
    data = member(file, "data")
    numbers = sorted((name for name in data if name.isdigit()), key=int)
    return [(name, member(data, name)) for name in numbers]


def meshes(file: h5py.File, iteration: h5py.Group) -> dict[str, Any]:
    """The meshes of an iteration by name."""
    path = text(file.attrs.get("meshesPath", "meshes/")).strip("/")
    group = member(iteration, path) if path in iteration else {}
    return {name: member(group, name) for name in group}
