"""Taylor-Green vortices: in a periodic box they stretch each other, break up and die out.

    v_t + (v·∇)v = -∇p + ν ∇²v,   ∇·v = 0

v is the velocity [m/s] in three dimensions, p the pressure over the density [m²/s²] and ν the
kinematic viscosity `nu` [m²/s]. The vortices of Taylor and Green,

    v = V (sin kx cos ky cos kz, -cos kx sin ky cos kz, 0),   k = 2π / side,

in any place and along any two axes, are mixed with random long waves in a random proportion. All
states have their energy, V²/8. With side 2π m and V = 1 m/s the Reynolds number V / (k ν) is
1/ν: 40 to 100 in the family. At 100 dissipation is largest after 5 s, and 16 to 32 points along
an axis resolve it; at 1600 it takes 256.

Scheme: `spectral`, with (v·∇)v = (∇ × v) × v + ∇(v²/2): gradients drop out as the modes are made
free of divergence. Without viscosity energy is conserved by all but the steps in time, which are
of order 4. Stable for steps up to 2.8 over the sum of velocity times largest wavenumber along all
axes. At 32³ points 21 frames take 3.5 s of one core, and sixteen times as long with twice the
resolution.

Source: Taylor and Green, Proc. R. Soc. A 158 (1937) 499; Brachet, Meiron, Orszag, Nickel, Morf
and Frisch, J. Fluid Mech. 130 (1983) 411.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from matey.config import require_positive
from matey.fields import SystemSpec, Variable
from matey.simulate.schemes.spectral import Box, PeriodicSystem, random_waves
from matey.simulate.schemes.stepper import Range

FASTEST = 2.0  # largest sum of velocities along the axes, over V: of the vortices it is 1


@dataclass(frozen=True)
class TaylorGreen(PeriodicSystem):
    """Decaying flow in a cube. State and stored: the components of velocity.

    Args:
        nu: kinematic viscosity [m²/s].
        speed: V, the largest velocity of Taylor and Green's vortices [m/s].
        waves: most periods of the random waves along a side.
        side: length of the box's sides [m].
        span: time covered [s].
        courant: Courant number of the longest step, fastest velocity times largest wavenumber
            times step. At 1 the error in time is 1e-5 of the velocity.
    """

    dimensions: ClassVar[tuple[int, ...]] = (3,)
    vary: ClassVar[Mapping[str, Range]] = {"nu": Range(0.01, 0.025, log=True)}

    ndim: int = 3
    nu: float = 0.01
    speed: float = 1.0
    waves: int = 2
    side: float = 2 * math.pi
    span: float = 8.0
    courant: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "", "nu", "speed", "waves", "side", "span", "courant")

    def spec(self, dt: float) -> SystemSpec:
        variables = tuple(Variable(f"velocity_{axis}", "m/s", (axis,)) for axis in "xyz")
        return SystemSpec("taylor_green", 3, variables, ("nu",), dt)

    def draw(self, random: np.random.Generator, resolution: int) -> Float[Tensor, "3 Z Y X"]:
        """Taylor and Green's vortices and random waves, mixed at random."""
        angle = random.uniform(0, math.pi / 2)
        place, order = random.uniform(0, self.side, 3), random.permutation(3).tolist()
        # Axis i of the flow is axis order[i] of the vortices; x is the last of an array.
        turned = (3 - order[2], 3 - order[1], 3 - order[0])
        vortices = self.vortices(resolution, place)[order].permute(0, *turned)
        waves = random_waves(random, 3, 3, resolution, self.waves)[None]
        box = Box((resolution,) * 3, self.side, waves)
        waves = box.values(without_divergence(box.modes(waves), box))[0]
        mixed = math.cos(angle) * scaled(vortices) + math.sin(angle) * scaled(waves)
        return self.speed / 2 * scaled(mixed)

    def vortices(
        self, resolution: int, place: np.ndarray | tuple[float, float, float] = (0.0, 0.0, 0.0)
    ) -> Float[Tensor, "3 Z Y X"]:
        """The vortices of Taylor and Green, with their corner at a place (x, y, z), float64."""
        k, points = 2 * math.pi / self.side, self.grid(resolution).coordinate(2)
        x, y, z = (k * (points - start) for start in place)
        x, y, z = x, y[:, None], z[:, None, None]
        both = torch.stack((x.sin() * y.cos() * z.cos(), -x.cos() * y.sin() * z.cos()))
        return self.speed * torch.cat((both, torch.zeros_like(both[:1])))

    def linear(self, box: Box) -> Tensor:
        return (-self.nu * box.square).expand(3, *box.square.shape)

    def longest_step(self, box: Box) -> float:
        return self.courant / (FASTEST * self.speed * max(box.largest, 2 * math.pi / self.side))

    def nonlinear(self, modes: Tensor, box: Box) -> Tensor:
        """v × (∇ × v), made free of divergence."""
        velocity, vorticity = box.values(modes), box.values(curl(modes, box))
        return without_divergence(box.modes(torch.cross(velocity, vorticity, dim=1)), box)


def curl(modes: Complex[Tensor, "B 3 *modes"], box: Box) -> Complex[Tensor, "B 3 *modes"]:
    """The curl of a vector with components x, y, z."""
    # k of axis 0 is the fastest array axis: that of x, component 0.
    k = (1j * box.wavenumbers).flip(0)[None]
    return torch.cross(k.expand_as(modes), modes, dim=1)


def without_divergence(
    modes: Complex[Tensor, "B 3 *modes"], box: Box
) -> Complex[Tensor, "B 3 *modes"]:
    """A vector less its part that is a gradient; a mean stays."""
    k = box.wavenumbers.flip(0)
    inverse = (1 / box.square.clamp(min=1e-30)).to(k)
    along = (modes * k).sum(dim=1, keepdim=True).mul_(inverse)
    return modes - along * k


def scaled(field: Float[Tensor, "3 Z Y X"]) -> Float[Tensor, "3 Z Y X"]:
    """A vector field whose mean square is 1."""
    return field / field.square().sum(dim=0).mean().sqrt()
