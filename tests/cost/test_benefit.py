"""The share of what changes next that refined cells hold, by hand."""

from dataclasses import replace

import pytest
import torch

from matey.config import RefineConfig
from matey.cost.benefit import change_in_cells, refined_by, refined_cells
from matey.fields import Batch, Boundary, SystemSpec, Variable
from matey.fields.grid import Points
from matey.tokens.refine import plan_refinement

CELLS = [(1, 1, 4), (1, 1, 2)]
SPEC = SystemSpec("toy", 1, (Variable("a"), Variable("fixed", static=True)), (), 1.0)


def batch_of(last, change) -> Batch:
    """Two frames of 8 points, still until now, whose second variable is static."""
    frame = torch.stack([torch.tensor(last), torch.linspace(5, 9, 8)])[:, None, None]
    target = frame.clone()
    target[0, 0, 0] += torch.tensor(change)
    target[1] += 100  # what is not predicted does not count
    return Batch(
        values=frame.expand(1, 2, *frame.shape).clone(),
        lead_time=torch.ones(1),
        boundaries=torch.full((1, 3, 2), int(Boundary.WALL)),
        parameters=torch.zeros(1, 0),
        spec=SPEC,
        sources=("hand",),
        target=target[None],
    )


def plan_of(batch: Batch, **rule):
    return plan_refinement(batch.values[:, :, :1], batch.boundaries, CELLS, RefineConfig(**rule))


ROUGH = [1.0, -1, 1, -1, 0, 0, 0, 0]  # of variance 1/2 over all; the first cell is refined


def test_refined_cells_hold_their_share_of_the_squared_increment():
    """Squares of 9 in the refined cell, and of 1 in the other: nine tenths, in half the cells."""
    batch = batch_of(ROUGH, [3.0, 0, 0, 0, 0, 0, 0, 1])
    change = change_in_cells(batch, CELLS[0])
    # Over a variance of 1/2, to the rounding of float32.
    assert change.flatten().tolist() == pytest.approx([18, 2], rel=1e-6)
    plan = plan_of(batch, threshold=0.5)
    assert refined_cells(plan).flatten().tolist() == [True, False]
    found = refined_by(plan, [3], change)
    assert (found.tokens, found.cells) == (3, 0.5)
    assert found.holds == pytest.approx(0.9)


@pytest.mark.parametrize(("threshold", "holds"), [(0.0, 1.0), (1.0, 0.0)])
def test_all_cells_hold_all_and_none_hold_none(threshold, holds):
    batch = batch_of(ROUGH, [3.0, 0, 0, 0, 0, 0, 0, 1])
    change = change_in_cells(batch, CELLS[0])
    found = refined_by(plan_of(batch, threshold=threshold), [2], change)
    assert (found.holds, found.cells) == (holds, holds)


def test_windows_in_which_nothing_changes_are_left_out():
    """Of a moving window and one at rest the first counts; of one at rest there is no share."""
    still = batch_of(ROUGH, [0.0] * 8)
    moving = batch_of(ROUGH, [1.0, 0, 0, 0, 1, 0, 0, 0])
    both = torch.cat([change_in_cells(one, CELLS[0]) for one in (still, moving)])
    values = torch.cat([still.values, moving.values])[:, :, :1]
    plan = plan_refinement(values, moving.boundaries.expand(2, 3, 2), CELLS, RefineConfig())
    assert refined_by(plan, [3, 3], both).holds == pytest.approx(0.5)
    alone = refined_by(plan_of(still), [3], both[:1])
    assert alone.holds is None
    assert alone.cells == 0.5


def test_on_stretched_grids_increments_are_integrated():
    """The same increment at a point three times as large counts three times."""
    edges = torch.tensor([0.0, 1, 2, 3, 4, 7, 10, 13, 16])[None] / 16
    batch = batch_of(ROUGH, [1.0, 0, 0, 0, 1, 0, 0, 0])
    half, whole = torch.tensor([[0.5]]), torch.tensor([[0.0, 1]])
    centres = (edges[:, 1:] + edges[:, :-1]) / 2
    points = Points((half, half, centres), (whole, whole, edges), (False, False, True))
    change = change_in_cells(replace(batch, points=points), CELLS[0]).flatten()
    assert float(change[1] / change[0]) == pytest.approx(3)


def test_cells_that_lie_partly_beyond_the_grid_hold_what_is_inside():
    """Six points in cells of four: 9 in the first, 1 in the half of the second."""
    whole = batch_of(ROUGH, [3.0, 0, 0, 0, 0, 1, 7, 7])
    batch = replace(whole, values=whole.values[..., :6], target=whole.target[..., :6])
    change = change_in_cells(batch, CELLS[0])
    assert (change / change.sum()).flatten().tolist() == pytest.approx([0.9, 0.1], rel=1e-6)
    found = refined_by(plan_of(batch, threshold=0.5), [3], change)
    assert (found.cells, found.holds) == (0.5, pytest.approx(0.9))
