"""What it takes to reach an error, and which error a cost comes to."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from matey.studies.statistics import Estimate, paired_ratio

Side = Literal["", "at least ", "at most "]
OPPOSITE: dict[Side, Side] = {"": "", "at least ": "at most ", "at most ": "at least "}


@dataclass(frozen=True)
class Reached:
    """What it took to reach an error: at least that much where it was not reached, at most where
    the first look, or the fewest weights, showed it already."""

    value: float
    side: Side = ""


def reached(curve: Sequence[tuple[int, float]], target: float, step_seconds: float) -> Reached:
    """The time until a curve of errors after so many steps first reaches an error, by linear
    interpolation."""
    for (early, above), (late, below) in pairwise(((0, math.inf), *curve)):
        if below <= target:
            if not math.isfinite(above):
                return Reached(late * step_seconds, "at most ")
            part = (above - target) / (above - below)
            return Reached((early + part * (late - early)) * step_seconds)
    return Reached(curve[-1][0] * step_seconds if curve else math.nan, "at least ")


def first_reached(tries: Sequence[Reached]) -> Reached:
    """The quickest of several models, at most that where one may have been quicker than its first
    look told; the longest try where none got there."""
    there = [one for one in tries if one.side != "at least "]
    if there:
        best = min(there, key=lambda one: one.value)
        return Reached(best.value, "at most " if any(one.side for one in there) else "")
    return max(tries, key=lambda one: one.value)


def ratio_of(ours: Mapping[int, Reached], theirs: Mapping[int, Reached]) -> Estimate:
    """How many times as much, paired by seed."""
    return paired_ratio(
        {seed: one.value for seed, one in ours.items()},
        {seed: one.value for seed, one in theirs.items()},
    )


def bound(ours: Mapping[int, Reached], theirs: Mapping[int, Reached]) -> str:
    """What a ratio is where some of either are bounds: one too, or no more than a guess."""
    sides = {one.side for one in ours.values()}
    sides |= {OPPOSITE[one.side] for one in theirs.values()}
    sides -= {""}
    return "about " if len(sides) > 1 else "".join(sides)


def cost_at(error: float, curve: Sequence[tuple[float, float]]) -> float:
    """The least cost at which some points reach an error, between them by power laws.

    `curve` are costs with errors. Where even the best has a larger error its cost is the answer:
    the true one is higher. Where the cheapest has a smaller one, that is.
    """
    return along(error, [(error, cost) for cost, error in reversed(falling(curve))])


def error_at(cost: float, curve: Sequence[tuple[float, float]]) -> float:
    """The least error of some points at a cost, between them by power laws.

    Below the cheapest, and beyond the dearest, theirs.
    """
    return along(cost, falling(curve))


def along(x: float, curve: Sequence[tuple[float, float]]) -> float:
    """The value at `x` of a curve of rising x, by power laws; beyond its ends the value there."""
    if not curve:
        return math.nan
    if x <= curve[0][0]:
        return curve[0][1]
    for (before, low), (after, high) in pairwise(curve):
        if x <= after:
            return low * (high / low) ** (math.log(x / before) / math.log(after / before))
    return curve[-1][1]


def falling(curve: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points, by rising cost, whose error is finite and below that of all cheaper ones."""
    envelope: list[tuple[float, float]] = []
    for cost, error in sorted(curve):
        if error < (envelope[-1][1] if envelope else math.inf):
            envelope.append((cost, error))
    return envelope
