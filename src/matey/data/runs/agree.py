"""What the drafts of several files have to agree on: which variables never change."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from matey.config import LayoutConfig, SourceConfig
from matey.data.reader import Reader, open_reader


def agree_on_static(
    readers: Mapping[Path, Reader], options: SourceConfig | None
) -> dict[Path, Reader]:
    """The same readers, where a variable that changes in one of the files that are laid out alike
    is static in none: a tracer that a run happens not to have is none of its constants."""
    groups: dict[str, list[tuple[Path, LayoutConfig]]] = {}
    for path, reader in readers.items():
        layout = reader.contents.described
        if layout is not None:
            key = repr(with_static(layout, frozenset()))
            groups.setdefault(key, []).append((path, layout))
    agreed = dict(readers)
    for group in groups.values():
        common = frozenset.intersection(*(static_in(layout) for _, layout in group))
        for path, layout in group:
            if static_in(layout) != common:
                agreed[path] = reopened(readers[path], with_static(layout, common), options)
    return agreed


def static_in(layout: LayoutConfig) -> frozenset[str]:
    """The arrays with an axis of time that a draft takes for static."""
    return frozenset(array.array for array in layout.arrays if array.static)


def with_static(layout: LayoutConfig, names: frozenset[str]) -> LayoutConfig:
    """The layout with these arrays as static ones."""
    arrays = tuple(replace(array, static=array.array in names) for array in layout.arrays)
    return replace(layout, arrays=arrays)


def reopened(reader: Reader, layout: LayoutConfig, options: SourceConfig | None) -> Reader:
    """A reader of the same file by another draft of it."""
    plain = options or SourceConfig("draft", tuple(map(str, reader.files)))
    again = open_reader(reader.source, replace(plain, layout=layout))
    said = [
        text
        for text in reader.contents.assumptions
        if " never changes, and is static" not in text
        or text.split(" never changes")[0] in static_in(layout)
    ]
    doubts = reader.contents.doubts
    contents = replace(again.contents, described=layout, assumptions=said, doubts=doubts)
    return again.with_contents(contents)
