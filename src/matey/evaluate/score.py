"""Scores on test trajectories: rollouts beside persistence, linear extrapolation and the stencil,
by lead.

Axes: B samples, T times, C variables, (Z, Y, X) grid points.
"""

import logging
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
from jaxtyping import Bool, Int
from torch import Tensor

import matey
from matey.config import DataConfig, require
from matey.data.identity import overlapping
from matey.data.selection import every_nth
from matey.data.systems import System, open_systems
from matey.data.trajectories import described_like
from matey.data.windows import RolloutBatch, Rollouts, cut
from matey.errors import ConfigError, DataError, MateyError
from matey.evaluate.accumulate import ScoreAccumulator
from matey.evaluate.beside import frames_at, stencil_beside
from matey.evaluate.ensembles import EnsembleConfig, check_beside, score_ensembles
from matey.evaluate.protocols import PROTOCOLS, Protocol
from matey.fields import Field, Inputs
from matey.nn.baselines.stencil import StencilModel
from matey.nn.operations import count
from matey.nn.rollout import chosen, continue_inputs, warn_of_leads
from matey.nn.surrogate import Prediction, Surrogate
from matey.output import replacing
from matey.records.descriptions import KEY, sources_of
from matey.records.ranges import Outside, gathered
from matey.records.scores import Scores, SystemScore
from matey.tokens.pack import PACKINGS
from matey.tokens.refine import RefinementPlan

log = logging.getLogger("matey")
FRAMES = 17  # of an example, at most
EXAMPLE_VALUES = 2**24  # numbers on each side of an example, where three frames have not more


@dataclass(frozen=True)
class ScoreConfig:
    """How to score: `steps` dt ahead in steps of `lead` dt, `batch` rollouts at a time and
    `windows` of them per system (none: all), and by which protocol. `seed` shifts the patches of
    a model made with `jitter`, and is that of members. `ensembles` says how these are scored, too
    (none: not at all)."""

    steps: int
    batch: int = 16
    windows: int | None = None
    seed: int = 0
    lead: int = 1
    protocol: Protocol = PROTOCOLS["default"]
    ensembles: EnsembleConfig | None = None

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
    model: Surrogate, name: str, data: DataConfig, config: ScoreConfig, out: str | Path
) -> list[SystemScore]:
    """Score a model on the test trajectories of every system, and write the results.

    Rollouts start from every frame that leaves room for their steps, or from some of these, spread
    evenly over the trajectories. A rollout that stops being finite ends there: its errors are
    infinite from then on.
    `out` receives `scores.json` and, for the pictures of a report, `examples/<system>.npz`, and of
    ensembles `members/<system>.npz`.
    Raises DataError for a system that has no test trajectory or too short ones.
    """
    out = Path(out)
    check_folder(out)
    warn_of_leads(model, [float(config.lead)])
    began, started = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%S%z")
    known = sources_of(model.learned_from.get(KEY, {}), name)
    data = described_like(data, known, name)
    scores = [
        score_system(model, system, config, out)
        for system in open_systems(data, training=False).values()
    ]
    counted = {"name": name, "parameters": count(model)}
    summary = {**counted, **model.summary(), "history": model.history, "seed": config.seed}
    summary |= {} if model.mirrors == "turns" else {"mirrors": model.mirrors}
    provenance = {
        "command": " ".join(["matey", *sys.argv[1:]]),
        "started": started,
        "versions": {"matey": matey.__version__, "torch": torch.__version__},
    }
    took = round(time.monotonic() - began, 2)
    results = Scores(summary, asdict(config.protocol), provenance, took, systems=scores)
    results.save(out / "scores.json")
    return scores


def score_system(model: Surrogate, system: System, config: ScoreConfig, out: Path) -> SystemScore:
    """Roll out from starts on the test trajectories, and compare with what happened."""
    rollouts = rollouts_of(model, system, config)
    if config.ensembles is not None:
        check_beside(model, config.ensembles, rollouts)  # before anything takes long
    scored = sorted({trajectory for trajectory, _ in rollouts.starts})
    seen = seen_in_training(model, system, scored)
    if seen:
        log.warning(
            "%s: the model was trained on %d of the %d trajectories that it is scored on. Such "
            "scores are no test.",
            *(system.spec.name, seen, len(scored)),
        )
    fields, starts = rollouts.fields, rollouts.starts
    leads = list(range(config.lead, rollouts.steps + 1, config.lead))
    spec = fields.spec
    names = [spec.variables[i].name for i in spec.predicted]
    tally, plans = ScoreAccumulator(config.protocol, names, leads), []
    stencil, no_stencil = stencil_beside(model, rollouts)
    grid = fields.trajectories[starts[0][0]].grid.shape
    kept = example_leads(leads, len(names) * prod(grid))
    outside: list[list[Outside]] = []
    file = f"{spec.name}.npz"
    for batch in rollouts.batches(config.batch):
        for (trajectory, _), field in zip(batch.starts, batch.truth, strict=True):
            history = cut(field, 0, model.history)
            outside.append(model.outside(history))
            try:
                model.check(history)
            except MateyError as error:
                raise type(error)(f"{fields.trajectories[trajectory].name}: {error}") from error
        plans.append(model.plan_inputs(batch.inputs))
        frames = roll(model, batch, leads, kept, config.seed, tally, stencil)
        if kept:
            write_example(out / "examples" / file, batch.truth[0], plans[0], frames, model.history)
        kept = set()  # the first batch has the example
    ensembles, how = None, (config.batch, config.seed, out / "members" / file)
    if config.ensembles is not None:
        ensembles = score_ensembles(model, rollouts, config.ensembles, leads, *how)
    score = SystemScore(
        name=spec.name,
        variables=names,
        trajectories=len(scored),
        trained_on=seen,
        windows=tally.rollouts,
        history=model.history,
        grid=grid,
        dt=spec.dt,
        tokens=count_tokens([plan for plan in plans if plan is not None], model.config.mode),
        lead=config.lead,
        steps=leads,
        primary=config.protocol.primary,
        metrics=tally.metrics(),
        correlation=tally.correlation(),
        divergence=tally.divergence(),
        drift=tally.drift(),
        spectra=tally.spectra(),
        seams=tally.seams(),
        no_stencil=no_stencil,
        ensembles=ensembles,
        by_trajectory=tally.by_trajectory([trajectory for trajectory, _ in starts]),
        outside=gathered(outside),
    )
    for line in score.outside_lines:
        log.warning("%s: %s.", spec.name, line)
    return score


def seen_in_training(model: Surrogate, system: System, trajectories: Sequence[int]) -> int | None:
    """How many of some trajectories the model was trained on, wholly or in part; None where it
    does not say what it was trained on."""
    seen = model.learned_from.get("trained_frames")
    return None if seen is None else overlapping(system.fields, trajectories, seen)


def count_tokens(plans: Sequence[RefinementPlan], mode: str) -> dict[str, float]:
    """Tokens per frame: the mean, and with coarse or fine patches only; empty for a model without
    cells. In Adap_Mul a refined cell counts with its coarse token and its fine ones."""
    if not plans:
        return {}
    first = plans[0]
    cells = {"coarse": first.sizes[0], "fine": first.sizes[-1]}
    cost = {key: float(np.prod(np.array(first.grid) // np.array(c))) for key, c in cells.items()}
    used = torch.cat([PACKINGS[mode](plan).tokens for plan in plans])
    return {"mean": float(used.double().mean()), **cost}


def roll(
    model: Surrogate,
    group: RolloutBatch,
    leads: Sequence[int],
    kept: Set[int],
    seed: int,
    tally: ScoreAccumulator,
    stencil: StencilModel | None = None,
) -> dict[int, dict[str, np.ndarray]]:
    """Add a group of rollouts to the tally, with those of the stencil beside.

    Of the first one, at the leads that are kept: the predicted frame [C Z Y X] and the cells that
    it is cut into for the step after it.
    """
    inputs = group.inputs.to(model.device)
    varying, history = list(inputs.spec.predicted), inputs.values.shape[1]
    newest = inputs.held(inputs.values)[:, -2:, varying]
    last, spans = newest[:, -1], group.spans(leads)
    before = group.apart[:, history - 2].to(last)[:, None, None, None, None]
    trend = (last - newest[:, -2]) / before if history > 1 else None  # in one dt
    since = torch.zeros_like(before)
    weights = None if inputs.space is None else inputs.space.volumes
    made: list[Prediction] = []
    steps = continue_inputs(model, inputs, spans, seed, made.append)
    going = torch.ones(len(inputs.values), dtype=torch.bool, device=model.device)
    first: Inputs | None = chosen(inputs, torch.arange(len(going), device=going.device) == 0)
    frames = {}
    patches = None
    beside = frames_at(stencil, inputs, leads, model.device)
    for lead, span, other in zip(leads, spans, beside, strict=True):
        frame = next(steps, None)  # none where every rollout of the group has ended
        predicted = torch.full_like(last, torch.nan) if frame is None else frame[:, varying]
        target = torch.stack([f.values[history - 1 + lead, varying] for f in group.truth])
        since = since + span.to(last)[:, None, None, None, None]
        linear = None if trend is None else last + since * trend
        if frame is not None:
            patches = spread_out(made.pop().patches, going)
            going = frame.flatten(1).isfinite().all(dim=1)
        predicted, target = inputs.held(predicted), inputs.held(target.to(model.device))
        other = None if other is None else inputs.held(other)
        tally.add(lead, predicted, target, last, linear, weights, patches=patches, stencil=other)
        if frame is None or not bool(frame[0].isfinite().all()):
            first = None
        elif kept and first is not None:
            values = torch.cat([first.values[:, 1:], frame[:1, None].to(first.values)], dim=1)
            first = replace(first, values=values)
        if lead in kept:
            plan = None if first is None else model.plan_inputs(first)
            frames[lead] = {"prediction": predicted[0].cpu().numpy(), **cells(plan)}
    tally.end_group()
    return frames


def spread_out(
    patches: Int[Tensor, "going Z Y X"] | None, going: Bool[Tensor, " B"]
) -> Int[Tensor, "B Z Y X"] | None:
    """The patches of the samples that are still going, in their places among all: one patch for
    each of the others."""
    if patches is None:
        return None
    return patches.new_zeros(len(going), *patches.shape[1:]).index_copy(
        0, going.nonzero().squeeze(1), patches
    )


def example_leads(leads: Sequence[int], values: int) -> set[int]:
    """Leads of an example, spread evenly from the first to the last: the fewer, the more `values`
    a frame holds."""
    frames = min(len(leads), max(3, min(FRAMES, EXAMPLE_VALUES // values)))
    return {leads[i * (len(leads) - 1) // max(1, frames - 1)] for i in range(frames)}


def rollouts_of(model: Surrogate, system: System, config: ScoreConfig) -> Rollouts:
    """Rollouts on a system's test trajectories, with the stride that the model was trained on."""
    fields, stride = system.fields, model.stride(system.spec)
    if stride > 1:
        fields = every_nth(fields, stride)
    test, steps = system.split["test"], config.steps
    if not test:
        refuse_untested(model, system)
    return Rollouts(fields, test, model.history, steps, lead=config.lead, limit=config.windows)


def refuse_untested(model: Surrogate, system: System) -> None:
    """Raise DataError for a system without test trajectories: with what they can be got from."""
    count = len(system.fields)
    seen = seen_in_training(model, system, range(count))
    way_out = (
        "Train with `split: {by: time}` in the data config, which keeps the end of each trajectory "
        "for the test, or give trajectories that the model was not trained on."
    )
    if seen == 0:
        way_out = (
            "The model was trained on none of them; to score on all: --data.split.test 1 "
            "--data.split.valid 0."
        )
    raise DataError(
        f"System {system.spec.name!r} has no test trajectory: {count} in all. {way_out}"
    )


def write_example(
    path: Path,
    truth: Field,
    plan: RefinementPlan | None,
    frames: dict[int, dict[str, np.ndarray]],
    history: int,
) -> None:
    """Write the first rollout of a system: its frames, the cells of the last frame before it, and
    those of each frame predicted, one after the other; of stretched grids where the points are."""
    predicted, held = list(truth.spec.predicted), truth.held
    values = truth.values[history - 1 :, predicted].where(held, torch.nan)
    later, arrays = list(frames.values()), dict[str, Any](cells(plan))
    arrays |= {f"step_{name}": np.concatenate([one[name] for one in later]) for name in arrays}
    if truth.grid.stretched:
        edges = [truth.grid.cell_edges(axis).numpy() for axis in range(3)]
        arrays |= dict(zip(("edges_z", "edges_y", "edges_x"), edges, strict=True))
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            truth=values[list(frames)].numpy(),
            prediction=np.where(held, np.stack([one["prediction"] for one in later]), np.nan),
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
    room = torch.tensor(plan.domain, device=leaves.device) - plan.corner
    leaves = leaves[(room[leaves] > 0).all(dim=1)]  # of others the field has no point
    arrays = {"corner": plan.corner, "size": plan.size.minimum(room), "level": plan.level}
    return {k: a[leaves].cpu().numpy().astype(np.int32) for k, a in arrays.items()}


def check_folder(out: Path) -> None:
    """Raise ConfigError, before any work, if the results folder cannot be made or written."""
    place = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise ConfigError(f"Results folder {out} cannot be made: {place} is not a folder to write.")
