import pytest
import torch

from matey.metrics.error import mean_score, nrmse


def test_an_exact_prediction_scores_0_and_zero_scores_1():
    target = torch.randn(2, 3, 1, 8, 8)
    assert nrmse(target, target).tolist() == [[0, 0, 0]] * 2
    # Square root and quotient in float64: equal to 1 but for the last digits.
    torch.testing.assert_close(nrmse(torch.zeros_like(target), target), torch.ones(2, 3).double())


def test_an_error_of_a_tenth_scores_a_tenth_at_any_amplitude():
    target = torch.randn(1, 1, 1, 8, 8)
    for amplitude in (1e-12, 1.0, 1e12):
        error = nrmse(1.1 * amplitude * target, amplitude * target)
        # 1.1 is rounded in float32: 1e-7 of a field, 1e-6 of its error.
        torch.testing.assert_close(error, torch.full((1, 1), 0.1).double(), rtol=1e-5, atol=0)


def test_a_target_of_zero_has_no_relative_error_whatever_is_predicted():
    zero = torch.zeros(1, 1, 1, 2, 2)
    assert nrmse(zero, zero).isnan().all()
    assert nrmse(zero + 1, zero).isnan().all()


def test_a_prediction_that_is_not_finite_is_infinitely_wrong():
    target = torch.ones(1, 1, 1, 2, 2)
    for bad in (float("nan"), float("inf")):
        assert float(nrmse(target * bad, target)) == float("inf")


def test_the_mean_leaves_out_what_is_undefined_and_keeps_what_diverged():
    nan, inf = float("nan"), float("inf")
    errors = torch.tensor([[[0.1, nan], [inf, 0.4]], [[0.3, nan], [0.2, 0.6]]])
    assert mean_score(errors).tolist() == [pytest.approx(0.2), inf]
    assert bool(mean_score(torch.full((2, 1, 1), nan)).isnan().all())
