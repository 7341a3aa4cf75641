"""Do adaptive tokens reach the error of the best uniform patch sooner, and for less in use?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matey.records.study import Claim, Outcome, Timing
from matey.studies.curves import curve_of
from matey.studies.design import OPERATIONS, mean_of, points_of
from matey.studies.page import answer_for, brief, picture, ranged
from matey.studies.reach import Reached, bound, ratio_of, reached
from matey.studies.statistics import Estimate
from matey.studies.tokens.design import UNIFORM, adaptive_of

HALF = 0.5  # of the time, as claimed


@dataclass(frozen=True)
class Reaches:
    """An adaptive point on its way to the error of the uniform patch that is the best in
    validation: its `time` of training over that one's, `at least` or `at most` by `side`, and what
    a prediction takes over that one's, in time and in memory."""

    point: str
    best: str
    time: Estimate
    side: str
    inference: float
    memory: float
    parts: Mapping[str, float]

    @property
    def halved(self) -> bool:
        """Whether it takes at most half the time, in training and in use, in all of the interval.

        An error that was not reached is none.
        """
        reached_it = self.side in ("", "at most ")
        return reached_it and self.time.high <= HALF and self.inference <= HALF


def reaches(outcomes: Sequence[Outcome], timings: Mapping[str, Timing], system: str) -> Reaches:
    """The adaptive point of a system that gets there first in validation, judged in the test."""
    names = points_of(outcomes, system)
    best = min(
        (name for name in names if name in UNIFORM),
        key=lambda name: mean_of(outcomes, system, name, valid_of).mean,
    )
    tried = {
        name: reach_of(outcomes, timings, system, name, best, in_test=False)
        for name in adaptive_of(names)
    }
    there = [name for name, (_, side) in tried.items() if side != "at least "] or [*tried]
    point = min(there, key=lambda name: tried[name][0].mean)
    time, side = reach_of(outcomes, timings, system, point, best, in_test=True)
    ours, theirs = timings[point], timings[best]
    return Reaches(
        point=point,
        best=best,
        time=time,
        side=side,
        inference=ours.inference_seconds / theirs.inference_seconds,
        memory=ours.inference_bytes / theirs.inference_bytes,
        parts=ours.parts,
    )


def valid_of(one: Outcome) -> float:
    """The error on the validation windows."""
    return one.valid


def reach_of(
    outcomes: Sequence[Outcome],
    timings: Mapping[str, Timing],
    system: str,
    point: str,
    best: str,
    in_test: bool,
) -> tuple[Estimate, str]:
    """The time of training that a point takes to the error that another ends with, over that one's
    own, seed by seed, and which bound it is."""
    value = Outcome.error if in_test else valid_of
    goals = {
        one.seed: (value(one), one.steps * timings[best].step_seconds)
        for one in outcomes
        if (one.system, one.point, one.budget) == (system, best, OPERATIONS)
    }
    ours: dict[int, Reached] = {}
    theirs: dict[int, Reached] = {}
    for seed, curve in curve_of(outcomes, system, point, value).items():
        if seed in goals:
            ours[seed] = reached(curve, goals[seed][0], timings[point].step_seconds)
            theirs[seed] = Reached(goals[seed][1])
    return ratio_of(ours, theirs), bound(ours, theirs)


def reach_claim(rows: Mapping[str, Reaches]) -> Claim:
    """Half the time to the same error, in training and in use?"""
    halved = sum(one.halved for one in rows.values())
    return Claim(
        "Adaptive tokens reach the error of the best uniform patch in at most half its time, in "
        "training and in use",
        answer_for(halved, len(rows)),
        (
            f"It is so on {halved} of {len(rows)} systems, with the whole interval. Times are "
            "measured; trainings of a tenth, a third and all of the operations stand on the way.",
            *(sentence(system, one) for system, one in rows.items()),
        ),
        picture(
            "Time to the error of the best uniform patch: the claim is below and left of 0.5",
            "prediction time over the uniform's",
            "training time over the uniform's",
            {system: (one.inference, one.time) for system, one in rows.items()},
            *(HALF, HALF),
        ),
    )


def sentence(system: str, one: Reaches) -> str:
    """One system in words; where it falls short, what takes the time."""
    text = (
        f"{system}: {one.point} takes {one.side}{ranged(one.time)} times the training of "
        f"{one.best}, {brief(one.inference)} times its time and {brief(one.memory)} times its "
        "memory in a prediction."
    )
    if one.halved or not one.parts:
        return text
    whole = sum(one.parts.values())
    shares = ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in one.parts.items())
    return f"{text} Of a prediction's time: {shares}."
