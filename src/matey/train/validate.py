"""Validations, checkpoints and the best model of a run."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Thread

import torch
from torch import Tensor

from matey.config import RunConfig
from matey.data.mixture import in_order
from matey.data.systems import System
from matey.data.windows import Choice, Windows
from matey.errors import CheckpointError
from matey.fields import Batch
from matey.metrics.error import nrmse
from matey.nn.folder import save_pretrained
from matey.nn.rollout import renewed
from matey.nn.surrogate import Surrogate
from matey.records.run import Worse, read_log
from matey.train import checkpoint
from matey.train.checkpoint import Progress
from matey.train.loss import loss_of
from matey.train.optim import Average
from matey.train.parallel.distributed import Engine, Team
from matey.train.run_folder import Journal, Record, spent, training_facts
from matey.train.signals import Stop, stopped

log = logging.getLogger("matey")

WORSE = 1.01  # times persistence's error, and more: what rounding does is not worse


class Writer:
    """Writes the checkpoints of a run, the newest `keep` of them, while training goes on.

    Each is copied first, into memory that stays for the next one, and written by a thread: one at a
    time, as `checkpoint.save` does. What that raises is raised by the next call of a method here.
    """

    def __init__(self, run: Path, keep: int) -> None:
        self.run, self.keep = run, keep
        self.copies: dict[str, Tensor] = {}
        self.thread: Thread | None = None
        self.error: BaseException | None = None

    def save(self, state: checkpoint.State) -> None:
        """Copy a state, and begin to write it; waits for the one before. Raises CheckpointError."""
        self.wait()
        copies = replace(
            state,
            weights=self.copied("weights", state.weights),
            moments=self.copied("moments", state.moments),
            averages=self.copied("averages", state.averages),
            random=[self.copied(f"{rank}", one) for rank, one in enumerate(state.random)],
        )
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.thread = Thread(target=self.write, args=(copies,), name="checkpoint")
        self.thread.start()

    def copied(self, part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copies of tensors in this computer's memory, each in that of its copy before."""
        taken = {}
        for name, tensor in tensors.items():
            key, kind = f"{part}/{name}", (tensor.shape, tensor.dtype)
            copy = self.copies.get(key)
            if copy is None or (copy.shape, copy.dtype) != kind:
                copy = torch.empty(kind[0], dtype=kind[1], pin_memory=tensor.is_cuda)
                self.copies[key] = copy
            taken[name] = copy.copy_(tensor.detach(), non_blocking=True)
        return taken

    def write(self, state: checkpoint.State) -> None:
        """Write a state, in the thread."""
        try:
            checkpoint.save(self.run, state, self.keep)
        except BaseException as error:
            self.error = error  # for the thread that trains

    def check(self) -> None:
        """Raise what the writing of a checkpoint has raised, if any."""
        error, self.error = self.error, None
        if error is not None:
            raise error

    def wait(self) -> None:
        """Wait until nothing is being written. Raises CheckpointError where that failed."""
        if self.thread is not None:
            self.thread.join()
            self.thread = None
        self.check()


@contextmanager
def writing(run: Path, keep: int) -> Iterator[Writer]:
    """The writer of a run, whose last checkpoint the block waits for. Raises CheckpointError where
    that fails; where another error ended the run, a warning says so."""
    writer = Writer(run, keep)
    try:
        yield writer
    except BaseException:
        try:
            writer.wait()
        except CheckpointError as failed:
            log.warning(str(failed))
        raise
    writer.wait()


@dataclass(frozen=True)
class Keeper:
    """Keeps checkpoints and the model of the best validation, that of the weights' average where
    there is one. All processes take part; the first one writes, checkpoints by its `writer`."""

    run: Path
    config: RunConfig
    systems: Mapping[str, System]
    engine: Engine
    optimizer: torch.optim.Optimizer
    average: Average
    journal: Journal
    stop: Stop
    writer: Writer

    def after_step(self, progress: Progress) -> Progress:
        """Validate and save where due. Raises StoppedError, with all saved, where a signal came;
        CheckpointError where the checkpoint before could not be written."""
        done, config = progress.step, self.config
        self.writer.check()
        if is_due(done, config.validate_every, config.steps):
            progress = self.score(progress)
        team = self.engine.team
        number = team.most(self.stop.received)
        ended = has_ended(progress, config)
        if number or ended or is_due(done, config.checkpoint_every, config.steps):
            live = self.engine.model, self.optimizer, progress, self.average.averages
            state = checkpoint.capture(*live)
            if team.first:
                self.writer.save(state)
            number = team.most(self.stop.received)
        if number or ended:
            self.writer.wait()
            # A signal meanwhile is served by this save, too; no process ends before.
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
        """Validate, and keep the model in `best/` if its mean NRMSE (of an ensemble, CRPS) is the
        lowest so far.

        A validation that a signal cuts short is pending: the run begins with it when it goes on.
        """
        engine = self.engine
        scores = validate(engine.model, self.systems, self.config, self.stop, engine.team)
        if scores is None:
            return replace(progress, pending=True)
        self.journal.write("valid", step=progress.step, **scores)
        decides = "loss" if self.config.loss.of == "crps" else "nrmse"
        defined = [error for error in scores[decides].values() if math.isfinite(error)]
        mean = sum(defined) / len(defined) if defined else math.inf
        if mean < (math.inf if progress.best is None else progress.best):
            earlier = engine.model.learned_from
            model = engine.alone()
            if engine.team.first:
                facts = self.config, self.systems, progress.step, self.run, earlier
                training = training_facts(*facts)
                training["nrmse"] = scores["nrmse"]
                save_pretrained(model, self.run / "best", training, spent(self.run))
            progress = replace(progress, best=mean, best_step=progress.step, since_best=0)
        elif progress.best is not None:
            progress = replace(progress, since_best=progress.since_best + 1)
        return replace(progress, pending=False)

    def worse(self, progress: Progress) -> Record:
        """Where the model that a run ends with is worse than persistence, by its validation."""
        config = self.config
        step = progress.best_step if config.patience and progress.best_step else progress.step
        valid = read_log(self.run).valid if self.engine.team.first else ()
        last = next((one for one in reversed(valid) if one.step == step), None)
        return {name: asdict(one) for name, one in last.worse.items()} if last else {}


@torch.no_grad()
def validate(
    model: Surrogate, systems: Mapping[str, System], config: RunConfig, stop: Stop, team: Team
) -> Record | None:
    """NRMSE of each system on its validation windows at the shortest lead, and persistence's, over
    the volume as scores are; of an ensemble that of its mean; and where it is worse. The processes
    share the batches. None where a signal came first."""
    model.eval()
    device = next(model.parameters()).device
    one_step = replace(config.windows, max_lead=config.windows.min_lead, crop=None)
    record: Record = {"nrmse": {}, "persistence": {}, "loss": {}, "worse": {}}
    for name, system in systems.items():
        errors, still, losses = [], [], []
        windows = system.windows("valid", one_step)
        together = config.batch_of(name) if config.windows.crop is None else 1  # whole domains
        batches = in_order(windows, together, config.validate_windows)
        times: dict[int, float] = {}  # error over persistence's, by window
        for choices, counts in team.deal(batches):
            if team.most(stop.received):
                model.train()
                return None
            batch = windows.batch(choices).to(device)
            predicted, members = list(batch.spec.predicted), config.loss.samples
            given = members_of(batch, model, members, [choice.window for choice in choices])
            prediction = model(given)
            part = 1.0 if counts else math.nan  # means leave nan out
            frames = batch.target, batch.values[:, -1]
            target, last = (batch.held(frame[:, predicted]) for frame in frames)
            weights = None if batch.space is None else batch.space.volumes
            ours = prediction.fields.unflatten(0, (-1, members)).mean(dim=1)
            errors.append(part * nrmse(batch.held(ours), target, weights=weights))
            still.append(part * nrmse(last, target, weights=weights))
            losses.append(part * loss_of(prediction, given, config.loss).view(1))
            if counts:
                over = errors[-1].nanmean(dim=1) / still[-1].nanmean(dim=1)
                over = torch.where(still[-1].nansum(dim=1) > 0, over, 0.0)
                times |= {c.window: one for c, one in zip(choices, over.tolist(), strict=True)}
        for key, rows in (("nrmse", errors), ("persistence", still), ("loss", losses)):
            if rows:
                record[key][name] = float(mean_over(team, torch.cat(rows)).nanmean())
        worse = worse_of(windows, [choice for batch in batches for choice in batch], times, team)
        record["worse"] |= {name: asdict(worse)} if worse else {}
    model.train()
    return record


def worse_of(
    windows: Windows, choices: Sequence[Choice], times: Mapping[int, float], team: Team
) -> Worse | None:
    """Those of the windows that all processes looked at whose error is above persistence's, so many
    `times` it as this process found; None if there are none."""
    known = [times.get(choice.window, 0.0) for choice in choices]
    ratios = team.total(torch.tensor(known, dtype=torch.float64)).tolist()
    count = sum(ratio > WORSE for ratio in ratios)
    if count == 0:
        return None
    most = max(range(len(ratios)), key=ratios.__getitem__)
    trajectory, first = windows.place(choices[most].window)
    at = f"{windows.fields.trajectories[trajectory].name} from frame {first}"
    return Worse(count, len(choices), ratios[most], at)


def members_of(batch: Batch, model: Surrogate, members: int, windows: Sequence[int]) -> Batch:
    """The batch with each sample once for each member of an ensemble, whose noise is the same at
    every validation; as it is for a single prediction."""
    if members == 1:
        return batch
    places = [(0, window) for window in windows]
    drawn = [model.noise_of(member, 0, places).draw() for member in range(members)]
    return renewed(batch.repeated(members), torch.stack(drawn, dim=1).flatten(0, 1))


def mean_over(team: Team, rows: torch.Tensor) -> torch.Tensor:
    """The mean of the defined rows of all processes."""
    total, defined = team.total(torch.stack([rows.nansum(dim=0), (~rows.isnan()).sum(dim=0)]))
    return total / defined


def has_ended(progress: Progress, config: RunConfig) -> bool:
    """Whether a run has taken all its steps, or has had no better validation for too long."""
    too_long = 0 < config.patience <= progress.since_best
    return progress.step >= config.steps or too_long


def is_due(step: int, every: int, steps: int) -> bool:
    """Whether something done `every` few steps (0: only at the end) is due."""
    return step == steps or (every > 0 and step % every == 0)
