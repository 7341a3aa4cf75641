"""One way to look into a file of arrays, whatever its format.

A container lists the arrays of a file, what their axes are called where the file says so, and
their attributes; an array has `shape`, `ndim`, `dtype`, and reads only what is indexed. Missing
and packed values of NetCDF come out as NaN and as the numbers that were packed.
"""

import os
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import h5py
import netCDF4
import numpy as np

from matey.data import chunks, files
from matey.data.files import shown
from matey.data.netcdf3 import expected_size
from matey.data.numpy_files import NpyContainer, NpzContainer
from matey.data.packing import unpacked
from matey.data.zarr_files import ZarrContainer
from matey.errors import DataError

MAX_DEPTH = 8  # of groups in groups: a group may be linked into itself
MAX_ARRAYS = 2**20
MAX_OPEN = 64  # datasets kept open per file: each may hold a megabyte of chunks


@runtime_checkable
class Container(Protocol):
    """An open file. Array names have `/` between group and array; `""` is the file itself."""

    path: Path

    def names(self) -> list[str]: ...

    def array(self, name: str) -> Any: ...

    def dims(self, name: str) -> tuple[str, ...]: ...

    def attributes(self, name: str = "") -> dict[str, Any]: ...

    def close(self) -> None: ...


class Hdf5Container:
    """HDF5, and NetCDF4, which is HDF5. Links that lead elsewhere are refused."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = files.open_hdf5(path)
        self._arrays: OrderedDict[str, Any] = OrderedDict()  # the one used last comes last
        self._is_netcdf = "_NCProperties" in self.attributes()

    def names(self) -> list[str]:
        arrays = list(islice(self._below(self.file, "", 0), MAX_ARRAYS + 1))
        if len(arrays) > MAX_ARRAYS:
            raise DataError(f"{shown(self.path)} holds over {MAX_ARRAYS} arrays: it is damaged.")
        return arrays

    def _below(self, group: h5py.Group, prefix: str, depth: int) -> Iterator[str]:
        for name in files.names(group):
            item = files.member(group, name)
            if isinstance(item, h5py.Group) and depth < MAX_DEPTH:
                yield from self._below(item, f"{prefix}{name}/", depth + 1)
            elif isinstance(item, h5py.Dataset) and not is_nameless(item):
                yield prefix + name

    def array(self, name: str) -> Any:
        # To find a dataset and check it takes longer than to read a frame of it.
        if name not in self._arrays:
            while len(self._arrays) >= MAX_OPEN:
                chunks.room.forget(self._arrays, self._arrays.popitem(last=False)[0])
            self._arrays[name] = self._open(name)
        self._arrays.move_to_end(name)
        chunks.room.touch(self._arrays, name)
        return self._arrays[name]

    def _open(self, name: str) -> Any:
        dataset = files.member(self.file, name)
        if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
            raise DataError(f"{shown(self.path)}: {name} is not an array.")
        attributes = self.attributes(name)
        # NetCDF fills what was not written, but for bytes, of which any may be meant.
        filled = dataset.dtype.kind == "f" or dataset.dtype.itemsize > 1
        fill = dataset.fillvalue if self._is_netcdf and filled else 0
        if fill:
            attributes.setdefault("_FillValue", fill)
        size = chunks.row_size(dataset)
        if size:
            dataset = chunks.with_room(dataset, size)
            chunks.room.keep(self._arrays, name, size)
        return unpacked(mapped(dataset, self.path), attributes)

    def dims(self, name: str) -> tuple[str, ...]:
        dataset = files.member(self.file, name)
        labels = []
        for axis in dataset.dims:
            scales = list(axis.keys()) if len(axis) else []
            labels.append(str(axis[0].name).split("/")[-1] if scales else str(axis.label))
        if not any(labels) and dataset.attrs.get("CLASS") == b"DIMENSION_SCALE":
            return (name.split("/")[-1],)
        return tuple(labels) if all(labels) else ()

    def attributes(self, name: str = "") -> dict[str, Any]:
        owner = files.member(self.file, name) if name else self.file
        return dict(owner.attrs)

    def close(self) -> None:
        for name in self._arrays:
            chunks.room.forget(self._arrays, name)
        self.file.close()


def mapped(dataset: h5py.Dataset, path: Path) -> Any:
    """A dataset that lies in the file as it would in memory, mapped; any other as it is."""
    offset = dataset.id.get_offset()  # None of data in chunks, compressed or never written
    alike = dataset.id.get_type().equal(h5py.h5t.NATIVE_FLOAT) and dataset.ndim > 1
    if offset is None or not alike or not dataset.size:
        return dataset
    return np.asarray(np.memmap(path, np.float32, "r", offset, dataset.shape))


def is_nameless(dataset: h5py.Dataset) -> bool:
    """Whether NetCDF made this dataset only to say how long a dimension is."""
    name = dataset.attrs.get("NAME", b"")
    return isinstance(name, bytes) and name.startswith(b"This is a netCDF dimension but not a")


def root(file: Container) -> h5py.File:
    """The HDF5 file itself, for layouts that come in no other format."""
    assert isinstance(file, Hdf5Container)
    return file.file


class NetCDF3Container:
    """Classic NetCDF: CDF-1, CDF-2 and CDF-5."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = open_netcdf3(path)
        self.file.set_auto_maskandscale(True)

    def names(self) -> list[str]:
        return list(self.file.variables)

    def array(self, name: str) -> Any:
        if name not in self.file.variables:
            raise DataError(
                f"{shown(self.path)}: {name} is missing. Found: {', '.join(self.names())}."
            )
        return self.file.variables[name]

    def dims(self, name: str) -> tuple[str, ...]:
        return tuple(self.array(name).dimensions)

    def attributes(self, name: str = "") -> dict[str, Any]:
        owner = self.array(name) if name else self.file
        return {key: owner.getncattr(key) for key in owner.ncattrs()}

    def close(self) -> None:
        self.file.close()


def open_netcdf3(path: Path) -> Any:
    """Open for reading. Raises DataError on a file that is damaged or cut short."""
    size = files.stamp(path)[0]
    try:
        with path.open("rb") as content:
            expected = expected_size(content)
        if size < expected:
            raise DataError(
                f"{shown(path)} is cut short: {size} bytes, expected {expected}. "
                "Copy or download it again."
            )
        return netCDF4.Dataset(str(path), "r")
    except (OSError, RuntimeError, struct.error, LookupError, ValueError, OverflowError) as error:
        raise DataError(f"{shown(path)} ({size} bytes) is damaged NetCDF: {error}.") from error


OPENERS: dict[str, Callable[[Path], Container]] = {
    "hdf5": Hdf5Container,
    "netcdf3": NetCDF3Container,
    "npy": NpyContainer,
    "npz": NpzContainer,
    "zarr": ZarrContainer,
}


def open_container(path: Path) -> Container:
    """The file, open for reading. Raises DataError if it is damaged or of no known format."""
    return OPENERS[files.kind(path)](Path(os.path.abspath(path)))
