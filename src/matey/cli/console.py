"""What commands print: text, tables, and progress as a bar on a terminal, else as lines."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from matey.cli import is_first
from matey.words import duration, listed

console = Console(quiet=not is_first())
errors = Console(stderr=True, quiet=not is_first())
COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
NOTE = TextColumn("{task.fields[note]}")
SEAMS = "Seams: how many times further the error jumps across patch edges than inside; 1 is none."


def say(text: str) -> None:
    """Print text as it is: no markup, no colours, no line breaks added."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def watch_training(title: str) -> Iterator[Any]:
    """A watcher for `matey.train.loop.train`: step, loss, rate and time left."""
    from matey.records.files import read
    from matey.records.run import Worse

    interactive = errors.is_terminal
    with Progress(*COLUMNS, NOTE, console=errors, disable=not interactive) as progress:
        task = progress.add_task(title, note="")
        steps = 0

        def watch(record: dict[str, Any]) -> None:
            nonlocal steps
            if record["kind"] == "start":
                steps = record["steps"]
                progress.update(task, total=steps, completed=record["step"])
            if record["kind"] == "changed":
                for key, (was, now) in record["settings"].items():
                    tell(f"{title}: goes on with another {key}: {now}, not {was}")
            if record["kind"] == "beyond":
                tell(f"{title}: {beyond_stencils(record)}")
            if record["kind"] == "stencil":
                tell(f"{title}: {fitted_stencils(record)}")
            if record["kind"] == "threads":
                tell(f"{title}: {thread_choice(record)}")
            if record["kind"] == "train":
                note = (
                    f"loss {record['loss']:.4f}  {record['windows_per_second']:.1f} windows/s  "
                    f"{record['of_peak']:.0%} of peak  {span(record['seconds_left'])} left"
                )
                progress.update(task, completed=record["step"], note=note)
                if not interactive:
                    tell(f"{title}: step {record['step']}/{steps}  {note}")
            if record["kind"] == "valid":
                scores = "  ".join(
                    f"{name} {error:.4f} (persistence {record['persistence'][name]:.4f})"
                    for name, error in record["nrmse"].items()
                )
                if scores:
                    tell(f"{title}: step {record['step']}  validation NRMSE  {scores}")
            if record["kind"] == "end" and record["step"] < steps:
                tell(
                    f"{title}: ended after step {record['step']} of {steps}: no lower validation "
                    f"error since step {record['best']}, whose model is kept"
                )
            if record["kind"] == "end":
                for name, worse in record.get("worse", {}).items():
                    line = read(Worse, worse).line(name)
                    tell(f"{title}: {line}: lower optim.lr, or train for longer")

        def tell(line: str) -> None:
            if interactive:
                errors.print(line, highlight=False)
            else:
                print(line, file=sys.stderr, flush=True)

        yield watch


def beyond_stencils(record: dict[str, Any]) -> str:
    """For which systems a stencil stays in the model, for which it does not, and why."""
    errors, most = record["errors"], record["most"]
    poor = {name: error for name, error in errors.items() if error is None or not error <= most}
    kept = [name for name in errors if name not in poor]
    shares = [
        f"{name} ({'it diverges' if error is None else f'{error:.2f}'})"
        for name, error in poor.items()
    ]
    text = f"{'a' if kept else 'no'} least-squares stencil stays in the model for "
    text += listed(kept or shares)
    text += f", but not for {listed(shares)}" if kept and shares else ""
    return f"{text}: its rollouts may have at most {most:.2f} of persistence's error"


def fitted_stencils(record: dict[str, Any]) -> str:
    """Which stencils were fitted for scores to stand beside, what they took, and which were not."""
    seconds, refused = record["cpu_seconds"], record["refused"]
    text = f"least-squares stencils to compare with, of {listed(list(seconds))}" if seconds else ""
    text += f": {sum(seconds.values()):.1f} s of CPU time" if seconds else ""
    reasons = [f"no stencil of {name}: {why}" for name, why in refused.items()]
    return "; ".join([*([text] if text else []), *reasons])


def thread_choice(record: dict[str, Any]) -> str:
    """How many threads a run has, and why."""
    several = "" if record["number"] == 1 else "s"
    steps = ", ".join(f"{s:.3g} s with {number}" for number, s in record["step_seconds"].items())
    reason = record["reason"] + (f": a step takes {steps}" if steps else "")
    return f"{record['number']} thread{several}, {reason}"


def score_table(scores: Any, title: str) -> Table:
    """Errors one step ahead and at the end of the rollout, beside persistence, linear extrapolation
    and the least-squares stencil; and how far patch edges show, of models that have patches."""
    metric = scores[0].primary.upper() if scores else "error"
    edges = any(score.seams for score in scores)
    fitted = any(score.main.stencil for score in scores)
    numbers = ["step", metric, "persistence", "lower\nby", "linear", *["stencil"] * fitted]
    numbers += ["tokens,\nof fine", *["seams"] * edges]
    table = make_table(plain(title), ["system"], numbers, gap=0)
    for score in scores:
        for at in sorted({0, len(score.steps) - 1}):
            skill, linear, stencil = score.main.skill[at], score.main.linear, score.main.stencil
            seam = score.seams.mean[at] if score.seams else math.nan
            table.add_row(
                plain(score.name) if at == 0 else "",
                str(score.steps[at]),
                error_text(score.main.error[at]),
                error_text(score.main.persistence[at]),
                f"{skill:z.0%}" if math.isfinite(skill) else "-",
                "-" if linear is None else error_text(linear[at]),
                *["-" if stencil is None else error_text(stencil[at])] * fitted,
                tokens_text(score.tokens) if at == 0 else "",
                *[f"{seam:.2f}" if math.isfinite(seam) else "-"] * edges,
            )
    if edges:
        table.caption, table.caption_justify = SEAMS, "left"
    return table


def ensemble_table(scores: Any) -> Table:
    """Ensembles one step ahead and at the end of the rollout, beside the deterministic model."""
    beside = plain(next((s.ensembles.deterministic for s in scores if s.ensembles), ""))
    title = f"ensembles, beside {beside}"
    numbers = ["members", "step", "CRPS\n/ MAE", "spread\n/ error", "coverage\n(nominal)"]
    numbers.append("energy\n/ RMSE")
    table = make_table(title, ["system", "ensemble"], numbers)
    for score in (score for score in scores if score.ensembles):
        made = score.ensembles
        rows = [
            ("of the model", made.model),
            (f"inputs ± {made.perturbed.perturbed:g}σ", made.perturbed),
        ]
        for name, one in rows:
            for at in sorted({0, len(score.steps) - 1}) if one else ():
                ratios = made.crps_over_mae(one)[at], one.mean("calibration")[at]
                table.add_row(
                    plain(score.name),
                    name,
                    str(one.members),
                    str(score.steps[at]),
                    *(f"{ratio:.2f}" for ratio in ratios),
                    f"{one.mean('coverage')[at]:.2f} ({one.nominal:.2f})",
                    f"{made.energy_over_rmse(one)[at]:.2f}",
                )
    return table


def tokens_text(tokens: Any) -> str:
    """Tokens per frame, and their share of as many as fine patches everywhere would be."""
    return f"{tokens['mean']:.0f} {tokens['mean'] / tokens['fine']:.0%}" if tokens else ""


def make_table(
    title: str | None, words: Sequence[str], numbers: Sequence[str], gap: int = 1
) -> Table:
    """An empty table: columns of words, which fold where space is short, then of numbers, which
    stay whole; `gap` spaces more than one between columns."""
    table = Table(title=title, box=SIMPLE, padding=(0, gap, 0, 0), pad_edge=False)
    for heading in words:
        table.add_column(heading, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right", overflow="fold", no_wrap=True)
    return table


def health(scores: Any) -> Iterator[str]:
    """A sentence on each system that no stencil stands beside, and whose rollouts diverged."""
    for score in scores:
        if score.no_stencil:
            yield f"{score.name}: no stencil stands beside: {score.no_stencil.rstrip('.')}."
        bad = score.divergence
        if bad.rollouts:
            ended = f"; {bad.unfinished} of them ended, not finite" if bad.unfinished else ""
            yield (
                f"{score.name}: {bad.rollouts} of {score.windows} rollouts diverged, the first "
                f"at step {bad.first:g}{ended}."
            )


def error_text(error: float) -> str:
    """An error to four decimals, or in words where it is not finite."""
    if math.isnan(error):
        return "undefined"
    return f"{error:.4f}" if math.isfinite(error) else "diverged"


def plain(text: str) -> str:
    """Text from a file or a user, safe to print: on one line and without markup."""
    from matey.data.formats.files import shown

    return escape(shown(text))


def span(seconds: float) -> str:
    """A time as `3 min 50 s`, with spaces that a line may break at."""
    return duration(seconds).replace("\u00a0", " ")


@contextmanager
def show_progress(title: str, patience: float = 0.0) -> Iterator[Callable[[int, int], None]]:
    """A bar with rate and time left on a terminal; elsewhere a line on stderr at every quarter,
    once `patience` seconds have passed since the first frames.

    Call the result with the number of frames done and the number in all.
    """
    if sys.stderr.isatty():
        with Progress(*COLUMNS, NOTE, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=None, note="")

            def update(done: int, total: int) -> None:
                speed = bar.tasks[0].speed
                note = f"{speed:.3g} frames/s" if speed else ""
                bar.update(task, completed=done, total=total, note=note)

            yield update
        return
    quarter, first, began = 0, 0, 0.0

    def line(done: int, total: int) -> None:
        nonlocal quarter, first, began
        now, quarters = time.perf_counter(), 4 * done // total
        if not first:  # what came before, such as opening files, is no part of the rate
            first, began = done, now
        if quarters > quarter and now - began >= patience:
            rate, seconds = "", now - began
            if done > first:
                pace = seconds / (done - first)
                rate = f", {1 / pace:.3g} frames/s, {pace * (total - done):.0f} s left"
            print(f"{title}: {done} of {total} frames{rate}", file=sys.stderr, flush=True)
        quarter = max(quarter, quarters)

    yield line
