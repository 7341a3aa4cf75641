"""Scores on stretched grids: integrals by the midpoint rule, against pencil and paper."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from matey.errors import ShapeError
from matey.evaluate.protocols import PROTOCOLS, SPECTRAL, Frame, score_frame
from matey.fields.grid import Grid, locate_points, stack_points
from matey.metrics import conserved, error

Y = (0.0, 1.0, 3.0, 7.0)  # cells of 1, 1.5, 3 and 4
WEIGHTS = stack_points(
    [Grid(("x",), (1, 1, 4), (0.0, 0.0, 0.0), (1.0, 1.0, 7 / 3), ((), (), Y))]
).volumes
TARGET = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 1, 4)
ERROR = torch.tensor([2.0, 0.0, 0.0, -1.0]).reshape(1, 1, 1, 1, 4)
PREDICTION = TARGET + ERROR


def wall(points: int) -> Grid:
    """A channel from 0 to 1, of which cells are clustered at both walls."""
    edges = (1 + np.tanh(2 * np.linspace(-1, 1, points + 1)) / np.tanh(2)) / 2
    y = tuple(((edges[1:] + edges[:-1]) / 2).tolist())
    return Grid(("y",), (1, 1, points), (0.0, 0.0, y[0]), (1.0, 1.0, 1 / points), ((), (), y))


def test_means_and_errors_weigh_points_by_their_cells():
    mean, square = (1 + 3 + 9 + 16) / 9.5, (1 + 6 + 27 + 64) / 9.5
    assert float(conserved.domain_mean(TARGET, WEIGHTS)) == pytest.approx(mean, rel=1e-14)
    assert float(conserved.mean_square(TARGET, WEIGHTS)) == pytest.approx(square, rel=1e-14)
    mse = (1 * 4 + 4 * 1) / 9.5
    assert float(error.mse(PREDICTION, TARGET, WEIGHTS)) == pytest.approx(mse, rel=1e-14)
    assert float(error.mae(PREDICTION, TARGET, WEIGHTS)) == pytest.approx((2 + 4) / 9.5)
    nrmse = math.sqrt(mse / square)
    assert float(error.nrmse(PREDICTION, TARGET, weights=WEIGHTS)) == pytest.approx(nrmse)
    vrmse = math.sqrt(mse / (square - mean**2))
    assert float(error.vrmse(PREDICTION, TARGET, weights=WEIGHTS)) == pytest.approx(vrmse)
    shift = abs(1 * 2 - 4 * 1) / 9.5
    assert float(conserved.mean_error(PREDICTION, TARGET, WEIGHTS)) == pytest.approx(shift)
    # Extremes and boundaries are of points.
    assert float(error.max_error(PREDICTION, TARGET)) == 2
    assert float(error.boundary_rmse(PREDICTION, TARGET)) == pytest.approx(math.sqrt(2.5))
    assert float(error.correlation(-TARGET, TARGET, weights=WEIGHTS)) == pytest.approx(-1)


def test_the_mean_of_a_channel_flow_converges_to_its_integral_with_second_order():
    """4 y (1 - y) has the mean 2/3; the mean over points stays wrong by a quarter."""
    errors = []
    for points in (32, 64, 128):
        grid = wall(points)
        y = grid.coordinate(2)
        flow = (4 * y * (1 - y)).expand(1, 1, 1, 1, points)
        found = float(conserved.domain_mean(flow, locate_points([grid]).volumes))
        errors.append(abs(found - 2 / 3))
        assert float(flow.mean()) < 0.52
    assert errors[-1] < 1e-3
    assert all(3.5 < coarse / fine < 4.5 for coarse, fine in pairwise(errors))


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_equal_weights_give_the_usual_scores(name):
    torch.manual_seed(0)
    prediction, target = torch.randn(2, 2, 3, 1, 8, 8).unbind(0)
    weights = torch.full((2, 1, 1, 8, 8), 1 / 64, dtype=torch.float64)
    usual = score_frame(Frame(prediction, target, PROTOCOLS[name]))
    weighted = score_frame(Frame(prediction, target, PROTOCOLS[name], weights))
    for metric, scores in usual.items():
        if metric in SPECTRAL:
            assert weighted[metric].isnan().all()
        else:
            torch.testing.assert_close(weighted[metric], scores, rtol=1e-12, atol=1e-12)


def test_spectra_are_refused_with_the_way_out():
    frame = Frame(PREDICTION, TARGET, PROTOCOLS["default"], WEIGHTS)
    for look in ("spectrum", "target_spectrum", "band_error"):
        with pytest.raises(ShapeError, match=r"stretched grid has no spectra.*xarray's `interp`"):
            getattr(frame, look)
