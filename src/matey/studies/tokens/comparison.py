"""Adaptive points beside uniform patches: the cost at equal error, and the error at equal cost."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from matey.records.study import Outcome, Timing
from matey.studies.design import OPERATIONS, STEPS, by_seed
from matey.studies.statistics import Estimate, geometric, paired_ratio
from matey.studies.tokens.design import COARSE, MEDIUM, UNIFORM

# Costs of a step, by name.
COSTS: dict[str, Callable[[Timing], float]] = {
    "tokens": lambda timing: timing.tokens,
    "operations": lambda timing: timing.operations,
    "step time": lambda timing: timing.step_seconds,
    "inference time": lambda timing: timing.inference_seconds,
    "memory": lambda timing: float(timing.step_bytes),
}


@dataclass(frozen=True)
class Beside:
    """An adaptive point beside uniform patches after trainings of one budget.

    `cheaper` is by cost of a step: how many times cheaper it is than the uniform patch of equal
    error; `bound` says `at most` where in some seed even the coarse patch has no larger an error,
    `at least` where in some no uniform patch is as good. Its error is `at_cost` times that of the
    uniform patch of equal step time, `best` times that of the uniform patch that is the best in
    validation, `medium` the medium one's.
    """

    cheaper: Mapping[str, Estimate]
    bound: str
    at_cost: Estimate
    best: Estimate
    medium: Estimate


@dataclass(frozen=True)
class Comparison:
    """An adaptive point of a system after equally many steps, and after equal operations.

    `time` is the error over the medium patch's after an equal time of training, `share` are the
    costs of a step over the medium patch's, `valid` the error on the validation windows.
    """

    point: str
    steps: Beside
    operations: Beside
    time: Estimate
    share: Mapping[str, float]
    valid: float

    @property
    def quick(self) -> bool:
        """Whether a step takes at most half the time of the medium patch's."""
        return self.share["step time"] <= 0.5


def compare(
    outcomes: Sequence[Outcome], costs: Mapping[str, Timing], system: str, point: str
) -> Comparison:
    """One adaptive point of one system beside the uniform ones."""
    ours, medium = costs[point], costs[MEDIUM]
    same_time = {
        seed: at_equal_time(outcomes, system, point, seed, ours, medium)
        for seed in by_seed(outcomes, system, point, OPERATIONS)
    }
    return Comparison(
        point=point,
        steps=beside(outcomes, costs, system, point, STEPS),
        operations=beside(outcomes, costs, system, point, OPERATIONS),
        time=paired_ratio(same_time, by_seed(outcomes, system, MEDIUM, OPERATIONS)),
        share={cost: of(ours) / of(medium) for cost, of in COSTS.items()},
        valid=mean_valid(outcomes, system, point, OPERATIONS),
    )


def mean_valid(outcomes: Sequence[Outcome], system: str, point: str, budget: str) -> float:
    """The mean error on validation windows: what choices go by. The medium patch, which is the
    reference, has cells of one budget only."""
    budget = OPERATIONS if point == MEDIUM else budget
    errors = by_seed(outcomes, system, point, budget, lambda one: one.valid).values()
    return math.fsum(errors) / len(errors) if errors else math.inf


@dataclass(frozen=True)
class Coarse:
    """The uniform coarse patch beside the medium one: error after equal operations, and share of
    the step time. What is cheap need not be adaptive."""

    error: Estimate
    share: float

    @property
    def passes(self) -> bool:
        """Whether its error is no larger at half the step time or less."""
        return self.error.mean <= 1 and self.share <= 0.5


def coarse_of(outcomes: Sequence[Outcome], costs: Mapping[str, Timing], system: str) -> Coarse:
    """The uniform coarse patch of one system."""
    errors = [by_seed(outcomes, system, name, OPERATIONS) for name in (COARSE, MEDIUM)]
    return Coarse(
        paired_ratio(errors[0], errors[1]),
        costs[COARSE].step_seconds / costs[MEDIUM].step_seconds,
    )


def beside(
    outcomes: Sequence[Outcome],
    costs: Mapping[str, Timing],
    system: str,
    point: str,
    budget: str,
) -> Beside:
    """One adaptive point beside the uniform ones, after trainings of one budget."""
    adaptive = by_seed(outcomes, system, point, budget)
    uniform = {name: by_seed(outcomes, system, name, budget) for name in UNIFORM}
    # The medium patch is the reference: its cells are of both budgets.
    uniform[MEDIUM] = by_seed(outcomes, system, MEDIUM, OPERATIONS)
    uniform = {name: errors for name, errors in uniform.items() if errors}
    best = min(uniform, key=lambda name: mean_valid(outcomes, system, name, budget))

    def curve(cost: str, seed: int) -> list[tuple[float, float]]:
        return [(COSTS[cost](costs[name]), errors[seed]) for name, errors in uniform.items()]

    return Beside(
        cheaper={
            cost: geometric(
                cost_at(error, curve(cost, seed)) / of(costs[point])
                for seed, error in adaptive.items()
            )
            for cost, of in COSTS.items()
        },
        bound=bound_of(adaptive, uniform),
        at_cost=paired_ratio(
            adaptive,
            {s: error_at(costs[point].step_seconds, curve("step time", s)) for s in adaptive},
        ),
        best=paired_ratio(adaptive, uniform[best]),
        medium=paired_ratio(adaptive, uniform[MEDIUM]),
    )


def bound_of(adaptive: Mapping[int, float], uniform: Mapping[str, Mapping[int, float]]) -> str:
    """What a gain is where the uniform patches leave it open to a side in some seed: a bound, or
    no more than a guess where they do to both."""
    sides = set()
    for seed, error in adaptive.items():
        errors = [row[seed] for row in uniform.values() if math.isfinite(row[seed])]
        if errors and error >= errors[0]:  # the coarsest patch that has an error
            sides.add("at most ")
        elif errors and error < min(errors):
            sides.add("at least ")
    return "about " if len(sides) > 1 else "".join(sides)


def cost_at(error: float, curve: Sequence[tuple[float, float]]) -> float:
    """The least cost at which uniform patches reach an error, between them by power laws.

    `curve` are costs with errors. Where even the best has a larger error its cost is the answer:
    the true one is higher. Where the cheapest has a smaller one, that is.
    """
    return along(error, [(error, cost) for cost, error in reversed(falling(curve))])


def error_at(cost: float, curve: Sequence[tuple[float, float]]) -> float:
    """The least error of uniform patches at a cost, between them by power laws.

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


def at_equal_time(
    outcomes: Sequence[Outcome], system: str, point: str, seed: int, ours: Timing, medium: Timing
) -> float:
    """The error after as much training time as the medium patch took, by its two trainings.

    Between them by a power law in the number of steps; beyond both, the nearer one's.
    """
    trained = [o for o in outcomes if (o.system, o.seed) == (system, seed)]
    reference = next(one for one in trained if one.point == MEDIUM)
    steps = reference.steps * medium.step_seconds / ours.step_seconds
    runs = sorted((one.steps, one.error()) for one in trained if one.point == point)
    (few, early), (many, late) = runs[0], runs[-1]
    if steps <= few or few == many:
        return early
    if steps >= many or not math.isfinite(early * late):
        return late
    return early * (late / early) ** (math.log(steps / few) / math.log(many / few))
