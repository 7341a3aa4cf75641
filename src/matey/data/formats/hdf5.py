"""Reads HDF5, and NetCDF4, which is HDF5.

Links and views that lead out of a file are refused: they can make a file show what lies in another.
"""

import errno
import os
import re
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from matey.data.formats import cache
from matey.data.formats.encoding import decoded, text, texts
from matey.data.formats.files import say_once, shown
from matey.errors import DataError

# What NetCDF puts before the name of a variable that is called like a dimension, but is none.
HIDDEN = "_nc4_non_coord_"
MAX_DEPTH = 8  # of groups in groups: a group may be linked into itself
MAX_ARRAYS = 2**20
MAX_KEPT = 4096  # arrays whose attributes are kept for when they are asked for again
MAX_OPEN = 64  # datasets kept open per file: each may hold a megabyte of chunks


class Hdf5Container:
    """HDF5, and NetCDF4, which is HDF5. Links that lead elsewhere are refused."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = open_hdf5(path)
        # What was listed or read once: to walk through a file takes long.
        self._names: list[str] = []
        self._attributes: dict[str, dict[str, Any]] = {}
        self._arrays: OrderedDict[str, Any] = OrderedDict()  # the one used last comes last
        self._is_netcdf = "_NCProperties" in self.attributes()

    def names(self) -> list[str]:
        if not self._names:
            self._names = list(islice(self._below(self.file, "", 0), MAX_ARRAYS + 1))
        if len(self._names) > MAX_ARRAYS:
            raise DataError(f"{shown(self.path)} holds over {MAX_ARRAYS} arrays: it is damaged.")
        return list(self._names)

    def _below(self, group: h5py.Group, prefix: str, depth: int) -> Iterator[str]:
        for name in group:
            if isinstance(group.get(name, getlink=True), h5py.SoftLink):
                here, target = f"{prefix}{name}", group.get(name, getlink=True).path
                say_once(
                    f"{shown(self.path)}: {shown(here)} is a link to {shown(target)!r} in the same "
                    "file, and left out: what it names is read where it stands."
                )
                continue
            item = member(group, name)
            if isinstance(item, h5py.Group) and depth < MAX_DEPTH:
                yield from self._below(item, f"{prefix}{name}/", depth + 1)
            elif isinstance(item, h5py.Dataset) and not is_nameless(item):
                yield prefix + name.removeprefix(HIDDEN)

    def _member(self, name: str) -> Any:
        """A group or dataset; of a variable and a dimension of one name, the variable."""
        item = member(self.file, name)
        if isinstance(item, h5py.Dataset) and is_nameless(item):
            group, slash, last = name.rpartition("/")
            item = member(self.file, f"{group}{slash}{HIDDEN}{last}")
        return item

    def array(self, name: str) -> Any:
        # To find a dataset and check it takes longer than to read a frame of it.
        if name not in self._arrays:
            while len(self._arrays) >= MAX_OPEN:
                cache.shared.drop(self._arrays, next(iter(self._arrays)))
            self._arrays[name] = self._open(name)
        self._arrays.move_to_end(name)
        cache.shared.touch(self._arrays, name)
        return self._arrays[name]

    def _open(self, name: str) -> Any:
        dataset = self._member(name)
        if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
            raise DataError(f"{shown(self.path)}: {name} is not an array.")
        attributes = self.attributes(name)
        # NetCDF fills what was not written, but for bytes, of which any may be meant.
        filled = dataset.dtype.kind == "f" or dataset.dtype.itemsize > 1
        fill = dataset.fillvalue if self._is_netcdf and filled else 0
        if fill:
            attributes.setdefault("_FillValue", fill)
        size = cache.row_size(dataset)
        if size:
            dataset = cache.with_cache(dataset, size)
            cache.shared.keep(self._arrays, name, size)
        return decoded(mapped(dataset), attributes, f"{shown(self.path)}: {shown(name)}")

    def dims(self, name: str) -> tuple[str, ...]:
        dataset = self._member(name)
        labels = [
            str(axis.label) or (str(axis[0].name).split("/")[-1] if len(axis) else "")
            for axis in dataset.dims
        ]
        if not any(labels) and dataset.attrs.get("CLASS") == b"DIMENSION_SCALE":
            return (name.split("/")[-1],) if dataset.ndim == 1 else dimensions(dataset)
        if not any(labels):
            labels = axis_labels(dataset)
        return tuple(labels) if any(labels) else ()

    def attributes(self, name: str = "") -> dict[str, Any]:
        if name not in self._attributes:
            if len(self._attributes) >= MAX_KEPT:
                self._attributes.clear()
            owner = self._member(name) if name else self.file
            self._attributes[name] = dict(owner.attrs)
        return dict(self._attributes[name])

    def close(self) -> None:
        for name in list(self._arrays):
            cache.shared.drop(self._arrays, name)
        self.file.close()


def dimensions(dataset: h5py.Dataset) -> tuple[str, ...]:
    """The names of the axes of a variable of NetCDF that is called like the first of them, by the
    numbers of dimensions in its group and those around it; none if it has no such numbers."""
    names: dict[int, str] = {}
    group, outermost = dataset.parent, False
    while not outermost:
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            marks = group[name].attrs
            if "_Netcdf4Dimid" in marks and marks.get("CLASS") == b"DIMENSION_SCALE":
                names.setdefault(int(marks["_Netcdf4Dimid"]), name)
        outermost, group = group.name == "/", group.parent
    ids = np.asarray(dataset.attrs.get("_Netcdf4Coordinates", ())).reshape(-1).tolist()
    return tuple(names.get(i, "") for i in ids) if len(ids) == dataset.ndim else ()


def axis_labels(dataset: h5py.Dataset) -> list[str]:
    """The names of axes that openPMD keeps as an attribute of a mesh; of a vector, of its group.

    Source: https://github.com/openPMD/openPMD-standard, version 1.1.0: `axisLabels`, `dataOrder`.
    """
    for owner in (dataset, dataset.parent):
        labels = texts(owner.attrs.get("axisLabels", ()))
        if len(labels) == dataset.ndim:
            return labels[::-1] if text(owner.attrs.get("dataOrder", "C")) == "F" else labels
    return []


def mapped(dataset: h5py.Dataset) -> Any:
    """A dataset that lies in the file as it would in memory, mapped; any other as it is."""
    offset = dataset.id.get_offset()  # None of data in chunks, compressed or never written
    alike = dataset.id.get_type().equal(h5py.h5t.NATIVE_FLOAT) and dataset.ndim > 1
    if offset is None or not alike or not dataset.size or dataset.file.driver != "sec2":
        return dataset
    # By the descriptor that is open: the file may have another name by now, or none.
    content = mmap(dataset.file.id.get_vfd_handle(), 0, access=ACCESS_READ)
    return np.frombuffer(content, np.float32, dataset.size, offset).reshape(dataset.shape)


def is_nameless(dataset: h5py.Dataset) -> bool:
    """Whether NetCDF made this dataset only to say how long a dimension is."""
    name = dataset.attrs.get("NAME", b"")
    return isinstance(name, bytes) and name.startswith(b"This is a netCDF dimension but not a")


def open_hdf5(path: Path) -> h5py.File:
    """Open for reading.

    Raises DataError with both sizes where the file is cut short, and says where another program
    has it open, or its disk has no locks.
    """
    try:
        return h5py.File(os.fsencode(path), "r")
    except OSError as error:
        raise DataError(why_closed(path, str(error))) from error


def why_closed(path: Path, reason: str) -> str:
    """What keeps a file from being opened, by what HDF5 says of it."""
    size = path.stat().st_size
    cut = re.search(r"stored_eof = (\d+)", reason)
    if cut:
        return (
            f"{shown(path)} is cut short: {size} bytes, expected {cut[1]}. Copy or download it "
            "again; if a program still writes it, wait for it."
        )
    lock = re.search(r"unable to lock file, errno = (\d+)", reason)
    if lock and int(lock[1]) in (errno.EAGAIN, errno.EACCES):
        return (
            f"{shown(path)} is open in another program, which writes to it: a simulation that "
            "still runs, or a notebook. Wait for it, or close it there; with "
            "HDF5_USE_FILE_LOCKING=FALSE before the command, what is written so far is read."
        )
    if lock:
        return (
            f"{shown(path)} cannot be locked: its file system has no locks "
            f"({os.strerror(int(lock[1]))}). Set HDF5_USE_FILE_LOCKING=FALSE before the command."
        )
    if "already open for write" in reason or "consistency flags" in reason:
        return (
            f"{shown(path)} is marked as open for writing: a program writes it still, or ended "
            "without closing it. Wait for it, or clear the mark of a copy: h5clear -s FILE."
        )
    return f"{shown(path)} ({size} bytes) is damaged HDF5: {reason}."


def member(group: h5py.Group, name: str) -> Any:
    """A group or dataset inside the same file.

    Raises DataError where it is missing, or is a link or a virtual or external dataset:
    those can make a file show what lies in another one.
    """
    item: Any = group
    for part in name.split("/"):
        where = f"{shown(os.fsdecode(group.file.filename))}: {item.name.rstrip('/')}/{part}"
        if not isinstance(item, h5py.Group):
            raise DataError(f"{where} is missing: {item.name} is not a group.")
        link = item.get(part, getlink=True) if part in item.keys() else None  # noqa: SIM118
        if link is None:
            raise DataError(f"{where} is missing. Found there: {', '.join(item) or 'nothing'}.")
        if not isinstance(link, h5py.HardLink):
            target = getattr(link, "filename", None) or link.path
            raise DataError(
                f"{where} is a link to {target!r}, which is refused: data must lie in the file "
                "itself. Copy it in with h5repack."
            )
        try:
            item = item[part]
        except (OSError, KeyError, RuntimeError) as error:
            raise DataError(f"{where} is damaged: {error}.") from error
        if isinstance(item, h5py.Dataset) and (item.is_virtual or item.external):
            raise DataError(
                f"{where} is a view of other files, which is refused: data must lie in the "
                "file itself. Copy it in with h5repack."
            )
    return item
