"""Error against the cost of training: a curve of each operating point, and what it tends to.

Three trainings of each, with a tenth, a third and all of the operations, each to the end of its own
decay. Through them goes E = floor + factor · C^-power, with C the training over the longest one.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from matey.records.study import Outcome, Plot, Spot, SpotGroup, TextTable, Timing
from matey.studies.budgets import RATE, SHARES
from matey.studies.design import OPERATIONS, by_seed, mean_of, steps_of
from matey.studies.page import brief, ranged
from matey.studies.reach import along
from matey.studies.statistics import Estimate, estimate, geometric, paired_ratio

POWERS = np.geomspace(0.02, 4, 600)  # that are tried
LONGER = 10.0  # times: how far ahead the fit is read


@dataclass(frozen=True)
class Decay:
    """How an error falls with training, C = 1 being the longest: floor + factor · C^-power."""

    floor: float
    factor: float
    power: float

    def at(self, training: float) -> float:
        """The error after so much training."""
        return self.floor + self.factor * training**-self.power

    @property
    def gain(self) -> float:
        """The error after ten times the longest training over that after it."""
        return self.at(LONGER) / self.at(1)

    @property
    def open(self) -> float:
        """The share of the error that training goes on removing: 0 of a model that has converged,
        1 where no end is in sight."""
        return self.factor / self.at(1)


def fit_decay(curve: Sequence[tuple[float, float]]) -> Decay:
    """The decay of least squared relative errors through trainings and errors, neither of its
    terms below zero; NaN of fewer than two trainings, and where an error is not finite.

    Two trainings give a power law without a floor.
    """
    x, y = (
        np.array(column, dtype=float)
        for column in (zip(*curve, strict=True) if curve else ((), ()))
    )
    if len(x) < 2 or not bool(np.isfinite(y).all()) or bool((y <= 0).any()):
        return Decay(math.nan, math.nan, math.nan)
    best, least = Decay(float(y.mean()), 0.0, 1.0), math.inf
    for power in POWERS:
        for floor, factor in terms(x**-power / y, 1 / y, floored=len(x) > 2):
            apart = float(np.square((floor + factor * x**-power) / y - 1).sum())
            if apart < least * (1 - 1e-9):
                best, least = Decay(floor, factor, float(power)), apart
    return best


def terms(falling: np.ndarray, level: np.ndarray, floored: bool) -> list[tuple[float, float]]:
    """Floor and factor that fit ones best by two columns, those below zero left out; each column
    alone as well."""
    alone = [(0.0, float(falling.sum() / (falling @ falling)))]
    if not floored:
        return alone
    alone.append((float(level.sum() / (level @ level)), 0.0))
    both, *_ = np.linalg.lstsq(np.stack([level, falling], axis=1), np.ones(len(level)), rcond=None)
    return [*alone, *([(float(both[0]), float(both[1]))] if bool((both >= 0).all()) else [])]


def budgets_of(outcomes: Sequence[Outcome], system: str, point: str) -> list[str]:
    """The budgets that make a curve, from the shortest training to the longest."""
    there = {one.budget for one in outcomes if (one.system, one.point) == (system, point)}
    return [name for name in SHARES if name in there]


def curve_of(
    outcomes: Sequence[Outcome],
    system: str,
    point: str,
    value: Callable[[Outcome], float] = Outcome.error,
) -> dict[int, list[tuple[int, float]]]:
    """Steps and errors of the trainings of an operating point, from the shortest on, by seed."""
    curves: dict[int, list[tuple[int, float]]] = {}
    for one in outcomes:
        if (one.system, one.point) == (system, point) and one.budget in SHARES:
            curves.setdefault(one.seed, []).append((one.steps, value(one)))
    return {seed: sorted(curve) for seed, curve in curves.items()}


def decays_of(outcomes: Sequence[Outcome], system: str, point: str) -> list[Decay]:
    """The decay of each seed."""
    curves = curve_of(outcomes, system, point).values()
    return [
        fit_decay([(steps / curve[-1][0], error) for steps, error in curve]) for curve in curves
    ]


def at_equal_time(
    outcomes: Sequence[Outcome],
    timings: Mapping[str, Timing],
    system: str,
    point: str,
    reference: str,
) -> Estimate:
    """The error of a point after as much time of training as another took for all of its
    operations, over that one's: by all of the point's own trainings, between them by power laws in
    the number of steps, beyond all the nearest one's."""
    theirs = by_seed(outcomes, system, reference, OPERATIONS)
    took = by_seed(outcomes, system, reference, OPERATIONS, steps_of)
    factor = timings[reference].step_seconds / timings[point].step_seconds
    ours = {}
    for seed, steps in took.items():
        runs = sorted(
            (float(one.steps), one.error())
            for one in outcomes
            if (one.system, one.point, one.seed) == (system, point, seed) and one.budget != RATE
        )
        if runs:
            there = [run for run in runs if math.isfinite(run[1])]
            ours[seed] = along(factor * steps, there) if there else math.inf
    return paired_ratio(ours, theirs)


def has_curves(outcomes: Sequence[Outcome], system: str) -> bool:
    """Whether trainings on a system were repeated for shares of the operations."""
    return any(one.system == system and one.budget == "tenth" for one in outcomes)


def curve_plot(
    system: str,
    outcomes: Sequence[Outcome],
    timings: Mapping[str, Timing],
    points: Sequence[str],
) -> Plot:
    """Error against the time of training, a line for each operating point."""
    groups = []
    for point in points:
        spots = []
        for budget in budgets_of(outcomes, system, point):
            error = mean_of(outcomes, system, point, budget=budget)
            steps = mean_of(outcomes, system, point, steps_of, budget).mean
            seconds = steps * timings[point].step_seconds
            spots.append(Spot(f"{point}, {budget}", seconds, error.mean, error.low, error.high))
        groups.append(SpotGroup(point, tuple(spots), joined=True))
    return Plot(
        f"{system}: error over training",
        "seconds of training",
        "NRMSE one step ahead",
        tuple(groups),
    )


def curve_table(
    system: str,
    outcomes: Sequence[Outcome],
    timings: Mapping[str, Timing],
    points: Sequence[str],
) -> TextTable:
    """What each training took and came to, and how far from its end it is."""
    rows = []
    for point in points:
        timing, decays = timings[point], decays_of(outcomes, system, point)
        gain = geometric(one.gain for one in decays)
        left = estimate(one.open for one in decays)
        for budget in budgets_of(outcomes, system, point):
            steps = mean_of(outcomes, system, point, steps_of, budget).mean
            whole = budget == OPERATIONS
            rows.append(
                (
                    f"{point}, {budget}",
                    ranged(mean_of(outcomes, system, point, budget=budget)),
                    brief(steps, 4),
                    brief(steps * timing.step_seconds),
                    brief(steps * timing.operations),
                    brief(steps * timing.tokens),
                    brief(timing.step_bytes / 1e6),
                    brief(1e3 * timing.inference_seconds),
                    brief(timing.inference_bytes / 1e6),
                    brief(rate_of(outcomes, system, point)) if whole else "",
                    ranged(gain) if whole else "",
                    ranged(left) if whole else "",
                )
            )
    return TextTable(
        f"{system}: error against the cost of training",
        "Each training ends with a decay of its own. Tokens are those of a frame and sample, over "
        "all steps. Ten times as long: the error that the fit floor + factor · C^-power has there, "
        "over the present one; open: the share of the present error above the floor.",
        (
            *("training", "NRMSE one step ahead", "steps", "seconds", "operations", "tokens"),
            *("step MB", "inference ms", "inference MB", "rate", "ten times as long", "open"),
        ),
        tuple(rows),
    )


def rate_of(outcomes: Sequence[Outcome], system: str, point: str) -> float:
    """The learning rate of an operating point."""
    return mean_of(outcomes, system, point, lambda one: one.rate).mean
