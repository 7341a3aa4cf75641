"""A cell of a study: one model, trained, scored and recorded.

A cell's folder `out/cells/<name>/` holds `run/` (as `matey train` writes it: config, provenance,
log, model), `results/scores.json` (as `matey evaluate`) and, written last, `cell.json`: a cell
that has it is done. Nothing in `cell.json` depends on how fast the machine is, so that the same
study gives the same files again.
"""

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matey.config import DataConfig, RunConfig
from matey.errors import ConfigError, DivergenceError
from matey.evaluate.score import ScoreConfig, evaluate
from matey.nn.surrogate import Surrogate
from matey.output import remove
from matey.records.run import read_log
from matey.records.study import Outcome
from matey.simulate.trajectories import one_thread
from matey.studies.guides import guide_correlations
from matey.train.finetune import finetune
from matey.train.loop import train
from matey.train.tune import with_settings

METRICS = ("nrmse", "vrmse")
RECORD = "cell.json"
# What comes of a cell whose training diverged.
NOTHING: dict[str, Any] = {
    "parameters": 0,
    "tokens": math.nan,
    "leads": (),
    "errors": dict.fromkeys(METRICS, ()),
    "persistence": dict.fromkeys(METRICS, ()),
    "curve": (),
    "diverged": 0,
}


@dataclass(frozen=True)
class Cell:
    """One model to be trained and scored.

    `point` names what is compared, `budget` what the cells compared have in common (operations or
    steps), `operations` are those that its training is planned to take. It is scored on the test
    trajectories of `test`, and trained further from the cell `parent`, if one is named. With
    `trials` its learning rate is that of the cell among them with the lowest validation error.
    `guide` is the patch of the lattice on which its local error is compared with the criteria.
    """

    name: str
    point: str
    system: str
    budget: str
    config: RunConfig
    operations: float
    test: DataConfig
    ask: ScoreConfig
    parent: str = ""
    guide: int = 0
    trials: tuple[str, ...] = ()

    @property
    def before(self) -> tuple[str, ...]:
        """The cells that have to be made before this one."""
        return (*self.trials, *([self.parent] if self.parent else []))

    @property
    def seed(self) -> int:
        """The seed of weights and sampling; cells of one seed are compared with each other."""
        return self.config.seed

    @property
    def fingerprint(self) -> str:
        """A hash of all that its result depends on, wherever the data's files are."""
        config = replace(self.config, data=anywhere(self.config.data))
        text = f"{config} {anywhere(self.test)} {self.ask} {self.parent} {self.guide}"
        text += f" {self.trials}" if self.trials else ""
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def anywhere(data: DataConfig) -> DataConfig:
    """A data config with the names of its files only, without folders."""
    systems = tuple(
        replace(source, paths=tuple(Path(path).name for path in source.paths))
        for source in data.systems
    )
    return replace(data, systems=systems)


def folder_of(out: Path, name: str) -> Path:
    """The folder of a cell."""
    return out / "cells" / name


def is_done(cell: Cell, out: Path) -> bool:
    """Whether a cell has its record. Raises ConfigError if that is of other settings."""
    record = folder_of(out, cell.name) / RECORD
    if not record.is_file():
        return False
    if Outcome.load(record).fingerprint != cell.fingerprint:
        raise ConfigError(
            f"{record} was made with other settings than this study's. Choose another --out, or "
            "remove that cell's folder to have it made again."
        )
    return True


def run_cell(cell: Cell, out: Path) -> Outcome:
    """Train a cell's model, from its newest checkpoint if it has one, score it, and record it."""
    folder, fingerprint = folder_of(out, cell.name), cell.fingerprint
    cell = at_best_rate(cell, out)
    with one_thread():
        try:
            result = score_cell(cell, train_cell(cell, out, folder / "run"), folder)
        except DivergenceError as error:
            result = {**NOTHING, "failed": str(error)}
    outcome = Outcome(
        cell=cell.name,
        point=cell.point,
        system=cell.system,
        budget=cell.budget,
        seed=cell.seed,
        steps=cell.config.steps,
        operations=cell.operations,
        rate=cell.config.optim.lr,
        fingerprint=fingerprint,
        **result,
    )
    outcome.save(folder / RECORD)
    for left in ("run/checkpoints", "run/best", "results/examples"):
        remove(folder / left)
    return outcome


def at_best_rate(cell: Cell, out: Path) -> Cell:
    """The cell with the learning rate of the best of its trials in validation, if it has any; of
    those that are alike, the first."""
    if not cell.trials:
        return cell
    tried = [Outcome.load(folder_of(out, name) / RECORD) for name in cell.trials]
    best = min(tried, key=lambda one: one.valid)
    return with_settings(cell, {"config.optim.lr": best.rate})


def train_cell(cell: Cell, out: Path, run: Path) -> Surrogate:
    """The cell's model, by the same code that `matey train` and `matey finetune` run.

    Raises DivergenceError where its training diverges, or that of the cell it starts from did.
    """
    if cell.parent:
        before = Outcome.load(folder_of(out, cell.parent) / RECORD)
        if before.failed:
            raise DivergenceError(f"{cell.parent}, where it starts from: {before.failed}")
        parent = folder_of(out, cell.parent) / "run"
        return finetune(parent, cell.config, run, resume=True, stencils=stencils_of(cell, out))
    return train(cell.config, run, resume=True, stencils=stencils_of(cell, out))


def stencils_of(cell: Cell, out: Path) -> Path:
    """The folder of the stencils that a cell's scores stand beside: one for all cells of the same
    training windows."""
    text = f"{anywhere(cell.config.data)} {cell.config.windows}"
    return out / "stencils" / hashlib.sha256(text.encode()).hexdigest()[:16]


def score_cell(cell: Cell, model: Surrogate, folder: Path) -> dict[str, Any]:
    """Score a trained cell: fields of its outcome."""
    score = evaluate(model, cell.name, cell.test, cell.ask, folder / "results")[0]
    means = {name: score.metrics[name].mean for name in METRICS}
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokens": score.tokens.get("mean", 0.0),
        "leads": tuple(score.steps),
        "errors": {name: tuple(curve.error) for name, curve in means.items()},
        "persistence": {name: tuple(curve.persistence) for name, curve in means.items()},
        "stencil": {n: tuple(curve.stencil) for n, curve in means.items() if curve.stencil},
        "by_trajectory": tuple(map(tuple, score.by_trajectory)),
        "curve": validations(folder / "run"),
        "diverged": score.divergence.rollouts,
        "guides": guide_correlations(model, cell.test, cell.ask, cell.guide) if cell.guide else (),
    }


def validations(run: Path) -> tuple[tuple[int, float], ...]:
    """Step and mean NRMSE over systems of each validation in a run's log, the last of each step;
    infinite where the error of a system is not finite."""
    curve = {}
    for valid in read_log(run).valid:
        if valid.nrmse:
            errors = [math.inf if math.isnan(error) else error for error in valid.nrmse.values()]
            curve[valid.step] = sum(errors) / len(errors)
    return tuple(sorted(curve.items()))


def step_operations(run: Path) -> float:
    """Operations of a training step by a run's log, on average: what was planned goes by a few
    windows. NaN where the log has none."""
    operations, steps, last = 0.0, 0, 0
    for record in read_log(run).train:
        operations += record.operations
        steps, last = steps + record.step - last, record.step
    return operations / steps if steps else math.nan
