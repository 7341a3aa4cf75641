"""Packed tokens: the leaves of all samples in one sequence, with no padding.

Axes: N cells in use, T times, D width, B samples; _ the leaves of one level.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from matey.tokens.refine import RefinementPlan


@dataclass(frozen=True)
class TokenSequence:
    """Tokens of all cells in use, sorted by sequence, and where each of them is.

    A sequence is what attends together. `centre` and `size` are fractions of the domain,
    `time` counts steps before the last frame (0, -1, ...), `cell` points into the plan.
    """

    tokens: Float[Tensor, "N T D"]
    time: Float[Tensor, " T"]
    sequence: Int[Tensor, " N"]
    sample: Int[Tensor, " N"]
    level: Int[Tensor, " N"]
    cell: Int[Tensor, " N"]
    centre: Float[Tensor, "N 3"]
    size: Float[Tensor, "N 3"]

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Cells in each sequence."""
        return tuple(torch.bincount(self.sequence).tolist())


@dataclass(frozen=True)
class Segments:
    """Which cells attend together: runs of `lengths` cells, after sorting by `order`.

    `time` says what the T frames are: `inside` a segment (its cells at all times attend
    together), the `segment` itself (each cell attends over its own times), or a `batch`
    axis (the cells of a segment attend at each time apart).
    """

    lengths: tuple[int, ...]
    time: Literal["inside", "segment", "batch"]
    order: Int[Tensor, " N"] | None = None


def pack(levels: Sequence[Float[Tensor, "_ T D"]], plan: RefinementPlan) -> TokenSequence:
    """One sequence per sample from the tokens of each level's leaves (`plan.at(level)`)."""
    leaves = plan.leaves
    tokens = torch.cat(list(levels)) if len(levels) > 1 else levels[0]
    if len(plan.sizes) > 1 and plan.samples > 1:
        tokens = tokens.index_select(0, _order(plan))
    grid = torch.tensor(plan.grid, device=leaves.device)
    size = plan.size[leaves] / grid
    times = tokens.shape[1]
    return TokenSequence(
        tokens=tokens,
        time=torch.arange(1 - times, 1, device=leaves.device, dtype=torch.float32),
        sequence=plan.sample[leaves],
        sample=plan.sample[leaves],
        level=plan.level[leaves],
        cell=leaves,
        centre=plan.corner[leaves] / grid + size / 2,
        size=size,
    )


def unpack(
    tokens: Float[Tensor, "N *width"], plan: RefinementPlan
) -> list[Float[Tensor, "_ *width"]]:
    """The tokens of each level's leaves: the inverse of `pack`."""
    if len(plan.sizes) > 1 and plan.samples > 1:
        tokens = tokens.index_select(0, torch.argsort(_order(plan)))
    counts = [len(plan.at(level)) for level in range(len(plan.sizes))]
    return list(tokens.split(counts))


def _order(plan: RefinementPlan) -> Int[Tensor, " N"]:
    """Where each packed token stands among the leaves in order of level."""
    by_level = torch.cat([plan.at(level) for level in range(len(plan.sizes))])
    return torch.sort(plan.sample[by_level], stable=True).indices
