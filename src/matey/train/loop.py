"""The training loop, top to bottom."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from torch.nn.utils import clip_grad_norm_

from matey.config import LossConfig, RunConfig, require
from matey.data.mixture import Mixture, System, in_order, open_systems
from matey.errors import ConfigError, DivergenceError
from matey.fields import Batch
from matey.metrics.error import mean_score, nrmse
from matey.nn.contract import warn_of_doubts
from matey.nn.cost import step_cost
from matey.nn.model import Matey, Prediction
from matey.nn.pretrained import choose_device, save_pretrained
from matey.nn.rollout import advance
from matey.tokens.lattice import Triple, lattice_shape
from matey.train import checkpoint
from matey.train.checkpoint import Progress
from matey.train.forecast import check_grids, check_memory
from matey.train.lock import locked
from matey.train.log import Journal, describe, prepare_run
from matey.train.loss import batch_loss
from matey.train.optim import learning_rate, make_optimizer
from matey.train.resume import go_on
from matey.train.room import return_large_blocks
from matey.train.signals import Stop, heeding_signals, stopped
from matey.train.sinks import Record, Sink
from matey.train.speed import Speedometer


def train(
    config: RunConfig,
    run: Path,
    watch: Sink = lambda record: None,
    *,
    model: Matey | None = None,
    resume: bool = False,
    parent: str = "",
) -> Matey:
    """Train a model into a run folder: a new one, or the given one further.

    Systems that the model does not know get the weights they need.
    With `resume`, go on from the newest checkpoint in the folder, if there is one; raises
    ConfigError for settings that would make it another run (`matey.train.resume`). `watch` is
    shown every record that is logged. `parent` names the model that is trained further.
    Raises DivergenceError, before the update, where the loss or a gradient is not finite;
    StoppedError, after the step and with all saved, where a signal asked for it
    (`matey.train.signals`); CheckpointError where the run cannot be written or read.
    """
    with heeding_signals() as stop, locked(run):
        return take_steps(config, run, watch, model, resume, parent, stop)


def take_steps(
    config: RunConfig,
    run: Path,
    watch: Sink,
    model: Matey | None,
    resume: bool,
    parent: str,
    stop: Stop,
) -> Matey:
    """What `train` does while it holds the run folder."""
    device = choose_device(config.device)
    torch.manual_seed(config.seed)
    systems = open_systems(config.data)
    if checkpoint.folders(run) and not resume:
        raise ConfigError(f"{run} holds a run. Pass --resume auto to go on, or another --run.")
    shape = config.model if model is None else model.config
    check_grids(shape, systems)
    known = [] if model is None else list(model.specs.values())
    warn_of_doubts([system.spec for system in systems.values()], known)
    check_memory(replace(config, model=shape), systems, device, known)
    if model is None:
        require(config.trains_blocks, "mode", config.mode, "full for a model that is made anew")
        model = Matey(config.model, [], config.windows.history)
    windows = {name: s.windows("train", config.windows) for name, s in systems.items()}
    model.add_systems([group.spec for group in windows.values()])
    model.to(device).train()
    adjust(model, config)
    optimizer = make_optimizer(model, config.optim)
    tokens = partial(most_tokens, model, frames=config.windows.history)
    mixture = Mixture(windows, config.batch, config.seed, config.mixture, tokens=tokens)

    progress, changed = go_on(run, config, systems, model, optimizer)
    batches = mixture.batches(
        progress.step * config.accumulate, config.steps * config.accumulate, config.workers
    )
    if progress.step < config.steps:  # data that cannot be read leave no run folder
        batches = chain([next(batches)], batches)
    prepare_run(run, config, systems, parent)
    journal = Journal(run, watch, progress.step, config.tensorboard)
    speed = Speedometer(device, config, progress.step)
    start = {"steps": config.steps, "parameters": count(model), "peak": speed.peak}
    journal.write("start", step=progress.step, **start)
    if changed:
        journal.write("changed", step=progress.step, settings=changed)

    keeper = Keeper(run, config, systems, model, optimizer, journal, stop)
    if progress.pending:
        progress = keeper.score(progress)
    stop.defer()
    tally = Tally()
    for step in range(progress.step, config.steps):
        began = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config.steps, config.optim)
        for _ in range(config.accumulate):
            batch = next(batches).to(device)
            with torch.autocast(device.type, torch.bfloat16, config.precision == "bfloat16"):
                pushes, batch = batch.pushes, push_forward(model, batch)
                prediction = model(batch, model.draw_shift(batch))
            loss = loss_of(prediction, batch, config.loss)
            check_finite(loss, "loss", step, batch)
            (loss / config.accumulate).backward()
            tally.add(batch, prediction, loss, operations(model, batch, prediction, pushes))
        norm = clip_grad_norm_(model.parameters(), config.optim.clip)
        check_finite(norm, "gradient", step, batch)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tally.seconds += time.perf_counter() - began

        done = step + 1
        if done % config.log_every == 0 or done == config.steps:
            rate = learning_rate(step, config.steps, config.optim)
            record = {"lr": rate, "gradient_norm": float(norm), **tally.record()}
            journal.write("train", step=done, **record, **speed.record(done, *tally.work))
            tally = Tally()
        progress = keeper.after_step(replace(progress, step=done))
    model.trained_leads = (config.windows.min_lead, config.windows.max_lead)
    save_pretrained(model, run / "model", describe(config, systems, config.steps, run))
    journal.write("end", step=config.steps)
    return model.eval()


def adjust(model: Matey, config: RunConfig) -> None:
    """Spend memory and time as the config says."""
    model.activation_checkpointing = config.activation_checkpointing
    if config.activation_checkpointing:
        return_large_blocks()
    if config.compile:
        model.compile_blocks()


def push_forward(model: Matey, batch: Batch) -> Batch:
    """The batch with its last frames replaced by the model's own, `pushes` steps ahead.

    No gradient flows through them. Source: Brandstetter, Worrall, Welling (2022).
    """
    pushed = replace(batch, lead_time=torch.ones_like(batch.lead_time))
    for _ in range(batch.pushes):
        pushed = advance(model, pushed)
    return replace(batch, values=pushed.values, pushes=0)


def operations(model: Matey, batch: Batch, prediction: Prediction, pushes: int) -> int:
    """Floating-point operations of a batch: its step, and so many forward passes before it.

    Counted on the cells that the step took. What activation checkpointing does again is left out.
    """
    history = batch.values.shape[1]
    trains = any(parameter.requires_grad for parameter in model.blocks.parameters())
    stages = prediction.stages
    cost = step_cost(model.config, batch.spec, prediction.packing, history, stages, trains)
    return cost.operations + pushes * sum(cost.forward.values())


def loss_of(prediction: Prediction, batch: Batch, config: LossConfig) -> torch.Tensor:
    """The loss on the variables that change in time, normalised as the history."""
    target = prediction.statistics.normalise(batch.target[:, list(batch.spec.predicted)])
    return batch_loss(prediction.normalised, prediction.base, target, config)


@torch.no_grad()
def validate(
    model: Matey, systems: Mapping[str, System], config: RunConfig, stop: Stop
) -> Record | None:
    """NRMSE of each system on its validation windows at the shortest lead, and persistence's.

    None where a signal came first.
    """
    model.eval()
    device = next(model.parameters()).device
    one_step = replace(config.windows, max_lead=config.windows.min_lead)
    record: Record = {"nrmse": {}, "persistence": {}, "loss": {}}
    for name, system in systems.items():
        errors, still, losses = [], [], []
        windows = system.windows("valid", one_step)
        for cpu_batch in in_order(windows, config.batch, config.validate_windows):
            if stop.received:
                model.train()
                return None
            batch = cpu_batch.to(device)
            predicted = list(batch.spec.predicted)
            prediction = model(batch)
            errors.append(nrmse(prediction.fields, batch.target[:, predicted]))
            still.append(nrmse(batch.values[:, -1, predicted], batch.target[:, predicted]))
            losses.append(loss_of(prediction, batch, config.loss))
        if errors:
            record["nrmse"][name] = float(mean_score(torch.cat(errors)))
            record["persistence"][name] = float(mean_score(torch.cat(still)))
            record["loss"][name] = float(torch.stack(losses).mean())
    model.train()
    return record


@dataclass(frozen=True)
class Keeper:
    """What a run keeps besides its log: checkpoints, and the model of the best validation."""

    run: Path
    config: RunConfig
    systems: Mapping[str, System]
    model: Matey
    optimizer: torch.optim.Optimizer
    journal: Journal
    stop: Stop

    def after_step(self, progress: Progress) -> Progress:
        """Validate and save where that is due after a step.

        Raises StoppedError, with all saved, where a signal came.
        """
        done, config = progress.step, self.config
        if is_due(done, config.validate_every, config.steps):
            progress = self.score(progress)
        number = self.stop.received
        if number or is_due(done, config.checkpoint_every, config.steps):
            state = checkpoint.capture(self.model, self.optimizer, progress)
            folder = checkpoint.save(self.run, state, config.keep_checkpoints)
            number = self.stop.received  # one that came during the save is served by it, too
        if number:
            self.journal.write("stop", step=done, signal=number)
            raise stopped(number, f"after step {done} of {config.steps}, saved in {folder}")
        return progress

    def score(self, progress: Progress) -> Progress:
        """Validate, and keep the model in `best/` if its mean NRMSE is the lowest so far.

        A validation that a signal cuts short is pending: the run begins with it when it goes on.
        """
        scores = validate(self.model, self.systems, self.config, self.stop)
        if scores is None:
            return replace(progress, pending=True)
        self.journal.write("valid", step=progress.step, **scores)
        defined = [error for error in scores["nrmse"].values() if math.isfinite(error)]
        mean = sum(defined) / len(defined) if defined else math.inf
        if mean < (math.inf if progress.best is None else progress.best):
            training = describe(self.config, self.systems, progress.step, self.run)
            save_pretrained(self.model, self.run / "best", {**training, "nrmse": scores["nrmse"]})
            progress = replace(progress, best=mean)
        return replace(progress, pending=False)


class Tally:
    """What happened since the last line of the log."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.windows = self.tokens = self.operations = 0
        self.losses: dict[str, list[torch.Tensor]] = {}

    def add(
        self, batch: Batch, prediction: Prediction, loss: torch.Tensor, operations: int
    ) -> None:
        """Count one batch. Nothing waits for the device here."""
        samples, times = batch.values.shape[:2]
        self.windows += samples
        self.tokens += len(prediction.packing.cell) * times
        self.operations += operations
        self.losses.setdefault(batch.spec.name, []).append(loss.detach())

    @property
    def work(self) -> tuple[float, int, int, int]:
        """Seconds of steps, and what was done in them: windows, tokens, operations."""
        return self.seconds, self.windows, self.tokens, self.operations

    def record(self) -> Record:
        """The counts, and the mean loss of each system."""
        losses = {name: float(torch.stack(group).mean()) for name, group in self.losses.items()}
        return {
            "loss": sum(losses.values()) / len(losses),
            "losses": losses,
            "windows": self.windows,
            "tokens": self.tokens,
        }


def most_tokens(model: Matey, points: Triple, frames: int) -> int:
    """Tokens of so many frames on a grid of points (z, y, x) if every patch were fine."""
    ndim = 3 - next((i for i, count in enumerate(points) if count > 1), 2)
    return frames * math.prod(lattice_shape(points, model.patches(ndim)[-1]))


def check_finite(value: torch.Tensor, what: str, step: int, batch: Batch) -> None:
    """Raise DivergenceError, naming the batch, if a loss or gradient norm is not finite."""
    if not bool(value.isfinite()):
        raise DivergenceError(
            f"The {what} is {float(value.detach())} at step {step + 1}, system "
            f"{batch.spec.name!r}, from {'; '.join(batch.sources)}. Nothing was updated. "
            "Lower optim.lr, or look at the data."
        )


def is_due(step: int, every: int, steps: int) -> bool:
    """Whether something done `every` so many steps (0: only at the end) is due."""
    return step == steps or (every > 0 and step % every == 0)


def count(model: Matey) -> int:
    """How many numbers the model learns."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
