"""Normalisation of fields per sample and variable, and back.

Axes: B samples, T times, C variables, (Z, Y, X) grid points.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Statistics:
    """Mean and scale of each variable of each sample, `[B C 1 1 1]`."""

    mean: Float[Tensor, "B C 1 1 1"]
    scale: Float[Tensor, "B C 1 1 1"]

    def normalise(self, fields: Float[Tensor, "B *T C Z Y X"]) -> Float[Tensor, "B *T C Z Y X"]:
        """Dimensionless fields: one frame, or a history."""
        history = fields.ndim == 6
        mean, scale = (s.unsqueeze(1) if history else s for s in (self.mean, self.scale))
        return (fields - mean) / scale

    def restore(self, fields: Float[Tensor, "B C Z Y X"]) -> Float[Tensor, "B C Z Y X"]:
        """One frame in physical units: the inverse of `normalise`."""
        return fields * self.scale + self.mean

    def take(self, variables: tuple[int, ...]) -> "Statistics":
        """The statistics of some of the variables."""
        return Statistics(self.mean[:, list(variables)], self.scale[:, list(variables)])


def measure(history: Float[Tensor, "B T C Z Y X"]) -> Statistics:
    """Mean and standard deviation over time and space.

    The scale has the floor max(1e-6·max|u|, 1e-30): a field of amplitude 1e-6 is normalised
    like one of amplitude 1, and a constant field stays finite. Sums are in float64.
    """
    double = history.double().transpose(1, 2).flatten(2)
    mean = double.mean(dim=2)
    deviation = double.std(dim=2, correction=0)
    floor = (1e-6 * double.abs().amax(dim=2)).clamp(min=1e-30)
    scale = deviation.maximum(floor)
    shape = (*mean.shape, 1, 1, 1)
    return Statistics(mean.to(history).reshape(shape), scale.to(history).reshape(shape))
