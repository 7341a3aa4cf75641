"""A cell of a study: one model, trained, scored and recorded.

A cell's folder `out/cells/<name>/` holds `run/` (as `matey train` writes it: config, provenance,
log, model), `results/scores.json` (as `matey evaluate`) and, written last, `cell.json`: a cell
that has it is done. Nothing in `cell.json` depends on how fast the machine is, so that the same
study gives the same files again.

A cell may leave its `trunk/`, the run as it was before its learning rate fell, for a longer one to
go on from. That only saves time: without it that training is the same, to the last bit.
"""

import hashlib
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matey.config import DataConfig, RunConfig
from matey.errors import ConfigError, DivergenceError, MateyError
from matey.evaluate.score import ScoreConfig, evaluate
from matey.nn.surrogate import Surrogate
from matey.output import remove, replacing
from matey.records.files import read
from matey.records.run import read_log
from matey.records.study import Outcome
from matey.simulate.trajectories import one_thread
from matey.studies.guides import guide_correlations
from matey.train.finetune import finetune
from matey.train.loop import train
from matey.train.run_folder import plain
from matey.train.tune import with_settings

METRICS = ("nrmse", "vrmse")
RECORD = "cell.json"
TRUNK = "trunk"
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
    It goes on after the first `begun` steps of the cell `trunk`, if one is named.
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
    trunk: str = ""
    begun: int = 0
    leaves_trunk: bool = False

    @property
    def before(self) -> tuple[str, ...]:
        """The cells that have to be made before this one."""
        return (*self.trials, *(name for name in (self.parent, self.trunk) if name))

    @property
    def paid(self) -> float:
        """The operations that its training takes beyond those of its trunk."""
        return self.operations * (1 - self.begun / self.config.steps)

    @property
    def steady(self) -> int:
        """The steps before its learning rate falls, by the schedule `wsd`."""
        steps = self.config.steps
        return steps - max(1, round(self.config.optim.decay * steps))

    @property
    def seed(self) -> int:
        """The seed of weights and sampling; cells of one seed are compared with each other."""
        return self.config.seed

    @property
    def settings(self) -> "Settings":
        """All that its result depends on, wherever the data's files are."""
        config = replace(self.config, data=anywhere(self.config.data))
        test = anywhere(self.test)
        return Settings(config, test, self.ask, self.parent, self.guide, self.trials)


@dataclass(frozen=True)
class Settings:
    """What the result of a cell depends on."""

    config: RunConfig
    test: DataConfig
    ask: ScoreConfig
    parent: str = ""
    guide: int = 0
    trials: tuple[str, ...] = ()

    def made(self, outcome: Outcome) -> bool:
        """Whether an outcome is of these settings; it may lack some that are of a later version,
        and were what is now their default."""
        try:
            return read(Settings, outcome.settings) == self
        except (ValueError, MateyError):
            return False


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
    if not cell.settings.made(Outcome.load(record)):
        raise ConfigError(
            f"{record} was made with other settings than this study's. Choose another --out, or "
            "remove that cell's folder to have it made again."
        )
    return True


def run_cell(cell: Cell, out: Path) -> Outcome:
    """Train a cell's model, from its newest checkpoint if it has one, score it, and record it."""
    folder, settings = folder_of(out, cell.name), cell.settings
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
        settings=plain(settings),
        **result,
    )
    outcome.save(folder / RECORD)
    for left in ("run/checkpoints", "run/best", "results/examples"):
        remove(folder / left)
    if cell.trunk:
        remove(folder_of(out, cell.trunk) / TRUNK)
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
    """The cell's model, from the trunk that it goes on from, if that is there; a trunk is left for
    the cell that goes on from this one."""
    source, own = folder_of(out, cell.trunk) / TRUNK, run.parent / TRUNK
    if cell.trunk and source.is_dir() and not run.exists():
        copy_run(source, run)
    if cell.leaves_trunk and not own.exists():
        steady = {"config.steps": cell.steady, "config.optim.schedule": "constant"}
        learn(with_settings(cell, steady), out, run)
        copy_run(run, own)
    return learn(cell, out, run)


def copy_run(source: Path, target: Path) -> None:
    """Copy a run that is to go on elsewhere: its log, config and newest checkpoint."""
    with replacing(target, ConfigError) as temporary:
        shutil.copytree(source, temporary, ignore=shutil.ignore_patterns(".lock", "model", "best"))


def learn(cell: Cell, out: Path, run: Path) -> Surrogate:
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
    curve = validations(folder / "run")
    if cell.config.optim.schedule == "wsd":
        curve = curve[-1:]  # errors before the rate falls are those of no training that has ended
    means = {name: score.metrics[name].mean for name in METRICS}
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokens": score.tokens.get("mean", 0.0),
        "leads": tuple(score.steps),
        "errors": {name: tuple(curve.error) for name, curve in means.items()},
        "persistence": {name: tuple(curve.persistence) for name, curve in means.items()},
        "stencil": {n: tuple(curve.stencil) for n, curve in means.items() if curve.stencil},
        "by_trajectory": tuple(map(tuple, score.by_trajectory)),
        "curve": curve,
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
