import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import matey
from matey.config import RefineConfig
from matey.errors import ConfigError, ShapeError
from matey.fields import Boundary
from matey.tokens.criteria import CRITERIA, cell_change, cell_gradient, cell_variance
from matey.tokens.lattice import lattice_shape, patch_shape
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


def levels_of(ndim: int, count: int) -> list:
    return [patch_shape(ndim, patch) for patch in sizes_of[ndim][:count]]


@given(st.integers(1, 3), st.floats(0, 1), st.integers(0, 99))
def test_a_fraction_refines_that_share_of_the_cells_those_that_vary_most(ndim, fraction, seed):
    fields, sizes = random_fields(ndim, 32 if ndim < 3 else 8, 2, seed), levels_of(ndim, 2)
    plan = plan_refinement(fields, sides(fields), sizes, RefineConfig(fraction=fraction))
    value = cell_variance(fields, sizes[0]).flatten(1)
    refined = plan.refined[plan.level == 0].view(2, -1)
    assert refined.sum(dim=1).tolist() == [round(fraction * value.shape[1])] * 2
    for chosen, numbers in zip(refined, value, strict=True):
        if chosen.any() and not chosen.all():
            assert numbers[chosen].min() >= numbers[~chosen].max()


@given(
    st.integers(1, 3), st.integers(2, 3), st.integers(0, 300), st.integers(0, 2), st.integers(0, 99)
)
def test_a_token_budget_is_kept_and_used_up(ndim, levels, extra, buffer, seed):
    if ndim == 3:
        levels = 2
    fields, sizes = random_fields(ndim, 32 if ndim < 3 else 8, 2, seed), levels_of(ndim, levels)
    coarse = math.prod(lattice_shape(tuple(fields.shape[-3:]), sizes[0]))
    config = RefineConfig(token_budget=coarse + extra, buffer=buffer)
    plan = plan_refinement(fields, sides(fields), sizes, config)
    assert bool((plan.tokens <= coarse + extra).all())
    if buffer == 0:  # one more cell would not fit, or there is none
        gains = [math.prod(a) // math.prod(b) - 1 for a, b in pairwise(sizes)]
        finest = math.prod(fields.shape[-3:]) // math.prod(sizes[-1])
        room = coarse + extra - plan.tokens
        assert bool(((room < max(gains)) | (plan.tokens == finest)).all())


def test_a_larger_budget_refines_the_same_cells_and_more():
    fields, sizes = random_fields(2, 32, 1, seed=3), levels_of(2, 3)
    before = None
    for budget in (16, 40, 90, 200, 256):
        config = RefineConfig(token_budget=budget)
        plan = plan_refinement(fields, sides(fields), sizes, config)
        cells = {
            (level, *corner)
            for level, corner in zip(
                plan.level[plan.refined].tolist(), plan.corner[plan.refined].tolist(), strict=True
            )
        }
        assert before is None or before <= cells
        before = cells


def test_ties_for_the_budget_go_to_the_lower_cell():
    wave = torch.sin(torch.arange(8.0) * torch.pi / 4).repeat(2)  # the same in every cell
    fields = wave.expand(1, 1, 1, 1, 16, 16).clone()
    config = RefineConfig(token_budget=10)
    plan = plan_refinement(fields, sides(fields), [(1, 8, 8), (1, 4, 4)], config)
    assert plan.corner[plan.refined].tolist() == [[0, 0, 0], [0, 0, 8]]


def test_a_budget_below_the_coarse_grid_is_refused_with_the_least_possible():
    fields = torch.zeros(1, 1, 1, 1, 16, 16)
    with pytest.raises(ConfigError, match=r"token_budget is 3.*4 tokens.*least possible"):
        plan_refinement(fields, sides(fields), [(1, 8, 8), (1, 4, 4)], RefineConfig(token_budget=3))


@pytest.mark.parametrize("kind", [Boundary.PERIODIC, Boundary.WALL])
def test_a_buffer_refines_rings_of_neighbours_also_across_periodic_sides(kind):
    fields = torch.zeros(1, 1, 1, 1, 32, 32)
    fields[..., 0:4, 0:4] = torch.randn(4, 4)  # in the corner cell
    sizes = [(1, 4, 4), (1, 2, 2)]
    for rings in (0, 1, 2):
        config = RefineConfig(threshold=0.5, buffer=rings)
        plan = plan_refinement(fields, sides(fields, kind), sizes, config)
        near = [i % 8 for i in range(-rings, rings + 1)]
        if kind == Boundary.WALL:
            near = list(range(rings + 1))
        expected = sorted([0, 4 * y, 4 * x] for y in near for x in near)
        assert sorted(plan.corner[plan.refined].tolist()) == expected


def test_the_gradient_criterion_finds_the_steep_cell_and_not_the_high_one():
    fields = torch.zeros(1, 1, 1, 1, 8, 32)
    fields[..., 16:] = 5.0  # a step between the second and third cell of 8
    value = cell_gradient(fields, (1, 8, 8))[0, 0, 0]
    assert value[1] > 0
    assert value[2] > 0
    assert value[0] == value[3] == 0
    slope = 0.3
    ramp = (slope * torch.arange(32.0)).expand(1, 1, 1, 1, 8, 32)
    torch.testing.assert_close(cell_gradient(ramp, (1, 8, 8)), torch.full((1, 1, 1, 4), slope))


def test_the_change_criterion_finds_the_moving_wave_and_not_the_still_one():
    """A wave sin(x + t) that moved by a phase of 1 changed by (1 - cos 1) in the mean square."""
    x = 2 * torch.pi * torch.arange(16) / 16
    fields = torch.zeros(1, 2, 1, 1, 16, 32)
    fields[..., :16] = 3 * x.sin()  # still
    for time in range(2):
        fields[0, time, ..., 16:] = (x + time).sin()
    value = cell_change(fields, (1, 16, 16))[0, 0, 0]
    expected = torch.tensor([0.0, 1 - math.cos(1)])
    torch.testing.assert_close(value, expected)  # sums of 256 float32 squares


def test_the_change_of_a_single_frame_is_refused():
    with pytest.raises(ShapeError, match=r"windows\.history 2"):
        cell_change(torch.zeros(1, 1, 1, 1, 8, 8), (1, 8, 8))


@given(st.integers(1, 3), st.floats(0.01, 0.99), st.integers(0, 99))
def test_bulk_marks_the_fewest_cells_that_hold_its_fraction(ndim, bulk, seed):
    patches = sizes_of[ndim][:2]
    fields = random_fields(ndim, 4 * patches[0], 2, seed)
    sizes = [patch_shape(ndim, patch) for patch in patches]
    plan = plan_refinement(fields, sides(fields), sizes, RefineConfig(bulk=bulk))
    value = cell_variance(fields, sizes[0]).flatten(1).double()
    refined = plan.refined[plan.level == 0].view(2, -1)
    for held, marked in zip(value, refined, strict=True):
        smallest = held[marked].min()
        assert held[marked].sum() >= bulk * held.sum()
        assert held[marked].sum() - smallest < bulk * held.sum()  # one fewer would not do
        assert bool((held[~marked] <= smallest).all())


def test_one_extreme_cell_does_not_hide_the_others_from_bulk():
    """Fields of variance 100, 1, 1, 0: a threshold of 0.1 sees the first alone."""
    fields = torch.zeros(1, 1, 1, 1, 8, 32)
    wave = math.sqrt(2) * (2 * torch.pi * torch.arange(8) / 8).sin()
    fields[..., :8], fields[..., 8:16], fields[..., 16:24] = 10 * wave, wave, wave
    sizes = [(1, 8, 8), (1, 4, 4)]
    refined = {
        name: plan_refinement(fields, sides(fields), sizes, config).refined[:4].tolist()
        for name, config in (
            ("threshold", RefineConfig(threshold=0.1)),
            ("bulk", RefineConfig(bulk=0.995)),
        )
    }
    assert refined["threshold"] == [True, False, False, False]
    assert refined["bulk"] == [True, True, True, False]


def test_bulk_of_0_refines_none_and_of_1_every_cell_and_a_constant_field_nowhere():
    fields = torch.zeros(2, 2, 1, 1, 16, 16)
    fields[0] = torch.randn(2, 1, 1, 16, 16)
    sizes = [(1, 8, 8), (1, 4, 4)]
    tokens = {
        bulk: plan_refinement(fields, sides(fields), sizes, RefineConfig(bulk=bulk)).tokens.tolist()
        for bulk in (0.0, 0.9, 1.0)
    }
    assert tokens[0.0] == [4, 4]
    assert tokens[0.9][1] == 4
    assert tokens[1.0] == [16, 16]


@pytest.mark.parametrize(
    "wrong",
    [
        {"fraction": 1.5},
        {"bulk": 1.5},
        {"fraction": float("nan")},
        {"token_budget": 0},
        {"buffer": -1},
    ],
)
def test_a_fraction_budget_or_buffer_out_of_range_is_refused(wrong):
    with pytest.raises(ConfigError, match=rf"model\.refine\.{next(iter(wrong))}"):
        RefineConfig(**wrong)


@pytest.mark.parametrize(
    ("rules", "given"),
    [
        ({"fraction": 0.5, "token_budget": 100}, "token_budget"),
        ({"bulk": 0.5, "token_budget": 100}, "token_budget"),
        ({"bulk": 0.5, "fraction": 0.5}, "bulk"),
    ],
)
def test_two_rules_together_are_refused(rules, given):
    with pytest.raises(ConfigError, match=f"{given} is given"):
        RefineConfig(**rules)
