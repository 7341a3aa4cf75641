"""Normalisation of fields per sample and variable, and back.

Axes: B samples, T times, C variables, (Z, Y, X) grid points.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from matey.fields.grid import Points


@dataclass(frozen=True)
class Statistics:
    """Mean and scale of each variable of each sample, `[B C 1 1 1]`."""

    mean: Float[Tensor, "B C 1 1 1"]
    scale: Float[Tensor, "B C 1 1 1"]

    def normalise(self, fields: Float[Tensor, "B *T C Z Y X"]) -> Float[Tensor, "B *T C Z Y X"]:
        """Make fields dimensionless: one frame, or a history."""
        history = fields.ndim == 6
        mean, scale = (s.unsqueeze(1) if history else s for s in (self.mean, self.scale))
        return (fields - mean) / scale

    def restore(self, fields: Float[Tensor, "B C Z Y X"]) -> Float[Tensor, "B C Z Y X"]:
        """Give one frame its physical units back: the inverse of `normalise`."""
        return fields * self.scale + self.mean

    def take(self, variables: tuple[int, ...]) -> "Statistics":
        """The statistics of the chosen variables."""
        return Statistics(self.mean[:, list(variables)], self.scale[:, list(variables)])


def measure(history: Float[Tensor, "B T C Z Y X"], points: Points | None = None) -> Statistics:
    """Mean and standard deviation over time and space.

    On stretched grids, whose `points` are given, points are weighted by their volume, as in errors:
    a wall at which they are clustered does not count more.
    The scale has the floor max(1e-6·max|u|, 1e-30): a field of amplitude 1e-6 is normalised
    like one of amplitude 1, and a constant field stays finite. Sums are in float64.
    """
    axes = (1, 3, 4, 5)

    def total(values: Tensor) -> Tensor:
        return values.sum(dim=axes, keepdim=True, dtype=torch.float64)

    least, most = history.amin(dim=axes, keepdim=True), history.amax(dim=axes, keepdim=True)
    if points is None:
        mean = history.mean(dim=axes, keepdim=True, dtype=torch.float64)
        offset = history - mean.to(history)
        norm = torch.linalg.vector_norm(offset, dim=axes, keepdim=True, dtype=torch.float64)
        power = norm.square() / history[0, :, 0].numel()
        rounding = offset.mean(dim=axes, keepdim=True, dtype=torch.float64)  # of the mean
    else:
        share = (points.volumes[:, None] / history.shape[1]).to(history)
        mean = total(history * share)
        offset = history - mean.to(history)
        power, rounding = total(offset.square() * share), total(offset * share)
    power = (power - rounding.square()).clamp(min=0)
    # A root has no slope at 0, where a field is constant: gradients pass through frames of a model.
    still = power == 0
    deviation = power.masked_fill(still, 1).sqrt().masked_fill(still, 0)
    floor = (1e-6 * least.abs().maximum(most.abs()).double()).clamp(min=1e-30)
    scale = deviation.maximum(floor)
    return Statistics(mean.to(history).squeeze(1), scale.to(history).squeeze(1))
