"""Answers, numbers and tables of a study, and the files that hold them.

`study.json` holds them, and all that `matey report` needs for a page. `results.csv` has one row for
each cell, system, lead and metric; `timing.csv` one for each operating point and cost.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict
from pathlib import Path

from matey.output import write_text
from matey.records.study import Answer, Outcome, Plot, Spot, SpotGroup, Timing, Timings
from matey.studies.statistics import Estimate, over_systems

# What a step takes, in tables.
COST_COLUMNS = ("GFLOP", "step ms", "inference ms", "step MB")


def cost_columns(timing: Timing) -> tuple[str, ...]:
    """The values of `COST_COLUMNS`."""
    return (
        brief(timing.operations / 1e9),
        brief(1e3 * timing.step_seconds),
        brief(1e3 * timing.inference_seconds),
        brief(timing.step_bytes / 1e6),
    )


def picture(
    title: str,
    x: str,
    y: str,
    spots: Mapping[str, tuple[float, Estimate]],
    goal_x: float | None = None,
    goal_y: float | None = None,
    linear: bool = False,
) -> Plot:
    """The picture that answers a claim: what each system was found to have on one axis, with its
    interval on the other, beside the lines that the claim is about."""
    groups = tuple(
        SpotGroup(name, (Spot(name, place, found.mean, found.low, found.high),))
        for name, (place, found) in spots.items()
    )
    return Plot(title, x, y, groups, goal_x, goal_y, linear)


def blank(cells: Sequence[str], columns: int) -> tuple[str, ...]:
    """A row of a table with nothing in its last columns."""
    return (*cells, *[""] * (columns - len(cells)))


def decide(held: bool, refuted: bool) -> Answer:
    """The answer to a claim; undecided where neither holds, as in comparisons with NaN."""
    return "held" if held else "not held" if refuted else "undecided"


def answer_below(ratio: Estimate) -> Answer:
    """Held where a ratio lies below 1 with its interval, not held where it does not."""
    return decide(ratio.high < 1, ratio.low >= 1)


def answer_above(ratios: Sequence[Estimate], aim: float, bounds: Set[str]) -> Answer:
    """Held where the mean over systems is at least `aim` with its interval, not held where it is
    below with its interval; of one system its own interval counts.

    Ratios that are bounds, `at least` or `at most`, leave the other side open.
    """
    overall = over_systems(ratios)
    return decide(
        overall.low >= aim and bounds <= {"", "at least "},
        overall.high < aim and bounds <= {"", "at most "},
    )


def answer_for(held: int, of: int) -> Answer:
    """The answer to a claim that holds on `held` of `of` systems."""
    return decide(held == of, not held)


def write_tables(out: Path, outcomes: Sequence[Outcome], timings: Timings) -> None:
    """Write `results.csv`, which is the same whenever the study is made, and `timing.csv`."""
    rows: list[list[object]] = [
        [
            *("cell", "point", "system", "budget", "seed", "lead", "metric", "value"),
            *("persistence", "stencil"),
        ]
    ]
    for one in outcomes:
        cell = [one.cell, one.point, one.system, one.budget, one.seed]
        for metric, errors in one.errors.items():
            fit = one.stencil.get(metric, [""] * len(one.leads))
            each = zip(one.leads, errors, one.persistence[metric], fit, strict=True)
            rows += [[*cell, lead, metric, *values] for lead, *values in each]
        for guide in one.guides:
            name = f"rank_correlation_{guide.criterion}"
            rows.append([*cell, guide.lead, name, guide.correlation, "", ""])
        for metric in ("tokens", "parameters", "steps", "operations", "rate", "valid", "diverged"):
            rows.append([*cell, "", metric, getattr(one, metric), "", ""])
    write_text(out / "results.csv", as_csv(rows))
    costs: list[list[object]] = [["system", "point", "cost", "value"]]
    for system, points in timings.items():
        for point, timing in points.items():
            values = asdict(timing)
            values |= {f"{name}_seconds": took for name, took in values.pop("parts").items()}
            costs += [[system, point, name, value] for name, value in values.items()]
    write_text(out / "timing.csv", as_csv(costs))


def as_csv(rows: Sequence[Sequence[object]]) -> str:
    """Rows as comma-separated values; numbers in full, so that they can be compared."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def brief(value: float, digits: int = 3) -> str:
    """A number in a few digits."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def ranged(value: Estimate, digits: int = 3) -> str:
    """A mean with its interval: `0.12 (0.10 to 0.14)`; of one value alone, that there is none."""
    mean, low, high = (brief(number, digits) for number in (value.mean, value.low, value.high))
    if math.isnan(value.mean):
        return mean
    if math.isinf(value.high) and (value.low == 0 or math.isinf(value.low)):
        return f"{mean} (no interval)"
    return f"{mean} ({low} to {high})"
