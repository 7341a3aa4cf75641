"""Ensembles on test trajectories: of a model that has members, and of perturbed histories that a
deterministic model goes on from, beside that by itself.

Axes: M members, B rollouts, T times, C variables, P points, S steps, (Z, Y, X) grid points.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import require
from matey.data.windows import RolloutBatch, Rollouts
from matey.errors import ConfigError, MateyError
from matey.fields import Inputs
from matey.metrics import ensemble, error
from matey.metrics.error import mean
from matey.nn.rollout import Noise, continue_inputs
from matey.nn.surrogate import Surrogate
from matey.output import replacing
from matey.records.ensembles import EnsembleCurve, EnsembleScore, EnsembleScores
from matey.tokens.normalise import measure
from matey.words import plural

PERTURBED = 7  # the seeds of perturbed histories are no members'
PLACES = (0.25, 0.5, 0.75)  # of the points that an example follows, along each axis


@dataclass(frozen=True)
class EnsembleConfig:
    """How ensembles are scored: with so many `members`; `perturb` is how many standard deviations
    of each variable the noise in perturbed histories is. `beside` is the deterministic model, by
    default the model without noise, and `name` what it is called."""

    members: int
    perturb: float = 0.01
    beside: Surrogate | None = None
    name: str = ""

    def __post_init__(self) -> None:
        require(self.members > 1, "members", self.members, "2 or more")
        require(0 < self.perturb < 1, "perturb", self.perturb, "a number between 0 and 1")


@dataclass
class Tally:
    """What the scores of an ensemble are made of, by lead: lists of [B C] and ranks."""

    members: int
    rows: dict[str, list[list[Tensor]]] = field(default_factory=dict)

    def add(
        self,
        place: int,
        members: Float[Tensor, "M B C Z Y X"],
        target: Float[Tensor, "B C Z Y X"],
        weights: Float[Tensor, "B 1 Z Y X"] | None,
    ) -> None:
        """Score a frame of a group of rollouts at the lead of this place."""
        middle = members.double().mean(0)
        scores = {
            "crps": ensemble.crps(members, target, weights),
            "energy": ensemble.energy_score(members, target, weights),
            "error": error.mse(middle, target, weights),
            "variance": ensemble.mean_variance(members, weights),
            "ranks": ensemble.ranks(members, target, weights).movedim(0, -1),
        }
        for name, score in scores.items():
            leads = self.rows.setdefault(name, [])
            while len(leads) <= place:
                leads.append([])
            leads[place].append(score.cpu())

    def score(self, variables: Sequence[str], perturbed: float | None) -> EnsembleScore:
        """The scores of all rollouts."""
        means = {
            name: torch.stack([torch.cat(rows).mean(dim=0) for rows in leads])  # [S C ...]
            for name, leads in self.rows.items()
        }
        ratio = ensemble.spread_over_error(means["variance"], means["error"], self.members)
        inside = ensemble.coverage(means["ranks"].movedim(-1, 0))
        curves = {
            variable: EnsembleCurve(
                means["crps"][:, i].tolist(),
                means["energy"][:, i].tolist(),
                means["error"][:, i].sqrt().tolist(),
                ratio[:, i].tolist(),
                inside[:, i].tolist(),
                means["ranks"][:, i].mean(dim=0).tolist(),
            )
            for i, variable in enumerate(variables)
        }
        nominal = ensemble.nominal_coverage(self.members)
        return EnsembleScore(self.members, nominal, curves, perturbed)


def score_ensembles(
    model: Surrogate,
    rollouts: Rollouts,
    config: EnsembleConfig,
    leads: Sequence[int],
    batch: int,
    seed: int,
    example: Path,
) -> EnsembleScores:
    """Roll ensembles out from the starts of rollouts, and compare with what happened.

    `example` receives members of the first rollout at a few points and over the domain, and maps of
    their spread. Raises what `check_beside` does.
    """
    check_beside(model, config, rollouts)
    single = model if config.beside is None else config.beside.to(model.device)
    spec = rollouts.fields.spec
    names = [spec.variables[i].name for i in spec.predicted]
    ours, perturbed = Tally(config.members), Tally(config.members)
    errors: list[list[tuple[Tensor, Tensor]]] = [[] for _ in leads]
    for number, group in enumerate(rollouts.batches(batch)):
        inputs = group.inputs.to(model.device)
        weights = None if inputs.space is None else inputs.space.volumes
        sides = [
            frames_of(single, inputs, group.spans(leads), seed, [None]),
            perturbed_frames(single, group, leads, seed, config),
            member_frames(model, group, leads, seed, config.members),
        ]
        shown = Example(group, leads) if number == 0 else None
        for place, lead in enumerate(leads):
            target = torch.stack([f.values[model.history - 1 + lead] for f in group.truth])
            target = inputs.held(target[:, list(spec.predicted)].to(model.device))
            alone, moved, members = (next(side, None) for side in sides)
            assert alone is not None
            assert moved is not None
            score = error.mae(alone[0], target, weights), error.rmse(alone[0], target, weights)
            errors[place].append((score[0].cpu(), score[1].cpu()))
            perturbed.add(place, moved, target, weights)
            if members is not None:
                ours.add(place, members, target, weights)
            if shown is not None:
                shown.add(moved if members is None else members, target, weights)
        if shown is not None:
            shown.write(example)
    mae, rmse = (
        torch.stack([torch.cat([pair[i] for pair in rows]).mean(dim=0) for rows in errors])
        for i in range(2)
    )
    return EnsembleScores(
        config.name or "the model without noise",
        {name: mae[:, i].tolist() for i, name in enumerate(names)},
        {name: rmse[:, i].tolist() for i, name in enumerate(names)},
        ours.score(names, None) if model.config.noise else None,
        perturbed.score(names, config.perturb),
    )


def check_beside(model: Surrogate, config: EnsembleConfig, rollouts: Rollouts) -> None:
    """Raise ConfigError for a deterministic model of another history, and DataError or ShapeError
    for one that cannot be given the fields of these rollouts."""
    single = config.beside
    if single is None:
        return
    if single.history != model.history:
        raise ConfigError(
            f"{config.name} is given {plural(single.history, 'frame')}, the model "
            f"{model.history}: they do not stand beside each other. Name another --beside."
        )
    fields = rollouts.fields
    try:
        single.check_system(fields.spec)
        for trajectory in {trajectory for trajectory, _ in rollouts.starts}:
            single.check_grid(fields.trajectories[trajectory].grid, fields.spec)
    except MateyError as error:
        raise type(error)(f"{config.name}, --beside the model: {error}") from error


def frames_of(
    model: Surrogate,
    inputs: Inputs | Sequence[Inputs],
    spans: Sequence[Float[Tensor, " B"]],
    seed: int,
    noises: Sequence[Noise | None],
) -> Iterator[Float[Tensor, "M B C Z Y X"]]:
    """The predicted variables after each span of time, of each noise; NaN where a rollout has
    ended. Members are rolled out side by side, each by itself: none depends on how many there
    are."""
    each = [inputs] * len(noises) if isinstance(inputs, Inputs) else inputs
    rolls = [
        continue_inputs(model, one, spans, seed, noise=noise)
        for one, noise in zip(each, noises, strict=True)
    ]
    varying = list(each[0].spec.predicted)
    lost = torch.full_like(each[0].values[:, -1, varying], torch.nan)
    for _ in spans:
        frames = [next(roll, None) for roll in rolls]
        yield torch.stack(
            [
                lost if frame is None else one.held(frame[:, varying])
                for one, frame in zip(each, frames, strict=True)
            ]
        )


def member_frames(
    model: Surrogate, group: RolloutBatch, leads: Sequence[int], seed: int, members: int
) -> Iterator[Float[Tensor, "M B C Z Y X"]]:
    """The frames of a model's own members; nothing of a model that has none."""
    if model.config.noise:
        noises = [model.noise_of(member, seed, group.starts) for member in range(members)]
        inputs = group.inputs.to(model.device)
        yield from frames_of(model, inputs, group.spans(leads), seed, noises)


def perturbed_frames(
    model: Surrogate,
    group: RolloutBatch,
    leads: Sequence[int],
    seed: int,
    config: EnsembleConfig,
) -> Iterator[Float[Tensor, "M B C Z Y X"]]:
    """The frames of a model after histories with white noise, drawn anew for each member."""
    inputs = group.inputs.to(model.device)
    moving = list(inputs.spec.predicted)
    size = config.perturb * measure(inputs.held(inputs.values), inputs.space).scale[:, None, moving]
    shape = inputs.values[0, :, moving].shape
    changed = []
    for member in range(config.members):
        noise = Noise(prod(shape), seed + PERTURBED, member, group.starts).draw()
        values = inputs.values.clone()
        values[:, :, moving] += size * noise.view(-1, *shape).to(values)
        changed.append(replace(inputs, values=values))
    yield from frames_of(model, changed, group.spans(leads), seed, [None] * config.members)


class Example:
    """The members of a group's first rollout: at a few points and in the mean over the domain at
    all leads, with maps of the spread and of the error of the mean at first, middle and last."""

    def __init__(self, group: RolloutBatch, leads: Sequence[int]) -> None:
        truth = group.truth[0]
        self.leads, self.arrays = list(leads), dict[str, list[np.ndarray]]()
        self.names = [truth.spec.variables[i].name for i in truth.spec.predicted]
        self.points = [
            tuple(int(place * count) if count > 1 else 0 for count in truth.grid.shape)
            for place in PLACES
        ]
        self.mapped = sorted({0, (len(leads) - 1) // 2, len(leads) - 1})
        self.held = truth.held
        self.place = 0

    def add(
        self,
        members: Float[Tensor, "M B C Z Y X"],
        target: Float[Tensor, "B C Z Y X"],
        weights: Float[Tensor, "B 1 Z Y X"] | None,
    ) -> None:
        """Keep what is shown of a frame."""
        ours, truth = members[:, 0], target[:1]
        share = None if weights is None else weights[:1]
        z, y, x = (list(index) for index in zip(*self.points, strict=True))
        kept = {
            "members": ours[:, :, z, y, x],
            "truth": truth[0, :, z, y, x],
            "member_means": torch.stack([mean(one[None], share)[0] for one in ours]),
            "truth_mean": mean(truth, share)[0],
        }
        if self.place in self.mapped:
            away = (ours.mean(0) - truth[0]).abs()
            held = self.held.to(away.device)
            kept |= {
                "spread": ours.std(0).where(held, torch.nan),
                "error": away.where(held, torch.nan),
            }
        for name, values in kept.items():
            self.arrays.setdefault(name, []).append(values.cpu().float().numpy())
        self.place += 1

    def write(self, path: Path) -> None:
        """Write the arrays, steps first: members are [S M C P], means [S M C], maps [K C Z Y X]."""
        stacked: dict[str, Any] = {name: np.stack(rows) for name, rows in self.arrays.items()}
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                steps=np.array(self.leads),
                mapped=np.array([self.leads[i] for i in self.mapped]),
                variables=np.array(self.names),
                points=np.array(self.points),
                **stacked,
            )
