"""The log of a run, `metrics.jsonl`: what its training and its validations left.

A run that was killed does the steps after its checkpoint again: they stand in the log twice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from matey.errors import DataError
from matey.records.files import Endless, read, read_lines

LOG = "metrics.jsonl"


@dataclass(frozen=True)
class TrainRecord:
    """A logged training step; `losses` by system.

    `windows` and `tokens` are those since the record before. `of_peak` is the fraction of the
    device's peak. What a log does not tell is NaN.
    """

    step: int
    loss: float
    losses: dict[str, float] = field(default_factory=dict)
    lr: float = math.nan
    windows: int = 0
    tokens: int = 0
    windows_per_second: float = math.nan
    flop_per_second: float = math.nan
    of_peak: float = math.nan
    seconds_left: float = math.nan

    @property
    def seconds(self) -> float:
        """Seconds of steps since the record before."""
        return self.windows / self.windows_per_second if self.windows_per_second > 0 else math.nan

    @property
    def operations(self) -> float:
        """Floating-point operations since the record before."""
        return self.flop_per_second * self.seconds


@dataclass(frozen=True)
class Worse:
    """The validation windows of a system whose error is above persistence's: `windows` of them `of`
    all, by up to so many `times`, at the place `at` most."""

    windows: int
    of: int
    times: Endless
    at: str

    def line(self, system: str) -> str:
        """This in words."""
        by = "without bound" if math.isinf(self.times) else f"by up to {self.times:.3g} times"
        verb = "is" if self.windows == 1 else "are"
        return (
            f"{self.windows} of {self.of} validation windows of {system} {verb} worse than "
            f"persistence, {by} ({self.at})"
        )


@dataclass(frozen=True)
class ValidRecord:
    """One validation, by system; `worse` of those that have windows where persistence is better."""

    step: int
    nrmse: dict[str, float] = field(default_factory=dict)
    persistence: dict[str, float] = field(default_factory=dict)
    worse: dict[str, Worse] = field(default_factory=dict)


R = TypeVar("R", TrainRecord, ValidRecord)


@dataclass(frozen=True)
class RunLog:
    """A run's log so far: every record, and the seconds of all its parts."""

    train: tuple[TrainRecord, ...]
    valid: tuple[ValidRecord, ...]
    seconds: float
    ended: bool


def read_log(run: Path) -> RunLog:
    """The log in a run's folder; empty where there is none. Raises DataError."""
    train, valid = [], []
    seconds = before = 0.0
    ended = False
    for where, record in read_lines(run / LOG):
        try:
            now = read(float, record.get("seconds", before), "seconds")
            if record.get("kind") == "train":
                train.append(read(TrainRecord, record))
            elif record.get("kind") == "valid":
                valid.append(read(ValidRecord, record))
        except ValueError as error:
            raise DataError(f"{where} is damaged: {error}.") from error
        seconds += now - before if now >= before else now
        before = now
        ended = record.get("kind") == "end"
    return RunLog(tuple(train), tuple(valid), seconds, ended)


def last_of_each(records: Sequence[R]) -> tuple[R, ...]:
    """The records without those of steps that were done again later."""
    kept: list[R] = []
    for record in records:
        while kept and kept[-1].step >= record.step:
            kept.pop()
        kept.append(record)
    return tuple(kept)
