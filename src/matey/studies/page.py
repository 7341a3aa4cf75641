"""What a study says: verdicts on claims, charts and tables, as plain data.

`study.json` holds them, and all that `matey report` needs for a page. `results.csv` has one row for
each cell, system, lead and metric; `timing.csv` one for each operating point and cost.
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from matey.output import to_json, write_text
from matey.studies.cells import Outcome
from matey.studies.statistics import Estimate
from matey.studies.timing import Timing, Timings

FORMAT = 1
FILE = "study.json"
Answer = Literal["held", "not held", "undecided"]


@dataclass(frozen=True)
class Claim:
    """A claim, what the study says of it, and why."""

    claim: str
    answer: Answer
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Spot:
    """A point of a chart, with the interval of its y."""

    name: str
    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Group:
    """Points of one kind; a line through them where they are `joined`."""

    name: str
    spots: tuple[Spot, ...]
    joined: bool = False


@dataclass(frozen=True)
class Plot:
    """A chart: an error over a cost, both on logarithmic axes."""

    title: str
    x: str
    y: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Table:
    """A table whose first column is text; `note` says what the numbers are."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class StudyPage:
    """All that the page of a study shows."""

    study: str
    title: str
    question: str
    scale: str
    facts: tuple[tuple[str, str], ...]
    claims: tuple[Claim, ...]
    plots: tuple[Plot, ...]
    tables: tuple[Table, ...]


# What a step takes, in tables.
COST_COLUMNS = ("GFLOP", "step ms", "inference ms", "step MB")


def cost_columns(timing: Timing) -> tuple[str, ...]:
    """The values of `COST_COLUMNS`."""
    return (
        shown(timing.operations / 1e9),
        shown(1e3 * timing.step_seconds),
        shown(1e3 * timing.inference_seconds),
        shown(timing.step_bytes / 1e6),
    )


def blank(cells: Sequence[str], columns: int) -> tuple[str, ...]:
    """A row of a table with nothing in its last columns."""
    return (*cells, *[""] * (columns - len(cells)))


def answer_below(ratio: Estimate) -> Answer:
    """Held where a ratio lies below 1 with its interval, not held where it does not."""
    if math.isnan(ratio.mean):
        return "undecided"
    return "held" if ratio.high < 1 else "not held" if ratio.low >= 1 else "undecided"


def answer_for(held: int, of: int) -> Answer:
    """The answer where a claim holds for so many of some systems."""
    return "held" if held == of else "undecided" if held else "not held"


def write_page(out: Path, page: StudyPage) -> None:
    """Write `study.json`."""
    write_text(out / FILE, to_json({"format": FORMAT, **asdict(page)}, indent=1))


def write_tables(out: Path, outcomes: Sequence[Outcome], timings: Timings) -> None:
    """Write `results.csv`, which is the same whenever the study is made, and `timing.csv`."""
    rows: list[list[object]] = [
        ["cell", "point", "system", "budget", "seed", "lead", "metric", "value", "persistence"]
    ]
    for one in outcomes:
        own = [one.cell, one.point, one.system, one.budget, one.seed]
        for metric, errors in one.errors.items():
            pairs = zip(one.leads, errors, one.persistence[metric], strict=True)
            rows += [[*own, lead, metric, *pair] for lead, *pair in pairs]
        for guide in one.guides:
            name = f"rank_correlation_{guide.criterion}"
            rows.append([*own, guide.lead, name, guide.correlation, ""])
        for metric in ("tokens", "parameters", "steps", "operations", "valid", "diverged"):
            rows.append([*own, "", metric, getattr(one, metric), ""])
    write_text(out / "results.csv", as_csv(rows))
    costs: list[list[object]] = [["system", "point", "cost", "value"]]
    for system, points in timings.items():
        for point, timing in points.items():
            costs += [[system, point, name, value] for name, value in asdict(timing).items()]
    write_text(out / "timing.csv", as_csv(costs))


def as_csv(rows: Sequence[Sequence[object]]) -> str:
    """Rows as comma-separated values; numbers in full, so that they can be compared."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def shown(value: float, digits: int = 3) -> str:
    """A number in a few digits."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def ranged(found: Estimate, digits: int = 3) -> str:
    """A mean with its interval: `0.12 (0.10 to 0.14)`."""
    if math.isnan(found.mean):
        return "–"
    return (
        f"{shown(found.mean, digits)} ({shown(found.low, digits)} to {shown(found.high, digits)})"
    )


def joined(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([*([", ".join(words[:-1])] if words[:-1] else []), *words[-1:]])
