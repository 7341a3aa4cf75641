"""Attention over cells that lie on several processes: keys and values go around a ring.

Each process has a block of consecutive cells. It asks for its own tokens only, and is handed the
keys and values of one block after the other, each while it attends to the one before. What the
blocks say is merged by their normalisers, so that no process ever holds all keys, and the result is
that of one softmax over all of them. On the way back keys and values go around again, each block's
gradients behind them.

Torch's own ring (`torch.distributed.tensor.experimental.context_parallel`) takes one sequence that
processes divide evenly; packed segments have any lengths, and end anywhere in a block.

Axes: n cells of this process, T times, Q of them to predict, H heads, d width of a head; R rows:
the tokens of n cells; S segments, each with q tokens that ask and k in the block that is asked.
Sources: Liu, Zaharia, Abbeel (2023), arXiv:2310.01889, of the ring; Milakov and Gimelshein (2018),
arXiv:1805.02867, of normalisers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from matey.nn.kernels import SHORT, token_rows
from matey.tokens.pack import Segments

SCORES = 2**25  # products of queries with keys at a time, in numbers


@dataclass(frozen=True)
class Meeting:
    """Segments, each with as many tokens here and as many in another block: their rows in both."""

    queries: Int[Tensor, "S q"]
    keys: Int[Tensor, "S k"]


# By block, of segments by the frames to predict, times and heads: made once for all layers.
Meetings = list[list[Meeting]]
KNOWN: WeakKeyDictionary[Segments, dict[tuple[int, ...], Meetings]] = WeakKeyDictionary()


def portions(count: int, processes: int) -> list[int]:
    """How many of `count` things each process has, as evenly as can be."""
    edges = [count * i // processes for i in range(processes + 1)]
    return [end - start for start, end in pairwise(edges)]


class RingKernel:
    """A kernel that takes this process' block of cells, and attends over those of all blocks."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group

    def __call__(
        self,
        query: Float[Tensor, "n Q H d"],
        key: Float[Tensor, "n T H d"],
        value: Float[Tensor, "n T H d"],
        segments: Segments,
    ) -> Float[Tensor, "n Q H d"]:
        cells = portions(sum(run.cells for run in segments.runs), self.group.size())
        asked, (_, times, heads, _) = query.shape[1], key.shape
        known = KNOWN.setdefault(segments, {})
        place = (self.group.rank(), self.group.size(), asked, times, heads)
        if place not in known:
            mine = self.group.rank()
            known[place] = meetings(segments, cells, mine, asked, times, heads, query.device)
        kind = query.device.type
        if torch.is_autocast_enabled(kind):  # what travels is halved
            dtype = torch.get_autocast_dtype(kind)
            query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
        rows = (part.flatten(0, 1) for part in (query, key, value))
        with torch.autocast(kind, enabled=False):
            tokens = [count * times for count in cells]
            mixed: Tensor = Ring.apply(*rows, known[place], tokens, self.group)
        return mixed.unflatten(0, (-1, asked))


def meetings(
    segments: Segments,
    cells: Sequence[int],
    mine: int,
    asked: int,
    times: int,
    heads: int,
    device: torch.device,
) -> Meetings:
    """Which rows of block number `mine` ask which rows of each block.

    The blocks have so many `cells`; the last `asked` of their `times` ask.
    """
    rows, lengths = token_rows(segments, sum(cells), times, device)
    segment = torch.empty_like(rows)
    segment[rows] = torch.arange(len(lengths), device=device).repeat_interleave(lengths)
    edges = [0, *accumulate(cells)]
    blocks = [segment.view(-1, times)[start:end] for start, end in pairwise(edges)]
    asking = by_segment(blocks[mine][:, times - asked :].flatten())
    return [meet(asking, by_segment(block.flatten()), heads) for block in blocks]


@dataclass(frozen=True)
class Sorted:
    """Rows in the order of their segments: which these are, and where each starts and ends."""

    rows: Int[Tensor, " R"]
    segment: Int[Tensor, " S"]
    start: Int[Tensor, " S"]
    count: Int[Tensor, " S"]


def by_segment(segment: Int[Tensor, " R"]) -> Sorted:
    """Sort rows by the segment of each."""
    ordered, rows = torch.sort(segment, stable=True)
    present, count = torch.unique_consecutive(ordered, return_counts=True)
    return Sorted(rows, present, count.cumsum(0) - count, count)


def meet(asking: Sorted, asked: Sorted, heads: int) -> list[Meeting]:
    """The segments that have rows in both blocks; those with equal counts go together, as long as
    they have no more than `SCORES` products of so many heads."""
    here = torch.isin(asking.segment, asked.segment).nonzero().squeeze(1)
    there = torch.isin(asked.segment, asking.segment).nonzero().squeeze(1)
    counts = torch.stack([asking.count[here], asked.count[there]], dim=1)
    found = []
    kinds, kind = torch.unique(counts, dim=0, return_inverse=True)
    for number, (many, others) in enumerate(kinds.tolist()):
        alike = kind == number
        queries = table(asking, here[alike], many)
        keys = table(asked, there[alike], others)
        rows = max(1, SCORES // (heads * others))  # that ask at a time
        for some, their in zip(
            queries.split(max(1, rows // many)), keys.split(max(1, rows // many)), strict=True
        ):
            found += [Meeting(piece, their) for piece in some.split(rows, dim=1)]
    return found


def table(block: Sorted, which: Int[Tensor, " S"], count: int) -> Int[Tensor, "S k"]:
    """The rows of some segments that have `count` each."""
    return block.rows[block.start[which, None] + torch.arange(count, device=which.device)]


class Ring(torch.autograd.Function):
    """Attention of rows `[R H d]` of this process over those of all, in a ring.

    What is summed is summed in float32.
    """

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        plan: Meetings,
        tokens: list[int],
        group: Any,
    ):
        mixed = torch.zeros_like(query, dtype=torch.float32)
        normaliser = mixed.new_full(mixed.shape[:2], -torch.inf)
        own = torch.stack([key, value])
        for source, block in around(own, tokens, group):
            for meeting in plan[source]:
                q = taken(query, meeting.queries)
                k, v = (taken(rows, meeting.keys) for rows in block)
                merge(mixed, normaliser, meeting.queries, *attend_apart(q, k, v))
        ctx.save_for_backward(query, own, mixed, normaliser)
        ctx.plan, ctx.tokens, ctx.group = plan, tokens, group
        return mixed.to(value.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor):  # type: ignore[no-untyped-def]
        query, own, mixed, normaliser = ctx.saved_tensors
        rank, size = ctx.group.rank(), ctx.group.size()
        to_query = torch.zeros_like(mixed)
        home, coming = None, None
        for hop, (source, block) in enumerate(around(own, ctx.tokens, ctx.group)):
            to_block = torch.zeros_like(block, dtype=torch.float32)
            for meeting in ctx.plan[source]:
                asked = (query, gradient, mixed, normaliser[..., None])
                q, g, m, n = (taken(rows, meeting.queries) for rows in asked)
                k, v = (taken(rows, meeting.keys) for rows in block)
                to_q, *to_kv = gradients_apart(g, q, k, v, m, n[..., 0])
                to_query[meeting.queries] += to_q.transpose(1, 2)
                for rows, more in zip(to_block, to_kv, strict=True):
                    rows[meeting.keys] += more.transpose(1, 2)
            if hop == 0:
                home = to_block
                continue
            if coming is not None:
                to_block += coming.wait()
            coming = Passing(to_block, ctx.tokens[(rank - hop - 1) % size], ctx.group)
        assert home is not None
        if coming is not None:
            home += coming.wait()
        to_key, to_value = home.to(own.dtype)
        return to_query.to(query.dtype), to_key, to_value, None, None, None


class Passing:
    """A block `[2 R H d]` on its way to the next process, and that of the one before, of so many
    rows, on its way here."""

    def __init__(self, block: Tensor, rows: int, group: dist.ProcessGroup) -> None:
        rank, size = group.rank(), group.size()
        self.sent = block.contiguous()
        self.received = block.new_empty(len(block), rows, *block.shape[2:])
        both = [
            (dist.isend, self.sent, (rank + 1) % size),
            (dist.irecv, self.received, (rank - 1) % size),
        ]
        work = [
            dist.P2POp(how, part, group=group, group_peer=peer)
            for how, part, peer in both
            if part.numel()
        ]
        self.requests = dist.batch_isend_irecv(work) if work else []

    def wait(self) -> Tensor:
        """The block from the process before, when it has come and the other is gone."""
        for request in self.requests:
            request.wait()
        return self.received


def around(
    own: Float[Tensor, "2 R H d"], rows: Sequence[int], group: dist.ProcessGroup
) -> Iterator[tuple[int, Float[Tensor, "2 R H d"]]]:
    """The block of each process and its number, this one's first; each comes while the one before
    is used. They have so many `rows`."""
    rank, size = group.rank(), group.size()
    block = own
    for hop in range(size):
        coming = None
        if hop + 1 < size:
            coming = Passing(block, rows[(rank - hop - 1) % size], group)
        yield (rank - hop) % size, block
        if coming is not None:
            block = coming.wait()


def taken(rows: Float[Tensor, "R H d"], which: Int[Tensor, "S q"]) -> Float[Tensor, "S H q d"]:
    """Rows of segments, head by head, in float32."""
    return rows[which].transpose(1, 2).float()


Mixed = Float[Tensor, "S H q d"]
Normaliser = Float[Tensor, "S H q"]


def is_fused(key: Tensor) -> bool:
    """Whether torch's fused kernel is there for float32, and gains by so many keys."""
    return key.device.type == "cpu" and key.shape[2] > SHORT


def attend_apart(
    query: Float[Tensor, "S H q d"], key: Float[Tensor, "S H k d"], value: Float[Tensor, "S H k d"]
) -> tuple[Mixed, Normaliser]:
    """Attention over the keys of one block, and the logarithm of its normaliser."""
    if is_fused(key):
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        mixed, normaliser = kernel(query, key, value)
        return mixed, normaliser
    scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
    normaliser = scores.logsumexp(dim=-1)
    return (scores - normaliser[..., None]).exp() @ value, normaliser


def merge(
    mixed: Float[Tensor, "R H d"],
    normaliser: Float[Tensor, "R H"],
    which: Int[Tensor, "S q"],
    more: Mixed,
    its: Normaliser,
) -> None:
    """Add what some rows find in one more block, in place."""
    before, its = normaliser[which], its.transpose(1, 2)
    now = torch.logaddexp(before, its)
    kept, added = ((each - now).exp()[..., None] for each in (before, its))
    mixed[which] = kept * mixed[which] + added * more.transpose(1, 2)
    normaliser[which] = now


def gradients_apart(
    gradient: Mixed,
    query: Float[Tensor, "S H q d"],
    key: Float[Tensor, "S H k d"],
    value: Float[Tensor, "S H k d"],
    mixed: Mixed,
    normaliser: Normaliser,
) -> tuple[Tensor, Tensor, Tensor]:
    """What the keys of one block add to the gradients of queries, and those of keys and values.

    `mixed` and `normaliser` are of all blocks: with these at hand no key depends on others.
    """
    if is_fused(key):
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        to_query, to_key, to_value = kernel(
            gradient, query, key, value, mixed, normaliser, dropout_p=0.0, is_causal=False
        )
        return to_query, to_key, to_value
    scale = query.shape[-1] ** -0.5
    weights = (query @ key.transpose(2, 3) * scale - normaliser[..., None]).exp()
    to_weights = gradient @ value.transpose(2, 3) - (gradient * mixed).sum(dim=-1, keepdim=True)
    to_scores = weights * to_weights * scale
    to_key = to_scores.transpose(2, 3) @ query
    return to_scores @ key, to_key, weights.transpose(2, 3) @ gradient
