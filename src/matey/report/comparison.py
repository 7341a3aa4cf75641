"""Several models beside each other: the best of them, and what accuracy costs in tokens."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matey.report.charts import Chart, Line, scatter_chart, series
from matey.report.load import Results, scored
from matey.report.verdict import (
    Tile,
    Verdict,
    beside_persistence,
    grade_of,
    metric_name,
    token_means,
    typical,
)
from matey.words import beside, listed

SEVERAL = 4  # models from which on one verdict on all of them comes first


@dataclass(frozen=True)
class Comparison:
    """The verdict on many models, and the name of the best."""

    best: str
    verdict: Verdict


def compare(results: Sequence[Results]) -> Comparison | None:
    """The verdict on four models or more, scored on the same systems; else None."""
    if len(results) < SEVERAL or len({names(result) for result in results}) > 1:
        return None
    ranked = sorted(results, key=lambda result: -last(skill(result, -1)))
    best = ranked[0]
    first = max(results, key=lambda result: last(skill(result, 0)))
    grade, badge = grade_of([skill(best, 0), skill(best, -1)])
    sentences: tuple[str, ...] = (
        f"{len(results)} models were scored on {listed(names(best))}.",
        f"At the end of the rollout {best.name} is best: {beside(skill(best, -1))}; the worst is "
        f"{ranked[-1].name}: {beside(skill(ranked[-1], -1))}.",
    )
    seen = [result.name for result in results if any(s.trained_on for s in result.systems)]
    if seen:
        sentences += (f"Scored on trajectories that they were trained on: {listed(seen)}.",)
    tiles = [
        Tile("Best at the end", best.name),
        beside_persistence("Its error at the end", skill(best, -1)),
        Tile("Best one step ahead", first.name),
        beside_persistence("Its error at one step", skill(first, 0)),
    ]
    fewest = min(results, key=tokens)
    if math.isfinite(tokens(fewest)):
        tiles.append(Tile("Fewest tokens", fewest.name, f"{tokens(fewest):,.0f} per frame"))
    headline = f"Of {len(results)} models {best.name} is best"
    verdict = Verdict("all models", grade, badge, headline, sentences, tuple(tiles))
    return Comparison(best.name, verdict)


def names(result: Results) -> tuple[str, ...]:
    """The systems that a model was scored on."""
    return tuple(sorted(system.name for system in result.systems))


def skill(result: Results, index: int) -> float:
    """The typical skill of a model over its systems."""
    return typical(result.systems, index)


def last(skill: float) -> float:
    """A skill to rank by: a model that diverged, or has none, comes last."""
    return skill if math.isfinite(skill) else -math.inf


def tokens(result: Results) -> float:
    """Tokens per frame; infinite where they are not known."""
    return token_means(result.systems)[0] or math.inf


def tradeoffs(results: Sequence[Results]) -> list[Chart]:
    """Error at the end of the rollout over tokens per frame, a chart per system, where the models
    differ in tokens."""
    charts = []
    for name, models in scored(results).items():
        counted = [(model, system) for model, system in models if "mean" in system.tokens]
        if len({system.tokens["mean"] for _, system in counted}) < 2:
            continue
        points = [
            Line(model, [s.tokens["mean"]], [s.main.error[-1]], series(i))
            for i, (model, s) in enumerate(counted)
        ]
        label = f"{metric_name([s for _, s in counted])} at the end"
        charts.append(scatter_chart(f"Error and tokens: {name}", points, "tokens per frame", label))
    return charts
