"""What a scored system is, as it is written to `scores.json`.

Lists are by lead time. A number that is not finite becomes null in JSON: an error of a rollout
that diverged, or a score that is undefined, as the NRMSE of a variable that is zero everywhere.
Which of the two shows in persistence's: whether a score is defined depends on the truth alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

FORMAT = 2


@dataclass(frozen=True)
class Curve:
    """An error against lead time, persistence's, and the skill 1 − error / persistence.

    Skill is NaN where persistence is exact or undefined. `linear` is the error of linear
    extrapolation of the last two frames given; None where only one was.
    """

    error: list[float]
    persistence: list[float]
    skill: list[float]
    linear: list[float] | None = None


def curve(
    error: Sequence[float], persistence: Sequence[float], linear: Sequence[float] | None = None
) -> Curve:
    """The errors with the skill."""
    pairs = zip(error, persistence, strict=True)
    return Curve(
        list(error),
        list(persistence),
        [skill(e, p) for e, p in pairs],
        None if linear is None else list(linear),
    )


def skill(error: float, persistence: float) -> float:
    """1 − error / persistence."""
    if not (math.isfinite(persistence) and persistence > 0):
        return math.nan
    return 1 - error / persistence


@dataclass(frozen=True)
class MetricScore:
    """One metric: the mean over variables, each variable, and means over windows of leads.

    A window is called by its first and last step. Of a metric that has the variables' units the
    mean over variables adds up different units.
    """

    mean: Curve
    by_variable: dict[str, Curve]
    windows: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Correlation:
    """Correlation over space against lead time, its mean over rollouts.

    `time` is the mean over rollouts of the first lead below the threshold; where a rollout stays
    above, its last lead counts, so that this is a lower bound unless `fell`, the share of
    rollouts that fell below, is 1. The same of persistence.
    """

    correlation: list[float]
    persistence: list[float]
    time: float
    fell: float
    persistence_time: float
    persistence_fell: float


@dataclass(frozen=True)
class Divergence:
    """Rollouts that diverged: how many, and the first lead of any; NaN where none did.

    `unfinished` of them stopped being finite, and were ended there.
    """

    rollouts: int
    unfinished: int
    first: float


@dataclass(frozen=True)
class Drift:
    """How far a quantity moved from its value in the last frame given: mean |change| over rollouts.

    Where the truth stays at zero, the system conserves it.
    """

    truth: list[float]
    prediction: list[float]


@dataclass(frozen=True)
class Spectra:
    """Energy spectra at a few leads, the mean over rollouts: variable to a list per lead."""

    wavenumbers: list[int]
    leads: list[float]
    truth: dict[str, list[list[float]]]
    prediction: dict[str, list[list[float]]]


@dataclass(frozen=True)
class SystemScore:
    """A model on one system.

    `windows` rollouts start from frames of `trajectories` test trajectories that leave room for
    all steps: from every such frame, or from as many as were asked for. `steps` are the leads in
    units of `dt`, `lead` apart. `tokens` are per frame: the mean used, and what uniform coarse
    and fine patches would cost. `drift` is by quantity (`mean`, `mean_square`) and variable.
    """

    name: str
    variables: list[str]
    trajectories: int
    windows: int
    history: int
    grid: tuple[int, int, int]
    dt: float
    tokens: dict[str, float]
    lead: int
    steps: list[int]
    primary: str
    metrics: dict[str, MetricScore]
    correlation: dict[str, Correlation]
    divergence: Divergence
    drift: dict[str, dict[str, Drift]]
    spectra: Spectra

    @property
    def main(self) -> Curve:
        """The protocol's primary metric, the mean over variables."""
        return self.metrics[self.primary].mean
