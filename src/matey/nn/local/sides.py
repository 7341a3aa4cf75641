"""What lies beyond the sides of the domain, for maps that look at neighbours.

Axes: B samples, K channels, and one to three axes of grid points.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.functional import pad

from matey.fields import Boundary
from matey.tokens.regions import joined, spans, strip

Rows = tuple[int, int]  # from the first up to the last, which is not among them
Fill = Literal["zero", "nearest"]

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
    fill: Fill,
    rows: Rows | None = None,
) -> Float[Tensor, "B K *more"]:
    """`width` more points at each side of each axis: those across the side where an axis is
    periodic in a sample, else zeros or the nearest point again. Of some `rows` of the first axis
    alone, if given, which may go past its ends: with as many more at each side."""
    fills = None if rows and rows != (0, values.shape[2]) else fills_of(wraps, fill)
    if fills and width <= min(values.shape[2:]):
        more: Tensor = Beyond.apply(values, width, fills)
        return more
    for axis in range(2, values.ndim):
        first, last = rows if rows and axis == 2 else (0, values.shape[axis])
        values = taken(values, axis, (first - width, last + width), wraps[:, axis - 2], fill)
    return values


def fills_of(
    wraps: Bool[Tensor, "B axes"], fill: Fill
) -> tuple[Fill | Literal["across"], ...] | None:
    """What lies beyond the sides of each axis, where it is the same in all samples; else None."""
    if isinstance(wraps, FakeTensor):  # a rehearsal has shapes only, and is that of mixed sides
        return None
    kinds = [set(axis) for axis in zip(*wraps.tolist(), strict=True)]
    if any(len(kind) > 1 for kind in kinds):
        return None
    return tuple("across" if True in kind else fill for kind in kinds)


class Beyond(torch.autograd.Function):
    """Points beyond the sides of each axis, its fill the same in all samples.

    Backward is written out: autograd would make fields of zeros around the gradient of each part.
    """

    @staticmethod
    def forward(ctx, values, width, fills):  # type: ignore[no-untyped-def]  # noqa: ANN001
        """`[B K *points]` to `[B K *more]`."""
        ctx.width, ctx.fills, ctx.points = width, fills, values.shape[2:]
        for axis, fill in enumerate(fills, start=2):
            rows = (-width, values.shape[axis] + width)
            across = fill == "across"
            values = wrapped(values, rows, axis) if across else filled(values, rows, axis, fill)
        return values

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]  # noqa: ANN001
        """What came of a point beyond a side is added to the point that it was."""
        width, own = ctx.width, False
        for axis, (fill, count) in reversed(
            [*enumerate(zip(ctx.fills, ctx.points, strict=True), 2)]
        ):
            inner = gradient.narrow(axis, width, count)
            if fill != "zero":
                inner, own = inner if own else inner.clone(), True
                low, high = (gradient.narrow(axis, start, width) for start in (0, count + width))
                if fill == "across":
                    inner.narrow(axis, count - width, width).add_(low)
                    inner.narrow(axis, 0, width).add_(high)
                else:
                    inner.narrow(axis, 0, 1).add_(low.sum(dim=axis, keepdim=True))
                    inner.narrow(axis, count - 1, 1).add_(high.sum(dim=axis, keepdim=True))
            gradient = inner
        return gradient, None, None


def taken(
    values: Float[Tensor, "B K *points"],
    axis: int,
    rows: Rows,
    periodic: Bool[Tensor, " B"],
    fill: Fill,
) -> Float[Tensor, "B K *taken"]:
    """The `rows` of an axis from the first up to the last, which may lie beyond its ends."""
    if rows[0] >= 0 and rows[1] <= values.shape[axis]:
        return strip(values, axis, rows)
    # A rehearsal has shapes only, and is that of mixed sides, which take most.
    rehearsed = isinstance(periodic, FakeTensor)
    if not rehearsed and bool(periodic.all()):
        return wrapped(values, rows, axis)
    if not rehearsed and not bool(periodic.any()):
        return filled(values, rows, axis, fill)
    here = periodic.view(-1, *(1,) * (values.ndim - 1))
    return torch.where(here, wrapped(values, rows, axis), filled(values, rows, axis, fill))


def wrapped(values: Tensor, rows: Rows, axis: int) -> Tensor:
    """Rows of an axis, those beyond its ends from across them."""
    (first, last), count = rows, values.shape[axis]
    if first < -count or last > 2 * count:  # round the domain more than once
        places = torch.arange(first, last, device=values.device) % count
        return values.index_select(axis, places)
    parts = [
        strip(values, axis, (start - shift, end - shift))
        for shift in (-count, 0, count)
        if (start := max(first, shift)) < (end := min(last, shift + count))
    ]
    return torch.cat(parts, dim=axis)


def filled(values: Tensor, rows: Rows, axis: int, fill: Fill) -> Tensor:
    """Rows of an axis, those beyond its ends zeros, or the nearest again."""
    (first, last), count = rows, values.shape[axis]
    if fill == "zero":
        sides = [0] * (2 * (values.ndim - 2))
        place = 2 * (values.ndim - 1 - axis)
        sides[place : place + 2] = [max(0, -first), max(0, last - count)]
        return pad(strip(values, axis, (max(first, 0), min(last, count))), sides)
    places = torch.arange(first, last, device=values.device).clamp(0, count - 1)
    return values.index_select(axis, places)


def in_regions(
    values: Float[Tensor, "B K *points"],
    width: int,
    wraps: Bool[Tensor, "B axes"],
    fill: Fill,
    work: Callable[[Tensor, Rows], Tensor],
    size: int = 1,
) -> Tensor:
    """What `work` makes of values with `width` more points at each side, and of the rows that it is
    to make: `size` for each of theirs. Region by region, if there are several."""
    count = values.shape[2]
    parts = (work(beyond(values, width, wraps, fill, rows), rows) for rows in spans(count))
    return joined(parts, size * count, axis=2)


def channels_last(values: Float[Tensor, "B K *points"]) -> Float[Tensor, "B K *points"]:
    """The same with the channels of a point side by side, as convolutions are fastest."""
    layout = LAST.get(values.ndim - 2)
    return values.contiguous(memory_format=layout) if layout else values


def outside(
    boundaries: Int[Tensor, "B axes 2"],
    points: Sequence[int],
    ends: Sequence[Rows],
    like: Tensor,
) -> Float[Tensor, "B 2 *more"]:
    """How many walls, and how many open sides, the points are beyond that lie between the `ends` of
    each axis, on a grid of so many points."""
    samples, axes = boundaries.shape[:2]
    counts = like.new_zeros(samples, 2, *(last - first for first, last in ends))
    for channel, kind in enumerate((Boundary.WALL, Boundary.OPEN)):
        for axis, (first, last) in enumerate(ends):
            low, high = max(0, -first), max(0, last - points[axis])
            for side, start, more in ((0, 0, low), (1, last - first - high, high)):
                lies = (boundaries[:, axis, side] == kind).to(like)
                strip = counts[:, channel].narrow(axis + 1, start, more)
                strip += lies.view(-1, *(1,) * axes)
    return counts
