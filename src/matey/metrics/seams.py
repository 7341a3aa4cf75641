"""How far patch edges show in a prediction.

Axes: B samples, C variables, (Z, Y, X) grid points.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Jumps:
    """Mean difference of neighbouring errors across patch edges, and inside patches.

    NaN if there is only one patch, or patches are single points.
    """

    across: Float[Tensor, "B C"]
    inside: Float[Tensor, "B C"]


def jumps(
    prediction: Float[Tensor, "B C Z Y X"],
    target: Float[Tensor, "B C Z Y X"],
    patches: Int[Tensor, "B Z Y X"],
) -> Jumps:
    """Mean |e_i − e_j| of neighbouring points i, j along all axes, e being prediction − target.

    `patches` numbers the patch of each point. Neighbours in one patch count as inside, the others
    as across; points at opposite sides of a periodic domain are not compared. The mean inside
    weighs each axis by its number of edges, so that a smooth error gives equal means.
    """
    error = prediction.double() - target.double()
    edges = error.new_zeros(len(error), 1)
    across, inside = error.new_zeros(2, *error.shape[:2])
    for axis in (-3, -2, -1):
        jump = error.diff(dim=axis).abs()
        crosses = (patches.diff(dim=axis) != 0).unsqueeze(1)
        within = (~crosses).sum(dim=(-3, -2, -1))
        here = crosses.sum(dim=(-3, -2, -1)) * (within > 0)
        edges += here
        across += (jump * crosses).sum(dim=(-3, -2, -1)) * (within > 0)
        inside += (jump * ~crosses).sum(dim=(-3, -2, -1)) / within.clamp(min=1) * here
    return Jumps(*(torch.where(edges > 0, one / edges, torch.nan) for one in (across, inside)))


def seam_ratio(jumps: Jumps) -> Float[Tensor, " C"]:
    """Mean jump of the error across patch edges over that inside patches, of each variable.

    1 where edges cannot be seen; 2 where the error jumps twice as far across an edge as between
    other neighbours. NaN where all errors are equal, or there are no edges.
    """
    inside = jumps.inside.nanmean(dim=0)
    return torch.where(inside > 0, jumps.across.nanmean(dim=0) / inside, torch.nan)
