"""The least-squares stencil that scores stand beside, where one was fitted.

Axes: B samples, P predicted variables, (Z, Y, X) grid points.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from matey.data.windows import Rollouts
from matey.fields import Inputs
from matey.nn.baselines.stencil import StencilModel, yardstick_of
from matey.nn.rollout import continue_inputs
from matey.nn.surrogate import Surrogate


def stencil_beside(model: Surrogate, rollouts: Rollouts) -> tuple[StencilModel | None, str]:
    """The stencil to score beside a model on some rollouts, or None and why."""
    if isinstance(model, StencilModel):
        return None, "the model is a stencil"
    if not all(rollouts.even.values()):
        return None, "its steps are of unequal length, and a stencil is fitted to equal ones"
    yardstick, fields = yardstick_of(model), rollouts.fields
    if yardstick is None:
        return None, (
            "none was kept with the model, which is older than that: matey train --baseline "
            "stencil fits one"
        )
    for trajectory in dict.fromkeys(trajectory for trajectory, _ in rollouts.starts):
        why = yardstick.serves(fields.spec, fields.trajectories[trajectory].grid)
        if why:
            return None, why
    return yardstick.model, ""


def frames_at(
    stencil: StencilModel | None, inputs: Inputs, leads: Sequence[int], device: torch.device
) -> Iterator[Float[Tensor, "B P Z Y X"] | None]:
    """What a stencil predicts at each lead, in steps of one dt; NaN from where it stops being
    finite. None at each lead where there is no stencil."""
    if stencil is None:
        yield from [None] * len(leads)
        return
    varying = list(inputs.spec.predicted)
    steps = continue_inputs(stencil.to(device), inputs, [1.0] * leads[-1])
    lost = torch.full_like(inputs.values[:, -1, varying], torch.nan).to(device)
    for lead in range(1, leads[-1] + 1):
        frame = next(steps, None)
        if lead in leads:
            yield lost if frame is None else frame[:, varying]
