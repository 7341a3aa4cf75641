"""Cells, criteria and plans on stretched grids: exact derivatives, means over volumes."""

import numpy as np
import pytest
import torch

from matey.config import RefineConfig
from matey.fields.grid import Grid, locate_points, stack_points
from matey.tokens.criteria import CRITERIA, cell_variance, criterion, measure_cells, slopes_along
from matey.tokens.pack import locate, pack_mixed
from matey.tokens.refine import plan_refinement
from tests.tokens.helpers import random_fields, sides

N = 16
WALL = 1 + np.tanh(2.5 * (np.linspace(0, 1, N) - 1)) / np.tanh(2.5)


def grid(y=WALL) -> Grid:
    mean = float(np.diff(y).mean())
    places = ((), tuple(np.asarray(y, float).tolist()), ())
    return Grid(("y", "x"), (1, N, N), (0.0, float(y[0]), 0.0), (1.0, mean, 1.0), places)


def test_slopes_of_lines_are_exact_everywhere_and_those_of_parabolas_inside():
    points = stack_points([grid(), grid(WALL**2 + WALL)])
    for sample in range(2):
        y = points.centres[1][sample] * N  # in mean steps
        line = (3 * y)[:, None].expand(2, 2, 2, 1, N, N)
        (slope,) = slopes_along(line, [4], points)
        torch.testing.assert_close(slope[sample], torch.full_like(slope[sample], 3.0))
        parabola = (0.5 * y.square())[:, None].expand(2, 2, 2, 1, N, N)
        (slope,) = slopes_along(parabola, [4], points)
        inside = y[1:-1, None].expand(2, 2, 1, N - 2, N)
        torch.testing.assert_close(slope[sample, :, :, :, 1:-1], inside, rtol=1e-9, atol=1e-9)


def test_the_variance_of_a_cell_is_that_over_its_volume():
    """Two points whose cells have the sizes 1 and 2: mean 2/3, mean square 2/3 of values 0, 1."""
    y = (0.0, 1.0, 4.0, 5.0)  # edges at -0.5, 0.5, 2.5, 4.5, 5.5
    small = Grid(("y",), (1, 1, 4), (0.0, 0.0, 0.0), (1.0, 1.0, 5 / 3), ((), (), y))
    values = torch.tensor([0.0, 1.0, 3.0, 3.0]).expand(1, 2, 1, 1, 1, 4)
    found = cell_variance(values, (1, 1, 2), stack_points([small]))
    torch.testing.assert_close(found.flatten(), torch.tensor([2 / 3 - 4 / 9, 0.0]))


@pytest.mark.parametrize("name", ["variance", "gradient", "change"])
def test_criteria_of_even_points_are_the_usual_ones(name):
    fields = random_fields(2, N, 2, seed=0)
    points = locate_points([Grid(("y", "x"), (1, N, N), (0.0,) * 3, (1.0,) * 3)] * 2)
    usual = measure_cells(name, fields, (1, 4, 4))
    torch.testing.assert_close(measure_cells(name, fields, (1, 4, 4), points), usual)


def test_a_criterion_of_ones_own_sees_points_if_it_asks_for_them():
    fields, points = random_fields(2, N, 1, seed=0), stack_points([grid()])
    try:

        @criterion("plain")
        def plain(fields, cell):
            return cell_variance(fields, cell)

        @criterion("asking")
        def asking(fields, cell, points=None):
            return cell_variance(fields, cell, points)

        usual, stretched = (
            cell_variance(fields, (1, 4, 4)),
            cell_variance(fields, (1, 4, 4), points),
        )
        assert torch.equal(measure_cells("plain", fields, (1, 4, 4), points), usual)
        assert torch.equal(measure_cells("asking", fields, (1, 4, 4), points), stretched)
        assert not torch.allclose(usual, stretched)
    finally:
        del CRITERIA["plain"], CRITERIA["asking"]


def test_tokens_are_where_their_points_cells_are():
    fields = random_fields(2, N, 2, seed=0)
    points = stack_points([grid(), grid(WALL**2 + WALL)])
    config = RefineConfig(threshold=0.3)
    plan = plan_refinement(fields, sides(fields), [(1, 8, 8), (1, 4, 4)], config, points)
    packing = pack_mixed(plan)
    packed, usual = locate(packing, 1, points=points), locate(packing, 1)
    for token in range(len(packing.cell)):
        sample, cell = int(packed.sample[token]), int(packing.cell[token])
        first, last = int(plan.corner[cell, 1]), int(plan.corner[cell, 1] + plan.size[cell, 1])
        edges = points.edges[1][sample]
        assert float(packed.size[token, 1]) == pytest.approx(float(edges[last] - edges[first]))
        middle = float(edges[last] + edges[first]) / 2
        assert float(packed.centre[token, 1]) == pytest.approx(middle)
    torch.testing.assert_close(packed.centre[:, 2], usual.centre[:, 2])
    area = torch.zeros(2).index_add(0, packed.sample, packed.size.prod(dim=1))
    torch.testing.assert_close(area, torch.ones(2))  # leaves tile each domain
    assert torch.equal(packed.at_side, usual.at_side)


def test_a_plan_does_not_depend_on_the_grids_of_other_samples():
    fields, config = random_fields(2, N, 2, seed=3), RefineConfig(criterion="gradient")
    grids, sizes = [grid(), grid(WALL**2 + WALL)], [(1, 4, 4), (1, 2, 2)]
    both = plan_refinement(fields, sides(fields), sizes, config, stack_points(grids))
    for i in range(2):
        one = fields[i : i + 1]
        alone = plan_refinement(one, sides(one), sizes, config, stack_points(grids[i : i + 1]))
        mine = both.leaves[both.sample[both.leaves] == i]
        assert torch.equal(both.corner[mine], alone.corner[alone.leaves])


def test_bulk_is_of_integrals_over_cells():
    """Two cells vary alike, one has ten times the volume: 90 % of the integral lies in it."""
    y = (*range(4), *range(13, 53, 10))  # cells of 1 and 10, but for those between
    small = Grid(
        ("y",), (1, 1, 8), (0.0, 0.0, 0.0), (1.0, 1.0, 6.0), ((), (), tuple(map(float, y)))
    )
    values = torch.tensor([1.0, -1.0, 1.0, -1.0] * 2).expand(1, 2, 1, 1, 1, 8)
    plan = plan_refinement(
        values, sides(values), [(1, 1, 4), (1, 1, 2)], RefineConfig(bulk=0.8), stack_points([small])
    )
    assert plan.refined[:2].tolist() == [False, True]
