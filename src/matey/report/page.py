"""The page: its parts in order, as one self-contained HTML file."""

from collections.abc import Sequence
from pathlib import Path

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from matey import __version__
from matey.output import write_text
from matey.report.charts import Chart, Line, line_chart, series, short, spread, thinned
from matey.report.comparison import compare, tradeoffs
from matey.report.costs import costs
from matey.report.ensembles import ensemble_parts
from matey.report.gallery import galleries
from matey.report.load import Results, Run, load_sources
from matey.report.provenance import provenance, scoring
from matey.report.rollouts import rollout_charts, score_table, spectra_charts
from matey.report.study import Study, has_study, load_study
from matey.report.verdict import judge_results, judge_run, metric_name
from matey.words import against, amount, change, duration, listed, number, ratio


def build(sources: Sequence[str | Path], out: str | Path) -> None:
    """Write one self-contained HTML page about runs and results.

    `sources` are run folders, results folders, folders of these, and studies that `matey study`
    made, in any order. Raises DataError where one is none of them or holds a file that cannot be
    read, or where `out` cannot be written.
    """
    folders = [Path(source) for source in sources]
    studies = [load_study(folder) for folder in folders if has_study(folder)]
    others = [folder for folder in folders if not has_study(folder)]
    runs, results = load_sources(others) if others or not studies else ([], [])
    write_text(Path(out), render(runs, results, studies))


def render(runs: Sequence[Run], results: Sequence[Results], studies: Sequence[Study] = ()) -> str:
    """The page's HTML."""
    environment = Environment(
        loader=PackageLoader("matey.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (number, against, change, duration, ratio, amount, provenance, scoring):
        environment.filters[function.__name__] = function
    environment.filters["tick"] = short
    environment.filters["yaml"] = lambda config: yaml.safe_dump(config, sort_keys=False)
    trained = {result.name: matching(result, runs) for result in results}
    scored = {run.name for run in trained.values() if run is not None}
    return environment.get_template("template.html.j2").render(
        title=title(runs, results, studies),
        studies=studies,
        comparison=compare(results),
        verdicts=[
            *(judge_results(result, trained[result.name]) for result in results),
            *(judge_run(run) for run in runs if run.name not in scored),
        ],
        rows=[score_table(result.name, system) for result in results for system in result.systems],
        metric=metric_name([s for result in results for s in result.systems]),
        protocols=list(dict.fromkeys(result.protocol for result in results)),
        several=len(results) > 1,
        galleries=galleries(results),
        ensembles=ensemble_parts(results),
        rollouts=rollout_charts(results),
        spectra=spectra_charts(results),
        costs=costs(results, trained, runs),
        tradeoffs=tradeoffs(results),
        trainings=[(run, training_charts(run)) for run in runs],
        results=results,
        version=__version__,
    )


def matching(result: Results, runs: Sequence[Run]) -> Run | None:
    """The run that trained a scored model, if it is on the page."""
    same = [run for run in runs if run.name == result.name]
    same = same or [run for run in runs if Path(run.name).name == result.name]
    return same[0] if same else None


def title(runs: Sequence[Run], results: Sequence[Results], studies: Sequence[Study] = ()) -> str:
    """The page's name: the studies, or the models, that it is about."""
    if studies:
        return listed([study.page.title for study in studies])
    scored = {run.name for result in results if (run := matching(result, runs))}
    unscored = (run.name for run in runs if run.name not in scored)
    names = list(dict.fromkeys([*(result.name for result in results), *unscored]))
    return listed(names if len(names) <= 3 else [*names[:3], f"{len(names) - 3} more"])


def training_charts(run: Run) -> tuple[Chart, ...]:
    """Loss and validation over training steps."""
    charts = []
    if len(run.train) > 1:
        steps = [point.step for point in run.train]
        names = sorted({name for point in run.train for name in point.losses})
        lines = []
        for i, name in enumerate(names if len(names) > 1 else []):
            points = [point for point in run.train if name in point.losses]
            x, y = thinned([p.step for p in points], [p.losses[name] for p in points])
            lines.append(Line(name, x, y, series(i) + " thin"))
        if not lines:
            lines = [Line("loss", *thinned(steps, [p.loss for p in run.train]), "s0 thin")]
        log = spread(y for line in lines for y in line.y) > 10
        charts.append(line_chart("Training loss", lines, "step", "loss", log=log))
    if run.valid:
        lines = []
        for i, name in enumerate(sorted({name for point in run.valid for name in point.nrmse})):
            looks = [valid for valid in run.valid if name in valid.nrmse]
            x = [float(valid.step) for valid in looks]
            lines.append(Line(name, x, [valid.nrmse[name] for valid in looks], series(i)))
            still = [valid.persistence.get(name, float("nan")) for valid in looks]
            lines.append(Line(f"{name}, persistence", x, still, series(i) + " faint"))
        log = spread(y for line in lines for y in line.y) > 20
        charts.append(line_chart("Validation, one window ahead", lines, "step", "NRMSE", log=log))
    return tuple(charts)
