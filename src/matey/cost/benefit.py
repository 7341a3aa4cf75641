"""What fine cells can gain: the share of what truly changes next that lies in them.

The error to be made smaller lies where fields change. Where few cells hold most of the change, fine
tokens can be spent there; where it is everywhere, no choice of cells saves much. This needs data
and a rule of refinement, and no model that is trained.

Axes: B samples, P predicted variables, (Z, Y, X) grid points, (Kz, Ky, Kx) coarse cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from matey.fields import Batch
from matey.tokens.lattice import Triple, cells, covering, lattice_shape
from matey.tokens.normalise import measure
from matey.tokens.refine import RefinementPlan

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
BULKS = (0.5, 0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Refined:
    """What a rule of refinement comes to, as means over windows.

    `tokens` per frame, the share of the coarse `cells` that are refined, and the share of the
    squared increment over the next step that they `hold`: as much as `cells` where they are no
    better than chosen blindly; None where nothing changes.
    """

    tokens: float
    cells: float
    holds: float | None


def refined_by(plan: RefinementPlan, tokens: Sequence[int], change: Tensor) -> Refined:
    """What a plan comes to, of so many tokens in each sample.

    `change` is from `change_in_cells`.
    """
    chosen = refined_cells(plan)
    total = change.sum(dim=(1, 2, 3))
    share = (change * chosen).sum(dim=(1, 2, 3))[total > 0] / total[total > 0]
    return Refined(
        tokens=sum(tokens) / len(tokens),
        cells=float(chosen.double().mean()),
        holds=float(share.mean()) if len(share) else None,
    )


def refined_cells(plan: RefinementPlan) -> Bool[Tensor, "B Kz Ky Kx"]:
    """Which coarse cells are refined."""
    shape = (plan.samples, *lattice_shape(plan.grid, plan.sizes[0]))
    coarse = (plan.level == 0) & plan.refined
    place = plan.lattice_index(0, coarse.nonzero().squeeze(1))
    chosen = torch.zeros(shape, dtype=torch.bool, device=place.device)
    chosen.view(-1)[place] = True
    return chosen


def change_in_cells(batch: Batch, cell: Triple) -> Float[Tensor, "B Kz Ky Kx"]:
    """The squared increment to the target in each cell, summed over the predicted variables, each
    in units of its variance over the history; on stretched grids and around masks integrated
    over the volume that holds a field. None lies beyond the grid, where cells do not tile it."""
    predicted = batch.spec.predicted
    scale = measure(batch.held(batch.values), batch.space).take(predicted).scale
    chosen = list(predicted)
    apart = ((batch.target[:, chosen] - batch.values[:, -1, chosen]) / scale).double().square()
    if batch.space is not None:
        apart = apart * batch.space.volumes
    here = batch.values.shape[-3:]
    grid = covering((here[0], here[1], here[2]), cell)
    beyond = [size for axis in (2, 1, 0) for size in (0, grid[axis] - here[axis])]
    return cells(pad(apart, beyond)[:, None], cell).sum(dim=(4, 5, 6, 7, 8))
