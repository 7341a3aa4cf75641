"""Attention within segments of packed tokens: one interface, a kernel for each kind of hardware.

Axes: N cells, T times, Q of them to predict, H heads, d width of a head; a run of segments is
[S L M]: S·M segments of L tokens, the tokens of a segment M apart.
"""

import math
from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from matey.nn.kernels_cpu import merges_heads, short
from matey.nn.operations import Cost
from matey.tokens.pack import Run, Segments

Queries = Float[Tensor, "N Q H d"]
Heads = Float[Tensor, "N T H d"]
Kernel = Callable[[Tensor, Tensor, Tensor, Segments], Tensor]

# Sequences up to this length are attended by batched matrix products: the fused kernel handles
# one sequence and head at a time, which costs more than the attention itself.
SHORT = 64
# In bfloat16 on a CPU the fused kernel is slower than in float32 below this length.
SHORT_BFLOAT16 = 256
# The fused kernel's backward pass on a CPU gives whole heads to threads. To share a single sequence
# evenly, its keys are taken in up to PARTS parts, each with a gradient of all queries.
PARTS = 8
PART = 384  # keys of a part at least: fewer gain nothing


def attend(query: Queries, key: Heads, value: Heads, segments: Segments) -> Queries:
    """Attention of each token over the tokens of its segment.

    Queries may be those of the last frames only. Each run of segments of one length is one dense
    call: nothing is padded. On CUDA in half precision all segments are one call of the
    variable-length kernel.
    """
    if query.is_cuda and query.dtype != torch.float32 and len(segments.runs) > 1:
        return varlen(query, key, value, segments)
    if not query.is_cuda and mean_length(segments, key.shape[1]) <= SHORT:
        if torch.is_autocast_enabled(query.device.type):
            query, key, value = query.float(), key.float(), value.float()
        return short(query, key, value, segments)
    if segments.order is not None:
        query, key, value = (heads.index_select(0, segments.order) for heads in (query, key, value))
    cells = [run.cells for run in segments.runs]
    mixed = []
    for run, q, k, v in zip(
        segments.runs, query.split(cells), key.split(cells), value.split(cells), strict=True
    ):
        if segments.order is not None and run.outer == 1:
            # A view kept for the backward pass would keep all sorted cells alive.
            q, k, v = q.clone(), k.clone(), v.clone()
        mixed.append(attend_run(q, k, v, run, segments.time))
    joined = torch.cat(mixed) if len(mixed) > 1 else mixed[0]
    if segments.order is not None:
        joined = joined.index_select(0, torch.argsort(segments.order))
    return joined


def mean_length(segments: Segments, times: int) -> float:
    """How many tokens the segment of a token has, on average."""
    cells = sum(run.cells for run in segments.runs)
    mates = sum(run.cells * run.length for run in segments.runs) / cells
    return mates if segments.time == "batch" else mates * times


def count_attention(
    cost: Cost, segments: Segments, times: int, frames: int, heads: int, width: int
) -> None:
    """The products of queries with keys, and of weights with values, of all heads together.

    Fused attention costs two and a half times as much backward, since it computes the weights
    again; where all heads of a segment share one product, scores between heads are masked.
    """
    alone = segments.time == "batch"
    is_short = mean_length(segments, times) <= SHORT
    masked = heads if is_short and merges_heads(segments, times, heads) else 1
    for run in segments.runs:
        count = run.outer * run.inner * (frames if alone else 1)
        asked, length = (run.length * (1 if alone else n) for n in (frames, times))
        weights = count * asked * length * masked
        operations = 4 * weights * width
        kept = heads * weights if is_short else 0
        cost.add("attention", operations, int(operations * (2 if is_short else 2.5)), kept)


def attend_run(query: Queries, key: Heads, value: Heads, run: Run, time: str) -> Queries:
    """The attention of one run of segments."""
    together = time != "batch"
    pattern = "(S L M) T H d -> S (L T) M H d" if together else "(S L M) T H d -> S L (M T) H d"
    sizes = {"S": run.outer, "L": run.length, "M": run.inner}
    query_frames = query.shape[1]
    query, key, value = (rearrange(heads, pattern, **sizes) for heads in (query, key, value))
    mixed = dense(query, key, value)
    before, after = pattern.split(" -> ")
    return rearrange(mixed, f"{after} -> {before}", **sizes, T=query_frames)


def dense(
    query: Float[Tensor, "S Q M H d"],
    key: Float[Tensor, "S L M H d"],
    value: Float[Tensor, "S L M H d"],
) -> Float[Tensor, "S Q M H d"]:
    """Attention along the second axis, on views of packed tokens where that is fastest."""
    outer, length, inner = key.shape[:3]
    if query.is_cuda:
        query, key, value = (
            rearrange(heads, "S L M H d -> (S M) H L d") for heads in (query, key, value)
        )
        mixed = scaled_dot_product_attention(query, key, value)
        return rearrange(mixed, "(S M) H L d -> S L M H d", S=outer)
    if length < SHORT_BFLOAT16 and torch.is_autocast_enabled(query.device.type):
        with torch.autocast(query.device.type, enabled=False):
            return dense(query.float(), key.float(), value.float())
    if inner == 1:
        return fused(query, key, value, "S L 1 H d -> S H L d")
    if outer <= inner:
        each = zip(query, key, value, strict=True)
        pieces = [fused(*heads, "L M H d -> M H L d") for heads in each]
        return torch.stack(pieces) if outer > 1 else pieces[0][None]
    each = zip(query.unbind(2), key.unbind(2), value.unbind(2), strict=True)
    return torch.stack([fused(*heads, "S L H d -> S H L d") for heads in each], dim=2)


def fused(query: Tensor, key: Tensor, value: Tensor, pattern: str) -> Tensor:
    """Torch's fused attention on tensors rearranged by a pattern, and back."""
    query, key, value = (rearrange(heads, pattern) for heads in (query, key, value))
    before, after = pattern.split(" -> ")
    parts = even_parts(*key.shape[1:3]) if len(key) == 1 and torch.is_grad_enabled() else 1
    if parts > 1:
        if torch.is_autocast_enabled(query.device.type):
            dtype = torch.get_autocast_dtype(query.device.type)
            query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
        mixed = Parts.apply(query, key, value, parts)
    else:
        mixed = scaled_dot_product_attention(query, key, value)
    return rearrange(mixed, f"{after} -> {before}")


def even_parts(heads: int, keys: int) -> int:
    """The number of parts of the keys by which the threads share a single sequence best."""
    threads = torch.get_num_threads()
    able = [p for p in range(1, PARTS + 1) if keys % p == 0 and keys >= PART * p]
    return min(able, key=lambda parts: math.ceil(heads * parts / threads) / parts, default=1)


class Parts(torch.autograd.Function):
    """Torch's fused attention of a single sequence, its keys in parts in the backward pass.

    With the normaliser of each query at hand, a key's gradient does not depend on other keys: each
    part is a sequence by itself, with all queries.
    """

    @staticmethod
    def forward(ctx, query, key, value, parts):  # type: ignore[no-untyped-def]  # noqa: ANN001
        """`[1 H Q d]` and twice `[1 H L d]` to `[1 H Q d]`."""
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        mixed, normaliser = kernel(query, key, value)
        ctx.save_for_backward(query, key, value, mixed, normaliser)
        ctx.parts = parts
        return mixed

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Gradients of queries, summed over the parts, keys and values."""
        query, key, value, mixed, normaliser = ctx.saved_tensors
        gradient, query, mixed, normaliser = (
            each.expand(ctx.parts, *each.shape[1:]) for each in (gradient, query, mixed, normaliser)
        )
        key, value = (
            rearrange(heads, "1 H (part L) d -> part H L d", part=ctx.parts)
            for heads in (key, value)
        )
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        to_query, to_key, to_value = kernel(
            gradient, query, key, value, mixed, normaliser, dropout_p=0.0, is_causal=False
        )
        to_key, to_value = (
            rearrange(heads, "part H L d -> 1 H (part L) d") for heads in (to_key, to_value)
        )
        return to_query.sum(0, keepdim=True), to_key, to_value, None


def varlen(query: Queries, key: Heads, value: Heads, segments: Segments) -> Queries:
    """Attention by CUDA's kernel for sequences of any lengths, in half precision.

    Source: `torch.nn.attention.varlen`.
    """
    from torch.nn.attention.varlen import varlen_attn

    asked, times = query.shape[1], key.shape[1]
    of_queries, query_lengths = token_rows(segments, len(query), asked, query.device)
    of_keys, key_lengths = token_rows(segments, len(key), times, query.device)
    mixed = varlen_attn(
        query.flatten(0, 1)[of_queries],
        key.flatten(0, 1)[of_keys].to(query.dtype),
        value.flatten(0, 1)[of_keys].to(query.dtype),
        starts_of(query_lengths),
        starts_of(key_lengths),
        int(query_lengths.max()),
        int(key_lengths.max()),
    )
    rows = torch.empty_like(of_queries)
    rows[of_queries] = torch.arange(len(rows), device=rows.device)
    return mixed[rows].unflatten(0, (-1, asked))


def starts_of(lengths: Int[Tensor, " S"]) -> Int[Tensor, " S1"]:
    """Where each sequence starts, and the last one ends, by their lengths."""
    return torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)


def token_rows(
    segments: Segments, cells: int, times: int, device: torch.device
) -> tuple[Int[Tensor, " rows"], Int[Tensor, " S"]]:
    """The rows of [N T] tokens, segment after segment, and the length of each segment."""
    tables = segments.tables(cells, times, device)
    lengths = [torch.full((len(table),), table.shape[1], device=device) for table in tables]
    return torch.cat([table.flatten() for table in tables]), torch.cat(lengths)


def reference(query: Queries, key: Heads, value: Heads, segments: Segments) -> Queries:
    """Attention as one softmax over all tokens, other segments masked: plain and slow."""
    asked, times = query.shape[1], key.shape[1]
    rows, lengths = token_rows(segments, len(key), times, key.device)
    segment = torch.empty_like(rows)
    segment[rows] = torch.arange(len(lengths), device=rows.device).repeat_interleave(lengths)
    segment = segment.view(len(key), times)
    mates = segment[:, -asked:].reshape(-1, 1) == segment.reshape(1, -1)
    queries, keys, values = (heads.flatten(0, 1).movedim(1, 0) for heads in (query, key, value))
    scores = queries @ keys.transpose(1, 2) * query.shape[-1] ** -0.5
    weights = scores.masked_fill(~mates, -torch.inf).softmax(dim=-1)
    return (weights @ values).movedim(0, 1).unflatten(0, (-1, asked))
