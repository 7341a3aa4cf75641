"""Any supported files as a sequence of trajectories of one system. `open` is the public way in."""

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import chain
from itertools import count as counting
from pathlib import Path
from typing import Any

from matey.config import DataConfig, SourceConfig
from matey.data.formats.files import UnknownLayoutError, log, quiet, shown
from matey.data.formats.find import find_named
from matey.data.layouts.base import Trajectory
from matey.data.naming import same_system
from matey.data.reader import Piece, Reader
from matey.data.runs.glance import each_once
from matey.data.runs.open import open_named
from matey.errors import DataError, MateyError
from matey.fields import Field
from matey.records.descriptions import read_descriptions


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
        for piece in pieces:
            reader, index, stored = self.place(piece.trajectory)
            frames = piece.frames
            if stored.start or stored.step > 1:
                frames = [stored[frame] for frame in frames]
            groups.setdefault(reader, []).append(piece._replace(trajectory=index, frames=frames))
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


def open(*paths: str | Path, like: str | Path | None = None) -> Fields:
    """The trajectories of one system in files, folders or patterns.

    `like` is a run, a model folder or the name of a model that ships: files that say as little of
    themselves as those that it was trained on are read as they were. Raises DataError if nothing
    readable is there, more than one system, or what may be read in several ways.
    """
    if like is None:
        return Fields(decided(open_readers(paths)))
    return open_like(paths, read_descriptions(Path(like)), shown(like))


@each_once()
def open_like(paths: Sequence[str | Path], sources: Sequence[SourceConfig], whose: str) -> Fields:
    """The trajectories in files that are read as one of some `sources` were; `whose` these are
    stands in what is said. Files that fit none are read by themselves, which a warning says."""
    source, reasons = fitting_source(paths, sources, whose)
    if source is not None:
        fields = open_source(source)
        own = fields.readers[0].spec.name
        if source.layout is None and own != source.name:
            log.warning(
                f"{shown(paths[0])} is of system {own}, and is read as {whose} read its system "
                f"{source.name}, under this name."
            )
        return fields
    if reasons:
        log.warning(
            f"{shown(paths[0])} is not laid out as the data of {whose}, and is read by itself: "
            f"{'; '.join(reasons)}"
        )
    return Fields(decided(open_readers(paths)))


@each_once()
def open_as(path: str | Path, sources: Sequence[SourceConfig]) -> Fields:
    """The trajectories in a file as a data config says: by the entry that names it, else by the one
    that fits it. Raises DataError where none does."""
    files = set(find_named([path]))
    with quiet():
        naming = [source for source in sources if files & names_of(source)]
    source, reasons = fitting_source([path], naming or sources, "the data config")
    if source is None:
        raise DataError(
            f"{shown(path)} is not laid out as the data config says: {'; '.join(reasons)}"
        )
    return open_source(source)


def names_of(source: SourceConfig) -> set[Path]:
    """The files that an entry of a data config names; none if they are no longer there."""
    try:
        return set(find_named(source.paths))
    except DataError:
        return set()


@each_once()
def described_like(data: DataConfig, sources: Sequence[SourceConfig], whose: str) -> DataConfig:
    """A data config whose entries without a layout have that of the one of `sources` that their
    files fit, where files do not say themselves how they are laid out."""
    systems = []
    for entry in data.systems:
        source = None
        if entry.layout is None:
            source, _ = fitting_source(entry.paths, sources, whose)
        if source is not None and source.layout is not None:
            log.info(f"{entry.name}: read as {whose} read its system {source.name}.")
            pseudo = {**source.pseudo, **entry.pseudo}
            entry = replace(source, name=entry.name, split=entry.split, pseudo=pseudo)
        systems.append(entry)
    return replace(data, systems=tuple(systems))


def fitting_source(
    paths: Sequence[str | Path], sources: Sequence[SourceConfig], whose: str
) -> tuple[SourceConfig | None, list[str]]:
    """The source as which files can be read, with their paths; if there is none, why.

    What is in a layout with a name is not read by a description. Raises DataError where several
    fit, and differ.
    """
    with quiet():
        recognised = are_recognised(paths)
        fitting: list[tuple[SourceConfig, Reader]] = []
        reasons = []
        for source in sources:
            described = None if recognised else source.layout
            here = replace(source, paths=tuple(map(str, paths)), layout=described)
            try:
                reader = open_readers(here.paths, here)[0]
            except MateyError as error:
                reasons.append(f"{source.name}: {error}")
                continue
            if described is not None or reader.contents.described is None:
                fitting.append((here, reader))
    kinds = {(r.spec.variables, r.spec.ndim, r.trajectories[0].boundaries) for _, r in fitting}
    if len(fitting) > 1 and (recognised or len(kinds) > 1):
        # Files of a layout with a name fit every entry that says no more than where they are.
        named = [source for source, reader in fitting if source.name == reader.spec.name]
        if len(named) != 1 and len(kinds) == 1:
            return None, []
        if len(named) != 1:
            raise DataError(
                f"{shown(paths[0])} fits the descriptions of several systems of {whose}: "
                f"{', '.join(source.name for source, _ in fitting)}. Say how it is to be read in a "
                "data config (--data)."
            )
        return named[0], []
    return fitting[0][0] if fitting else None, reasons


def are_recognised(paths: Sequence[str | Path]) -> bool:
    """Whether files can be read by themselves, without a draft."""
    try:
        return all(reader.contents.described is None for reader in open_readers(paths))
    except MateyError:
        return False


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
        f"{draft if drafted else 'Say in the data config'} which it is, in `axes` of its `layout`, "
        "`join` or `paths`; then take the line out of `doubts`."
        for (doubt, drafted), paths in files.items()
    ]


def open_readers(paths: Sequence[str | Path], options: SourceConfig | None = None) -> list[Reader]:
    """A reader per file. Beside files that are recognised, a folder may hold others, which
    are left out with a notice; a file that is damaged, or named itself, is an error."""
    named = [Path(os.path.abspath(path)) for path in paths]
    origin, errors = open_named(paths, options)
    unknown = [e for e in errors.values() if isinstance(e, UnknownLayoutError)]
    for file, error in errors.items():
        if error not in unknown or file in named or not origin:
            raise error
    readers = list(origin)
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
