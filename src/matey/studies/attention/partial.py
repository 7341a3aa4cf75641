"""Partial decoupling as an ablation of its own: joint attention in every k-th block, or in none."""

from collections.abc import Sequence

from matey.records.study import Claim, Outcome, TextTable, Timings
from matey.studies.attention.design import PATTERNS, AttentionScale, point
from matey.studies.curves import at_equal_time
from matey.studies.design import OPERATIONS, STEPS, error_ratio
from matey.studies.page import answer_below, brief, picture, ranged
from matey.studies.statistics import over_systems


def is_partial(kind: str) -> bool:
    """Whether some of its blocks attend jointly, and others do not."""
    return len(PATTERNS[kind]) > 1


def whole_of(kind: str) -> str:
    """The same kind without joint blocks."""
    return kind.split(",")[0]


def partial_claim(
    kind: str, scale: AttentionScale, outcomes: Sequence[Outcome], timings: Timings
) -> Claim:
    """More accurate than the same without joint blocks, for an equal time?"""
    whole, middle = whole_of(kind), scale.middle_width
    ratios = {
        system: at_equal_time(
            outcomes, timings[system], system, point(kind, middle), point(whole, middle)
        )
        for system in scale.trained
    }
    overall = over_systems([*ratios.values()])
    return Claim(
        f"{kind} is more accurate than {whole} of equal width after an equal time of training",
        answer_below(overall),
        (
            f"Over the systems together {ranged(overall)} times the error.",
            *(f"{system}: {ranged(ratio)} times." for system, ratio in ratios.items()),
        ),
        picture(
            f"{kind}, after an equal time: the claim is below 1",
            f"step time over {whole}'s",
            f"error over {whole}'s",
            {
                system: (
                    timings[system][point(kind, middle)].step_seconds
                    / timings[system][point(whole, middle)].step_seconds,
                    ratio,
                )
                for system, ratio in ratios.items()
            },
            goal_y=1,
        ),
    )


def partial_table(
    kinds: Sequence[str], scale: AttentionScale, outcomes: Sequence[Outcome], timings: Timings
) -> TextTable:
    """Each partly decoupled kind beside the same without joint blocks."""
    rows, middle = [], scale.middle_width
    for system in scale.trained:
        for kind in kinds:
            ours, theirs = point(kind, middle), point(whole_of(kind), middle)
            costs = timings[system]
            pairs = [
                ((ours, OPERATIONS), (theirs, OPERATIONS)),
                ((ours, STEPS), (theirs, STEPS)),
            ]
            rows.append(
                (
                    f"{system}: {kind}",
                    *(ranged(error_ratio(outcomes, system, *pair)) for pair in pairs),
                    ranged(at_equal_time(outcomes, costs, system, ours, theirs)),
                    brief(costs[ours].parameters / costs[theirs].parameters),
                    brief(costs[ours].step_seconds / costs[theirs].step_seconds),
                    brief(costs[ours].step_bytes / costs[theirs].step_bytes),
                )
            )
    return TextTable(
        "Partial decoupling",
        "Joint attention in every k-th block, over the same kind without any, at the middle width: "
        "errors with 95 % intervals, and what a step takes.",
        (
            *("model", "error, equal operations", "error, equal steps", "equal time"),
            *("parameters", "step time", "memory"),
        ),
        tuple(rows),
    )
