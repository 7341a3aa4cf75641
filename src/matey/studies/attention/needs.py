"""Time, weights and error of a kind of model, relative to ViT."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from matey.records.study import Outcome, Timing
from matey.studies.attention.design import REFERENCE, AttentionScale, point
from matey.studies.design import OPERATIONS, STEPS, by_seed
from matey.studies.statistics import Estimate, paired_ratio

Side = Literal["", "at least ", "at most "]
OPPOSITE: dict[Side, Side] = {"": "", "at least ": "at most ", "at most ": "at least "}


@dataclass(frozen=True)
class Needs:
    """Costs and errors of a kind of model on one system, over those of ViT.

    At matched width: `error` after equal operations and `few` after equally many steps,
    `parameters`, `step_time` and `memory`. At matched error: `time` and `weights`; `bounds` are
    which of the two are bounds, since some seeds did not reach the error, or reached it with the
    least that was tried.
    """

    system: str
    kind: str
    error: Estimate
    few: Estimate
    parameters: float
    step_time: float
    memory: float
    time: Estimate
    weights: Estimate
    bounds: Mapping[str, str]


def needs(
    outcomes: Sequence[Outcome],
    timings: Mapping[str, Timing],
    scale: AttentionScale,
    system: str,
    kind: str,
) -> Needs:
    """One kind beside ViT on one system."""
    middle = scale.middle_width
    ours, base = point(kind, middle), point(REFERENCE, middle)
    # Seed by seed, so that the reference reaches it in each.
    targets = by_seed(outcomes, system, base, OPERATIONS, lambda one: one.valid)
    times: dict[str, dict[int, Reached]] = {}
    weights: dict[str, dict[int, Reached]] = {}
    for name in (kind, REFERENCE):
        times[name], weights[name] = {}, {}
        for seed, models in of_kind(outcomes, system, name).items():
            if seed in targets:
                target, sizes = targets[seed], [(float(m.parameters), m.valid) for m in models]
                looks = [(m.curve, timings[m.point].step_seconds) for m in models]
                tries = [reached(curve, target, step_seconds) for curve, step_seconds in looks]
                times[name][seed] = first_reached(tries)
                weights[name][seed] = weights_for(target, sizes)
    errors = by_seed(outcomes, system, base, OPERATIONS)
    return Needs(
        system=system,
        kind=kind,
        error=paired_ratio(by_seed(outcomes, system, ours, OPERATIONS), errors),
        few=paired_ratio(by_seed(outcomes, system, ours, STEPS), errors),
        parameters=timings[ours].parameters / timings[base].parameters,
        step_time=timings[ours].step_seconds / timings[base].step_seconds,
        memory=timings[ours].step_bytes / timings[base].step_bytes,
        time=ratio_of(times[kind], times[REFERENCE]),
        weights=ratio_of(weights[kind], weights[REFERENCE]),
        bounds={
            "time": bound(times[kind], times[REFERENCE]),
            "weights": bound(weights[kind], weights[REFERENCE]),
        },
    )


def of_kind(outcomes: Sequence[Outcome], system: str, kind: str) -> dict[int, list[Outcome]]:
    """The models of one kind and all widths that had equal operations, by seed; those that
    diverged left out."""
    models: dict[int, list[Outcome]] = {}
    for one in outcomes:
        same = (one.system, one.budget, one.point.rpartition(" ")[0]) == (system, OPERATIONS, kind)
        if same and not one.failed:
            models.setdefault(one.seed, []).append(one)
    return models


@dataclass(frozen=True)
class Reached:
    """What it took to reach an error: at least that much where it was not reached, at most where
    the first look, or the fewest weights, showed it already."""

    value: float
    side: Side = ""


def reached(curve: Sequence[tuple[int, float]], target: float, step_seconds: float) -> Reached:
    """The time until a validation curve first reaches an error, by linear interpolation."""
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


def weights_for(target: float, curve: Sequence[tuple[float, float]]) -> Reached:
    """The fewest weights that reach an error, by a power law between two widths."""
    rows = sorted(curve)
    if rows[0][1] <= target:
        return Reached(rows[0][0], "at most ")
    for (few, worse), (many, better) in pairwise(rows):
        if better <= target < worse:
            if not math.isfinite(worse):
                return Reached(many, "at most ")
            part = math.log(worse / target) / math.log(worse / better)
            return Reached(few * (many / few) ** part)
    return Reached(rows[-1][0], "at least ")


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
