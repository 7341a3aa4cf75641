"""Which files and frames a data set is of, whatever they are called."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from matey.data.formats.files import Stamp, stamp, zarr_metadata
from matey.data.systems import System
from matey.data.trajectories import Fields

END = 1 << 20  # bytes at either end of a file that are looked at
Frames = dict[str, list[list[int]]]  # of each file, by its mark: trajectory, first frame, and end


def fingerprint(system: System) -> str:
    """A short hash of a system's files: names, sizes, and a megabyte at either end;
    of a zarr store, its metadata."""
    digest = hashlib.sha256()
    for path in sorted(path for reader in system.fields.readers for path in reader.files):
        content = zarr_metadata(path) or path
        digest.update(f"{path.name} {content.stat().st_size}\n".encode())
        add_ends(digest, content)
    return digest.hexdigest()[:16]


def add_ends(digest: Any, path: Path) -> None:
    """Add both ends of a file to a hash."""
    with path.open("rb") as file:
        digest.update(file.read(END))
        file.seek(max(0, path.stat().st_size - END))
        digest.update(file.read())


def mark(path: Path) -> str:
    """A short hash of a file's size and both its ends, by which a copy under another name is known
    too; of a zarr store, of the names and sizes of its files and the ends of the largest."""
    return mark_at(path, stamp(path))


@lru_cache(maxsize=2**16)
def mark_at(path: Path, opened: Stamp) -> str:
    """The mark of a file as it was when opened."""
    digest, largest = hashlib.sha256(), path
    if zarr_metadata(path) is not None:
        parts = sorted(part for part in path.rglob("*") if part.is_file())
        for part in parts:
            digest.update(f"{part.relative_to(path)} {part.stat().st_size}\n".encode())
        largest = max(parts, key=lambda part: part.stat().st_size)
    digest.update(f"{largest.stat().st_size}\n".encode())
    add_ends(digest, largest)
    return digest.hexdigest()[:16]


def frames_of(fields: Fields, trajectories: Iterable[int]) -> Frames:
    """Which frames of which files some trajectories are."""
    frames: Frames = {}
    for trajectory in trajectories:
        reader, index, stored = fields.place(trajectory)
        for path, first, end in reader.lie_in(stored):
            frames.setdefault(mark(path), []).append([index, first, end])
    return frames


def overlapping(
    fields: Fields, trajectories: Sequence[int], seen: Mapping[str, Mapping[str, Any]]
) -> int:
    """How many of the trajectories have frames that are among those `seen`, by system."""
    ranges: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for frames in seen.values():
        for file, rows in frames.items():
            for index, first, end in rows:
                ranges.setdefault((file, index), []).append((first, end))
    count = 0
    for trajectory in trajectories:
        reader, index, stored = fields.place(trajectory)
        count += any(
            first < stop and start < end
            for path, start, stop in reader.lie_in(stored)
            for first, end in ranges.get((mark(path), index), [])
        )
    return count
