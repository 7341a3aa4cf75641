"""Any supported file as a sequence of trajectories.

A reader recognises a file by its content first and its name second, and reads only the
frames asked for. `open` is the public way in.
"""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from matey.config import SourceConfig
from matey.data import files
from matey.data.arrays import Piece, Reader
from matey.data.cavity import Cavity
from matey.data.containers import open_container
from matey.data.described import Described
from matey.data.files import UnknownLayoutError, log, shown
from matey.data.layout import ROUNDING, Contents, Layout, Trajectory
from matey.data.miniweather import MiniWeather
from matey.data.pdebench import PDEBenchIncompressible, PDEBenchTrees
from matey.data.pdebench_arrays import PDEBenchCompressible, PDEBenchScalars
from matey.data.the_well import TheWell
from matey.data.written import Written
from matey.errors import DataError, nearest
from matey.fields import Field

__all__ = ["Fields", "Reader", "Trajectory", "find_files", "open", "open_reader", "open_source"]

# Every layout that is known, in the order in which a file is tried. A new reader is a line here.
LAYOUTS: list[Layout] = [
    TheWell(),
    Written(),
    PDEBenchTrees(),
    PDEBenchIncompressible(),
    PDEBenchCompressible(),
    PDEBenchScalars(),
    MiniWeather(),
    Cavity(),
    Described(),
]
SUFFIXES = (".h5", ".hdf5", ".nc", ".nc4", ".cdf", ".npy", ".npz", ".zarr")


def open_reader(path: Path, options: SourceConfig | None = None) -> Reader:
    """The reader that fits the file's content.

    Raises DataError if the file is missing, damaged or none of the known layouts.
    """
    path = Path(os.path.abspath(path))  # a later change of folder must not matter
    kind = files.kind(path)
    layouts = [layout for layout in LAYOUTS if kind in layout.formats]
    if options is not None and options.layout is not None:
        layouts = [Described()]  # the user's word stands
    with files.guarded(path), closing(open_container(path)) as file:
        for layout in layouts:
            contents = layout.describe(file, options)
            if contents is not None:
                contents = declared(contents, options, path)
                return Reader(path, options, layout.name, contents)
    raise UnknownLayoutError(
        f"{shown(path)} has a layout that no reader knows. Looked for "
        f"{'; '.join(layout.expected for layout in layouts)}."
    )


def declared(contents: Contents, options: SourceConfig | None, path: Path) -> Contents:
    """The contents with what the data config says of mirrors. Raises DataError for a variable
    that the file has not."""
    pseudo, spec = options.pseudo if options else {}, contents.spec
    names = [variable.name for variable in spec.variables]
    for name in pseudo:
        if name not in names:
            raise DataError(
                f"{shown(path)}: `pseudo` of the data config names {name!r}, which the file has "
                f"not. {nearest(name, names)}"
            )
    variables = tuple(replace(v, pseudo=pseudo.get(v.name, v.pseudo)) for v in spec.variables)
    return replace(contents, spec=replace(spec, variables=variables)) if pseudo else contents


def find_files(paths: Sequence[str | Path]) -> list[Path]:
    """Files named by files, folders (searched to the bottom) and patterns, sorted.

    Raises DataError where a path names nothing.
    """
    chosen: dict[Path, None] = {}
    for path in paths:
        for file in sorted(_named(Path(path))):
            chosen.setdefault(Path(os.path.abspath(file)))
    return list(chosen)


def _named(path: Path) -> list[Path]:
    """The files that one path names. A file is taken as it is, whatever its suffix."""
    path = path.expanduser()
    if path.is_file() or files.zarr_metadata(path):
        return [path]
    if path.is_dir():
        inside = list(_inside(path))
        if not inside:
            raise DataError(f"{shown(path)} holds no file that ends in {', '.join(SUFFIXES)}.")
        return inside
    if glob.has_magic(str(path)):
        matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
        if not matches:
            raise DataError(f"No file fits the pattern {shown(path)}.")
        return [file for match in matches for file in _named(match)]
    near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    way_out = nearest(path.name, near) if near else f"Its folder {shown(path.parent)} is empty."
    if not path.parent.is_dir():
        way_out = "Its folder does not exist either."
    raise DataError(f"{shown(path)} does not exist. {shown(way_out)}")


def _inside(folder: Path) -> Iterator[Path]:
    """Files of fields in a folder, to the bottom. A zarr store counts as a file, and what is
    hidden is left out: a conversion that was killed leaves a hidden folder."""
    for top, folders, names in os.walk(folder):
        seen = [name for name in folders if not name.startswith(".")]
        stores = [name for name in seen if files.zarr_metadata(Path(top) / name)]
        folders[:] = [name for name in seen if name not in stores]
        for name in (*names, *stores):
            readable = name in stores or Path(name).suffix.lower() in SUFFIXES
            if readable and not name.startswith("."):
                yield Path(top) / name


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

    def _by_reader(self, pieces: Sequence[Piece]) -> dict[Reader, list[Piece]]:
        """The pieces of each file, with the trajectories as it counts them."""
        groups: dict[Reader, list[Piece]] = {}
        for trajectory, frames, values in pieces:
            reader, index = self._places[trajectory]
            groups.setdefault(reader, []).append(Piece(index, frames, values))
        return groups

    def __reduce__(self) -> Any:
        return Fields, (self.readers, self.spec.name)


def unique_names(places: Sequence[tuple[Reader, int]]) -> list[Trajectory]:
    """The trajectories; where files in several folders share a name, the folders join it."""
    trajectories = [reader.trajectories[i] for reader, i in places]
    parts = 0
    while True:
        names = [
            "/".join([*_folders(reader.path, parts), reader.trajectories[i].name])
            for reader, i in places
        ]
        if len(set(names)) == len(names) or parts > 64:
            return [replace(k, name=n) for k, n in zip(trajectories, names, strict=True)]
        parts += 1


def _folders(path: Path, count: int) -> list[str]:
    """The innermost folders of a file, outermost first."""
    return list(path.parent.parts[1:][-count:]) if count else []


def check_one_system(readers: Sequence[Reader], named: bool) -> None:
    """Raise DataError that lists the systems, if there are several or parameters differ."""
    if not readers:
        raise DataError("No files to read fields from.")
    groups = group_by_system(readers, named)
    if len(groups) > 1:
        listing = "; ".join(f"{describe(g[0])} in {shown(g[0].path)}" for g in groups)
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


def same_system(a: Reader, b: Reader) -> bool:
    """Whether variables, dimension, boundaries and dt (to rounding) agree."""
    return (
        a.spec.variables == b.spec.variables
        and a.spec.ndim == b.spec.ndim
        and a.trajectories[0].boundaries == b.trajectories[0].boundaries
        and abs(a.spec.dt - b.spec.dt) <= ROUNDING * a.spec.dt
    )


def describe(reader: Reader) -> str:
    """One system in a few words, for messages."""
    variables = ", ".join(variable.name for variable in reader.spec.variables)
    return f"{reader.spec.name} ({reader.spec.ndim}D, {variables}, dt {reader.spec.dt:.6g})"


def open(*paths: str | Path) -> Fields:
    """The trajectories of one system in files, folders or patterns.

    Raises DataError if nothing readable is there, or more than one system.
    """
    return Fields(open_readers(paths))


def open_source(source: SourceConfig) -> Fields:
    """The trajectories that one entry of a data config names, under its name."""
    return Fields(open_readers(source.paths, source), source.name)


def open_readers(paths: Sequence[str | Path], options: SourceConfig | None = None) -> list[Reader]:
    """A reader per file. Beside files that are recognised, a folder may hold others, which
    are left out with a notice; a file that is damaged, or named itself, is an error."""
    named = [Path(os.path.abspath(path)) for path in paths]
    readers: list[Reader] = []
    unknown: list[UnknownLayoutError] = []
    for file in find_files(paths):
        try:
            readers.append(open_reader(file, options))
        except UnknownLayoutError as error:
            if file in named:
                raise
            unknown.append(error)
    if not readers:
        raise unknown[0]
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
