import math

import pytest

from matey.studies.page import ranged
from matey.studies.statistics import (
    Estimate,
    estimate,
    geometric,
    over_trajectories,
    paired_ratio,
    rank_correlation,
    ranks,
)


def test_an_interval_of_three_values_is_that_worked_out_by_hand():
    """Of 1, 2, 3 the standard error is 1 / √3, and t with two degrees of freedom is 4.303."""
    found = estimate([1.0, 2.0, 3.0])
    half = 4.303 / math.sqrt(3)
    assert found.mean == pytest.approx(2)
    assert (found.low, found.high) == (pytest.approx(2 - half), pytest.approx(2 + half))
    assert found.count == 3


def test_one_value_has_no_interval_to_speak_of_and_none_has_no_mean():
    one = estimate([2.0])
    assert (one.mean, one.low, one.high) == (2.0, -math.inf, math.inf)
    assert math.isnan(estimate([]).mean)
    assert math.isnan(estimate([1.0, math.inf, 2.0]).mean)
    assert ranged(one) == "2 (no interval)"
    assert ranged(geometric([2.0])) == "2 (no interval)"
    assert ranged(Estimate(2.0, 1.0, math.inf, 2)) == "2 (1 to ∞)"


def test_a_geometric_mean_is_that_of_the_logarithms():
    """Of 1/2, 1, 2: logarithms of mean 0 and deviation ln 2."""
    found = geometric([0.5, 1.0, 2.0])
    half = 4.303 * math.log(2) / math.sqrt(3)
    assert found.mean == pytest.approx(1)
    assert found.low == pytest.approx(math.exp(-half))
    assert found.high == pytest.approx(math.exp(half))
    assert math.isnan(geometric([1.0, 0.0]).mean)


def test_pairing_by_seed_takes_out_what_seeds_have_in_common():
    """Errors that scatter widely from seed to seed, one always half of the other."""
    theirs = {0: 1.0, 1: 5.0, 2: 0.1, 3: 9.0}
    found = paired_ratio({seed: error / 2 for seed, error in theirs.items() if seed < 3}, theirs)
    assert (found.mean, found.low, found.high) == (pytest.approx(0.5),) * 3
    assert found.count == 3


def test_ranks_of_equal_values_are_shared():
    assert ranks([3.0, 1.0, 3.0, 2.0]) == [2.5, 0.0, 2.5, 1.0]


def test_rank_correlation_by_hand():
    """One exchange of neighbours among four: 1 - 6 · 2 / (4 · 15) = 0.8."""
    assert rank_correlation([1, 2, 3, 4], [10, 20, 40, 30]) == pytest.approx(0.8)
    assert rank_correlation([1, 2, 3], [9, 4, 1]) == pytest.approx(-1)
    assert math.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))
    assert math.isnan(rank_correlation([1, 2, 3], [math.nan] * 3))  # a rollout that has ended


def test_an_interval_covers_the_choice_of_test_trajectories():
    """Twelve trajectories, on half of which one model has twice the other's error, on half the
    half of it, and all seeds alike: of seeds alone the ratio is sure."""
    theirs = {seed: [1.0] * 12 for seed in range(3)}
    ours = {seed: [2.0, 0.5] * 6 for seed in range(3)}
    sure = Estimate(1.25, 1.25, 1.25, 3)
    found = over_trajectories(sure, ours, theirs)
    # The mean of twelve has a standard error of 0.75 / √12; t and √(n / (n - 1)) widen it.
    half = 2.201 * math.sqrt(12 / 11) * 0.75 / math.sqrt(12) / 1.25
    assert math.log(found.high / found.low) / 2 == pytest.approx(half, rel=0.1)
    assert found.mean == 1.25
    assert over_trajectories(sure, ours, theirs) == found  # drawn alike each time


def test_trajectories_that_are_hard_for_both_widen_no_ratio():
    hard = {seed: [1.0, 10.0, 0.1, 3.0] for seed in range(3)}
    easy = {seed: [error / 2 for error in row] for seed, row in hard.items()}
    found = over_trajectories(Estimate(0.5, 0.4, 0.6, 3), easy, hard)
    assert (found.low, found.high) == (pytest.approx(0.4), pytest.approx(0.6))
    alone = over_trajectories(Estimate(3.5, 3.4, 3.6, 3), hard)
    assert alone.low < 2.5
    assert alone.high > 4.5


def test_one_trajectory_or_a_rollout_that_diverged_leaves_an_interval_as_it_is():
    found = Estimate(1.0, 0.9, 1.1, 3)
    for rows in ({}, {0: [1.0]}, {0: [1.0, math.inf]}, {0: [1.0, 2.0], 1: [1.0]}):
        assert over_trajectories(found, rows) == found
