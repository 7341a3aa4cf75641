"""Opening files of fields without trusting them.

Handles are kept open per process, so that forked and spawned loader workers each have
their own. Shapes that memory cannot hold are refused before anything is read.
"""

import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from math import prod
from pathlib import Path
from stat import S_ISDIR
from typing import Any

import h5py
import numpy as np

from matey.errors import DataError, MateyError, StoppedError

log = logging.getLogger("matey")
MAX_HANDLES = 32  # open files per process; a run of 274 files must not exhaust the system's
MAX_COORDINATE = 2**24  # entries of a coordinate or a list of trajectories
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
ZARR_METADATA = ("zarr.json", ".zgroup", ".zarray")
# What libraries raise on bytes that make no sense. Our own errors are none of these.
DAMAGE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    MemoryError,
    SystemError,
)
Stamp = tuple[int, int]  # size in bytes and time of modification: has the file changed?
_said: set[str] = set()
_handles: "OrderedDict[tuple[int, Path, Stamp], Any]" = OrderedDict()
SUFFIXES = (".h5", ".hdf5", ".nc", ".nc4", ".cdf", ".npy", ".npz", ".zarr", ".mat")
# Of VTK, which only `matey data resample` reads; the last name files that are parts of them.
MESHES = (".vtk", ".vtu", ".vtp", ".vts", ".vtr", ".vti", ".vtm", ".pvd")
PARALLEL = (".pvtu", ".pvtp", ".pvts", ".pvtr", ".pvti")


class UnknownLayoutError(DataError):
    """A file that no reader recognises."""


@contextmanager
def quiet() -> Iterator[None]:
    """Log no notices of files while the block runs."""
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def say_once(notice: str) -> None:
    """Log a notice, once in a process: files are opened again and again."""
    if notice not in _said and log.isEnabledFor(logging.WARNING):
        _said.add(notice)
        log.warning(notice)


def shown(path: str | Path) -> str:
    """A path on one line: characters that would break the line or hide are escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(path))


def zarr_metadata(path: Path) -> Path | None:
    """The file that makes a folder a zarr store; None if there is none."""
    return next((path / name for name in ZARR_METADATA if (path / name).is_file()), None)


def stamp(path: Path) -> Stamp:
    """Size and time of modification; of a zarr store, those of its metadata.

    Raises DataError if the file is not there.
    """
    try:
        status = path.stat()
        if S_ISDIR(status.st_mode):
            status = (zarr_metadata(path) or path).stat()
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be opened: {error.strerror}.") from error
    return status.st_size, status.st_mtime_ns


def check_unchanged(path: Path, opened: Stamp) -> None:
    """Raise DataError if the file vanished or changed since its metadata were read."""
    if stamp(path) != opened:
        raise DataError(
            f"{shown(path)} changed while it was in use ({opened[0]} bytes when opened, "
            f"{stamp(path)[0]} now). Leave data files alone during a run, and start it again."
        )


def kind(path: Path) -> str:
    """`hdf5`, `netcdf3`, `npy` or `npz` by the first bytes; a folder may be `zarr`.

    Raises DataError on an empty file, UnknownLayoutError on any other content.
    """
    if zarr_metadata(path):
        return "zarr"
    if path.is_dir():
        raise DataError(f"{shown(path)} is a folder, expected a file.")
    size = stamp(path)[0]
    if size == 0:
        raise DataError(f"{shown(path)} is empty (0 bytes). Copy or download it again.")
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read: {error.strerror}.") from error
    if start[:3] == b"CDF" and start[3:4] in (b"\x01", b"\x02", b"\x05"):
        return "netcdf3"
    if start[:6] == b"\x93NUMPY":
        return "npy"
    if start[:4] == b"PK\x03\x04":
        return "npz"
    if start == HDF5_SIGNATURE or h5py.is_hdf5(os.fsencode(path)):
        return "hdf5"
    if start.startswith(b"MATLAB 5"):
        raise UnknownLayoutError(
            f"{shown(path)} is a MATLAB file older than version 7.3. Save it as one that is HDF5 "
            "(in MATLAB `save(name, '-v7.3')`), or as NetCDF or .npz."
        )
    raise UnknownLayoutError(
        f"{shown(path)} ({size} bytes) is neither HDF5, NetCDF nor NumPy: it starts with {start!r}."
    )


def handle(path: Path, opened: Stamp, opener: Callable[[Path], Any]) -> Any:
    """The open file of this process, opened at most once while it stays in the cache."""
    key = (os.getpid(), path, opened)
    if key in _handles:
        _handles.move_to_end(key)
        return _handles[key]
    while len(_handles) >= MAX_HANDLES:
        _, oldest = _handles.popitem(last=False)
        oldest.close()
    _handles[key] = opener(path)
    return _handles[key]


def close_files() -> None:
    """Close every file that this process keeps open, as before replacing one of them."""
    while _handles:
        _handles.popitem()[1].close()


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Raise what libraries raise on a damaged file as a DataError, and name the file in every
    error of ours."""
    try:
        yield
    except StoppedError:
        raise
    except MateyError as error:
        if stop := stopped_within(error):
            raise stop from None
        if shown(path.name) in str(error):
            raise
        raise type(error)(f"{shown(path)}: {error}") from error
    except DAMAGE as error:
        if stop := stopped_within(error):
            raise stop from None
        stamp(path)  # a file that vanished while it was opened is not a damaged one
        reason = " ".join(str(error).split())
        raise DataError(
            f"{shown(path)} cannot be read: it is damaged, or not what it seems "
            f"({type(error).__name__}: {shown(reason[:200])}). Copy or download it again."
        ) from error


def stopped_within(error: BaseException | None) -> StoppedError | None:
    """The signal that a library met while it read, and told as an error of its own."""
    while error is not None and not isinstance(error, StoppedError):
        error = error.__cause__ or error.__context__
    return error


def read_array(dataset: Any, index: Any, path: Path, name: str) -> np.ndarray:
    """Values as a native real array. Raises DataError on complex, text or damaged data."""
    if dataset.dtype.kind not in "fiub":
        raise DataError(
            f"{shown(path)}: {name} holds {dataset.dtype} values, expected real numbers. "
            "Store real and imaginary parts as two variables."
        )
    try:
        values = dataset[index]
    except DAMAGE as error:
        raise DataError(
            f"{shown(path)}: dataset {name} cannot be read, it is damaged: {error}."
        ) from error
    return np.asarray(values)


def read_coordinate(dataset: Any, path: Path, name: str) -> np.ndarray:
    """A short array in float64: coordinates, times, parameters."""
    if prod(dataset.shape) > MAX_COORDINATE:
        raise DataError(
            f"{shown(path)}: {name} declares {dataset.shape} entries, expected a coordinate "
            f"of at most {MAX_COORDINATE}. The file is damaged or not what it seems."
        )
    return read_array(dataset, (), path, name).astype(np.float64)


@cache
def memory_limit() -> int:
    """Bytes that this machine, or its container, could hold at all."""
    limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = min(limit, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):
        return limit  # no container, or one without a limit
    return limit


def check_size(size: int, path: Path, what: str) -> None:
    """Raise DataError before allocating more than memory holds."""
    if size > memory_limit():
        raise DataError(
            f"{shown(path)}: {what} needs {size / 2**30:.3g} GiB, more than the "
            f"{memory_limit() / 2**30:.3g} GiB of this machine. Read fewer frames, or check "
            "the file: it may declare a shape that it does not hold."
        )
