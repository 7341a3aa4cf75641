"""One way to look into a file of arrays, whatever its format.

A container lists the arrays of a file, what their axes are called where the file says so, and
their attributes; an array has `shape`, `ndim`, `dtype`, and reads only what is indexed. Missing
and encoded values of NetCDF come out as NaN and as the numbers that were encoded.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import h5py

from matey.data.formats import files
from matey.data.formats.hdf5 import Hdf5Container
from matey.data.formats.netcdf3 import NetCDF3Container
from matey.data.formats.numpy import NpyContainer, NpzContainer
from matey.data.formats.zarr import ZarrContainer


@runtime_checkable
class Container(Protocol):
    """An open file. Array names have `/` between group and array; `""` is the file itself.

    `dims` are the names of an array's axes, empty where one has none; none at all if all have none.
    """

    path: Path

    def names(self) -> list[str]: ...

    def array(self, name: str) -> Any: ...

    def dims(self, name: str) -> tuple[str, ...]: ...

    def attributes(self, name: str = "") -> dict[str, Any]: ...

    def close(self) -> None: ...


def root(file: Container) -> h5py.File:
    """The HDF5 file itself, for layouts that come in no other format."""
    assert isinstance(file, Hdf5Container)
    return file.file


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
