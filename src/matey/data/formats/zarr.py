"""Reads zarr stores, which are folders. Needs the package `zarr`, which is optional.

Metadata name the codecs that undo compression, and one of them unpickles: only codecs known to
be harmless are let through. Arrays must lie in the folder itself.

Source: https://zarr-specs.readthedocs.io
"""

import json
import math
import struct
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from matey.data.formats import cache
from matey.data.formats.encoding import decoded
from matey.data.formats.files import say_once, shown
from matey.errors import DataError

CODECS = (  # that run no code of the file's
    "adler32 bitround blosc bytes bz2 crc32 crc32c delta fixedscaleoffset fletcher32 gzip lz4 lzma "
    "quantize sharding_indexed shuffle transpose zlib zstd"
)
# Types of version 3 that have any length.
OBJECTS = ("string", "bytes", "variable_length_bytes", "variable_length_utf8")
ARRAY_METADATA = ("zarr.json", ".zarray")
GROUP_METADATA = ("zarr.json", ".zgroup")
MAX_DEPTH = 8


class Chunked:
    """A zarr array that keeps decompressed chunks, which several trajectories or windows may share.

    It keeps rows of chunks across all axes but the first two.
    """

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape, self.ndim, self.dtype = array.shape, array.ndim, array.dtype
        self._step = tuple(array.chunks[:2])
        self._row_size = math.prod((*self._step, *self.shape[2:])) * self.dtype.itemsize
        self._shared = self.ndim > 2 and max(self._step) > 1 and self._row_size <= cache.MOST
        self.rows: dict[tuple[int, int], np.ndarray] = {}

    def __getitem__(self, index: Any) -> Any:
        whole = isinstance(index, tuple) and len(index) == self.ndim
        if not (self._shared and whole and all(i == slice(None) for i in index[2:])):
            return self._array[index]
        first, second = (
            range(n)[i] if isinstance(i, slice) else range(i, i + 1)
            for i, n in zip(index[:2], self.shape, strict=False)
        )
        values = np.empty((len(first), len(second), *self.shape[2:]), self.dtype)
        for a, i in enumerate(first):
            for b, j in enumerate(second):
                row = self._row(i // self._step[0], j // self._step[1])
                values[a, b] = row[i % self._step[0], j % self._step[1]]
        return values[tuple(slice(None) if isinstance(i, slice) else 0 for i in index[:2])]

    def _row(self, i: int, j: int) -> np.ndarray:
        """A row of chunks, by its place along the first two axes."""
        row = self.rows.get((i, j))
        if row is None:
            a, b = self._step
            row = self.rows[i, j] = self._array[i * a : (i + 1) * a, j * b : (j + 1) * b]
            cache.shared.keep(self.rows, (i, j), self._row_size)
        cache.shared.touch(self.rows, (i, j))
        return row


class ZarrContainer:
    """A zarr store of version 2 or 3 on disk. Arrays of objects, as texts of any length are, are
    left out, and refused where there is no other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            zarr = import_module("zarr")
        except ImportError as error:
            raise DataError(
                f"{shown(path)} is a zarr store, which needs a package that is not installed: "
                "pip install 'matey-pde[zarr]'."
            ) from error
        self._zarr = zarr
        self._objects: list[str] = []
        self._names = list(self._below(path, "", 0))
        for name in self._objects:
            if not self._names:
                raise DataError(self._refusal(name))
            say_once(f"{self._refusal(name)} It is left out.")
        self._arrays: dict[str, Any] = {}
        self._chunked: list[Chunked] = []

    def _below(self, folder: Path, prefix: str, depth: int) -> Iterator[str]:
        written = metadata_within(folder, self.path)
        if "shape" in written:
            name = prefix.rstrip("/") or "data"
            if holds_objects(written):
                self._objects.append(name)
                return
            check_codecs(folder, written)
            yield name
            return
        for inside in sorted(folder.iterdir()) if depth < MAX_DEPTH else []:
            if any((inside / name).is_file() for name in (*ARRAY_METADATA, *GROUP_METADATA)):
                yield from self._below(inside, f"{prefix}{inside.name}/", depth + 1)

    def names(self) -> list[str]:
        return list(self._names)

    def _refusal(self, name: str) -> str:
        """Why an array of objects is not read."""
        return (
            f"{shown(self.path)}: {shown(name)} holds texts of any length or other objects, which "
            "are refused: expected numbers, and reading some objects runs code."
        )

    def array(self, name: str) -> Any:
        if name in self._arrays:
            return self._arrays[name]
        if name in self._objects:
            raise DataError(self._refusal(name))
        if name not in self._names:
            raise DataError(
                f"{shown(self.path)}: {name} is missing. Found: {', '.join(self._names)}."
            )
        try:
            stored = self._zarr.open_array(str(self._folder(name)), mode="r")
            array = Chunked(stored)
        except Exception as error:  # whatever a damaged store makes the package raise
            raise DataError(f"{shown(self.path)}: {name} is damaged: {error}.") from error
        self._chunked.append(array)
        attributes = with_fill_value(self.attributes(name), stored)
        self._arrays[name] = decoded(array, attributes, f"{shown(self.path)}: {shown(name)}")
        return self._arrays[name]

    def _folder(self, name: str) -> Path:
        alone = name == "data" and "shape" in metadata(self.path)
        return self.path if alone else self.path / name

    def dims(self, name: str) -> tuple[str, ...]:
        written = metadata(self._folder(name))
        names = written.get("dimension_names") or self.attributes(name).get("_ARRAY_DIMENSIONS")
        return tuple(str(dim) for dim in names) if names and all(names) else ()

    def attributes(self, name: str = "") -> dict[str, Any]:
        folder = self._folder(name) if name else self.path
        values = metadata(folder).get("attributes")
        old = folder / ".zattrs"
        if values is None and old.is_file():
            values = load(old)
        return dict(values or {})

    def close(self) -> None:
        """Files are opened and closed with each chunk; those in memory are let go."""
        for array in self._chunked:
            for place in list(array.rows):
                cache.shared.drop(array.rows, place)


def with_fill_value(attributes: dict[str, Any], array: Any) -> dict[str, Any]:
    """The attributes of an array with what xarray marks its missing values by.

    In version 3 it is `_FillValue`, of floats in base64. In version 2 it is the fill value of zarr,
    which is 0 where a program that knows of no missing values left it so: it counts where xarray or
    its like named the axes, and if it is 0, only where numbers are packed.
    """
    mark = attributes.get("_FillValue")
    if array.metadata.zarr_format == 2:
        fill = array.fill_value
        packed = {"scale_factor", "add_offset"} & attributes.keys()
        if mark is None and fill is not None and "_ARRAY_DIMENSIONS" in attributes:
            return attributes | ({"_FillValue": fill} if fill or packed else {})
    elif isinstance(mark, str) and array.dtype.kind == "f":
        with suppress(ValueError, struct.error):
            (number,) = struct.unpack("<d", b64decode(mark, validate=True))
            return {**attributes, "_FillValue": number}
    return attributes


def metadata_within(folder: Path, store: Path) -> dict[str, Any]:
    """The metadata of a folder; raises DataError if it lies outside of the store."""
    if not folder.resolve().is_relative_to(store.resolve()):
        raise DataError(
            f"{shown(folder)} is a link out of its zarr store, which is refused: data must lie in "
            "the folder itself."
        )
    return metadata(folder)


def holds_objects(written: Mapping[str, Any]) -> bool:
    """Whether the metadata of an array say that it holds objects, of Python or of any length."""
    stored = written.get("dtype", written.get("data_type"))
    named = stored.get("name") if isinstance(stored, dict) else stored
    return named in OBJECTS or "|O" in str(stored)


def check_codecs(folder: Path, written: Mapping[str, Any]) -> None:
    """Raise DataError where an array's metadata name a codec that is not known to be harmless."""
    for name in codec_names([written.get(k) for k in ("codecs", "compressor", "filters")]):
        if name.removeprefix("numcodecs.") not in CODECS.split():
            raise DataError(
                f"{shown(folder)} is stored with the codec {name!r}, which is refused. Known: "
                f"{', '.join(CODECS.split())}."
            )


def codec_names(value: Any) -> Iterator[str]:
    """Every codec in a piece of metadata, also those inside of a shard."""
    if isinstance(value, dict):
        named = value.get("name", value.get("id"))
        if isinstance(named, str):
            yield named
    if isinstance(value, dict | list):
        for inside in value.values() if isinstance(value, dict) else value:
            yield from codec_names(inside)


def metadata(folder: Path) -> dict[str, Any]:
    """The metadata of a folder; empty where it has none."""
    for name in (*ARRAY_METADATA, *GROUP_METADATA):
        if (folder / name).is_file():
            return load(folder / name)
    return {}


def load(path: Path) -> dict[str, Any]:
    """A JSON object. Raises DataError on anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{shown(path)} of a zarr store is damaged: {error}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{shown(path)} of a zarr store is damaged: it is no JSON object.")
    return content
