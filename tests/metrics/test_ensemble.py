"""Scores of ensembles, against sums over all pairs and what is known of Gaussian numbers."""

import math

import pytest
import torch

from matey.metrics.ensemble import (
    coverage,
    crps,
    energy_score,
    fair_crps,
    mean_variance,
    nominal_coverage,
    ranks,
    spread_over_error,
)
from matey.metrics.error import mae, mse, rmse


def drawn(members: int, points: int, scale: float = 1.0, seed: int = 0):
    """Members and truth, [M 1 1 1 1 X] and [1 1 1 1 X], from Gaussians of the same mean."""
    generator = torch.Generator().manual_seed(seed)
    middle = 3 * torch.randn(1, 1, 1, 1, points, generator=generator)
    each = scale * torch.randn(members, 1, 1, 1, 1, points, generator=generator)
    return middle + each, middle + torch.randn(1, 1, 1, 1, points, generator=generator)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_fair_crps_is_the_sum_over_all_pairs(count):
    generator = torch.Generator().manual_seed(0)
    members = torch.randn(count, 2, 3, 1, 4, 5, generator=generator, dtype=torch.float64)
    target = torch.randn(2, 3, 1, 4, 5, generator=generator, dtype=torch.float64)
    away = sum((one - target).abs() for one in members) / count
    apart = sum((one - other).abs() for one in members for other in members)
    torch.testing.assert_close(fair_crps(members, target), away - apart / (2 * count * (count - 1)))


@pytest.mark.parametrize("count", [2, 8])
def test_the_crps_of_gaussian_members_is_the_known_one_however_few(count):
    """Truth and members from one Gaussian of deviation 1: 1/√π; twice too wide: by the formula."""
    for scale in (1.0, 2.0):
        members, target = drawn(count, 200_000, scale)
        # E|X - y| - E|X - X'|/2 of normal numbers of deviations `scale` and 1.
        expected = math.sqrt(2 / math.pi) * (math.sqrt(1 + scale**2) - scale / math.sqrt(2))
        # Its standard error is below 2 / √200,000 = 0.0045, here of three such.
        assert float(crps(members, target)) == pytest.approx(expected, abs=0.0135)


def test_members_that_agree_have_the_scores_of_one_forecast():
    one, target = torch.randn(2, 3, 1, 4, 5), torch.randn(2, 3, 1, 4, 5)
    members = one.expand(4, -1, -1, -1, -1, -1)
    torch.testing.assert_close(crps(members, target), mae(one, target))
    torch.testing.assert_close(energy_score(members, target), rmse(one, target))


def test_the_energy_score_is_the_sum_over_all_pairs():
    members, target = torch.randn(3, 2, 2, 1, 4, 5), torch.randn(2, 2, 1, 4, 5)
    away = sum(rmse(one, target) for one in members) / 3
    apart = sum(rmse(one, other) for one in members for other in members)
    torch.testing.assert_close(energy_score(members, target), away - apart / 12)


@pytest.mark.parametrize("count", [4, 15])
def test_a_calibrated_ensemble_is_flat_covers_and_is_as_wide_as_wrong(count):
    members, target = drawn(count, 100_000)
    shares = ranks(members, target)
    # Of 100,000 points each of up to 16 ranks has thousands: shares are good to 4 of their
    # standard errors, below 0.0013 each.
    torch.testing.assert_close(
        shares.flatten(), torch.full((count + 1,), 1 / (count + 1)).double(), atol=0.006, rtol=0
    )
    assert float(coverage(shares)) == pytest.approx(nominal_coverage(count), abs=0.006)
    ratio = spread_over_error(mean_variance(members), mse(members.mean(0), target), count)
    assert float(ratio) == pytest.approx(1, abs=0.02)


def test_an_ensemble_that_is_too_sure_shows():
    members, target = drawn(8, 20_000, scale=0.5)
    shares = ranks(members, target).flatten()
    assert shares[0] > 2 * shares[4] < shares[-1] / 1.0
    ratio = spread_over_error(mean_variance(members), mse(members.mean(0), target), 8)
    # Spread ½ · √(9/8), error √(1 + ¼/8).
    assert float(ratio) == pytest.approx(0.5 * math.sqrt(9 / 8 / (1 + 1 / 32)), rel=0.03)


def test_a_truth_that_equals_members_has_all_the_ranks_that_it_may_have():
    members = torch.tensor([0.0, 1.0, 1.0]).view(3, 1, 1, 1, 1, 1)
    shares = ranks(members, torch.ones(1, 1, 1, 1, 1)).flatten()
    torch.testing.assert_close(shares, torch.tensor([0, 1, 1, 1]).double() / 3)


def test_points_without_weight_are_in_no_score():
    members, target = torch.randn(4, 1, 1, 1, 1, 6), torch.randn(1, 1, 1, 1, 6)
    weights = torch.tensor([0.5, 0.5, 0, 0, 0, 0]).view(1, 1, 1, 1, 6)
    for score in (crps, energy_score, ranks):
        few = score(members[..., :2], target[..., :2])
        torch.testing.assert_close(score(members, target, weights), few)


def test_a_member_that_is_not_finite_is_infinitely_wrong():
    members = torch.zeros(3, 1, 1, 1, 1, 4)
    members[1, ..., 2] = torch.nan
    target = torch.zeros(1, 1, 1, 1, 4)
    assert crps(members, target).isinf().all()
    assert energy_score(members, target).isinf().all()
    assert mean_variance(members).isinf().all()
