import pytest
import torch

from matey.config import LossConfig
from matey.train.loss import EPSILON, batch_loss, squared_nrmse


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


def fields(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    return torch.randn(2, 2, 1, 8, 8), torch.randn(2, 2, 1, 8, 8)


def test_without_further_terms_the_loss_is_the_squared_nrmse():
    prediction, target = fields()
    expected = squared_nrmse(prediction, target)
    assert torch.equal(batch_loss(prediction, prediction, target, LossConfig()), expected)


def test_the_base_term_adds_what_the_coarse_pass_alone_would_cost():
    prediction, target = fields()
    base = torch.zeros_like(target)
    found = batch_loss(prediction, base, target, LossConfig(base=0.5))
    expected = squared_nrmse(prediction, target) + 0.5 * squared_nrmse(base, target)
    torch.testing.assert_close(found, expected)
    alone = batch_loss(prediction, None, target, LossConfig(base=0.5))
    assert torch.equal(alone, squared_nrmse(prediction, target)), "no coarse pass, no term"


def test_the_gradient_term_ignores_a_constant_and_the_conservation_term_sees_nothing_else():
    _, target = fields()
    shifted = target + 0.25
    plain = squared_nrmse(shifted, target)
    steep = batch_loss(shifted, None, target, LossConfig(gradient=3.0))
    # Differences of float32 numbers of size one: some 1e-7, squared.
    assert abs(float(steep - plain)) < 1e-10
    kept = batch_loss(shifted, None, target, LossConfig(conservation=2.0))
    torch.testing.assert_close(kept - plain, torch.tensor(2.0 * 0.25**2))
    noise = torch.randn_like(target)
    noise = noise - noise.mean(dim=(-3, -2, -1), keepdim=True)
    rough = batch_loss(target + noise, None, target, LossConfig(conservation=2.0))
    # Means of 64 numbers whose sum is rounding.
    assert abs(float(rough - squared_nrmse(target + noise, target))) < 1e-10


def test_root_and_log_are_those_of_the_nrmse_and_weigh_hard_and_easy_alike():
    torch.manual_seed(0)
    target = torch.randn(2, 3, 1, 8, 8)
    wrong = torch.randn_like(target)
    errors, slopes = {}, {}
    for of in ("square", "root", "log"):
        for size in (0.01, 0.1):
            made = (target + size * wrong).requires_grad_()
            loss = batch_loss(made, None, target, LossConfig(of=of))
            loss.backward()
            errors[of, size], slopes[of, size] = float(loss.detach()), float(made.grad.norm())
    each = (0.1 * wrong).square().mean((2, 3, 4)) / (1e-3 + target.square().mean((2, 3, 4)))
    assert errors["root", 0.1] == pytest.approx(float(each.sqrt().mean()), rel=1e-4)
    assert errors["log", 0.1] == pytest.approx(float(each.sqrt().mean().log()), rel=1e-4)
    assert slopes["square", 0.1] == pytest.approx(10 * slopes["square", 0.01], rel=1e-3)
    assert slopes["root", 0.1] == pytest.approx(slopes["root", 0.01], rel=1e-3)
    assert slopes["log", 0.1] == pytest.approx(slopes["log", 0.01] / 10, rel=1e-3)
    exact = target.clone().requires_grad_()
    batch_loss(exact, None, target, LossConfig(of="log")).backward()
    assert bool(exact.grad.isfinite().all())
