"""Scores on test trajectories: rollouts beside persistence, lead by lead.

Axes: B samples, T times, C variables, (Z, Y, X) grid points, S steps.
"""

import json
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

from matey.config import DataConfig
from matey.data.mixture import System, open_systems
from matey.data.reader import Fields
from matey.data.windows import EveryNth
from matey.errors import ConfigError, DataError
from matey.fields import Field, Inputs, stack_fields
from matey.metrics.error import nrmse
from matey.nn.model import Matey
from matey.nn.rollout import continue_inputs
from matey.tokens.refine import RefinementPlan

FORMAT = 1


@dataclass(frozen=True)
class SystemScore:
    """Errors of one system, by step of the rollout; NRMSE as in `matey.metrics.error`.

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


def evaluate(
    model: Matey,
    name: str,
    data: DataConfig,
    steps: int,
    out: Path,
    batch: int = 16,
    windows: int | None = None,
) -> list[SystemScore]:
    """Score a model on the test trajectories of every system, and write the results.

    Rollouts of so many `steps` start from every frame that leaves room for them, or from
    `windows` of these per system, spread evenly over its trajectories.
    `out` receives `scores.json` and, for the pictures of a report, `examples/<system>.npz`.
    Raises DataError for a system that has no test trajectory or too short ones.
    """
    prepare_folder(out)
    began = time.monotonic()
    systems = open_systems(data)
    scores = [
        score_system(
            model, system, steps, batch, windows, out / "examples" / f"{system.spec.name}.npz"
        )
        for system in systems.values()
    ]
    config = model.config
    summary: dict[str, Any] = {
        "name": name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "scheme": config.scheme,
        "mode": config.mode,
        "patches": list(config.patches),
        "threshold": config.refine.threshold,
        "embed_dim": config.embed_dim,
        "depth": config.depth,
        "history": model.history,
    }
    results = {
        "format": FORMAT,
        "model": summary,
        "seconds": round(time.monotonic() - began, 2),
        "systems": [asdict(score) for score in scores],
    }
    temporary = out / f".scores.{os.getpid()}"
    temporary.write_text(json.dumps(results, indent=2) + "\n")
    temporary.replace(out / "scores.json")
    return scores


def score_system(
    model: Matey, system: System, steps: int, batch: int, windows: int | None, example: Path
) -> SystemScore:
    """Roll out from starts on the test trajectories, and compare with what happened."""
    fields, trajectories = with_steps_of(model, system.fields), system.split["test"]
    steps = possible_steps(fields, trajectories, model.history, steps)
    spec = fields.spec
    errors, still, tokens = [], [], []
    starts = choose_starts(fields, trajectories, model.history + steps, windows)
    for trajectory, chosen in starts.items():
        field = fields.read(trajectory)
        model.check(field)
        for group in grouped(chosen, batch):
            inputs = histories(field, group, model.history, fields.trajectories[trajectory].name)
            plan = model.plan_inputs(inputs)
            tokens.append(plan.tokens)
            frames = list(continue_inputs(model, inputs, steps))
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
        nrmse=error.mean(dim=(0, 2)).tolist(),
        persistence=persistence.mean(dim=(0, 2)).tolist(),
        by_variable=dict(zip(names, error.mean(dim=0).T.tolist(), strict=True)),
        persistence_by_variable=dict(zip(names, persistence.mean(dim=0).T.tolist(), strict=True)),
    )


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
            "all. Raise data.split.test."
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
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = list(field.spec.predicted)
    leaves = plan.leaves[plan.sample[plan.leaves] == 0]
    np.savez_compressed(
        path,
        truth=truth[0, [step - 1 for step in shown]][:, chosen].numpy(),
        prediction=torch.stack([frames[step - 1][0, chosen].cpu() for step in shown]).numpy(),
        last=last[0, chosen].numpy(),
        steps=np.array(shown),
        variables=np.array([field.spec.variables[i].name for i in chosen]),
        corner=plan.corner[leaves].cpu().numpy(),
        size=plan.size[leaves].cpu().numpy(),
        level=plan.level[leaves].cpu().numpy(),
    )


def prepare_folder(out: Path) -> None:
    """Make the results folder. Raises ConfigError if that cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"Results folder {out} cannot be made: {error.strerror}.") from error
