"""How good a guide each criterion is: does it tell where the model errs?

Axes: B samples, C variables, (Z, Y, X) grid points, (Kz, Ky, Kx) cells.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import DataConfig
from matey.data.systems import open_systems
from matey.evaluate.score import ScoreConfig, rollouts_of
from matey.fields import Inputs
from matey.nn.rollout import continue_inputs
from matey.nn.surrogate import Surrogate
from matey.records.study import Guide
from matey.studies.statistics import rank_correlation
from matey.tokens.criteria import find_criterion
from matey.tokens.lattice import Triple, cells, patch_shape
from matey.tokens.normalise import measure
from matey.words import mean

CRITERIA = ("variance", "gradient")


def guide_correlations(
    model: Surrogate, data: DataConfig, ask: ScoreConfig, patch: int
) -> tuple[Guide, ...]:
    """Each criterion against the model's own error in cells of `patch` points a side, at the
    first and the last lead that is scored."""
    correlations: dict[tuple[str, int], list[float]] = {}
    for inputs, targets in test_rollouts(model, data, ask):
        cell, reach = patch_shape(inputs.spec.ndim, patch), targets.shape[1]
        errors = local_errors(model, inputs, targets, sorted({1, reach}), cell)
        normalised = measure(inputs.values).normalise(inputs.values)
        for name in CRITERIA:
            guides = find_criterion(name)(normalised, cell).flatten(1).tolist()
            for lead, rows in errors.items():
                correlations.setdefault((name, lead), []).extend(
                    map(rank_correlation, guides, rows.flatten(1).tolist())
                )
    return tuple(
        Guide(*key, mean(value for value in values if math.isfinite(value)))
        for key, values in correlations.items()
    )


def test_rollouts(
    model: Surrogate, data: DataConfig, ask: ScoreConfig
) -> Iterator[tuple[Inputs, Float[Tensor, "B T C Z Y X"]]]:
    """The histories that `evaluate` starts from, and the frames that follow, in groups."""
    system = next(iter(open_systems(data, training=False).values()))
    for batch in rollouts_of(model, system, ask).batches(ask.batch):
        yield batch.inputs, torch.stack([field.values[model.history :] for field in batch.truth])


def local_errors(
    model: Surrogate,
    inputs: Inputs,
    targets: Float[Tensor, "B T C Z Y X"],
    leads: Sequence[int],
    cell: Triple,
) -> dict[int, Float[Tensor, "B Kz Ky Kx"]]:
    """The squared error in each cell, in units of the history's variance, mean over variables."""
    predicted = list(inputs.spec.predicted)
    scale = measure(inputs.values).take(inputs.spec.predicted).scale
    steps = continue_inputs(model, inputs, [1.0] * leads[-1])
    errors = {}
    for lead, frame in enumerate(islice(steps, leads[-1]), start=1):
        if lead in leads:
            apart = (frame.cpu()[:, predicted] - targets[:, lead - 1, predicted]) / scale
            errors[lead] = cells(apart[:, None].square(), cell).mean(dim=(4, 5, 6, 7, 8))
    return errors
