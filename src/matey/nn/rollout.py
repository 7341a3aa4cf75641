"""Rollout: each predicted frame becomes part of the history for the next.

Axes: B samples, T times, C variables, (Z, Y, X) grid points.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import require
from matey.errors import DivergenceError
from matey.fields import Field, Inputs, Stacked, stack_fields

if TYPE_CHECKING:
    from matey.nn.model import Matey


def rollout_steps(
    model: "Matey", field: Field, steps: int, lead_time: float = 1.0, seed: int = 0
) -> Iterator[Field]:
    """The frames after a field's last, one at a time, on the field's own device.

    Memory does not grow with `steps`. `seed` is of the shifts of the patches, where the model
    was made with `jitter`; else nothing is random. Raises DivergenceError, with the step, where a
    prediction stops being finite; ConfigError for no step or a lead time that is not above 0.
    """
    require(steps > 0, "steps", steps, "1 or more")
    require(0 < lead_time < math.inf, "lead_time", lead_time, "a number above 0, in dt")
    return _rollout_steps(model, field, steps, lead_time, seed)


def _rollout_steps(
    model: "Matey", field: Field, steps: int, lead_time: float, seed: int
) -> Iterator[Field]:
    """The same, step by step: what is asked was checked when it was asked."""
    recent = slice(len(field) - model.history, None)
    history = replace(field, values=field.values[recent], times=field.times[recent])
    inputs = stack_fields([history], [lead_time], [field.spec.name])
    time = field.times[-1:]
    for step, frame in enumerate(continue_inputs(model, inputs, steps, seed), start=1):
        if not bool(frame.isfinite().all()):
            raise DivergenceError(
                f"The rollout of system {field.spec.name!r} stopped being finite at step {step} "
                f"of {steps}. Ask for fewer steps, or train the model longer."
            )
        time = time + lead_time * field.spec.dt
        yield replace(field, values=frame.to(field.values), times=time)


def continue_inputs(
    model: "Matey", inputs: Inputs, steps: int, seed: int = 0
) -> Iterator[Float[Tensor, "B C Z Y X"]]:
    """The same for many histories at once, on the model's device; static variables stay."""
    inputs = known_parameters(model, inputs).to(model.norm.weight.device)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        inputs = advance(model, inputs, generator)
        yield inputs.values[:, -1]


@torch.no_grad()
def advance(model: "Matey", inputs: Stacked, generator: torch.Generator | None = None) -> Stacked:
    """The inputs one lead time later: the model's own frame is the last of the history.

    `generator` draws the shift of the patches, where the model was made with `jitter`.
    """
    was_training = model.training
    model.eval()
    prediction = model(inputs, model.draw_shift(inputs, generator)).fields
    model.train(was_training)
    frame = inputs.values[:, -1].clone()
    frame[:, list(inputs.spec.predicted)] = prediction
    return replace(inputs, values=torch.cat([inputs.values[:, 1:], frame[:, None]], dim=1))


def known_parameters(model: "Matey", inputs: Inputs) -> Inputs:
    """The inputs with only those parameters that the model has seen in training."""
    names = inputs.spec.parameters
    known = [i for i, name in enumerate(names) if name in model.conditioning.names]
    if len(known) == len(names):
        return inputs
    spec = replace(inputs.spec, parameters=tuple(names[i] for i in known))
    return replace(inputs, spec=spec, parameters=inputs.parameters[:, known])


def join(frames: Sequence[Field]) -> Field:
    """Consecutive fields of one trajectory as one."""
    values = torch.cat([frame.values for frame in frames])
    times = torch.cat([frame.times for frame in frames])
    return replace(frames[0], values=values, times=times)
