"""Scores of ensembles, point by point: whether members are near the truth, and as far apart as
their mean is from it.

Axes: M members, B samples, C variables, (Z, Y, X) grid points. Members are equally likely, and the
order of them counts nowhere. `weights` are the points' shares of the domain, as in `error`. Where a
member is not finite, the ensemble is infinitely wrong.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from matey.metrics.error import Fields, Scores, Weights, infinite_if_nan, mean, rmse

Members = Float[Tensor, "M B C Z Y X"]
OUTSIDE = 0.2  # of what a calibrated ensemble sees lies outside of its central interval, or near it


def fair_crps(members: Members, target: Fields) -> Fields:
    """The continuous ranked probability score at each point, without the bias of few members:
    mean |X - y| - Σ |X - X'| / (2 M (M - 1)), the sum over all ordered pairs of members. In the
    variable's units; of one forecast without spread it would be the absolute error. Its mean is
    least for members that are drawn from the distribution of the truth, however few there are.

    Sources: Gneiting and Raftery (2007), doi:10.1198/016214506000001437; Ferro (2014),
    doi:10.1002/qj.2270.
    """
    count = len(members)
    apart = sum((members - members.roll(by, 0)).abs().mean(0) for by in range(1, count))
    return (members - target).abs().mean(0) - apart / (2 * (count - 1))


def crps(members: Members, target: Fields, weights: Weights = None) -> Scores:
    """The mean of `fair_crps` over space."""
    return infinite_if_nan(mean(fair_crps(members.double(), target.double()), weights))


def energy_score(members: Members, target: Fields, weights: Weights = None) -> Scores:
    """The energy score of whole frames, without the bias of few members, with the root mean square
    over space for a norm: mean |X - y| - Σ |X - X'| / (2 M (M - 1)).

    In the variable's units; of one forecast it would be the RMSE. Unlike the CRPS it sees whether
    points err together. Source: Gneiting and Raftery (2007), doi:10.1198/016214506000001437.
    """
    count = len(members)
    away = torch.stack([rmse(one, target, weights) for one in members]).mean(0)
    pairs = [
        rmse(members[i], members[j], weights) for i in range(count) for j in range(i + 1, count)
    ]
    return infinite_if_nan(away - torch.stack(pairs).sum(0) / (count * (count - 1)))


def mean_variance(members: Members, weights: Weights = None) -> Scores:
    """The mean over space of the variance between members, which divides by M - 1."""
    return infinite_if_nan(mean(members.double().var(dim=0), weights))


def spread_over_error(
    variance: Float[Tensor, "*axes"], error: Float[Tensor, "*axes"], count: int
) -> Float[Tensor, "*axes"]:
    """√((M + 1) / M) · spread / error of an ensemble of `count` members: 1 where it knows how wrong
    it is, below where it is too sure.

    `variance` is the mean variance between members, `error` the mean square error of their mean,
    both over samples and space. The mean of few members is wrong by their spread, too, for which
    the factor makes up. Source: Fortin et al. (2014), doi:10.1175/JHM-D-14-0008.1.
    """
    return ((count + 1) / count * variance / error).sqrt()


def ranks(members: Members, target: Fields, weights: Weights = None) -> Float[Tensor, "ranks B C"]:
    """How often the truth lies above so many of the members: the share of space of each of the
    M + 1 ranks. Flat for a calibrated ensemble; its ends are high of one that is too sure.

    Where the truth equals members, all ranks that it may have count alike. Sources: Talagrand et
    al. (1997), ECMWF workshop on predictability; Hamill (2001),
    doi:10.1175/1520-0493(2001)129<0550:IORHFV>2.0.CO;2.
    """
    below, upto = (members < target).sum(0), (members <= target).sum(0)
    share = 1 / (upto - below + 1).double()
    return torch.stack(
        [
            mean(torch.where((below <= rank) & (rank <= upto), share, 0.0), weights)
            for rank in range(len(members) + 1)
        ]
    )


def left_out(count: int) -> int:
    """How many of the outer ranks at each end lie outside of the central interval of an ensemble:
    those of near a tenth of what a calibrated one sees, one at least."""
    return max(1, round(OUTSIDE / 2 * (count + 1)))


def nominal_coverage(count: int) -> float:
    """How often the truth lies inside the central interval of a calibrated ensemble."""
    return 1 - 2 * left_out(count) / (count + 1)


def coverage(shares: Float[Tensor, "ranks B C"]) -> Scores:
    """How often the truth lay inside the central interval, of the shares of all `ranks`."""
    outer = left_out(len(shares) - 1)
    return shares[outer : len(shares) - outer].sum(0)
