"""How long a rollout is useful.

Axes: B samples, S steps, C variables.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class FirstTime:
    """The time of an event's first occurrence, or the last time of all if it did not occur."""

    time: Float[Tensor, "B *C"]
    happened: Bool[Tensor, "B *C"]


def first_time(happens: Bool[Tensor, "B S *C"], leads: Sequence[float]) -> FirstTime:
    """The first of the lead times [S] at which an event happens."""
    times = torch.tensor(leads, dtype=torch.float64, device=happens.device)
    happened = happens.any(dim=1)
    first = happens.int().argmax(dim=1)
    return FirstTime(torch.where(happened, times[first], times[-1]), happened)


def correlation_time(
    correlations: Float[Tensor, "B S C"], leads: Sequence[float], threshold: float = 0.8
) -> FirstTime:
    """The first lead time at which the correlation over space is below the threshold.

    Times are not interpolated between leads. If a rollout stays above, its time is the last
    lead: a lower bound. An undefined correlation (NaN) does not count as below; if it is
    undefined at all leads, the time is NaN.
    Source: arXiv:2308.05732 (high-correlation time).
    """
    first = first_time(correlations < threshold, leads)
    defined = ~correlations.isnan().all(dim=1)
    return FirstTime(torch.where(defined, first.time, torch.nan), first.happened)


def divergence_time(
    rmse: Float[Tensor, "B S C"],
    deviation: Float[Tensor, "B S C"],
    leads: Sequence[float],
    bound: float,
) -> FirstTime:
    """The first lead time at which any variable of a rollout has diverged.

    A rollout has diverged if the prediction is not finite, or its root-mean-square error exceeds
    `bound` times the truth's largest standard deviation over space within the rollout. A truth
    that is constant in space sets no such bound.
    """
    most = deviation.amax(dim=1, keepdim=True)
    beyond = (rmse > bound * most) & (most > 0)
    return first_time((beyond | ~rmse.isfinite()).any(dim=2), leads)
