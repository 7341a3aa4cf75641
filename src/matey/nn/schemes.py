"""Attention schemes: which tokens attend together, as data.

A scheme is a list of stages; a stage is a list of groupings, attended apart and averaged.
"""

import math
from collections.abc import Callable, Iterable
from functools import partial
from itertools import groupby

import torch

from matey.tokens.pack import Run, Segments, TokenSequence

Grouping = Callable[[TokenSequence], Segments | None]


def sequence_with_time(tokens: TokenSequence) -> Segments:
    """All cells of a sequence at all times."""
    return Segments(runs_of(tokens.lengths), time="inside")


def sequence_at_each_time(tokens: TokenSequence) -> Segments:
    """All cells of a sequence, at each time apart."""
    return Segments(runs_of(tokens.lengths), time="batch")


def time_at_each_cell(tokens: TokenSequence) -> Segments:
    """One cell over its own times."""
    return Segments((Run(len(tokens.sequence), 1),), time="segment")


def line_at_each_time(tokens: TokenSequence, axis: int) -> Segments | None:
    """The cells of a sequence in one line along an axis, at each time apart.

    A line is a band of the domain: all cells in it belong to it, whatever their sizes. None
    for an axis of one grid point.
    """
    if axis not in tokens.active:
        return None
    if tokens.lattices:
        return Segments(
            tuple(
                Run(count * math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
                for count, shape in tokens.lattices
                if count
            ),
            time="batch",
        )
    line = tokens.sequence
    for other in tokens.active:
        if other != axis:
            band = tokens.band[:, other]
            line = line * (int(band.max()) + 1) + band
    _, line, lengths = torch.unique(line, return_inverse=True, return_counts=True)
    # Lines of one length together: each length is one dense call.
    order = torch.argsort(lengths[line] * len(lengths) + line, stable=True)
    return Segments(runs_of(lengths.sort().values.tolist()), time="batch", order=order)


def runs_of(lengths: Iterable[int]) -> tuple[Run, ...]:
    """Segments of so many cells, one after the other, as runs of equal length."""
    return tuple(Run(len(list(group)), length) for length, group in groupby(lengths) if length)


SCHEMES: dict[str, tuple[tuple[Grouping, ...], ...]] = {
    "vit": ((sequence_with_time,),),
    "svit": ((time_at_each_cell,), (sequence_at_each_time,)),
    "avit": (
        (time_at_each_cell,),
        tuple(partial(line_at_each_time, axis=axis) for axis in range(3)),
    ),
}


def stages_of(scheme: str, folded: bool) -> list[tuple[Grouping, ...]]:
    """The stages of a scheme; where the history is folded into one frame, none over times."""
    return [stage for stage in SCHEMES[scheme] if not folded or stage != (time_at_each_cell,)]


def segment(scheme: str, tokens: TokenSequence, folded: bool = False) -> list[list[Segments]]:
    """The segments of each stage of a scheme: computed once for all blocks."""
    stages = [[grouping(tokens) for grouping in stage] for stage in stages_of(scheme, folded)]
    return [[segments for segments in stage if segments is not None] for stage in stages]
