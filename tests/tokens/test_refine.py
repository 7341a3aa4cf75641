import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import matey
from matey.config import RefineConfig
from matey.errors import ConfigError
from matey.tokens.criteria import CRITERIA, cell_variance
from matey.tokens.lattice import patch_shape
from matey.tokens.refine import plan_refinement
from tests.tokens.helpers import random_fields, sides

sizes_of = {1: (16, 8, 4, 2), 2: (8, 4, 2), 3: (4, 2)}


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.floats(0, 1), st.integers(0, 99))
def test_leaves_tile_every_domain_exactly_once(ndim, levels, samples, threshold, seed):
    patches = sizes_of[ndim][:levels]
    fields = random_fields(ndim, 2 * patches[0], samples, seed)
    sizes = [patch_shape(ndim, patch) for patch in patches]
    plan = plan_refinement(fields, sides(fields), sizes, RefineConfig(threshold=threshold))
    covered = torch.zeros(samples, *fields.shape[-3:], dtype=torch.long)
    for leaf in plan.leaves.tolist():
        z, y, x = plan.corner[leaf].tolist()
        dz, dy, dx = plan.size[leaf].tolist()
        covered[plan.sample[leaf], z : z + dz, y : y + dy, x : x + dx] += 1
    assert bool((covered == 1).all())
    assert plan.tokens.sum() == len(plan.leaves)


def test_only_the_cell_that_holds_the_wave_varies():
    """A sine of amplitude a has variance a**2 / 2; the other cells are still."""
    amplitude, points = 3.0, 32
    fields = torch.zeros(1, 2, 1, 1, 4, 4 * points)
    phase = 2 * torch.pi * torch.arange(points) / points
    fields[..., points : 2 * points] = amplitude * phase.sin()
    variance = cell_variance(fields, (1, 4, points))
    # Sums of 256 float32 squares: relative rounding far below 1e-6.
    torch.testing.assert_close(variance[0, 0, 0], torch.tensor([0, amplitude**2 / 2, 0, 0]))


def test_a_threshold_of_0_refines_every_cell_also_in_still_water_and_1_refines_none():
    fields = torch.zeros(2, 2, 1, 1, 16, 16)
    fields[0] = torch.randn(2, 1, 1, 16, 16)
    sizes = [(1, 8, 8), (1, 4, 4)]
    assert plan_refinement(
        fields, sides(fields), sizes, RefineConfig(threshold=0)
    ).tokens.tolist() == [16, 16]
    assert plan_refinement(
        fields, sides(fields), sizes, RefineConfig(threshold=1)
    ).tokens.tolist() == [4, 4]


def test_a_constant_field_is_refined_nowhere():
    fields = torch.full((1, 2, 1, 1, 16, 16), 0.1)
    plan = plan_refinement(
        fields, sides(fields), [(1, 8, 8), (1, 4, 4)], RefineConfig(threshold=0.01)
    )
    assert not bool(plan.refined.any())


@given(st.integers(1, 3), st.floats(0.01, 0.99), st.integers(0, 99))
def test_the_plan_of_a_sample_does_not_depend_on_its_batch_mates(ndim, threshold, seed):
    patches = sizes_of[ndim][:2]
    fields = random_fields(ndim, 2 * patches[0], 3, seed)
    sizes = [patch_shape(ndim, patch) for patch in patches]
    config = RefineConfig(threshold=threshold)
    together = plan_refinement(fields, sides(fields), sizes, config)
    for i in range(3):
        alone = plan_refinement(fields[i : i + 1], sides(fields)[i : i + 1], sizes, config)
        mine = together.leaves[together.sample[together.leaves] == i]
        assert torch.equal(together.corner[mine], alone.corner[alone.leaves])


def test_a_child_lies_inside_its_parent():
    fields = random_fields(2, 16, 2, seed=0)
    sizes = [(1, 8, 8), (1, 4, 4), (1, 2, 2)]
    plan = plan_refinement(fields, sides(fields), sizes, RefineConfig(threshold=0.5))
    child = (plan.parent >= 0).nonzero().squeeze(1)
    parent = plan.parent[child]
    assert bool((plan.level[child] == plan.level[parent] + 1).all())
    assert bool((plan.sample[child] == plan.sample[parent]).all())
    assert bool(plan.refined[parent].all())
    inside = plan.corner[child] - plan.corner[parent]
    assert bool(((inside >= 0) & (inside < plan.size[parent])).all())


def test_a_users_criterion_decides_which_cells_are_refined():
    @matey.criterion("leftmost")
    def leftmost(fields, cell):
        score = torch.zeros(
            len(fields), 1, fields.shape[-2] // cell[1], fields.shape[-1] // cell[2]
        )
        score[..., 0] = 1
        return score

    try:
        fields = torch.zeros(1, 1, 1, 1, 8, 8)
        config = RefineConfig(criterion="leftmost", threshold=0.5)
        plan = plan_refinement(fields, sides(fields), [(1, 4, 4), (1, 2, 2)], config)
    finally:
        del CRITERIA["leftmost"]
    assert plan.corner[plan.refined].tolist() == [[0, 0, 0], [0, 4, 0]]


def test_an_unregistered_criterion_is_named_with_the_nearest_known():
    fields = torch.zeros(1, 1, 1, 1, 8, 8)
    config = RefineConfig(criterion="varianc")
    with pytest.raises(ConfigError, match=r"'varianc'.*Did you mean 'variance'"):
        plan_refinement(fields, sides(fields), [(1, 4, 4), (1, 2, 2)], config)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_outside_0_to_1_is_refused(threshold):
    with pytest.raises(ConfigError, match=r"model\.refine\.threshold"):
        RefineConfig(threshold=threshold)
