"""The scores of an evaluation into checked types. Lists are by lead."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

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
)

FORMAT = 2
Item = TypeVar("Item")


@dataclass(frozen=True)
class Curve:
    """An error beside persistence's, and linear extrapolation's where that is known."""

    error: tuple[float, ...]
    persistence: tuple[float, ...]
    linear: tuple[float, ...] | None = None

    def skill(self, index: int) -> float:
        """1 - error / persistence: how much lower the error is. NaN where it has no meaning."""
        if not self.comparable(index):
            return math.nan
        return 1 - self.error[index] / self.persistence[index]

    def comparable(self, index: int) -> bool:
        """Whether persistence is a yardstick: neither exact nor undefined."""
        return math.isfinite(self.persistence[index]) and self.persistence[index] > 0


@dataclass(frozen=True)
class Metric:
    """One metric: the mean over variables, and each variable."""

    mean: Curve
    by_variable: dict[str, Curve]


@dataclass(frozen=True)
class Correlation:
    """Correlation of a variable over space; `time` is the mean of the first lead below the
    threshold over rollouts, of which the share `fell` came below it at all."""

    correlation: tuple[float, ...]
    persistence: tuple[float, ...]
    time: float
    fell: float
    persistence_time: float
    persistence_fell: float


@dataclass(frozen=True)
class Drift:
    """How far a quantity moved from its value in the last frame given."""

    truth: tuple[float, ...]
    prediction: tuple[float, ...]


@dataclass(frozen=True)
class Spectrum:
    """Energy by wavenumber at one lead."""

    lead: float
    truth: tuple[float, ...]
    prediction: tuple[float, ...]


@dataclass(frozen=True)
class SystemScores:
    """Errors of a model on the test trajectories of one system, by lead in units of `dt`.

    `main` is the mean over variables of the protocol's `primary` metric; `diverged` of the
    rollouts did, the first at `first_diverged`. `drift` is by quantity and variable.
    """

    name: str
    trajectories: int
    windows: int
    history: int
    grid: tuple[int, ...]
    dt: float
    tokens: dict[str, float]
    steps: tuple[int, ...]
    primary: str
    metrics: dict[str, Metric]
    correlation: dict[str, Correlation]
    diverged: int
    first_diverged: float
    drift: dict[str, dict[str, Drift]]
    spectra: dict[str, tuple[Spectrum, ...]]
    example: Example | None

    @property
    def main(self) -> Curve:
        return self.metrics[self.primary].mean

    @property
    def metric(self) -> str:
        """What the primary metric is called on the page."""
        return self.primary.upper()


@dataclass(frozen=True)
class Results:
    """The scores of one model on one or many systems, by one protocol."""

    name: str
    model: dict[str, Any]
    protocol: dict[str, Any]
    provenance: dict[str, Any]
    seconds: float
    systems: tuple[SystemScores, ...]


def load_results(folder: Path, name: Callable[[object], str]) -> Results:
    """A results folder; its examples may be absent. `name` shortens a path for the page."""
    path = folder / "scores.json"
    scores = read_json(path)
    if scores.get("format") != FORMAT:
        raise DataError(
            f"{path} has format {scores.get('format')!r}, but this version reads {FORMAT}. "
            "Make it again with `matey evaluate`."
        )
    systems = need(scores, "systems", path)
    if not isinstance(systems, list) or not all(isinstance(entry, dict) for entry in systems):
        raise DataError(f"{path}: systems is not a list of objects.")
    model, protocol, provenance = (
        as_object(scores.get(key) or {}, path) for key in ("model", "protocol", "provenance")
    )
    return Results(
        name=name(model.get("name") or folder.resolve()),
        model=model,
        protocol=protocol,
        provenance=provenance,
        seconds=number_of(scores.get("seconds"), path, "seconds"),
        systems=tuple(system_scores(entry, path) for entry in systems),
    )


def system_scores(entry: Mapping[str, Any], path: Path) -> SystemScores:
    """The scores of one system in scores.json, with its example. Raises DataError."""
    name = str(need(entry, "name", path))
    where = f"{path}, system {name!r}"
    steps = counts_of(need(entry, "steps", where), where, "steps")
    if not steps:
        raise DataError(f"{where}: steps is empty.")
    count = len(steps)
    metrics = each(
        need(entry, "metrics", where), f"{where}: metrics", lambda v, w: metric(v, count, w)
    )
    primary = str(need(entry, "primary", where))
    if primary not in metrics:
        raise DataError(f"{where}: metrics has no {primary!r}; found {sorted(metrics)}.")
    divergence = as_object(entry.get("divergence") or {}, where)
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
        primary=primary,
        metrics=metrics,
        correlation=each(
            entry.get("correlation"), f"{where}: correlation", lambda v, w: correlated(v, count, w)
        ),
        diverged=count_of(divergence.get("rollouts", 0), where, "divergence.rollouts"),
        first_diverged=number_of(divergence.get("first"), where, "divergence.first"),
        drift=each(
            entry.get("drift"),
            f"{where}: drift",
            lambda v, w: each(v, w, lambda u, place: drifted(u, count, place)),
        ),
        spectra=spectra(entry.get("spectra"), where),
        example=load_example(example) if example.is_file() else None,
    )


def each(values: Any, where: str, read: Callable[[Any, str], Item]) -> dict[str, Item]:
    """What each name of an object holds; nothing where the object is absent. Raises DataError."""
    named = as_object(values or {}, where)
    return {str(name): read(value, f"{where}.{name}") for name, value in named.items()}


def series(record: Mapping[str, Any], key: str, count: int, where: str) -> tuple[float, ...]:
    """A list with a number for each step. Raises DataError."""
    found = numbers_of(need(record, key, where), where, key)
    if len(found) != count:
        raise DataError(f"{where}: {key} has {len(found)} values for {count} steps.")
    return found


def curve(value: Any, count: int, where: str) -> Curve:
    """An error beside the others. Raises DataError."""
    record = as_object(value, where)
    extrapolated = record.get("linear") is not None  # not in older files, nor of one frame given
    return Curve(
        series(record, "error", count, where),
        series(record, "persistence", count, where),
        series(record, "linear", count, where) if extrapolated else None,
    )


def metric(value: Any, count: int, where: str) -> Metric:
    """One metric. Raises DataError."""
    record = as_object(value, where)
    return Metric(
        curve(need(record, "mean", where), count, f"{where}.mean"),
        each(record.get("by_variable"), f"{where}.by_variable", lambda v, w: curve(v, count, w)),
    )


def correlated(value: Any, count: int, where: str) -> Correlation:
    """The correlation of one variable. Raises DataError."""
    record = as_object(value, where)
    return Correlation(
        series(record, "correlation", count, where),
        series(record, "persistence", count, where),
        *(
            number_of(record.get(key), where, key)
            for key in ("time", "fell", "persistence_time", "persistence_fell")
        ),
    )


def drifted(value: Any, count: int, where: str) -> Drift:
    """The drift of one variable. Raises DataError."""
    record = as_object(value, where)
    return Drift(series(record, "truth", count, where), series(record, "prediction", count, where))


def spectra(value: Any, where: str) -> dict[str, tuple[Spectrum, ...]]:
    """Spectra by variable, one for each lead shown. Raises DataError."""
    record = as_object(value or {}, f"{where}: spectra")
    if not record:
        return {}
    place = f"{where}: spectra"
    leads = numbers_of(need(record, "leads", place), place, "leads")
    truth, ours = (as_object(need(record, key, place), place) for key in ("truth", "prediction"))
    found = {}
    for variable, rows in truth.items():
        pairs = (rows, need(ours, variable, f"{place}.prediction"))
        if any(not isinstance(side, list) or len(side) != len(leads) for side in pairs):
            raise DataError(f"{place}: {variable} has no spectrum for each of {len(leads)} leads.")
        found[str(variable)] = tuple(
            Spectrum(lead, numbers_of(t, place, variable), numbers_of(p, place, variable))
            for lead, t, p in zip(leads, *pairs, strict=True)
        )
    return found
