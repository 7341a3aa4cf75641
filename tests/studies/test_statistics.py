import math

import pytest

from matey.studies.statistics import estimate, geometric, paired_ratio, rank_correlation, ranks


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
