import torch

from matey.train.loss import EPSILON, squared_nrmse


def test_predicting_zero_costs_about_1_and_the_target_costs_0():
    target = torch.randn(2, 3, 1, 16, 16)
    assert float(squared_nrmse(target, target)) == 0
    # Only the documented constant keeps it below 1.
    power = target.square().mean(dim=(-3, -2, -1))
    expected = float((power / (power + EPSILON)).mean())
    assert abs(float(squared_nrmse(torch.zeros_like(target), target)) - expected) < 1e-6


def test_a_target_of_zero_has_a_bounded_loss():
    zero = torch.zeros(1, 1, 1, 4, 4)
    assert float(squared_nrmse(zero, zero)) == 0
    # An error of 0.1 over nothing: 0.01 / EPSILON, to float32 rounding.
    assert abs(float(squared_nrmse(zero + 0.1, zero)) - 0.01 / EPSILON) < 1e-4


def test_a_target_far_outside_the_history_stays_finite():
    """A variable at rest, then moving: normalised by 1e-30 it is larger than float32 squares."""
    target = torch.full((1, 1, 1, 4, 4), 1e29)
    assert float(squared_nrmse(torch.zeros_like(target), target)) == 1
