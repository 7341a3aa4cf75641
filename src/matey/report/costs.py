"""What models cost: in training, per frame, and in scoring."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matey.report.load import Results, Run
from matey.report.verdict import token_means
from matey.report.words import amount, duration

UNKNOWN = "–"


@dataclass(frozen=True)
class Cell:
    """One cost: its text on the page, and the value by which a table sorts."""

    name: str
    text: str
    value: float


def costs(
    results: Sequence[Results], trained: Mapping[str, Run | None], runs: Sequence[Run]
) -> list[tuple[str, tuple[Cell, ...]]]:
    """The costs of every model: of scored ones with their training, where that is on the page,
    and of runs that are not scored."""
    scored = {run.name for run in trained.values() if run is not None}
    return [
        *(cost(result.name, trained[result.name], result) for result in results),
        *(cost(run.name, run, None) for run in runs if run.name not in scored),
    ]


def cost(name: str, run: Run | None, result: Results | None) -> tuple[str, tuple[Cell, ...]]:
    """The costs of one model."""
    parameters = (result.scores.model if result else run.provenance if run else {}).get(
        "parameters"
    )
    used, fine = token_means(result.systems) if result else (math.nan, math.nan)
    tokens = cell("Tokens per frame", used or math.nan, f"{used:,.0f} of {fine:,.0f}")
    points = run.train if run else ()
    rate = points[-1].windows_per_second if points else math.nan
    return (
        name,
        (
            counted("Parameters", number_or_nan(parameters)),
            tokens,
            cell("Training steps", run.step if run else math.nan, f"{run.step:,}" if run else ""),
            timed("Training", run.seconds if run else math.nan),
            counted("Windows", sum(p.windows for p in points) or math.nan),
            counted("Tokens", sum(p.tokens for p in points) or math.nan),
            counted("Operations", sum(p.operations for p in points) or math.nan),
            counted("Windows per second", rate),
            share("Of peak", points[-1].of_peak if points else math.nan),
            timed("Scoring", result.scores.seconds if result else math.nan),
        ),
    )


def number_or_nan(value: object) -> float:
    """A number of a record; NaN where it has none."""
    return float(value) if isinstance(value, int | float) else math.nan


def cell(name: str, value: float, text: str) -> Cell:
    """A cost, or a dash where it is not known."""
    return Cell(name, text if math.isfinite(value) else UNKNOWN, value)


def counted(name: str, value: float) -> Cell:
    """A cost in things."""
    return cell(name, value, amount(float(f"{value:.3g}")) if value < 1e12 else f"{value:.2e}")


def timed(name: str, value: float) -> Cell:
    """A cost in seconds."""
    return cell(name, value, duration(value))


def share(name: str, value: float) -> Cell:
    """A fraction."""
    return cell(name, value, f"{value:.0%}")
