"""Which files are one run: those called alike but for the number of the output."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from matey.data.formats.files import shown
from matey.data.resample.frames import Frame
from matey.data.runs.names import PLACE, RUN_WORDS, Name, parse_all, split_suffix, varying
from matey.errors import DataError


@dataclass(frozen=True)
class Series:
    """The files of one run, each with the number of its output if it has one."""

    name: str
    files: tuple[tuple[Path, float | None], ...]


def series_of(files: Sequence[Path]) -> list[Series]:
    """The runs that files are, each under a name of its own."""
    alike = defaultdict[str, list[tuple[Path, Name]]](list)
    for path, name in zip(files, parse_all(map(str, files)), strict=True):
        alike[name.skeleton].append((path, name))
    runs: list[Series] = []
    for members in alike.values():
        names = [name for _, name in members]
        places = varying(names) if len(names) > 1 else []
        frame = frame_place(names, places)
        groups = defaultdict[tuple[str, ...], list[tuple[Path, Name]]](list)
        for path, name in members:
            rest = tuple(name.numbers[i].text for i in places if i != frame)
            groups[rest].append((path, name))
        for run in groups.values():
            counted = tuple(
                (path, None if frame is None else name.numbers[frame].value) for path, name in run
            )
            runs.append(Series(stem_of(run[0][1], frame), counted))
    return [replace(run, name=name) for run, name in zip(runs, names_of(runs), strict=True)]


def stem_of(name: Name, frame: int | None) -> str:
    """A file's name without its suffix and the number that counts outputs."""
    skeleton = split_suffix(name.skeleton.split("/")[-1])[0]
    pieces = skeleton.split(PLACE)
    inside = [i for i, number in enumerate(name.numbers) if not number.depth]
    texts = ["" if i == frame else name.numbers[i].text for i in inside]
    joined = "".join(a + b for a, b in zip(pieces, [*texts, ""], strict=True))
    return joined.strip("._- ") or "run"


def frame_place(names: Sequence[Name], places: Sequence[int]) -> int | None:
    """The number that counts outputs: the last in the file's name that does not count runs, else
    the last one in a folder's that is a time."""
    numbers = names[0].numbers
    left = [i for i in places if numbers[i].word not in RUN_WORDS]
    in_file = [i for i in left if not numbers[i].depth]
    in_folder = [i for i in left if any(name.numbers[i].is_time for name in names)]
    return next((i for i in (*reversed(in_file), *reversed(in_folder))), None)


def names_of(runs: Sequence[Series]) -> list[str]:
    """A name of its own for each run, with as many of its folders as it takes."""
    folders = [run.files[0][0].parent.parts[1:] for run in runs]
    for depth in range(max(map(len, folders)) + 1):
        ends = [parts[max(0, len(parts) - depth) :] for parts in folders]
        names = ["_".join([*end, run.name]) for end, run in zip(ends, runs, strict=True)]
        if len(set(names)) == len(names):
            return names
    return [f"{run.name}_{n}" for n, run in enumerate(runs)]


def in_order(frames: Sequence[tuple[Frame, float | None]], dt: float | None) -> list[Frame]:
    """Frames in order of time. Without times in the files they are `dt` apart, in order of their
    numbers; without `dt` the numbers are taken.

    Raises DataError where two have one time, or nothing tells the order.
    """
    timed = [frame.time for frame, _ in frames if frame.time is not None]
    if len(timed) < len(frames):
        if len(frames) > 1 and any(number is None for _, number in frames):
            raise DataError(
                f"{shown(frames[0][0].path)} and others of its run hold neither times nor a number "
                "each: their order is unknown. Number them in order of time."
            )
        ordered = sorted(frames, key=lambda pair: pair[1] or 0.0)
        numbers = [number or 0.0 for _, number in ordered]
        times = [n * dt for n in range(len(ordered))] if dt else numbers
        return [at(frame, time) for (frame, _), time in zip(ordered, times, strict=True)]
    result = sorted((frame for frame, _ in frames), key=lambda frame: frame.time or 0.0)
    for one, other in pairwise(result):
        if one.time == other.time:
            raise DataError(
                f"{shown(one.path)} and {shown(other.path)} are both at time {one.time:g}. Name "
                "the files of one run alone, or leave out one of these."
            )
    return result


def at(frame: Frame, time: float) -> Frame:
    """The same frame at another time."""
    return replace(frame, time=time)
