"""Finds the files of fields that paths name: files, folders to the bottom, patterns.

Links to folders are followed, each folder once: a link into itself ends there. What is left out
is said.
"""

import glob
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from matey.data.formats.files import (
    HDF5_SIGNATURE,
    MESHES,
    PARALLEL,
    SUFFIXES,
    log,
    shown,
    zarr_metadata,
)
from matey.errors import DataError, nearest

MAX_FOLDERS = 100_000  # below one path: a link may lead to the root of a disk
STARTS = (HDF5_SIGNATURE, b"MATLAB 7.3", b"CDF\x01", b"CDF\x02", b"CDF\x05", b"\x93NUMPY")
KNOWN = (*SUFFIXES, *MESHES, *PARALLEL)
Identity = tuple[int, int]  # disk and number of a file there, by whatever name


def find_files(paths: Sequence[str | Path]) -> list[Path]:
    """Files named by files, folders (searched to the bottom) and patterns, sorted by path.

    A file is taken once, however many names and links lead to it. Notices say what is left out.
    Raises DataError where a path names nothing.
    """
    return list(find_named(paths))


def find_named(paths: Sequence[str | Path]) -> dict[Path, str | Path]:
    """The same, each with the path that names it."""
    origin: dict[Path, str | Path] = {}
    for path in paths:
        for file in sorted(_named(Path(path))):
            origin.setdefault(Path(os.path.abspath(file)), path)
    return {file: origin[file] for file in _once(origin)}


def _once(files: Iterable[Path]) -> Iterator[Path]:
    """Each file by one name: the one that is no link, else the first."""
    names: dict[Identity, list[Path]] = {}
    for file in files:
        names.setdefault(identity(file), []).append(file)
    left_out = defaultdict[str, list[Path]](list)
    for alike in names.values():
        real = next((file for file in alike if file.resolve() == file), alike[0])
        left_out[f"the same file as {shown(real)}"] += [file for file in alike if file != real]
        yield real
    _say_left_out(left_out)


def identity(path: Path) -> Identity:
    """What a file or folder is, whatever it is called. Raises DataError if it is not there."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be opened: {error.strerror}.") from error
    return status.st_dev, status.st_ino or hash(os.path.realpath(path))


def _named(path: Path) -> list[Path]:
    """The files that one path names. A file is taken as it is, whatever its suffix."""
    path = path.expanduser()
    if path.is_file() or zarr_metadata(path):
        return [path]
    if path.is_dir():
        inside = list(_inside(path))
        if not inside:
            raise DataError(
                f"{shown(path)} holds no file that ends in {', '.join(SUFFIXES)}, and none that "
                "starts as HDF5 or NetCDF does."
            )
        return inside
    if glob.has_magic(str(path)):
        matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
        if not matches:
            raise DataError(f"No file fits the pattern {shown(path)}.")
        return [file for match in matches for file in _named(match)]
    if not path.parent.is_dir():
        raise DataError(f"{shown(path)} does not exist. Its folder does not exist either.")
    near = [p.name for p in path.parent.iterdir()]
    way_out = nearest(path.name, near) if near else f"Its folder {shown(path.parent)} is empty."
    raise DataError(f"{shown(path)} does not exist. {shown(way_out)}")


def _inside(top: Path) -> Iterator[Path]:
    """Files of fields in a folder, to the bottom. A zarr store counts as a file.

    Folders are searched before links to folders, so that a file is met by its real name first.
    Hidden files and folders are left out: a conversion that was killed leaves one.
    """
    folders, links = [top], list[Path]()
    visited: set[Identity] = set()
    left_out = defaultdict[str, list[Path]](list)
    others: list[Path] = []
    while folders or links:
        link = not folders
        folder = links.pop(0) if link else folders.pop()
        if (which := identity(folder)) in visited:
            left_out["leads to a folder that is searched already"].append(folder)
            continue
        visited.add(which)
        if len(visited) > MAX_FOLDERS:
            raise DataError(
                f"{shown(top)} holds over {MAX_FOLDERS} folders, with those that links lead to. "
                "Name the ones that hold the data."
            )
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            left_out[f"cannot be searched ({error.strerror})"].append(folder)
            continue
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith("."):
                continue
            if zarr_metadata(path):
                yield path
            elif path.is_dir():
                (links if entry.is_symlink() else folders).append(path)
            elif entry.is_symlink() and not path.exists():
                left_out["a link that leads nowhere"].append(path)
            elif path.is_file() and (path.suffix.lower() in KNOWN or starts_as_fields(path)):
                yield path
            else:
                others.append(path)
    _say_left_out(left_out)
    if others:
        count = f"{len(others)} files of other kinds" if len(others) > 1 else "a file"
        log.info(f"Left out: {count} in {shown(top)}, as {shown(others[0].name)}.")


def starts_as_fields(path: Path) -> bool:
    """Whether a file is HDF5, NetCDF or NumPy by its first bytes: programs that write `wrfout_d01`
    give no suffix."""
    try:
        with path.open("rb") as file:
            return file.read(10).startswith(STARTS)
    except OSError:
        return False


def _say_left_out(reasons: Mapping[str, Sequence[Path]]) -> None:
    """One notice for each reason."""
    for reason, paths in reasons.items():
        if paths:
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            log.warning(f"Left out: {shown(paths[0])}{more}: {reason}.")
