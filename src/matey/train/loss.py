"""What training minimises: the squared NRMSE of normalised fields.

Axes: B samples, C variables, (Z, Y, X) grid points.
"""

from jaxtyping import Float
from torch import Tensor

# A target that is still at the history's mean has no scale of its own. Normalised fields have
# variance 1: below a thousandth of that, an error counts as absolute.
EPSILON = 1e-3


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
