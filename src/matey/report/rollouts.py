"""Rollouts in numbers: a table of every metric, and curves of error, correlation and spectra."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matey.records.scores import Curve, SystemScore
from matey.report.charts import Chart, Line, line_chart, series, spread
from matey.report.load import Results, scored
from matey.report.verdict import metric_name

WAVES = "waves across the domain"
MOST_SPECTRA = 4  # variables of one system whose spectra are drawn


@dataclass(frozen=True)
class Score:
    """One line of a system's table: a metric of a variable, or the mean over all of them."""

    metric: str
    variable: str
    curve: Curve


@dataclass(frozen=True)
class Health:
    """How long predictions of a variable stay right, and how far its mean and mean square move."""

    variable: str
    time: str
    persistence_time: str
    mean: tuple[float, float]
    mean_square: tuple[float, float]


@dataclass(frozen=True)
class ScoreTable:
    """Every score of one model on one system."""

    scores: tuple[Score, ...]
    health: tuple[Health, ...]
    charts: tuple[Chart, ...]
    model: str
    system: SystemScore


def score_table(model: str, system: SystemScore) -> ScoreTable:
    """The table of one model on one system, with its charts."""
    scores = []
    for name, metric in system.metrics.items():
        if len(metric.by_variable) != 1:
            scores.append(Score(name, "mean of all", metric.mean))
        scores += [Score(name, v, curve) for v, curve in metric.by_variable.items()]
    charts = [*correlation_chart(system), *spectrum_charts(system)]
    return ScoreTable(tuple(scores), tuple(health(system)), tuple(charts), model, system)


def health(system: SystemScore) -> list[Health]:
    """Correlation times, and drifts at the end of the rollout as prediction and truth."""
    lines = []
    for variable, curve in system.correlation.items():
        drifts = [system.drift.get(name, {}).get(variable) for name in ("mean", "mean_square")]
        ends = [(d.prediction[-1], d.truth[-1]) if d else (math.nan, math.nan) for d in drifts]
        times = lasting(curve.time, curve.fell)
        still = lasting(curve.persistence_time, curve.persistence_fell)
        lines.append(Health(variable, times, still, *ends))
    return lines


def lasting(time: float, fell: float) -> str:
    """A correlation time; `≥` where not every rollout lost its correlation."""
    if time != time:
        return "undefined"
    return f"{time:.3g}" if fell == 1 else f"≥ {time:.3g}"


def rollout_charts(results: Sequence[Results]) -> list[Chart]:
    """Error over the steps of a rollout, one chart per system, one line per model."""
    charts = []
    for name, models in scored(results).items():
        longest = max((system for _, system in models), key=lambda system: len(system.steps))
        if len(longest.steps) < 2:
            continue
        lines = [
            Line(model if len(models) > 1 else "model", s.steps, s.main.error, series(i))
            for i, (model, s) in enumerate(models)
        ]
        lines.append(Line("persistence", longest.steps, longest.main.persistence, "still"))
        fitted = [s for _, s in models if s.main.stencil]
        if fitted:  # to the trajectories of the first of them
            lines.append(Line("stencil", fitted[0].steps, fitted[0].main.stencil or [], "fit"))
        log = spread(y for line in lines for y in line.y) > 50
        label = metric_name([system for _, system in models], "error")
        charts.append(line_chart(name, lines, "steps ahead", label, log=log))
    return charts


def spectra_charts(results: Sequence[Results]) -> list[Chart]:
    """Energy by wavenumber at the end of the rollout, one chart per system, one line per model.

    Of the variable that changes most, by persistence's error.
    """
    charts = []
    for name, models in scored(results).items():
        models = [(model, system) for model, system in models if system.spectra.truth]
        if not models:
            continue
        variable = most_changed(models[0][1])
        predictions = {
            model if len(models) > 1 else "prediction": system.spectra.prediction[variable][-1]
            for model, system in models
            if variable in system.spectra.truth
        }
        spectra = models[0][1].spectra
        title = f"{name}: {variable}, {ahead(spectra.leads[-1])}"
        charts += spectrum_chart(title, spectra.truth[variable][-1], predictions)
    return charts


def most_changed(system: SystemScore) -> str:
    """The variable with a spectrum that persistence predicts worst at the end."""
    curves = system.metrics[system.primary].by_variable

    def change(variable: str) -> float:
        error = curves[variable].persistence[-1] if variable in curves else math.nan
        return error if math.isfinite(error) else -1.0

    return max(system.spectra.truth, key=change)


def ahead(lead: float) -> str:
    """`1 step ahead`, `5 steps ahead`."""
    return f"{lead:g} step{'' if lead == 1 else 's'} ahead"


def correlation_chart(system: SystemScore) -> list[Chart]:
    """Correlation of each variable over the rollout, persistence's faint."""
    if len(system.steps) < 2 or not system.correlation:
        return []
    lines = []
    for i, (variable, curve) in enumerate(system.correlation.items()):
        lines.append(Line(variable, system.steps, curve.correlation, series(i)))
        still = curve.persistence
        lines.append(Line(f"{variable}, persistence", system.steps, still, series(i) + " faint"))
    return [line_chart("Correlation over space", lines, "steps ahead", "correlation")]


def spectrum_charts(system: SystemScore) -> list[Chart]:
    """Energy by wavenumber of truth and prediction, a chart per variable and lead."""
    spectra, charts = system.spectra, []
    for variable in list(spectra.truth)[:MOST_SPECTRA]:
        sides = (spectra.leads, spectra.truth[variable], spectra.prediction[variable])
        for lead, truth, prediction in zip(*sides, strict=True):
            title = f"Energy of {variable}, {ahead(lead)}"
            charts += spectrum_chart(title, truth, {"prediction": prediction})
    return charts


def spectrum_chart(
    title: str, truth: Sequence[float], predictions: Mapping[str, Sequence[float]]
) -> list[Chart]:
    """Spectra of the truth and of predictions by name, from one wave across the domain on; none of
    a domain that is too small for one."""
    waves = list(range(1, len(truth)))
    if not waves:
        return []
    lines = [Line("truth", waves, truth[1:], "truth")]
    for i, (name, energy) in enumerate(predictions.items()):
        lines.append(Line(name, waves[: len(energy) - 1], energy[1:], series(i)))
    return [line_chart(title, lines, WAVES, "energy", log=True, log_x=True)]
