"""Validations, checkpoints and the best model of a run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from matey.config import RunConfig
from matey.data.mixture import in_order
from matey.data.systems import System
from matey.metrics.error import nrmse
from matey.nn.folder import save_pretrained
from matey.nn.surrogate import Surrogate
from matey.train import checkpoint
from matey.train.checkpoint import Progress
from matey.train.loss import loss_of
from matey.train.optim import Average
from matey.train.parallel.distributed import Engine, Team
from matey.train.run_folder import Journal, Record, spent, training_facts
from matey.train.signals import Stop, stopped


@dataclass(frozen=True)
class Keeper:
    """Keeps checkpoints and the model of the best validation, that of the weights' average where
    there is one. All processes take part; the first one writes."""

    run: Path
    config: RunConfig
    systems: Mapping[str, System]
    engine: Engine
    optimizer: torch.optim.Optimizer
    average: Average
    journal: Journal
    stop: Stop

    def after_step(self, progress: Progress) -> Progress:
        """Validate and save where due. Raises StoppedError, with all saved, where a signal came."""
        done, config = progress.step, self.config
        if is_due(done, config.validate_every, config.steps):
            progress = self.score(progress)
        team = self.engine.team
        number = team.most(self.stop.received)
        if number or is_due(done, config.checkpoint_every, config.steps):
            live = self.engine.model, self.optimizer, progress, self.average.averages
            state = checkpoint.capture(*live)
            if team.first:
                checkpoint.save(self.run, state, config.keep_checkpoints)
            # A signal during the save is served by it, too; no process ends before.
            number = team.most(self.stop.received)
        if number:
            folder = checkpoint.folder_of(self.run, done)
            self.journal.write("stop", step=done, signal=number)
            raise stopped(number, f"after step {done} of {config.steps}, saved in {folder}")
        return progress

    def score(self, progress: Progress) -> Progress:
        """Validate, with the averages for weights, as `score_model` does."""
        with self.average.in_place():
            return self.score_model(progress)

    def score_model(self, progress: Progress) -> Progress:
        """Validate, and keep the model in `best/` if its mean NRMSE is the lowest so far.

        A validation that a signal cuts short is pending: the run begins with it when it goes on.
        """
        engine = self.engine
        scores = validate(engine.model, self.systems, self.config, self.stop, engine.team)
        if scores is None:
            return replace(progress, pending=True)
        self.journal.write("valid", step=progress.step, **scores)
        defined = [error for error in scores["nrmse"].values() if math.isfinite(error)]
        mean = sum(defined) / len(defined) if defined else math.inf
        if mean < (math.inf if progress.best is None else progress.best):
            earlier = engine.model.learned_from
            model = engine.alone()
            if engine.team.first:
                facts = self.config, self.systems, progress.step, self.run, earlier
                training = training_facts(*facts)
                training["nrmse"] = scores["nrmse"]
                save_pretrained(model, self.run / "best", training, spent(self.run))
            progress = replace(progress, best=mean)
        return replace(progress, pending=False)


@torch.no_grad()
def validate(
    model: Surrogate, systems: Mapping[str, System], config: RunConfig, stop: Stop, team: Team
) -> Record | None:
    """NRMSE of each system on its validation windows at the shortest lead, and persistence's, over
    the volume as scores are; the processes share the batches. None where a signal came first."""
    model.eval()
    device = next(model.parameters()).device
    one_step = replace(config.windows, max_lead=config.windows.min_lead)
    record: Record = {"nrmse": {}, "persistence": {}, "loss": {}}
    for name, system in systems.items():
        errors, still, losses = [], [], []
        windows = system.windows("valid", one_step)
        batches = in_order(windows, config.batch_of(name), config.validate_windows)
        for choices, counts in team.deal(batches):
            if team.most(stop.received):
                model.train()
                return None
            batch = windows.batch(choices).to(device)
            predicted = list(batch.spec.predicted)
            prediction = model(batch)
            part = 1.0 if counts else math.nan  # means leave nan out
            frames = batch.target, batch.values[:, -1]
            target, last = (batch.held(frame[:, predicted]) for frame in frames)
            weights = None if batch.space is None else batch.space.volumes
            errors.append(part * nrmse(batch.held(prediction.fields), target, weights=weights))
            still.append(part * nrmse(last, target, weights=weights))
            losses.append(part * loss_of(prediction, batch, config.loss).view(1))
        for key, rows in (("nrmse", errors), ("persistence", still), ("loss", losses)):
            if rows:
                record[key][name] = float(mean_over(team, torch.cat(rows)).nanmean())
    model.train()
    return record


def mean_over(team: Team, rows: torch.Tensor) -> torch.Tensor:
    """The mean of the defined rows of all processes."""
    total, defined = team.total(torch.stack([rows.nansum(dim=0), (~rows.isnan()).sum(dim=0)]))
    return total / defined


def is_due(step: int, every: int, steps: int) -> bool:
    """Whether something done `every` few steps (0: only at the end) is due."""
    return step == steps or (every > 0 and step % every == 0)
