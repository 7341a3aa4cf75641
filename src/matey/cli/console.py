"""What long work shows: a progress bar on a terminal, plain lines elsewhere."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from matey.cli import is_first
from matey.report.words import duration

console = Console(quiet=not is_first())
errors = Console(stderr=True, quiet=not is_first())


@contextmanager
def watch_training(title: str) -> Iterator[Any]:
    """A watcher for `matey.train.loop.train`: step, loss, rate and time left."""
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    ]
    interactive = errors.is_terminal
    with Progress(*columns, console=errors, disable=not interactive) as progress:
        task = progress.add_task(title, note="")
        steps = 0

        def watch(record: dict[str, Any]) -> None:
            nonlocal steps
            if record["kind"] == "start":
                steps = record["steps"]
                progress.update(task, total=steps, completed=record["step"])
            if record["kind"] == "changed":
                for key, (was, now) in record["settings"].items():
                    say(f"{title}: goes on with another {key}: {now}, not {was}")
            if record["kind"] == "threads":
                say(f"{title}: {shown_threads(record)}")
            if record["kind"] == "train":
                left = duration(record["seconds_left"]).replace("\u00a0", " ")
                note = (
                    f"loss {record['loss']:.4f}  {record['windows_per_second']:.1f} windows/s  "
                    f"{record['of_peak']:.0%} of peak  {left} left"
                )
                progress.update(task, completed=record["step"], note=note)
                if not interactive:
                    say(f"{title}: step {record['step']}/{steps}  {note}")
            if record["kind"] == "valid":
                scores = "  ".join(
                    f"{name} {error:.4f} (persistence {record['persistence'][name]:.4f})"
                    for name, error in record["nrmse"].items()
                )
                if scores:
                    say(f"{title}: step {record['step']}  validation NRMSE  {scores}")

        def say(line: str) -> None:
            if interactive:
                progress.console.print(line, highlight=False)
            else:
                print(line, file=sys.stderr, flush=True)

        yield watch


def shown_threads(record: dict[str, Any]) -> str:
    """How many threads a run has, and why."""
    several = "" if record["number"] == 1 else "s"
    steps = ", ".join(f"{s:.3g} s with {number}" for number, s in record["step_seconds"].items())
    reason = record["reason"] + (f": a step takes {steps}" if steps else "")
    return f"{record['number']} thread{several}, {reason}"


def score_table(scores: Any, title: str) -> Table:
    """Errors one step ahead and at the end of the rollout, beside persistence and linear
    extrapolation."""
    table = Table(title=plain(title), box=SIMPLE, padding=0, pad_edge=False)
    metric = scores[0].primary.upper() if scores else "error"
    for heading in (
        "system",
        "ahead",
        metric,
        "persistence",
        "lower by",
        "linear",
        "tokens",
        "of fine",
    ):
        left = heading == "system"
        # A name is folded rather than cut, a number neither.
        table.add_column(
            heading, justify="left" if left else "right", overflow="fold", no_wrap=not left
        )
    for score in scores:
        for at in sorted({0, len(score.steps) - 1}):
            step, skill, linear = score.steps[at], score.main.skill[at], score.main.linear
            tokens = score.tokens if at == 0 else {}
            table.add_row(
                plain(score.name) if at == 0 else "",
                f"{step} step{'s' if step > 1 else ''}",
                shown_error(score.main.error[at]),
                shown_error(score.main.persistence[at]),
                f"{skill:.0%}" if math.isfinite(skill) else "-",
                "-" if linear is None else shown_error(linear[at]),
                f"{tokens['mean']:.0f}" if tokens else "",
                f"{tokens['mean'] / tokens['fine']:.0%}" if tokens else "",
            )
    return table


def health(scores: Any) -> Iterator[str]:
    """A sentence on each system whose rollouts diverged."""
    for score in scores:
        found = score.divergence
        if found.rollouts:
            ended = f"; {found.unfinished} of them ended, not finite" if found.unfinished else ""
            yield (
                f"{score.name}: {found.rollouts} of {score.windows} rollouts diverged, the first "
                f"at step {found.first:g}{ended}."
            )


def shown_error(error: float) -> str:
    """Four digits; in words where there is no such number."""
    if math.isnan(error):
        return "undefined"
    return f"{error:.4f}" if math.isfinite(error) else "diverged"


def plain(text: str) -> str:
    """Text from a file or a user, safe to print: on one line and without markup."""
    from matey.data.formats.files import shown

    return escape(shown(text))
