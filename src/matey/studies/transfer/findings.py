"""Verdicts, charts and tables of the study of transfer."""

from collections.abc import Mapping, Sequence

from matey.records.study import (
    Answer,
    Claim,
    Findings,
    Outcome,
    Plot,
    Spot,
    SpotGroup,
    TextTable,
    Timings,
)
from matey.studies.design import (
    OPERATIONS,
    Material,
    by_seed,
    end_of,
    mean_of,
    persistence,
    stencil,
    steps_of,
)
from matey.studies.page import COST_COLUMNS, answer_below, blank, brief, cost_columns, ranged
from matey.studies.statistics import Estimate, estimate, geometric, paired_ratio
from matey.studies.transfer.design import FNO, FROZEN, SCRATCH, TUNED, UNET, TransferScale, point

HELP: dict[Answer, str] = {
    "held": "helps",
    "not held": "does not help",
    "undecided": "makes no sure difference",
}
Errors = Mapping[int, float]  # by seed


def judge(
    material: Material[TransferScale], outcomes: Sequence[Outcome], timings: Timings
) -> Findings:
    """The whole page."""
    systems = (*material.scale.targets, *material.scale.unlike)
    return Findings(
        title="Does pretraining help?",
        question="Does a model that has learned from other systems need less data of a new one? "
        "With attention frozen, too? Where does it stop helping?",
        claims=(
            helps_claim(material, outcomes),
            most_claim(material, outcomes),
            frozen_claim(material, outcomes),
            baseline_claim(material, outcomes),
            unlike_claim(material, outcomes),
        ),
        plots=tuple(plot(material, outcomes, system) for system in systems),
        tables=(
            *(system_table(material, outcomes, system) for system in systems),
            cost_table(material, outcomes, timings),
        ),
    )


def errors(outcomes: Sequence[Outcome], system: str, method: str, number: int) -> Errors:
    """The errors one step ahead of a method on so many trajectories."""
    return by_seed(outcomes, system, point(method, number), OPERATIONS)


def valid(outcomes: Sequence[Outcome], system: str, method: str, number: int) -> float:
    """The mean validation error of a method, by which choices are made."""
    return mean_of(outcomes, system, point(method, number), lambda one: one.valid).mean


def ratios(ours: Errors, theirs: Errors) -> dict[int, float]:
    """Ratios seed by seed."""
    return {seed: error / theirs[seed] for seed, error in ours.items() if theirs.get(seed)}


def pooled(rows: Sequence[Errors]) -> Estimate:
    """Ratios of several systems: their geometric mean by seed, and its interval over seeds."""
    seeds = set.intersection(*({*row} for row in rows)) if rows else set()
    return geometric(geometric(row[seed] for row in rows).mean for seed in sorted(seeds))


def gain(outcomes: Sequence[Outcome], system: str, number: int, method: str = TUNED) -> Errors:
    """The error of a pretrained model over that from scratch."""
    return ratios(
        errors(outcomes, system, method, number), errors(outcomes, system, SCRATCH, number)
    )


def helps_claim(material: Material[TransferScale], outcomes: Sequence[Outcome]) -> Claim:
    """Lower error than from scratch with the least data?"""
    scale = material.scale
    first = {system: scale.counts(system)[0] for system in scale.targets}
    rows = {system: gain(outcomes, system, number) for system, number in first.items()}
    sentences = [
        f"{system}: with {first[system]} trajectory the pretrained model has "
        f"{ranged(geometric(row.values()))} times the error of the same model from scratch."
        for system, row in rows.items()
    ]
    overall = pooled([*rows.values()])
    return Claim(
        "Pretraining helps where there is little data",
        answer_below(overall),
        (f"Over the systems together {ranged(overall)} times.", *sentences),
        by_number(
            "The pretrained model: the claim is below 1 on the left",
            "error over that from scratch",
            {s: {n: gain(outcomes, s, n) for n in scale.counts(s)} for s in scale.targets},
        ),
    )


def most_claim(material: Material[TransferScale], outcomes: Sequence[Outcome]) -> Claim:
    """Does it help more with few trajectories than with many?"""
    scale = material.scale
    rows, sentences = [], []
    for system in scale.targets:
        numbers = scale.counts(system)
        few, many = (gain(outcomes, system, number) for number in (numbers[0], numbers[-1]))
        rows.append(ratios(few, many))
        each = ", ".join(
            f"{number}: {brief(geometric(gain(outcomes, system, number).values()).mean)}"
            for number in numbers
        )
        sentences.append(f"{system}: error over that from scratch by trajectories, {each}.")
    overall = pooled(rows) if len(scale.counts(scale.targets[0])) > 1 else estimate(())
    return Claim(
        "It helps most where there is least",
        answer_below(overall),
        (
            "The error over that from scratch with the fewest trajectories, over the same with the "
            f"most: {ranged(overall)}.",
            *sentences,
        ),
        by_number(
            "The pretrained model: the claim is that lines rise",
            "error over that from scratch",
            {s: {n: gain(outcomes, s, n) for n in scale.counts(s)} for s in scale.targets},
        ),
    )


def frozen_claim(material: Material[TransferScale], outcomes: Sequence[Outcome]) -> Claim:
    """Is frozen attention as good?"""
    each = {
        system: {
            number: ratios(
                errors(outcomes, system, FROZEN, number), errors(outcomes, system, TUNED, number)
            )
            for number in material.scale.counts(system)
        }
        for system in material.scale.targets
    }
    rows = {}
    for system, by_count in each.items():
        first = next(iter(by_count.values()))
        rows[system] = {
            seed: geometric(row[seed] for row in by_count.values()).mean for seed in first
        }
    overall = pooled([*rows.values()])
    return Claim(
        "With attention frozen the error is lower than with all weights trained",
        answer_below(overall),
        (
            f"Over systems and numbers of trajectories {ranged(overall)} times, for equal "
            "operations.",
            *(f"{system}: {ranged(geometric(row.values()))}." for system, row in rows.items()),
        ),
        by_number("Attention frozen: the claim is below 1", "error over all weights trained", each),
    )


def baseline_claim(material: Material[TransferScale], outcomes: Sequence[Outcome]) -> Claim:
    """Better than a U-Net and an FNO?"""
    scale = material.scale
    rows: list[Errors] = []
    drawn: dict[str, dict[int, Errors]] = {}
    sentences = []
    baselines = [name for name in (UNET, FNO) if name in scale.methods(scale.targets[0])]
    for system in scale.targets:
        each = []
        for number in scale.counts(system):
            theirs = {name: errors(outcomes, system, name, number) for name in baselines}
            ours = errors(outcomes, system, TUNED, number)
            better = min(baselines, key=lambda name: valid(outcomes, system, name, number))
            rows.append(ratios(ours, theirs[better]))
            drawn.setdefault(system, {})[number] = rows[-1]
            beside = [
                f"{brief(paired_ratio(ours, row).mean)} times the {name}'s"
                for name, row in theirs.items()
            ]
            each.append(f"{number}: {' and '.join(beside)}")
        sentences.append(f"{system}, by trajectories: {'; '.join(each)}.")
    overall = pooled(rows)
    best = "the better of a U-Net and an FNO" if FNO in baselines else "a U-Net"
    return Claim(
        f"The pretrained model has a lower error than {best} of as many weights",
        answer_below(overall),
        (
            f"Over systems and numbers of trajectories {ranged(overall)} times; the better by its "
            "validation error.",
            *sentences,
        ),
        by_number(
            "The pretrained model: the claim is below 1", "error over the better baseline's", drawn
        ),
    )


def unlike_claim(material: Material[TransferScale], outcomes: Sequence[Outcome]) -> Claim:
    """Does it help on systems unlike the pretraining set?"""
    scale = material.scale
    rows: list[Errors] = []
    sentences = []
    for system in scale.unlike:
        number = scale.counts(system)[0]
        row = gain(outcomes, system, number)
        overall = geometric(row.values())
        rows.append(row)
        sentences.append(
            f"{system}: it {HELP[answer_below(overall)]}, {ranged(overall)} times the error from "
            f"scratch with {number} trajectory; with attention frozen "
            f"{ranged(geometric(gain(outcomes, system, number, FROZEN).values()))}."
        )
    return Claim(
        "Pretraining helps on systems unlike those of the pretraining too",
        answer_below(pooled(rows)),
        tuple(sentences),
        by_number(
            "Unlike systems: the claim is below 1 on the left",
            "error over that from scratch",
            {s: {n: gain(outcomes, s, n) for n in scale.counts(s)} for s in scale.unlike},
        ),
    )


def by_number(title: str, y: str, rows: Mapping[str, Mapping[int, Errors]]) -> Plot:
    """Ratios of errors over the number of trajectories, a line for each system."""
    groups = []
    for system, by_count in rows.items():
        found = {number: geometric(row.values()) for number, row in by_count.items()}
        spots = [Spot(f"{system}, {n}", n, e.mean, e.low, e.high) for n, e in found.items()]
        groups.append(SpotGroup(system, tuple(spots), joined=True))
    return Plot(title, "training trajectories", y, tuple(groups), goal_y=1)


def plot(material: Material[TransferScale], outcomes: Sequence[Outcome], system: str) -> Plot:
    """Error over the number of trajectories, a line for each method."""
    groups = []
    for method in material.scale.methods(system):
        spots = []
        for number in material.scale.counts(system):
            error = estimate(errors(outcomes, system, method, number).values())
            name = point(method, number)
            spots.append(Spot(name, float(number), error.mean, error.low, error.high))
        groups.append(SpotGroup(method, tuple(spots), joined=True))
    return Plot(
        f"{system}: error over data", "training trajectories", "NRMSE one step ahead", tuple(groups)
    )


def system_table(
    material: Material[TransferScale], outcomes: Sequence[Outcome], system: str
) -> TextTable:
    """Every method and number of trajectories."""
    numbers = material.scale.counts(system)
    rows = []
    for method in material.scale.methods(system):
        means = [estimate(errors(outcomes, system, method, n).values()) for n in numbers]
        over = [geometric(gain(outcomes, system, n, method).values()) for n in numbers]
        late = mean_of(outcomes, system, point(method, numbers[0]), end_of).mean
        rows.append((method, *map(ranged, (*means, *over)), brief(late)))
    still, end = (brief(persistence(outcomes, system, lead)) for lead in (0, -1))
    row = blank(("persistence", *[still] * len(numbers)), len(rows[0]) - 1)
    rows.append((*row, end))
    scratch = [point(SCRATCH, number) for number in numbers]  # whose data it is fitted to
    fits = [brief(stencil(outcomes, system, 0, name)) for name in scratch]
    row = blank(("least-squares stencil", *fits), len(rows[0]) - 1)
    rows.append((*row, brief(stencil(outcomes, system, -1, scratch[0]))))
    return TextTable(
        f"{system}: every method",
        "NRMSE one step ahead on test trajectories, mean over seeds with its 95 % interval, then "
        "the same over that from scratch, by the number of training trajectories; last the error "
        "at the end of the rollout with the fewest.",
        (
            "method",
            *(f"error, {number}" for number in numbers),
            *(f"over scratch, {number}" for number in numbers),
            "end of rollout",
        ),
        tuple(rows),
    )


def cost_table(
    material: Material[TransferScale], outcomes: Sequence[Outcome], timings: Timings
) -> TextTable:
    """What a step of each method takes."""
    rows = []
    for system, points in timings.items():
        for method, timing in points.items():
            number = material.scale.counts(system)[0]
            steps = mean_of(outcomes, system, point(method, number), steps_of).mean
            rows.append(
                (
                    f"{system}: {method}",
                    brief(steps, 4),
                    brief(timing.parameters / 1e3, 4),
                    *cost_columns(timing),
                )
            )
    return TextTable(
        "What a step takes",
        "Every method spends the same operations, those of the pretraining not counted; the steps "
        "of a pretrained model are those from scratch.",
        ("method", "steps", "thousand parameters", *COST_COLUMNS),
        tuple(rows),
    )
