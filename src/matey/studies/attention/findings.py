"""Verdicts, charts and tables of the study of attention."""

import math
from collections.abc import Sequence

from matey.records.study import Claim, Findings, Outcome, Plot, Spot, SpotGroup, TextTable, Timings
from matey.studies.attention.design import REFERENCE, AttentionScale, point
from matey.studies.attention.needs import Needs, needs
from matey.studies.attention.partial import (
    is_partial,
    partial_claim,
    partial_table,
    whole_of,
)
from matey.studies.curves import curve_plot, curve_table, has_curves
from matey.studies.design import (
    Material,
    end_of,
    mean_of,
    persistence,
    points_of,
    stencil,
    steps_of,
)
from matey.studies.page import (
    COST_COLUMNS,
    answer_above,
    blank,
    brief,
    cost_columns,
    decide,
    picture,
    ranged,
)
from matey.studies.statistics import over_systems

AIM = 2.0  # times as much time and weights, as claimed


def judge(
    material: Material[AttentionScale], outcomes: Sequence[Outcome], timings: Timings
) -> Findings:
    """The whole page."""
    scale = material.scale
    systems = scale.trained
    others = [kind for kind in scale.patterns if kind != REFERENCE]
    partial = [kind for kind in others if is_partial(kind) and whole_of(kind) in others]
    beside_vit = {
        kind: [needs(outcomes, timings[system], scale, system, kind) for system in systems]
        for kind in others
    }
    curved = [system for system in systems if has_curves(outcomes, system)]
    each = [(s, outcomes, timings[s], points_of(outcomes, s)) for s in curved]
    return Findings(
        title="Does decoupled attention pay?",
        question="What do SViT, AViT and partly decoupled models need beside ViT, at matched "
        "width and at matched error?",
        claims=(
            needs_claim(beside_vit["AViT"]),
            *(accuracy_claim(kind, rows) for kind, rows in beside_vit.items()),
            *(partial_claim(kind, scale, outcomes, timings) for kind in partial),
        ),
        plots=(
            *(curve_plot(*one) for one in each),
            *(plot(system, material, outcomes, timings) for system in systems),
        ),
        tables=(
            *(kind_table(system, beside_vit) for system in systems),
            *([partial_table(partial, scale, outcomes, timings)] if partial else []),
            *(point_table(system, outcomes, timings) for system in systems),
            *(curve_table(*one) for one in each),
            *([resolution_table(material, timings)] if scale.ladder else []),
        ),
    )


def needs_claim(rows: Sequence[Needs]) -> Claim:
    """2 to 3 times the time and the weights?"""
    times, weights = (
        answer_above([getattr(one, what) for one in rows], AIM, {one.bounds[what] for one in rows})
        for what in ("time", "weights")
    )
    answer = decide(times == weights == "held", "not held" in (times, weights))
    return Claim(
        "AViT needs 2 to 3 times the training time and the weights of ViT for the same error",
        answer,
        (
            "Both have to be 2 times or more. The error to reach is, for each seed, that of ViT at "
            "the middle width, in validation; by the quickest, and the smallest, of the widths.",
            *(
                f"{one.system}: {one.bounds['time']}{ranged(one.time)} times the time, "
                f"{one.bounds['weights']}{ranged(one.weights)} times the weights."
                for one in rows
            ),
        ),
        picture(
            "AViT at equal error: the claim is above and right of 2",
            "weights over ViT's",
            "time of training over ViT's",
            {one.system: (one.weights.mean, one.time) for one in rows},
            *(AIM, AIM),
        ),
    )


def accuracy_claim(kind: str, rows: Sequence[Needs]) -> Claim:
    """Less accurate than ViT at matched width for equal operations?"""
    overall = over_systems([one.error for one in rows])
    answer = decide(overall.low > 1, overall.high <= 1)
    return Claim(
        f"{kind} is less accurate than ViT of equal width after trainings of equal operations",
        answer,
        tuple(
            f"{one.system}: {ranged(one.error)} times the error{otherwise(one)}; "
            f"{brief(one.parameters)} times the parameters, {brief(one.step_time)} times the step "
            f"time, {brief(one.memory)} times the memory."
            for one in rows
        ),
        picture(
            f"{kind} after equal operations: the claim is above 1",
            "step time over ViT's",
            "error over ViT's",
            {one.system: (one.step_time, one.error) for one in rows},
            goal_y=1,
        ),
    )


def otherwise(one: Needs) -> str:
    """The error at matched steps, time, weights and memory, of these what is known."""
    measured = (
        (one.few, "after equally many steps"),
        (one.timely, "after an equal time"),
        (one.light, "with as many weights"),
        (one.small, "with as much memory"),
    )
    known = ((ratio, when) for ratio, when in measured if not math.isnan(ratio.mean))
    return "".join(f", {ranged(ratio)} {when}" for ratio, when in known)


def plot(
    system: str, material: Material[AttentionScale], outcomes: Sequence[Outcome], timings: Timings
) -> Plot:
    """Error over step time: a line for each kind, through its widths."""
    groups = []
    for kind in material.scale.patterns:
        spots = []
        for width in material.scale.widths_of(kind):
            name = point(kind, width)
            error = mean_of(outcomes, system, name)
            seconds = timings[system][name].step_seconds
            spots.append(Spot(name, seconds, error.mean, error.low, error.high))
        groups.append(SpotGroup(kind, tuple(spots), joined=True))
    return Plot(
        f"{system}: error over step time",
        "seconds per step",
        "NRMSE one step ahead",
        tuple(groups),
    )


def kind_table(system: str, beside_vit: dict[str, list[Needs]]) -> TextTable:
    """Every kind beside ViT."""
    rows = []
    for kind, systems in beside_vit.items():
        one = next(row for row in systems if row.system == system)
        rows.append(
            (
                kind,
                ranged(one.error),
                ranged(one.few),
                ranged(one.timely),
                ranged(one.light),
                ranged(one.small),
                brief(one.parameters),
                brief(one.step_time),
                brief(one.memory),
                one.bounds["time"] + ranged(one.time),
                one.bounds["weights"] + ranged(one.weights),
            )
        )
    return TextTable(
        f"{system}: over ViT's",
        "At matched width; with as many weights, or as much memory of a step, as ViT of that "
        "width, between the widths; the last two at matched error. With 95 % intervals.",
        (
            "model",
            "error, equal operations",
            "error, equal steps",
            "equal time",
            "equal weights",
            "equal memory",
            "parameters",
            "step time",
            "memory",
            "time to the error",
            "weights for the error",
        ),
        tuple(rows),
    )


def point_table(system: str, outcomes: Sequence[Outcome], timings: Timings) -> TextTable:
    """Every kind and width."""
    rows = []
    for name, timing in timings[system].items():
        rows.append(
            (
                name,
                ranged(mean_of(outcomes, system, name)),
                brief(mean_of(outcomes, system, name, end_of).mean),
                brief(mean_of(outcomes, system, name, steps_of).mean, 4),
                brief(timing.parameters / 1e3, 4),
                *cost_columns(timing),
            )
        )
    for name, error in (("persistence", persistence), ("least-squares stencil", stencil)):
        ends = [brief(error(outcomes, system, lead)) for lead in (0, -1)]
        rows.append(blank((name, *ends), len(rows[0])))
    return TextTable(
        f"{system}: every model",
        "NRMSE on test trajectories after equal operations, mean over seeds with its 95 % "
        "interval. Costs are of a step.",
        (
            "model",
            "one step ahead",
            "end of rollout",
            "steps",
            "thousand parameters",
            *COST_COLUMNS,
        ),
        tuple(rows),
    )


def resolution_table(material: Material[AttentionScale], timings: Timings) -> TextTable:
    """What a step takes at several resolutions, at the middle width."""
    systems = material.scale.ladder
    rows = []
    for kind in material.scale.patterns:
        name = point(kind, material.scale.middle_width)
        seconds = [timings[system][name].step_seconds for system in systems]
        sizes = [timings[system][name].step_bytes for system in systems]
        tokens = [timings[system][name].tokens for system in systems]
        power = (
            math.log(seconds[-1] / seconds[-2]) / math.log(tokens[-1] / tokens[-2])
            if len(systems) > 1 and tokens[-1] != tokens[-2]
            else math.nan
        )
        rows.append(
            (
                name,
                *(brief(1e3 * value) for value in seconds),
                *(brief(value / 1e6) for value in sizes),
                brief(power),
            )
        )
    return TextTable(
        "Cost with resolution",
        "Of a training step; the last column is the power of the number of tokens by which the "
        "time grows from the last resolution but one to the last.",
        (
            "model",
            *(f"{system}, ms" for system in systems),
            *(f"{system}, MB" for system in systems),
            "power",
        ),
        tuple(rows),
    )
