"""Verdicts, charts and tables of the study of scalability."""

import math
from collections.abc import Callable, Sequence

from matey.records.study import Claim, Findings, Plot, Spot, SpotGroup, TextTable
from matey.studies.page import answer_for, brief
from matey.studies.scalability.design import Reach, grid_of
from matey.studies.scalability.measure import Row

MILLION = 1e6  # tokens of a sample
GPU = 80e9  # bytes
LINEAR = 1.1  # power of the number of tokens up to which a cost counts as in proportion
HALF = 0.5


def judge(rows: Sequence[Row], reach: Reach) -> Findings:
    """The whole page."""
    sizes = [row for row in rows if row.case.history == reach.history]
    return Findings(
        title="How far does one sample go?",
        question="What do time and memory of a step on one sample come to, from a thousand tokens "
        "to a million, and what do adaptive tokens save of them, where a thin front is all that "
        "moves?",
        claims=(memory_claim(sizes), linear_claim(sizes), adaptive_claim(sizes)),
        plots=tuple(
            plot(sizes, dimensions, *what)
            for dimensions in reach.sides
            for what in (
                ("seconds per step", lambda row: row.step_seconds),
                ("bytes of a step, counted", lambda row: float(row.step_bytes)),
            )
        ),
        tables=(
            *(table(sizes, dimensions) for dimensions in reach.sides),
            history_table([row for row in rows if row.case.grid == grid_of(reach.middle, 2)]),
            check_table(rows),
        ),
    )


def by_kind(rows: Sequence[Row], dimensions: int) -> dict[str, list[Row]]:
    """The rows of each operating point on grids of so many dimensions, by rising size."""
    kinds: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.case.grid[-1]):
        if row.case.ndim == dimensions:
            kinds.setdefault(row.case.name, []).append(row)
    return kinds


def dimensions_of(rows: Sequence[Row]) -> list[int]:
    """Which numbers of dimensions there are."""
    return sorted({row.case.ndim for row in rows})


def memory_claim(rows: Sequence[Row]) -> Claim:
    """Does a step on a million tokens fit?"""
    told, held, sentences = 0, 0, []
    for dimensions in dimensions_of(rows):
        for name, each in by_kind(rows, dimensions).items():
            last = each[-1]
            if last.case.adaptive or last.sequence < MILLION:
                continue
            told += 1
            held += last.step_bytes <= GPU
            sentences.append(
                f"{name}, {last.case.place}: {brief(last.sequence)} tokens take "
                f"{brief(last.step_bytes / 1e9)} GB in training and "
                f"{brief(last.inference_bytes / 1e9)} GB in use, and {brief(last.operations)} "
                "operations a step."
            )
    return Claim(
        "A training step on one sample of a million tokens fits into 80 GB, without keeping less "
        "for the backward pass",
        answer_for(held, told) if told else "undecided",
        (f"By count it is so for {held} of {told} models and dimensions.", *sentences),
        grown(
            "Uniform patches: the claim is below 80 GB at a million tokens",
            "bytes of a step, counted",
            rows,
            lambda row, _: float(row.step_bytes),
            *(MILLION, GPU),
        ),
    )


def grown(
    title: str,
    label: str,
    rows: Sequence[Row],
    value: Callable[[Row, Row], float],
    goal_x: float | None = None,
    goal_y: float | None = None,
    adaptive: bool = False,
) -> Plot:
    """The picture of a claim: something of uniform or of adaptive models, told by a row and that of
    the uniform patch, over the tokens of the uniform patch."""
    groups = []
    for dimensions in dimensions_of(rows):
        kinds = by_kind(rows, dimensions)
        for name, each in kinds.items():
            if each[0].case.adaptive != adaptive:
                continue
            pairs = [*zip(each, kinds[f"uniform {each[0].case.kind}"], strict=True)]
            spots = [
                Spot(f"{name}, {one.case.place}", float(whole.sequence), *[value(one, whole)] * 3)
                for one, whole in pairs
            ]
            there = tuple(spot for spot in spots if math.isfinite(spot.y))
            groups.append(SpotGroup(f"{name}, {dimensions}D", there, joined=True))
    return Plot(title, "tokens of uniform patches", label, tuple(groups), goal_x, goal_y)


def power(early: Row, late: Row, value: Callable[[Row], float]) -> float:
    """The power of the number of tokens with which a cost grows."""
    if early.sequence == late.sequence:
        return math.nan
    grown = math.log(late.sequence / early.sequence)
    return math.log(value(late) / value(early)) / grown


def linear_claim(rows: Sequence[Row]) -> Claim:
    """Does axial attention cost in proportion to the tokens?"""
    told, held, sentences = 0, 0, []
    for dimensions in dimensions_of(rows):
        for name, each in by_kind(rows, dimensions).items():
            if each[-1].case.adaptive or len(each) < 2:
                continue
            counted = power(each[-2], each[-1], lambda row: row.operations)
            timed = [row for row in each if row.timed]
            text = f"{name}, {dimensions}D: operations grow with the power {brief(counted)}"
            text += f" up to {each[-1].case.place}"
            if len(timed) > 1:
                took = power(timed[-2], timed[-1], lambda row: row.step_seconds)
                text += f", measured time with {brief(took)} up to {timed[-1].case.place}"
            sentences.append(f"{text}.")
            if each[-1].case.kind == "AViT":
                told += 1
                held += counted <= LINEAR
    return Claim(
        "A step of axial attention costs in proportion to the number of tokens",
        answer_for(held, told) if told else "undecided",
        (
            f"A power of at most {LINEAR:g} of the tokens, by operations between the two largest "
            f"grids: {held} of {told}.",
            *sentences,
        ),
        grown(
            "Uniform patches: the claim is that lines of AViT are level",
            "operations of a step for each token",
            rows,
            lambda row, _: row.operations / row.sequence,
        ),
    )


def adaptive_claim(rows: Sequence[Row]) -> Claim:
    """Do adaptive tokens take half the time where only a front moves?"""
    told, held, sentences = 0, 0, []
    for dimensions in dimensions_of(rows):
        kinds = by_kind(rows, dimensions)
        for name, each in kinds.items():
            if not each[0].case.adaptive:
                continue
            pairs = [*zip(each, kinds[f"uniform {each[0].case.kind}"], strict=True)]
            timed = [pair for pair in pairs if all(row.timed for row in pair)]
            if timed:
                told += 1
                held += share(timed[-1], lambda row: row.step_seconds) <= HALF
            sentences.append(f"{name}, {dimensions}D: {compared(pairs)}.")
    return Claim(
        "Where a thin front is all that moves, adaptive tokens take at most half the time of a "
        "step on the largest grid that was measured",
        answer_for(held, told) if told else "undecided",
        (f"It is so for {held} of {told} models and dimensions.", *sentences),
        grown(
            "Adaptive tokens: the claim is below 0.5 on the right",
            "step time over the uniform patch's",
            rows,
            lambda row, whole: row.step_seconds / whole.step_seconds,
            goal_y=HALF,
            adaptive=True,
        ),
    )


def share(pair: tuple[Row, Row], value: Callable[[Row], float]) -> float:
    """A cost of an adaptive point over the uniform one's."""
    return value(pair[0]) / value(pair[1])


def compared(pairs: Sequence[tuple[Row, Row]]) -> str:
    """Costs over the uniform patch's, grid by grid."""
    parts = []
    for pair in pairs:
        timed = all(row.timed for row in pair)
        took = f", time {brief(share(pair, lambda row: row.step_seconds))}" if timed else ""
        parts.append(
            f"{pair[0].case.grid[-1]} points: tokens {brief(share(pair, lambda row: row.tokens))}, "
            f"operations {brief(share(pair, lambda row: row.operations))}, memory "
            f"{brief(share(pair, lambda row: row.step_bytes))}{took}"
        )
    return "; ".join(parts)


def plot(rows: Sequence[Row], dimensions: int, label: str, value: Callable[[Row], float]) -> Plot:
    """A cost over the points of the grid in tokens of the uniform patch, a line for each kind."""
    groups = []
    kinds = by_kind(rows, dimensions)
    for name, each in kinds.items():
        full = kinds[f"uniform {each[0].case.kind}"]
        spots = [
            Spot(f"{name}, {row.case.place}", float(whole.sequence), *[value(row)] * 3)
            for row, whole in zip(each, full, strict=True)
            if math.isfinite(value(row))
        ]
        groups.append(SpotGroup(name, tuple(spots), joined=True))
    return Plot(f"{dimensions}D: {label}", "tokens of uniform patches", label, tuple(groups))


COLUMNS = (
    *("model", "tokens", "operations", "training GB", "in use GB"),
    *("step s", "in use s", "training GB, measured", "in use GB, measured"),
)


def line(row: Row) -> tuple[str, ...]:
    """A row of a table."""
    measured = (row.step_measured, row.inference_measured)
    return (
        f"{row.case.name}, {row.case.place}",
        brief(row.sequence),
        brief(row.operations),
        brief(row.step_bytes / 1e9),
        brief(row.inference_bytes / 1e9),
        brief(row.step_seconds),
        brief(row.inference_seconds),
        *(brief(size / 1e9) for size in measured),
    )


def table(rows: Sequence[Row], dimensions: int) -> TextTable:
    """Every case on grids of so many dimensions."""
    each = [row for kind in by_kind(rows, dimensions).values() for row in kind]
    return TextTable(
        f"{dimensions}D: one sample",
        "Tokens of all frames. Operations and bytes are counted, without the optimizer's moments; "
        "what was measured is behind them, a dash where it was too large for this machine.",
        COLUMNS,
        tuple(map(line, each)),
    )


def history_table(rows: Sequence[Row]) -> TextTable:
    """Every history on one grid."""
    each = sorted(rows, key=lambda row: (row.case.name, row.case.history))
    return TextTable(
        "Histories", "As above, on one grid.", COLUMNS, tuple(line(row) for row in each)
    )


def check_table(rows: Sequence[Row]) -> TextTable:
    """How far counted bytes are from measured ones."""
    kinds: dict[str, list[float]] = {}
    for row in rows:
        if row.timed:
            kinds.setdefault(row.case.name, []).append(row.step_bytes / row.step_measured)
    return TextTable(
        "Counted over measured memory",
        "Of a training step: the smallest and the largest over all cases that were measured.",
        ("model", "smallest", "largest", "cases"),
        tuple(
            (name, brief(min(each)), brief(max(each)), str(len(each)))
            for name, each in kinds.items()
        ),
    )
