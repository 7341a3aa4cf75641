"""The training loop, top to bottom."""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from matey.config import LossConfig, RunConfig, require
from matey.data.mixture import Mixture, System, open_systems
from matey.errors import ConfigError
from matey.fields import Batch, SystemSpec
from matey.nn.contract import warn_of_doubts
from matey.nn.make import make_model
from matey.nn.pretrained import save_pretrained
from matey.nn.rollout import advance, followed
from matey.nn.surrogate import Prediction, Surrogate
from matey.tokens.lattice import Triple, lattice_shape
from matey.train import checkpoint
from matey.train.distributed import Engine, Team, processes
from matey.train.exchange import spread_cells
from matey.train.forecast import check_grids, check_memory
from matey.train.keeper import Keeper
from matey.train.lock import locked
from matey.train.log import Journal, describe, prepare_run, spent
from matey.train.loss import loss_of
from matey.train.optim import learning_rate, make_optimizer
from matey.train.resume import go_on
from matey.train.room import return_large_blocks
from matey.train.signals import Stop, heeding_signals
from matey.train.sinks import Sink
from matey.train.speed import Speedometer
from matey.train.stencils import measure_systems
from matey.train.tally import Loss, Tally, check_finite


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
    measure_systems(model, windows, config.seed)
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
                last = turn == config.accumulate - 1
                batch, prediction, loss, cost = learn(engine, batch, config.loss, last)
            engine.backward(loss / config.accumulate, batch.spec)
            losses.append(Loss(loss.detach(), batch.spec.name, batch.sources))
            tally.add(batch, prediction, loss, cost)
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


def learn(
    engine: Engine, batch: Batch, config: LossConfig, last: bool
) -> tuple[Batch, Prediction, Tensor, int]:
    """The last step of a batch, its prediction, the loss of the batch, and operations spent.

    With frames in `between` the loss is the mean over the steps to each of them and to the
    target, from the model's own frames, with the gradient through all of them.
    """
    model = engine.model
    if batch.between is None:
        pushes, batch = batch.pushes, push_forward(model, batch)
        prediction = engine(batch, model.draw_shift(batch), last)
        loss = loss_of(prediction, batch, config)
        return batch, prediction, loss, operations(model, batch, prediction, pushes)
    total, losses = 0, []
    one, between = torch.ones_like(batch.lead_time), batch.between.unbind(dim=1)
    goals = [*((frame, one) for frame in between), (batch.target, batch.lead_time)]
    for target, lead in goals:
        batch = replace(batch, target=target, lead_time=lead, pushes=0, between=None)
        prediction = engine(batch, model.draw_shift(batch), last)
        losses.append(loss_of(prediction, batch, config))
        total += operations(model, batch, prediction, 0)
        step, batch = batch, followed(batch, prediction.fields)
    return step, prediction, torch.stack(losses).mean(), total


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


def most_tokens(model: Surrogate, points: Triple, frames: int) -> int:
    """Tokens of so many frames on a grid of points (z, y, x) if every patch were fine."""
    ndim = 3 - next((i for i, count in enumerate(points) if count > 1), 2)
    return frames * math.prod(lattice_shape(points, model.patches(ndim)[-1]))


def count(model: Surrogate) -> int:
    """How many numbers the model learns."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
