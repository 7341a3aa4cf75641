"""Rollout: each predicted frame becomes part of the history for the next.

What makes members of an ensemble differ is noise, numbers that a model is told. Each member of each
sample has a stream of standard normal numbers, a function of the seed, the member and the sample
alone: a member is the same whatever it is computed with. At the first step of a rollout all numbers
are drawn; then half of them stay, as those of a model that errs in a way of its own, and half are
drawn anew at each step.

A model that was trained on mirror images of a system (`windows.flip`) sees it in another mirror at
each step of a rollout, and what it makes is mirrored back: the first step as it is, the second
mirrored across all those axes, and so on through all mirrors. What it errs by in the same way at
each step has another direction in each of them, and adds up no longer. That is `turns`, and costs
nothing; `mean` is the mean of what it makes in all mirrors, at each step.

Axes: B samples, T times, C variables, W numbers of noise, (Z, Y, X) grid points.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from matey.config import require
from matey.errors import DivergenceError
from matey.fields import Field, Inputs, SystemSpec, Variable, stack_fields
from matey.fields.inputs import Stacked
from matey.fields.mirrors import AXES
from matey.tokens.lattice import Triple

log = logging.getLogger("matey")

MIRRORS = "mirrors"  # of what a model folder says of its training: axes by system
STAY = 0.5  # of the numbers of noise, over a rollout
Leads = float | Sequence[float]
Mirrors = Literal["turns", "mean", "none"]
Watch = Callable[[Any], None]  # of predictions


class Noise:
    """The streams of a member, one for each sample, whose `places` are numbers that tell it from
    others: by default all of them are the only one of their kind."""

    def __init__(
        self, width: int, seed: int, member: int, places: Sequence[tuple[int, ...]] = ((0, 0),)
    ) -> None:
        require(seed >= 0, "seed", seed, "0 or more")
        self.width = width
        self.streams = [
            np.random.default_rng(np.random.SeedSequence([seed, member, *place]))
            for place in places
        ]

    def draw(self) -> Float[Tensor, "B W"]:
        """The next numbers of all samples."""
        rows = [stream.standard_normal(self.width, dtype=np.float32) for stream in self.streams]
        return torch.from_numpy(np.stack(rows))


@runtime_checkable
class Model(Protocol):
    """The part of a model that a rollout uses: every `Surrogate` has it."""

    training: bool
    history: int
    trained_leads: tuple[float, float] | None
    specs: dict[str, SystemSpec]
    learned_from: dict[str, dict[str, Any]]
    mirrors: Mirrors

    @property
    def device(self) -> torch.device: ...
    def hears(self, parameter: str) -> bool: ...
    def draw_shift(self, inputs: Inputs, generator: torch.Generator | None) -> Triple: ...
    def kept(self, made: Any, inputs: Inputs) -> Any: ...
    def __call__(self, inputs: Inputs, shift: Triple) -> Any: ...
    def train(self, mode: bool = True) -> Any: ...


def ignore(prediction: Any) -> None:
    """Watch nothing."""


def rollout_steps(
    model: Model,
    field: Field,
    steps: int,
    lead_time: Leads = 1.0,
    seed: int = 0,
    watch: Watch = ignore,
    noise: Noise | None = None,
) -> Iterator[Field]:
    """The frames after a field's last, one at a time, on the field's own device.

    `lead_time` is the time to the next frame in units of the system's dt: a number, or one for
    each step. With leads other than 1 the history is spaced unlike in training from the second step
    on. Memory does not grow with `steps`. `seed` shifts the patches of a model made with `jitter`,
    and `noise` is that of a member of an ensemble; else nothing is random. `watch` gets every
    prediction. Raises DivergenceError, with step and
    time, where a prediction is not finite; ConfigError for no step or a lead that is not above 0.
    """
    leads = schedule(steps, lead_time)
    warn_of_leads(model, leads)
    return _rollout_steps(model, field, leads, seed, watch, noise)


def _rollout_steps(
    model: Model,
    field: Field,
    leads: Sequence[float],
    seed: int,
    watch: Watch,
    noise: Noise | None,
) -> Iterator[Field]:
    """The generator of `rollout_steps`, which checks its arguments at once."""
    recent = slice(len(field) - model.history, None)
    history = replace(field, values=field.values[recent], times=field.times[recent])
    inputs = stack_fields([history], [leads[0]], [field.spec.name])
    time = field.times[-1:]
    for step, frame in enumerate(continue_inputs(model, inputs, leads, seed, watch, noise)):
        time = time + leads[step] * field.spec.dt
        if not bool(frame.isfinite().all()):
            raise DivergenceError(
                f"The rollout of system {field.spec.name!r} stopped being finite at step "
                f"{step + 1} of {len(leads)}, t = {float(time):g}. Ask for fewer steps, or train "
                "the model longer."
            )
        # A copy: a view would keep the whole history alive.
        yield replace(field, values=frame.to(field.values, copy=True), times=time)


def schedule(steps: int, lead_time: Leads) -> tuple[float, ...]:
    """The lead time of each step. Raises ConfigError for no step, or leads that do not fit."""
    require(steps > 0, "steps", steps, "1 or more")
    leads = [lead_time] * steps if isinstance(lead_time, int | float) else list(lead_time)
    require(len(leads) == steps, "lead_time", leads, f"a number, or one for each of {steps} steps")
    for lead in leads:
        require(0 < lead < math.inf, "lead_time", lead, "a number above 0, in dt")
    return tuple(float(lead) for lead in leads)


def warn_of_leads(model: Model, leads: Sequence[float]) -> None:
    """Warn of lead times that the model was not trained on, if it says which it was."""
    if model.trained_leads is None:
        return
    least, most = model.trained_leads
    trained = f"{least:g} dt" if least == most else f"{least:g} to {most:g} dt"
    for lead in dict.fromkeys(leads):
        if not least <= lead <= most:
            log.warning(
                f"A lead time of {lead:g} dt was asked for, but the model was trained on {trained}."
            )


def continue_inputs(
    model: Model,
    inputs: Inputs,
    leads: Sequence[float] | Sequence[Float[Tensor, " B"]],
    seed: int = 0,
    watch: Watch = ignore,
    noise: Noise | None = None,
) -> Iterator[Float[Tensor, "B C Z Y X"]]:
    """The frames after many histories at once, on the model's device; static variables stay. They
    are a member's of an ensemble where `noise` is given, with a stream for each of them. A lead
    is the same for all of them, or one for each.

    A sample whose prediction stops being finite is left out of later steps: its frames there are
    NaN. Ends early when no sample is left.
    """
    inputs = known_parameters(model, inputs).to(model.device)
    generator = torch.Generator().manual_seed(seed)
    going = torch.arange(len(inputs.values), device=inputs.values.device)
    shape = inputs.values[:, -1].shape
    for lead, across in zip(leads, cycle(mirrors_of(model, inputs.spec)), strict=False):
        each = torch.as_tensor(lead).to(inputs.lead_time).expand(shape[0])
        inputs = replace(inputs, lead_time=each[going])
        if noise is not None:
            inputs = renewed(inputs, noise.draw()[going.cpu()])
        inputs = advance(model, inputs, generator, watch, across)
        frame = inputs.values[:, -1]
        finite = frame.flatten(1).isfinite().all(dim=1)
        if len(going) == shape[0]:
            yield frame
        else:
            yield frame.new_full(shape, torch.nan).index_copy(0, going, frame)
        if not bool(finite.all()):
            going, inputs = going[finite], chosen(inputs, finite)
            if not len(going):
                return


def chosen(inputs: Inputs, samples: Bool[Tensor, " B"]) -> Inputs:
    """The inputs of some samples."""
    return replace(
        inputs,
        values=inputs.values[samples],
        lead_time=inputs.lead_time[samples],
        boundaries=inputs.boundaries[samples],
        parameters=inputs.parameters[samples],
        sources=tuple(
            source for source, kept in zip(inputs.sources, samples.tolist(), strict=True) if kept
        ),
        points=inputs.points.take(samples) if inputs.points else None,
        spacing=None if inputs.spacing is None else inputs.spacing[samples],
        noise=None if inputs.noise is None else inputs.noise[samples],
        crop=inputs.crop.take(samples) if inputs.crop else None,
    )


@torch.no_grad()
def advance(
    model: Model,
    inputs: Stacked,
    generator: torch.Generator | None = None,
    watch: Watch = ignore,
    across: Sequence[Sequence[int]] = ((),),
) -> Stacked:
    """The inputs one lead time later: the model's own frame is the last of the history.

    `generator` draws the shift of the patches, where the model was made with `jitter`. The model is
    given the inputs mirrored `across` axes, 0 to 2; where there are several mirrors, its frame is
    the mean of what it makes in each.
    """
    was_training = model.training
    model.train(False)
    made = [seen_across(model, inputs, axes, generator) for axes in across]
    prediction = made[0]
    if len(made) > 1:
        mean = torch.stack([each.normalised for each in made]).mean(dim=0)
        prediction = model.kept(replace(prediction, normalised=mean), inputs)
    model.train(was_training)
    watch(prediction)
    return followed(inputs, prediction.fields)


def seen_across(
    model: Model, inputs: Inputs, axes: Sequence[int], generator: torch.Generator | None
) -> Any:
    """What a model predicts of inputs that are mirrored across some axes, mirrored back."""
    if not axes:
        return model(inputs, model.draw_shift(inputs, generator))
    variables = known_variables(model, inputs.spec)
    seen = inputs.mirrored(axes, variables)
    prediction = model(seen, model.draw_shift(seen, generator))
    return prediction.mirrored(axes, [variables[i] for i in inputs.spec.predicted])


def letters_of(model: Model, spec: SystemSpec) -> str:
    """The axes, of x, y and z, that a system is mirrored across in rollouts of a model: those of
    its training. None where it is not known what a mirror does to a variable."""
    known = all(variable.pseudo is not None for variable in known_variables(model, spec))
    learned = model.learned_from.get(MIRRORS, {}).get(spec.name, ())
    return "".join(learned) if known and model.mirrors != "none" else ""


def told_mirrors(model: Model, spec: SystemSpec) -> str:
    """The mirrors of a system's rollouts in a word: `xy turns`; empty where there are none."""
    letters = letters_of(model, spec)
    return f"{letters} {model.mirrors}" if letters else ""


def mirrors_of(model: Model, spec: SystemSpec) -> list[tuple[tuple[int, ...], ...]]:
    """The mirrors, sets of axes 0 to 2, that a system is seen in at each step of a rollout, in
    turn: none, then all axes, and so each set of them followed by the others. Of the mean all are
    seen at each step."""
    sets: list[tuple[int, ...]] = [()]
    for letter in reversed(letters_of(model, spec)):
        sets += [(*axes, AXES.index(letter)) for axes in sets]
    opposites = zip(sets, reversed(sets), strict=True)  # the last is the first's, and so on
    mirrors = [axes for pair in opposites for axes in pair][: len(sets)]
    return [tuple(mirrors)] if model.mirrors == "mean" else [(axes,) for axes in mirrors]


def known_variables(model: Model, spec: SystemSpec) -> tuple[Variable, ...]:
    """A system's variables, and what the model knows of those that are not said to be true or
    pseudo."""
    learned = model.specs[spec.name].variables if spec.name in model.specs else ()
    known = {variable.name: variable.pseudo for variable in learned}
    return tuple(
        replace(each, pseudo=known.get(each.name)) if each.pseudo is None else each
        for each in spec.variables
    )


def followed(inputs: Stacked, prediction: Float[Tensor, "B P Z Y X"]) -> Stacked:
    """The inputs one frame later: the prediction is the last of the history."""
    frame = inputs.values[:, -1].clone()
    varying = list(inputs.spec.predicted)
    if inputs.mask is not None:  # where there is no field, what stands there stays
        prediction = torch.where(inputs.mask, prediction, frame[:, varying])
    frame[:, varying] = prediction
    values = torch.cat([inputs.values[:, 1:], frame[:, None]], dim=1)
    crop = inputs.crop and replace(inputs.crop, steps=inputs.crop.steps + 1)
    return replace(inputs, values=values, crop=crop)


def drawn(inputs: Stacked, width: int) -> Stacked:
    """The inputs of the next step of training with so many numbers from torch's own generator; as
    they are for a model that is told none."""
    return renewed(inputs, torch.randn(len(inputs.values), width)) if width else inputs


def renewed(inputs: Stacked, fresh: Float[Tensor, "B W"]) -> Stacked:
    """The inputs of the next step, which is told the numbers that stay, and fresh ones."""
    fresh = fresh.to(inputs.values)
    if inputs.noise is not None:
        stay = round(STAY * fresh.shape[1])
        fresh = torch.cat([inputs.noise[:, :stay], fresh[:, stay:]], dim=1)
    return replace(inputs, noise=fresh)


def known_parameters(model: Model, inputs: Inputs) -> Inputs:
    """The inputs with only those parameters that the model has seen in training."""
    names = inputs.spec.parameters
    learned = [i for i, name in enumerate(names) if model.hears(name)]
    if len(learned) == len(names):
        return inputs
    spec = replace(inputs.spec, parameters=tuple(names[i] for i in learned))
    return replace(inputs, spec=spec, parameters=inputs.parameters[:, learned])


def join(frames: Sequence[Field]) -> Field:
    """Consecutive fields of one trajectory as one."""
    values = torch.cat([frame.values for frame in frames])
    times = torch.cat([frame.times for frame in frames])
    return replace(frames[0], values=values, times=times)
