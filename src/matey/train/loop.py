"""The training loop, top to bottom."""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

import torch

from matey.config import LossConfig, RunConfig, require
from matey.data.mixture import Mixture, System, in_order, open_systems
from matey.errors import ConfigError, DivergenceError
from matey.fields import Batch, SystemSpec
from matey.metrics.error import nrmse
from matey.nn.contract import warn_of_doubts
from matey.nn.make import make_model
from matey.nn.pretrained import save_pretrained
from matey.nn.rollout import advance
from matey.nn.surrogate import Prediction, Surrogate
from matey.tokens.lattice import Triple, lattice_shape
from matey.train import checkpoint
from matey.train.checkpoint import Progress
from matey.train.distributed import Engine, Team, processes
from matey.train.exchange import spread_cells
from matey.train.forecast import check_grids, check_memory
from matey.train.lock import locked
from matey.train.log import Journal, describe, prepare_run, spent
from matey.train.loss import batch_loss
from matey.train.optim import learning_rate, make_optimizer
from matey.train.resume import go_on
from matey.train.room import return_large_blocks
from matey.train.signals import Stop, heeding_signals, stopped
from matey.train.sinks import Record, Sink
from matey.train.speed import Speedometer


def train(
    config: RunConfig,
    run: str | Path,
    watch: Sink = lambda record: None,
    *,
    model: Surrogate | None = None,
    resume: bool = False,
    parent: str = "",
) -> Surrogate:
    """Train a model into a run folder: a new one, or the given one further.

    Systems that the model does not know get the weights they need.
    With `resume`, go on from the newest checkpoint in the folder, if there is one; raises
    ConfigError for settings that would make it another run (`matey.train.resume`). `watch` is
    shown every record that is logged. `parent` names the model that is trained further.
    Started by torchrun, its processes train one model; the first of them writes and watches.
    Raises DivergenceError, before the update, where the loss or a gradient is not finite;
    StoppedError, after the step and with all saved, where a signal asked for it
    (`matey.train.signals`); CheckpointError where the run cannot be written or read;
    ProcessError where another process fails.
    """
    run = Path(run)
    with (
        heeding_signals() as stop,
        processes(config) as team,
        locked(run) if team.first else nullcontext(),
    ):
        return take_steps(config, run, watch, model, resume, parent, stop, team)


def take_steps(
    config: RunConfig,
    run: Path,
    watch: Sink,
    model: Surrogate | None,
    resume: bool,
    parent: str,
    stop: Stop,
    team: Team,
) -> Surrogate:
    """What `train` does, in each process of a team, while it holds the run folder."""
    device = team.device
    torch.manual_seed(config.seed)
    systems = open_systems(config.data)
    if checkpoint.folders(run) and not resume:
        raise ConfigError(f"{run} holds a run. Pass --resume auto to go on, or another --run.")
    windows = {name: s.windows("train", config.windows) for name, s in systems.items()}
    model = prepare_model(model, config, systems, [w.spec for w in windows.values()], team)
    engine = Engine(model, team)
    optimizer = make_optimizer(model, config.optim)
    tokens = partial(most_tokens, model, frames=config.windows.history)
    shares = {"rank": team.data_rank, "ranks": team.data_ranks}
    mixture = Mixture(windows, config.batch, config.seed, config.mixture, **shares, tokens=tokens)

    with team.first_before_others():  # which sets aside what is damaged
        progress, changed = go_on(run, config, systems, model, optimizer)
    batches = mixture.batches(
        progress.step * config.accumulate, config.steps * config.accumulate, config.workers
    )
    if progress.step < config.steps:  # data that cannot be read leave no run folder
        batches = chain([next(batches)], batches)
    team.meet()  # all have read what is there before the first one writes
    if team.first:
        prepare_run(run, config, systems, parent)
    journal = Journal(run, watch, progress.step, config.tensorboard, writes=team.first)
    speed = Speedometer(device, config, progress.step, team.size)
    start = {"steps": config.steps, "parameters": count(model), "peak": speed.peak}
    start["processes"] = team.size
    journal.write("start", step=progress.step, **start)
    if changed:
        journal.write("changed", step=progress.step, settings=changed)

    keeper = Keeper(run, config, systems, engine, optimizer, journal, stop)
    if progress.pending:
        progress = keeper.score(progress)
    stop.defer()
    tally = Tally()
    for step in range(progress.step, config.steps):
        began = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config.steps, config.optim)
        team.seed(config.seed, step)
        losses: list[Loss] = []
        for turn in range(config.accumulate):
            batch = next(batches).to(device)
            with torch.autocast(device.type, torch.bfloat16, config.precision == "bfloat16"):
                pushes, batch = batch.pushes, push_forward(model, batch)
                prediction = engine(batch, model.draw_shift(batch), turn == config.accumulate - 1)
            loss = loss_of(prediction, batch, config.loss)
            engine.backward(loss / config.accumulate, batch.spec)
            losses.append(Loss(loss.detach(), batch.spec.name, batch.sources))
            tally.add(batch, prediction, loss, operations(model, batch, prediction, pushes))
        norm = engine.clip(config.optim.clip)
        check_finite(team, step, losses, norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tally.seconds += time.perf_counter() - began

        done = step + 1
        if done % config.log_every == 0 or done == config.steps:
            rate = learning_rate(step, config.steps, config.optim)
            tally = tally.total(team)
            record = {"lr": rate, "gradient_norm": float(norm), **tally.record()}
            journal.write("train", step=done, **record, **speed.record(done, *tally.work))
            tally = Tally()
        progress = keeper.after_step(replace(progress, step=done))
    model = engine.alone()
    model.trained_leads = (config.windows.min_lead, config.windows.max_lead)
    if team.first:
        training = describe(config, systems, config.steps, run, engine.model.learned_from)
        save_pretrained(model, run / "model", training, spent(run))
    journal.write("end", step=config.steps)
    return model.eval()


def prepare_model(
    model: Surrogate | None,
    config: RunConfig,
    systems: Mapping[str, System],
    specs: Sequence[SystemSpec],
    team: Team,
) -> Surrogate:
    """The model to train, or a new one, with weights for the systems, on the device.

    Raises ShapeError or ConfigError for grids that it cannot be trained on, or too little memory.
    """
    shape = config.model if model is None else model.config
    check_grids(shape, systems)
    known = [] if model is None else list(model.specs.values())
    warn_of_doubts(specs, known)
    check_memory(replace(config, model=shape), systems, team, known)
    if model is None:
        require(config.trains_blocks, "mode", config.mode, "full for a model that is made anew")
        model = make_model(config.model, specs, config.windows.history)
    else:
        model.add_systems(specs)
    model.to(team.device).train()
    model.activation_checkpointing = config.activation_checkpointing
    if config.activation_checkpointing:
        return_large_blocks()
    if config.parallel.sequence > 1:
        spread_cells(model, team.mesh.get_group("sequence"))
    if config.compile:
        model.compile_blocks()
    return model


def push_forward(model: Surrogate, batch: Batch) -> Batch:
    """The batch with its last frames replaced by the model's own, `pushes` steps ahead.

    No gradient flows through them. Source: Brandstetter, Worrall, Welling (2022).
    """
    pushed = replace(batch, lead_time=torch.ones_like(batch.lead_time))
    for _ in range(batch.pushes):
        pushed = advance(model, pushed)
    return replace(batch, values=pushed.values, pushes=0)


def operations(model: Surrogate, batch: Batch, prediction: Prediction, pushes: int) -> int:
    """Floating-point operations of a batch: its step, and so many forward passes before it.

    What activation checkpointing does again is left out.
    """
    cost = model.cost(batch, prediction)
    return cost.operations + pushes * sum(cost.forward.values())


def loss_of(prediction: Prediction, batch: Batch, config: LossConfig) -> torch.Tensor:
    """The loss on the variables that change in time, normalised as the history."""
    target = prediction.statistics.normalise(batch.target[:, list(batch.spec.predicted)])
    return batch_loss(prediction.normalised, prediction.base, target, config)


@torch.no_grad()
def validate(
    model: Surrogate, systems: Mapping[str, System], config: RunConfig, stop: Stop, team: Team
) -> Record | None:
    """NRMSE of each system on its validation windows at the shortest lead, and persistence's.

    The processes share the batches. None where a signal came first.
    """
    model.eval()
    device = next(model.parameters()).device
    one_step = replace(config.windows, max_lead=config.windows.min_lead)
    record: Record = {"nrmse": {}, "persistence": {}, "loss": {}}
    for name, system in systems.items():
        errors, still, losses = [], [], []
        windows = system.windows("valid", one_step)
        batches = in_order(windows, config.batch, config.validate_windows)
        for choices, counts in team.deal(batches):
            if team.most(stop.received):
                model.train()
                return None
            batch = windows.batch(choices).to(device)
            predicted = list(batch.spec.predicted)
            prediction = model(batch)
            part = 1.0 if counts else math.nan  # what is not defined is left out of means
            errors.append(part * nrmse(prediction.fields, batch.target[:, predicted]))
            still.append(part * nrmse(batch.values[:, -1, predicted], batch.target[:, predicted]))
            losses.append(part * loss_of(prediction, batch, config.loss).view(1))
        for key, rows in (("nrmse", errors), ("persistence", still), ("loss", losses)):
            if rows:
                record[key][name] = float(mean_over(team, torch.cat(rows)).nanmean())
    model.train()
    return record


def mean_over(team: Team, rows: torch.Tensor) -> torch.Tensor:
    """The mean of the rows of all processes, where they are defined."""
    sums = torch.stack([rows.nansum(dim=0), (~rows.isnan()).sum(dim=0)])
    total, defined = team.total(sums)
    return total / defined


@dataclass(frozen=True)
class Keeper:
    """What a run keeps besides its log: checkpoints, and the model of the best validation.

    All processes take part; the first one writes.
    """

    run: Path
    config: RunConfig
    systems: Mapping[str, System]
    engine: Engine
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
        team = self.engine.team
        number = team.most(self.stop.received)
        if number or is_due(done, config.checkpoint_every, config.steps):
            state = checkpoint.capture(self.engine.model, self.optimizer, progress)
            if team.first:
                checkpoint.save(self.run, state, config.keep_checkpoints)
            # One that came during the save is served by it, too; no process ends before it is done.
            number = team.most(self.stop.received)
        if number:
            folder = checkpoint.folder_of(self.run, done)
            self.journal.write("stop", step=done, signal=number)
            raise stopped(number, f"after step {done} of {config.steps}, saved in {folder}")
        return progress

    def score(self, progress: Progress) -> Progress:
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
            known = engine.model.learned_from
            training = describe(self.config, self.systems, progress.step, self.run, known)
            model = engine.alone()
            if engine.team.first:
                training["nrmse"] = scores["nrmse"]
                save_pretrained(model, self.run / "best", training, spent(self.run))
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
        self.tokens += prediction.tokens * times
        self.operations += operations
        self.losses.setdefault(batch.spec.name, []).append(loss.detach())

    def total(self, team: Team) -> "Tally":
        """The same of all processes. They had the same systems, each as often."""
        means = [torch.stack(group).mean() for group in self.losses.values()]
        counts = torch.tensor([self.windows, self.tokens, self.operations], device=team.device)
        mean = team.total(torch.stack(means)) / team.data_ranks
        whole = Tally()
        whole.seconds = self.seconds
        whole.windows, whole.tokens, whole.operations = team.total(counts).tolist()
        whole.losses = {name: [loss] for name, loss in zip(self.losses, mean, strict=True)}
        return whole

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


def most_tokens(model: Surrogate, points: Triple, frames: int) -> int:
    """Tokens of so many frames on a grid of points (z, y, x) if every patch were fine."""
    ndim = 3 - next((i for i, count in enumerate(points) if count > 1), 2)
    return frames * math.prod(lattice_shape(points, model.patches(ndim)[-1]))


@dataclass(frozen=True)
class Loss:
    """The loss of one batch, and what the batch was."""

    value: torch.Tensor
    system: str
    sources: tuple[str, ...]

    def describe(self) -> str:
        """Which system and files."""
        return f"system {self.system!r}, from {'; '.join(self.sources)}"


def check_finite(team: Team, step: int, losses: Sequence[Loss], norm: torch.Tensor) -> None:
    """Raise DivergenceError, naming the batch, in all processes if a loss of the step or the norm
    of its gradient is not finite in one."""
    values = torch.stack([*(loss.value for loss in losses), norm.detach()])
    if not team.most(not bool(values.isfinite().all())):
        return
    found = ""
    for loss in losses:
        if not bool(loss.value.isfinite()):
            found = f"The loss is {float(loss.value)} at step {step + 1}, {loss.describe()}"
            break
    found = team.agree(found) or team.agree(
        f"The gradient is {float(norm)} at step {step + 1}, "
        f"{', and '.join(loss.describe() for loss in losses)}"
    )
    raise DivergenceError(f"{found}. Nothing was updated. Lower optim.lr, or look at the data.")


def is_due(step: int, every: int, steps: int) -> bool:
    """Whether something done `every` so many steps (0: only at the end) is due."""
    return step == steps or (every > 0 and step % every == 0)


def count(model: Surrogate) -> int:
    """How many numbers the model learns."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
