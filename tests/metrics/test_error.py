import torch

from matey.metrics.error import nrmse


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


def test_a_target_of_zero_is_exact_or_infinitely_wrong():
    zero = torch.zeros(1, 1, 1, 2, 2)
    assert float(nrmse(zero, zero)) == 0
    assert float(nrmse(zero + 1, zero)) == float("inf")
