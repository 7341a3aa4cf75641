import math

import torch

from matey.metrics.time import correlation_time, divergence_time

NAN, INF = math.nan, math.inf


def test_the_correlation_time_is_the_first_lead_below_the_threshold():
    correlations = torch.tensor(
        [[0.9, 0.79, 0.95], [0.7, 0.9, 0.9], [0.9, 0.9, 0.9], [NAN, NAN, NAN]]
    )[..., None]
    found = correlation_time(correlations, [2, 4, 6], 0.8)
    times = found.time[:, 0].tolist()
    assert times[:3] == [4, 2, 6]
    assert math.isnan(times[3])
    assert found.happened[:, 0].tolist() == [True, True, False, False]


def test_a_correlation_of_the_threshold_itself_is_not_below():
    found = correlation_time(torch.full((1, 1, 1), 0.8, dtype=torch.float64), [1], 0.8)
    assert not found.happened.any()


def test_a_rollout_diverges_where_it_is_not_finite_or_beyond_its_bound():
    """Two variables; a bound of ten standard deviations, which are at most 2 and 0."""
    fine, constant = [1.0, 2.0, 3.0], [50.0, 50.0, 50.0]
    errors = [[fine, constant], [[1.0, 21.0, 3.0], constant], [fine, [0.0, 0.0, INF]]]
    rmse = torch.tensor(errors).transpose(1, 2)
    deviation = torch.tensor([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0]]).T.expand(3, 3, 2)
    found = divergence_time(rmse, deviation, [1, 2, 3], bound=10)
    assert found.happened.tolist() == [False, True, True]
    assert found.time.tolist() == [3, 2, 3]
