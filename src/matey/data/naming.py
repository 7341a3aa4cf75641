"""What systems are called where no file says it: after the folder that holds all of them."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from matey.data.layouts.base import ROUNDING
from matey.data.layouts.described import name_of_folder
from matey.data.reader import Reader


def name_alike(origin: Mapping[Reader, str | Path]) -> dict[Reader, str | Path]:
    """The same readers, each with the path that names it; those alike have one name.

    Files in several folders below one path that agree in variables, grid, sides, parameters and
    dt are one system, called after the folder that holds them all: runs in folders of their own.
    """
    groups: list[list[Reader]] = []
    places = places_of([Path(path) for path in origin.values()])
    for reader, path in origin.items():
        for group in groups:
            if places[Path(origin[group[0]])] == places[Path(path)] and alike(group[0], reader):
                group.append(reader)
                break
        else:
            groups.append([reader])
    names: dict[Reader, str] = {}
    for group in groups:
        folders = {reader.path.parent for reader in group}
        common = name_of_folder(Path(os.path.commonpath(folders)))
        if len(folders) > 1 and common and not group[0].contents.named:
            names |= dict.fromkeys(group, common)
    return {
        with_name(reader, names[reader]) if reader in names else reader: path
        for reader, path in origin.items()
    }


def places_of(paths: list[Path]) -> dict[Path, Path]:
    """Where each path that was given belongs: a folder to itself, but to its own folder where
    others beside it were given, as `runs/*` does; files belong together."""
    whole = {path: Path(os.path.abspath(path.expanduser())) for path in paths}
    folders = [place.parent for place in set(whole.values()) if place.is_dir()]
    return {
        path: Path()
        if not place.is_dir()
        else place.parent
        if folders.count(place.parent) > 1
        else place
        for path, place in whole.items()
    }


def alike(a: Reader, b: Reader) -> bool:
    """Whether two files without a system's name are of one system, and on one grid."""
    return (
        not (a.contents.named or b.contents.named)
        and same_system(a, b)
        and a.trajectories[0].grid == b.trajectories[0].grid
        and set(a.spec.parameters) == set(b.spec.parameters)
    )


def same_system(a: Reader, b: Reader) -> bool:
    """Whether variables, dimension, boundaries and dt (to rounding) agree."""
    return (
        a.spec.variables == b.spec.variables
        and a.spec.ndim == b.spec.ndim
        and a.trajectories[0].boundaries == b.trajectories[0].boundaries
        and abs(a.spec.dt - b.spec.dt) <= ROUNDING * a.spec.dt
    )


def with_name(reader: Reader, name: str) -> Reader:
    """The same reader with its system called so."""
    spec = replace(reader.spec, name=name)
    return reader.with_contents(replace(reader.contents, spec=spec))
