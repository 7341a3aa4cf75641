import pytest
import torch

from matey.nn import kernels
from matey.nn.kernels import attend, even_parts, reference, token_rows
from matey.tokens.pack import Run, Segments

# 12 cells each: equal and unequal lengths, one segment, the lines across a lattice of 3 by 4.
RUNS = [
    (Run(3, 4),),
    (Run(1, 3), Run(1, 7), Run(2, 1)),
    (Run(1, 12),),
    (Run(1, 3, inner=4),),
    (Run(2, 2), Run(2, 2, inner=2)),
]


def plain_attention(query, key, value, segment, alone):
    """Attention written out token by token: slow, and plainly right.

    `segment` numbers each cell's segment; `alone`: the cells of a segment at each time apart.
    """
    cells, asked, _, width = query.shape
    times = key.shape[1]
    result = torch.empty_like(query)
    for n in range(cells):
        for t in range(asked):
            mates = (segment == segment[n]).nonzero().squeeze(1)
            frames = [times - asked + t] if alone else range(times)
            keys = torch.stack([key[m, f] for m in mates for f in frames])  # mates H d
            values = torch.stack([value[m, f] for m in mates for f in frames])
            scores = torch.einsum("hd,mhd->hm", query[n, t], keys) / width**0.5
            result[n, t] = torch.einsum("hm,mhd->hd", scores.softmax(1), values)
    return result


def segment_numbers(segments: Segments) -> torch.Tensor:
    """The number of the segment of each cell, from the runs' own definition."""
    numbers, first = [], 0
    for run in segments.runs:
        grid = first + torch.arange(run.outer * run.inner).view(run.outer, 1, run.inner)
        numbers.append(grid.expand(run.outer, run.length, run.inner).flatten())
        first += run.outer * run.inner
    number = torch.cat(numbers)
    if segments.order is None:
        return number
    result = torch.empty_like(number)
    result[segments.order] = number
    return result


def heads(cells: int, times: int, asked: int, seed: int = 0, number: int = 2):
    generator = torch.Generator().manual_seed(seed)
    shape = (3, cells, times, number, 8)
    query, key, value = torch.randn(shape, dtype=torch.float64, generator=generator)
    return query[:, -asked:], key, value


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("time", ["inside", "segment", "batch"])
@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("asked", [3, 1])
def test_the_reference_equals_the_sum_written_out(runs, time, shuffled, asked):
    if time == "segment":
        runs = (Run(12, 1),)
    query, key, value = heads(12, 3, asked)
    if time == "batch":
        key, value = key[:, -asked:], value[:, -asked:]
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1)) if shuffled else None
    segments = Segments(runs, time, order)
    number = segment_numbers(segments)
    expected = plain_attention(query, key, value, number, alone=time == "batch")
    # float64: only the order of at most 36 additions differs.
    torch.testing.assert_close(
        reference(query, key, value, segments), expected, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("time", ["inside", "segment", "batch"])
@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("asked", [3, 1])
@pytest.mark.parametrize("short", [0, 16])
def test_the_packed_kernel_and_its_gradients_equal_the_reference(
    runs, time, shuffled, asked, short, monkeypatch
):
    monkeypatch.setattr(kernels, "SHORT", short)  # 0: the fused kernel, 16: batched products
    monkeypatch.setattr("matey.nn.kernels_cpu.MERGED", 32 if shuffled else 0)
    if time == "segment":
        runs = (Run(12, 1),)
    inputs = heads(12, 3, asked)
    if time == "batch":
        inputs = [x[:, -asked:] for x in inputs]
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1)) if shuffled else None
    segments = Segments(runs, time, order)
    inputs = [x.clone().requires_grad_() for x in inputs]
    found, expected = attend(*inputs, segments), reference(*inputs, segments)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weight = torch.randn(found.shape, dtype=found.dtype)
    for mine, plain in zip(
        torch.autograd.grad((found * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, plain, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("asked", [2, 1])
@pytest.mark.parametrize(("threads", "parts"), [(1, 1), (2, 2), (3, 1), (4, 4), (64, 8)])
def test_three_heads_of_a_lone_sequence_are_shared_evenly_and_exactly(
    threads, parts, asked, monkeypatch
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(kernels, "PART", 8)
    monkeypatch.setattr(kernels, "SHORT", 0)
    assert even_parts(heads=3, keys=64) == parts
    # Two lone sequences of two frames: 64 keys, and 82, which divide by two at most.
    segments = Segments((Run(1, 32), Run(1, 41)), "inside")
    inputs = [x.clone().requires_grad_() for x in heads(73, 2, asked, number=3)]
    found, expected = attend(*inputs, segments), reference(*inputs, segments)
    # float64: only the order of at most 146 additions differs.
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for score in (torch.sum, lambda mixed: mixed.square().sum()):  # gradients of one value, of many
        mine = torch.autograd.grad(score(found), inputs, retain_graph=True)
        plain = torch.autograd.grad(score(expected), inputs, retain_graph=True)
        torch.testing.assert_close(mine, plain, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("threads", [2, 64])
def test_a_part_is_never_too_small_to_gain(threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for keys in range(1, 4 * kernels.PART):
        assert keys // even_parts(1, keys) >= min(keys, kernels.PART)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_sequence_in_parts_keeps_no_more_than_one_in_a_piece(precision, monkeypatch):
    """In bytes of the storages that autograd saves."""
    segments, kept = Segments((Run(1, kernels.PART),), "inside"), []
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        inputs = [x.float().requires_grad_() for x in heads(kernels.PART, 2, 2, number=3)]
        saved: dict[int, int] = {}

        def note(tensor: torch.Tensor, saved: dict[int, int] = saved) -> torch.Tensor:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        half = torch.autocast("cpu", torch.bfloat16, precision == "bfloat16")
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), half:
            attend(*inputs, segments)
        assert even_parts(heads=3, keys=2 * kernels.PART) == threads
        kept.append(sum(saved.values()))
    assert kept[1] == kept[0]


def test_token_rows_hold_every_token_once():
    segments = Segments((Run(1, 3, inner=4),), "batch", torch.randperm(12))
    rows, lengths = token_rows(segments, 12, 2, torch.device("cpu"))
    assert rows.sort().values.tolist() == list(range(24))
    assert lengths.tolist() == [3] * 8


@pytest.mark.gpu
@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("time", ["inside", "segment", "batch"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_the_variable_length_kernel_on_cuda_equals_the_reference(runs, time, shuffled):
    runs = (Run(12, 1),) if time == "segment" else runs
    order = torch.randperm(12) if shuffled else None
    segments = Segments(runs, time, None if order is None else order.cuda())
    inputs = [
        torch.randn(12, 3, 2, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        for _ in range(3)
    ]
    for kernel in (kernels.varlen, attend):
        found = kernel(*inputs, segments)
        expected = reference(*(x.float() for x in inputs), segments)
        # bfloat16 keeps 8 bits: a few roundings of values of size one.
        torch.testing.assert_close(found.float(), expected, rtol=2e-2, atol=2e-2)
        mine = torch.autograd.grad(found.float().square().sum(), inputs)
        plain = torch.autograd.grad(expected.square().sum(), inputs)
        for a, b in zip(mine, plain, strict=True):
            torch.testing.assert_close(a, b, rtol=5e-2, atol=5e-2)
