"""Scores on test trajectories: rollouts beside persistence, lead by lead.

Axes: B samples, T times, C variables, (Z, Y, X) grid points, S steps.
"""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import DataConfig, require
from matey.data.mixture import System
from matey.data.reader import Fields, open_source
from matey.data.windows import EveryNth, split_trajectories
from matey.errors import ConfigError, DataError, MateyError
from matey.fields import Field, Inputs, stack_fields
from matey.metrics.error import mean_nrmse, nrmse
from matey.nn.model import Matey
from matey.nn.rollout import continue_inputs
from matey.output import replacing, to_json, write_text
from matey.tokens.refine import RefinementPlan

FORMAT = 1


@dataclass(frozen=True)
class SystemScore:
    """Errors of one system, by step of the rollout; NRMSE as in `matey.metrics.error`.

    Where it is undefined, as for a variable that is zero everywhere, it is NaN, in JSON null.

    `windows` rollouts start from frames of `trajectories` test trajectories that leave room for
    all steps: from every such frame, or from as many as were asked for. `tokens` are per frame:
    the mean used, and what uniform coarse and fine patches would cost.
    """

    name: str
    variables: list[str]
    trajectories: int
    windows: int
    history: int
    grid: tuple[int, int, int]
    dt: float
    tokens: dict[str, float]
    lead: float
    steps: list[int]
    nrmse: list[float]
    persistence: list[float]
    by_variable: dict[str, list[float]]
    persistence_by_variable: dict[str, list[float]]


@dataclass(frozen=True)
class Ask:
    """How to score: steps ahead, rollouts at a time and per system, seed of what is random."""

    steps: int
    batch: int
    windows: int | None
    seed: int

    def __post_init__(self) -> None:
        for name in ("steps", "batch"):
            require(getattr(self, name) > 0, name, getattr(self, name), "1 or more")


def evaluate(
    model: Matey,
    name: str,
    data: DataConfig,
    steps: int,
    out: Path,
    batch: int = 16,
    windows: int | None = None,
    seed: int = 0,
) -> list[SystemScore]:
    """Score a model on the test trajectories of every system, and write the results.

    Rollouts of so many `steps` start from every frame that leaves room for them, or from
    `windows` of these per system, spread evenly over its trajectories.
    Only test trajectories are needed. `seed` is of the shifts of the patches, where the model was
    made with `jitter`; else nothing is random.
    `out` receives `scores.json` and, for the pictures of a report, `examples/<system>.npz`.
    Raises DataError for a system that has no test trajectory or too short ones.
    """
    ask = Ask(steps, batch, windows, seed)
    check_folder(out)
    began = time.monotonic()
    scores = [
        score_system(model, system, ask, out / "examples" / f"{system.spec.name}.npz")
        for system in open_for_test(data)
    ]
    config = model.config
    summary: dict[str, Any] = {
        "name": name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "scheme": config.scheme,
        "mode": config.mode,
        "patches": list(config.patches),
        "refine": asdict(config.refine) if len(config.patches) > 1 else None,
        "embed_dim": config.embed_dim,
        "depth": config.depth,
        "history": model.history,
        "seed": seed,
    }
    results = {
        "format": FORMAT,
        "model": summary,
        "seconds": round(time.monotonic() - began, 2),
        "systems": [asdict(score) for score in scores],
    }
    write_text(out / "scores.json", to_json(results, indent=2))
    return scores


def open_for_test(data: DataConfig) -> list[System]:
    """The systems of a data config with their split; nothing need be left to train on."""
    if not data.systems:
        raise DataError(
            "No data given: pass --data mix.yaml (`matey data inspect FILES --write mix.yaml` "
            "writes it)."
        )
    opened = [open_source(source) for source in data.systems]
    return [System(fields, split_trajectories(fields, data.split)) for fields in opened]


def score_system(model: Matey, system: System, ask: Ask, example: Path) -> SystemScore:
    """Roll out from starts on the test trajectories, and compare with what happened."""
    fields, trajectories = with_steps_of(model, system.fields), system.split["test"]
    steps = possible_steps(fields, trajectories, model.history, ask.steps)
    spec = fields.spec
    errors, still, tokens = [], [], []
    starts = choose_starts(fields, trajectories, model.history + steps, ask.windows)
    for trajectory, chosen in starts.items():
        field = fields.read(trajectory)
        check_named(model, field, fields.trajectories[trajectory].name)
        for group in grouped(chosen, ask.batch):
            inputs = histories(field, group, model.history, fields.trajectories[trajectory].name)
            plan = model.plan_inputs(inputs)
            tokens.append(plan.tokens)
            frames = list(continue_inputs(model, inputs, steps, ask.seed))
            truth = field.values.unfold(0, steps, 1)[[s + model.history for s in group]]
            truth = truth.movedim(-1, 1)
            last = inputs.values[:, -1]
            errors.append(by_step(frames, truth, spec.predicted))
            still.append(by_step([last] * steps, truth, spec.predicted))
            if len(errors) == 1:
                shown = sorted({1, (steps + 1) // 2, steps})
                write_example(example, field, plan, frames, truth, last, shown)
    error, persistence = torch.cat(errors), torch.cat(still)
    names = [spec.variables[i].name for i in spec.predicted]
    cells = {"coarse": plan.sizes[0], "fine": plan.sizes[-1]}
    cost = {key: float(np.prod(np.array(plan.grid) // np.array(c))) for key, c in cells.items()}
    return SystemScore(
        name=spec.name,
        variables=names,
        trajectories=len(starts),
        windows=len(error),
        history=model.history,
        grid=plan.grid,
        dt=spec.dt,
        tokens={"mean": float(torch.cat(tokens).double().mean()), **cost},
        lead=1.0,
        steps=list(range(1, steps + 1)),
        nrmse=mean_nrmse(error).tolist(),
        persistence=mean_nrmse(persistence).tolist(),
        by_variable=dict(zip(names, error.nanmean(dim=0).T.tolist(), strict=True)),
        persistence_by_variable=dict(
            zip(names, persistence.nanmean(dim=0).T.tolist(), strict=True)
        ),
    )


def check_named(model: Matey, field: Field, source: str) -> None:
    """Check that the model can continue the field; an error names where it comes from."""
    try:
        model.check(field)
    except MateyError as error:
        raise type(error)(f"{source}: {error}") from error


def with_steps_of(model: Matey, fields: Fields) -> Fields:
    """The fields with as many frames left out as when the model was trained (windows.stride)."""
    known = model.specs.get(fields.spec.name)
    ratio = known.dt / fields.spec.dt if known else 1.0
    stride = round(ratio)
    # dt is read to six digits; other ratios are other data, whose steps are left as they are.
    return EveryNth(fields, stride) if stride > 1 and abs(ratio - stride) < 0.01 else fields


def possible_steps(fields: Fields, trajectories: Sequence[int], history: int, steps: int) -> int:
    """How many of the asked steps the shortest test trajectory can check."""
    if not trajectories:
        raise DataError(
            f"System {fields.spec.name!r} has no test trajectory: {len(fields.trajectories)} in "
            "all. To score on all of them: --data.split.test 1 --data.split.valid 0."
        )
    shortest = min(len(fields.trajectories[i].times) for i in trajectories)
    if shortest <= history:
        raise DataError(
            f"Test trajectories of system {fields.spec.name!r} have {shortest} frames, too few "
            f"for a history of {history} and a frame to check."
        )
    return min(steps, shortest - history)


def choose_starts(
    fields: Fields, trajectories: Sequence[int], frames: int, windows: int | None
) -> dict[int, list[int]]:
    """The first frames of the rollouts on each trajectory, `frames` being what each needs."""
    every = [
        (trajectory, start)
        for trajectory in trajectories
        for start in range(len(fields.trajectories[trajectory].times) - frames + 1)
    ]
    count = len(every) if windows is None else min(windows, len(every))
    starts: dict[int, list[int]] = {}
    for trajectory, start in (every[i * len(every) // count] for i in range(count)):
        starts.setdefault(trajectory, []).append(start)
    return starts


def grouped(starts: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Starts in groups of a batch."""
    for first in range(0, len(starts), size):
        yield starts[first : first + size]


def histories(field: Field, starts: Sequence[int], history: int, source: str) -> Inputs:
    """The histories of a trajectory that begin at some starts, at lead 1."""
    pieces = [
        replace(field, values=field.values[s : s + history], times=field.times[s : s + history])
        for s in starts
    ]
    return stack_fields(pieces, [1.0] * len(pieces), [f"{source} frame {s}" for s in starts])


def by_step(
    frames: Sequence[Float[Tensor, "B C Z Y X"]],
    truth: Float[Tensor, "B S C Z Y X"],
    predicted: tuple[int, ...],
) -> Float[Tensor, "B S P"]:
    """NRMSE of each sample, step and predicted variable."""
    chosen = list(predicted)
    return torch.stack(
        [
            nrmse(frame[:, chosen].to(truth.device), truth[:, step, chosen])
            for step, frame in enumerate(frames)
        ],
        dim=1,
    )


def write_example(
    path: Path,
    field: Field,
    plan: RefinementPlan,
    frames: Sequence[Tensor],
    truth: Tensor,
    last: Tensor,
    shown: Sequence[int],
) -> None:
    """The first rollout of a system, at some steps, with the cells of its first plan."""
    chosen = list(field.spec.predicted)
    leaves = plan.leaves[plan.sample[plan.leaves] == 0]
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            truth=truth[0, [step - 1 for step in shown]][:, chosen].numpy(),
            prediction=torch.stack([frames[step - 1][0, chosen].cpu() for step in shown]).numpy(),
            last=last[0, chosen].numpy(),
            steps=np.array(shown),
            variables=np.array([field.spec.variables[i].name for i in chosen]),
            corner=plan.corner[leaves].cpu().numpy(),
            size=plan.size[leaves].cpu().numpy(),
            level=plan.level[leaves].cpu().numpy(),
        )


def check_folder(out: Path) -> None:
    """Raise ConfigError, before any work, if the results folder cannot be made or written."""
    place = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise ConfigError(f"Results folder {out} cannot be made: {place} is not a folder to write.")
