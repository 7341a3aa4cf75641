"""Crops: boxes of points cut from larger domains, which know where in these they lie.

Axes: B samples, (Z, Y, X) grid points.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from matey.fields.system import Boundary

CUT = 3  # in place of a `Boundary`: a side beyond which the field goes on, unseen


@dataclass(frozen=True)
class Crop:
    """Where samples lie in the domains that they are cut from.

    `first` is the place of their first point along Z, Y and X in a `domain` of so many points,
    whose sides are `boundaries`. A loss leaves out `margin` points beside each cut for each step
    from the last true frame; the last `steps` frames of the histories are a model's own.
    """

    first: Int[Tensor, "B 3"]
    domain: Int[Tensor, "B 3"]
    boundaries: Int[Tensor, "B 3 2"]
    margin: int = 0
    steps: int = 0

    def sides(self, shape: Sequence[int]) -> Int[Tensor, "B 3 2"]:
        """What lies at the sides of boxes of so many points: a side of the domain, or a cut."""
        ends = self.first + torch.tensor(shape, device=self.first.device)
        reached = torch.stack([self.first == 0, ends == self.domain], dim=-1)
        return torch.where(reached, self.boundaries, CUT)

    def neighbours(self, shape: Sequence[int]) -> Int[Tensor, "B 3 2"]:
        """The same where fields are to be continued beyond the sides: a part of a periodic axis
        does not go on across them."""
        part = torch.tensor(shape, device=self.first.device) < self.domain
        sides = self.sides(shape)
        return torch.where(part[..., None] & (sides == Boundary.PERIODIC), CUT, sides)

    def moved(
        self, mirrored: Sequence[Sequence[int]], shift: Int[Tensor, "B 3"], shape: Sequence[int]
    ) -> "Crop":
        """The boxes, of so many points, in domains that were each mirrored across axes, then
        shifted along Z, Y and X."""
        first, boundaries = self.first.clone(), self.boundaries.clone()
        for sample, axes in enumerate(mirrored):
            for axis in axes:
                first[sample, axis] = self.domain[sample, axis] - shape[axis] - first[sample, axis]
                boundaries[sample, axis] = boundaries[sample, axis].flip(0)
        first = (first + shift) % self.domain
        return replace(self, first=first, boundaries=boundaries)

    def take(self, samples: Tensor) -> "Crop":
        """The chosen samples."""
        where = samples.to(self.first.device)
        return replace(
            self,
            first=self.first[where],
            domain=self.domain[where],
            boundaries=self.boundaries[where],
        )

    def to(self, device: torch.device) -> "Crop":
        """The same on another device."""
        return replace(
            self,
            first=self.first.to(device),
            domain=self.domain.to(device),
            boundaries=self.boundaries.to(device),
        )


def place_box(
    domain: tuple[int, int, int], shape: tuple[int, int, int], shares: Sequence[float]
) -> tuple[int, int, int]:
    """The first point (z, y, x) of a box whose middle lies at these shares of a domain's axes, or
    as near to it as the box can: of middles spread evenly, many boxes reach a side."""
    z, y, x = (
        min(max(int(share * points) - size // 2, 0), points - size)
        for points, size, share in zip(domain, shape, shares, strict=True)
    )
    return z, y, x


def stack_crops(
    corners: Sequence[tuple[int, int, int]],
    domains: Sequence[tuple[int, int, int]],
    shape: tuple[int, int, int],
    boundaries: Int[Tensor, "B 3 2"],
    margin: int,
) -> Crop | None:
    """Boxes of one shape that begin at some corners of domains; None where all are whole."""
    if all(domain == shape for domain in domains):
        return None
    return Crop(torch.tensor(corners), torch.tensor(domains), boundaries, margin)


def join_crops(parts: Sequence[Crop | None]) -> Crop | None:
    """The crops of several inputs, if they are crops, as those of one."""
    crops = [part for part in parts if part is not None]
    if not crops:
        return None
    names = ("first", "domain", "boundaries")
    joined: dict[str, Any] = {
        name: torch.cat([getattr(crop, name) for crop in crops]) for name in names
    }
    return replace(crops[0], **joined)


def away_from_cuts(
    boundaries: Int[Tensor, "B 3 2"], shape: Sequence[int], width: Int[Tensor, " B"]
) -> Bool[Tensor, "B 1 Z Y X"]:
    """Where no cut is nearer than so many points."""
    inside = torch.ones(len(boundaries), 1, *shape, dtype=torch.bool, device=boundaries.device)
    left_out = width[:, None, None] * (boundaries == CUT)
    for axis, count in enumerate(shape):
        place = torch.arange(count, device=boundaries.device)
        low, high = left_out[:, axis, :1], left_out[:, axis, 1:]
        kept = (place >= low) & (place < count - high)
        inside &= kept.view(-1, 1, *(count if i == axis else 1 for i in range(3)))
    return inside
