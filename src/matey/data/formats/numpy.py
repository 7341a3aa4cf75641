"""Reads NumPy's files: `.npy` mapped into memory, and members of `.npz` as a stream.

Nothing is unpickled: object arrays are refused by their header, before any value is read. A
member of an archive is read only as far as it is asked for, so what an archive claims to hold
never lies in memory.

Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import lzma
import zipfile
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np

from matey.data.formats import files
from matey.data.formats.encoding import text
from matey.data.formats.files import shown
from matey.errors import DataError

MAX_HEADER = 10_000
BLOCK = 2**22  # bytes of an archive read at once, where not all of them are kept
ARCHIVE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError)  # what damaged archives raise


class ObjectsError(DataError):
    """An array of Python objects, which are never read."""


@dataclass(frozen=True)
class Header:
    """The header of a `.npy` file, and its length in bytes."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    length: int


def read_header(file: BinaryIO | zipfile.ZipExtFile, where: str) -> Header:
    """Raises DataError on a damaged header or an absurd shape, ObjectsError on Python objects."""
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(file, MAX_HEADER)
        length = file.tell()
    except (*files.DAMAGE, SyntaxError, TokenError, *ARCHIVE) as error:
        reason = str(error).split("\n")[0]
        raise DataError(f"{where} has a damaged NumPy header: {reason}.") from error
    if dtype.hasobject:
        raise ObjectsError(
            f"{where} holds Python objects, which are refused: reading them would run code. "
            "Save numbers: np.save(path, array.astype(float))."
        )
    if any(size < 0 for size in shape):
        raise DataError(f"{where} has a damaged NumPy header: shape {shape}.")
    return Header(tuple(shape), fortran, dtype, length)


class NpyContainer:
    """One array, named `data`, mapped into memory: frames are read when they are asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._arrays: dict[str, Any] = {"data": self._map(path)}

    def _map(self, path: Path) -> np.ndarray:
        with path.open("rb") as file:
            header = read_header(file, shown(path))
        size, expected = path.stat().st_size, prod(header.shape) * header.dtype.itemsize
        if size < header.length + expected:
            raise DataError(
                f"{shown(path)} is cut short: {size} bytes, expected {header.length + expected} "
                f"for shape {header.shape}. Copy or download it again."
            )
        if not expected:
            raise DataError(f"{shown(path)} has shape {header.shape}: it holds no value.")
        mapped: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped

    def names(self) -> list[str]:
        return list(self._arrays)

    def array(self, name: str) -> Any:
        if name not in self._arrays:
            listed = ", ".join(shown(stored) for stored in self.names())
            raise DataError(f"{shown(self.path)}: {name} is missing. Found: {listed}.")
        return self._arrays[name]

    def dims(self, name: str) -> tuple[str, ...]:
        return ()

    def attributes(self, name: str = "") -> dict[str, Any]:
        return {}

    def close(self) -> None:
        """The mapping ends with the last array that uses it."""


class NpzContainer(NpyContainer):
    """The arrays of an archive, by their names. An array is opened when it is asked for; those of
    Python objects are left out, and refused where there is no other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except (*files.DAMAGE, *ARCHIVE) as error:
            size = path.stat().st_size
            raise DataError(
                f"{shown(path)} ({size} bytes) is a damaged or incomplete archive: {error}. "
                "Copy or download it again."
            ) from error
        members = [name for name in self._archive.namelist() if name.endswith(".npy")]
        self._arrays = dict.fromkeys(name.removesuffix(".npy") for name in members)
        self._plain: list[str] | None = None
        if not members:
            raise files.UnknownLayoutError(f"{shown(path)} is an archive without NumPy arrays.")

    def names(self) -> list[str]:
        if self._plain is None:
            objects = {name: error for name in self._arrays if (error := self._refusal(name))}
            self._plain = [name for name in self._arrays if name not in objects]
            if not self._plain:
                raise next(iter(objects.values()))
            for error in objects.values():
                files.say_once(f"{error} It is left out.")
        return list(self._plain)

    def _refusal(self, name: str) -> ObjectsError | None:
        """Why an array is not read, if it is one of Python objects."""
        try:
            self.array(name)
        except ObjectsError as error:
            return error
        return None

    def array(self, name: str) -> Any:
        if super().array(name) is None:
            where = f"{shown(self.path)}: {shown(name)}"
            self._arrays[name] = ArchivedArray(self._archive, f"{name}.npy", where)
        return self._arrays[name]

    def dims(self, name: str) -> tuple[str, ...]:
        """The names that `dim_names` has for the axes of `data`, as in scenes of PhiFlow; of other
        arrays none."""
        if name != "data" or "dim_names" not in self._arrays:
            return ()
        named = self.array("dim_names")
        if named.dtype.kind not in "US" or named.shape != (self.array(name).ndim,):
            return ()
        return tuple(text(word) for word in named[:])

    def close(self) -> None:
        self._archive.close()


class ArchivedArray:
    """An array in an archive. An index reads a small array whole, and of a large one the entries it
    asks for; going forward is a stream, going back starts anew."""

    def __init__(self, archive: zipfile.ZipFile, member: str, where: str) -> None:
        self._archive, self._member, self._where = archive, member, where
        self._file = self._open()
        header = read_header(self._file, where)
        self.shape, self.ndim, self.dtype = header.shape, len(header.shape), header.dtype
        self._fortran, self._start = header.fortran, header.length
        claimed = archive.getinfo(member).file_size
        expected = header.length + prod(self.shape) * self.dtype.itemsize
        if claimed != expected:
            raise DataError(
                f"{where} has {claimed} bytes, expected {expected} for shape {self.shape}: the "
                "archive is damaged."
            )

    def _open(self) -> Any:
        try:
            return self._archive.open(self._member)
        except (*files.DAMAGE, *ARCHIVE) as error:
            raise DataError(f"{self._where} cannot be read: {error}.") from error

    def __getitem__(self, index: Any) -> np.ndarray:
        index = index if isinstance(index, tuple) else (index,)
        index, shape = index + (slice(None),) * (self.ndim - len(index)), self.shape
        if self._fortran:
            return self._take(index[::-1], shape[::-1], 0).T
        return self._take(index, shape, 0)

    def _take(self, index: tuple[Any, ...], shape: tuple[int, ...], first: int) -> np.ndarray:
        """Index an array of some shape that starts at value `first` of the file. A part of more
        than a block is read entry by entry, unless the index asks for all of it."""
        if all(part == slice(None) for part in index):
            return self._read(first, shape)
        (head, *rest), row = index, prod(shape[1:])
        if not isinstance(head, slice):
            return self._take(tuple(rest), shape[1:], first + head * row)
        if prod(shape) * self.dtype.itemsize <= BLOCK:
            return self._read(first, shape)[index]
        entries = range(*head.indices(shape[0]))
        if not entries:
            return np.empty((0, *shape[1:]), self.dtype)[:, *rest]
        return np.stack([self._take(tuple(rest), shape[1:], first + i * row) for i in entries])

    def _read(self, first: int, shape: tuple[int, ...]) -> np.ndarray:
        """Values from the first one on, in the order of the file."""
        size = prod(shape) * self.dtype.itemsize
        files.check_size(size, Path(str(self._archive.filename)), "reading a range of an archive")
        try:
            self._file.seek(self._start + first * self.dtype.itemsize)
            content = self._file.read(size)
        except (*files.DAMAGE, *ARCHIVE) as error:
            raise DataError(f"{self._where} cannot be read, it is damaged: {error}.") from error
        if len(content) < size:
            raise DataError(
                f"{self._where} ends {size - len(content)} bytes early: the archive is damaged."
            )
        return np.frombuffer(content, self.dtype).reshape(shape)
