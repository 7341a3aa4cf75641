"""How far patch edges show in a prediction.

Axes: B samples, C variables, (Z, Y, X) grid points.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Jumps:
    """Mean difference of neighbouring errors across patch edges, and inside patches beside them.

    NaN if there is only one patch, or patches are single points.
    """

    across: Float[Tensor, "B C"]
    inside: Float[Tensor, "B C"]


def jumps(
    prediction: Float[Tensor, "B C Z Y X"],
    target: Float[Tensor, "B C Z Y X"],
    patches: Int[Tensor, "B Z Y X"],
    held: Bool[Tensor, "B Z Y X"] | None = None,
) -> Jumps:
    """Mean |e_i − e_j| of neighbouring points i, j along all axes, e being prediction − target.

    `patches` numbers the patch of each point. Neighbours in one patch count as inside, the others
    as across; points at opposite sides of a periodic domain, and those without a field,
    which are not `held`, are not compared. Each pair across an edge is set against the mean of the
    next pairs inside, one on either side along the same axis: an error without edges gives equal
    means also where small patches lie where it is roughest.
    """
    error = prediction.double() - target.double()
    pairs = error.new_zeros(len(error), 1)
    across, inside = error.new_zeros(2, *error.shape[:2])
    for axis in (-3, -2, -1):
        jump, crosses = error.diff(dim=axis).abs(), (patches.diff(dim=axis) != 0).unsqueeze(1)
        within = ~crosses
        if held is not None:
            length = held.shape[axis] - 1
            both = (held.narrow(axis, 0, length) & held.narrow(axis, 1, length)).unsqueeze(1)
            crosses, within = crosses & both, within & both
        # Where nothing is compared the error may be NaN, which no factor of 0 removes.
        beside = beside_each(jump.where(within, 0), axis)
        count = beside_each(within.to(error), axis)
        compared = crosses & (count > 0)
        pairs += compared.sum(dim=(-3, -2, -1))
        across += jump.where(compared, 0).sum(dim=(-3, -2, -1))
        near = beside / count.clamp(min=1)
        inside += near.where(compared, 0).sum(dim=(-3, -2, -1))
    return Jumps(*(torch.where(pairs > 0, one / pairs, torch.nan) for one in (across, inside)))


def beside_each(values: Float[Tensor, "B C Z Y X"], axis: int) -> Float[Tensor, "B C Z Y X"]:
    """The sum of the values before and after each along an axis."""
    total, length = torch.zeros_like(values), max(0, values.shape[axis] - 1)
    if length:
        total.narrow(axis, 1, length).add_(values.narrow(axis, 0, length))
        total.narrow(axis, 0, length).add_(values.narrow(axis, 1, length))
    return total


def seam_ratio(jumps: Jumps) -> Float[Tensor, " C"]:
    """Mean jump of the error across patch edges over that inside patches beside them, of each
    variable.

    1 where edges cannot be seen; 2 where the error jumps twice as far across an edge as between
    other neighbours. NaN where all errors are equal, or there are no edges.
    """
    inside = jumps.inside.nanmean(dim=0)
    return torch.where(inside > 0, jumps.across.nanmean(dim=0) / inside, torch.nan)
