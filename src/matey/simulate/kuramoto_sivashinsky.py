"""Kuramoto and Sivashinsky's equation: a flame front whose wrinkles never come to rest.

    h_t + |∇h|² / 2 - <|∇h|² / 2> + ∇²h + ∇⁴h = 0

h is the position of the front relative to its mean, dimensionless, and <> is the mean over the
box, which keeps the mean of h at 0: the equation in a frame that moves with the front. In one
dimension u = h_x obeys u_t + u u_x + u_xx + u_xxxx = 0. Waves of wavenumber k grow at the rate
k² - k⁴, fastest where k² = 1/2 and only below 1; the quadratic term hands their energy to shorter
waves, which the fourth derivative damps. The initial state is a sum of random long waves. After a
time of about 30 it is forgotten, and the front is chaotic.
Source: Kuramoto, Prog. Theor. Phys. Suppl. 64 (1978) 346; Sivashinsky, Acta Astronaut. 4
(1977) 1177; Kalogirou, Keaveny and Papageorgiou, Proc. R. Soc. A 471 (2015) 20140932 (two
dimensions).

Scheme: `spectral`; the grid must resolve waves that are damped. Stable for steps up to 2.8 over
the steepest slope times the largest wavenumber.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from matey.config import require, require_positive
from matey.fields import Grid, SystemSpec, Variable
from matey.simulate.schemes.spectral import Box, PeriodicSystem, random_waves

STEEPEST = 6.0  # largest slope: fronts stay below 5.5 in two dimensions, and below 3 in one
COARSEST = 1.2  # largest spacing: it resolves wavenumbers up to 1.7, which decay at a rate of 5


@dataclass(frozen=True)
class KuramotoSivashinsky(PeriodicSystem):
    """The wrinkled front. State and stored: its position.

    Args:
        amplitude: root mean square of the initial position.
        waves: most periods of the initial waves along a side.
        side: length of the box's sides; the fastest wave to grow is 2 √2 π = 8.9 long.
        span: time covered.
        courant: Courant number of the longest step, steepest slope times largest wavenumber
            times step. At 1 the error in time after 15 times is 1e-5 of the front, and grows
            e-fold every 4 times.
    """

    dimensions: ClassVar[tuple[int, ...]] = (1, 2)

    amplitude: float = 1.0
    waves: int = 4
    side: float = 12 * np.pi
    span: float = 40.0
    courant: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "", "amplitude", "waves", "side", "span", "courant")

    def spec(self, dt: float) -> SystemSpec:
        front = Variable("front", pseudo=False)
        return SystemSpec("kuramoto_sivashinsky", self.ndim, (front,), (), dt)

    def grid(self, resolution: int) -> Grid:
        """The box from 0 on. Raises ConfigError where it is too coarse for damped waves."""
        least = int(np.ceil(self.side / COARSEST))
        require(resolution >= least, "resolution", resolution, f"{least} points or more")
        return super().grid(resolution)

    def draw(self, random: np.random.Generator, resolution: int) -> Float[Tensor, "1 ..."]:
        """Random long waves."""
        return self.amplitude * random_waves(random, 1, self.ndim, resolution, self.waves)

    def linear(self, box: Box) -> Tensor:
        return (box.square - box.square**2)[None]

    def longest_step(self, box: Box) -> float:
        return self.courant / (STEEPEST * box.largest)

    def nonlinear(self, modes: Tensor, box: Box) -> Tensor:
        slope = box.values(box.gradient(modes))
        rate = box.modes(slope.square().sum(dim=1, keepdim=True).mul_(-0.5))
        rate[box.mean] = 0
        return rate
