"""Opens whatever paths name: files, and runs that lie in several of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from matey.config import SourceConfig
from matey.data.formats.files import MESHES, PARALLEL
from matey.data.formats.find import find_named
from matey.data.formats.joined import Run
from matey.data.layouts.described import Described
from matey.data.naming import name_alike
from matey.data.reader import Reader, layouts_of, open_reader, recognise
from matey.data.resample.programs import set_aside
from matey.data.runs.agree import agree_on_static
from matey.data.runs.gather import Asked, gather
from matey.errors import MateyError

Origin = dict[Reader, str | Path]  # readers, and the path that names each


def open_named(
    paths: Sequence[str | Path], options: SourceConfig | None = None
) -> tuple[Origin, dict[Path, MateyError]]:
    """A reader for each file or run, and why others cannot be opened, by their path.

    Raises DataError only where a path names nothing.
    """
    named = find_named(paths)
    readers: dict[Path, Reader] = {}
    errors: dict[Path, MateyError] = {}
    rest: list[Path] = []
    asked = asked_of(options)
    described = options is not None and options.layout is not None
    # What is in HDF5 or NetCDF may be described whoever wrote it, a file of VTK never.
    meshes = [path for path in named if path.suffix.lower() in (*MESHES, *PARALLEL)]
    aside = set_aside(meshes if described else named)
    errors |= {path: error for path, error in aside.items() if error is not None}
    for path in named:
        if path in aside:
            continue
        try:
            layouts = layouts_of(path, options)
            certain = [layout for layout in layouts if not isinstance(layout, Described)]
            reader = recognise(path, certain, options) if certain else None
        except MateyError as error:
            errors[path] = error
            continue
        if reader is None:
            rest.append(path)
        else:
            readers[path] = reader
    sources: Sequence[Path | Run] = rest
    unsure: dict[Path, str] = {}
    if asked.join or not described:
        sources = gather(rest, asked, errors, unsure)
    for source in sources:
        first = source.files[0] if isinstance(source, Run) else source
        try:
            reader = open_reader(source, options)
            readers[first] = doubted(reader, unsure[first]) if first in unsure else reader
        except MateyError as error:
            errors[first] = error
    if not described:
        readers = agree_on_static(readers, options)
    return name_alike({readers[file]: path for file, path in named.items() if file in readers}), {
        file: errors[file] for file in named if file in errors
    }


def doubted(reader: Reader, doubt: str) -> Reader:
    """The reader of a file that may be a part of a run."""
    contents = reader.contents
    layout = contents.described
    if layout is None:
        return reader
    layout = replace(layout, doubts=(*layout.doubts, doubt))
    return reader.with_contents(
        replace(contents, described=layout, doubts=(*contents.doubts, doubt))
    )


def asked_of(options: SourceConfig | None) -> Asked:
    """What a data config says of joining."""
    if options is None:
        return Asked()
    join = (options.join,) if isinstance(options.join, str) else options.join
    return Asked(join, options.duplicates == "drop", options.layout)
