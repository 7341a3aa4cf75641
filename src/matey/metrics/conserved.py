"""Quantities that a system may conserve: the mean and the mean square of each variable.

Axes: B samples, C variables, (Z, Y, X) grid points.

The domain mean is the integral over the volume, per volume: mass if the variable is a density,
momentum if it is a momentum density. On a stretched grid `weights` are the points' shares of the
volume. For a velocity and constant density the mean square is twice the kinetic energy. Whether
a system conserves either depends on its equations and boundaries: no law is assumed, and the
truth's values are reported beside the prediction's.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from matey.metrics.error import Weights, infinite_if_nan, mean


def domain_mean(
    fields: Float[Tensor, "B C Z Y X"], weights: Weights = None
) -> Float[Tensor, "B C"]:
    """Mean over the domain, in the variable's units."""
    return mean(fields.double(), weights)


def mean_square(
    fields: Float[Tensor, "B C Z Y X"], weights: Weights = None
) -> Float[Tensor, "B C"]:
    """Mean square over the domain, in the variable's units squared."""
    return mean(fields.double().square(), weights)


def mean_error(
    prediction: Float[Tensor, "B C Z Y X"],
    target: Float[Tensor, "B C Z Y X"],
    weights: Weights = None,
) -> Float[Tensor, "B C"]:
    """Error of the domain mean: |mean p − mean t|, in the variable's units.

    Source: arXiv:2210.07182, appendix B (cRMSE): |Σ p − Σ t| / N over N grid points.
    """
    return infinite_if_nan((domain_mean(prediction, weights) - domain_mean(target, weights)).abs())


def energy_error(
    prediction: Float[Tensor, "B C Z Y X"],
    target: Float[Tensor, "B C Z Y X"],
    weights: Weights = None,
) -> Float[Tensor, "B C"]:
    """Relative error of the mean square: |mean p² − mean t²| / mean t². NaN where t is zero."""
    size = mean_square(target, weights)
    apart = infinite_if_nan((mean_square(prediction, weights) - size).abs())
    return torch.where(size == 0, torch.nan, apart / size)
