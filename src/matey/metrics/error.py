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

    Means are over grid points, in float64. 0 is exact; 1 is as bad as predicting zero. A
    prediction that is not finite is infinitely wrong. Where the target is zero everywhere, as
    a velocity in water at rest, there is nothing to relate an error to: NaN, undefined.
    Source: arXiv:2210.07182, appendix, without its small constant, which no unit would fit.
    """
    error = (prediction.double() - target.double()).square().mean(dim=(-3, -2, -1))
    power = target.double().square().mean(dim=(-3, -2, -1))
    ratio = (error.nan_to_num(nan=torch.inf, posinf=torch.inf) / power).sqrt()
    return torch.where(power == 0, torch.nan, ratio)


def mean_nrmse(errors: Float[Tensor, "B *S C"]) -> Float[Tensor, "*S"]:
    """The mean over samples, then over variables, where the NRMSE is defined.

    Whether it is depends on the target alone, so that a model and persistence are averaged over
    the same samples. NaN where it is never defined.
    """
    return errors.nanmean(dim=0).nanmean(dim=-1)
