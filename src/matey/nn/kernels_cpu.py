"""Attention within very many short segments, by batched matrix products.

The fused kernel takes one sequence and head at a time, which costs more than the attention of a
short one. Here the heads of all tokens are sorted by segment once, and all segments of one length
are one product, written where its result belongs: neither pass pads, splits or joins.

Axes: N cells, T times, Q of them to predict, H heads, d width of a head; R rows: the heads of all
tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor

from matey.tokens.pack import Segments

# Up to this many times and heads, a cell's times are one product for all heads, with scores between
# heads masked: they lie side by side, and need no sorting.
MERGED = 32


Sizes = tuple[tuple[int, int], ...]  # segments of each product, and rows in each segment


class Order(NamedTuple):
    """Where sorted rows come from, and where they go back to."""

    sort: Int[Tensor, " R"]
    unsort: Int[Tensor, " R"]


@dataclass(frozen=True)
class Layout:
    """The rows of all products, one after the other, sorted first if there is an order.

    `mask` is added to the scores of each segment.
    """

    queries: Sizes
    keys: Sizes
    query_order: Order | None = None
    key_order: Order | None = None
    mask: Float[Tensor, "1 Q L"] | None = None


# By segments, then by frames to predict, times and heads: computed once for all blocks.
LAYOUTS: WeakKeyDictionary[Segments, dict[tuple[int, int, int], Layout]] = WeakKeyDictionary()


def short(
    query: Float[Tensor, "N Q H d"],
    key: Float[Tensor, "N T H d"],
    value: Float[Tensor, "N T H d"],
    segments: Segments,
) -> Float[Tensor, "N Q H d"]:
    """Attention of each token over the tokens of its segment."""
    cells, asked, heads, width = query.shape
    times = key.shape[1]
    layouts = LAYOUTS.setdefault(segments, {})
    if (asked, times, heads) not in layouts:
        make = all_heads_at_once if merges_heads(segments, times, heads) else head_by_head
        layouts[asked, times, heads] = make(segments, cells, asked, times, heads, query.device)
    rows = (each.reshape(-1, width) for each in (query, key, value))
    with torch.autocast(query.device.type, enabled=False):  # the caller chose the precision
        mixed: Tensor = Products.apply(*rows, layouts[asked, times, heads], width**-0.5)
    return mixed.view(query.shape)


def merges_heads(segments: Segments, times: int, heads: int) -> bool:
    """Whether all heads of a segment share one product."""
    return segments.time == "segment" and times * heads <= MERGED


def all_heads_at_once(
    segments: Segments, cells: int, asked: int, times: int, heads: int, device: torch.device
) -> Layout:
    """All times and heads of a cell as they lie, with scores between heads masked."""
    head = torch.arange(heads, device=device)
    other = head.repeat(asked)[:, None] != head.repeat(times)
    mask = torch.zeros(other.shape, device=device).masked_fill_(other, -torch.inf)[None]
    return Layout(((cells, asked * heads),), ((cells, times * heads),), mask=mask)


def head_by_head(
    segments: Segments, cells: int, asked: int, times: int, heads: int, device: torch.device
) -> Layout:
    """Rows sorted by segment, then by head."""
    queries, keys = (
        [head_rows(table, heads) for table in segments.tables(cells, frames, device)]
        for frames in (asked, times)
    )
    query_order = order_of(queries)
    return Layout(
        tuple((len(table), table.shape[1]) for table in queries),
        tuple((len(table), table.shape[1]) for table in keys),
        query_order,
        query_order if asked == times else order_of(keys),
    )


def head_rows(table: Int[Tensor, "S L"], heads: int) -> Int[Tensor, "SH L"]:
    """Turn a table of tokens into one of their heads: a line for each head of a segment."""
    head = torch.arange(heads, device=table.device)
    return (table[:, None] * heads + head[:, None]).flatten(0, 1)


def order_of(tables: Sequence[Tensor]) -> Order:
    """The order in which tables `[S L]` hold rows."""
    rows = torch.cat([table.flatten() for table in tables])
    back = torch.empty_like(rows)
    back[rows] = torch.arange(len(rows), device=rows.device)
    return Order(rows, back)


class Products(torch.autograd.Function):
    """Softmax attention of rows `[R d]`, a batched product for each length of segments.

    Backward is written out: autograd would join the gradients of all rows piece by piece.
    """

    @staticmethod
    def forward(ctx, query, key, value, layout, scale):  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Attend; the results are in the order of the unsorted queries."""
        query = sort(query, layout.query_order)
        key, value = sort(key, layout.key_order), sort(value, layout.key_order)
        mixed, weights = torch.empty_like(query), []
        for q, k, v, m in zip(
            segments_of(query, layout.queries),
            segments_of(key, layout.keys),
            segments_of(value, layout.keys),
            segments_of(mixed, layout.queries),
            strict=True,
        ):
            weights.append(scores_of(q, k, layout.mask, scale).softmax(dim=-1))
            torch.bmm(weights[-1], v, out=m)
        ctx.save_for_backward(query, key, value, *weights)
        ctx.layout, ctx.scale = layout, scale
        return unsort(mixed, layout.query_order)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Gradients of the rows."""
        query, key, value, *weights = ctx.saved_tensors
        layout, scale = ctx.layout, ctx.scale
        gradient = sort(gradient.contiguous(), layout.query_order)
        to_query, to_key, to_value = (torch.empty_like(rows) for rows in (query, key, value))
        for w, q, k, v, g, to_q, to_k, to_v in zip(
            weights,
            segments_of(query, layout.queries),
            segments_of(key, layout.keys),
            segments_of(value, layout.keys),
            segments_of(gradient, layout.queries),
            segments_of(to_query, layout.queries),
            segments_of(to_key, layout.keys),
            segments_of(to_value, layout.keys),
            strict=True,
        ):
            torch.bmm(w.transpose(1, 2), g, out=to_v)
            to_w = torch.bmm(g, v.transpose(1, 2))
            to_scores = torch.ops.aten._softmax_backward_data(to_w, w, -1, w.dtype)
            torch.mul(to_scores, scale, out=to_scores)
            torch.bmm(to_scores, k, out=to_q)
            torch.bmm(to_scores.transpose(1, 2), q, out=to_k)
        return (
            unsort(to_query, layout.query_order),
            unsort(to_key, layout.key_order),
            unsort(to_value, layout.key_order),
            *(None, None),
        )


def scores_of(query: Tensor, key: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """The products of queries and keys times `scale`, plus a mask."""
    if mask is None:
        nothing = query.new_empty(1, 1, 1)
        return torch.baddbmm(nothing, query, key.transpose(1, 2), beta=0, alpha=scale)
    return torch.baddbmm(mask.to(query.dtype), query, key.transpose(1, 2), alpha=scale)


def segments_of(rows: Float[Tensor, "R d"], sizes: Sizes) -> list[Tensor]:
    """Views of the rows of each product, `[S L d]`."""
    pieces = rows.split([count * length for count, length in sizes])
    return [piece.view(*size, -1) for piece, size in zip(pieces, sizes, strict=True)]


def sort(rows: Float[Tensor, "R d"], order: Order | None) -> Float[Tensor, "R d"]:
    """Rows in the order of the products."""
    return rows if order is None else rows.index_select(0, order.sort)


def unsort(rows: Float[Tensor, "R d"], order: Order | None) -> Float[Tensor, "R d"]:
    """The inverse of `sort`."""
    return rows if order is None else rows.index_select(0, order.unsort)
