"""Scores on test trajectories: rollouts beside persistence and linear extrapolation, by lead.

Axes: B samples, T times, C variables, (Z, Y, X) grid points.
"""

import os
import sys
import time
from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import matey
from matey.config import DataConfig, require
from matey.data.systems import System, open_systems
from matey.data.trajectories import EveryNth
from matey.data.windows import Rollouts, cut
from matey.errors import ConfigError, MateyError
from matey.evaluate.accumulate import ScoreAccumulator
from matey.evaluate.protocols import PROTOCOLS, Protocol
from matey.fields import Field, Inputs
from matey.nn.rollout import chosen, continue_inputs, warn_of_leads
from matey.nn.surrogate import Surrogate
from matey.output import replacing
from matey.records.scores import Scores, SystemScore
from matey.tokens.pack import PACKINGS
from matey.tokens.refine import RefinementPlan

FRAMES = 17  # of an example, at most
EXAMPLE_VALUES = 2**24  # numbers on each side of an example, where three frames have not more


@dataclass(frozen=True)
class Ask:
    """How to score: so many dt ahead in steps of `lead` dt, rollouts at a time and per system,
    seed of what is random, and the protocol."""

    steps: int
    batch: int = 16
    windows: int | None = None
    seed: int = 0
    lead: int = 1
    protocol: Protocol = PROTOCOLS["default"]

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "lead"):
            require(getattr(self, name) > 0, name, getattr(self, name), "1 or more")
        require(
            self.windows is None or self.windows > 0, "windows", self.windows, "1 or more, or none"
        )
        require(
            self.lead <= self.steps, "lead time", self.lead, f"at most the {self.steps} dt ahead"
        )


def evaluate(
    model: Surrogate, name: str, data: DataConfig, ask: Ask, out: str | Path
) -> list[SystemScore]:
    """Score a model on the test trajectories of every system, and write the results.

    Rollouts of so many `steps` start from every frame that leaves room for them, or from
    `windows` of these per system, spread evenly over its trajectories. A rollout that stops being
    finite ends there: its errors are infinite from then on, and the results say when.
    Only test trajectories are needed. `seed` is of the shifts of the patches, where the model was
    made with `jitter`; else nothing is random.
    `out` receives `scores.json` and, for the pictures of a report, `examples/<system>.npz`.
    Raises DataError for a system that has no test trajectory or too short ones.
    """
    out = Path(out)
    check_folder(out)
    warn_of_leads(model, [float(ask.lead)])
    began, started = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%S%z")
    scores = [
        score_system(model, system, ask, out / "examples" / f"{system.spec.name}.npz")
        for system in open_systems(data, training=False).values()
    ]
    summary: dict[str, Any] = {
        "name": name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **model.summary(),
        "history": model.history,
        "seed": ask.seed,
    }
    provenance = {
        "command": " ".join(["matey", *sys.argv[1:]]),
        "started": started,
        "versions": {"matey": matey.__version__, "torch": torch.__version__},
    }
    took = round(time.monotonic() - began, 2)
    results = Scores(summary, asdict(ask.protocol), provenance, took, systems=scores)
    results.save(out / "scores.json")
    return scores


def score_system(model: Surrogate, system: System, ask: Ask, example: Path) -> SystemScore:
    """Roll out from starts on the test trajectories, and compare with what happened."""
    rollouts = rollouts_of(model, system, ask)
    fields, starts = rollouts.fields, rollouts.starts
    leads = list(range(ask.lead, rollouts.steps + 1, ask.lead))
    spec = fields.spec
    names = [spec.variables[i].name for i in spec.predicted]
    shown = {leads[0], leads[(len(leads) - 1) // 2], leads[-1]}
    tally, plans = ScoreAccumulator(ask.protocol, names, leads, shown), []
    grid = fields.trajectories[starts[0][0]].grid.shape
    kept = example_leads(leads, len(names) * prod(grid))
    for batch in rollouts.batches(ask.batch):
        inputs, truth = batch.inputs, batch.truth
        for (trajectory, _), field in zip(batch.starts, truth, strict=True):
            check_named(model, field, model.history, fields.trajectories[trajectory].name)
        plans.append(model.plan_inputs(inputs))
        now = kept if len(plans) == 1 else frozenset[int]()
        frames = roll(model, inputs, truth, leads, now, ask.seed, tally)
        if len(plans) == 1:
            write_example(example, truth[0], plans[0], frames, model.history)
    return SystemScore(
        name=spec.name,
        variables=names,
        trajectories=len({trajectory for trajectory, _ in starts}),
        windows=tally.rollouts,
        history=model.history,
        grid=grid,
        dt=spec.dt,
        tokens=count_tokens([plan for plan in plans if plan is not None], model.config.mode),
        lead=ask.lead,
        steps=leads,
        primary=ask.protocol.primary,
        metrics=tally.metrics(),
        correlation=tally.correlation(),
        divergence=tally.divergence(),
        drift=tally.drift(),
        spectra=tally.spectra(),
    )


def count_tokens(plans: Sequence[RefinementPlan], mode: str) -> dict[str, float]:
    """Tokens per frame: the mean, and those of coarse and of fine patches only; none of a model
    without cells. In Adap_Mul a refined cell counts with its coarse token and its fine ones."""
    if not plans:
        return {}
    first = plans[0]
    cells = {"coarse": first.sizes[0], "fine": first.sizes[-1]}
    cost = {key: float(np.prod(np.array(first.grid) // np.array(c))) for key, c in cells.items()}
    used = torch.cat([PACKINGS[mode](plan).tokens for plan in plans])
    return {"mean": float(used.double().mean()), **cost}


@dataclass(frozen=True)
class Kept:
    """A predicted frame [C Z Y X] of an example, and the cells that it is cut into for the step
    after it: no plan where the rollout has ended, or of a model without cells."""

    prediction: Tensor
    plan: RefinementPlan | None


def roll(
    model: Surrogate,
    inputs: Inputs,
    truth: Sequence[Field],
    leads: Sequence[int],
    kept: Set[int],
    seed: int,
    tally: ScoreAccumulator,
) -> dict[int, Kept]:
    """Add a group of rollouts to the tally; the first one's frames that are kept."""
    varying, history = list(inputs.spec.predicted), inputs.values.shape[1]
    given = inputs.values[:, -2:, varying].to(model.device)
    last = given[:, -1]
    trend = last - given[:, -2] if history > 1 else None
    weights = None if inputs.points is None else inputs.points.to(model.device).volumes
    steps = continue_inputs(model, inputs, [float(leads[0])] * len(leads), seed)
    first: Inputs | None = chosen(inputs, torch.arange(len(inputs.values)) == 0)
    frames = {}
    for lead in leads:
        frame = next(steps, None)  # none where every rollout of the group has ended
        predicted = torch.full_like(last, torch.nan) if frame is None else frame[:, varying]
        target = torch.stack([f.values[history - 1 + lead, varying] for f in truth])
        tally.add(lead, predicted, target.to(model.device), last, trend, weights)
        if kept:
            first = continued(first, frame)
        if lead in kept:
            plan = None if first is None else model.plan_inputs(first)
            frames[lead] = Kept(predicted[0].cpu(), plan)
    tally.end_group()
    return frames


def continued(first: Inputs | None, frame: Tensor | None) -> Inputs | None:
    """The history of the first sample with its next frame; None once that is not finite."""
    if first is None or frame is None or not bool(frame[0].isfinite().all()):
        return None
    newest = frame[:1, None].to(first.values)
    return replace(first, values=torch.cat([first.values[:, 1:], newest], dim=1))


def example_leads(leads: Sequence[int], values: int) -> set[int]:
    """Leads of an example, spread evenly from the first to the last: fewer of large frames.

    `values` is how many numbers a frame holds.
    """
    count = min(len(leads), max(3, min(FRAMES, EXAMPLE_VALUES // values)))
    return {leads[i * (len(leads) - 1) // max(1, count - 1)] for i in range(count)}


def check_named(model: Surrogate, field: Field, history: int, source: str) -> None:
    """Check that the model can continue the field; an error names where it comes from."""
    try:
        model.check(cut(field, 0, history))
    except MateyError as error:
        raise type(error)(f"{source}: {error}") from error


def rollouts_of(model: Surrogate, system: System, ask: Ask) -> Rollouts:
    """The rollouts on a system's test trajectories that a model is scored on.

    As many frames are left out as when it was trained (windows.stride).
    """
    fields, trained = system.fields, model.specs.get(system.spec.name)
    ratio = trained.dt / fields.spec.dt if trained else 1.0
    stride = round(ratio)
    # dt is read to six digits; other ratios are other data, whose steps are left as they are.
    if stride > 1 and abs(ratio - stride) < 0.01:
        fields = EveryNth(fields, stride)
    test, steps = system.split["test"], ask.steps
    return Rollouts(fields, test, model.history, steps, lead=ask.lead, limit=ask.windows)


def write_example(
    path: Path, truth: Field, plan: RefinementPlan | None, frames: dict[int, Kept], history: int
) -> None:
    """The first rollout of a system, at the leads kept: with the cells of the last frame given,
    and of each frame predicted, one after the other."""
    predicted = list(truth.spec.predicted)
    values = truth.values[history - 1 :, predicted]
    later = [cells(kept.plan) for kept in frames.values()]
    arrays: dict[str, Any] = dict(cells(plan))
    arrays |= {f"step_{name}": np.concatenate([one[name] for one in later]) for name in later[0]}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            truth=values[list(frames)].numpy(),
            prediction=torch.stack([kept.prediction for kept in frames.values()]).numpy(),
            last=values[0].numpy(),
            steps=np.array(list(frames)),
            variables=np.array([truth.spec.variables[i].name for i in predicted]),
            step_cells=np.array([len(one["level"]) for one in later]),
            **arrays,
        )


def cells(plan: RefinementPlan | None) -> dict[str, np.ndarray]:
    """The leaves of a plan's first sample: corner and size [M 3] in grid points, and level [M]."""
    if plan is None:
        empty = np.zeros((0, 3), dtype=np.int32)
        return {"corner": empty, "size": empty, "level": empty[:, 0]}
    leaves = plan.leaves[plan.sample[plan.leaves] == 0]
    arrays = {"corner": plan.corner, "size": plan.size, "level": plan.level}
    return {k: a[leaves].cpu().numpy().astype(np.int32) for k, a in arrays.items()}


def check_folder(out: Path) -> None:
    """Raise ConfigError, before any work, if the results folder cannot be made or written."""
    place = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise ConfigError(f"Results folder {out} cannot be made: {place} is not a folder to write.")
