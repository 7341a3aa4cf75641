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
from torch import Tensor

from matey.config import RunConfig, require
from matey.cost.forecast import check_grids, forecast, memory_bound, refuse_if_too_large
from matey.cost.machine import Speedometer, free_memory, return_large_blocks
from matey.data.mixture import Mixture
from matey.data.systems import System, open_systems, training_windows
from matey.data.windows import Windows
from matey.errors import ConfigError
from matey.fields import Batch
from matey.nn.adapters.low_rank import hold_unused, merge_adapters
from matey.nn.baselines.stencil import StencilModel
from matey.nn.compatibility import warn_of_doubts
from matey.nn.folder import copy_pretrained, load, put_origin, save_pretrained
from matey.nn.make import make_model, outline_model
from matey.nn.rollout import advance, drawn, followed
from matey.nn.surrogate import Prediction, Surrogate
from matey.tokens.lattice import Triple, covering, lattice_shape
from matey.tokens.noise import disturbed
from matey.tokens.shift import most_before
from matey.train import checkpoint
from matey.train.beside import FOLDER, put_beside
from matey.train.checkpoint import Progress
from matey.train.closed_form import PAYS, fit_run, measure_missing
from matey.train.lock import locked
from matey.train.loss import loss_of
from matey.train.optim import Average, make_optimizer, rate_of, set_rates
from matey.train.parallel.distributed import Engine, Team, processes
from matey.train.parallel.sequence import spread_cells
from matey.train.resume import go_on
from matey.train.run_folder import (
    Journal,
    Record,
    Sink,
    parent_of,
    prepare_run,
    spent,
    trackers,
    training_facts,
)
from matey.train.signals import Stop, heeding_signals
from matey.train.step_log import Loss, StepLog, check_finite
from matey.train.threads import choose_threads, threads_put_back
from matey.train.validate import Keeper, Writer, has_ended, is_due, writing


def train(
    config: RunConfig,
    run: str | Path,
    watch: Sink = lambda record: None,
    *,
    model: Surrogate | None = None,
    resume: bool = False,
    parent: str = "",
    stencils: Path | None = None,
) -> Surrogate:
    """Train a new model into a run folder, or `model` further, with weights for new systems.

    With `resume`, go on from the newest checkpoint in the folder, if there is one; raises
    ConfigError for settings that would make it another run (`matey.train.resume`). `watch` gets
    every record that is logged. `parent` names the model that is trained further. `stencils` is the
    folder of those that scores stand beside (`matey.train.beside`), which runs on the same data may
    share: by default one of the run's.
    Started by torchrun, its processes train one model; the first of them writes and watches.
    Raises DivergenceError, before the update, where the loss or a gradient is not finite;
    StoppedError, after the step and with all saved, where a signal asked for it; CheckpointError
    where the run cannot be written or read; ProcessError where another process fails.
    """
    run = Path(run)
    with (
        heeding_signals() as stop,
        processes(config) as team,
        locked(run) if team.first else nullcontext(),
        writing(run, config.keep_checkpoints) as writer,
        threads_put_back(),
    ):
        return take_steps(config, run, watch, model, resume, parent, stencils, stop, team, writer)


def take_steps(
    config: RunConfig,
    run: Path,
    watch: Sink,
    model: Surrogate | None,
    resume: bool,
    parent: str,
    stencils: Path | None,
    stop: Stop,
    team: Team,
    writer: Writer,
) -> Surrogate:
    """Train in each process of a team, which holds the run folder."""
    torch.manual_seed(config.seed)
    systems = open_systems(config.data)
    if checkpoint.folders(run) and not resume:
        raise ConfigError(f"{run} holds a run. Pass --resume auto to go on, or another --run.")
    windows = training_windows(systems, config.windows)
    model = prepare_model(model, config, systems, windows, team)
    if isinstance(model, StencilModel):
        return fit_run(model, config, run, watch, systems, windows, parent, stop, team, writer)
    beyond = {} if checkpoint.folders(run) else measure_missing(model, windows, config.seed)
    engine = Engine(model, team)
    optimizer, average = make_optimizer(model, config.optim), Average(engine, config.optim.ema)
    tokens = partial(most_tokens, model, frames=config.windows.history)
    part = {"rank": team.data_rank, "ranks": team.data_ranks, "end": config.end * config.accumulate}
    mixture = Mixture(windows, config.batch, config.seed, config.mixture, **part, tokens=tokens)

    with team.first_before_others():  # which sets aside what is damaged
        progress, changed = go_on(run, config, systems, model, optimizer, average, team.data_ranks)
    batches = mixture.batches(
        progress.step * config.accumulate, config.steps * config.accumulate, config.workers
    )
    threads = None
    if not has_ended(progress, config):  # data that cannot be read leave no run folder
        first = next(batches)
        batches = chain([first], batches)
        one_step, left = partial(rehearse, engine, first, config), config.steps - progress.step
        threads = choose_threads(config, team, one_step, left, progress.threads)
        progress = replace(progress, threads=threads.number if threads and team.size == 1 else None)
    team.meet()  # all have read what is there before the first one writes
    if team.first:
        if progress.step > 0:  # by `matey train`, which knows of no parent
            parent = parent or parent_of(run)
        prepare_run(run, config, systems, parent, team.data_ranks)
    shown = trackers(run, config, progress.step) if team.first else []
    journal = Journal(run, [*shown, watch], writes=team.first)
    speed = Speedometer(team.device, config, progress.step, team.size)
    write_start(journal, config, model, progress.step, changed, speed.peak, team)
    if beyond:
        journal.write("beyond", step=progress.step, errors=beyond, most=PAYS)
    put_beside(engine.model, windows, stencils or run / FOLDER, journal, progress.step)
    if threads:
        journal.write("threads", step=progress.step, **vars(threads))

    keeper = Keeper(run, config, systems, engine, optimizer, average, journal, stop, writer)
    if progress.pending:
        progress = keeper.score(progress)
    stop.deferred = True
    log = StepLog()
    while not has_ended(progress, config):
        step = progress.step
        began = time.perf_counter()
        set_rates(optimizer, rate_of(step, config))
        team.seed(config.seed, step)
        losses: list[Loss] = []
        for turn in range(config.accumulate):
            batch = next(batches).to(team.device)
            learned = learn(engine, batch, config, last=turn == config.accumulate - 1)
            losses.append(Loss(learned.loss, batch.spec.name, batch.sources))
            log.add(batch, learned.tokens, learned.loss, learned.operations)
        norm = engine.clip(config.optim.clip)
        check_finite(team, step, losses, norm)
        optimizer.step()
        average.update(step)
        optimizer.zero_grad(set_to_none=True)
        log.seconds += time.perf_counter() - began

        done = step + 1
        may_end = config.patience > 0 and is_due(done, config.validate_every, config.steps)
        if may_end or is_due(done, config.log_every, config.steps):
            log = log.total(team)
            record = {"lr": rate_of(step, config), "gradient_norm": float(norm), **log.record()}
            journal.write("train", step=done, **record, **speed.record(done, *log.work))
            log = StepLog()
        progress = keeper.after_step(replace(progress, step=done))
    average.exchange()
    model = save_model(engine, config, systems, run, progress)
    ended = {"step": progress.step, "best": progress.best_step, "worse": keeper.worse(progress)}
    journal.write("end", **ended)
    return model.eval()


def save_model(
    engine: Engine, config: RunConfig, systems: Mapping[str, System], run: Path, progress: Progress
) -> Surrogate:
    """Write `model/`: with `patience` that of the best validation, or else of the last step. The
    model in it, for each process to use by itself."""
    team, learned_from = engine.team, engine.model.learned_from
    model = engine.alone()
    model.trained_leads = (config.windows.min_lead, config.windows.max_lead)
    if config.patience and progress.best is not None:
        if team.first:
            told = {"best_of": progress.step}
            copy_pretrained(run / "best", run / "model", told, spent(run))
        team.meet()
        made, _ = load(run / "model")
        made.yardstick = model.yardstick
        return made.to(team.device)
    if team.first:
        training = training_facts(config, systems, progress.step, run, learned_from)
        save_pretrained(model, run / "model", training, spent(run))
        put_origin(model, {"training": training})
    merge_adapters(model)
    return model


def write_start(
    journal: Journal,
    config: RunConfig,
    model: Surrogate,
    step: int,
    changed: Record,
    peak: float,
    team: Team,
) -> None:
    """Log that the processes begin, or go on after a step, with the settings that have changed."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    start = {"steps": config.steps, "parameters": trained, "peak": peak}
    journal.write("start", step=step, **start, processes=team.size)
    if changed:
        journal.write("changed", step=step, settings=changed)


def prepare_model(
    model: Surrogate | None,
    config: RunConfig,
    systems: Mapping[str, System],
    windows: Mapping[str, Windows],
    team: Team,
) -> Surrogate:
    """The model to train, or a new one, with weights for the systems, on the device.

    Raises ShapeError or ConfigError for grids that it cannot be trained on, or too little memory.
    """
    shape = config.model if model is None else model.config
    check_grids(shape, systems)
    learned = [] if model is None else list(model.specs.values())
    specs = [group.spec for group in windows.values()]
    warn_of_doubts(specs, learned)
    if not shape.is_baseline:
        history, free = config.windows.history, free_memory(str(team.device), team.neighbours)
        outline = outline_model(shape, [*learned, *specs], history, config.mode, config.rank)
        asked = replace(config, model=shape)
        if free is not None and memory_bound(outline, asked, windows) > free:
            forecasts = forecast(outline, asked, windows, thresholds=())
            refuse_if_too_large(forecasts, asked, free, team.size)
    if model is None:
        require(config.trains_blocks, "mode", config.mode, "full for a model that is made anew")
        model = make_model(config.model, specs, config.windows.history)
    else:
        model.add_systems(specs)
        hold_unused(model, [model.unused(spec) for spec in specs])
    model.to(team.device).train()
    model.activation_checkpointing = config.activation_checkpointing
    if config.activation_checkpointing:
        return_large_blocks()
    if config.parallel.sequence > 1:
        spread_cells(model, team)
    if config.compile:
        model.compile_blocks()
    return model


@dataclass(frozen=True)
class Learned:
    """The mean loss of a batch over the steps that were learned from, their tokens per frame, and
    the operations of these and of the forward passes before them."""

    loss: Tensor
    tokens: int
    operations: int


def learn(engine: Engine, batch: Batch, config: RunConfig, last: bool = True) -> Learned:
    """Add the gradients of a batch, the `last` of an optimizer step or not.

    With frames `between` these are of the mean loss over the steps to each of them and to the
    target, each from the model's own frames before it, and flow through all of them.
    """
    model = engine.model
    batch = batch.repeated(config.loss.samples)
    steps: list[tuple[Batch, Prediction]] = []
    frames = () if batch.between is None else batch.between.unbind(dim=1)
    single = torch.ones_like(batch.lead_time)
    goals = [*((frame, single) for frame in frames), (batch.target, batch.lead_time)]
    with torch.autocast(batch.values.device.type, torch.bfloat16, config.precision == "bfloat16"):
        windows = config.windows
        step = push_forward(model, disturbed(batch, windows.noise, windows.past_noise))
        for place, (target, lead) in enumerate(goals, start=1):
            step = drawn(replace(step, target=target, lead_time=lead), model.config.noise)
            prediction = engine(step, model.draw_shift(step), last and place == len(goals))
            steps.append((step, prediction))
            if place < len(goals):
                step = followed(step, prediction.fields)
    loss = torch.stack([loss_of(made, step, config.loss) for step, made in steps]).mean()
    engine.backward(loss / config.accumulate, batch.spec)
    tokens = sum(prediction.tokens for _, prediction in steps)
    return Learned(loss.detach(), tokens, operations(model, steps, batch.pushes - len(frames)))


def rehearse(engine: Engine, batch: Batch, config: RunConfig) -> None:
    """Take a step on a batch that changes neither weights nor random numbers."""
    with torch.random.fork_rng(devices=[]):
        learn(engine, batch, config)
    engine.model.zero_grad(set_to_none=True)


def push_forward(model: Surrogate, batch: Batch) -> Batch:
    """The batch with its last frames replaced by the model's own, `pushes` steps ahead; as it is
    where it has the frames `between` to learn from.

    No gradient flows through them. Source: Brandstetter, Worrall, Welling (2022).
    """
    pushed = replace(batch, lead_time=torch.ones_like(batch.lead_time))
    for _ in range(batch.pushes if batch.between is None else 0):
        pushed = advance(model, drawn(pushed, model.config.noise))
    return replace(batch, values=pushed.values, noise=pushed.noise, pushes=0, between=None)


def operations(model: Surrogate, steps: Sequence[tuple[Batch, Prediction]], pushes: int) -> int:
    """Floating-point operations of steps that are learned from and of the forward passes, `pushes`
    of them, before; without what activation checkpointing does again."""
    costs = [model.cost(step, prediction) for step, prediction in steps]
    through = sum(cost.to_fields for cost in costs[1:])
    before = pushes * sum(costs[0].forward.values())
    return before + sum(cost.operations for cost in costs) + through


def most_tokens(model: Surrogate, points: Triple, frames: int) -> int:
    """Tokens of all frames on a grid of points (z, y, x) if every patch is fine."""
    ndim = 3 - next((i for i, count in enumerate(points) if count > 1), 2)
    coarse, *_, fine = [*model.patches(ndim)] * 2
    grid = covering(points, coarse, most_before(model.config, coarse))
    return frames * math.prod(lattice_shape(grid, fine))
