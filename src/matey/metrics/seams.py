"""How far patch edges show in a prediction.

Axes: B samples, C variables, (Z, Y, X) grid points, M patches of all samples.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Jumps:
    """Mean difference of neighbouring errors across patch edges, and inside the patches there.

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
    which are not `held`, are not compared. Each pair across an edge is set against the mean inside
    the two patches that meet there, along the same axis: an error without edges gives equal means
    also where small patches lie where it is roughest.
    """
    error = (prediction.double() - target.double()).movedim(1, 0)  # [C B Z Y X]
    variables, samples = error.shape[:2]
    number, count = numbered(patches)
    sample = torch.arange(samples, device=error.device).view(-1, 1, 1, 1).expand(number.shape)
    pairs = error.new_zeros(samples)
    across, inside = error.new_zeros(2, variables, samples)
    for axis in (-3, -2, -1):
        length = number.shape[axis] - 1
        low, high = number.narrow(axis, 0, length), number.narrow(axis, 1, length)
        jump, crosses, inside_one = error.diff(dim=axis).abs(), low != high, low == high
        if held is not None:
            both = held.narrow(axis, 0, length) & held.narrow(axis, 1, length)
            crosses, inside_one = crosses & both, inside_one & both
        within, known = means_inside(jump, low, inside_one, count)
        low, high = low[crosses], high[crosses]
        sides = known[low].to(error) + known[high].to(error)  # along edges of single points: none
        where = sample.narrow(axis, 0, length)[crosses]
        compared = sides > 0
        near = (within[:, low] + within[:, high]) / sides.clamp(min=1)
        pairs.index_add_(0, where, compared.to(error))
        across.index_add_(1, where, torch.where(compared, jump[:, crosses], 0))
        inside.index_add_(1, where, torch.where(compared, near, 0))
    return Jumps(*(torch.where(pairs > 0, one / pairs, torch.nan).T for one in (across, inside)))


def numbered(patches: Int[Tensor, "B Z Y X"]) -> tuple[Int[Tensor, "B Z Y X"], int]:
    """Patches by numbers that no two samples share, and how many there may be."""
    most = int(patches.max()) + 1
    sample = torch.arange(len(patches), device=patches.device).view(-1, 1, 1, 1)
    return patches + most * sample, most * len(patches)


def means_inside(
    jump: Float[Tensor, "C B Z Y X"],
    number: Int[Tensor, "B Z Y X"],
    inside: Bool[Tensor, "B Z Y X"],
    count: int,
) -> tuple[Float[Tensor, "C M"], Bool[Tensor, " M"]]:
    """The mean jump inside each of so many patches along one axis, 0 where there is none, and
    whether there is one."""
    where = number[inside]
    total = jump.new_zeros(len(jump), count).index_add_(1, where, jump[:, inside])
    counts = torch.bincount(where, minlength=count)
    return total / counts.clamp(min=1), counts > 0


def seam_ratio(jumps: Jumps) -> Float[Tensor, " C"]:
    """Mean jump of the error across patch edges over that inside patches, of each variable.

    1 where edges cannot be seen; 2 where the error jumps twice as far across an edge as between
    other neighbours. NaN where all errors are equal, or there are no edges.
    """
    inside = jumps.inside.nanmean(dim=0)
    return torch.where(inside > 0, jumps.across.nanmean(dim=0) / inside, torch.nan)
