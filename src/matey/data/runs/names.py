"""Numbers in the names of files, groups and datasets: counts of frames, of runs, times and dates.

The word before a number often says what it counts: `frame_0012`, `run3`, `t=-0.5`, `Step#0`.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from matey.data.layouts.conventions import words

FRAME_WORDS = words(
    "frame frames fr step steps timestep timesteps tstep t time times ts snap snapshot snapshots "
    "snaps dump iter iters iteration iterations it cycle cycles plt plot plotfile nt"
)
RUN_WORDS = words(
    "run runs sim simulation simulations sample samples traj trajectory trajectories member "
    "members mem ens ensemble case cases seed seeds realization realisation realizations exp "
    "experiment batch ic init initial trial id re ra pr ma"
)
PART_WORDS = words("part parts restart restarts segment seg chunk piece stage job leg")
TIMES = words("t time times ts")  # what stands before a time with a fraction
PLACE = "\0"  # stands for a number in a name without its numbers
NUMBER = re.compile(
    r"(?P<date>(?<!\d)(?:1[89]|2[0-3])\d\d[-_]?(?:0[1-9]|1[0-2])[-_]?(?:0[1-9]|[12]\d|3[01])"
    r"(?:[-_T ]?[0-2]\d(?:[-_:hH]?[0-5]\d(?:[-_:mM]?[0-5]\d)?)?)?(?!\d))"
    r"|(?P<number>(?:(?<=[=_])-|^-)?\d+)"  # elsewhere a - is a hyphen
)
FRACTION = re.compile(r"-?\d+(?:[.]\d+)?(?:[eE][-+]?\d+)?")
POINTED = re.compile(r"(?<!\d)(?<!\d[.])(\d+)[.](\d+)(?![.]?\d)")


@dataclass(frozen=True)
class Number:
    """A number in a name: the word before it, how it is written, its value (of a date: seconds
    since 1970), and which part of the path it stands in, counted from the file name at 0."""

    word: str
    text: str
    value: float
    depth: int
    is_date: bool = False

    @property
    def is_time(self) -> bool:
        """Whether it counts frames, or is the time of one: by the word before it, as a date, or as
        a fraction."""
        return self.is_date or self.word in FRAME_WORDS or bool(re.search("[.eE]", self.text))


@dataclass(frozen=True)
class Name:
    """A path with a place for each of its numbers, and the numbers."""

    skeleton: str
    numbers: tuple[Number, ...]


def parse_all(paths: Iterable[str]) -> list[Name]:
    """The numbers in paths. Paths that differ only in digits about a point are read alike."""
    paths = list(paths)
    skeletons = [POINTED.sub(PLACE, path) for path in paths]
    last = defaultdict[str, list[re.Match[str]]](list)
    for path, skeleton in zip(paths, skeletons, strict=True):
        last[skeleton] += [*POINTED.finditer(path)][-1:]
    decimal = {skeleton: are_decimals(pairs) for skeleton, pairs in last.items()}
    return [parse(p, decimals=decimal[s]) for p, s in zip(paths, skeletons, strict=True)]


def are_decimals(pairs: Sequence[re.Match[str]]) -> bool:
    """Whether digits on both sides of a point are one number, as 0.2500, 0.5000.

    They are two where the last count on by one, as in 1.0000, 1.0001; and where they are the same
    after each of several first ones, as in 1.0000, 1.0010, 2.0000, 2.0010, unless the numbers are
    evenly apart.
    """
    counts = defaultdict[str, set[int]](set)
    for pair in pairs:
        counts[pair.string[: pair.end(1)]].add(int(pair[2]))
    steps = {b - a for its in counts.values() for a, b in pairwise(sorted(its))}
    gaps = [b - a for a, b in pairwise(sorted({float(pair[0]) for pair in pairs}))]
    if not steps:
        return len(counts) > 1 and set.union(*counts.values()) == {0}
    repeated = len(counts) > 1 and len({frozenset(its) for its in counts.values()}) == 1
    return steps != {1} and (not repeated or max(gaps) - min(gaps) < 0.1 * max(gaps))


def parse(path: str, decimals: bool = False) -> Name:
    """The numbers in a path; of a file without its suffix. With `decimals` those with a point are
    each one number, unless the word before counts runs."""
    segments = path.split("/")
    skeletons, numbers = [], list[Number]()
    for i, segment in enumerate(segments):
        depth = len(segments) - 1 - i
        stem, suffix = split_suffix(segment) if not depth else (segment, "")
        skeleton, its = parse_segment(stem, depth, decimals)
        skeletons.append(skeleton + suffix)
        numbers += its
    return Name("/".join(skeletons), tuple(numbers))


def split_suffix(name: str) -> tuple[str, str]:
    """A file name's stem, and its suffix where that is none of a number."""
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix) if stem and re.match(r"[A-Za-z]|h5", suffix) else (name, "")


def parse_segment(text: str, depth: int, decimals: bool = False) -> tuple[str, list[Number]]:
    """One folder or file name. A fraction is one number after a word for time, or alone."""
    skeleton, numbers, place = "", list[Number](), 0
    while match := NUMBER.search(text, place):
        before = text[place : match.start()]
        word = re.search(r"([A-Za-z]+)[^A-Za-z0-9]*$", before)
        spelt = word[1].lower() if word else ""
        written, end, value, is_date = match[0], match.end(), 0.0, bool(match["date"])
        alone = not before and match.start() == 0
        whole = FRACTION.match(text, match.start())
        if whole and not is_date:
            fits = decimals and "." in whole[0] and spelt not in RUN_WORDS | PART_WORDS
            if fits or is_fraction(whole[0], spelt, before, alone, text):
                written, end = whole[0], whole.end()
        value = seconds(written) if is_date else float(written)
        skeleton += before + PLACE
        numbers.append(Number(spelt, written, value, depth, is_date))
        place = end
    return skeleton + text[place:], numbers


def is_fraction(written: str, word: str, before: str, alone: bool, text: str) -> bool:
    """Whether digits on both sides of a point, or with an exponent, are one number: after a word
    for time, alone, or where the last are too few for a count, as in `out_2.50`, `out_2.5e-01`."""
    if word in TIMES or before.endswith("="):
        return True
    if alone:
        return written == text
    plain = re.fullmatch(r"-?\d+(?:[.]\d{1,3}|(?:[.]\d+)?[eE][-+]\d+)", written)
    return plain is not None and word not in RUN_WORDS | PART_WORDS


def seconds(date: str) -> float:
    """A date in a name as seconds since 1970, UTC; as a number where there is no such day."""
    digits = re.sub(r"\D", "", date)
    pattern = "%Y%m%d%H%M%S"[: {8: 6, 10: 8, 12: 10, 14: 12}[len(digits)]]
    try:
        return datetime.strptime(digits + "+0000", pattern + "%z").timestamp()
    except ValueError:
        return float(digits)


def varying(names: Sequence[Name]) -> list[int]:
    """The places whose numbers differ among names of one skeleton; of those that differ together,
    the last."""
    columns = list(zip(*(name.numbers for name in names), strict=True))
    places = [i for i, column in enumerate(columns) if len({n.text for n in column}) > 1]
    kept = []
    for i in places:
        later = [j for j in places if j > i]
        if not any(one_to_one(columns[i], columns[j]) for j in later):
            kept.append(i)
    return kept


def one_to_one(first: Sequence[Number], second: Sequence[Number]) -> bool:
    """Whether two numbers of each name always change together."""
    pairs = {(a.text, b.text) for a, b in zip(first, second, strict=True)}
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
