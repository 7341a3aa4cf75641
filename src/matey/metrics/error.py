"""Errors of predicted fields, point by point.

Axes: B samples, C variables, (Z, Y, X) grid points. Every score is of one frame, per sample and
variable, over all grid points, in float64. A prediction that is not finite is infinitely wrong.

On a stretched grid `weights` are the points' shares of the domain's volume, and means are over
that: an integral by the midpoint rule. Without them all points count alike. Extremes, and errors
at the boundary, are over points on any grid. Where there is no field, as on land, weights are zero
and fields are to be given as zero: such points are in no score.
"""

import torch
from jaxtyping import Float
from torch import Tensor

SPACE = (-3, -2, -1)

Fields = Float[Tensor, "B C Z Y X"]
Scores = Float[Tensor, "B C"]
Weights = Float[Tensor, "B 1 Z Y X"] | None  # sum to 1 over space


def mean(values: Fields, weights: Weights = None) -> Scores:
    """The mean over space."""
    if weights is None:
        return values.mean(dim=SPACE)
    return (values * weights.to(values)).sum(dim=SPACE)


def mse(prediction: Fields, target: Fields, weights: Weights = None) -> Scores:
    """Mean squared error: mean (p − t)²."""
    return infinite_if_nan(mean((prediction.double() - target.double()).square(), weights))


def rmse(prediction: Fields, target: Fields, weights: Weights = None) -> Scores:
    """Root-mean-square error √(mean (p − t)²), in the variable's units.

    Source: arXiv:2210.07182, appendix B; arXiv:2412.00568.
    """
    return mse(prediction, target, weights).sqrt()


def nrmse(prediction: Fields, target: Fields, eps: float = 0.0, weights: Weights = None) -> Scores:
    """Normalised root-mean-square error √(mean (p − t)² / (mean t² + ε)).

    0 is exact; 1 is as bad as predicting zero. ε is in the variable's units squared; without it
    the score is NaN where the target is zero everywhere, as the velocity of water at rest.
    Source: arXiv:2210.07182, appendix B (ε = 0); the Well's package (ε = 1e-7).
    """
    power = mean(target.double().square(), weights)
    return root_ratio(mse(prediction, target, weights), power, eps)


def vrmse(
    prediction: Fields,
    target: Fields,
    eps: float = 0.0,
    correction: int = 0,
    weights: Weights = None,
) -> Scores:
    """Variance-scaled root-mean-square error √(mean (p − t)² / (var t + ε)).

    1 is as bad as predicting the domain mean, so that a large constant background does not make
    errors look small. `correction` is of the variance: 0 divides by the number of points, 1 by
    one less. Without ε it is NaN where the target is constant.
    Source: arXiv:2412.00568 (ε = 1e-7); its package estimates the variance with correction 1.
    """
    error, spread = mse(prediction, target, weights), variance(target, correction, weights)
    return root_ratio(error, spread, eps)


def mae(prediction: Fields, target: Fields, weights: Weights = None) -> Scores:
    """Mean absolute error: mean |p − t|, in the variable's units."""
    return infinite_if_nan(mean((prediction.double() - target.double()).abs(), weights))


def max_error(prediction: Fields, target: Fields) -> Scores:
    """Largest absolute error: max |p − t|, in the variable's units.

    Source: arXiv:2210.07182, appendix B.
    """
    return infinite_if_nan((prediction.double() - target.double()).abs().amax(dim=SPACE))


def boundary_rmse(prediction: Fields, target: Fields, weights: Weights = None) -> Scores:
    """Root-mean-square error over the outermost grid points of every axis, periodic or not.

    An axis of one point has no boundary. Points of weight zero are left out; NaN where there are
    no others. In the variable's units.
    Source: arXiv:2210.07182, appendix B (bRMSE).
    """
    edge = on_boundary(target)
    square = (prediction.double() - target.double())[..., edge].square()
    if weights is None or bool((weights > 0).all()):
        return infinite_if_nan(square.mean(dim=-1)).sqrt()
    held = (weights > 0)[..., edge]
    count = held.sum(dim=-1)
    error = infinite_if_nan((square * held).sum(dim=-1) / count.clamp(min=1)).sqrt()
    return torch.where(count > 0, error, torch.nan)


def correlation(
    prediction: Fields,
    target: Fields,
    eps: float = 0.0,
    correction: int = 0,
    weights: Weights = None,
) -> Scores:
    """Pearson's correlation over space: mean (p − mean p)(t − mean t) / (std p · std t + ε).

    Without ε it is NaN where the target is constant. A prediction that is constant or not finite
    has the correlation 0.
    Source: the Well's package, which takes ε = 1e-7 and `correction` 1 in the deviations only.
    """
    p, t = prediction.double(), target.double()
    covariance = mean(offset(p, weights) * offset(t, weights), weights)
    var_p, var_t = variance(p, correction, weights), variance(t, correction, weights)
    r = covariance / ((var_p * var_t).sqrt() + eps)
    r = torch.where(var_p.isfinite() & (var_p > 0), r, 0.0)
    return torch.where((var_t == 0) & (eps == 0), torch.nan, r)


def variance(fields: Fields, correction: int = 0, weights: Weights = None) -> Scores:
    """Variance over space, divided by the number of points less `correction`."""
    if weights is None:
        return fields.double().var(dim=SPACE, correction=correction)
    points = (weights > 0).sum(dim=SPACE)
    square = mean(offset(fields.double(), weights).square(), weights)
    return square * points / (points - correction)


def offset(fields: Fields, weights: Weights = None) -> Fields:
    """The fields less their means over space."""
    return fields - mean(fields, weights)[..., None, None, None]


def on_boundary(fields: Fields) -> Tensor:
    """Which grid points [Z Y X] lie at an end of an axis of more than one point."""
    edge = torch.zeros(fields.shape[-3:], dtype=torch.bool, device=fields.device)
    for axis in range(3):
        if edge.shape[axis] > 1:
            ends = torch.tensor([0, edge.shape[axis] - 1], device=fields.device)
            edge.index_fill_(axis, ends, True)
    return edge


def root_ratio(error: Tensor, scale: Tensor, eps: float) -> Tensor:
    """√(error / (scale + ε)); NaN where scale + ε is zero."""
    scale = scale + eps
    return torch.where(scale == 0, torch.nan, (error / scale).sqrt())


def infinite_if_nan(error: Tensor) -> Tensor:
    """The error, with infinity for NaN: that of a prediction that is not finite."""
    return error.nan_to_num(nan=torch.inf, posinf=torch.inf)


def mean_score(scores: Float[Tensor, "B *S C"]) -> Float[Tensor, "*S"]:
    """The mean over samples, then over variables, of the scores that are defined.

    Whether one is depends on the target alone, so that a model and persistence are averaged over
    the same samples. NaN where it is never defined.
    """
    return scores.nanmean(dim=0).nanmean(dim=-1)
