"""Grids that patches do not divide: what lies beyond them counts nowhere."""

from dataclasses import replace

import pytest
import torch

from matey.config import LossConfig, ModelConfig, RefineConfig
from matey.fields import Boundary, Inputs
from matey.fields.grid import even_points
from matey.nn.local.path import Local
from matey.nn.rollout import continue_inputs
from matey.tokens.criteria import CRITERIA, measure_cells
from matey.tokens.lattice import continued, covering, cropped
from matey.tokens.refine import plan_refinement
from matey.train.loss import batch_loss
from tests.nn.helpers import rough_inputs, share_weights, system, tiny_model

GRIDS = [(1, 13, 17), (1, 16, 19), (1, 1, 16), (1, 16, 1), (1, 5, 3), (1, 7, 24)]
MODES = {
    "uniform": {"mode": "uniform", "patches": (8,)},
    "adap_mix": {},
    "adap_mul": {"mode": "adap_mul"},
    "avit": {"scheme": "avit"},
    "local": {"local": 6},
    "levels": {"local": 6, "levels": 2, "stencil": True},
    "odd": {"patches": (9, 3), "local": 6},
    "jitter": {"jitter": True},
    "jitter_sides": {"jitter": True, "jitter_sides": True, "local": 6},
}


def inputs_on(grid, sides=Boundary.PERIODIC) -> Inputs:
    """Histories on a part of a larger grid."""
    given = rough_inputs(system(), points=24)
    z, y, x = grid
    values = given.values[..., :z, :y, :x].contiguous()
    return replace(given, values=values, boundaries=torch.full((3, 3, 2), int(sides)))


@pytest.mark.parametrize("side", list(Boundary))
@pytest.mark.parametrize("name", MODES)
def test_any_grid_is_predicted_trained_and_rolled_out(name, side):
    model = tiny_model(system(), **MODES[name])
    for grid in GRIDS:
        given = inputs_on(grid, side)
        shift = model.draw_shift(given)
        made = model.train()(given, shift)
        assert made.normalised.shape == (3, 2, *grid)
        assert made.patches.shape == (3, *grid)
        loss = batch_loss(made.normalised, made.base, made.normalised.detach() + 1, LossConfig())
        loss.backward()
        assert bool(torch.isfinite(loss))
        assert model.eval().cost(given, made).operations > 0
        frames = list(continue_inputs(model, given, [1.0, 1.0]))
        assert all(frame.shape == (3, 2, *grid) and frame.isfinite().all() for frame in frames)


def test_the_lattice_goes_on_by_as_few_points_as_it_takes():
    assert covering((1, 101, 97), (1, 16, 16)) == (1, 112, 112)
    assert covering((1, 96, 32), (1, 16, 16)) == (1, 96, 32)
    assert covering((1, 5, 1), (1, 8, 8)) == (1, 8, 8)
    fields = torch.arange(10.0).view(2, 1, 1, 1, 5)
    wraps = torch.tensor([[True, True, True], [True, True, False]])
    found = continued(fields, (1, 1, 8), wraps)
    assert found[0].flatten().tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert found[1].flatten().tolist() == [5, 6, 7, 8, 9, 9, 9, 9]
    assert torch.equal(cropped(found, (1, 1, 5)), fields)
    assert continued(fields, (1, 1, 5), wraps) is fields


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_what_lies_beyond_the_grid_is_in_no_criterion(name):
    """The plan of a grid that is cut off is that of the same grid where the rest holds no field."""
    given = inputs_on((1, 13, 17), Boundary.OPEN)
    config, sizes = RefineConfig(criterion=name, threshold=0.4), ((1, 8, 8), (1, 4, 4))
    plan = plan_refinement(given.values, given.boundaries, sizes, config)
    assert (plan.domain, plan.grid) == ((1, 13, 17), (1, 16, 24))
    generator = torch.Generator().manual_seed(3)
    wide = 100 * torch.randn(3, 2, 2, 1, 16, 24, generator=generator)
    wide[..., :13, :17] = given.values
    points = even_points(3, (1, 13, 17), wide.device).continued((1, 16, 24))
    other = plan_refinement(wide, given.boundaries, sizes, config, points)
    assert torch.equal(plan.refined, other.refined)
    assert bool(plan.refined.any())
    assert plan.labels.shape == (3, 1, 13, 17)
    assert set(plan.labels.unique().tolist()) <= set(plan.leaves.tolist())
    volumes = points.volumes[0, 0, 0]
    torch.testing.assert_close(volumes[:13, :17], torch.full_like(volumes[:13, :17], 1 / 221))
    assert volumes.sum() == pytest.approx(1)


def test_a_slope_is_as_steep_on_a_grid_that_goes_on():
    """Per grid point, of a plane that rises by 1 along y and by 2 along x."""
    plane = torch.arange(12.0)[:, None] + 2 * torch.arange(20.0)
    points = even_points(1, (1, 12, 20), plane.device).continued((1, 16, 24))
    fields = continued(plane.view(1, 1, 1, 1, 12, 20), (1, 16, 24), torch.zeros(1, 3) > 0)
    values = measure_cells("gradient", fields, (1, 8, 8), points)
    assert values[0, 0, 0].tolist()[:2] == pytest.approx([5**0.5] * 2, rel=1e-6)


def test_a_grid_that_patches_divide_has_no_weights():
    given = inputs_on((1, 16, 24))
    plan = plan_refinement(given.values, given.boundaries, ((1, 8, 8),), RefineConfig())
    assert plan.domain == plan.grid == (1, 16, 24)
    assert given.space is None


def without_tokens(**config):
    """A model with a local path and a stencil, whose tokens add nothing."""
    model = tiny_model(system(), local=6, levels=1, stencil=True, mode="uniform", **config)
    for ends in model.local.ends.values():
        ends.out.data.zero_()
    generator = torch.Generator().manual_seed(1)
    weight = model.stencils.weight("toy")
    weight.data = torch.randn(weight.shape, generator=generator) * 0.1
    return model


def test_the_local_path_has_no_seam_on_a_periodic_grid_that_patches_do_not_divide():
    """It commutes with shifts by whole pieces of its coarsest level."""
    model, given = without_tokens(patches=(8,)), inputs_on((1, 12, 20))
    moved = replace(given, values=given.values.roll((4, 8), (-2, -1)))
    expected = model(given).normalised.roll((4, 8), (-2, -1))
    torch.testing.assert_close(model(moved).normalised, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", list(Boundary))
def test_the_local_path_has_its_sides_where_the_grid_ends_whatever_the_patches(side):
    given, tiled = inputs_on((1, 12, 20), side), without_tokens(patches=(4,))
    other = share_weights(tiled, without_tokens(patches=(8,)), "local.ends")
    torch.testing.assert_close(
        other(given).normalised, tiled(given).normalised, rtol=1e-4, atol=1e-5
    )


def test_pieces_see_across_the_seam_of_an_odd_grid():
    """13 points in pieces of 2: the first piece sees the last two points, the last one the first
    three, as pieces in the middle of a shifted grid do."""
    torch.manual_seed(0)
    path = Local(1, 2, ModelConfig(embed_dim=4, heads=2, local=4))
    path.add(["a"], ["a"])
    path.before = torch.nn.ModuleList()
    fields, sides = torch.randn(1, 2, 1, 13), torch.zeros(1, 1, 2, dtype=torch.int64)

    def features(shift):
        rolled = fields.roll(shift, -1)
        return path.read(rolled, torch.ones(1, 1), ["a"], sides, torch.zeros(1, 4))

    assert features(0).shape == (1, 4, 7)
    torch.testing.assert_close(features(0)[..., 0], features(2)[..., 1])
    torch.testing.assert_close(features(0)[..., 6], features(-10)[..., 1])
