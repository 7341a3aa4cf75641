"""What is measured before training: stencils, in closed form, and how large fields usually are."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from matey.config import RunConfig, WindowConfig
from matey.cost.machine import Speedometer
from matey.data.systems import System
from matey.data.windows import Choice, Windows
from matey.errors import ConfigError
from matey.fields import Batch, SystemSpec
from matey.nn.baselines.stencil import StencilModel, own_stencils
from matey.nn.folder import put_origin, save_pretrained
from matey.nn.local.stencil import ROWS, Stencils
from matey.nn.operations import count
from matey.nn.rollout import continue_inputs
from matey.nn.surrogate import Surrogate
from matey.nn.tokenizer import predicted_names
from matey.nn.transformer import Matey
from matey.train.loss import loss_of
from matey.train.optim import Average, make_optimizer
from matey.train.parallel.distributed import Engine, Team
from matey.train.resume import go_on
from matey.train.run_folder import Journal, Sink, prepare_run, spent, trackers, training_facts
from matey.train.signals import Stop
from matey.train.step_log import StepLog
from matey.train.validate import Keeper, Writer

WINDOWS = 96  # of a system that are looked at
AT_ONCE = 4
UNEQUAL = 0.01  # of a step
AHEAD, STARTS = 5, 16  # steps of the rollouts that a stencil is judged by, and how many rollouts
PAYS = 1 / 3  # of persistence's error, at most


def fit_run(
    model: StencilModel,
    config: RunConfig,
    run: Path,
    watch: Sink,
    systems: Mapping[str, System],
    windows: Mapping[str, Windows],
    parent: str,
    stop: Stop,
    team: Team,
    writer: Writer,
) -> StencilModel:
    """Fit the stencil of every system, and leave the run folder that a training of one step would.

    Raises ConfigError for several processes, and for steps of unequal length.
    """
    if team.size > 1:
        raise ConfigError(
            f"A stencil is fitted by one process, and {team.size} were started. Leave torchrun out."
        )
    config, optimizer = replace(config, steps=1), make_optimizer(model, config.optim)
    engine = Engine(model, team)
    average = Average(engine, 0.0)
    progress, changed = go_on(run, config, systems, model, optimizer, average)
    prepare_run(run, config, systems, parent)
    journal = Journal(run, [*trackers(run, config, progress.step), watch])
    speed = Speedometer(team.device, config, progress.step, team.size)
    start = {"steps": 1, "parameters": count(model), "peak": speed.peak, "processes": 1}
    journal.write("start", step=progress.step, **start)
    if changed:
        journal.write("changed", step=progress.step, settings=changed)
    keeper = Keeper(run, config, systems, engine, optimizer, average, journal, stop, writer)
    if progress.pending:
        progress = keeper.score(progress)
    stop.deferred = True
    if progress.step == 0:
        log = StepLog()
        for group in windows.values():
            fit_system(model, group, config, log)
        work = speed.record(1, *log.work)
        journal.write("train", step=1, lr=0.0, gradient_norm=0.0, **log.record(), **work)
        progress = keeper.after_step(replace(progress, step=1))
    model.trained_leads = (1, 1)
    training = training_facts(config, systems, 1, run, model.learned_from)
    put_origin(model, {"training": training})
    save_pretrained(model, run / "model", training, spent(run))
    journal.write("end", step=1, best=progress.best_step)
    model.eval()
    return model


@torch.no_grad()
def fit_system(model: StencilModel, windows: Windows, config: RunConfig, log: StepLog) -> None:
    """Fit one system's stencil to its training windows, and log its loss on them."""
    began = time.perf_counter()
    log.operations += fit_windows(model.stencils, windows, config.seed)
    log.seconds += time.perf_counter() - began
    for batch in looked_at(windows):
        batch = batch.to(model.device)
        prediction = model(batch)
        log.add(batch, prediction.tokens, loss_of(prediction, batch, config.loss), 0)


def measure_missing(
    model: Surrogate, windows: Mapping[str, Windows], seed: int
) -> dict[str, float]:
    """Fit the stencils of a transformer's systems that have none, and measure the sizes of those
    whose sizes are not.

    A stencil stays where rollouts of it are good: elsewhere the rest of the model would have to
    undo what it does. One that an earlier training left out is judged anew: the rest has learned
    whole increments without it, and would add them once more, so that what it says of these
    variables begins anew. Where that would change what it says of another system, it stays left
    out. Gives the errors of those that were judged over persistence's.
    """
    errors: dict[str, float] = {}
    if not isinstance(model, Matey):
        return errors
    stencils = model.stencils
    for group in windows.values():
        spec, name = group.spec, group.spec.name
        if model.usual is not None and not model.usual.measured(name):
            model.usual.measure(spec, scattered(group))
        if stencils is None or stencils.fitted(name):
            continue
        again = stencils.dropped(name)
        others = [one for other, one in model.specs.items() if other != name]
        if again and any(share_outputs(model, one, spec) for one in others):
            continue
        errors[name] = on_trial(model, group, seed)
        if errors[name] > PAYS:
            stencils.drop(name)
            continue
        fit_windows(stencils, group, seed)
        for variable in predicted_names(spec) if again else ():
            nn.init.zeros_(model.ends.named(spec.ndim)[1].vector(variable))
    return errors


def share_outputs(model: Matey, first: SystemSpec, second: SystemSpec) -> bool:
    """Whether the same weights say something of variables of both systems."""
    ours, theirs = (model.ends.named(spec.ndim)[1] for spec in (first, second))
    return ours is theirs and not set(predicted_names(first)).isdisjoint(predicted_names(second))


def on_trial(model: Matey, windows: Windows, seed: int) -> float:
    """The error over persistence's of a system's stencil on one in four of its training
    trajectories, fitted to the others; of a single trajectory both are that one."""
    fields = windows.fields
    long = {windows.place(i)[0] for group in windows.groups.values() for i in group.tolist()}
    trajectories = [one for one in windows.trajectories if one in long]  # enough for a window
    held = trajectories[::4]
    others = [one for one in trajectories if one not in held] or held
    assert model.stencils is not None
    fit_windows(model.stencils, Windows(fields, others, windows.config), seed, ROWS // 4)
    return beside_persistence(model, Windows(fields, held, windows.config))


@torch.no_grad()
def beside_persistence(model: Matey, windows: Windows) -> float:
    """The error of a stencil's rollouts over that of persistence, at the last of at most `AHEAD`
    steps: the root of the mean over variables of the ratio of squares."""
    alone, history = own_stencils(model, model.config), windows.config.history
    group = windows.groups[max(windows.groups, key=math.prod)].tolist()
    ahead = min(AHEAD, max(windows.after(window) for window in group))
    config = WindowConfig(history, windows.config.stride, ahead, ahead)
    longer = Windows(windows.fields, windows.trajectories, config)
    varying = list(windows.spec.predicted)
    errors, changes = torch.zeros(2, len(varying), dtype=torch.float64, device=alone.device)
    for choice in longer.scattered(STARTS):
        batch = longer.batch([Choice(choice.window, ahead)]).to(alone.device)
        *_, last = continue_inputs(alone, batch, [1.0] * ahead)
        true = batch.target[:, varying]
        for sums, frame in ((errors, last), (changes, batch.values[:, -1])):
            off = batch.held(frame[:, varying] - true).double()
            sums += off.square().sum(dim=(0, 2, 3, 4))
    moved = changes > 0
    ratio = (errors[moved] / changes[moved]).mean().sqrt()
    return float(ratio.nan_to_num(math.inf, posinf=math.inf))


def fit_windows(stencils: Stencils, windows: Windows, seed: int, most: int = ROWS) -> int:
    """Fit a system's stencil to windows scattered over its training trajectories: the
    floating-point operations that it took."""
    rows = -(-most // min(WINDOWS, max(1, len(windows))))
    return stencils.fit(windows.spec, looked_at(windows), rows, seed)


def looked_at(windows: Windows) -> Iterator[Batch]:
    """Scattered windows, a few at a time. Raises ConfigError for steps of unequal length."""
    for batch in scattered(windows):
        check_steps(batch)
        yield batch


def scattered(windows: Windows) -> Iterator[Batch]:
    """Windows scattered over the training trajectories, a few at a time."""
    chosen = windows.scattered(WINDOWS)
    for first in range(0, len(chosen), AT_ONCE):
        yield windows.batch(chosen[first : first + AT_ONCE])


def check_steps(batch: Batch) -> None:
    """Raise ConfigError where frames are not one step apart: a stencil is not told how far."""
    for lead, source in zip(batch.lead_time.tolist(), batch.sources, strict=True):
        if abs(lead - 1) > UNEQUAL:
            raise ConfigError(
                f"{source}: a step of {lead:.3g} dt, and a stencil is fitted to steps of equal "
                "length. Interpolate the file in time, or take --baseline unet."
            )
