"""Small fields, and what stands at their sides, for the tests of tokens."""

import torch

from matey.fields import Boundary


def random_fields(ndim: int, points: int, samples: int, seed: int) -> torch.Tensor:
    """Normalised fields whose variance differs from place to place."""
    torch.manual_seed(seed)
    shape = (1,) * (3 - ndim) + (points,) * ndim
    return torch.randn(samples, 2, 2, *shape) * torch.rand(samples, 1, 1, *shape) ** 4


def sides(fields: torch.Tensor, kind: Boundary = Boundary.PERIODIC) -> torch.Tensor:
    """The same kind of boundary on all sides of every sample."""
    return torch.full((len(fields), 3, 2), int(kind))
