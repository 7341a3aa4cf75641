"""What lies beyond the sides of the domain, for maps that look at neighbours.

Axes: B samples, K channels, and one to three axes of grid points.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from matey.fields import Boundary

CONVOLUTION = {
    1: torch.nn.functional.conv1d,
    2: torch.nn.functional.conv2d,
    3: torch.nn.functional.conv3d,
}
LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


def beyond(
    values: Float[Tensor, "B K *points"],
    width: int,
    wraps: Bool[Tensor, "B axes"],
    fill: Literal["zero", "nearest"],
) -> Float[Tensor, "B K *more"]:
    """`width` more points at each side of each axis: those across the side where an axis is
    periodic in a sample, else zeros or the nearest point again."""
    for axis in range(2, values.ndim) if width else ():
        periodic = wraps[:, axis - 2]
        if bool(periodic.all()):
            values = wrapped(values, width, axis)
        elif not bool(periodic.any()):
            values = filled(values, width, axis, fill)
        else:
            here = periodic.view(-1, *(1,) * (values.ndim - 1))
            values = torch.where(
                here, wrapped(values, width, axis), filled(values, width, axis, fill)
            )
    return values


def wrapped(values: Tensor, width: int, axis: int) -> Tensor:
    """More points at both sides of an axis, from across them."""
    count = values.shape[axis]
    if width > count:  # round the domain more than once
        places = torch.arange(-width, count + width, device=values.device) % count
        return values.index_select(axis, places)
    low, high = values.narrow(axis, 0, width), values.narrow(axis, count - width, width)
    return torch.cat([high, values, low], dim=axis)


def filled(values: Tensor, width: int, axis: int, fill: Literal["zero", "nearest"]) -> Tensor:
    """More points at both sides of an axis: zeros, or the nearest again."""
    if fill == "zero":
        sides = [0] * (2 * (values.ndim - 2))
        first = 2 * (values.ndim - 1 - axis)
        sides[first] = sides[first + 1] = width
        return pad(values, sides)
    count = values.shape[axis]
    places = torch.arange(-width, count + width, device=values.device).clamp(0, count - 1)
    return values.index_select(axis, places)


def outside(
    boundaries: Int[Tensor, "B axes 2"], points: tuple[int, ...], width: int, like: Tensor
) -> Float[Tensor, "B 2 *more"]:
    """How many walls, and how many open sides, a point is beyond, of a grid with `width` more
    points at each side."""
    samples, axes = boundaries.shape[:2]
    found = like.new_zeros(samples, 2, *(count + 2 * width for count in points))
    for channel, kind in enumerate((Boundary.WALL, Boundary.OPEN)):
        for axis in range(axes):
            for side, start in ((0, 0), (1, points[axis] + width)):
                beyond_it = (boundaries[:, axis, side] == kind).to(like)
                strip = found[:, channel].narrow(axis + 1, start, width)
                strip += beyond_it.view(-1, *(1,) * axes)
    return found


def channels_last(values: Float[Tensor, "B K *points"]) -> Float[Tensor, "B K *points"]:
    """The same with the channels of a point side by side, as convolutions are fastest."""
    layout = LAST.get(values.ndim - 2)
    return values.contiguous(memory_format=layout) if layout else values
