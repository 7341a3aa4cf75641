"""The scores of ensembles beside a deterministic model, as `scores.json` holds them.

Lists are by lead time. Scores are in the variable's units where nothing else is said.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class EnsembleCurve:
    """An ensemble's scores of one variable.

    `crps` and `energy` are the fair CRPS and the energy score, `error` the RMSE of the mean of the
    members; `calibration` is spread over error, 1 where the ensemble knows how wrong it is, and
    `coverage` how often the truth lay inside the central interval. `ranks` are the shares of the
    truth above none of the members, one, ..., all, over all leads.
    """

    crps: list[float]
    energy: list[float]
    error: list[float]
    calibration: list[float]
    coverage: list[float]
    ranks: list[float]


@dataclass(frozen=True)
class EnsembleScore:
    """An ensemble of so many members. `nominal` is the coverage of a calibrated one. `perturbed`
    is of how many standard deviations the noise in its histories was; None where members are those
    of the model."""

    members: int
    nominal: float
    by_variable: dict[str, EnsembleCurve]
    perturbed: float | None = None

    def mean(self, name: str) -> list[float]:
        """`calibration` or `coverage` by lead, the mean over variables."""
        curves = [getattr(curve, name) for curve in self.by_variable.values()]
        return [sum(row) / len(row) for row in zip(*curves, strict=True)]


@dataclass(frozen=True)
class EnsembleScores:
    """Ensembles of a system: of the model, where it has members, and of perturbed histories that a
    `deterministic` model goes on from; and the mean absolute error `mae` and RMSE of that by
    itself, by variable."""

    deterministic: str
    mae: dict[str, list[float]]
    rmse: dict[str, list[float]]
    model: EnsembleScore | None
    perturbed: EnsembleScore

    def crps_over_mae(self, score: EnsembleScore) -> list[float]:
        """The CRPS over the absolute error of the deterministic model by lead, the mean over
        variables: below 1 where the ensemble says more than one prediction does."""
        return mean_ratio({v: c.crps for v, c in score.by_variable.items()}, self.mae)

    def energy_over_rmse(self, score: EnsembleScore) -> list[float]:
        """The energy score over the RMSE of the deterministic model, likewise."""
        return mean_ratio({v: c.energy for v, c in score.by_variable.items()}, self.rmse)


def mean_ratio(scores: dict[str, list[float]], errors: dict[str, list[float]]) -> list[float]:
    """Scores over errors by lead, the mean over variables; those without an error are left out."""
    rows = []
    for variable, error in errors.items():
        pairs = zip(scores[variable], error, strict=True)
        rows.append([a / b if b > 0 and math.isfinite(b) else math.nan for a, b in pairs])
    means = []
    for column in zip(*rows, strict=True):
        known = [ratio for ratio in column if not math.isnan(ratio)]
        means.append(sum(known) / len(known) if known else math.nan)
    return means
