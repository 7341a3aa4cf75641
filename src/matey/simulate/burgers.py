"""Burgers' equation: velocity that carries itself, steepens into fronts and dies out.

    u_t + (u·∇)u = ν ∇²u,  ν = Nu / π

u is the velocity, with one component per dimension of the box, and ν the viscosity, both
dimensionless. Nu and the factor π are those of PDEBench's one-dimensional set (arXiv:2210.07182,
appendix D). The initial state is a sum of random long waves. The grid must resolve fronts, which
are about 8 ν / jump thick: on 64 points Nu = 0.04 is enough for jumps up to 2.

Scheme: `spectral`, with (u·∇)u = ∇(u·u / 2) - u × (∇ × u). In one dimension, and for an
irrotational velocity, momentum is conserved to rounding. Stable for steps up to 2.8 over the
fastest velocity times the largest wavenumber.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import require_positive
from matey.fields import SystemSpec, Variable
from matey.simulate.schemes.spectral import Box, PeriodicSystem, random_waves

EXTREME = 4.0  # largest velocity component over its root mean square: random waves stay below


@dataclass(frozen=True)
class Burgers(PeriodicSystem):
    """Decaying Burgers turbulence. State and stored: the components of velocity.

    Args:
        Nu: π times the viscosity.
        speed: root mean square of each component at the start.
        waves: most periods of the initial waves along a side.
        side: length of the box's sides.
        span: time covered.
        courant: Courant number of the longest step, fastest velocity times largest wavenumber
            times step. At 2 the error in time is 1e-6 of the velocity.
    """

    Nu: float = 0.04
    speed: float = 0.5
    waves: int = 3
    side: float = 1.0
    span: float = 1.0
    courant: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "", "Nu", "speed", "waves", "side", "span", "courant")

    def spec(self, dt: float) -> SystemSpec:
        axes = ("x", "y", "z")[: self.ndim]
        variables = tuple(Variable(f"velocity_{axis}", axes=(axis,)) for axis in axes)
        return SystemSpec("burgers", self.ndim, variables, ("Nu",), dt)

    def draw(self, random: np.random.Generator, resolution: int) -> Float[Tensor, "S ..."]:
        """Random long waves in every component."""
        return self.speed * random_waves(random, self.ndim, self.ndim, resolution, self.waves)

    def linear(self, box: Box) -> Tensor:
        return (-self.Nu / torch.pi * box.square).expand(self.ndim, *box.square.shape)

    def longest_step(self, box: Box) -> float:
        fastest = EXTREME * self.speed * self.ndim**0.5
        return self.courant / (fastest * max(box.largest, 2 * torch.pi / self.side))

    def nonlinear(self, modes: Tensor, box: Box) -> Tensor:
        """u × (∇ × u) - ∇(u·u / 2), component by component."""
        velocity = box.values(modes)
        energy = velocity.square().sum(dim=1, keepdim=True).mul_(0.5)
        rate = box.gradient(box.modes(energy)).flip(1).neg_()
        if self.ndim > 1:
            pairs = list(combinations(range(self.ndim), 2))
            push = torch.zeros_like(velocity)
            # k of axis 0 is the fastest array axis: that of x, component 0.
            k = (1j * box.wavenumbers).flip(0)
            turns = torch.stack([k[i] * modes[:, j] - k[j] * modes[:, i] for i, j in pairs], 1)
            for (i, j), turn in zip(pairs, box.values(turns).unbind(1), strict=True):
                push[:, i].addcmul_(velocity[:, j], turn)
                push[:, j].addcmul_(velocity[:, i], turn, value=-1)
            rate += box.modes(push)
        return rate
