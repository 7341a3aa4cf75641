"""The page: what is shown, in which order, as one file that needs nothing else."""

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from matey import __version__
from matey.errors import DataError
from matey.report import summary
from matey.report.charts import Band, Chart, Line, line_chart, series, short, spread, thinned
from matey.report.figures import (
    Scale,
    cell_outlines,
    error_scale,
    field_scale,
    middle_slice,
    picture,
    relative_error,
)
from matey.report.load import Example, Results, Run, SystemScores, load_sources


@dataclass(frozen=True)
class Frame:
    """One step of a rollout as pictures."""

    step: int
    truth: str
    prediction: str
    error: str
    nrmse: float


@dataclass(frozen=True)
class Panel:
    """One variable of an example: its frames, the colour scales, the frame before them.

    Of a one-dimensional field there are charts instead of pictures.
    """

    variable: str
    last: str
    frames: tuple[Frame, ...]
    values: Scale
    errors: Scale
    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class Gallery:
    """The example of one system by one model."""

    key: str
    title: str
    system: SystemScores
    example: Example
    cells: Markup
    levels: tuple[tuple[int, str], ...]
    panels: tuple[Panel, ...]

    @property
    def width(self) -> int:
        return int(self.example.last.shape[3])

    @property
    def height(self) -> int:
        return int(self.example.last.shape[2])


@dataclass(frozen=True)
class Row:
    """One line of the score table."""

    model: str
    system: SystemScores


@dataclass(frozen=True)
class Training:
    """One run as curves."""

    run: Run
    charts: tuple[Chart, ...]


def build(sources: Sequence[Path], out: Path) -> None:
    """Write one self-contained HTML page about runs and results.

    `sources` are run folders and results folders in any order. Raises DataError where one
    is neither or holds a file that cannot be read, or where `out` cannot be written.
    """
    runs, results = load_sources([Path(source) for source in sources])
    write_whole(Path(out), render(runs, results))


def render(runs: Sequence[Run], results: Sequence[Results]) -> str:
    """The page's HTML."""
    environment = Environment(
        loader=PackageLoader("matey.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (summary.number, summary.change, summary.duration, summary.amount, provenance):
        environment.filters[function.__name__] = function
    environment.filters["tick"] = short
    environment.filters["yaml"] = lambda config: yaml.safe_dump(config, sort_keys=False)
    trained = {result.name: matching(result, runs) for result in results}
    scored = {run.name for run in trained.values() if run is not None}
    return environment.get_template("template.html.j2").render(
        title=title(runs, results),
        verdicts=[
            *(summary.judge_results(result, trained[result.name]) for result in results),
            *(summary.judge_run(run) for run in runs if run.name not in scored),
        ],
        rows=[Row(result.name, system) for result in results for system in result.systems],
        several=len(results) > 1,
        galleries=[
            gallery(f"g{i}-{j}", result, system, system.example, len(results) > 1)
            for i, result in enumerate(results)
            for j, system in enumerate(result.systems)
            if system.example is not None
        ],
        rollouts=rollout_charts(results),
        trainings=[Training(run, training_charts(run)) for run in runs],
        results=results,
        version=__version__,
    )


def matching(result: Results, runs: Sequence[Run]) -> Run | None:
    """The run that trained a scored model, if it is on the page."""
    same = [run for run in runs if run.name == result.name]
    same = same or [run for run in runs if Path(run.name).name == result.name]
    return same[0] if same else None


def title(runs: Sequence[Run], results: Sequence[Results]) -> str:
    """The page's name: the models it is about."""
    known = {run.name: result.name for result in results if (run := matching(result, runs))}
    names = dict.fromkeys(
        [*(result.name for result in results), *(known.get(run.name, run.name) for run in runs)]
    )
    return summary.listed(list(names)[:3]) + (" and more" if len(names) > 3 else "")


def gallery(
    key: str, result: Results, system: SystemScores, example: Example, several: bool
) -> Gallery:
    """The pictures of one system."""
    panel = line_panel if example.ndim == 1 else picture_panel
    counts = {level: int((example.level == level).sum()) for level in sorted(set(example.level))}
    sizes = {level: tuple(example.size[example.level == level][0]) for level in counts}
    active = [axis for axis in range(3) if example.last.shape[1 + axis] > 1] or [2]
    return Gallery(
        key=key,
        title=f"{system.name}, {result.name}" if several else system.name,
        system=system,
        example=example,
        cells=cell_outlines(example, key) if example.ndim > 1 else Markup(),
        levels=tuple(
            (count, " × ".join(str(sizes[level][axis]) for axis in active))
            for level, count in counts.items()
        ),
        panels=tuple(panel(example, c) for c in by_change(example)),
    )


def by_change(example: Example) -> list[int]:
    """Variables, first the one that changes most: what there was to predict."""
    changes = [
        relative_error(true, last)
        for true, last in zip(example.truth[-1], example.last, strict=True)
    ]
    return sorted(range(len(changes)), key=lambda c: -changes[c] if changes[c] > 0 else 0.0)


def picture_panel(example: Example, c: int) -> Panel:
    """One variable in the plane."""
    truth, prediction = example.truth[:, c], example.prediction[:, c]
    values = field_scale(truth)
    errors = error_scale(prediction - truth)
    return Panel(
        variable=example.variables[c],
        last=picture(middle_slice(example.last[c]), values),
        frames=tuple(
            Frame(
                step=step,
                truth=picture(middle_slice(true), values),
                prediction=picture(middle_slice(predicted), values),
                error=picture(middle_slice(predicted - true), errors),
                nrmse=relative_error(true, predicted),
            )
            for step, true, predicted in zip(example.steps, truth, prediction, strict=True)
        ),
        values=values,
        errors=errors,
        charts=(),
    )


def line_panel(example: Example, c: int) -> Panel:
    """One variable along a line."""
    axis = max(range(3), key=lambda a: example.last.shape[1 + a])
    points = list(range(example.last.shape[1 + axis]))
    finest = example.level.max(initial=0)
    cells = [
        Band(float(low), float(low + size))
        for low, size, level in zip(
            example.corner[:, axis], example.size[:, axis], example.level, strict=True
        )
        if level == finest
    ]
    charts = []
    for step, true, predicted in zip(
        example.steps, example.truth[:, c], example.prediction[:, c], strict=True
    ):
        lines = [
            Line("last frame given", points, example.last[c].ravel().tolist(), "still"),
            Line("truth", points, true.ravel().tolist(), "truth"),
            Line("prediction", points, predicted.ravel().tolist(), "s0"),
        ]
        name = f"{step} step{'s' if step > 1 else ''} ahead"
        charts.append(
            line_chart(name, lines, "grid point", example.variables[c], zero=False, bands=cells)
        )
    scale = field_scale(example.truth[:, c])
    return Panel(example.variables[c], "", (), scale, scale, tuple(charts))


def rollout_charts(results: Sequence[Results]) -> list[Chart]:
    """Error over the steps of a rollout, one chart per system, one line per model."""
    names = dict.fromkeys(system.name for result in results for system in result.systems)
    charts = []
    for name in names:
        found = [
            (result, system)
            for result in results
            for system in result.systems
            if system.name == name
        ]
        if max(len(system.steps) for _, system in found) < 2:
            continue
        lines = [
            Line(result.name if len(found) > 1 else "model", s.steps, s.nrmse, series(i))
            for i, (result, s) in enumerate(found)
        ]
        longest = max((s for _, s in found), key=lambda s: len(s.steps))
        lines.append(Line("persistence", longest.steps, longest.persistence, "still"))
        log = spread(y for line in lines for y in line.y) > 50
        charts.append(line_chart(name, lines, "steps ahead", "NRMSE", log=log))
    return charts


def training_charts(run: Run) -> tuple[Chart, ...]:
    """Loss and validation over training steps."""
    charts = []
    if len(run.train) > 1:
        steps = [point.step for point in run.train]
        names = sorted({name for point in run.train for name in point.losses})
        lines = []
        for i, name in enumerate(names if len(names) > 1 else []):
            own = [point for point in run.train if name in point.losses]
            x, y = thinned([p.step for p in own], [p.losses[name] for p in own])
            lines.append(Line(name, x, y, series(i) + " thin"))
        if not lines:
            lines = [Line("loss", *thinned(steps, [p.loss for p in run.train]), "s0 thin")]
        log = spread(y for line in lines for y in line.y) > 10
        charts.append(line_chart("Training loss", lines, "step", "loss", log=log))
    if run.valid:
        lines = []
        for i, name in enumerate(sorted({name for point in run.valid for name in point.nrmse})):
            own_valid = [point for point in run.valid if name in point.nrmse]
            x = [float(point.step) for point in own_valid]
            lines.append(Line(name, x, [p.nrmse[name] for p in own_valid], series(i)))
            still = [p.persistence.get(name, float("nan")) for p in own_valid]
            lines.append(Line(f"{name}, persistence", x, still, series(i) + " faint"))
        log = spread(y for line in lines for y in line.y) > 20
        charts.append(line_chart("Validation, one window ahead", lines, "step", "NRMSE", log=log))
    return tuple(charts)


def provenance(run: Run) -> Iterable[tuple[str, str]]:
    """What a reader needs to run it again; keys that this version does not know stay out."""
    record = run.provenance
    for key, name in (
        ("command", "Command"),
        ("started", "Started"),
        ("git_commit", "Commit"),
        ("parent", "Starts from"),
        ("seed", "Seed"),
    ):
        if record.get(key) not in (None, ""):
            yield name, str(record[key])
    for key, name in (("versions", "Versions"), ("data_fingerprint", "Data fingerprint")):
        value = record.get(key)
        if isinstance(value, dict):
            yield name, ", ".join(f"{k} {v}" for k, v in value.items())
        elif value:
            yield name, str(value)


def write_whole(out: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one. Raises DataError."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(out)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise DataError(f"{out} cannot be written: {error.strerror}.") from error
