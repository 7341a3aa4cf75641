"""A cell of a study: one model trained, scored, and put on record.

A cell's folder `out/cells/<name>/` holds `run/` (as `matey train` writes it: config, provenance,
log, model), `results/scores.json` (as `matey evaluate`) and, written last, `cell.json`: a cell
that has it is done. Nothing in `cell.json` depends on how fast the machine is, so that the same
study gives the same files again.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from matey.config import DataConfig, RunConfig
from matey.errors import ConfigError, DataError, DivergenceError
from matey.evaluate.results import SystemScore
from matey.evaluate.score import Ask, evaluate
from matey.nn.surrogate import Surrogate
from matey.output import remove, to_json, write_text
from matey.simulate.trajectories import one_thread
from matey.studies.guides import Guide, guide_correlations
from matey.train.finetune import finetune
from matey.train.loop import train

METRICS = ("nrmse", "vrmse")
RECORD = "cell.json"


@dataclass(frozen=True)
class Cell:
    """One model to be trained and scored.

    `point` names what is compared, `budget` what the cells compared have in common (operations or
    steps), `operations` are those that its training is planned to take. It is scored on the test
    trajectories of `test`, and trained further from the cell `parent`, if one is named.
    `guide` is the patch of the lattice on which its local error is compared with the criteria.
    """

    name: str
    point: str
    system: str
    budget: str
    config: RunConfig
    operations: float
    test: DataConfig
    ask: Ask
    parent: str = ""
    guide: int = 0

    @property
    def seed(self) -> int:
        """Of weights and sampling; cells of one seed are compared with each other."""
        return self.config.seed

    @property
    def fingerprint(self) -> str:
        """A hash of all that its result depends on, wherever the data's files are."""
        config = replace(self.config, data=anywhere(self.config.data))
        text = f"{config} {anywhere(self.test)} {self.ask} {self.parent} {self.guide}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def anywhere(data: DataConfig) -> DataConfig:
    """A data config whose files are called by their last names only."""
    systems = tuple(
        replace(source, paths=tuple(Path(path).name for path in source.paths))
        for source in data.systems
    )
    return replace(data, systems=systems)


@dataclass(frozen=True)
class Outcome:
    """What came of a cell: errors by lead in units of dt, tokens per frame, and what it took.

    `errors` and `persistence` are by metric, then by lead. `curve` is the validation NRMSE after
    so many steps. `guides` say how well each criterion tells where the model errs. A training
    that diverged has infinite errors, and `failed` says how.
    """

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
    errors: dict[str, tuple[float, ...]]
    persistence: dict[str, tuple[float, ...]]
    curve: tuple[tuple[int, float], ...]
    diverged: int
    guides: tuple[Guide, ...] = ()
    failed: str = ""
    fingerprint: str = field(default="", compare=False)

    def error(self, lead: int = 0, metric: str = "nrmse") -> float:
        """The error at the lead of that place: 0 is the first, -1 the last."""
        return self.errors[metric][lead] if self.leads else math.inf

    @property
    def valid(self) -> float:
        """NRMSE on the validation windows at the end of the training: what choices go by."""
        return self.curve[-1][1] if self.curve else math.inf


def folder_of(out: Path, name: str) -> Path:
    """Where a cell is kept."""
    return out / "cells" / name


def is_done(cell: Cell, out: Path) -> bool:
    """Whether a cell has its record. Raises ConfigError if that is of other settings."""
    record = folder_of(out, cell.name) / RECORD
    if not record.is_file():
        return False
    if load_outcome(record).fingerprint != cell.fingerprint:
        raise ConfigError(
            f"{record} was made with other settings than this study's. Choose another --out, or "
            "remove that cell's folder to have it made again."
        )
    return True


def run_cell(cell: Cell, out: Path) -> Outcome:
    """Train a cell's model, from its newest checkpoint if it has one, score it, and record it."""
    folder = folder_of(out, cell.name)
    with one_thread():
        try:
            model = train_cell(cell, out, folder / "run")
        except DivergenceError as error:
            outcome = failure(cell, str(error))
        else:
            score = evaluate(model, cell.name, cell.test, cell.ask, folder / "results")[0]
            curve = validations(folder / "run" / "metrics.jsonl")
            guides = (
                guide_correlations(model, cell.test, cell.ask, cell.guide) if cell.guide else ()
            )
            outcome = success(cell, model, score, curve, guides)
    record = {**vars(outcome), "guides": [vars(guide) for guide in outcome.guides]}
    write_text(folder / RECORD, to_json(record, indent=1))
    for left in ("run/checkpoints", "run/best", "results/examples"):
        remove(folder / left)
    return outcome


def train_cell(cell: Cell, out: Path, run: Path) -> Surrogate:
    """The cell's model, by the same code that `matey train` and `matey finetune` run.

    Raises DivergenceError where its training diverges, or that of the cell it starts from did.
    """
    if cell.parent:
        before = load_outcome(folder_of(out, cell.parent) / RECORD)
        if before.failed:
            raise DivergenceError(f"{cell.parent}, where it starts from: {before.failed}")
        return finetune(folder_of(out, cell.parent) / "run", cell.config, run, resume=True)
    return train(cell.config, run, resume=True)


def success(
    cell: Cell,
    model: Surrogate,
    score: SystemScore,
    curve: Sequence[tuple[int, float]],
    guides: Sequence[Guide],
) -> Outcome:
    """What came of a cell that was trained and scored."""
    return Outcome(
        **identity(cell),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        tokens=score.tokens.get("mean", 0.0),
        leads=tuple(score.steps),
        errors={name: tuple(score.metrics[name].mean.error) for name in METRICS},
        persistence={name: tuple(score.metrics[name].mean.persistence) for name in METRICS},
        curve=tuple(curve),
        diverged=score.divergence.rollouts,
        guides=tuple(guides),
        fingerprint=cell.fingerprint,
    )


def failure(cell: Cell, message: str) -> Outcome:
    """What came of a cell whose training diverged."""
    nothing: dict[str, tuple[float, ...]] = dict.fromkeys(METRICS, ())
    return Outcome(
        **identity(cell),
        parameters=0,
        tokens=math.nan,
        leads=(),
        errors=nothing,
        persistence=nothing,
        curve=(),
        diverged=0,
        failed=message,
        fingerprint=cell.fingerprint,
    )


def identity(cell: Cell) -> dict[str, Any]:
    """What an outcome says of its cell."""
    return {
        "cell": cell.name,
        "point": cell.point,
        "system": cell.system,
        "budget": cell.budget,
        "seed": cell.seed,
        "steps": cell.config.steps,
        "operations": cell.operations,
    }


def validations(log: Path) -> list[tuple[int, float]]:
    """Step and mean NRMSE of each validation in a run's log, the last of each step."""
    found: dict[int, float] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        if line.endswith("}"):
            record = json.loads(line)
            if record["kind"] == "valid" and record["nrmse"]:
                values = [math.inf if v is None else v for v in record["nrmse"].values()]
                found[record["step"]] = sum(values) / len(values)
    return sorted(found.items())


def step_operations(log: Path) -> float:
    """Operations of a training step by a run's log, on average: what was planned goes by a few
    windows. NaN where the log has none."""
    operations, steps, last = 0.0, 0, 0
    for line in log.read_text(encoding="utf-8").splitlines():
        record: dict[str, Any] = json.loads(line) if line.endswith("}") else {}
        if record.get("kind") == "train":
            seconds = record["windows"] / record["windows_per_second"]
            operations += record["flop_per_second"] * seconds
            steps, last = steps + record["step"] - last, record["step"]
    return operations / steps if steps else math.nan


def load_outcome(path: Path) -> Outcome:
    """A cell's record. Raises DataError for one that is damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        for key in ("errors", "persistence"):
            record[key] = {name: tuple(map(endless, row)) for name, row in record[key].items()}
        record["curve"] = tuple((int(step), endless(error)) for step, error in record["curve"])
        record["leads"] = tuple(record["leads"])
        record["guides"] = tuple(
            Guide(**{**guide, "correlation": undefined(guide["correlation"])})
            for guide in record["guides"]
        )
        record["tokens"] = undefined(record["tokens"])
        return Outcome(**record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged: {type(error).__name__} {error}. Remove it: the cell is made again."
        ) from error


def endless(value: float | None) -> float:
    """An error of a record, where null is one that is not finite."""
    return math.inf if value is None else float(value)


def undefined(value: float | None) -> float:
    """A number of a record, where null is one that is not there."""
    return math.nan if value is None else float(value)
