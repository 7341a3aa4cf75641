"""Gray and Scott's reaction: spots of one chemical that feed on another, and divide.

    A_t = Du ∇²A - A B² + F (1 - A)
    B_t = Dv ∇²B + A B² - (F + k) B

A and B are concentrations (dimensionless), Du and Dv their diffusivities [m²/s], F the rate at
which A is fed and everything is washed out [1/s] and k the rate at which B is removed [1/s].
The initial state is A = 1 and B = 0, except in round spots with A = 1/2 and B = 1/4. With the
defaults the spots grow into a maze of stripes about 0.1 m apart, which 64 points per half
metre resolve to 0.3 % after 1000 s. F and k choose the pattern; these are the names and the
maze of the Well's two-dimensional set (arXiv:2412.00568), whose box is two metres wide.
Source: Pearson, Science 261 (1993) 189.

Scheme: `spectral`, with diffusion, washing out and removal in the linear part. Products of
three fields keep a little aliasing. Stable for steps up to 2.8 over the rate of the reaction,
which stays below 1 1/s; `step` is shorter for accuracy.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import require_positive
from matey.fields import SystemSpec, Variable
from matey.simulate.schemes.spectral import Box, PeriodicSystem


@dataclass(frozen=True)
class GrayScott(PeriodicSystem):
    """The reaction in a box. State and stored: A, B.

    Args:
        Du: diffusivity of A [m²/s].
        Dv: diffusivity of B [m²/s].
        F: feed rate [1/s].
        k: removal rate of B [1/s].
        spots: number of spots in the initial state.
        radius: range that a spot's radius is drawn from [m].
        side: length of the box's sides [m].
        span: time covered [s].
        step: longest time step [s]; at 2 s its error stays below 2e-4 of the pattern.
    """

    Du: float = 2e-5
    Dv: float = 1e-5
    F: float = 0.029
    k: float = 0.057
    spots: int = 4
    radius: tuple[float, float] = (0.03, 0.06)
    side: float = 0.5
    span: float = 1000.0
    step: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "", "Du", "Dv", "F", "k", "spots", "side", "span", "step")

    def spec(self, dt: float) -> SystemSpec:
        variables = (Variable("A", pseudo=False), Variable("B", pseudo=False))
        return SystemSpec("gray_scott", self.ndim, variables, ("Du", "Dv", "F", "k"), dt)

    def draw(self, random: np.random.Generator, resolution: int) -> Float[Tensor, "2 ..."]:
        """Round spots at random places, with A = 1/2 and B = 1/4 in their middle."""
        empty = torch.from_numpy(self.outside(random, resolution))
        return torch.stack((0.5 + 0.5 * empty, 0.25 - 0.25 * empty))

    def outside(self, random: np.random.Generator, resolution: int) -> np.ndarray:
        """1 far from all spots, 0 in the middle of one: Gaussians on a torus."""
        x = (np.arange(resolution) + 0.5) * self.side / resolution
        empty = np.ones([resolution] * self.ndim)
        for _ in range(self.spots):
            centre = random.uniform(0, self.side, self.ndim)
            radius = random.uniform(*self.radius)
            spot = np.ones(())
            for position in centre:
                distance = (x - position + self.side / 2) % self.side - self.side / 2
                spot = spot[..., None] * np.exp(-((distance / radius) ** 2))
            empty *= 1 - spot
        return empty

    def linear(self, box: Box) -> Tensor:
        return torch.stack(
            (-self.Du * box.square - self.F, -self.Dv * box.square - self.F - self.k)
        )

    def longest_step(self, box: Box) -> float:
        return self.step

    def nonlinear(self, modes: Tensor, box: Box) -> Tensor:
        A, B = box.values(modes).unbind(1)
        gain = box.modes((A * B).mul_(B)[:, None])
        rate = torch.cat((gain.neg(), gain), dim=1)
        rate[:, 0][box.mean] += self.F * math.prod(box.points)
        return rate
