import torch
from hypothesis import given
from hypothesis import strategies as st

from matey.config import RefineConfig
from matey.tokens.pack import locate, pack, pack_mixed, unpack
from matey.tokens.refine import plan_refinement
from tests.tokens.helpers import sides


@given(st.integers(1, 4), st.floats(0, 1), st.integers(0, 99))
def test_pack_then_unpack_is_the_identity_and_sorts_by_sample(samples, threshold, seed):
    torch.manual_seed(seed)
    fields = torch.randn(samples, 3, 1, 1, 16, 16) * torch.rand(samples, 1, 1, 1, 16, 16) ** 4
    sizes = [(1, 8, 8), (1, 4, 4), (1, 2, 2)]
    plan = plan_refinement(fields, sides(fields), sizes, RefineConfig(threshold=threshold))
    levels = [torch.randn(len(plan.leaves_at(level)), 3, 5) for level in range(3)]
    packing = pack_mixed(plan)
    packed, places = pack(levels, packing), locate(packing, times=3)
    assert bool((places.sequence.diff() >= 0).all())
    assert places.lengths == tuple(plan.tokens.tolist())
    for before, after in zip(levels, unpack(packed, packing), strict=True):
        assert torch.equal(before, after)
    # Each token still stands with its own cell.
    for level in range(3):
        here = plan.level[packing.cell] == level
        assert torch.equal(packed[here], levels[level])
        assert torch.equal(packing.cell[here], plan.leaves_at(level))


def test_centres_and_sizes_are_fractions_of_the_domain():
    fields = torch.zeros(1, 2, 1, 1, 16, 32)
    plan = plan_refinement(fields, sides(fields), [(1, 8, 8)], RefineConfig())
    places = locate(pack_mixed(plan), times=2)
    assert places.centre[0].tolist() == [0.5, 0.25, 0.125]
    assert places.size[0].tolist() == [1, 0.5, 0.25]
    assert places.time.tolist() == [-1, 0]
