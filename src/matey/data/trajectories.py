"""Any supported files as a sequence of trajectories of one system. `open` is the public way in."""

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import chain
from itertools import count as counting
from pathlib import Path
from typing import Any

from matey.config import SourceConfig
from matey.data.formats.files import UnknownLayoutError, log, shown
from matey.data.formats.find import find_named
from matey.data.layouts.base import Trajectory
from matey.data.naming import name_alike, same_system
from matey.data.reader import Piece, Reader, open_reader
from matey.errors import DataError
from matey.fields import Field


class Fields(Sequence[Any]):  # not [Field]: a type checker at run time would read one
    """All trajectories of one system, over one file or several.

    `fields[0]` reads a whole trajectory; `read` only the frames asked for. `name` replaces
    the system's name. Raises DataError where the files are of more than one system.
    """

    def __init__(self, readers: Sequence[Reader], name: str | None = None) -> None:
        check_one_system(readers, named=name is not None)
        self.readers = tuple(readers)
        self.spec = replace(readers[0].spec, name=name or readers[0].spec.name)
        self._places = [(r, i) for r in readers for i in range(len(r.trajectories))]
        self.trajectories: Sequence[Trajectory] = unique_names(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"Trajectory {index} of {len(self)} of system {self.spec.name!r}.")
        return self.read(index)

    def read(self, trajectory: int, frames: slice = slice(None)) -> Field:
        """The given frames of one trajectory; no others are read."""
        reader, index = self._places[trajectory]
        field = reader.read(index, frames)
        if field.spec == self.spec:
            return field
        parameters = {name: field.parameters[name] for name in self.spec.parameters}
        return replace(field, spec=self.spec, parameters=parameters)

    def read_into(self, pieces: Sequence[Piece]) -> None:
        """Read frames of trajectories into the array of each piece; see `Reader.read_into`."""
        for reader, inside in self._by_reader(pieces).items():
            reader.read_into(inside)

    def place(self, trajectory: int) -> tuple[Reader, int, range]:
        """Where a trajectory lies: its file, its number there, and which frames it has of it."""
        reader, index = self._places[trajectory]
        return reader, index, range(len(reader.trajectories[index].times))

    def _by_reader(self, pieces: Sequence[Piece]) -> dict[Reader, list[Piece]]:
        """The pieces of each file, with the trajectories and frames as it counts them."""
        groups: dict[Reader, list[Piece]] = {}
        for trajectory, frames, values in pieces:
            reader, index, stored = self.place(trajectory)
            if stored.start or stored.step > 1:
                frames = [stored[frame] for frame in frames]
            groups.setdefault(reader, []).append(Piece(index, frames, values))
        return groups

    def __reduce__(self) -> Any:
        return Fields, (self.readers, self.spec.name)


def unique_names(places: Sequence[tuple[Reader, int]]) -> list[Trajectory]:
    """The trajectories; where files in several folders share a name, the folders join it."""
    names: list[str] = []
    for count in range(66):
        names = []
        for reader, i in places:
            folders = reader.path.parent.parts[1:]
            inner = folders[max(0, len(folders) - count) :]
            names.append("/".join([*inner, reader.trajectories[i].name]))
        if len(set(names)) == len(names):
            break
    pairs = zip(places, names, strict=True)
    return [replace(reader.trajectories[i], name=name) for (reader, i), name in pairs]


def unused(name: str, taken: Collection[str]) -> str:
    """The name, with a number from 2 on where it is taken."""
    numbered = (f"{name}_{n}" for n in counting(2))
    return next(each for each in chain([name], numbered) if each not in taken)


def check_one_system(readers: Sequence[Reader], named: bool) -> None:
    """Raise DataError that lists the systems, if there are several or parameters differ."""
    if not readers:
        raise DataError("No files to read fields from.")
    groups = group_by_system(readers, named)
    if len(groups) > 1:
        listing = "; ".join(
            f"{r.spec.name} ({r.spec.ndim}D, {', '.join(v.name for v in r.spec.variables)}, "
            f"dt {r.spec.dt:.6g}) in {shown(r.path)}"
            for r, *_ in groups
        )
        raise DataError(
            f"The files hold {len(groups)} systems, expected one: {listing}. Open them one by one."
        )
    first = readers[0]
    for reader in readers:
        if set(reader.spec.parameters) != set(first.spec.parameters):
            raise DataError(
                f"{shown(reader.path)} has the parameters {sorted(reader.spec.parameters)}, but "
                f"{shown(first.path)} has {sorted(first.spec.parameters)}. Files of one system "
                "have the same ones: add the attributes, or make them two systems."
            )


def group_by_system(readers: Iterable[Reader], named: bool = False) -> list[list[Reader]]:
    """Readers of one system together. With `named`, the user's name stands for the files'."""
    groups: list[list[Reader]] = []
    for reader in readers:
        for group in groups:
            if same_system(group[0], reader) and (named or group[0].spec.name == reader.spec.name):
                group.append(reader)
                break
        else:
            groups.append([reader])
    return groups


def open(*paths: str | Path) -> Fields:
    """The trajectories of one system in files, folders or patterns.

    Raises DataError if nothing readable is there, more than one system, or what may be read in
    several ways.
    """
    return Fields(decided(open_readers(paths)))


def open_source(source: SourceConfig) -> Fields:
    """The trajectories that one entry of a data config names, under its name.

    Raises DataError where a person has to say first how they are to be read.
    """
    return Fields(decided(open_readers(source.paths, source)), source.name)


def decided(readers: Sequence[Reader]) -> Sequence[Reader]:
    """The same readers. Raises DataError where their files may be read in several ways."""
    for doubt in undecided(readers):
        raise DataError(doubt)
    return readers


def undecided(readers: Iterable[Reader]) -> list[str]:
    """What a person has to decide before files are used, a sentence for each doubt."""
    files: dict[tuple[str, bool], list[Path]] = {}
    for reader in readers:
        for doubt in reader.contents.doubts:
            drafted = reader.contents.described is not None
            files.setdefault((doubt, drafted), []).append(reader.path)
    draft = "Write a data config (`matey data inspect FILES --write w.yaml`), and say there"
    return [
        f"{shown(paths[0])}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}: {doubt}. "
        f"{draft if drafted else 'Say in the data config'} which it is, in `axes` of its `layout`; "
        "then take the line out of `doubts`."
        for (doubt, drafted), paths in files.items()
    ]


def open_readers(paths: Sequence[str | Path], options: SourceConfig | None = None) -> list[Reader]:
    """A reader per file. Beside files that are recognised, a folder may hold others, which
    are left out with a notice; a file that is damaged, or named itself, is an error."""
    named = [Path(os.path.abspath(path)) for path in paths]
    origin: dict[Reader, str | Path] = {}
    unknown: list[UnknownLayoutError] = []
    for file, path in find_named(paths).items():
        try:
            origin[open_reader(file, options)] = path
        except UnknownLayoutError as error:
            if file in named:
                raise
            unknown.append(error)
    if not origin:
        raise unknown[0]
    readers = list(name_alike(origin))
    for reason in unknown:
        log.warning(f"Left out: {reason}")
    recognised = [r for r in readers if r.contents.described is None or r.path in named]
    for reader in readers:
        if recognised and reader not in recognised:
            log.warning(
                f"Left out: {shown(reader.path)} is in no known layout, and others in its folder "
                "are. Name it itself to read it."
            )
    return recognised or readers
