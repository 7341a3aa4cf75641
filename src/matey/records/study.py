"""What a study leaves: an outcome for each cell, timings, and a page of what it found."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from matey.records.files import Endless, RecordFile

STUDY_FILE = "study.json"
Answer = Literal["held", "not held", "undecided"]


@dataclass(frozen=True)
class Guide:
    """Spearman's correlation over cells of a criterion of the history with the squared error at a
    lead, the mean over rollouts."""

    criterion: str
    lead: int
    correlation: float


@dataclass(frozen=True)
class Outcome(RecordFile):
    """What came of a cell: errors by lead in units of dt, tokens per frame, and what it took.

    It is the cell's `cell.json`.

    `errors`, and those of `persistence` and of the least-squares `stencil`, where there is one, are
    by metric, then by lead. `curve` is the validation NRMSE after so many steps. `guides` say how
    well each criterion tells where the model errs. `by_trajectory` is the NRMSE of each test
    trajectory, by lead. `rate` is the learning rate. A training that diverged has infinite errors,
    and `failed` says how. `settings` are all that it depends on.
    """

    REMEDY: ClassVar[str] = "Remove it: the cell is made again."

    cell: str
    point: str
    system: str
    budget: str
    seed: int
    steps: int
    operations: float
    parameters: int
    tokens: float
    leads: tuple[int, ...]
    errors: dict[str, tuple[Endless, ...]]
    persistence: dict[str, tuple[Endless, ...]]
    curve: tuple[tuple[int, Endless], ...]
    diverged: int
    guides: tuple[Guide, ...] = ()
    stencil: dict[str, tuple[Endless, ...]] = field(default_factory=dict)
    by_trajectory: tuple[tuple[Endless, ...], ...] = ()
    rate: float = math.nan
    failed: str = ""
    settings: dict[str, Any] = field(default_factory=dict, compare=False)

    def error(self, lead: int = 0, metric: str = "nrmse") -> float:
        """The error at a lead by its place: 0 is the first, -1 the last."""
        return self.errors[metric][lead] if self.leads else math.inf

    @property
    def valid(self) -> float:
        """NRMSE on the validation windows at the end of training, by which choices are made."""
        return self.curve[-1][1] if self.curve else math.inf


@dataclass(frozen=True)
class Timing:
    """Seconds and bytes of one operating point, for a batch of training and for the same number of
    samples in inference; `tokens` per frame and sample. `parts` are seconds of a prediction by
    part of the transformer: choosing the cells (`plan`), `encode`, the `blocks` and `decode`."""

    step_seconds: float
    inference_seconds: float
    step_bytes: int
    inference_bytes: int
    tokens: float
    operations: float
    parameters: int
    parts: dict[str, float] = field(default_factory=dict)


Timings = dict[str, dict[str, Timing]]  # by system, then by point


@dataclass(frozen=True)
class TimingTable(RecordFile):
    """The timings of a study and the machine they were measured on, as `timing.json` holds them."""

    FORMAT: ClassVar[int] = 1
    REMEDY: ClassVar[str] = "Remove it: it is made again."

    machine: dict[str, Any] = field(default_factory=dict)
    systems: dict[str, dict[str, Timing]] = field(default_factory=dict)


@dataclass(frozen=True)
class Spot:
    """A point of a chart, with the interval of its y."""

    name: str
    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class SpotGroup:
    """Points of one kind; a line through them where they are `joined`."""

    name: str
    spots: tuple[Spot, ...]
    joined: bool = False


@dataclass(frozen=True)
class Plot:
    """A chart: an error over a cost, both on logarithmic axes, unless they are `linear`. A claim is
    about one side of the lines `goal_x` and `goal_y`, if it has these."""

    title: str
    x: str
    y: str
    groups: tuple[SpotGroup, ...]
    goal_x: float | None = None
    goal_y: float | None = None
    linear: bool = False


@dataclass(frozen=True)
class TextTable:
    """A table whose first column is text; `note` says what the numbers are."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"table {self.title!r} has rows of other lengths than its columns")


@dataclass(frozen=True)
class Claim:
    """A claim, what the study says of it, and why; a picture that answers it, if there is one."""

    claim: str
    answer: Answer
    sentences: tuple[str, ...]
    picture: Plot | None = None


@dataclass(frozen=True)
class Findings:
    """What a study asks, and what it says: a verdict on each claim, charts, tables, and doubts."""

    title: str
    question: str
    claims: tuple[Claim, ...]
    plots: tuple[Plot, ...]
    tables: tuple[TextTable, ...]
    doubts: tuple[str, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class StudyPage(Findings, RecordFile):
    """All that the page of a study shows, as `study.json` holds it."""

    FORMAT: ClassVar[int] = 1
    REMEDY: ClassVar[str] = "Give `matey study` the same command again."

    study: str
    scale: str
    facts: tuple[tuple[str, str], ...]
