"""Normalisation of fields per sample and variable, and back.

Axes: B samples, T times, C variables, (Z, Y, X) grid points.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Num
from torch import Tensor

from matey.fields import Inputs, Points
from matey.tokens.lattice import Triple
from matey.tokens.regions import slowest, spans, strip


@dataclass(frozen=True)
class Statistics:
    """Mean and scale of each variable of each sample, `[B C 1 1 1]`."""

    mean: Float[Tensor, "B C 1 1 1"]
    scale: Float[Tensor, "B C 1 1 1"]

    def normalise(self, fields: Float[Tensor, "B *T C Z Y X"]) -> Float[Tensor, "B *T C Z Y X"]:
        """Make fields dimensionless: one frame, or a history."""
        history = fields.ndim == 6
        mean, scale = (s.unsqueeze(1) if history else s for s in (self.mean, self.scale))
        offset = fields - mean
        return offset / scale if torch.is_grad_enabled() else offset.div_(scale)

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
    axes, along = (1, 3, 4, 5), slowest(history.shape)
    parts = split(history, along)
    shares: Sequence[Tensor | None] = [None] * len(parts)
    if points is not None:
        shares = split((points.volumes[:, None] / history.shape[1]).to(history), along)
    both = list(zip(parts, shares, strict=True))

    def average(values: Tensor, share: Tensor | None) -> Tensor:
        """What a strip adds to the mean over time and space."""
        if share is not None:
            return (values * share).sum(dim=axes, keepdim=True, dtype=torch.float64)
        mean = values.mean(dim=axes, keepdim=True, dtype=torch.float64)
        return mean * (values.shape[along] / history.shape[along])

    def squares(values: Tensor, share: Tensor | None) -> Tensor:
        """What it adds to the mean square."""
        if share is not None:
            return average(values.square(), share)
        norm = torch.linalg.vector_norm(values, dim=axes, keepdim=True, dtype=torch.float64)
        return norm.square() / history[0, :, 0].numel()

    least = torch.stack([part.amin(dim=axes, keepdim=True) for part in parts]).amin(dim=0)
    most = torch.stack([part.amax(dim=axes, keepdim=True) for part in parts]).amax(dim=0)
    mean = torch.stack([average(*each) for each in both]).sum(dim=0)
    power, rounding = mean.new_zeros(()), mean.new_zeros(())  # of the offsets, and of the mean
    for part, share in both:
        offset = part - mean.to(history)
        power = power + squares(offset, share)
        rounding = rounding + average(offset, share)
    power = (power - rounding.square()).clamp(min=0)
    # A root has no slope at 0, where a field is constant: gradients pass through frames of a model.
    still = power == 0
    deviation = power.masked_fill(still, 1).sqrt().masked_fill(still, 0)
    floor = (1e-6 * least.abs().maximum(most.abs()).double()).clamp(min=1e-30)
    scale = deviation.maximum(floor)
    return Statistics(mean.to(history).squeeze(1), scale.to(history).squeeze(1))


def split(values: Tensor, axis: int) -> list[Tensor]:
    """The regions that values are worked on in: views."""
    return [strip(values, axis, rows) for rows in spans(values.shape[axis])]


def moved(fields: Num[Tensor, "*axes Z Y X"], shift: Triple) -> Num[Tensor, "*axes Z Y X"]:
    """The fields shifted by so many points along Z, Y and X, what leaves at one side back in."""
    return fields.roll(shift, (-3, -2, -1)) if any(shift) else fields


def normalised(
    inputs: Inputs, shift: Triple = (0, 0, 0)
) -> tuple[Statistics, Float[Tensor, "B T C Z Y X"]]:
    """The statistics of histories, and the fields without units, shifted by so many points."""
    statistics = measure(inputs.held(inputs.values), inputs.space)
    fields, at = inputs.held(statistics.normalise(inputs.values)), inputs.spec.mask
    if at is not None and inputs.mask is not None:
        fields[:, :, at] = inputs.mask.to(fields)  # 1 and 0, and not over a deviation of zero
    return statistics, moved(fields, shift)
