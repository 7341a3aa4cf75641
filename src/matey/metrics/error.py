"""Errors of predicted fields, in physical units.

Axes: B samples, C variables, (Z, Y, X) grid points.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def nrmse(
    prediction: Float[Tensor, "B C Z Y X"], target: Float[Tensor, "B C Z Y X"]
) -> Float[Tensor, "B C"]:
    """Normalised root-mean-square error √(mean (p − t)² / mean t²), per sample and variable.

    Means are over grid points, in float64. 0 is exact; 1 is as bad as predicting zero. Where
    the target is zero everywhere the error is 0 if the prediction is too, else infinite.
    Source: arXiv:2210.07182, appendix, without its small constant: an exact prediction of
    zero counts as exact instead.
    """
    error = (prediction.double() - target.double()).square().mean(dim=(-3, -2, -1))
    power = target.double().square().mean(dim=(-3, -2, -1))
    return torch.where(error == 0, 0.0, (error / power).sqrt())
