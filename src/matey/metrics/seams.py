"""How far patch edges show in a prediction.

Axes: B samples, C variables, (Z, Y, X) grid points.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# A multiple of the points that a local path takes together: what it makes of these differs from
# point to point wherever patches lie, and edges of patches always are edges of such pieces.
NEAR = 4


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
    next pairs inside along the same axis, up to `NEAR` on either side, each side for itself: an
    error without edges gives equal means also where small patches lie where it is roughest.
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
        jump = jump.where(crosses | within, 0)
        after, later = beside(jump, within, axis, 1)
        before, earlier = beside(jump, within, axis, -1)
        count = later + earlier
        compared = crosses & (count > 0)
        pairs += compared.sum(dim=(-3, -2, -1))
        across += jump.where(compared, 0).sum(dim=(-3, -2, -1))
        near = (before + after) / count.clamp(min=1)
        inside += near.where(compared, 0).sum(dim=(-3, -2, -1))
    return Jumps(*(torch.where(pairs > 0, one / pairs, torch.nan) for one in (across, inside)))


def beside(
    jump: Float[Tensor, "B C Z Y X"], within: Bool[Tensor, "B 1 Z Y X"], axis: int, way: int
) -> tuple[Float[Tensor, "B C Z Y X"], Float[Tensor, "B 1 Z Y X"]]:
    """On one side of each pair: the mean jump of the next pairs inside, up to the first that is
    not, and 1 if there are any; else zeros."""
    total, count = torch.zeros_like(jump), torch.zeros_like(jump[:, :1])
    goes_on = torch.ones_like(within)
    for away in range(1, min(NEAR, jump.shape[axis] - 1) + 1):
        goes_on = goes_on & moved(within, axis, way * away)
        total += moved(jump, axis, way * away).where(goes_on, 0)
        count += goes_on
    return total / count.clamp(min=1), count.clamp(max=1)


def moved(values: Tensor, axis: int, places: int) -> Tensor:
    """What lies so many places farther along an axis; zeros beyond its ends."""
    made, count = torch.zeros_like(values), values.shape[axis] - abs(places)
    made.narrow(axis, max(0, -places), count).copy_(values.narrow(axis, max(0, places), count))
    return made


def seam_ratio(jumps: Jumps) -> Float[Tensor, " C"]:
    """Mean jump of the error across patch edges over that inside patches beside them, of each
    variable.

    1 where edges cannot be seen; 2 where the error jumps twice as far across an edge as between
    other neighbours. NaN where all errors are equal, or there are no edges.
    """
    inside = jumps.inside.nanmean(dim=0)
    return torch.where(inside > 0, jumps.across.nanmean(dim=0) / inside, torch.nan)
