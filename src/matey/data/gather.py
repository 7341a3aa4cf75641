"""Opens whatever paths or a data config name, and tells its systems apart, for inspection."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matey.config import DataConfig, SourceConfig
from matey.data.files import UnknownLayoutError, log
from matey.data.reader import (
    Fields,
    Reader,
    find_files,
    group_by_system,
    open_reader,
    open_source,
)
from matey.errors import MateyError


@dataclass(frozen=True)
class Opened:
    """One system, and the paths that a data config would name for it."""

    fields: Fields
    paths: tuple[Path, ...]


def open_config(config: DataConfig) -> tuple[list[Opened], list[str]]:
    """The systems of a data config, and why others cannot be opened."""
    opened, problems = [], []
    for source in config.systems:
        try:
            opened.append(Opened(open_source(source), tuple(map(Path, source.paths))))
        except MateyError as error:
            problems.append(str(error))
    return opened, problems


def open_systems_in(
    paths: Sequence[str | Path], options: SourceConfig | None
) -> tuple[list[Opened], list[str]]:
    """The systems in files, folders or patterns, and why some files cannot be opened.

    Raises DataError only where a path names nothing.
    """
    problems: list[str] = []
    origin = open_each(paths, options, problems)
    names: Counter[str] = Counter()
    opened = []
    groups = [g for system in group_by_system(origin) for g in group_by_draft(system)]
    for group in groups:
        first = group[0].spec.name
        names[first] += 1
        name = first if names[first] == 1 else f"{first}_{names[first]}"
        try:
            fields = Fields(group, name)
        except MateyError as error:
            problems.append(str(error))
            continue
        opened.append(Opened(fields, tuple(config_paths(group, groups, origin))))
    return opened, problems


def open_each(
    paths: Sequence[str | Path], options: SourceConfig | None, problems: list[str]
) -> dict[Reader, str | Path]:
    """A reader per file, and the path that named it; why others are none joins the `problems`."""
    origin: dict[Reader, str | Path] = {}
    seen: set[Path] = set()
    for path in paths:
        unknown, known = [], 0
        for file in find_files([path]):
            if file in seen:
                continue
            seen.add(file)
            try:
                origin[open_reader(file, options)] = path
                known += 1
            except UnknownLayoutError as error:
                unknown.append(str(error))
            except MateyError as error:
                problems.append(str(error))
        if known and unknown and not Path(path).is_file():
            for message in unknown:
                log.warning(f"Left out: {message}")
        else:
            problems += unknown
    return origin


def group_by_draft(readers: list[Reader]) -> list[list[Reader]]:
    """Readers of one system by their drafted layout, as one entry of a config has one."""
    groups: dict[str, list[Reader]] = {}
    for reader in readers:
        groups.setdefault(repr(reader.contents.described), []).append(reader)
    return list(groups.values())


def config_paths(
    group: list[Reader], groups: list[list[Reader]], origin: dict[Reader, str | Path]
) -> list[Path]:
    """What to write for a system: the path given, or the file's folder, if that names no
    other system; else the file."""
    others = [r for other in groups if other is not group for r in other]
    chosen: dict[Path, None] = {}
    for reader in group:
        given = origin[reader]
        folder = reader.path.parent
        if not any(origin[other] == given for other in others):
            chosen.setdefault(Path(os.path.abspath(given)))
        elif Path(given).is_dir() and not any(o.path.is_relative_to(folder) for o in others):
            chosen.setdefault(folder)
        else:
            chosen.setdefault(reader.path)
    return list(chosen)
