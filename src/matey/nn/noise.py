"""What makes members of an ensemble differ: numbers of noise that a model is told.

Each member of each sample has a stream of standard normal numbers, a function of the seed, the
member and the sample alone: a member is the same whatever it is computed with. At the first step
of a rollout all numbers are drawn; then half of them stay, as those of a model that errs in a way
of its own, and half are drawn anew at each step.

Axes: B samples, W numbers of noise.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

STAY = 0.5  # of the numbers, over a rollout


class Noise:
    """The streams of a member, one for each sample, whose `places` are numbers that tell it from
    others: by default all of them are the only one of their kind."""

    def __init__(
        self, width: int, seed: int, member: int, places: Sequence[tuple[int, ...]] = ((0, 0),)
    ) -> None:
        self.width = width
        self.streams = [
            np.random.default_rng(np.random.SeedSequence([seed, member, *place]))
            for place in places
        ]

    def draw(self) -> Float[Tensor, "B W"]:
        """The next numbers of all samples."""
        rows = [stream.standard_normal(self.width, dtype=np.float32) for stream in self.streams]
        return torch.from_numpy(np.stack(rows))
