"""Do adaptive tokens reach the error of a uniform patch sooner, and for less in use?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matey.records.study import Answer, Claim, Outcome, Timing
from matey.studies.curves import curve_of
from matey.studies.design import OPERATIONS, mean_of, points_of
from matey.studies.page import brief, decide, picture, ranged
from matey.studies.reach import Reached, bound, ratio_of, reached
from matey.studies.statistics import Estimate
from matey.studies.tokens.design import COARSE, UNIFORM, adaptive_of

HALF = 0.5  # of the time, as claimed


@dataclass(frozen=True)
class Reaches:
    """An adaptive point on its way to the error of the uniform patch `goal`: its `time` of training
    over that one's, `at least` or `at most` by `side`, and what a prediction takes over that one's,
    in time and in memory. `coarse` is the time of the uniform coarse patch in words, unless that is
    the goal."""

    point: str
    goal: str
    time: Estimate
    side: str
    inference: float
    memory: float
    parts: Mapping[str, float]
    coarse: str

    @property
    def verdict(self) -> Answer:
        """Whether it takes at most half the time, in training and in use: for sure, in all of the
        interval; an error that was not reached took longer than its bound."""
        sooner = self.side in ("", "at most ") and self.time.high <= HALF
        unreached = self.side == "at least " and self.time.low >= HALF
        later = unreached or (self.side == "" and self.time.low > HALF)
        dearer = self.inference > HALF
        return decide(sooner and not dearer, later or dearer)


def reaches(
    outcomes: Sequence[Outcome], timings: Mapping[str, Timing], system: str, goal: str = ""
) -> Reaches:
    """The adaptive point of a system that gets to the error of a uniform patch first in validation,
    judged in the test. Without a `goal` that patch is the best in validation."""
    names = points_of(outcomes, system)
    goal = goal or min(
        (name for name in names if name in UNIFORM),
        key=lambda name: mean_of(outcomes, system, name, valid_of).mean,
    )
    tried = {
        name: reach_of(outcomes, timings, system, name, goal, in_test=False)
        for name in adaptive_of(names)
    }
    there = [name for name, (_, side) in tried.items() if side != "at least "] or [*tried]
    point = min(there, key=lambda name: tried[name][0].mean)
    time, side = reach_of(outcomes, timings, system, point, goal, in_test=True)
    ours, theirs = timings[point], timings[goal]
    coarse = ""
    if goal != COARSE:
        coarse_time, bounded = reach_of(outcomes, timings, system, COARSE, goal, in_test=True)
        coarse = f"{bounded}{ranged(coarse_time)}"
    return Reaches(
        point=point,
        goal=goal,
        time=time,
        side=side,
        inference=ours.inference_seconds / theirs.inference_seconds,
        memory=ours.inference_bytes / theirs.inference_bytes,
        parts=ours.parts,
        coarse=coarse,
    )


def valid_of(one: Outcome) -> float:
    """The error on the validation windows."""
    return one.valid


def reach_of(
    outcomes: Sequence[Outcome],
    timings: Mapping[str, Timing],
    system: str,
    point: str,
    goal: str,
    in_test: bool,
) -> tuple[Estimate, str]:
    """The time of training that a point takes to the error that another ends with, over that one's
    own, seed by seed, and which bound it is."""
    value = Outcome.error if in_test else valid_of
    goals = {
        one.seed: (value(one), one.steps * timings[goal].step_seconds)
        for one in outcomes
        if (one.system, one.point, one.budget) == (system, goal, OPERATIONS)
    }
    ours: dict[int, Reached] = {}
    theirs: dict[int, Reached] = {}
    for seed, curve in curve_of(outcomes, system, point, value).items():
        if seed in goals:
            ours[seed] = reached(curve, goals[seed][0], timings[point].step_seconds)
            theirs[seed] = Reached(goals[seed][1])
    return ratio_of(ours, theirs), bound(ours, theirs)


def reach_claim(rows: Mapping[str, Reaches], patch: str = "best uniform patch") -> Claim:
    """Half the time to the error of a patch, in training and in use?"""
    found = [one.verdict for one in rows.values()]
    held, failed = (found.count(answer) for answer in ("held", "not held"))
    return Claim(
        f"Adaptive tokens reach the error of the {patch} in at most half its time, in training and "
        "in use",
        decide(held == len(rows), failed == len(rows)),
        (
            f"It is so on {held} of {len(rows)} systems, and not so on {failed}, with the whole "
            "interval. Times are measured; trainings of a tenth, a third and all of the operations "
            "stand on the way.",
            *(sentence(system, one) for system, one in rows.items()),
        ),
        picture(
            f"Time to the error of the {patch}: the claim is below and left of 0.5",
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
        f"{one.goal}, {brief(one.inference)} times its time and {brief(one.memory)} times its "
        "memory in a prediction."
    )
    if one.coarse:
        text += f" The uniform coarse patch takes {one.coarse} times the training."
    if one.verdict == "held" or not one.parts:
        return text
    whole = sum(one.parts.values())
    shares = ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in one.parts.items())
    return f"{text} Of a prediction's time: {shares}."
