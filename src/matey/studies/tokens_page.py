"""What the study of tokens found: its verdicts, charts and tables."""

import math
from collections.abc import Sequence

from matey.studies.cells import Outcome
from matey.studies.design import OPERATIONS, STEPS, Material, by_seed, points_of
from matey.studies.page import (
    Answer,
    Claim,
    Group,
    Plot,
    Spot,
    StudyPage,
    Table,
    ranged,
    shown,
)
from matey.studies.statistics import Estimate, estimate, geometric, paired_ratio
from matey.studies.timing import Timings
from matey.studies.tokens import (
    COARSE,
    COSTS,
    FINE,
    MEDIUM,
    SAME_STEPS,
    UNIFORM,
    Comparison,
    compare,
    repeated_point,
    repeated,
)

AIM = (2.0, 5.0)  # times cheaper, as claimed
GOOD_GUIDE = 0.5  # rank correlation from which on a criterion counts as a good guide
CHARTED = ("operations", "step time", "tokens")


def judge(material: Material, outcomes: Sequence[Outcome], timings: Timings) -> StudyPage:
    """The whole page."""
    systems = [name for name in material.sources if name not in repeated(material.scale)]
    found = {
        system: [
            compare(outcomes, timings[system], system, point)
            for point in points_of(outcomes, system)
            if point not in UNIFORM
        ]
        for system in systems
    }
    claims = [
        cheaper_claim(found),
        half_claim(found),
        better_claim(found),
        guide_claim(outcomes, systems),
        patch_claim(outcomes, systems),
    ]
    tables = [
        *(point_table(system, outcomes, timings, found[system]) for system in systems),
        guide_table(outcomes, systems),
    ]
    if repeated(material.scale):
        tables.append(resolution_table(material, outcomes, timings))
    return StudyPage(
        study="tokens",
        title="Do adaptive tokens pay?",
        question="At equal error, how much cheaper are adaptive tokens than uniform ones? At "
        "equal cost, how much better? And where not?",
        scale="",
        facts=(),
        claims=tuple(claims),
        plots=tuple(
            pareto(system, cost, outcomes, timings) for system in systems for cost in CHARTED
        ),
        tables=tuple(tables),
    )


def best(found: Sequence[Comparison]) -> Comparison:
    """The point of largest gain in step time, among those that do as well as any in validation.

    Chosen without a look at the test: within a tenth of the best validation error, the cheapest.
    """
    least = min(one.valid for one in found)
    near = [one for one in found if one.valid <= 1.1 * least]
    return min(near, key=lambda one: one.share["step time"])


def cheaper_claim(found: dict[str, list[Comparison]]) -> Claim:
    """2 to 5 times cheaper at equal error?"""
    chosen = {system: best(own) for system, own in found.items()}
    gains = [one.cheaper["step time"] for one in chosen.values()]
    answer = answer_of(gains, AIM[0])
    sentences = [
        f"{system}: {one.point} is {one.bound}{ranged(one.cheaper['step time'])} times cheaper in step time "
        f"than the uniform patch of equal error, {ranged(one.cheaper['operations'])} in "
        f"operations, {ranged(one.cheaper['tokens'])} in tokens, {ranged(one.cheaper['memory'])} "
        "in memory."
        for system, one in chosen.items()
    ]
    claim = "Adaptive tokens are 2 to 5 times cheaper at equal error"
    return Claim(claim, answer, tuple(sentences))


def answer_of(gains: Sequence[Estimate], aim: float) -> Answer:
    """Held where the mean over systems is at least `aim` with its interval, not held where it is
    below with its interval; of one system its own interval counts."""
    if not gains or any(math.isnan(gain.mean) for gain in gains):
        return "undecided"
    overall = geometric(gain.mean for gain in gains) if len(gains) > 1 else gains[0]
    if overall.low >= aim:
        return "held"
    return "not held" if overall.high < aim else "undecided"


def half_claim(found: dict[str, list[Comparison]]) -> Claim:
    """Equal or lower error than the medium patch for half its step time, on each system?"""
    sentences, held = [], 0
    for system, own in found.items():
        halves = [one for one in own if one.halves]
        held += bool(halves)
        if halves:
            one = min(halves, key=lambda one: one.beside_medium.mean)
            sure = "" if one.beside_medium.high <= 1 else ", within the scatter of the seeds"
            sentences.append(
                f"{system}: {one.point} has {ranged(one.beside_medium)} times the error for "
                f"{shown(one.share['step time'])} of the step time{sure}."
            )
        else:
            sentences.append(f"{system}: none. {why_none(own)}")
    every = held == len(found)
    answer: Answer = "held" if every else "undecided" if held else "not held"
    return Claim(
        "On each system some adaptive point has no larger an error than the uniform medium patch "
        "for at most half its step time",
        answer,
        (f"It is so on {held} of {len(found)} systems.", *sentences),
    )


def why_none(own: Sequence[Comparison]) -> str:
    """What keeps the adaptive points of a system from it, in numbers."""
    quick = [one for one in own if one.share["step time"] <= 0.5]
    good = [one for one in own if one.beside_medium.mean <= 1]
    if not quick:
        one = min(own, key=lambda one: one.share["step time"])
        return (
            f"The quickest, {one.point}, takes {shown(one.share['step time'])} of the step time "
            f"with {shown(one.share['tokens'])} of the tokens and {shown(one.share['operations'])} "
            "of the operations: what a step does besides its tokens weighs in."
        )
    nearest = min(quick, key=lambda one: one.beside_medium.mean)
    text = (
        f"Of those within half the step time {nearest.point} comes nearest, with "
        f"{ranged(nearest.beside_medium)} times the error at {shown(nearest.share['tokens'])} of "
        "the tokens: what it leaves coarse is not calm enough."
    )
    if good:
        one = min(good, key=lambda one: one.share["step time"])
        text += (
            f" {one.point} is as good as the medium patch, for {shown(one.share['step time'])} of "
            "its step time."
        )
    return text


def better_claim(found: dict[str, list[Comparison]]) -> Claim:
    """Lower error at equal cost?"""
    chosen = {system: best(own) for system, own in found.items()}
    ratios = [one.error for one in chosen.values()]
    defined = [ratio for ratio in ratios if not math.isnan(ratio.mean)]
    overall = defined[0] if len(defined) == 1 else geometric(ratio.mean for ratio in defined)
    answer: Answer = "undecided"
    if not math.isnan(overall.mean):
        answer = "held" if overall.high < 1 else "not held" if overall.low >= 1 else "undecided"
    return Claim(
        "At equal step time adaptive tokens have a lower error",
        answer,
        tuple(
            f"{system}: {one.point} has {ranged(one.error)} times the error of a uniform patch of "
            f"equal step time; beside the medium patch {ranged(one.beside_medium)} after equal "
            f"operations, {ranged(one.time)} after equal time, {ranged(one.steps)} after equally "
            "many steps."
            for system, one in chosen.items()
        ),
    )


def guides_of(
    outcomes: Sequence[Outcome], system: str, point: str, criterion: str, last: bool
) -> dict[int, float]:
    """A criterion's rank correlation with the local error, by seed, at the first or last lead."""

    def value(one: Outcome) -> float:
        own = [guide for guide in one.guides if guide.criterion == criterion]
        own.sort(key=lambda guide: guide.lead)
        return own[-1 if last else 0].correlation if own else math.nan

    return by_seed(outcomes, system, point, OPERATIONS, value)


def guide_claim(outcomes: Sequence[Outcome], systems: Sequence[str]) -> Claim:
    """Does variance tell where the model errs?"""
    good, sentences = 0, []
    for system in systems:
        first = estimate(guides_of(outcomes, system, MEDIUM, "variance", False).values())
        last = estimate(guides_of(outcomes, system, MEDIUM, "variance", True).values())
        slope = estimate(guides_of(outcomes, system, MEDIUM, "gradient", False).values())
        good += first.mean >= GOOD_GUIDE
        better = f"the gradient is {'better' if slope.mean > first.mean else 'no better'}"
        sentences.append(
            f"{system}: {shown(first.mean, 2)} one step ahead, {shown(last.mean, 2)} at the end of "
            f"the rollout; {better}, {shown(slope.mean, 2)} one step ahead."
        )
    answer: Answer = "held" if good == len(systems) else "not held" if good == 0 else "undecided"
    return Claim(
        f"Variance is a good guide: its rank correlation with the local error is {GOOD_GUIDE:g} or "
        "more",
        answer,
        (
            f"It is so on {good} of {len(systems)} systems, for the model of uniform medium "
            "patches.",
            *sentences,
        ),
    )


def patch_claim(outcomes: Sequence[Outcome], systems: Sequence[str]) -> Claim:
    """How small a patch still pays?"""
    pays, sentences = 0, []
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
        pays += equal.mean < 1
        sentences.append(
            f"{system}: beside the medium patch the fine one has {ranged(equal)} times the error "
            f"after equal operations and {ranged(longer)} after equally many steps, the coarse one "
            f"{ranged(coarse)} after equal operations."
        )
    answer: Answer = "held" if pays == len(systems) else "not held" if pays == 0 else "undecided"
    return Claim(
        "The fine patch pays: half the medium one's size, it has a lower error after trainings of "
        "equal operations",
        answer,
        (f"It is so on {pays} of {len(systems)} systems.", *sentences),
    )


def pareto(system: str, cost: str, outcomes: Sequence[Outcome], timings: Timings) -> Plot:
    """Error over the cost of a step, uniform points joined."""
    groups: dict[str, list[Spot]] = {}
    for point in points_of(outcomes, system):
        found = estimate(by_seed(outcomes, system, point, OPERATIONS).values())
        kind = point.split()[0]
        spot = Spot(point, COSTS[cost](timings[system][point]), found.mean, found.low, found.high)
        groups.setdefault(kind, []).append(spot)
    return Plot(
        f"{system}: error over {cost}",
        {"step time": "seconds per step", "tokens": "tokens per frame"}.get(
            cost, "operations per step"
        ),
        "NRMSE one step ahead",
        tuple(
            Group(kind, tuple(sorted(spots, key=lambda s: s.x)), joined=kind == "uniform")
            for kind, spots in groups.items()
        ),
    )


def point_table(
    system: str, outcomes: Sequence[Outcome], timings: Timings, found: Sequence[Comparison]
) -> Table:
    """Every operating point of a system."""
    compared = {one.point: one for one in found}
    rows = []
    for point in points_of(outcomes, system):
        timing = timings[system][point]
        equal = by_seed(outcomes, system, point, OPERATIONS)
        few = by_seed(outcomes, system, point, STEPS) or equal
        end = by_seed(outcomes, system, point, OPERATIONS, lambda one: one.error(-1))
        steps = by_seed(outcomes, system, point, OPERATIONS, lambda one: float(one.steps))
        one = compared.get(point)
        rows.append(
            (
                point,
                ranged(estimate(equal.values())),
                ranged(estimate(few.values())),
                shown(estimate(end.values()).mean),
                ranged(one.beside_medium) if one else "",
                ranged(one.cheaper["step time"]) if one else "",
                shown(estimate(steps.values()).mean, 4),
                shown(timing.tokens),
                shown(timing.operations / 1e9),
                shown(1e3 * timing.step_seconds),
                shown(1e3 * timing.inference_seconds),
                shown(timing.step_bytes / 1e6),
            )
        )
    return Table(
        f"{system}: every operating point",
        "NRMSE on test trajectories, mean over seeds with its 95 % interval. Costs are of a "
        "step; times cheaper is step time of the uniform patch of equal error over its own.",
        (
            "point",
            "one step ahead, equal operations",
            "equal steps",
            "end of rollout",
            "over medium",
            "times cheaper",
            "steps",
            "tokens",
            "GFLOP",
            "step ms",
            "inference ms",
            "step MB",
        ),
        tuple(rows),
    )


def guide_table(outcomes: Sequence[Outcome], systems: Sequence[str]) -> Table:
    """Correlation of each criterion with the local error of each uniform model."""
    rows = []
    for system in systems:
        for point in UNIFORM:
            values = [
                ranged(
                    estimate(guides_of(outcomes, system, point, criterion, last).values()), digits=2
                )
                for criterion in ("variance", "gradient")
                for last in (False, True)
            ]
            rows.append((system, point, *values))
    return Table(
        "Criteria and the true local error",
        "Spearman's correlation over the coarse cells of a history's criterion with the model's "
        "squared error there, mean over rollouts and seeds.",
        (
            "system",
            "model",
            "variance, one step",
            "variance, at the end",
            "gradient, one step",
            "gradient, at the end",
        ),
        tuple(rows),
    )


def resolution_table(material: Material, outcomes: Sequence[Outcome], timings: Timings) -> Table:
    """One operating point at several resolutions."""
    rows = []
    point = repeated_point(material.scale)
    for system in repeated(material.scale):
        own = by_seed(outcomes, system, point, SAME_STEPS)
        uniform = by_seed(outcomes, system, MEDIUM, SAME_STEPS)
        ours, medium = timings[system][point], timings[system][MEDIUM]
        rows.append(
            (
                system,
                ranged(estimate(own.values())),
                ranged(estimate(uniform.values())),
                ranged(paired_ratio(own, uniform)),
                shown(ours.tokens),
                shown(ours.tokens / medium.tokens),
                shown(ours.operations / medium.operations),
                shown(1e3 * ours.step_seconds),
                shown(ours.step_seconds / medium.step_seconds),
                shown(ours.step_bytes / medium.step_bytes),
            )
        )
    return Table(
        f"{point} at several resolutions",
        "Beside the uniform medium patch, after equally many steps. The last columns are over "
        "the uniform patch's.",
        (
            "system",
            "NRMSE",
            "uniform",
            "error over uniform",
            "tokens",
            "tokens over uniform",
            "operations over",
            "step ms",
            "step time over",
            "memory over",
        ),
        tuple(rows),
    )
