"""How long a rollout is of use.

Axes: B samples, S steps, C variables.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class FirstTime:
    """When something happened first: the time, or the last one looked at where it did not."""

    time: Float[Tensor, "B *C"]
    happened: Bool[Tensor, "B *C"]


def first_time(happens: Bool[Tensor, "B S *C"], leads: Sequence[float]) -> FirstTime:
    """The first of the lead times [S] at which something happens."""
    times = torch.tensor(leads, dtype=torch.float64, device=happens.device)
    found = happens.any(dim=1)
    first = happens.int().argmax(dim=1)
    return FirstTime(torch.where(found, times[first], times[-1]), found)


def correlation_time(
    correlations: Float[Tensor, "B S C"], leads: Sequence[float], threshold: float = 0.8
) -> FirstTime:
    """The first lead time at which the correlation over space is below the threshold.

    Times are not interpolated between leads. Where a rollout stays above, its time is the last
    lead: a lower bound. A correlation that is undefined (NaN) does not count as below. A variable
    that never has a correlation has the time NaN.
    Source: arXiv:2308.05732 (high-correlation time).
    """
    found = first_time(correlations < threshold, leads)
    known = ~correlations.isnan().all(dim=1)
    return FirstTime(torch.where(known, found.time, torch.nan), found.happened)


def divergence_time(
    rmse: Float[Tensor, "B S C"],
    deviation: Float[Tensor, "B S C"],
    leads: Sequence[float],
    bound: float,
) -> FirstTime:
    """The first lead time at which any variable of a rollout has diverged.

    It has where the prediction is not finite, or where its root-mean-square error exceeds
    `bound` times the largest standard deviation over space that the truth has within the
    rollout. A truth that is constant in space has no such bound.
    """
    most = deviation.amax(dim=1, keepdim=True)
    beyond = (rmse > bound * most) & (most > 0)
    return first_time((beyond | ~rmse.isfinite()).any(dim=2), leads)
