"""Adaptive points beside uniform patches: the cost at equal error, and the error at equal cost."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matey.records.study import Outcome, Timing
from matey.studies.curves import at_equal_time
from matey.studies.design import OPERATIONS, STEPS, by_seed, error_ratio
from matey.studies.reach import cost_at, error_at
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
    return Comparison(
        point=point,
        steps=beside(outcomes, costs, system, point, STEPS),
        operations=beside(outcomes, costs, system, point, OPERATIONS),
        time=at_equal_time(outcomes, costs, system, point, MEDIUM),
        share={cost: of(ours) / of(medium) for cost, of in COSTS.items()},
        valid=mean_valid(outcomes, system, point, OPERATIONS),
    )


def mean_valid(outcomes: Sequence[Outcome], system: str, point: str, budget: str) -> float:
    """The mean error on validation windows: what choices go by."""
    budget = budget_of(point, budget)
    errors = by_seed(outcomes, system, point, budget, lambda one: one.valid).values()
    return math.fsum(errors) / len(errors) if errors else math.inf


def budget_of(point: str, budget: str) -> str:
    """The budget under which a point's cells stand: those of the medium patch, which is the
    reference, are of equal operations and of equal steps alike."""
    return OPERATIONS if (point, budget) == (MEDIUM, STEPS) else budget


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
    return Coarse(
        error_ratio(outcomes, system, (COARSE, OPERATIONS), (MEDIUM, OPERATIONS)),
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
    uniform = {name: by_seed(outcomes, system, name, budget_of(name, budget)) for name in UNIFORM}
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
        best=error_ratio(outcomes, system, (point, budget), (best, budget_of(best, budget))),
        medium=error_ratio(outcomes, system, (point, budget), (MEDIUM, OPERATIONS)),
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
