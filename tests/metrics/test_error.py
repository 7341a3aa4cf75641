"""Errors worked out by hand."""

import math

import pytest
import torch

from matey.metrics.error import (
    boundary_rmse,
    correlation,
    mae,
    max_error,
    mean_score,
    nrmse,
    rmse,
    vrmse,
)

TARGET = torch.tensor([[1.0, 3.0], [5.0, 7.0]]).reshape(1, 1, 1, 2, 2)  # mean 4, variance 5
PREDICTION = torch.tensor([[1.0, 4.0], [5.0, 4.0]]).reshape(1, 1, 1, 2, 2)  # errors 0 1 0 -3


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        (rmse, math.sqrt(10 / 4)),
        (nrmse, math.sqrt(10 / 84)),
        (vrmse, math.sqrt(10 / 4 / 5)),
        (lambda p, t: vrmse(p, t, eps=1.0, correction=1), math.sqrt(10 / 4 / (20 / 3 + 1))),
        (lambda p, t: nrmse(p, t, eps=4.0), math.sqrt(10 / 4 / 25)),
        (mae, 1.0),
        (max_error, 3.0),
        (boundary_rmse, math.sqrt(10 / 4)),
    ],
)
def test_errors_of_four_points_are_those_of_pencil_and_paper(metric, value):
    assert float(metric(PREDICTION, TARGET)) == pytest.approx(value)


def test_an_exact_prediction_scores_0_and_zero_scores_1():
    target = torch.randn(2, 3, 1, 8, 8)
    assert nrmse(target, target).tolist() == [[0, 0, 0]] * 2
    # Square root and quotient in float64: equal to 1 but for the last digits.
    torch.testing.assert_close(nrmse(torch.zeros_like(target), target), torch.ones(2, 3).double())


def test_the_domain_mean_has_a_vrmse_of_1_whatever_the_background():
    target = torch.randn(2, 3, 1, 8, 8)
    for background in (0.0, 1e3):
        shifted = target.double() + background
        mean = shifted.mean(dim=(-3, -2, -1), keepdim=True).expand_as(shifted)
        torch.testing.assert_close(vrmse(mean, shifted), torch.ones(2, 3).double())


def test_an_error_of_a_tenth_scores_a_tenth_at_any_amplitude():
    target = torch.randn(1, 1, 1, 8, 8)
    for amplitude in (1e-12, 1.0, 1e12):
        error = nrmse(1.1 * amplitude * target, amplitude * target)
        # 1.1 is rounded in float32: 1e-7 of a field, 1e-6 of its error.
        torch.testing.assert_close(error, torch.full((1, 1), 0.1).double(), rtol=1e-5, atol=0)


def test_a_target_of_zero_has_no_relative_error_whatever_is_predicted():
    zero = torch.zeros(1, 1, 1, 2, 2)
    for metric in (nrmse, vrmse, correlation):
        assert metric(zero, zero).isnan().all()
        assert metric(zero + PREDICTION, zero).isnan().all()


@pytest.mark.parametrize("metric", [rmse, nrmse, vrmse, mae, max_error, boundary_rmse])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_prediction_that_is_not_finite_is_infinitely_wrong(metric, bad):
    prediction = PREDICTION.clone()
    prediction[..., 0, 1] = bad
    assert float(metric(prediction, TARGET)) == math.inf


@pytest.mark.parametrize("shape", [(1, 1, 5), (1, 4, 5), (3, 4, 5)])
def test_the_boundary_is_the_outermost_points_of_every_axis_that_has_several(shape):
    inside = torch.zeros(1, 1, *shape)
    core = tuple(slice(1, -1) if points > 1 else slice(None) for points in shape)
    inside[0, 0][core] = 7.0
    assert float(boundary_rmse(inside, torch.zeros_like(inside))) == 0
    everywhere = torch.full_like(inside, 7.0)
    assert float(boundary_rmse(everywhere, inside)) == 7


def test_the_correlation_knows_neither_scale_nor_offset():
    target = torch.randn(1, 2, 1, 8, 8)
    # Rounding of 3 t + 5 to float32.
    one = torch.ones(1, 2).double()
    torch.testing.assert_close(correlation(3 * target + 5, target), one, rtol=0, atol=1e-6)
    torch.testing.assert_close(correlation(-target, target), -one)
    wave = (torch.arange(8) * math.pi / 4).expand(1, 1, 1, 8, 8)
    assert float(correlation(wave.sin(), wave.cos())) == pytest.approx(0, abs=1e-7)


def test_a_prediction_that_is_constant_or_not_finite_has_no_correlation():
    assert float(correlation(torch.ones_like(TARGET), TARGET)) == 0
    assert float(correlation(TARGET * math.nan, TARGET)) == 0


def test_the_mean_leaves_out_what_is_undefined_and_keeps_what_diverged():
    nan, inf = float("nan"), float("inf")
    errors = torch.tensor([[[0.1, nan], [inf, 0.4]], [[0.3, nan], [0.2, 0.6]]])
    assert mean_score(errors).tolist() == [pytest.approx(0.2), inf]
    assert bool(mean_score(torch.full((2, 1, 1), nan)).isnan().all())
