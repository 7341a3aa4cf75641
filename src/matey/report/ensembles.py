"""Ensembles on the page: how they score, fans of what members say, and maps of their spread.

Axes: S steps, M members, C variables, P points, K mapped steps, (Z, Y, X) grid points.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from matey.records.ensembles import EnsembleScore, EnsembleScores
from matey.records.scores import SystemScore
from matey.report.charts import Chart, Line, fan_chart, line_chart, series
from matey.report.figures import FIELD, Scale, middle_slice, picture
from matey.report.load import Results
from matey.report.members import Members
from matey.words import plural

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MOST = 2  # variables that are drawn


@dataclass(frozen=True)
class Row:
    """An ensemble at one lead."""

    ensemble: str
    members: int
    step: int
    crps: float
    calibration: float
    coverage: float
    nominal: float
    energy: float


@dataclass(frozen=True)
class Map:
    """Spread and error of a variable at a step, as pictures of one scale."""

    variable: str
    title: str
    pictures: tuple[tuple[str, str], ...]
    values: Scale
    aspect: float


@dataclass(frozen=True)
class EnsemblePart:
    """What the page says of the ensembles of one model on one system."""

    model: str
    system: str
    deterministic: str
    rows: tuple[Row, ...]
    charts: tuple[Chart, ...]
    maps: tuple[Map, ...]


def ensemble_part(model: str, system: SystemScore, members: Members | None) -> EnsemblePart | None:
    """What the page says of a system's ensembles; None where none were scored."""
    made = system.ensembles
    if made is None:
        return None
    rows = []
    for name, one in ensembles_of(made):
        for at in sorted({0, len(system.steps) - 1}):
            rows.append(
                Row(
                    name,
                    one.members,
                    system.steps[at],
                    made.crps_over_mae(one)[at],
                    one.mean("calibration")[at],
                    one.mean("coverage")[at],
                    one.nominal,
                    made.energy_over_rmse(one)[at],
                )
            )
    charts, maps = score_charts(system, made), []
    if members is not None:
        drawn = range(len(members.variables[:MOST]))
        charts += [one for draw in (fans, lines_of) for c in drawn for one in draw(members, c)]
        maps = [one for c in drawn for one in maps_of(members, c)]
    return EnsemblePart(
        model, system.name, made.deterministic, tuple(rows), tuple(charts), tuple(maps)
    )


def ensembles_of(made: EnsembleScores) -> list[tuple[str, EnsembleScore]]:
    """The ensembles that were scored, with what they are."""
    moved = f"perturbed inputs, ± {made.perturbed.perturbed:g} σ"
    ours = [] if made.model is None else [("of the model", made.model)]
    return [*ours, (moved, made.perturbed)]


def score_charts(system: SystemScore, made: EnsembleScores) -> list[Chart]:
    """Spread over error and CRPS over absolute error by lead, and the ranks."""
    ensembles, steps, charts = ensembles_of(made), system.steps, []
    if len(steps) > 1:
        lines = [
            Line(name, steps, one.mean("calibration"), series(i))
            for i, (name, one) in enumerate(ensembles)
        ]
        lines.append(Line("calibrated", steps, [1.0] * len(steps), "still"))
        charts.append(line_chart("Spread over error", lines, "steps ahead", "spread / error"))
        lines = [
            Line(name, steps, made.crps_over_mae(one), series(i))
            for i, (name, one) in enumerate(ensembles)
        ]
        lines.append(Line(made.deterministic, steps, [1.0] * len(steps), "still"))
        charts.append(line_chart("CRPS", lines, "steps ahead", "CRPS / absolute error"))
    lines = []
    for i, (name, one) in enumerate(ensembles):
        shares = np.mean([curve.ranks for curve in one.by_variable.values()], axis=0).tolist()
        lines.append(Line(name, range(len(shares)), shares, series(i)))
    flat = [1 / (ensembles[0][1].members + 1)] * (ensembles[0][1].members + 1)
    lines.append(Line("calibrated", range(len(flat)), flat, "still"))
    charts.append(line_chart("Rank of the truth", lines, "members below it", "share"))
    return charts


def fans(members: Members, c: int) -> list[Chart]:
    """Quantiles of a variable over the steps, in the mean over the domain and at each point."""
    if len(members.steps) < 2:
        return []
    name = members.variables[c]
    sides = [("mean over the domain", members.member_means[:, :, c], members.truth_mean[:, c])]
    for p, point in enumerate(members.points[:MOST]):
        axes = zip(point[::-1], members.spread.shape[:1:-1], strict=True)
        at = ", ".join(str(i) for i, count in axes if count > 1)
        place = f"at point ({at})"
        sides.append((place, members.members[:, :, c, p], members.truth[:, c, p]))
    charts = []
    for place, values, truth in sides:
        bands = np.quantile(values, QUANTILES, axis=1)
        charts.append(
            fan_chart(f"{name}, {place}", members.steps, bands.tolist(), truth.tolist(), name)
        )
    return charts


def maps_of(members: Members, c: int) -> list[Map]:
    """Spread and error of a field of two or three dimensions, step by step."""
    if sum(count > 1 for count in members.spread.shape[2:]) < 2:
        return []
    maps = []
    for k, step in enumerate(members.mapped):
        spread, error = middle_slice(members.spread[k, c]), middle_slice(members.error[k, c])
        both = np.stack([spread, error])
        finite = both[np.isfinite(both)]
        most = float(np.quantile(finite, 0.995)) if finite.size else 1.0
        scale = Scale(0.0, most or 1.0, FIELD)
        pictures = (
            ("spread", picture(spread, scale)),
            ("error of the mean", picture(error, scale)),
        )
        height, width = spread.shape
        variable = members.variables[c]
        title = f"{variable}, {plural(step, 'step')} ahead"
        maps.append(Map(variable, title, pictures, scale, width / height))
    return maps


def lines_of(members: Members, c: int) -> list[Chart]:
    """Spread and error of a one-dimensional field over its points, at the last step."""
    if sum(count > 1 for count in members.spread.shape[2:]) > 1:
        return []
    spread, error = (one[-1, c].reshape(-1).tolist() for one in (members.spread, members.error))
    points = range(len(spread))
    lines = [Line("spread", points, spread, "s0"), Line("error of the mean", points, error, "s1")]
    title = f"{members.variables[c]}, {plural(members.mapped[-1], 'step')} ahead"
    return [line_chart(title, lines, "grid point", members.variables[c])]


def ensemble_parts(results: Sequence[Results]) -> list[EnsemblePart]:
    """The parts of all models on all systems that have ensembles."""
    parts = [
        ensemble_part(result.name, system, result.members.get(system.name))
        for result in results
        for system in result.systems
    ]
    return [part for part in parts if part is not None]
