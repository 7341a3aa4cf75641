"""Reads HDF5 of Parthenon, as AthenaPK and others write it: blocks of one size, all of them leaves.

Source: https://parthenon-hpc-lab.github.io/parthenon, "Outputs", and its writer of HDF5.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from matey.data.formats.encoding import text, texts
from matey.data.formats.files import log, shown
from matey.data.formats.hdf5 import member, open_hdf5
from matey.data.resample.blocks import Block, average
from matey.data.resample.frames import Frame, Target, Values, side
from matey.errors import DataError

COMPONENTS_FIRST = 3  # version of the format since which a block's components come first
SETTING = re.compile(r"\s*(?:<(?P<block>[^>]+)>|(?P<key>\w+)\s*=\s*(?P<value>[^#\s]+))")


def recognise(file: h5py.File) -> bool:
    """Whether an HDF5 file is one of Parthenon."""
    return (
        "Info" in file
        and "LogicalLocations" in file
        and {"MeshBlockSize", "OutputDatasetNames"} <= set(member(file, "Info").attrs)
    )


def frames(path: Path) -> list[Frame]:
    """The one time of a file."""
    with closing(open_hdf5(path)) as file:
        info = member(file, "Info").attrs
        ndim, names = int(info["NumDims"]), list(places(file))
        domain = np.ravel(info["RootGridDomain"]).astype(np.float64).reshape(3, 3)[:ndim]
        words = texts(info.get("BoundaryConditions", ()))[: 2 * ndim]
        coordinates = text(info.get("Coordinates", "UniformCartesian"))
        time = float(info["Time"]) if "Time" in info else None
        given = text(file["Input"].attrs.get("File", "")) if "Input" in file else ""
    if "cartesian" not in coordinates.lower():
        log.warning(
            f"{shown(path)}: the coordinates are {coordinates}; means are over them, called x, y, "
            "z."
        )
    told = [side(word) for word in words]
    pairs = tuple(zip(told[::2], told[1::2], strict=True))
    return [
        Frame(
            path,
            time,
            ("z", "y", "x")[3 - ndim :],
            tuple((float(low), float(high)) for low, high, _ in domain[::-1]),
            dict.fromkeys(names, ""),
            partial(onto, path),
            pairs[::-1] if len(pairs) == ndim else None,
            settings_of(given),
        )
    ]


def onto(path: Path, names: Sequence[str], target: Target) -> Values:
    """Variables on a grid [C ...]."""
    with closing(open_hdf5(path)) as file:
        return average(blocks(file, names), len(names), target)


def blocks(file: h5py.File, names: Sequence[str]) -> Iterator[Block]:
    """The blocks, without their ghost cells."""
    info = member(file, "Info").attrs
    ndim = int(info["NumDims"])
    ghosts = int(info["NGhost"]) if info.get("IncludesGhost", 0) else 0
    faces = [member(file, f"Locations/{axis}")[()] for axis in ("z", "y", "x")[3 - ndim :]]
    inside = tuple(slice(ghosts, each.shape[1] - 1 - ghosts) for each in faces)
    where = places(file)
    arrays = [(member(file, where[name][0]), where[name][1]) for name in names]
    cells = tuple(each.shape[1] - 1 for each in faces)
    first = int(info.get("OutputFormatVersion", 1)) >= COMPONENTS_FIRST
    for number in range(len(faces[0])):
        edges = [each[number, ghosts : each.shape[1] - ghosts] for each in faces]
        edges = [each.astype(np.float64) for each in edges]
        yield Block(tuple(edges), partial(read, arrays, number, cells, inside, first))


def read(
    arrays: Sequence[tuple[Any, int]],
    number: int,
    cells: tuple[int, ...],
    inside: tuple[slice, ...],
    first: bool,
) -> np.ndarray:
    """The values of one block [C ...]; axes beyond the dimension have one cell."""
    values = []
    for array, component in arrays:
        stored = array[number]
        rows = (
            stored.reshape(-1, *cells) if first else np.moveaxis(stored.reshape(*cells, -1), -1, 0)
        )
        values.append(rows[component][inside])
    return np.stack(values)


def places(file: h5py.File) -> dict[str, tuple[str, int]]:
    """Where each variable lies: its dataset, and its number there. Raises DataError where names
    and numbers do not fit."""
    info = member(file, "Info").attrs
    datasets, counts = texts(info["OutputDatasetNames"]), np.ravel(info["NumComponents"])
    labels = texts(info["ComponentNames"])
    if len(datasets) != len(counts) or len(labels) != counts.sum():
        raise DataError(
            f"{shown(file.filename)}: {len(labels)} ComponentNames do not fit NumComponents "
            f"{counts.tolist()} of {', '.join(datasets)}: it is damaged."
        )
    owners = [(d, n) for d, count in zip(datasets, counts, strict=True) for n in range(int(count))]
    blocks = len(member(file, "LogicalLocations"))
    found: dict[str, tuple[str, int]] = {}
    for label, (dataset, n) in zip(labels, owners, strict=True):
        name = label if label not in found else f"{dataset}/{label}"
        if len(member(file, dataset)) == blocks and member(file, dataset).ndim > 3:
            found[name] = (dataset, n)
    return found


def settings_of(given: str) -> dict[str, float]:
    """The numbers of an input file, as `hydro/gamma`."""
    block, numbers = "", {}
    for line in given.splitlines():
        found = SETTING.match(line)
        if found and found["block"]:
            block = found["block"].strip() + "/"
        elif found:
            try:
                numbers[block + found["key"]] = float(found["value"])
            except ValueError:
                continue
    return numbers
