import torch
from hypothesis import given
from hypothesis import strategies as st

from matey.config import RefineConfig
from matey.tokens.pack import pack, pack_mixed, unpack
from matey.tokens.refine import plan_refinement
from tests.tokens.helpers import sides


@given(st.integers(1, 4), st.floats(0, 1), st.integers(0, 99))
def test_pack_then_unpack_is_the_identity_and_sorts_by_sample(samples, threshold, seed):
    torch.manual_seed(seed)
    fields = torch.randn(samples, 3, 1, 1, 16, 16) * torch.rand(samples, 1, 1, 1, 16, 16) ** 4
    sizes = [(1, 8, 8), (1, 4, 4), (1, 2, 2)]
    plan = plan_refinement(fields, sides(fields), sizes, RefineConfig(threshold=threshold))
    levels = [torch.randn(len(plan.at(level)), 3, 5) for level in range(3)]
    packing = pack_mixed(plan)
    packed = pack(levels, packing)
    assert bool((packed.sequence.diff() >= 0).all())
    assert packed.lengths == tuple(plan.tokens.tolist())
    for before, after in zip(levels, unpack(packed.tokens, packing), strict=True):
        assert torch.equal(before, after)
    # Each token still stands with its own cell.
    for level in range(3):
        assert torch.equal(packed.tokens[packed.level == level], levels[level])
        assert torch.equal(packed.cell[packed.level == level], plan.at(level))


def test_centres_and_sizes_are_fractions_of_the_domain():
    fields = torch.zeros(1, 2, 1, 1, 16, 32)
    plan = plan_refinement(fields, sides(fields), [(1, 8, 8)], RefineConfig())
    packed = pack([torch.zeros(8, 2, 1)], pack_mixed(plan))
    assert packed.centre[0].tolist() == [0.5, 0.25, 0.125]
    assert packed.size[0].tolist() == [1, 0.5, 0.25]
    assert packed.time.tolist() == [-1, 0]
