"""What stands against a study's own verdicts, found in its outcomes."""

from collections.abc import Sequence

from matey.records.study import Outcome
from matey.studies.curves import decays_of
from matey.studies.design import OPERATIONS, Scale, mean_of, persistence, points_of
from matey.studies.statistics import estimate
from matey.words import listed

FEW = 8  # test trajectories
SEEDS = 3  # by which an interval begins to tell something
OPEN = 0.5  # share of the error above the floor, from which on a training counts as too short


def doubts(outcomes: Sequence[Outcome], scale: Scale) -> tuple[str, ...]:
    """What a reader should hold against the verdicts; empty where there is nothing."""
    found = (
        few_seeds(scale),
        few_tests(outcomes),
        edges(outcomes, scale),
        short(outcomes),
        idle(outcomes),
    )
    lost = sum(bool(one.failed) for one in outcomes)
    diverged = f"{lost} of {len(outcomes)} trainings diverged." if lost else ""
    return tuple(text for text in (*found, diverged) if text)


def systems_of(outcomes: Sequence[Outcome]) -> list[str]:
    """The systems that were scored, in order."""
    return list(dict.fromkeys(one.system for one in outcomes))


def few_seeds(scale: Scale) -> str:
    """Fewer seeds than intervals of single systems need."""
    if scale.seeds >= SEEDS:
        return ""
    if scale.seeds == 1:
        return (
            "One seed: how trainings differ is not known, and nothing is told of a single system "
            "for sure. Claims about several go by how these differ."
        )
    return f"{scale.seeds} seeds: intervals of single systems are wide. `--seeds {SEEDS}` goes on."


def few_tests(outcomes: Sequence[Outcome]) -> str:
    """Systems with few test trajectories."""
    counts = {one.system: len(one.by_trajectory) for one in outcomes if one.by_trajectory}
    few = [f"{system} ({count})" for system, count in counts.items() if count < FEW]
    return f"Fewer than {FEW} test trajectories: {listed(few)}." if few else ""


def edges(outcomes: Sequence[Outcome], scale: Scale) -> str:
    """Operating points whose best rate is the lowest or the highest that was tried."""
    chosen = {
        (one.system, one.point): one.rate
        for one in outcomes
        if one.budget == OPERATIONS and scale.rates
    }
    ends = (min(scale.rates, default=0), max(scale.rates, default=0))
    at = [f"{system}: {point}" for (system, point), rate in chosen.items() if rate in ends]
    if not at:
        return ""
    return (
        f"The best learning rate is the lowest or the highest of those tried for {len(at)} of "
        f"{len(chosen)} points, whose errors others might lower: {listed(at)}."
    )


def short(outcomes: Sequence[Outcome]) -> str:
    """Operating points that more training would still improve by much."""
    told, still = 0, []
    for system in systems_of(outcomes):
        for point in points_of(outcomes, system):
            decays = decays_of(outcomes, system, point)
            left = estimate(one.open for one in decays).mean
            told += left == left  # NaN where there is no curve
            if left > OPEN:
                still.append(f"{system}: {point}")
    if not still:
        return ""
    return (
        f"{len(still)} of {told} points are far from converged: more than half of their error is "
        f"above the floor of the fit. {listed(still)}."
    )


def idle(outcomes: Sequence[Outcome]) -> str:
    """Operating points that are no better than persistence."""
    weak = [
        f"{system}: {point}"
        for system in systems_of(outcomes)
        for point in points_of(outcomes, system)
        if mean_of(outcomes, system, point).mean >= persistence(outcomes, system)
    ]
    return f"No better than persistence: {listed(weak)}." if weak else ""
