"""Result files into checked types: what a run and an evaluation left behind."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matey.errors import DataError
from matey.report.example import Example, load_example
from matey.report.files import (
    as_object,
    count_of,
    counts_of,
    need,
    number_of,
    numbers_by_name,
    numbers_of,
    read_json,
    read_log,
    read_yaml,
)


@dataclass(frozen=True)
class TrainPoint:
    """One logged training step; `losses` by system.

    `rate` in windows per second, `of_peak` the fraction of the device's peak, and the seconds
    left are NaN in records that do not tell.
    """

    step: int
    loss: float
    losses: dict[str, float]
    lr: float
    windows: int
    rate: float = math.nan
    of_peak: float = math.nan
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


@dataclass(frozen=True)
class SystemScores:
    """Errors of a model on the test trajectories of one system, by step of the rollout."""

    name: str
    trajectories: int
    windows: int
    history: int
    grid: tuple[int, ...]
    dt: float
    tokens: dict[str, float]
    steps: tuple[int, ...]
    nrmse: tuple[float, ...]
    persistence: tuple[float, ...]
    by_variable: dict[str, tuple[float, ...]]
    persistence_by_variable: dict[str, tuple[float, ...]]
    example: Example | None

    def skill(self, index: int) -> float:
        """1 - nrmse / persistence: how much lower the error is. NaN where it has no meaning."""
        error, still = self.nrmse[index], self.persistence[index]
        return 1 - error / still if self.comparable(index) else math.nan

    def comparable(self, index: int) -> bool:
        """Whether persistence is a yardstick: neither exact nor undefined."""
        return math.isfinite(self.persistence[index]) and self.persistence[index] > 0


@dataclass(frozen=True)
class Results:
    """The scores of one model on one or many systems."""

    name: str
    model: dict[str, Any]
    seconds: float
    systems: tuple[SystemScores, ...]


def load_sources(sources: list[Path]) -> tuple[list[Run], list[Results]]:
    """Runs and results among folders, in the order given. Raises DataError for other paths."""
    runs, results = [], []
    for source in sources:
        has_run = (source / "metrics.jsonl").is_file() or (source / "config.yaml").is_file()
        has_scores = (source / "scores.json").is_file()
        if not has_run and not has_scores:
            found = "holds neither" if source.is_dir() else "is no folder"
            raise DataError(
                f"{source} {found}: expected a run folder (config.yaml, metrics.jsonl) "
                "or a results folder (scores.json, made by `matey evaluate`)."
            )
        if has_run:
            runs.append(load_run(source))
        if has_scores:
            results.append(load_results(source))
    if not runs and not results:
        raise DataError("Nothing to report on: expected a run folder or a results folder.")
    return shorten_names(runs, results)


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
    return TrainPoint(
        step=count_of(need(record, "step", where), where, "step"),
        loss=number_of(need(record, "loss", where), where, "loss"),
        losses=numbers_by_name(record.get("losses"), where, "losses"),
        lr=number_of(record.get("lr"), where, "lr"),
        windows=count_of(record.get("windows", 0), where, "windows"),
        rate=number_of(record.get("windows_per_second"), where, "windows_per_second"),
        of_peak=number_of(record.get("of_peak"), where, "of_peak"),
        seconds_left=number_of(record.get("seconds_left"), where, "seconds_left"),
    )


def valid_point(record: Mapping[str, Any], where: str) -> ValidPoint:
    """A validation record of metrics.jsonl. Raises DataError."""
    return ValidPoint(
        step=count_of(need(record, "step", where), where, "step"),
        nrmse=numbers_by_name(record.get("nrmse"), where, "nrmse"),
        persistence=numbers_by_name(record.get("persistence"), where, "persistence"),
    )


def load_results(folder: Path) -> Results:
    """A results folder; its examples may be absent."""
    path = folder / "scores.json"
    scores = read_json(path)
    if scores.get("format") != 1:
        raise DataError(f"{path} has format {scores.get('format')!r}, but this version reads 1.")
    systems = need(scores, "systems", path)
    if not isinstance(systems, list) or not all(isinstance(entry, dict) for entry in systems):
        raise DataError(f"{path}: systems is not a list of objects.")
    model = scores.get("model")
    model = model if isinstance(model, dict) else {}
    return Results(
        name=display_name(model.get("name") or folder.resolve()),
        model=model,
        seconds=number_of(scores.get("seconds"), path, "seconds"),
        systems=tuple(system_scores(entry, path) for entry in systems),
    )


def system_scores(entry: Mapping[str, Any], path: Path) -> SystemScores:
    """The scores of one system in scores.json, with its example. Raises DataError."""
    name = str(need(entry, "name", path))
    where = f"{path}, system {name!r}"
    nrmse = numbers_of(need(entry, "nrmse", where), where, "nrmse")
    steps = counts_of(need(entry, "steps", where), where, "steps")
    persistence = numbers_of(need(entry, "persistence", where), where, "persistence")
    if not steps or not len(nrmse) == len(persistence) == len(steps):
        raise DataError(
            f"{where}: {len(nrmse)} nrmse and {len(persistence)} persistence values "
            f"do not fit {len(steps)} steps."
        )
    by_variable = {
        key: {
            variable: numbers_of(values, where, f"{key}.{variable}")
            for variable, values in as_object(entry.get(key) or {}, where).items()
        }
        for key in ("by_variable", "persistence_by_variable")
    }
    for key, named in by_variable.items():
        for variable, values in named.items():
            if len(values) != len(steps):
                raise DataError(
                    f"{where}: {key}.{variable} has {len(values)} values for {len(steps)} steps."
                )
    # The name comes from a file: only its last part may choose another file.
    example = path.parent / "examples" / f"{Path(name).name}.npz"
    return SystemScores(
        name=name,
        trajectories=count_of(entry.get("trajectories", 0), where, "trajectories"),
        windows=count_of(entry.get("windows", 0), where, "windows"),
        history=count_of(entry.get("history", 0), where, "history"),
        grid=counts_of(entry.get("grid", []), where, "grid"),
        dt=number_of(entry.get("dt"), where, "dt"),
        tokens=numbers_by_name(entry.get("tokens"), where, "tokens"),
        steps=steps,
        nrmse=nrmse,
        persistence=persistence,
        **by_variable,
        example=load_example(example) if example.is_file() else None,
    )
