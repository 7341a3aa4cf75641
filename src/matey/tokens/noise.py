"""Noise in the histories of training, so that a rollout's own errors are no news to a model.

Axes: B samples, T times, C variables, (Z, Y, X) grid points.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from matey.fields import Batch
from matey.tokens.normalise import measure

NODES = 8  # of smooth noise along each axis


def disturbed(batch: Batch, noise: float, past: float = 0.0) -> Batch:
    """The batch with noise in the variables that change in time.

    `noise` is of every frame, in standard deviations of each variable. Source: Sanchez-Gonzalez et
    al. (2020), arXiv:2002.09405, section 4. `past` is of all frames but the last: what changed from
    each of them to the last is multiplied by 1 + past · r, with one smooth random field r for each
    sample and variable.
    """
    if not noise and not past:
        return batch
    moving = list(batch.spec.predicted)
    values = batch.values.clone()
    if past:
        last = values[:, -1:, moving]
        change = last - values[:, :-1, moving]
        values[:, :-1, moving] = last - change * (1 + past * smooth(last))
    if noise:
        scale = measure(batch.held(batch.values), batch.space).scale[:, None, moving]
        values[:, :, moving] += noise * scale * torch.randn_like(values[:, :, moving])
    return replace(batch, values=values)


def smooth(like: Float[Tensor, "B 1 C Z Y X"]) -> Float[Tensor, "B 1 C Z Y X"]:
    """Random fields with a mean square of 1, linear between a few nodes along each axis."""
    samples, _, variables, *points = like.shape
    nodes = [min(NODES, count) for count in points]
    drawn = torch.randn(samples, variables, *nodes, dtype=like.dtype, device=like.device)
    fields = nn.functional.interpolate(drawn, points, mode="trilinear", align_corners=False)
    return (fields / fields.square().mean(dim=(-3, -2, -1), keepdim=True).sqrt())[:, None]
