"""A first look at a file in no known layout: its arrays, how many frames it holds, and when."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from matey.config import Axis
from matey.data.formats import files
from matey.data.formats.container import Container, open_container
from matey.data.formats.encoding import number
from matey.data.formats.files import Stamp
from matey.data.formats.joined import TIME
from matey.data.layouts.draft import list_arrays, survey
from matey.data.layouts.draft_axes import FEW, ArrayShape, find_coordinates
from matey.data.layouts.draft_names import PARAMETERS
from matey.data.layouts.positions import read_positions
from matey.data.runs.clock import Clock, clock_of, time_among
from matey.data.runs.names import (
    FRAME_WORDS,
    PLACE,
    RUN_WORDS,
    Name,
    Number,
    parse,
    parse_segment,
    varying,
)

MANY = 4  # numbered arrays without zeros in front are steps only if there are so many
UNKNOWN = -1  # the axis of time where nothing tells whether there is one
_seen: ContextVar[dict[tuple[Path, Stamp], "Glance | None"] | None]
_seen = ContextVar("seen", default=None)  # inside `each_once`


@dataclass(frozen=True)
class Step:
    """One of several frames in a file: its number, the names of its arrays there, its time."""

    number: Number
    names: Mapping[str, str]
    time: float | None


@dataclass(frozen=True)
class Glance:
    """What decides whether files are one run.

    `arrays` are those that may be fields, and `along` their axes of time: None for none, UNKNOWN
    where nothing tells. `others` are names of arrays that all files of a run share, `coordinates`
    the positions among them. `steps` are frames that lie in groups or datasets of their own, and
    `doubt` is what else these may be. `names` are those of the arrays in the file, where a file of
    one frame has them in a group called after its step.
    """

    path: Path
    stamp: Stamp
    arrays: Mapping[str, ArrayShape]
    along: Mapping[str, int | None]
    others: tuple[str, ...]
    coordinates: Mapping[str, np.ndarray]
    parameters: Mapping[str, float]
    clock: Clock | None
    steps: tuple[Step, ...] = ()
    doubt: str = ""
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def frames(self) -> int | None:
        """How many frames lie along an axis of time: 0 if it is one without such an axis, None
        where nothing tells."""
        if UNKNOWN in self.along.values():
            return None
        sizes = [self.arrays[n].shape[p] for n, p in self.along.items() if p is not None]
        return max(sizes, default=0)

    def shape_of(self, name: str) -> tuple[int, ...]:
        """The shape of an array without its axis of time."""
        shape, along = self.arrays[name].shape, self.along[name]
        return shape if along is None else (*shape[:along], *shape[along + 1 :])


@contextmanager
def each_once() -> Iterator[None]:
    """In here a file is looked at once as long as it stays as it is, however often it is opened."""
    token = _seen.set({})
    try:
        yield
    finally:
        _seen.reset(token)


def glance(path: Path) -> Glance | None:
    """Look at a file; None if no array of it may be a field, or if its groups are trajectories.

    Raises DataError on a damaged file.
    """
    stamp, seen = files.stamp(path), _seen.get()
    if seen is None:
        return look(path, stamp)
    if (path, stamp) not in seen:
        seen[path, stamp] = look(path, stamp)
    return seen[path, stamp]


def look(path: Path, stamp: Stamp) -> Glance | None:
    """What `glance` sees in a file as it is at its stamp."""
    with files.guarded(path), closing(open_container(path)) as file:
        stored = everything = list_arrays(file)
        steps = find_steps(file, stored)
        numbered = {name for step in steps for name in step.names.values()}
        lone = None if steps else find_lone_step(file, stored)
        if steps or lone is not None:
            one = steps[0] if lone is None else lone
            first = {name: stored[at] for name, at in one.names.items()}
            numbered |= set(one.names.values())
            stored = {n: a for n, a in stored.items() if n not in numbered} | first
        coordinates = find_coordinates(stored)
        clock = clock_of(file, coordinates.get("time"))
        if lone is not None and clock is None:
            clock = Clock(TIME, np.array([lone.time]))
        lengths = {axis: max(stored[name].shape) for axis, name in coordinates.items()}
        axes = {
            name: time_axis(array, lengths)
            for name, array in stored.items()
            if name not in coordinates.values()
            and max(array.shape, default=1) > (1 if array.is_named else FEW)
            and (clock is None or name != clock.name)
        }
        if any(place is not None and place != UNKNOWN for place in axes.values()):
            axes = {name: place for name, place in axes.items() if place is not None}
        moment = clock is not None and len(clock.times) == 1
        doubt = ""
        if UNKNOWN in axes.values() and (are_frames(steps) if steps else moment):
            doubt = doubt_of(steps)
            axes = {name: None if place == UNKNOWN else place for name, place in axes.items()}
        own_groups = not steps and any(name.startswith("*/") for name in survey(everything))
        if not axes or own_groups or (steps and set(axes.values()) - {None}):
            return None
        others = [name for name in file.names() if name not in axes and name not in numbered]
        places = {axis: name for axis, name in coordinates.items() if axis != "time"}
        stated = {key: number(file.attributes().get(key)) for key in PARAMETERS}
        stated |= {
            name: float(files.read_coordinate(array, path, name).reshape(-1)[0])
            for name in file.names()
            if name in PARAMETERS
            and (array := file.array(name)).dtype.kind in "fiu"
            and np.prod(array.shape) == 1
        }
        return Glance(
            path,
            stamp,
            {name: stored[name] for name in axes},
            axes,
            tuple(name for name in others if clock is None or name != clock.name),
            {a: read_positions(file, n).ravel() for a, n in places.items()},
            {key: value for key, value in stated.items() if value is not None},
            None if steps else clock,
            steps,
            doubt,
            {} if lone is None else lone.names,
        )


def time_axis(array: ArrayShape, lengths: Mapping[Axis, int]) -> int | None:
    """The axis of time of an array; None if it has none, UNKNOWN where neither names of axes nor
    the lengths of coordinates tell."""
    shape = array.shape
    named = list(array.axes) or [None] * len(shape)
    if "time" in named:
        return named.index("time")
    if array.dims and all(array.dims):
        return None
    free = [i for i, size in enumerate(shape) if named[i] is None and size > 1]
    if lengths.get("time", 0) > 1:
        return next((i for i in free if shape[i] == lengths["time"]), UNKNOWN)
    space = [size for axis, size in lengths.items() if axis in ("z", "y", "x")]
    for i in list(free):
        if shape[i] in space:
            space.remove(shape[i])
            free.remove(i)
    told = len(free) < len([size for size in shape if size > 1])
    return None if told and all(shape[i] <= FEW for i in free) else UNKNOWN


def find_steps(file: Container, stored: Mapping[str, ArrayShape]) -> tuple[Step, ...]:
    """Groups or datasets that are frames by their numbers: `Velocity_0001`, `Step#0/rho`.

    None where the file has a time itself: then what is numbered are variables.
    """
    families = defaultdict[str, dict[str, Name]](dict)
    for name, array in stored.items():
        parsed = parse(name)
        if parsed.numbers and "time" not in array.axes:
            families[parsed.skeleton][name] = parsed
    arrays: dict[str, dict[str, tuple[str, Number]]] = {}
    for family in families.values():
        place = step_place(list(family.values()))
        if place is not None:
            number_of = {name: parsed.numbers[place] for name, parsed in family.items()}
            first = next(iter(family))
            arrays[without(first, number_of[first])] = {
                n.text.lstrip("0") or "0": (name, n) for name, n in number_of.items()
            }
    most = max((len(its) for its in arrays.values()), default=0)
    arrays = {name: its for name, its in arrays.items() if len(its) == most}
    keys = [set(its) for its in arrays.values()]
    if not keys or any(each != keys[0] for each in keys[1:]):
        return ()
    steps = []
    for key in keys[0]:
        names = {name: its[key][0] for name, its in arrays.items()}
        which = next(iter(arrays.values()))[key][1]
        steps.append(Step(which, names, time_of_step(file, names, which)))
    own_time = time_among(file.attributes()) is not None and any(s.time is None for s in steps)
    return () if own_time else tuple(sorted(steps, key=lambda step: step.number.value))


def find_lone_step(file: Container, stored: Mapping[str, ArrayShape]) -> Step | None:
    """The one frame of a file that holds it in a group with a number and a time; else None.

    As PLUTO (`Timestep_3/vars/rho`) and openPMD (`data/300/fields/rho`) write one frame a file.
    """
    frames: dict[str, dict[str, str]] = defaultdict(dict)
    numbers: dict[str, Number] = {}
    for name in stored:
        parts = name.split("/")
        numbered = [n for n in parse(name).numbers if n.depth]
        if len(numbered) == 1:
            group = "/".join(parts[: len(parts) - numbered[0].depth])
            frames[group][without(name, numbered[0])] = name
            numbers.setdefault(group, numbered[0])
    if len(frames) != 1:
        return None
    (group, names), which = next(iter(frames.items())), next(iter(numbers.values()))
    time = time_of_step(file, names, which)
    return None if time is None or which.word in RUN_WORDS else Step(which, names, time)


def step_place(family: list[Name]) -> int | None:
    """Which number of arrays named alike counts frames; None if none does."""
    places = varying(family) if len(family) > 1 else []
    words = {place: family[0].numbers[place].word for place in places}
    framed = [place for place in places if words[place] in FRAME_WORDS]
    places = framed or places
    if len(places) != 1 or words[places[0]] in RUN_WORDS:
        return None
    texts = [name.numbers[places[0]].text for name in family]
    padded = any(text.startswith("0") and len(text) > 1 for text in texts)
    return places[0] if framed or padded or len(family) >= MANY else None


def without(name: str, which: Number) -> str:
    """The name of an array without the number of its step: that of a group goes whole."""
    segments = name.split("/")
    place = len(segments) - 1 - which.depth
    if which.depth:
        return "/".join(segments[:place] + segments[place + 1 :])
    before, after = around(segments[-1], which)
    stem = re.sub("[ _]+(it|iteration)$", "", before.rstrip("_-.#=: ")) + after
    stem = stem.strip("_-.#=: ")
    if not stem and len(segments) > 1 and re.search("[A-Za-z]", segments[-2]):
        return "/".join(segments[:-1])
    return "/".join([*segments[:-1], stem or "data"])


def around(segment: str, which: Number) -> tuple[str, str]:
    """What stands before and after a number in a name."""
    skeleton, numbers = parse_segment(segment, which.depth)
    place = next(i for i, n in enumerate(numbers) if (n.word, n.text) == (which.word, which.text))
    pieces = skeleton.split(PLACE)
    texts = [*(n.text for n in numbers), ""]
    whole = [piece + number for piece, number in zip(pieces, texts, strict=True)]
    before = "".join(whole[:place]) + pieces[place]
    return before, "".join(whole[place + 1 :])


def time_of_step(file: Container, names: Mapping[str, str], which: Number) -> float | None:
    """The time that a step's group or one of its datasets gives, in an attribute or a scalar."""
    first = next(iter(names.values()))
    parts = first.split("/")
    if not which.depth:
        moment = time_among(file.attributes(first))
        beside = "/".join([*parts[:-2], "t", parts[-1]])  # Oceananigans: timeseries/t/0
        if moment is None and beside in file.names() and not file.array(beside).shape:
            return float(files.read_coordinate(file.array(beside), file.path, beside))
        return moment
    groups = ["/".join(parts[:end]) for end in range(len(parts) - which.depth, len(parts))]
    stated = (time_among(file.attributes(group)) for group in groups)
    moment, group = next((time for time in stated if time is not None), None), groups[0]
    for name in file.names() if moment is None else ():
        if name.startswith(f"{group}/") and np.prod(file.array(name).shape) == 1:
            last = name.split("/")[-1].lower()
            if last in ("time", "t", "sim_time"):
                return float(
                    files.read_coordinate(file.array(name), file.path, name).reshape(-1)[0]
                )
    return moment


def are_frames(steps: Sequence[Step]) -> bool:
    """Whether numbered arrays without named axes are frames: datasets are, groups by their times or
    their word."""
    which, timed = steps[0].number, all(step.time is not None for step in steps)
    return timed or which.word in FRAME_WORDS or (not which.depth and len(steps) >= MANY)


def doubt_of(steps: Sequence[Step]) -> str:
    """What numbered datasets may be instead of frames; empty where times or names tell."""
    told = not steps or steps[0].number.word in FRAME_WORDS
    if told or all(step.time is not None for step in steps):
        return ""
    first = next(iter(steps[0].names.values()))
    return (
        f"{len(steps)} datasets as {first} are taken for frames of one run; they may be as many "
        "variables (without `join`)"
    )


def labels(look: Glance) -> Mapping[str, tuple[str, ...]]:
    """Names of axes for frames that have none: two dimensions are y and x."""
    named: dict[str, tuple[str, ...]] = {}
    for name, array in look.arrays.items():
        plain = not look.coordinates and not any(array.dims) and look.along[name] is None
        if plain and len(array.shape) <= 2 and min(array.shape) > FEW:
            named[name] = (TIME, *("y", "x")[2 - len(array.shape) :])
    return named


def taken_for(look: Glance) -> list[str]:
    """What is assumed of frames whose axes have no names."""
    return [
        f"the axes of {name} {look.arrays[name].shape} in each frame are taken for "
        f"{', '.join(axes[1:])}"
        for name, axes in labels(look).items()
        if len(axes) > 2
    ]
