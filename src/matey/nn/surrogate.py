"""What training, rollouts and scores ask of a model: the transformer, or a baseline.

Axes: B samples, T times, C variables, P predicted variables, (Z, Y, X) grid points.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from matey.config import ModelConfig, require
from matey.errors import ConfigError, DataError
from matey.fields import Ensemble, Field, Grid, Inputs, SystemSpec, Variable
from matey.fields.mirrors import mirror, signs
from matey.nn import rollout
from matey.nn.adapters.stored import Base
from matey.nn.block import Layout
from matey.nn.compatibility import differences, differences_of_grid, outside, stride_of
from matey.nn.embed import Conditioning
from matey.nn.operations import Cost
from matey.nn.rollout import Leads, Noise
from matey.records.ranges import KEY, Outside
from matey.tokens.keep import check_kept, keep_totals
from matey.tokens.lattice import Triple, patch_shape
from matey.tokens.normalise import Statistics, moved
from matey.tokens.pack import Packing
from matey.tokens.refine import RefinementPlan

if TYPE_CHECKING:
    from matey.nn.baselines.stencil import Yardstick

log = logging.getLogger("matey")
Made = TypeVar("Made", bound="Prediction")


@dataclass(frozen=True)
class Prediction:
    """A predicted frame of the variables that change in time.

    `normalised` is dimensionless, `statistics` turns it into physical units. `base` is what the
    coarse cells alone predict, in Adap_Mul.
    """

    normalised: Float[Tensor, "B P Z Y X"]
    statistics: Statistics
    base: Float[Tensor, "B P Z Y X"] | None = None

    @property
    def fields(self) -> Float[Tensor, "B P Z Y X"]:
        """The frame in physical units."""
        return self.statistics.restore(self.normalised)

    @property
    def tokens(self) -> int:
        """Tokens of each frame, of all samples together; 0 of a model without any."""
        return 0

    @property
    def patches(self) -> Int[Tensor, "B Z Y X"] | None:
        """The number of the patch that each grid point lies in; None of a model without any."""
        return None

    def mirrored(self: Made, axes: Sequence[int], variables: Sequence[Variable]) -> Made:
        """The same of the predicted `variables` mirrored across some axes, 0 to 2."""
        known, base = self.statistics, self.base
        return replace(
            self,
            normalised=mirror(self.normalised, axes, variables),
            statistics=replace(known, mean=known.mean * signs(known.mean, axes, variables)),
            base=None if base is None else mirror(base, axes, variables),
        )


@dataclass(frozen=True, kw_only=True)
class TokenPrediction(Prediction):
    """What the transformer predicts, and from which tokens of a lattice moved by `shift`, of inputs
    that were mirrored across some axes, 0 to 2."""

    layout: Layout
    shift: Triple = (0, 0, 0)
    across: tuple[int, ...] = ()

    @property
    def packing(self) -> Packing:
        """Which cells the tokens were."""
        return self.layout.packing

    @property
    def tokens(self) -> int:
        """Tokens of each frame, of all samples together."""
        return len(self.packing.cell)

    @property
    def plan(self) -> RefinementPlan:
        """Which cells were refined."""
        return self.packing.plan

    @property
    def patches(self) -> Int[Tensor, "B Z Y X"]:
        """The number of the leaf cell that each grid point lies in."""
        z, y, x = self.shift
        labels = moved(self.plan.labels, (-z, -y, -x))
        return labels.flip([axis - 3 for axis in self.across])

    def mirrored(self, axes: Sequence[int], variables: Sequence[Variable]) -> "TokenPrediction":
        return replace(super().mirrored(axes, variables), across=tuple(axes))


class Surrogate(nn.Module, ABC):
    """A model that continues fields in time: its last frames in, the frame at a lead time out.

    `history` frames are given. `specs` are the systems that it has weights for.
    """

    conditioning: Conditioning
    blocks: nn.ModuleList

    def __init__(self, config: ModelConfig, history: int) -> None:
        super().__init__()
        self.config = config
        self.history = history
        self.specs: dict[str, SystemSpec] = {}
        self.activation_checkpointing = False
        self.mirrors: rollout.Mirrors = "turns"  # of rollouts, where training had them
        self.trained_leads: tuple[float, float] | None = None  # least and most, in dt; if known
        self.source = ""  # the path that it was loaded from
        self.learned_from: dict[str, dict[str, Any]] = {}  # what is known of the data, by system
        self.yardstick: Yardstick | None = None  # the stencils that its scores stand beside
        self.base: Base | None = None  # the model that its adapters are for, and are kept beside

    @abstractmethod
    def add_systems(self, specs: Sequence[SystemSpec]) -> None:
        """Make the weights that new systems need. What is there stays as it is."""

    @abstractmethod
    def unused(self, spec: SystemSpec) -> list[nn.Parameter]:
        """The weights that no batch of a system reaches."""

    @abstractmethod
    def cost(self, inputs: Inputs, prediction: Prediction) -> Cost:
        """Operations of the step that made a prediction."""

    @abstractmethod
    def check_system(self, spec: SystemSpec) -> None:
        """Raise DataError unless the model has the weights for a system."""

    def hears(self, parameter: str) -> bool:
        """Whether a parameter of this name has been part of training."""
        return parameter in self.conditioning.names

    def check_grid(self, grid: Grid, spec: SystemSpec) -> None:
        """Raise ShapeError unless the model can be given fields on a grid."""

    def plan_inputs(self, inputs: Inputs) -> RefinementPlan | None:
        """The cells that histories are cut into; None of a model that takes fields whole."""
        return None

    def kept(self, made: Made, inputs: Inputs) -> Made:
        """A prediction with what its system conserves kept, where `config.keep` says so; of a crop
        as it is, since a part of a domain conserves nothing."""
        keep = self.config.keep.get(inputs.spec.name)
        if keep is None or inputs.crop is not None:
            return made
        frame = keep_totals(made.normalised, made.statistics, inputs, keep)
        return replace(made, normalised=frame)

    def draw_shift(self, inputs: Inputs, generator: torch.Generator | None = None) -> Triple:
        """How far to shift what the model makes of periodic axes: no shift by itself."""
        return (0, 0, 0)

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """What kind of model it is, as it stands in `scores.json`."""

    @abstractmethod
    def cells(self) -> str:
        """What fields are cut into, in words."""

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    def patches(self, ndim: int) -> tuple[Triple, ...]:
        """The patch shape of each level, for fields of so many dimensions."""
        return tuple(patch_shape(ndim, patch) for patch in self.config.patches)

    def compile_blocks(self, backend: str | Callable[..., Any] = "inductor") -> None:
        """Compile the blocks for any size of input."""
        for block in self.blocks:
            block.compile(dynamic=True, backend=backend)

    def rollout_steps(
        self,
        field: Field,
        steps: int,
        lead_time: Leads = 1.0,
        seed: int = 0,
        watch: rollout.Watch = rollout.ignore,
        *,
        member: int | None = None,
    ) -> Iterator[Field]:
        """The frames after a field's last, one at a time, each from those before it.

        `lead_time` is the time between them in units of the system's dt, a number or one for each
        step; `seed` matters only for a model made with `jitter`, and for a `member` of an ensemble,
        which is the same whichever others there are; `watch` is shown every `Prediction`. Warns of
        what lies outside of training. Raises DivergenceError, with the step, where a frame is not
        finite; ConfigError for a member of a model that has none.
        """
        noise = None if member is None else self.noise_of(member, seed)
        field = self.thinned(field)
        self.check(field)
        for found in self.outside(field):
            log.warning("%s: %s.", field.spec.name, found)
        provenance = {
            "model": self.source,
            "initial": field.provenance.get("source", ""),
            "cells": self.cells(),
            "lead_time": str(lead_time),
            "seed": str(seed),
            "mirrors": rollout.told_mirrors(self, field.spec),
        }
        field = replace(field, provenance={name: text for name, text in provenance.items() if text})
        return rollout.rollout_steps(self, field, steps, lead_time, seed, watch, noise)

    @overload
    def rollout(self, field: Field, steps: int, lead_time: Leads = 1.0, seed: int = 0) -> Field: ...

    @overload
    def rollout(
        self,
        field: Field,
        steps: int,
        lead_time: Leads = 1.0,
        seed: int = 0,
        *,
        members: int,
    ) -> Ensemble: ...

    def rollout(
        self,
        field: Field,
        steps: int,
        lead_time: Leads = 1.0,
        seed: int = 0,
        *,
        members: int | None = None,
    ) -> Field | Ensemble:
        """The `steps` frames after the last of a field, as one field with its provenance; or as an
        ensemble of so many `members`, of a model that was trained for it. The first members of a
        larger ensemble are those of a smaller one."""
        require(members is None or members > 1, "members", members, "2 or more")
        tokens: list[int] = []
        how = steps, lead_time, seed, lambda made: tokens.append(made.tokens)
        made = [
            rollout.join(list(self.rollout_steps(field, *how, member=member)))
            for member in ([None] if members is None else range(members))
        ]
        told = {**made[0].provenance, "tokens_per_frame": said(tokens)}
        fields = tuple(replace(one, provenance=told) for one in made)
        return fields[0] if members is None else Ensemble(fields)

    def noise_of(
        self, member: int, seed: int = 0, places: Sequence[tuple[int, ...]] = ((0, 0),)
    ) -> Noise:
        """The noise of a member of an ensemble, for samples at some places (`matey.nn.rollout`).

        Raises ConfigError of a model that was not trained for it.
        """
        if not self.config.noise:
            raise ConfigError(
                "The model was not trained for ensembles: it predicts one frame, whatever the "
                "member. Fine-tune it: matey finetune RUN --loss crps."
            )
        return Noise(self.config.noise, seed, member, places)

    def check(self, field: Field) -> None:
        """Raise DataError or ShapeError unless the model can continue the field.

        Warns of what it ignores, and of units, time steps, sides and spacing that it was not
        trained on.
        """
        spec = field.spec
        self.check_system(spec)
        if len(field) < self.history:
            raise DataError(
                f"{len(field)} frames of system {spec.name!r} were given, the model needs "
                f"{self.history}. Give it a longer field."
            )
        if not bool(field.values[-self.history :].isfinite().all()):
            raise DataError(
                f"The last {self.history} frames of system {spec.name!r} hold values that are not "
                "finite: nothing can be predicted from them."
            )
        self.check_grid(field.grid, spec)
        check_kept(self.config.keep, spec, field.grid, field.boundaries)
        specs = list(self.specs.values())
        for difference in differences(spec, specs, self.learned_from.get(KEY, {})):
            log.warning(difference)
        for difference in differences_of_grid(field, specs, self.learned_from):
            log.warning(difference)
        for name in spec.parameters:
            if not self.hears(name):
                log.warning("Parameter %r is new to the model, and is ignored.", name)

    def stride(self, spec: SystemSpec) -> int:
        """How many steps of the data of a system make one of the model."""
        return stride_of(spec, self.specs, self.learned_from.get(KEY, {}))

    def needed(self, spec: SystemSpec) -> int:
        """Frames of a system's data that the history of the model reaches over."""
        return (self.history - 1) * self.stride(spec) + 1

    def thinned(self, field: Field) -> Field:
        """The history in a field with steps as long as the model's, where the field's are a whole
        fraction of them and it is long enough; else the field as it is."""
        stride, first = self.stride(field.spec), len(field) - self.needed(field.spec)
        if stride == 1 or first < 0:
            return field
        log.info(
            "%s: the model's steps are %d of the data's. Its history is every %d. frame, and so "
            "are those that it predicts.",
            *(field.spec.name, stride, stride),
        )
        frames, spec = slice(first, None, stride), replace(field.spec, dt=stride * field.spec.dt)
        return replace(field, values=field.values[frames], times=field.times[frames], spec=spec)

    def outside(self, field: Field) -> list[Outside]:
        """What of a field's last frames, its history, lies outside of what the model was trained
        on: values, gradients, time step, spacing and parameters, farthest from the range of each.

        Empty where all is within, and where the model does not say what its ranges were.
        """
        recent = slice(max(0, len(field) - self.history), None)
        history = replace(field, values=field.values[recent], times=field.times[recent])
        return outside(history, self.specs.values(), self.learned_from.get(KEY, {}))


def said(tokens: Sequence[int]) -> str:
    """How many tokens frames had: their mean, and the range if they differ."""
    mean, least, most = f"{sum(tokens) / len(tokens):.0f}", min(tokens), max(tokens)
    return f"{mean} ({least} to {most})" if least < most else mean
