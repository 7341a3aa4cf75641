"""Verdicts of the study of tokens."""

import math
from collections.abc import Sequence

from matey.records.study import Claim, Outcome, Timings
from matey.studies.curves import at_equal_time
from matey.studies.design import (
    OPERATIONS,
    STEPS,
    by_seed,
    error_ratio,
    mean_of,
    persistence,
    steps_of,
)
from matey.studies.page import answer_above, answer_below, answer_for, brief, picture, ranged
from matey.studies.statistics import estimate, over_systems, paired_ratio
from matey.studies.tokens.comparison import Coarse, Comparison
from matey.studies.tokens.design import COARSE, FINE, MEDIUM, PUBLISHED, UNIFORM

AIM = (2.0, 5.0)  # times cheaper, as claimed
HALF = 0.5  # of the step time
GOOD_GUIDE = 0.5  # rank correlation from which on a criterion counts as a good guide


def best(points: Sequence[Comparison]) -> Comparison:
    """The cheapest point in step time among those with nearly the best validation error.

    Chosen without a look at the test: within a tenth of the best validation error, the cheapest.
    """
    least = min(one.valid for one in points)
    near = [one for one in points if one.valid <= 1.1 * least]
    return min(near, key=lambda one: one.share["step time"])


def cheaper_claim(comparisons: dict[str, list[Comparison]]) -> Claim:
    """2 to 5 times cheaper at equal error?"""
    judged = {system: best(own) for system, own in comparisons.items()}
    gains = [one.steps.cheaper["step time"] for one in judged.values()]
    answer = answer_above(gains, AIM[0], {one.steps.bound for one in judged.values()})
    sentences = []
    for system, one in judged.items():
        steps, equal = one.steps, one.operations
        sentences.append(
            f"{system}: {one.point} is {steps.bound}{ranged(steps.cheaper['step time'])} times "
            f"cheaper in step time than the uniform patch of equal error, "
            f"{ranged(steps.cheaper['operations'])} in operations, "
            f"{ranged(steps.cheaper['tokens'])} in tokens, {ranged(steps.cheaper['memory'])} in "
            f"memory. After trainings of equal operations {equal.bound}"
            f"{ranged(equal.cheaper['step time'])} in step time."
        )
    return Claim(
        "Adaptive tokens are 2 to 5 times cheaper at equal error",
        answer,
        ("Judged by step time, after equally many optimizer steps.", *sentences),
        picture(
            "Times cheaper at equal error: the claim is above 2",
            "in tokens",
            "in step time",
            {
                system: (one.steps.cheaper["tokens"].mean, one.steps.cheaper["step time"])
                for system, one in judged.items()
            },
            goal_y=AIM[0],
        ),
    )


def half_claim(comparisons: dict[str, list[Comparison]], coarse: dict[str, Coarse]) -> Claim:
    """Equal or lower error than the medium patch for half its step time, on each system?

    Of the points that are quick enough the one of the lowest validation error is judged: the best
    of many by the test itself would be too good. Beside it stands the uniform coarse patch, which
    is cheap as well.
    """
    sentences, held, spots = [], 0, {}
    for system, points in comparisons.items():
        one = min((one for one in points if one.quick), key=lambda one: one.valid, default=None)
        nearest = one or min(points, key=lambda one: one.share["step time"])
        spots[system] = (nearest.share["step time"], nearest.operations.medium)
        if one is not None and one.operations.medium.mean <= 1:
            held += 1
            error = one.operations.medium
            sure = "" if error.high <= 1 else ", within the scatter of the seeds"
            sentences.append(
                f"{system}: {one.point} has {ranged(error)} times the error for "
                f"{brief(one.share['step time'])} of the step time{sure}; after equally many steps "
                f"{ranged(one.steps.medium)} times. {beside_coarse(coarse[system])}"
            )
        else:
            sentences.append(f"{system}: none. {why_none(points)} {beside_coarse(coarse[system])}")
    return Claim(
        "On each system some adaptive point has no larger an error than the uniform medium patch "
        "for at most half its step time",
        answer_for(held, len(comparisons)),
        (
            f"It is so on {held} of {len(comparisons)} systems, after trainings of equal "
            "operations. The uniform coarse patch does it on "
            f"{sum(one.passes for one in coarse.values())}: where "
            "it does, the gain is one of cheap steps, and need not be one of adaptive tokens.",
            *sentences,
        ),
        picture(
            "The best point for half the step time, or the quickest: the claim is below and left",
            "step time over the medium patch's",
            "error over the medium patch's",
            spots,
            *(HALF, 1),
        ),
    )


def beside_coarse(coarse: Coarse) -> str:
    """The uniform coarse patch, in numbers."""
    return (
        f"The coarse patch has {ranged(coarse.error)} times the error for {brief(coarse.share)} of "
        "the step time."
    )


def why_none(points: Sequence[Comparison]) -> str:
    """Why no adaptive point of a system qualifies, in numbers."""
    quick = [one for one in points if one.quick]
    good = [one for one in points if one.operations.medium.mean <= 1]
    if not quick:
        one = min(points, key=lambda one: one.share["step time"])
        return (
            f"The quickest, {one.point}, takes {brief(one.share['step time'])} of the step time "
            f"with {brief(one.share['tokens'])} of the tokens and {brief(one.share['operations'])} "
            "of the operations: too much is refined, or what a step does besides its tokens "
            "weighs in."
        )
    nearest = min(quick, key=lambda one: one.valid)
    text = (
        f"Of those within half the step time {nearest.point} is the best in validation, with "
        f"{ranged(nearest.operations.medium)} times the error at "
        f"{brief(nearest.share['tokens'])} of the tokens: what it leaves coarse is not calm enough."
    )
    if good:
        one = min(good, key=lambda one: one.share["step time"])
        text += (
            f" {one.point} is as good as the medium patch, for {brief(one.share['step time'])} of "
            "its step time."
        )
    return text


def better_claim(comparisons: dict[str, list[Comparison]]) -> Claim:
    """Lower error at equal cost of training?"""
    judged = {
        system: min(points, key=lambda one: one.valid) for system, points in comparisons.items()
    }
    overall = over_systems([one.operations.best for one in judged.values()])
    return Claim(
        "At equal cost of training adaptive tokens have a lower error than the best uniform patch",
        answer_below(overall),
        tuple(
            f"{system}: {one.point} has {ranged(one.operations.best)} times the error of the best "
            f"uniform patch (both by validation) after equal operations, and "
            f"{ranged(one.operations.at_cost)} that of a uniform patch of equal step time. "
            f"Beside the medium patch it is {ranged(one.operations.medium)} after equal "
            f"operations, {ranged(one.time)} after equal time, {ranged(one.steps.medium)} after "
            "equally many steps."
            for system, one in judged.items()
        ),
        picture(
            "Error after equal operations: the claim is below 1",
            "step time over the medium patch's",
            "error over the best uniform patch's",
            {s: (one.share["step time"], one.operations.best) for s, one in judged.items()},
            goal_y=1,
        ),
    )


def guides_of(
    outcomes: Sequence[Outcome], system: str, point: str, criterion: str, last: bool
) -> dict[int, float]:
    """A criterion's rank correlation with the local error, by seed, at the first or last lead."""

    def value(one: Outcome) -> float:
        guides = [guide for guide in one.guides if guide.criterion == criterion]
        guides.sort(key=lambda guide: guide.lead)
        return guides[-1 if last else 0].correlation if guides else math.nan

    return by_seed(outcomes, system, point, OPERATIONS, value)


def guide_claim(outcomes: Sequence[Outcome], systems: Sequence[str]) -> Claim:
    """Does variance tell where the model errs?"""
    good, sentences, spots = 0, [], {}
    for system in systems:
        first = estimate(guides_of(outcomes, system, MEDIUM, "variance", False).values())
        last = estimate(guides_of(outcomes, system, MEDIUM, "variance", True).values())
        slope = estimate(guides_of(outcomes, system, MEDIUM, "gradient", False).values())
        good += first.mean >= GOOD_GUIDE
        spots[system] = (slope.mean, first)
        better = f"the gradient is {'better' if slope.mean > first.mean else 'no better'}"
        sentences.append(
            f"{system}: {brief(first.mean, 2)} one step ahead, {brief(last.mean, 2)} at the end of "
            f"the rollout; {better}, {brief(slope.mean, 2)} one step ahead."
        )
    return Claim(
        f"Variance is a good guide: its rank correlation with the local error is {GOOD_GUIDE:g} or "
        "more",
        answer_for(good, len(systems)),
        (
            f"It is so on {good} of {len(systems)} systems, for the model of uniform medium "
            "patches.",
            *sentences,
        ),
        picture(
            f"Rank correlation with the local error: the claim is above {GOOD_GUIDE:g}",
            "of the gradient",
            "of the variance",
            spots,
            goal_y=GOOD_GUIDE,
            linear=True,
        ),
    )


def patch_claim(outcomes: Sequence[Outcome], systems: Sequence[str]) -> Claim:
    """How small a patch still pays?

    A model that does not beat persistence was trained too briefly to tell.
    """
    pays, told, sentences, spots = 0, 0, [], {}
    for system in systems:
        errors = {
            (name, budget): by_seed(outcomes, system, name, budget)
            for name in UNIFORM
            for budget in (OPERATIONS, STEPS)
        }
        medium = errors[MEDIUM, OPERATIONS]
        equal = paired_ratio(errors[FINE, OPERATIONS], medium)
        longer = paired_ratio(errors[FINE, STEPS], medium)
        coarse = paired_ratio(errors[COARSE, OPERATIONS], medium)
        still = persistence(outcomes, system)
        steps = mean_of(outcomes, system, FINE, steps_of).mean
        error = estimate(errors[FINE, OPERATIONS].values()).mean
        learned = error < still
        spots[system] = (error / still, equal)
        told += learned
        pays += learned and equal.mean < 1
        untold = "" if learned else ", no better than persistence, which says nothing of the patch"
        sentences.append(
            f"{system}: beside the medium patch the fine one has {ranged(equal)} times the error "
            f"after equal operations ({brief(steps)} steps{untold}) and {ranged(longer)} after "
            f"equally many steps, the coarse one {ranged(coarse)} after equal operations."
        )
    return Claim(
        "The fine patch pays: half the medium one's size, it has a lower error after trainings of "
        "equal operations",
        answer_for(pays, told) if told else "undecided",
        (f"It is so on {pays} of {told} systems on which it learned enough to tell.", *sentences),
        picture(
            "The fine patch: the claim is below, of systems on the left",
            "its error over persistence's",
            "its error over the medium patch's",
            spots,
            *(1, 1),
        ),
    )


def published_claim(
    outcomes: Sequence[Outcome], timings: Timings, comparisons: dict[str, list[Comparison]]
) -> Claim:
    """Better than the published design?"""
    sentences, ratios, spots = [], [], {}
    for system, points in comparisons.items():
        one = min(points, key=lambda one: one.valid)
        costs, theirs = timings[system], (PUBLISHED, OPERATIONS)
        error = error_ratio(outcomes, system, (one.point, OPERATIONS), theirs)
        timely = at_equal_time(outcomes, costs, system, one.point, PUBLISHED)
        share = costs[one.point].step_seconds / costs[PUBLISHED].step_seconds
        ratios.append(error)
        spots[system] = (share, error)
        sentences.append(
            f"{system}: {one.point} has {ranged(error)} times the error after equal operations, "
            f"{ranged(timely)} after an equal time; its step takes {brief(share)} times the time."
        )
    overall = over_systems(ratios)
    return Claim(
        "Our adaptive tokens have a lower error than the published design after trainings of equal "
        "operations",
        answer_below(overall),
        (
            "Of ours the point that is the best in validation; the published design in the same "
            f"width and depth. Over the systems together {ranged(overall)} times the error.",
            *sentences,
        ),
        picture(
            "Ours beside the published design: the claim is below 1",
            "step time over the published design's",
            "error over the published design's",
            spots,
            goal_y=1,
        ),
    )
