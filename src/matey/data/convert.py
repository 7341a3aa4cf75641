"""Any readable files to the Well's layout: all that training reads survives to the bit.

A file of the Well has trajectories of one grid and length, so that one source file becomes
one file or several; a folder of the Well has one system on grids of one shape, so that each
system becomes one or several.
Values are those that training reads, in float32 and canonical order.
"""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count as counting
from pathlib import Path

from matey.config import DataConfig, SourceConfig, WindowConfig
from matey.data.checks import wider_types
from matey.data.formats.files import close_files, log, quiet
from matey.data.formats.find import find_files
from matey.data.mixture import Mixture
from matey.data.reader import Reader
from matey.data.trajectories import Fields, group_by_system, open_readers, open_source, unused
from matey.data.windows import Windows
from matey.data.write import copy_to_well, making_folder, shape_of

Watch = Callable[[int, int], None]
HISTORY = 4  # frames of the windows that are timed, fewer in shorter trajectories
BATCH = 8


@dataclass(frozen=True)
class Rate:
    """Windows per second, and what they were: batches of one system at lead 1."""

    windows_per_second: float
    history: int


@dataclass(frozen=True)
class Converted:
    """One system in its new place: sizes in bytes, and windows per second, before and after."""

    name: str
    folder: Path
    files: int
    trajectories: int
    frames: int
    size_before: int
    size_after: int
    rate_before: Rate | None
    rate_after: Rate | None


def convert(
    paths: Sequence[str | Path] | DataConfig,
    destination: Path,
    *,
    options: SourceConfig | None = None,
    compress: bool = False,
    seconds: float = 1.0,
    watch: Watch = lambda done, total: None,
) -> list[Converted]:
    """Write the fields in files, folders or patterns, or of a data config, as a new folder in the
    Well's layout.

    `<destination>/data/<split>/*.hdf5` for one system, else `<destination>/<system>/data/...`;
    of a system on several grids `<destination>/64x64/data/...` for each.
    Files that come divided keep their division; the others are `all`, in the same order of
    names, so that a split by seed is the same as well. Memory does not grow with the files.
    The folder appears when it is complete, or not at all. Reading is timed for so many
    `seconds` before and after. `watch` hears how many frames were written, of how many.
    Raises DataError if nothing readable is there, a value is not finite, or the destination
    is not new.
    """
    destination = Path(os.path.abspath(destination))
    with making_folder(destination) as temporary:
        if isinstance(paths, DataConfig):
            systems = {s.name: list(open_source(s).readers) for s in paths.systems}
            sources = {s.name: replace(s, layout=None, join=()) for s in paths.systems}
        else:
            systems, sources = {}, {}
            for group in group_by_system(open_readers(paths, options)):
                systems[unused(group[0].spec.name, systems)] = group
        folders = {name: Path(name) if len(systems) > 1 else Path() for name in systems}
        before = {name: read_rate(Fields(group), seconds) for name, group in systems.items()}
        total = sum(len(t.times) for g in systems.values() for r in g for t in r.trajectories)
        done = 0

        def count(frames: int) -> None:
            nonlocal done
            done += frames
            watch(done, total)

        for name, group in systems.items():
            for variable, dtype in wider_types(group).items():
                log.warning(f"{name}: {variable} is {dtype} in the file and stored as float32.")
            named = name if name in sources else None
            copy_system(group, named, temporary / folders[name], compress, count)
    close_files()
    converted = []
    for name, group in systems.items():
        folder = destination / folders[name]
        written = find_files([folder])
        with quiet():  # what there was to say was said of the source
            fields = Fields(open_readers([folder], sources.get(name, options)))
        converted.append(
            Converted(
                name,
                folder,
                len(written),
                len(fields),
                sum(len(trajectory.times) for trajectory in fields.trajectories),
                sum(path.stat().st_size for reader in group for path in reader.files),
                sum(path.stat().st_size for path in written),
                before[name],
                read_rate(fields, seconds),
            )
        )
    return converted


def copy_system(
    readers: Sequence[Reader],
    name: str | None,
    folder: Path,
    compress: bool,
    count: Callable[[int], None],
) -> None:
    """Write all trajectories of one system, under a name of its own if there is one; `count`
    hears how many frames were written.

    A file for each source file, split, grid and length, named as the source, with a number where
    two would be the same; a folder for each grid if there are several.
    """
    several = len({t.grid.shape for reader in readers for t in reader.trajectories}) > 1
    taken = defaultdict[str | None, set[str]](set)
    for reader in readers:
        alike = defaultdict[object, list[int]](list)
        for i, trajectory in enumerate(reader.trajectories):
            alike[trajectory.split, shape_of(trajectory)].append(i)
        for members in alike.values():
            first = reader.trajectories[members[0]]
            stem = unused(reader.path.stem, taken[first.split])
            taken[first.split].add(stem)
            points = "x".join(map(str, first.grid.shape[3 - first.grid.ndim :]))
            copy_to_well(
                Fields([reader], name),
                members,
                folder / points if several else folder,
                name=stem,
                split=first.split,
                compress=compress,
                watch=count,
            )


def read_rate(fields: Fields, seconds: float = 1.0) -> Rate | None:
    """Time random batches of a system's windows for so long, after one that opens the files.

    None where every trajectory is a single frame. What the operating system keeps of a file
    in memory is not read from disk again: compare files in the same state.
    """
    frames = max(len(trajectory.times) for trajectory in fields.trajectories)
    if frames < 2:
        return None
    config = WindowConfig(history=min(HISTORY, frames - 1))
    everything = Windows(fields, range(len(fields)), config)
    mixture = Mixture({fields.spec.name: everything}, BATCH, seed=0)
    mixture[0]
    began = time.perf_counter()
    for index in counting(1):
        mixture[index]
        elapsed = time.perf_counter() - began
        if elapsed > seconds:
            return Rate(BATCH * index / elapsed, config.history)
    raise AssertionError("unreachable")
