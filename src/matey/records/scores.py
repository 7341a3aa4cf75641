"""The scores of a model, as `scores.json` holds them.

Lists are by lead time. A number that is not finite is null in the file: an error of a rollout
that diverged, or a score that is undefined, as the NRMSE of a variable that is zero everywhere.
Which of the two shows in persistence's: whether a score is defined depends on the truth alone.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar

from matey.records.ensembles import EnsembleScores
from matey.records.files import RecordFile
from matey.records.ranges import Outside
from matey.words import plural


@dataclass(frozen=True)
class Curve:
    """An error against lead time, persistence's, and the skill 1 − error / persistence.

    Skill is NaN where persistence is exact or undefined. `linear` is the error of linear
    extrapolation of the last two frames given; None where only one was. `stencil` is that of the
    least-squares stencil fitted to the training trajectories; None where there is none.
    """

    error: list[float]
    persistence: list[float]
    skill: list[float] = field(init=False)
    linear: list[float] | None = None
    stencil: list[float] | None = None

    def __post_init__(self) -> None:
        pairs = zip(self.error, self.persistence, strict=False)
        object.__setattr__(self, "skill", [skill(error, still) for error, still in pairs])

    def comparable(self, index: int) -> bool:
        """Whether persistence is a yardstick: neither exact nor undefined."""
        return is_yardstick(self.persistence[index])


def is_yardstick(persistence: float) -> bool:
    """Whether an error of persistence is neither exact nor undefined."""
    return math.isfinite(persistence) and persistence > 0


def skill(error: float, persistence: float) -> float:
    """1 − error / persistence."""
    return 1 - error / persistence if is_yardstick(persistence) else math.nan


@dataclass(frozen=True)
class MetricScore:
    """One metric: the mean over variables, each variable, and means over windows of leads.

    A window is called by its first and last step. Of a metric that has the variables' units the
    mean over variables adds up different units.
    """

    mean: Curve
    by_variable: dict[str, Curve] = field(default_factory=dict)
    windows: dict[str, dict[str, float]] = field(default_factory=dict)


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

    rollouts: int = 0
    unfinished: int = 0
    first: float = math.nan


@dataclass(frozen=True)
class Drift:
    """How far a quantity moved from its value in the last frame given: mean |change| over rollouts.

    Where the truth stays at zero, the system conserves it.
    """

    truth: list[float]
    prediction: list[float]


@dataclass(frozen=True)
class Seams:
    """The mean jump of the error across patch edges over that inside patches, by lead: 1 where
    edges do not show. The mean over variables, and each; NaN where nothing is there to compare."""

    mean: list[float]
    by_variable: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Spectra:
    """Energy spectra at a few leads, the mean over rollouts: variable to a list per lead."""

    wavenumbers: list[int] = field(default_factory=list)
    leads: list[float] = field(default_factory=list)
    truth: dict[str, list[list[float]]] = field(default_factory=dict)
    prediction: dict[str, list[list[float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for variable, rows in self.truth.items():
            if not len(rows) == len(self.prediction.get(variable, ())) == len(self.leads):
                raise ValueError(f"{variable} has no spectrum for each of {len(self.leads)} leads")


@dataclass(frozen=True, kw_only=True)
class SystemScore:
    """A model on one system.

    `windows` rollouts start from frames of `trajectories` test trajectories that leave room for
    all steps: from every such frame, or from as many as were asked for. The model was trained on
    `trained_on` of these trajectories, wholly or in part: none where it is a test, None where it
    is not known. `steps` are the leads in
    units of `dt`, `lead` apart. `tokens` are per frame: the mean used, and what uniform coarse
    and fine patches would cost. `drift` is by quantity (`mean`, `mean_square`) and variable.
    `seams` are None of a model without patches, and in files of older versions. `no_stencil` says
    why no stencil stands beside. `ensembles` are None where none were asked for. `outside` is what
    of the histories lies outside of what the model was trained on, the farthest of all rollouts.
    `by_trajectory` is the primary metric by lead, the mean over variables and rollouts of each test
    trajectory; files of older versions have none.
    """

    name: str
    variables: list[str] = field(default_factory=list)
    trajectories: int = 0
    trained_on: int | None = None
    windows: int = 0
    history: int = 0
    grid: tuple[int, ...] = ()
    dt: float = math.nan
    tokens: dict[str, float] = field(default_factory=dict)
    lead: int = 1
    steps: list[int]
    primary: str
    metrics: dict[str, MetricScore]
    correlation: dict[str, Correlation] = field(default_factory=dict)
    divergence: Divergence = Divergence()
    drift: dict[str, dict[str, Drift]] = field(default_factory=dict)
    spectra: Spectra = field(default_factory=Spectra)
    seams: Seams | None = None
    no_stencil: str = ""
    ensembles: EnsembleScores | None = None
    by_trajectory: list[list[float]] = field(default_factory=list)
    outside: list[Outside] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("steps is empty")
        if self.primary not in self.metrics:
            raise ValueError(f"metrics has no {self.primary!r}; found {sorted(self.metrics)}")
        for name in ("metrics", "correlation", "drift", "seams"):
            for where, row in rows_of(getattr(self, name), name):
                if len(row) != len(self.steps):
                    raise ValueError(f"{where} has {len(row)} values for {len(self.steps)} steps")

    @property
    def tested_on(self) -> str:
        """`test trajectory`, or how many of the trajectories are none: in words."""
        text = plural(self.trajectories, "test trajectory")
        if self.trained_on:
            text = (
                f"{plural(self.trajectories, 'trajectory')}, {self.trained_on} of them trained on"
            )
        return text

    @property
    def outside_lines(self) -> list[str]:
        """What lies outside of training, a line each."""
        whole = plural(self.windows, "rollout")
        return [f"{one}, {one.inputs} of {whole}" for one in self.outside]

    @property
    def main(self) -> Curve:
        """The protocol's primary metric, the mean over variables."""
        return self.metrics[self.primary].mean

    @property
    def metric(self) -> str:
        """The name of the primary metric in print."""
        return self.primary.upper()


def rows_of(value: Any, where: str) -> Iterator[tuple[str, list[float]]]:
    """Every list by lead in nested scores, with its place."""
    if isinstance(value, list):
        yield where, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from rows_of(item, f"{where}.{name}")
    elif is_dataclass(value):
        for part in fields(value):
            if part.name != "skill":  # made of the others
                yield from rows_of(getattr(value, part.name), f"{where}.{part.name}")


@dataclass(frozen=True)
class Scores(RecordFile):
    """The scores of one model on one or many systems, by one protocol; they took `seconds`."""

    FORMAT: ClassVar[int] = 2
    REMEDY: ClassVar[str] = "Make it again with `matey evaluate`."

    model: dict[str, Any] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    seconds: float = math.nan
    systems: list[SystemScore] = field(kw_only=True)
