import pytest
import torch

from matey.nn.attention import attend, rotate, rotations
from matey.tokens.pack import Segments


def plain_attention(query, key, value, segments: Segments):
    """Attention written out token by token: slow, and plainly right."""
    cells, times, _, width = query.shape
    if segments.time == "segment":
        segment = torch.arange(cells)
    else:
        segment = torch.empty(cells, dtype=torch.long)
        order = segments.order if segments.order is not None else torch.arange(cells)
        segment[order] = torch.arange(len(segments.lengths)).repeat_interleave(
            torch.tensor(segments.lengths)
        )
    result = torch.empty_like(query)
    for n in range(cells):
        for t in range(times):
            mates = (segment == segment[n]).nonzero().squeeze(1)
            frames = [t] if segments.time == "batch" else range(times)
            keys = torch.stack([key[m, f] for m in mates for f in frames])  # mates H d
            values = torch.stack([value[m, f] for m in mates for f in frames])
            scores = torch.einsum("hd,mhd->hm", query[n, t], keys) / width**0.5
            result[n, t] = torch.einsum("hm,mhd->hd", scores.softmax(1), values)
    return result


@pytest.mark.parametrize("lengths", [(4, 4, 4), (3, 7, 2), (12,)])
@pytest.mark.parametrize("time", ["inside", "segment", "batch"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_attention_equals_the_sum_written_out(lengths, time, shuffled):
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 12, 3, 2, 8, dtype=torch.float64)
    order = torch.randperm(12) if shuffled else None
    segments = Segments((1,) * 12 if time == "segment" else lengths, time, order)
    expected = plain_attention(query, key, value, segments)
    # float64: only the order of at most 36 additions differs.
    torch.testing.assert_close(
        attend(query, key, value, segments), expected, rtol=1e-12, atol=1e-12
    )


def test_turned_queries_and_keys_know_only_how_far_apart_they_are():
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 24)
    place, far = torch.rand(2, 1, 3)

    def product(at, other):
        turned = rotate(query, rotations(at, 24)) * rotate(key, rotations(other, 24))
        return turned.sum()

    here = product(place, far)
    for shift in (torch.tensor([0.3, 0.7, 0.1]), torch.tensor([1.0, 0.0, 2.0])):
        torch.testing.assert_close(product(place + shift, far + shift), here, rtol=1e-4, atol=1e-4)
    # Once around a periodic domain is the same place.
    torch.testing.assert_close(product(place, far + 1), here, rtol=1e-4, atol=1e-4)
    for axis in range(3):
        assert abs(product(place, far + 0.25 * torch.eye(3)[axis]) - here) > 1e-2
