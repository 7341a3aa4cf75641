"""What training minimises: the squared NRMSE of normalised fields.

Axes: B samples, C variables, (Z, Y, X) grid points.
"""

from jaxtyping import Float
from torch import Tensor

from matey.config import LossConfig
from matey.fields import Batch
from matey.nn.normalise import Statistics
from matey.nn.surrogate import Prediction

# A target that is still at the history's mean has no scale of its own. Normalised fields have
# variance 1: below a thousandth of that, an error counts as absolute.
EPSILON = 1e-3
SMALL = 1e-5  # an NRMSE that is as good as none


def squared_nrmse(
    prediction: Float[Tensor, "B C Z Y X"], target: Float[Tensor, "B C Z Y X"]
) -> Float[Tensor, ""]:
    """Mean over samples and variables of MSE / (EPSILON + mean target²).

    Both are normalised by the history. Numbers are scaled before they are squared, so that
    a variable at rest in the history and moving in the target stays finite.
    Source: arXiv:2412.20601, section 4.
    """
    prediction, target = prediction.float(), target.float()
    points = (-3, -2, -1)
    scale = target.abs().amax(dim=points, keepdim=True).clamp(min=1)
    error = ((prediction - target) / scale).square().mean(dim=points, keepdim=True)
    power = (target / scale).square().mean(dim=points, keepdim=True)
    return (error / (EPSILON / scale / scale + power)).mean()


def batch_loss(
    prediction: Float[Tensor, "B C Z Y X"],
    base: Float[Tensor, "B C Z Y X"] | None,
    target: Float[Tensor, "B C Z Y X"],
    config: LossConfig,
) -> Float[Tensor, ""]:
    """The squared NRMSE of normalised fields, and the terms that the config asks for.

    `base` is what the coarse tokens alone predict, where there is such a thing.
    """
    loss = squared_nrmse(prediction, target)
    if config.base and base is not None:
        loss = loss + config.base * squared_nrmse(base, target)
    if config.gradient:
        axes = [axis for axis in (-3, -2, -1) if target.shape[axis] > 1]
        slopes = [squared_nrmse(prediction.diff(dim=a), target.diff(dim=a)) for a in axes]
        loss = loss + config.gradient * sum(slopes) / len(axes)
    if config.conservation:
        drift = (prediction.float() - target.float()).mean(dim=(-3, -2, -1))
        loss = loss + config.conservation * drift.square().mean()
    return loss


def log_nrmse(
    prediction: Float[Tensor, "B C Z Y X"],
    target: Float[Tensor, "B C Z Y X"],
    statistics: Statistics,
) -> Float[Tensor, ""]:
    """Logarithm of the mean NRMSE in physical units, of normalised fields.

    Its gradient is the relative gain of a batch's score, whatever the system's difficulty.
    """
    prediction, target = prediction.float(), target.float()
    points = (-3, -2, -1)
    error = (prediction - target).square().mean(dim=points)
    power = (target + statistics.mean / statistics.scale).square().mean(dim=points)
    return ((error / (power + SMALL) + SMALL**2).sqrt().mean() + SMALL).log()


def loss_of(prediction: Prediction, batch: Batch, config: LossConfig) -> Float[Tensor, ""]:
    """The loss on the variables that change in time, normalised as the history."""
    target = prediction.statistics.normalise(batch.target[:, list(batch.spec.predicted)])
    if config.of == "log":
        loss = log_nrmse(prediction.normalised, target, prediction.statistics)
        if config.base and prediction.base is not None:
            loss = loss + config.base * log_nrmse(prediction.base, target, prediction.statistics)
        return loss
    return batch_loss(prediction.normalised, prediction.base, target, config)
