"""Merges files of one run that hold different variables: `u.nc`, `v.nc` and `p.nc`.

That they belong together is certain where the name of a file, or of its folder, is that of what it
holds, and the rest of the names, times and grids agree. In one folder, files of other names with
the same times and positions may be of one run, or of two systems: a doubt.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from matey.data.formats.joined import TIME, Part, Run, Series
from matey.data.layouts.conventions import axis_of, words
from matey.data.layouts.draft_names import NAME_OF, VECTORS, plain_name
from matey.data.runs.glance import Glance
from matey.data.runs.names import FRAME_WORDS, PART_WORDS, PLACE, RUN_WORDS

NAMELESS = ("data", "arr_0")  # what NumPy calls an array without a name
ALIKE = 1e-6  # of a step: times that differ by less are the same
MIDWAY = 0.01  # of a step: how far faces may lie from the middle of two centres
WINDS = words("velocity vel wind winds flow uv uvw")


@dataclass(frozen=True)
class Piece:
    """A file or a joined run that may be some of the variables of a run."""

    run: Run
    look: Glance
    times: tuple[float, ...]

    @property
    def variables(self) -> frozenset[str]:
        return frozenset(self.look.arrays)


def merged(
    runs: Mapping[Path, Run], looks: Mapping[Path, Glance], left: Iterable[Path]
) -> list[Run]:
    """The runs that files with different variables are. `looks` are all files that were looked at,
    `runs` those joined in time by their first file, `left` the files that are no part of these."""
    nameless = [looks[path] for path in left if set(looks[path].arrays) <= set(NAMELESS)]
    joined = [
        Piece(run, looks[path], run.times) for path, run in runs.items() if len(run.series) == 1
    ]
    apart = words_apart([piece.run.path for piece in joined if is_nameless(piece.look)])
    pieces = [labelled(piece, apart.get(piece.run.path, "")) for piece in joined]
    pieces += [piece_of(looks[path]) for path in left if looks[path] not in nameless]
    return [*merge_named(pieces), *merge_nameless(nameless)]


def is_nameless(look: Glance) -> bool:
    """Whether a file holds one array, which has no name."""
    return len(look.arrays) == 1 and set(look.arrays) <= set(NAMELESS)


def words_apart(paths: Sequence[Path]) -> dict[Path, str]:
    """The words before numbers that tell files in a folder apart: `smoke_000012`, `dye_000012`."""
    folders = defaultdict[Path, dict[Path, str]](dict)
    for path in paths:
        found = re.findall(r"[A-Za-z]+", path.stem)
        if len(found) == 1 and found[0].lower() not in FRAME_WORDS | RUN_WORDS | PART_WORDS:
            folders[path.parent][path] = found[0]
    several = [its for its in folders.values() if len(set(its.values())) > 1]
    return {path: word for its in several for path, word in its.items()}


def labelled(piece: Piece, word: str) -> Piece:
    """The same, an array without a name called after the variable in the file's or folder's name;
    else by the `word` that tells the file from others."""
    path, look, series = piece.run.path, piece.look, piece.run.series[0]
    words = [*labels_in(path), *labels_in(path.parent)]
    if not is_nameless(look) or not (words or word):
        return piece
    name, label = next(iter(look.arrays)), (*words, word)[0]
    parts = tuple(replace(p, names={label: p.names.get(name, name)}) for p in series.parts)
    dims = {label: series.dims[name]} if name in series.dims else {}
    renamed = replace(series, parts=parts, along={label: series.along[name]}, dims=dims)
    changed = replace(look, arrays={label: look.arrays[name]}, along={label: look.along[name]})
    return Piece(replace(piece.run, series=(renamed,)), changed, piece.times)


def piece_of(look: Glance) -> Piece:
    """A file of many frames as a run of one part."""
    times = () if look.clock is None else tuple(float(time) for time in look.clock.times)
    frames = look.frames or 0
    series = Series((Part(look.path, look.stamp, 0, frames),), dict(look.along), look.others)
    clock = look.clock
    run = Run(
        look.path,
        (series,),
        times,
        clock.name if clock else TIME,
        clock.attributes if clock else {},
    )
    return Piece(run, look, times)


def merge_named(pieces: Sequence[Piece]) -> Iterator[Run]:
    """Runs of files whose arrays have names."""
    keys = {piece.run.path: key_of(piece) for piece in pieces}
    certain = defaultdict[str, list[Piece]](list)
    for piece in pieces:
        key = keys[piece.run.path]
        if key:
            certain[key].append(piece)
    done: set[Path] = set()
    for together in certain.values():
        group = fitting(together)
        if len(group) > 1:
            done |= {piece.run.path for piece in group}
            yield merge(group, ())
    folders = defaultdict[Path, list[Piece]](list)
    for piece in pieces:
        if piece.run.path not in done and piece.times and piece.look.coordinates:
            folders[piece.run.path.parent].append(piece)
    for alike in folders.values():
        group = fitting(alike)
        if len(group) == len(alike) > 1:
            names = ", ".join(piece.run.path.name for piece in group)
            doubt = (
                f"{names} hold different variables at the same times and places, and are taken for "
                "one run; they may be systems of their own"
            )
            yield merge(group, (doubt,))


def fitting(pieces: Sequence[Piece]) -> list[Piece]:
    """Those that have times, positions and parameters of the first, and other variables than any
    before."""
    group = list(pieces[:1])
    for piece in pieces[1:]:
        others = [piece.variables & one.variables for one in group]
        if not any(others) and same_place(group[0], piece):
            group.append(piece)
    return group


def same_place(first: Piece, second: Piece) -> bool:
    """Whether two files are on the same times and grid, as far as both say it."""
    a, b = np.array(first.times), np.array(second.times)
    step = float(np.min(np.diff(a))) if len(a) > 1 else 1.0
    if a.shape != b.shape or (len(a) and float(np.abs(a - b).max()) > ALIKE * step):
        return False
    if frames_in(first) != frames_in(second):
        return False
    here, there = first.look.coordinates, second.look.coordinates
    shared = set(here) & set(there)
    same = all(
        np.array_equal(here[axis], there[axis]) or interleaved(here[axis], there[axis])
        for axis in shared
    )
    return same and first.look.parameters == second.look.parameters


def interleaved(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether points of one grid lie midway between those of another, as faces of cells and centres
    do."""
    if abs(len(first) - len(second)) > 1 or min(len(first), len(second)) < 2:
        return False
    for longer, shorter in ((first, second), (second, first)):
        if len(longer) >= len(shorter):
            middles = [(points[1:] + points[:-1]) / 2 for points in (longer, shorter)]
            pairs = ((middles[0], shorter), (middles[1], longer[1:]))
            step = float(np.abs(np.diff(longer)).min())
            for middle, points in pairs:
                count = min(len(middle), len(points))
                if np.allclose(middle[:count], points[:count], rtol=0, atol=MIDWAY * step):
                    return True
    return False


def frames_in(piece: Piece) -> int:
    """How many frames it has."""
    return sum(part.stop - part.start for part in piece.run.series[0].parts)


def key_of(piece: Piece) -> str:
    """The path without the name of the variable that the file holds; empty where that is not in
    the names of the file or its folder."""
    path = str(piece.run.path)
    for label in spellings(piece.variables):
        pattern = rf"(?<![A-Za-z0-9]){re.escape(label)}(?![A-Za-z0-9])"
        top, name = path.rsplit("/", 2)[0], "/".join(path.rsplit("/", 2)[1:])
        key, count = re.subn(pattern, PLACE, name, flags=re.IGNORECASE)
        if count:
            return f"{top}/{key}"
    return ""


def spellings(variables: Iterable[str]) -> list[str]:
    """What a file of these variables may be called after them, longest first."""
    words: set[str] = set()
    names = [name.split("/")[-1] for name in variables]
    if len(names) == 1:
        canonical = NAME_OF.get(plain_name(names[0]))
        words = {
            names[0],
            *(word for word, its in NAME_OF.items() if canonical and its == canonical),
        }
    elif all(NAME_OF.get(plain_name(name), "").startswith("velocity_") for name in names):
        words = set(WINDS)
    elif all(NAME_OF.get(plain_name(name), "").startswith("magnetic_") for name in names):
        words = {"magnetic", "b", "mag"}
    return sorted(words, key=lambda word: (-len(word), word))


def merge(pieces: Sequence[Piece], doubts: tuple[str, ...]) -> Run:
    """One run of some files, side by side."""
    first = pieces[0].run
    names = [piece.run.path.name for piece in pieces]
    said = f"{', '.join(names)} are one run, of different variables"
    variables = "+".join(name for piece in pieces for name in sorted(piece.variables))
    keys = {key_of(piece) for piece in pieces}
    key = Path(keys.pop())
    top = key.parent.parent if PLACE in key.parent.name else key.parent
    path = top / key.name.replace(PLACE, variables if len(variables) < 80 else "all")
    if keys or path == Path():
        stems = "+".join(Path(name).stem for name in names)
        path = first.path.with_name(stems + first.path.suffix)
    return replace(
        first,
        path=path,
        series=tuple(series for piece in pieces for series in piece.run.series),
        join=("time", "variables") if "time" in first.join else ("variables",),
        dropped=any(piece.run.dropped for piece in pieces),
        assumptions=tuple(
            dict.fromkeys([said, *(text for p in pieces for text in p.run.assumptions)])
        ),
        doubts=(*doubts, *dict.fromkeys(text for p in pieces for text in p.run.doubts)),
    )


def merge_nameless(looks: Sequence[Glance]) -> Iterator[Run]:
    """Runs of NumPy files that are called after the variable or coordinate that each holds."""
    groups = defaultdict[str, dict[str, Glance]](dict)
    for look in looks:
        for label in labels_in(look.path):
            key = re.sub(rf"(?i)(?<![a-z0-9]){re.escape(label)}(?![a-z0-9])", PLACE, look.path.name)
            groups[f"{look.path.parent}/{key}"].setdefault(label, look)
            break
    for files in groups.values():
        fields = {n: f for n, f in files.items() if axis_of(n) is None}
        shapes = {tuple(a.shape) for f in fields.values() for a in f.arrays.values()}
        if len(fields) < 1 or len(files) < 2 or len(shapes) != 1:
            continue
        series = tuple(
            Series(
                (Part(look.path, look.stamp, 0, 0, {name: next(iter(look.arrays))}),), {}, (name,)
            )
            for name, look in files.items()
        )
        names = [look.path.name for look in files.values()]
        path = next(iter(files.values())).path
        yield Run(
            path.with_name(f"{'+'.join(sorted(fields))}{path.suffix}"),
            series,
            join=("variables",),
            assumptions=(f"{', '.join(names)} are one run, each called after what it holds",),
        )


def labels_in(path: Path) -> list[str]:
    """The words in a file's name that are those of a variable or a coordinate."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", path.stem) if word]
    whole = [path.stem] if path.stem.lower() in NAME_OF else []
    return [
        word
        for word in [*whole, *reversed(words)]
        if word.lower() in NAME_OF
        or word.lower() in VECTORS
        or axis_of(word) in ("time", "z", "y", "x")
    ]
