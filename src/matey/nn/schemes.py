"""Attention schemes: which tokens attend together, as data.

A scheme is a list of stages; a stage is a list of groupings, attended apart and averaged.
"""

from collections.abc import Callable

from matey.tokens.pack import Segments, TokenSequence

Grouping = Callable[[TokenSequence], Segments]


def sequence_with_time(tokens: TokenSequence) -> Segments:
    """All cells of a sequence at all times."""
    return Segments(tokens.lengths, time="inside")


def sequence_at_each_time(tokens: TokenSequence) -> Segments:
    """All cells of a sequence, at each time apart."""
    return Segments(tokens.lengths, time="batch")


def time_at_each_cell(tokens: TokenSequence) -> Segments:
    """One cell over its own times."""
    return Segments((1,) * len(tokens.sequence), time="segment")


SCHEMES: dict[str, tuple[tuple[Grouping, ...], ...]] = {
    "vit": ((sequence_with_time,),),
    "svit": ((time_at_each_cell,), (sequence_at_each_time,)),
}


def segment(scheme: str, tokens: TokenSequence) -> list[list[Segments]]:
    """The segments of each stage of a scheme: computed once for all blocks."""
    return [[grouping(tokens) for grouping in stage] for stage in SCHEMES[scheme]]
