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
