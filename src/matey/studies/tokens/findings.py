"""Charts and tables of the study of tokens."""

from collections.abc import Sequence

from matey.records.study import Findings, Outcome, Plot, Spot, SpotGroup, TextTable, Timings
from matey.studies.curves import curve_plot, curve_table, has_curves
from matey.studies.design import (
    OPERATIONS,
    STEPS,
    Material,
    by_seed,
    end_of,
    mean_of,
    persistence,
    points_of,
    stencil,
    steps_of,
)
from matey.studies.guides import CRITERIA
from matey.studies.page import COST_COLUMNS, blank, brief, cost_columns, ranged
from matey.studies.statistics import estimate, paired_ratio
from matey.studies.tokens.benefit import (
    benefit_claim,
    benefit_table,
    benefits,
    patch_table,
    rule_table,
    windows_of,
)
from matey.studies.tokens.claims import (
    better_claim,
    cheaper_claim,
    guide_claim,
    guides_of,
    half_claim,
    patch_claim,
    published_claim,
)
from matey.studies.tokens.comparison import COSTS, Comparison, coarse_of, compare
from matey.studies.tokens.design import (
    FINE,
    MEDIUM,
    SAME_STEPS,
    UNIFORM,
    TokensScale,
    adaptive_of,
    repeated_point,
)
from matey.studies.tokens.reaching import reach_claim, reaches

CHARTED = ("operations", "step time", "tokens")


def judge(
    material: Material[TokensScale], outcomes: Sequence[Outcome], timings: Timings
) -> Findings:
    """The whole page."""
    systems = [name for name in material.sources if name not in material.scale.resolutions]
    comparisons = {
        system: [
            compare(outcomes, timings[system], system, point)
            for point in adaptive_of(points_of(outcomes, system))
        ]
        for system in systems
    }
    coarse = {system: coarse_of(outcomes, timings[system], system) for system in systems}
    claims = [
        cheaper_claim(comparisons),
        half_claim(comparisons, coarse),
        better_claim(comparisons),
        guide_claim(outcomes, systems),
        patch_claim(outcomes, systems),
    ]
    tables = [
        *(point_table(system, outcomes, timings, comparisons[system]) for system in systems),
        guide_table(outcomes, systems),
    ]
    curved = [system for system in systems if has_curves(outcomes, system)]
    each = [(s, outcomes, timings[s], points_of(outcomes, s)) for s in curved]
    tables += [curve_table(*one) for one in each]
    if curved:
        fine = {s: reaches(outcomes, timings[s], s, FINE) for s in curved}
        best = {s: reaches(outcomes, timings[s], s) for s in curved}
        claims = [reach_claim(fine, f"{FINE} patch"), reach_claim(best), *claims]
    there = [system for system in systems if windows_of(material, system) is not None]
    if there:
        found = benefits(material, there, [variant.name for variant in material.scale.variants])
        claims.append(benefit_claim(outcomes, found))
        tables.insert(0, patch_table(material, outcomes, there))
        tables += [benefit_table(outcomes, found), rule_table(material, there)]
    if material.scale.published is not None:
        claims.append(published_claim(outcomes, timings, comparisons))
    if material.scale.resolutions:
        tables.append(resolution_table(material, outcomes, timings))
    return Findings(
        title="Do adaptive tokens pay?",
        question="At equal error, how much cheaper are adaptive tokens than uniform ones? At "
        "equal cost, how much better? And where not?",
        claims=tuple(claims),
        plots=(
            *(curve_plot(*one) for one in each),
            *(pareto(system, cost, outcomes, timings) for system in systems for cost in CHARTED),
        ),
        tables=tuple(tables),
    )


def pareto(system: str, cost: str, outcomes: Sequence[Outcome], timings: Timings) -> Plot:
    """Error over the cost of a step, uniform points joined."""
    groups: dict[str, list[Spot]] = {}
    for point in points_of(outcomes, system):
        error = mean_of(outcomes, system, point)
        kind = point.split()[0]
        spot = Spot(point, COSTS[cost](timings[system][point]), error.mean, error.low, error.high)
        groups.setdefault(kind, []).append(spot)
    return Plot(
        f"{system}: error over {cost}",
        {"step time": "seconds per step", "tokens": "tokens per frame"}.get(
            cost, "operations per step"
        ),
        "NRMSE one step ahead",
        tuple(
            SpotGroup(kind, tuple(sorted(spots, key=lambda s: s.x)), joined=kind == "uniform")
            for kind, spots in groups.items()
        ),
    )


def point_table(
    system: str, outcomes: Sequence[Outcome], timings: Timings, comparisons: Sequence[Comparison]
) -> TextTable:
    """Every operating point of a system."""
    compared = {one.point: one for one in comparisons}
    rows = []
    for point in points_of(outcomes, system):
        timing = timings[system][point]
        few = OPERATIONS if point == MEDIUM else STEPS
        one = compared.get(point)
        rows.append(
            (
                point,
                ranged(mean_of(outcomes, system, point)),
                ranged(mean_of(outcomes, system, point, budget=few)),
                brief(mean_of(outcomes, system, point, end_of).mean),
                ranged(one.operations.medium) if one else "",
                ranged(one.steps.cheaper["step time"]) if one else "",
                brief(mean_of(outcomes, system, point, steps_of).mean, 4),
                brief(timing.tokens),
                brief(mean_of(outcomes, system, point, lambda one: one.tokens).mean),
                *cost_columns(timing),
            )
        )
    for name, error in (("persistence", persistence), ("least-squares stencil", stencil)):
        first, end = (brief(error(outcomes, system, lead)) for lead in (0, -1))
        rows.append(blank((name, first, "", end), len(rows[0])))
    return TextTable(
        f"{system}: every operating point",
        "NRMSE on test trajectories, mean over seeds with its 95 % interval. Costs are of a "
        "step on training windows; tokens per frame there, and in the test. Over medium: after "
        "equal operations; times cheaper: step time of the uniform patch of equal error over its "
        "own, after equal steps.",
        (
            "point",
            "one step ahead, equal operations",
            "equal steps",
            "end of rollout",
            "over medium",
            "times cheaper",
            "steps",
            "tokens",
            "in the test",
            *COST_COLUMNS,
        ),
        tuple(rows),
    )


def guide_table(outcomes: Sequence[Outcome], systems: Sequence[str]) -> TextTable:
    """Correlation of each criterion with the local error of each uniform model."""
    rows = []
    for system in systems:
        for point in UNIFORM:
            values = [
                ranged(
                    estimate(guides_of(outcomes, system, point, criterion, last).values()), digits=2
                )
                for criterion in CRITERIA
                for last in (False, True)
            ]
            rows.append((system, point, *values))
    return TextTable(
        "Criteria and the true local error",
        "Spearman's correlation over the coarse cells of a history's criterion with the model's "
        "squared error there, mean over rollouts and seeds.",
        (
            "system",
            "model",
            *(f"{name}, {at}" for name in CRITERIA for at in ("one step", "at the end")),
        ),
        tuple(rows),
    )


def resolution_table(
    material: Material[TokensScale], outcomes: Sequence[Outcome], timings: Timings
) -> TextTable:
    """One operating point at several resolutions."""
    rows = []
    point = repeated_point(material.scale)
    for system in material.scale.resolutions:
        adaptive = by_seed(outcomes, system, point, SAME_STEPS)
        uniform = by_seed(outcomes, system, MEDIUM, SAME_STEPS)
        ours, medium = timings[system][point], timings[system][MEDIUM]
        rows.append(
            (
                system,
                ranged(estimate(adaptive.values())),
                ranged(estimate(uniform.values())),
                ranged(paired_ratio(adaptive, uniform)),
                brief(ours.tokens),
                brief(ours.tokens / medium.tokens),
                brief(ours.operations / medium.operations),
                brief(1e3 * ours.step_seconds),
                brief(ours.step_seconds / medium.step_seconds),
                brief(ours.step_bytes / medium.step_bytes),
            )
        )
    return TextTable(
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
