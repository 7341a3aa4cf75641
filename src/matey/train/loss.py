"""What training minimises: the NRMSE of normalised fields, squared unless asked otherwise, or the
CRPS of an ensemble.

Axes: M members, B samples, C variables, (Z, Y, X) grid points.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import LossConfig
from matey.fields import Batch
from matey.fields.grid import Points
from matey.metrics.ensemble import fair_crps
from matey.nn.surrogate import Prediction
from matey.tokens.normalise import Statistics

# A target that is still at the history's mean has no scale of its own. Normalised fields have
# variance 1: below a thousandth of that, an error counts as absolute.
EPSILON = 1e-3
LEAST = 1e-30  # in place of a volume without points
STILL = 1e6  # a target so many times as large as its history: that was rounding, or nothing
SMALL = 1e-5  # an NRMSE that is as good as none: roots and logarithms have a slope there


def squared_nrmse(
    prediction: Float[Tensor, "B C Z Y X"],
    target: Float[Tensor, "B C Z Y X"],
    weights: Float[Tensor, "B 1 Z Y X"] | None = None,
) -> Float[Tensor, ""]:
    """Mean over samples and variables of `squares`."""
    return squares(prediction, target, weights).mean()


def state_error(
    prediction: Float[Tensor, "B C Z Y X"],
    target: Float[Tensor, "B C Z Y X"],
    weights: Float[Tensor, "B 1 Z Y X"] | None,
    of: str,
) -> Float[Tensor, ""]:
    """The squared NRMSE, the mean NRMSE over samples and variables, or the logarithm of that."""
    if of == "square":
        return squared_nrmse(prediction, target, weights)
    root = (squares(prediction, target, weights) + SMALL**2).sqrt().mean()
    return root if of == "root" else root.log()


def squares(
    prediction: Float[Tensor, "B C Z Y X"],
    target: Float[Tensor, "B C Z Y X"],
    weights: Float[Tensor, "B 1 Z Y X"] | None = None,
) -> Float[Tensor, "B C 1 1 1"]:
    """MSE / (EPSILON + mean target²) of each sample and variable.

    Both are normalised by the history. Numbers are scaled before they are squared, so that
    a variable at rest in the history and moving in the target stays finite. `weights`, which sum
    to 1 over space, are the points' shares of the domain on stretched grids: what is minimised is
    what is scored.
    Source: arXiv:2412.20601, section 4.
    """
    prediction, target = prediction.float(), target.float()
    points = (-3, -2, -1)
    scale = target.abs().amax(dim=points, keepdim=True).clamp(min=1)
    error = mean_over(((prediction - target) / scale).square(), weights)
    power = mean_over((target / scale).square(), weights)
    return error / (EPSILON / scale / scale + power)


def batch_loss(
    prediction: Float[Tensor, "B C Z Y X"],
    base: Float[Tensor, "B C Z Y X"] | None,
    target: Float[Tensor, "B C Z Y X"],
    config: LossConfig,
    points: Points | None = None,
) -> Float[Tensor, ""]:
    """The error of normalised fields, and the terms that the config asks for.

    `base` is what the coarse tokens alone predict, where there is such a thing; `points` are
    those of stretched or masked grids, on which means are over the volume that holds a field, and
    of crops, away from cuts.
    """
    weights = None if points is None else points.volumes
    loss = state_error(prediction, target, weights, config.of)
    if config.base and base is not None:
        loss = loss + config.base * state_error(base, target, weights, config.of)
    if config.gradient:
        axes = [axis for axis in (-3, -2, -1) if target.shape[axis] > 1]
        slopes = [slope_error(prediction, target, axis, points) for axis in axes]
        loss = loss + config.gradient * sum(slopes) / len(axes)
    if config.conservation:
        drift = mean_over(prediction.float() - target.float(), weights)
        loss = loss + config.conservation * drift.square().mean()
    return loss


def loss_of(prediction: Prediction, batch: Batch, config: LossConfig) -> Float[Tensor, ""]:
    """The loss on the variables that change in time, normalised as the history."""
    if config.of == "crps":
        return ensemble_loss(prediction, batch, config.members)
    target = batch.target[:, list(batch.spec.predicted)]
    target = where_moving(prediction.statistics, target).normalise(target)
    ours, base = batch.held(prediction.normalised), prediction.base
    base = None if base is None else batch.held(base)
    return batch_loss(ours, base, batch.held(target), config, batch.judged)


def ensemble_loss(prediction: Prediction, batch: Batch, members: int) -> Float[Tensor, ""]:
    """The fair CRPS over the root mean square of the target, its mean over samples and variables,
    where each sample stands in the batch so many times, one after the other: once for each member.

    Members whose histories differ, as in a rollout, are measured by the normalisation of the first.
    """
    target = batch.target[:, list(batch.spec.predicted)]
    own = prediction.statistics
    first = Statistics(own.mean[::members], own.scale[::members])
    first = where_moving(first, target[::members])
    mean, scale = (part.repeat_interleave(members, 0) for part in (first.mean, first.scale))
    # Not by way of physical units, in which a large mean would round off what is small.
    ours = prediction.normalised.float() * (own.scale / scale) + (own.mean - mean) / scale
    target = batch.held((target - mean) / scale)[::members]
    apart = batch.held(ours).unflatten(0, (-1, members)).movedim(1, 0)
    weights = None if batch.judged is None else batch.judged.volumes[::members]
    size = target.abs().amax(dim=(-3, -2, -1), keepdim=True).clamp(min=1)
    power = EPSILON / size / size + mean_over((target / size).square(), weights)
    error = mean_over(fair_crps(apart, target), weights)
    return (error / (size * power.sqrt())).mean()


def where_moving(statistics: Statistics, target: Float[Tensor, "B C Z Y X"]) -> Statistics:
    """Statistics through which no gradient flows where a variable was still and the target is not,
    as a component of velocity before a front arrives: its slope would be too large a number."""
    with torch.no_grad():
        size = statistics.normalise(target).abs().amax(dim=(-3, -2, -1), keepdim=True)
        still = size > STILL
    parts = (statistics.mean, statistics.scale)
    return Statistics(*(torch.where(still, part.detach(), part) for part in parts))


def slope_error(
    prediction: Float[Tensor, "B C Z Y X"],
    target: Float[Tensor, "B C Z Y X"],
    axis: int,
    points: Points | None,
) -> Float[Tensor, ""]:
    """The squared NRMSE of differences between neighbours along an axis (-3, -2 or -1); on
    stretched grids of slopes per mean step, each with the volume between its two points."""
    change, expected = prediction.diff(dim=axis), target.diff(dim=axis)
    if points is None:
        return squared_nrmse(change, expected)
    steps = points.centres[axis].diff(dim=1)
    shape = [len(steps), 1, 1, 1, 1]
    shape[axis] = -1
    edges = points.edges[axis]
    whole = edges[:, -1:] - edges[:, :1]
    length = (steps / whole * target.shape[axis]).reshape(shape).to(target)
    sizes = edges.diff(dim=1).reshape(shape)
    across = (points.volumes / sizes).narrow(axis, 0, steps.shape[1])
    weights = across * steps.reshape(shape)
    if points.mask is not None:  # both neighbours
        weights = weights * points.mask.narrow(axis, 1, steps.shape[1])
    whole = weights.sum(dim=(-3, -2, -1), keepdim=True)
    weights = weights / (whole if points.mask is None else whole.clamp(min=LEAST))
    return squared_nrmse(change / length, expected / length, weights)


def mean_over(
    values: Float[Tensor, "B C Z Y X"], weights: Float[Tensor, "B 1 Z Y X"] | None
) -> Float[Tensor, "B C 1 1 1"]:
    """The mean over space, by the points' shares of it where they are not all alike."""
    space = (-3, -2, -1)
    if weights is None:
        return values.mean(dim=space, keepdim=True)
    return (values * weights.to(values)).sum(dim=space, keepdim=True)
