"""Runs and scores for a page: what training and evaluation left in their folders."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from matey.errors import DataError
from matey.output import plain_yaml
from matey.records.files import read_json, read_text
from matey.records.run import LOG, RunLog, last_of_each, read_log
from matey.records.scores import Scores, SystemScore
from matey.records.shipped import located, those_that_ship
from matey.report.example import Example, load_example
from matey.report.members import Members, load_members


@dataclass(frozen=True)
class Run(RunLog):
    """A training run, as far as it has come: its log, without steps that were done again later."""

    name: str
    config: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def step(self) -> int:
        """The last step in the log."""
        logged = [point.step for point in self.train] + [point.step for point in self.valid]
        return max(logged, default=0)


@dataclass(frozen=True)
class Results:
    """A model's scores under its name, with an example of each system, and of its ensembles the
    members of one rollout."""

    name: str
    scores: Scores
    examples: dict[str, Example]
    members: dict[str, Members] = field(default_factory=dict)

    @property
    def systems(self) -> list[SystemScore]:
        """The scores of each system."""
        return self.scores.systems

    @property
    def protocol(self) -> str:
        """The name of the protocol."""
        return str(self.scores.protocol.get("name", "unnamed"))


def load_sources(sources: list[Path]) -> tuple[list[Run], list[Results]]:
    """Runs and results among folders and within studies, in the order given; of a model that ships,
    by its name, its scores.

    Raises DataError for other paths.
    """
    runs, results = [], []
    for given in sources:
        source = located(given)
        folders = folders_of(source)
        if not folders:
            fault = "holds neither" if source.is_dir() else "is no folder"
            raise DataError(
                f"{given} {fault}: expected a run folder (config.yaml, metrics.jsonl), a results "
                "folder (scores.json, made by `matey evaluate`), a folder of these, or a model "
                f"that ships with its scores ({those_that_ship()})."
            )
        runs += [load_run(folder) for folder in folders if has_run(folder)]
        results += [load_results(folder) for folder in folders if has_scores(folder)]
    if not runs and not results:
        raise DataError("Nothing to report on: expected a run folder or a results folder.")
    return shorten_names(runs, results)


def has_run(folder: Path) -> bool:
    """Whether a run left its files here."""
    return (folder / LOG).is_file() or (folder / "config.yaml").is_file()


def has_scores(folder: Path) -> bool:
    """Whether an evaluation left its scores here."""
    return (folder / "scores.json").is_file()


def folders_of(source: Path, deep: int = 3) -> list[Path]:
    """The folder, if a run or results are in it; else such folders up to `deep` levels below.

    A study is a folder of runs and results.
    """
    if has_run(source) or has_scores(source):
        return [source]
    inside = sorted(path for path in source.iterdir() if path.is_dir()) if source.is_dir() else []
    return [folder for path in inside if deep for folder in folders_of(path, deep - 1)]


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
    """The name of a run on the page: its folder and the one above, as in `runs/a`."""
    parts = [part for part in Path(str(path)).parts if part not in ("/", ".", "..")]
    if len(parts) > 1 and parts[-1] == "model":
        parts.pop()
    return "/".join(parts[-2:])


def load_run(folder: Path) -> Run:
    """A run folder; each of its files may be absent, and the last line of a live log broken."""
    config, provenance = folder / "config.yaml", folder / "provenance.json"
    log = read_log(folder)
    return Run(
        name=display_name(folder.resolve()),
        config=read_yaml(config) if config.is_file() else {},
        provenance=read_json(provenance) if provenance.is_file() else {},
        train=last_of_each(log.train),
        valid=last_of_each(log.valid),
        seconds=log.seconds,
        ended=log.ended,
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping of plain data. Raises DataError."""
    try:
        value = plain_yaml(read_text(path))
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds a {type(value).__name__}, expected names and values.")
    return value


def load_results(folder: Path) -> Results:
    """A results folder; its examples may be absent."""
    scores = Scores.load(folder / "scores.json")
    # A name comes from a file: only its last part may choose another file.
    files = {s.name: f"{Path(s.name).name}.npz" for s in scores.systems}
    paths = {name: folder / "examples" / file for name, file in files.items()}
    others = {name: folder / "members" / file for name, file in files.items()}
    return Results(
        name=display_name(scores.model.get("name") or folder.resolve()),
        scores=scores,
        examples={name: load_example(path) for name, path in paths.items() if path.is_file()},
        members={name: load_members(path) for name, path in others.items() if path.is_file()},
    )


def scored(results: Sequence[Results]) -> dict[str, list[tuple[str, SystemScore]]]:
    """The models that were scored on each system, with their scores, in order."""
    models: dict[str, list[tuple[str, SystemScore]]] = {}
    for result in results:
        for system in result.systems:
            models.setdefault(system.name, []).append((result.name, system))
    return models
