"""Result files into checked types: what a run and an evaluation left behind."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matey.errors import DataError
from matey.report.files import (
    count_of,
    need,
    number_of,
    numbers_by_name,
    read_json,
    read_log,
    read_yaml,
)
from matey.report.scores import Results, load_results


@dataclass(frozen=True)
class TrainPoint:
    """One logged training step; `losses` by system.

    `windows` and `tokens` are those since the point before. `rate` in windows per second,
    `of_peak` the fraction of the device's peak, `operations` since the point before, and the
    seconds left are NaN in records that do not tell.
    """

    step: int
    loss: float
    losses: dict[str, float]
    lr: float
    windows: int
    tokens: int = 0
    rate: float = math.nan
    of_peak: float = math.nan
    operations: float = math.nan
    seconds_left: float = math.nan


@dataclass(frozen=True)
class ValidPoint:
    """One validation, by system."""

    step: int
    nrmse: dict[str, float]
    persistence: dict[str, float]


@dataclass(frozen=True)
class Run:
    """A training run, as far as it has come. `seconds` adds up its resumed parts."""

    name: str
    config: dict[str, Any]
    provenance: dict[str, Any]
    train: tuple[TrainPoint, ...]
    valid: tuple[ValidPoint, ...]
    seconds: float
    ended: bool

    @property
    def step(self) -> int:
        """The last step that is logged."""
        logged = [point.step for point in self.train] + [point.step for point in self.valid]
        return max(logged, default=0)


def load_sources(sources: list[Path]) -> tuple[list[Run], list[Results]]:
    """Runs and results among folders and within studies, in the order given.

    Raises DataError for other paths.
    """
    runs, results = [], []
    for source in sources:
        folders = folders_of(source)
        if not folders:
            found = "holds neither" if source.is_dir() else "is no folder"
            raise DataError(
                f"{source} {found}: expected a run folder (config.yaml, metrics.jsonl), "
                "a results folder (scores.json, made by `matey evaluate`), or a folder of these."
            )
        runs += [load_run(folder) for folder in folders if has_run(folder)]
        results += [load_results(folder, display_name) for folder in folders if has_scores(folder)]
    if not runs and not results:
        raise DataError("Nothing to report on: expected a run folder or a results folder.")
    return shorten_names(runs, results)


def has_run(folder: Path) -> bool:
    """Whether a run left its files here."""
    return (folder / "metrics.jsonl").is_file() or (folder / "config.yaml").is_file()


def has_scores(folder: Path) -> bool:
    """Whether an evaluation left its scores here."""
    return (folder / "scores.json").is_file()


def folders_of(source: Path, deep: int = 3) -> list[Path]:
    """The folder, if it is of a run or of results; else those so many levels below, by name.

    A study is a folder of runs and results.
    """
    if has_run(source) or has_scores(source):
        return [source]
    inside = sorted(path for path in source.iterdir() if path.is_dir()) if source.is_dir() else []
    return [found for path in inside if deep for found in folders_of(path, deep - 1)]


def shorten_names(runs: list[Run], results: list[Results]) -> tuple[list[Run], list[Results]]:
    """Drop the upper folder from names, where several stay distinct without it."""
    names = {run.name for run in runs} | {result.name for result in results}
    last = {Path(name).name for name in names}
    if not 1 < len(names) == len(last):
        return runs, results
    return (
        [replace(run, name=Path(run.name).name) for run in runs],
        [replace(result, name=Path(result.name).name) for result in results],
    )


def display_name(path: object) -> str:
    """How a run is called on the page: its folder and the one above, as in `runs/a`."""
    parts = [part for part in Path(str(path)).parts if part not in ("/", ".", "..")]
    if len(parts) > 1 and parts[-1] == "model":
        parts.pop()
    return "/".join(parts[-2:])


def load_run(folder: Path) -> Run:
    """A run folder; each of its files may be absent, and the last line of a live log broken."""
    config, provenance = folder / "config.yaml", folder / "provenance.json"
    train: list[TrainPoint] = []
    valid: list[ValidPoint] = []
    seconds = before = 0.0
    ended = False
    log = folder / "metrics.jsonl"
    for number, record in read_log(log):
        where = f"{log}:{number}"
        kind = record.get("kind")
        now = number_of(record.get("seconds", before), where, "seconds")
        seconds += now - before if now >= before else now
        before = now
        ended = kind == "end"
        if kind == "train":
            point = train_point(record, where)
            # A resumed run repeats the steps after its checkpoint.
            train = [*keep_before(train, point.step), point]
        elif kind == "valid":
            check = valid_point(record, where)
            valid = [*keep_before(valid, check.step), check]
    return Run(
        name=display_name(folder.resolve()),
        config=read_yaml(config) if config.is_file() else {},
        provenance=read_json(provenance) if provenance.is_file() else {},
        train=tuple(train),
        valid=tuple(valid),
        seconds=seconds,
        ended=ended,
    )


def keep_before(points: list[Any], step: int) -> list[Any]:
    """The points of earlier steps; the usual case makes no copy."""
    if points and points[-1].step >= step:
        return [point for point in points if point.step < step]
    return points


def train_point(record: Mapping[str, Any], where: str) -> TrainPoint:
    """A training record of metrics.jsonl. Raises DataError."""
    windows = count_of(record.get("windows", 0), where, "windows")
    rate, speed = (
        number_of(record.get(key), where, key) for key in ("windows_per_second", "flop_per_second")
    )
    return TrainPoint(
        step=count_of(need(record, "step", where), where, "step"),
        loss=number_of(need(record, "loss", where), where, "loss"),
        losses=numbers_by_name(record.get("losses"), where, "losses"),
        lr=number_of(record.get("lr"), where, "lr"),
        windows=windows,
        tokens=count_of(record.get("tokens", 0), where, "tokens"),
        rate=rate,
        of_peak=number_of(record.get("of_peak"), where, "of_peak"),
        operations=windows / rate * speed if rate > 0 else math.nan,
        seconds_left=number_of(record.get("seconds_left"), where, "seconds_left"),
    )


def valid_point(record: Mapping[str, Any], where: str) -> ValidPoint:
    """A validation record of metrics.jsonl. Raises DataError."""
    return ValidPoint(
        step=count_of(need(record, "step", where), where, "step"),
        nrmse=numbers_by_name(record.get("nrmse"), where, "nrmse"),
        persistence=numbers_by_name(record.get("persistence"), where, "persistence"),
    )
