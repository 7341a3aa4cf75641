import torch

from matey.config import RefineConfig
from matey.metrics.seams import jumps, seam_ratio
from matey.tokens.refine import plan_refinement
from tests.tokens.helpers import random_fields, sides


def test_an_error_that_is_constant_in_patches_jumps_across_their_edges_only():
    """Patches of 2 along X with errors 0, 3, 1: jumps of 3 and 2 across edges, none inside."""
    error = torch.tensor([0.0, 0, 3, 3, 1, 1]).expand(1, 1, 1, 1, 6)
    patches = torch.tensor([0, 0, 1, 1, 2, 2]).expand(1, 1, 1, 6)
    found = jumps(error, torch.zeros_like(error), patches)
    assert found.across.tolist() == [[2.5]]
    assert found.inside.tolist() == [[0.0]]
    assert bool(seam_ratio(found).isnan().all()), "nothing to relate the jumps to"


def test_a_smooth_error_shows_no_edges():
    """A linear error jumps as far across every edge as anywhere else, in both variables."""
    x = torch.arange(12.0).expand(2, 1, 1, 8, 12)
    error = torch.cat([x, -5 * x], dim=1)
    patches = (torch.arange(12) // 4).expand(2, 1, 8, 12)
    ratio = seam_ratio(jumps(error, torch.zeros_like(error), patches))
    torch.testing.assert_close(ratio, torch.ones(2, dtype=torch.float64))  # sums of integers


def test_a_step_at_an_edge_doubles_the_ratio():
    """Errors that rise by 1 between all neighbours but by 2 across edges."""
    error = torch.tensor([0.0, 1, 3, 4, 6, 7]).expand(1, 1, 1, 1, 6)
    patches = torch.tensor([0, 0, 1, 1, 2, 2]).expand(1, 1, 1, 6)
    assert seam_ratio(jumps(error, torch.zeros_like(error), patches)).tolist() == [2.0]


def test_an_edge_is_compared_with_what_is_beside_it():
    """Small patches of 2 lie where the error is rough: jumps of 10 inside and across. In the large
    one of 6 it rises by 1. The jump of 5.5 between them is the mean of 10 and 1. Over all
    pairs inside, of which most are calm, the same jumps would look twice as large and more."""
    patches = torch.tensor([0, 0, 1, 1, 2, 2, 2, 2, 2, 2]).expand(1, 1, 1, 10)
    error = torch.tensor([0.0, 10, 20, 30, 35.5, 36.5, 37.5, 38.5, 39.5, 40.5])
    error = error.expand(1, 1, 1, 1, 10)
    found = jumps(error, torch.zeros_like(error), patches)
    assert found.across.tolist() == [[(10 + 5.5) / 2]]
    assert found.inside.tolist() == [[(10 + 5.5) / 2]]


def test_up_to_four_pairs_on_either_side_are_looked_at_within_the_patch_beside_the_edge():
    """A patch of 6 with jumps of 1, 3, 1, 3, 100 from its edge on, where that of 7 is; one of 2
    with a jump of 4 beside it, and behind that one with a jump of 50."""
    jumps_along = torch.tensor([50.0, 7, 4, 7, 1, 3, 1, 3, 100])
    error = torch.cat([torch.zeros(1), jumps_along.cumsum(0)]).expand(1, 1, 1, 1, 10)
    patches = torch.tensor([0, 0, 1, 1, 2, 2, 2, 2, 2, 2]).expand(1, 1, 1, 10)
    found = jumps(error, torch.zeros_like(error), patches)
    assert found.across.tolist() == [[7.0]]
    assert found.inside.tolist() == [[((50 + 4) / 2 + (4 + 2) / 2) / 2]]


def test_patches_of_one_point_are_compared_with_their_neighbours_inside():
    """Points 0 and 1 are patches by themselves: their edge has nothing to be set against, and that
    to the patch of 3 is set against it alone."""
    error = torch.tensor([0.0, 100, 104, 106, 108]).expand(1, 1, 1, 1, 5)
    patches = torch.tensor([0, 1, 2, 2, 2]).expand(1, 1, 1, 5)
    found = jumps(error, torch.zeros_like(error), patches)
    assert (found.across.tolist(), found.inside.tolist()) == ([[4.0]], [[2.0]])


def test_samples_of_one_numbering_do_not_mix():
    """Patches of two samples have the same numbers; the first is steep, the second flat."""
    steep = torch.arange(6.0)
    error = torch.stack([10 * steep, steep]).view(2, 1, 1, 1, 6)
    patches = (torch.arange(6) // 3).expand(2, 1, 1, 6)
    found = jumps(error, torch.zeros_like(error), patches)
    assert found.inside.tolist() == [[10.0], [1.0]]


def test_points_without_a_field_are_not_compared():
    """Of the jumps across the edge in each row 2 counts, beside 1; below an end is not held."""
    error = torch.tensor([[0.0, 1, 3, 4], [0, 100, 7, 9]]).view(1, 1, 1, 2, 4)
    patches = torch.tensor([0, 0, 1, 1]).expand(1, 1, 2, 4)
    held = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1]]).bool().view(1, 1, 2, 4)
    found = jumps(error, torch.zeros_like(error), patches, held)
    assert (found.across.tolist(), found.inside.tolist()) == ([[2.0]], [[1.0]])


def test_an_error_blind_to_patches_shows_none_where_they_are_chosen_by_it():
    """Rough in the left half, where cells are fine. Cells around it are coarse and calm."""
    generator = torch.Generator().manual_seed(0)
    size = torch.where(torch.arange(64) < 32, 1.0, 0.02)
    error = torch.randn(4, 1, 1, 64, 64, generator=generator) * size
    sizes = [(1, 16, 16), (1, 4, 4)]
    plan = plan_refinement(error[:, None], sides(error), sizes, RefineConfig())
    assert set(plan.level.tolist()) == {0, 1}
    found = jumps(error, torch.zeros_like(error), plan.labels)
    assert abs(float(seam_ratio(found)) - 1) < 0.05  # 2e4 pairs across edges of random numbers


def test_one_patch_has_no_edges():
    error = torch.randn(1, 1, 1, 4, 4)
    found = jumps(error, torch.zeros_like(error), torch.zeros(1, 1, 4, 4, dtype=torch.long))
    assert bool(found.across.isnan().all())


def test_labels_number_the_leaf_of_every_point():
    for ndim, patches in ((1, (8, 4, 2)), (2, (8, 4)), (3, (4, 2))):
        fields = random_fields(ndim, 2 * patches[0], 2, 0)
        sizes = [(1,) * (3 - ndim) + (patch,) * ndim for patch in patches]
        plan = plan_refinement(fields, sides(fields), sizes, RefineConfig(threshold=0.5))
        expected = torch.full((2, *fields.shape[-3:]), -1)
        for leaf in plan.leaves.tolist():
            (z, y, x), (dz, dy, dx) = plan.corner[leaf].tolist(), plan.size[leaf].tolist()
            expected[plan.sample[leaf], z : z + dz, y : y + dy, x : x + dx] = leaf
        assert torch.equal(plan.labels, expected)
