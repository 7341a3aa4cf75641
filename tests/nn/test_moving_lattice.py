"""Lattices of patches that begin before the grid, along axes that do not roll round."""

from dataclasses import replace

import pytest
import torch

from matey.config import ModelConfig, RefineConfig
from matey.errors import ConfigError
from matey.fields import Boundary
from matey.fields.grid import even_points, stack_points
from matey.nn.rollout import continue_inputs
from matey.tokens.lattice import continued, covering, cropped
from matey.tokens.pack import PACKINGS, locate
from matey.tokens.refine import check_budget, plan_refinement
from tests.nn.helpers import rough_inputs, system, tiny_model
from tests.nn.test_any_grid import inputs_on, without_tokens
from tests.nn.test_stretched import GRIDS

MOVING = {"jitter": True, "jitter_sides": True}
WALLS = torch.full((1, 3, 2), int(Boundary.WALL))


def test_fields_go_on_past_both_ends():
    fields = torch.arange(10.0).view(2, 1, 1, 1, 5)
    wraps = torch.tensor([[False, False, True], [False, False, False]])
    assert covering((1, 1, 5), (1, 1, 4), (0, 0, 2)) == (1, 1, 8)
    found = continued(fields, (1, 1, 8), wraps, (0, 0, 2))
    assert found[0].flatten().tolist() == [3, 4, 0, 1, 2, 3, 4, 0]
    assert found[1].flatten().tolist() == [5, 5, 5, 6, 7, 8, 9, 9]
    assert torch.equal(cropped(found, (1, 1, 5), (0, 0, 2)), fields)
    points = even_points(1, (1, 1, 5), fields.device).continued((1, 1, 8), (0, 0, 2))
    expected = (torch.arange(8.0, dtype=torch.float64) - 1.5) / 5
    torch.testing.assert_close(points.centres[2][0], expected)
    assert points.mask.flatten().tolist() == [False] * 2 + [True] * 5 + [False]


def test_cells_lie_where_the_lattice_has_them():
    """Cells of 4 points of a grid of 8, the first of which begins 2 points before it."""
    values = torch.randn(1, 1, 1, 1, 1, 8)
    plan = plan_refinement(values, WALLS, [(1, 1, 4)], RefineConfig(), before=(0, 0, 2))
    assert (plan.grid, plan.domain) == ((1, 1, 12), (1, 1, 8))
    assert plan.labels.flatten().tolist() == [0, 0, 1, 1, 1, 1, 2, 2]
    packing = PACKINGS["uniform"](plan)
    places = locate(packing, 1)
    assert places.centre[:, 2].tolist() == [0, 0.5, 1]
    assert places.at_side[:, 2].tolist() == [[True, False], [False, False], [False, True]]
    inside = locate(packing, 1, points=even_points(1, (1, 1, 8), values.device))
    assert inside.centre[:, 2].tolist() == [0.125, 0.5, 0.875]
    assert inside.size[:, 2].tolist() == [0.25, 0.5, 0.25]


@pytest.mark.parametrize("local", [0, 6])
def test_it_is_drawn_along_all_axes_where_that_is_asked_for(local):
    given = inputs_on((1, 16, 16))
    given.boundaries[:, 1] = int(Boundary.WALL)
    plain, moving = (
        tiny_model(system(), local=local, **settings) for settings in ({"jitter": True}, MOVING)
    )
    drawn = [
        [model.draw_shift(given, torch.Generator().manual_seed(seed)) for seed in range(40)]
        for model in (plain, moving)
    ]
    assert {shift[1] for shift in drawn[0]} == {0}
    assert {shift[1] for shift in drawn[1]} == {0, 2, 4, 6}  # whole pieces
    assert [shift[2] for shift in drawn[0]] == [shift[2] for shift in drawn[1]]
    assert {shift[2] for shift in drawn[0]} == set(range(8))
    stretched = replace(rough_inputs(system()), points=stack_points(GRIDS))
    assert any(moving.draw_shift(stretched)[1] for _ in range(20))


@pytest.mark.parametrize("mode", ["adap_mix", "adap_mul"])
def test_it_moves_predictions_and_not_the_local_path(mode):
    given = inputs_on((1, 16, 16), Boundary.WALL)
    model = tiny_model(system(), local=6, mode=mode, **MOVING)
    made, moved = model(given), model(given, (0, 2, 4))
    assert moved.packing.plan.before == (0, 2, 4)
    assert float((made.normalised - moved.normalised).detach().abs().max()) > 1e-4
    edges = (moved.patches.diff(dim=3) != 0).any(dim=2).any(dim=1).any(dim=0).nonzero().flatten()
    assert set(edges.tolist()) <= set(
        range(3, 16, 4)
    )  # cells begin at 4, or at 8 between fine ones
    seeds = [list(continue_inputs(model, given, [1.0] * 3, seed=seed))[-1] for seed in (0, 0, 1)]
    assert torch.equal(seeds[0], seeds[1])
    assert not torch.equal(seeds[0], seeds[2])
    alone = without_tokens(patches=(8,), **MOVING)
    torch.testing.assert_close(
        alone(given, (0, 2, 4)).normalised, alone(given).normalised, rtol=1e-4, atol=1e-5
    )


def test_forecasts_see_the_widest_lattice():
    given = inputs_on((1, 16, 16), Boundary.OPEN)
    model = tiny_model(system(), mode="uniform", patches=(8,), **MOVING)
    widest = model.plan_inputs(given, widest=True)
    assert widest.tokens.tolist() == [9, 9, 9]
    assert model.plan_inputs(given).tokens.tolist() == [4, 4, 4]
    assert model(given, (0, 2, 6)).plan.tokens.tolist() == [9, 9, 9]
    budget = RefineConfig(token_budget=8)
    check_budget((1, 16, 16), (1, 8, 8), budget)
    with pytest.raises(ConfigError, match="Give 9 or more"):
        check_budget((1, 16, 16), (1, 8, 8), budget, (0, 6, 6))
    with pytest.raises(ConfigError, match=r"model\.jitter_sides.*false without model\.jitter"):
        ModelConfig(jitter_sides=True)
