"""Means with intervals, comparisons paired by seed, and rank correlation.

An interval holds the mean with a probability of 95 %, by Student's t: with three seeds it is wide,
and that is what three seeds are worth. Where test trajectories are known it covers their choice.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

# The 97.5 % points of Student's t for 1, 2, ... 30 degrees of freedom; for more the last is kept,
# which is a little too wide.
STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


NORMAL = 1.96  # that of a normal distribution
DRAWS = 2000  # of a bootstrap
Rows = Mapping[int, Sequence[float]]  # a number of each test trajectory, by seed


@dataclass(frozen=True)
class Estimate:
    """The mean of `count` values, and its 95 % interval.

    Of one value the interval is everything; of none, or where one is not finite, all is NaN.
    """

    mean: float
    low: float
    high: float
    count: int


def estimate(values: Iterable[float]) -> Estimate:
    """The mean with its interval."""
    values = list(values)
    count = len(values)
    if not values or not all(math.isfinite(value) for value in values):
        return Estimate(math.nan, math.nan, math.nan, count)
    mean = math.fsum(values) / count
    if count == 1:
        return Estimate(mean, -math.inf, math.inf, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = student(count - 1) * math.sqrt(variance / count)
    return Estimate(mean, mean - half, mean + half, count)


def student(freedom: int) -> float:
    """The 97.5 % point of Student's t."""
    return STUDENT[min(freedom, len(STUDENT)) - 1]


def geometric(ratios: Iterable[float]) -> Estimate:
    """The geometric mean of ratios with its interval: that of their logarithms."""
    ratios = list(ratios)
    if any(not ratio > 0 for ratio in ratios):
        return Estimate(math.nan, math.nan, math.nan, len(ratios))
    logs = estimate(math.log(ratio) for ratio in ratios)
    # The exponential of an infinite end is an end as well: 0 or infinity.
    return Estimate(math.exp(logs.mean), math.exp(logs.low), math.exp(logs.high), logs.count)


def paired_ratio(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Estimate:
    """The mean ratio over the seeds that both have."""
    seeds = [seed for seed in sorted({*ours} & {*theirs}) if theirs[seed] > 0]
    return geometric(ours[seed] / theirs[seed] for seed in seeds)


def over_trajectories(found: Estimate, ours: Rows, theirs: Rows | None = None) -> Estimate:
    """A mean over seeds, or a mean ratio to `theirs`, with an interval that covers the choice of
    test trajectories, too: the two half widths are added in squares.

    That of trajectories is from a bootstrap: as many are drawn anew, the same for all seeds and for
    both sides, whose logarithmic spread is widened by Student's t and √(n / (n - 1)), since the
    plain one is too narrow where n is small. The found one comes back where there are fewer than
    two trajectories, or a row is missing or not finite. Source: Hesterberg (2015), The American
    Statistician 69, 371.
    """
    means = [mean_rows(rows) for rows in ((ours,) if theirs is None else (ours, theirs))]
    count = min(map(len, means))
    if count < 2 or not math.isfinite(found.mean) or any(len(row) != count for row in means):
        return found
    drawn = np.random.default_rng(0).integers(0, count, (DRAWS, count))
    logs = [np.log(row[drawn].mean(axis=1)) - np.log(row.mean()) for row in means]
    spread = logs[0] - logs[1] if theirs is not None else logs[0]
    factor = student(count - 1) / NORMAL * math.sqrt(count / (count - 1))
    low, high = (factor * float(end) for end in np.percentile(spread, (2.5, 97.5)))
    if theirs is None:
        down = math.hypot(found.mean - found.low, found.mean * (1 - math.exp(min(low, 0))))
        up = math.hypot(found.high - found.mean, found.mean * (math.exp(max(high, 0)) - 1))
        return Estimate(found.mean, found.mean - down, found.mean + up, found.count)
    middle = math.log(found.mean)
    below = middle - math.log(found.low) if found.low > 0 else math.inf
    above = math.log(found.high) - middle
    return Estimate(
        found.mean,
        math.exp(middle - math.hypot(below, low)),
        math.exp(middle + math.hypot(above, high)),
        found.count,
    )


def mean_rows(rows: Rows) -> Float[np.ndarray, " trajectories"]:
    """The mean over seeds of what was found on each trajectory; empty where some seed has other
    trajectories, or a number is not finite and positive."""
    if len({len(row) for row in rows.values()}) != 1:
        return np.zeros(0)
    means = np.array([*rows.values()], dtype=float).reshape(len(rows), -1).mean(axis=0)
    return means if bool((np.isfinite(means) & (means > 0)).all()) else np.zeros(0)


def over_systems(ratios: Sequence[Estimate]) -> Estimate:
    """The geometric mean of ratios over systems, its interval over these; of one system its own."""
    return ratios[0] if len(ratios) == 1 else geometric(ratio.mean for ratio in ratios)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's correlation: that of the ranks, equal values sharing theirs.

    NaN where either does not vary, or has a value that is none: NaN has no rank.
    """
    if any(math.isnan(value) for value in (*first, *second)):
        return math.nan
    middle = (len(first) - 1) / 2
    a, b = ([rank - middle for rank in ranks(values)] for values in (first, second))
    power = math.fsum(x * x for x in a) * math.fsum(y * y for y in b)
    product = math.fsum(x * y for x, y in zip(a, b, strict=True))
    return product / math.sqrt(power) if power else math.nan


def ranks(values: Sequence[float]) -> list[float]:
    """The place of each value in rising order, from 0; equal ones have the mean of theirs."""
    order = sorted(values)
    return [(bisect_left(order, value) + bisect_right(order, value) - 1) / 2 for value in values]
