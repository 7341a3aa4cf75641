"""What models cost: in training, per frame, and in scoring."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matey.report.load import Results, Run
from matey.report.verdict import token_means
from matey.words import amount, duration

UNKNOWN = "–"


@dataclass(frozen=True)
class Cell:
    """One cost: its text on the page, and the value that a table sorts by."""

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
    record = result.scores.model if result else run.provenance if run else {}
    parameters = record.get("parameters")
    used, fine = token_means(result.systems) if result else (0.0, 0.0)
    points = run.train if run else ()
    costs: tuple[tuple[str, float, Callable[[float], str]], ...] = (
        ("Parameters", parameters if isinstance(parameters, int | float) else math.nan, count),
        ("Tokens per frame", used or math.nan, f"{{:,.0f}} of {fine:,.0f}".format),
        ("Training steps", run.step if run else math.nan, "{:,}".format),
        ("Training", run.seconds if run else math.nan, duration),
        ("Windows", sum(p.windows for p in points) or math.nan, count),
        ("Tokens", sum(p.tokens for p in points) or math.nan, count),
        ("Operations", sum(p.operations for p in points) or math.nan, count),
        ("Windows per second", points[-1].windows_per_second if points else math.nan, count),
        ("Of peak", points[-1].of_peak if points else math.nan, "{:.0%}".format),
        ("Scoring", result.scores.seconds if result else math.nan, duration),
    )
    return name, tuple(
        Cell(label, text(value) if math.isfinite(value) else UNKNOWN, value)
        for label, value, text in costs
    )


def count(value: float) -> str:
    """A number of things: `1.23 M`."""
    return amount(float(f"{value:.3g}")) if value < 1e12 else f"{value:.2e}"
