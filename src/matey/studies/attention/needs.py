"""Time, weights and error of a kind of model, relative to ViT."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from matey.records.study import Outcome, Timing
from matey.studies.attention.design import REFERENCE, AttentionScale, point
from matey.studies.curves import at_equal_time, curve_of
from matey.studies.design import OPERATIONS, STEPS, by_seed, error_ratio
from matey.studies.reach import Reached, along, bound, first_reached, ratio_of, reached
from matey.studies.statistics import Estimate, estimate, paired_ratio


@dataclass(frozen=True)
class Needs:
    """Costs and errors of a kind of model on one system, over those of ViT.

    At matched width: `error` after equal operations, `few` after equally many steps and `timely`
    after an equal time, `parameters`, `step_time` and `memory`. With as many weights, or as much
    memory, as ViT of the middle width, between the widths by power laws: `light` and `small`, the
    error after equal operations over that one's. At matched error: `time` and `weights`; `bounds`
    are which of the two are bounds, since some seeds did not reach the error, or reached it with
    the least that was tried.
    """

    system: str
    kind: str
    error: Estimate
    few: Estimate
    timely: Estimate
    light: Estimate
    small: Estimate
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
                looks = [(looks_of(outcomes, m), timings[m.point].step_seconds) for m in models]
                tries = [reached(curve, target, step_seconds) for curve, step_seconds in looks]
                times[name][seed] = first_reached(tries)
                weights[name][seed] = weights_for(target, sizes)
    return Needs(
        system=system,
        kind=kind,
        error=error_ratio(outcomes, system, (ours, OPERATIONS), (base, OPERATIONS)),
        few=error_ratio(outcomes, system, (ours, STEPS), (base, OPERATIONS)),
        timely=at_equal_time(outcomes, timings, system, ours, base),
        light=at_equal_cost(outcomes, timings, scale, system, kind, weights_of),
        small=at_equal_cost(outcomes, timings, scale, system, kind, memory_of),
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


def looks_of(outcomes: Sequence[Outcome], one: Outcome) -> Sequence[tuple[int, float]]:
    """Validation errors after so many steps: of trainings that each end with a decay of their own,
    where there are several, or else those on the way of one."""
    curves = curve_of(outcomes, one.system, one.point, lambda each: each.valid)
    curve = curves.get(one.seed, [])
    return curve if len(curve) > 1 else one.curve


def weights_of(timing: Timing) -> float:
    """The number of weights."""
    return float(timing.parameters)


def memory_of(timing: Timing) -> float:
    """The bytes of a step."""
    return float(timing.step_bytes)


def at_equal_cost(
    outcomes: Sequence[Outcome],
    timings: Mapping[str, Timing],
    scale: AttentionScale,
    system: str,
    kind: str,
    cost: Callable[[Timing], float],
) -> Estimate:
    """The error of a kind where its cost is that of ViT of the middle width, over that one's,
    between the widths by power laws; beyond them that of the nearest. NaN of a single width."""
    base = point(REFERENCE, scale.middle_width)
    if kind in scale.single:
        return estimate(())
    errors = {
        width: by_seed(outcomes, system, point(kind, width), OPERATIONS) for width in scale.widths
    }
    theirs = by_seed(outcomes, system, base, OPERATIONS)
    ours = {}
    for seed in theirs:
        curve = [
            (cost(timings[point(kind, width)]), row[seed])
            for width, row in errors.items()
            if math.isfinite(row.get(seed, math.nan))
        ]
        ours[seed] = along(cost(timings[base]), sorted(curve)) if curve else math.inf
    return paired_ratio(ours, theirs)


def of_kind(outcomes: Sequence[Outcome], system: str, kind: str) -> dict[int, list[Outcome]]:
    """The models of one kind and all widths that had equal operations, by seed; those that
    diverged left out."""
    models: dict[int, list[Outcome]] = {}
    for one in outcomes:
        same = (one.system, one.budget, one.point.rpartition(" ")[0]) == (system, OPERATIONS, kind)
        if same and not one.failed:
            models.setdefault(one.seed, []).append(one)
    return models


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
