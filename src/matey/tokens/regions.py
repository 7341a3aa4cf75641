"""A field worked on by regions, one after the other, so that what is made of it on the way never
has the size of the whole.

A region is a strip of rows across the slowest axis. Maps that look at neighbours are given the rows
beyond it, too, and what looks at all of a field is summed up strip by strip: results are those of
the whole, but for rounding. Without a limit there is one region, and nothing else is done.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_NUMBER: ContextVar[int] = ContextVar("regions", default=1)


@contextmanager
def by_regions(count: int) -> Iterator[None]:
    """Work on fields in so many regions, while this lasts."""
    token = _NUMBER.set(count)
    try:
        yield
    finally:
        _NUMBER.reset(token)


def regions() -> int:
    """How many regions fields are worked on in now."""
    return _NUMBER.get()


def spans(rows: int, count: int | None = None) -> list[tuple[int, int]]:
    """From which row up to which each region goes; `count` of them, by default as many as now."""
    each = max(1, math.ceil(rows / (count or regions())))
    return [(first, min(first + each, rows)) for first in range(0, max(rows, 1), each)]


def strip(values: Tensor, axis: int, rows: tuple[int, int]) -> Tensor:
    """A view of some rows of an axis; the values themselves where these are all."""
    first, last = rows
    return (
        values if last - first == values.shape[axis] else values.narrow(axis, first, last - first)
    )


def slowest(shape: Iterable[int]) -> int:
    """The first of the last three axes, from the end, with more than one point: -3, -2 or -1."""
    z, y, _ = tuple(shape)[-3:]
    return -3 if z > 1 else -2 if y > 1 else -1


def joined(parts: Iterable[Tensor], rows: int, axis: int) -> Tensor:
    """Parts one after the other along an axis, that has so many `rows` then.

    Each is written where it belongs as it comes: at no time are there all parts, and the whole.
    """
    whole: Tensor | None = None
    first = 0
    for part in parts:
        count = part.shape[axis]
        if count == rows:
            return part
        if whole is None:
            shape = list(part.shape)
            shape[axis] = rows
            whole = torch.empty(
                shape, dtype=part.dtype, device=part.device, memory_format=layout_of(part)
            )
        whole.narrow(axis, first, count).copy_(part)
        first += count
    assert whole is not None
    return whole


def layout_of(values: Tensor) -> torch.memory_format:
    """Whether the channels of a point lie side by side."""
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(values.ndim)
    plain = last is None or values.is_contiguous() or not values.is_contiguous(memory_format=last)
    return torch.contiguous_format if plain or last is None else last
