"""The cells of a sample spread over processes: who computes which, and how they attend.

Each process works on the tokens of its cells. For attention over cells they exchange heads for
cells: each gets all cells for its share of the heads, attends as one process would, and gives the
results back. Where processes are more than heads, some of them do so with the cells of a block, and
the blocks' keys go around a ring (`matey.train.parallel.ring`). Attention of a cell over its times
needs no exchange.

Axes: N cells of all, or of a block, n of this process, T times, Q of them to predict, H heads, h of
this process, d width of a head.
Source: Jacobs et al. (2023), arXiv:2309.14509.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from matey.errors import ConfigError
from matey.nn.attention import Attention, Share
from matey.nn.kernels import Kernel
from matey.nn.surrogate import Surrogate
from matey.nn.transformer import Matey
from matey.tokens.pack import Run, Segments
from matey.train.parallel.distributed import Team
from matey.train.parallel.ring import RingKernel, portions


def spread_cells(model: Surrogate, team: Team) -> None:
    """Let the processes of a team that have the same samples share out their cells from now on.

    Raises ConfigError for a baseline, which has none.
    """
    if not isinstance(model, Matey):
        raise ConfigError(
            f"parallel.sequence shares out tokens, and a {model.config.baseline.kind} has none. "
            "Leave it 1."
        )
    model.share = SharedCells(team.groups["sequence"])
    for module in model.modules():
        if isinstance(module, Attention):
            heads, ring = team.groups["heads"], team.groups.get("ring")
            module.kernel = ExchangingKernel(module.kernel, heads, ring)


class SharedCells(Share):
    """Each process of the group has consecutive cells of the packed sequence."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group

    def own(self, rows: Tensor) -> Tensor:
        return rows.split(portions(len(rows), self.group.size()))[self.group.rank()]

    def all(self, rows: Tensor, cells: int) -> Tensor:
        # All processes get all cells; their gradients add up.
        size, count = rows.shape[1:].numel(), self.group.size()
        send = [rows.numel()] * count
        receive = [portion * size for portion in portions(cells, count)]
        everyone = rows.flatten().expand(count, -1).flatten()
        return swap(everyone, send, receive, self.group).view(cells, *rows.shape[1:])


class ExchangingKernel:
    """A kernel that takes the cells of this process, and attends over those of all.

    The processes of a group exchange heads for cells: those of all, or of a block of the `ring`.
    """

    def __init__(
        self, kernel: Kernel, group: dist.ProcessGroup, ring: dist.ProcessGroup | None = None
    ) -> None:
        self.kernel, self.group, self.ring = kernel, group, ring
        self.over_cells: Kernel = RingKernel(ring) if ring else kernel

    def __call__(
        self,
        query: Float[Tensor, "n Q H d"],
        key: Float[Tensor, "n T H d"],
        value: Float[Tensor, "n T H d"],
        segments: Segments,
    ) -> Float[Tensor, "n Q H d"]:
        if segments.time == "segment":
            alone = Segments((Run(len(query), 1),), time="segment")
            return self.kernel(query, key, value, alone) if len(query) else query
        size = self.group.size()
        if size == 1:
            return self.over_cells(query, key, value, segments)
        blocks, block = (self.ring.size(), self.ring.rank()) if self.ring else (1, 0)
        everyone = portions(sum(run.cells for run in segments.runs), blocks * size)
        cells = everyone[block * size : (block + 1) * size]
        heads = portions(query.shape[2], size)
        query, key, value = (self.gather_cells(part, cells, heads) for part in (query, key, value))
        return self.gather_heads(self.over_cells(query, key, value, segments), cells, heads)

    def gather_cells(
        self, part: Float[Tensor, "n T H d"], cells: Sequence[int], heads: Sequence[int]
    ) -> Float[Tensor, "N T h d"]:
        """The group's cells for this process' heads, in exchange for its cells' other heads."""
        mine, (_, times, _, width) = heads[self.group.rank()], part.shape
        pieces = part.split(list(heads), dim=2)
        send = [piece.numel() for piece in pieces]
        receive = [count * times * mine * width for count in cells]
        packed = torch.cat([piece.flatten() for piece in pieces])
        return swap(packed, send, receive, self.group).view(-1, times, mine, width)

    def gather_heads(
        self, part: Float[Tensor, "N Q h d"], cells: Sequence[int], heads: Sequence[int]
    ) -> Float[Tensor, "n Q H d"]:
        """The inverse of `gather_cells`."""
        rows, (_, times, _, width) = cells[self.group.rank()], part.shape
        send = [count * part.shape[1:].numel() for count in cells]
        receive = [rows * times * count * width for count in heads]
        pieces = swap(part.flatten(), send, receive, self.group).split(receive)
        views = [
            piece.view(rows, times, count, width)
            for piece, count in zip(pieces, heads, strict=True)
        ]
        return torch.cat(views, dim=2)


class Swap(torch.autograd.Function):
    """All-to-all of a flat tensor; the gradient goes the way back."""

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx: Any, values: Tensor, send: list[int], receive: list[int], group: Any
    ):
        ctx.back = (receive, send, group)
        received = values.new_empty(sum(receive))
        dist.all_to_all_single(received, values.contiguous(), receive, send, group)
        return received

    @staticmethod
    def backward(ctx: Any, gradient: Tensor):  # type: ignore[no-untyped-def]
        return Swap.apply(gradient, *ctx.back), None, None, None


def swap(values: Tensor, send: list[int], receive: list[int], group: dist.ProcessGroup) -> Tensor:
    """Exchange pieces of `values` with the processes of a group: `send` and `receive` are the
    counts of numbers that go to each, and come from it."""
    received: Tensor = Swap.apply(values, send, receive, group)
    return received
