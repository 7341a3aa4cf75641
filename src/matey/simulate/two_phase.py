"""Two fluids that do not mix: drops rise, sink and merge, and a mixture separates.

    φ_t + u·∇φ = M ∇²μ,   μ = s ((φ³ - φ) / ε - ε ∇²φ),   s = 3 σ / √8
    u_t + (u·∇)u = -∇p + ν ∇²u + μ ∇φ + g (φ - mean φ) e_y / 2,   ∇·u = 0

φ is 1 in the lighter fluid and -1 in the other, u the velocity [m/s], μ the chemical potential
and p the pressure, both over the density [m²/s²]. The fluids differ in weight alone: g is the
difference over the density, `gravity` [m/s²]. σ is the surface tension over the density, `sigma`
[m³/s²], and ν the kinematic viscosity `NU` [m²/s]. Periodic; as the force has no mean, the box
stays where it is. These are the equations of Cahn-Hilliard and Navier-Stokes, or model H.

A flat interface is φ = tanh(x / (√2 ε)), of which nine tenths lie within 4.2 ε. ε is `cells` grid
spacings: interfaces are as thin as the grid allows. With the mobility M = `recovery` ε² / σ, drops
and flow do not depend on ε as it becomes small; drops of a radius below 5 ε dissolve in time.

Scheme: `spectral`, of φ and the vorticity ω = v_x - u_y, with viscosity and M s (2 ∇² / ε - ε ∇⁴) φ
in the linear part. On the grid as in the equations, kinetic energy and the free energy
∫ s ((φ² - 1)² / (4 ε) + ε |∇φ|² / 2) together lose ν ∫ ω² + M ∫ |∇μ|² without gravity, to rounding:
only steps in time add an error, of order 4. Mass, ∫ φ, is kept to rounding. Stable for steps up to
about 2.8 / (k U) for flow and 2.8 / √(σ k³ / 2) for capillary waves, with k the largest wavenumber
and U the largest speed, for which `speed` is taken; `fraction` of that is used. A trajectory of 64²
points takes 1 s of one core, and one of 256² takes 40 to 80 s.

Source: Hohenberg and Halperin, Rev. Mod. Phys. 49 (1977) 435 (model H); Jacqmin, J. Comput.
Phys. 155 (1999) 96 (as a method for two fluids); Magaletti et al., J. Fluid Mech. 714 (2013) 95
(mobility as ε²).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from matey.config import require, require_fraction, require_positive
from matey.fields import SystemSpec, Variable
from matey.simulate.schemes.spectral import Box, PeriodicSystem, random_waves
from matey.simulate.schemes.stepper import Range

TRIES = 1000  # places to try for a drop


@dataclass(frozen=True)
class TwoPhase(PeriodicSystem):
    """Drops, or a mixture, in a box. State: φ, vorticity. Stored: φ as `phase`, velocity.

    Args:
        sigma: surface tension over density [m³/s²].
        NU: kinematic viscosity [m²/s].
        gravity: difference of weight per mass [m/s²]; φ = 1 rises, along y.
        recovery: speed [m/s] that sets the mobility, `recovery` ε² / sigma.
        cells: ε in grid spacings; with 1.25 the grid's error is 1 % of an interface.
        mixtures: share of the trajectories that start as a mixture, not with drops.
        drops: range of their number, of either fluid in the other.
        radius: range of their radii [m].
        gap: least distance between them at the start [m].
        mean: range of a mixture's mean of φ.
        contrast: root mean square departure of a mixture from its mean.
        waves: largest wave number of a mixture, in periods of the box.
        stir: range of the root mean square vorticity at the start [1/s].
        side: length of the box's sides [m].
        span: time covered [s].
        speed: largest that is expected [m/s].
        fraction: step over the longest stable one.
    """

    dimensions = (2,)
    vary: ClassVar[Mapping[str, Range]] = {
        "sigma": Range(0.003, 0.03, log=True),
        "NU": Range(0.001, 0.004, log=True),
        "gravity": Range(0.0, 1.5),
    }

    sigma: float = 0.01
    NU: float = 0.002
    gravity: float = 1.0
    recovery: float = 0.3
    cells: float = 1.25
    mixtures: float = 0.3
    drops: tuple[int, int] = (3, 7)
    radius: tuple[float, float] = (0.07, 0.15)
    gap: float = 0.02
    mean: tuple[float, float] = (-0.4, 0.4)
    contrast: float = 0.2
    waves: int = 10
    stir: tuple[float, float] = (0.0, 4.0)
    side: float = 1.0
    span: float = 4.0
    speed: float = 1.0
    fraction: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "", "sigma", "recovery", "cells", "waves", "side", "span")
        require_positive(self, "", "speed", "fraction")
        require_fraction(self, "", "fraction", "mixtures")
        require(0 <= self.NU < math.inf, "NU", self.NU, "a number of 0 or more")
        require(1 <= self.drops[0] <= self.drops[1], "drops", self.drops, "1 or more, least first")

    def spec(self, dt: float) -> SystemSpec:
        variables = (
            Variable("phase", pseudo=False),
            Variable("velocity_x", "m/s", ("x",)),
            Variable("velocity_y", "m/s", ("y",)),
        )
        return SystemSpec("two_phase", 2, variables, ("sigma", "NU", "gravity"), dt)

    def epsilon(self, points: int) -> float:
        """Thickness ε of interfaces on so many points a side [m]."""
        return self.cells * self.side / points

    def draw(self, random: np.random.Generator, resolution: int) -> Float[Tensor, "2 Y X"]:
        """A mixture, or drops of either fluid, in a smooth random flow."""
        mixed, sign = random.random() < self.mixtures, random.choice([-1.0, 1.0])
        vorticity = random.uniform(*self.stir) * random_waves(random, 1, 2, resolution, 3)
        if mixed:
            waves = random_waves(random, 1, 2, resolution, self.waves)
            phase = random.uniform(*self.mean) + self.contrast * waves
        else:
            inside = torch.from_numpy(self.inside_drops(random, resolution))
            phase = sign * (inside / (math.sqrt(2) * self.epsilon(resolution))).tanh()[None]
        return torch.cat((phase, vorticity))

    def inside_drops(self, random: np.random.Generator, resolution: int) -> np.ndarray:
        """How far inside the nearest of random drops every point is [m], less than 0 outside."""
        x = (np.arange(resolution) + 0.5) * self.side / resolution
        placed: list[tuple[np.ndarray, float]] = []
        for _ in range(random.integers(self.drops[0], self.drops[1] + 1)):
            radius = random.uniform(*self.radius)
            for _ in range(TRIES):
                centre = random.uniform(0, self.side, 2)
                if all(
                    np.linalg.norm(self.nearest(centre - other)) > radius + its + self.gap
                    for other, its in placed
                ):
                    placed.append((centre, radius))
                    break
        depths = [
            radius - np.hypot(self.nearest(x - y0)[:, None], self.nearest(x - x0))
            for (y0, x0), radius in placed
        ]
        return np.max(depths, axis=0)

    def nearest(self, distance: np.ndarray) -> np.ndarray:
        """A distance along an axis to the nearest of all periodic images."""
        return (distance + self.side / 2) % self.side - self.side / 2

    def linear(self, box: Box) -> Tensor:
        epsilon, strength, mobility = self.coefficients(box)
        stiff = epsilon * box.square**2 + 2 / epsilon * box.square
        return torch.stack((-mobility * strength * stiff, -self.NU * box.square))

    def coefficients(self, box: Box) -> tuple[float, float, float]:
        """ε, s and M."""
        epsilon = self.epsilon(box.points[-1])
        return epsilon, 3 * self.sigma / math.sqrt(8), self.recovery * epsilon**2 / self.sigma

    def longest_step(self, box: Box) -> float:
        flow = box.largest * self.speed
        capillary = math.sqrt(self.sigma * box.largest**3 / 2)
        return self.fraction * 2.8 / max(flow, capillary)

    def nonlinear(self, modes: Tensor, box: Box) -> Tensor:
        """Rates of φ and ω: what carries both, and the forces."""
        epsilon, strength, mobility = self.coefficients(box)
        phase, square = modes[:, :1], box.square.to(modes.real)
        cube = self.cube(phase, box)
        potential = (cube - phase) * (strength / epsilon) + phase * square * (strength * epsilon)
        flow = torch.cat((potential, box.gradient(phase), velocity(modes[:, 1:], box)), dim=1)
        mu, phase_y, phase_x, u, v, omega = box.values(torch.cat((flow, modes[:, 1:]), 1)).unbind(1)
        carried = u * phase_x + v * phase_y
        force_x, force_y = v * omega + mu * phase_x, mu * phase_y - u * omega
        carried, force_x, force_y = box.modes(torch.stack((carried, force_x, force_y), 1)).unbind(1)
        force_y.add_(phase[:, 0], alpha=self.gravity / 2)
        along_y, along_x = (1j * box.wavenumbers).unbind(0)
        spinodal = (cube - 3 * phase)[:, 0] * square * (mobility * strength / epsilon)
        return torch.stack((-carried - spinodal, along_x * force_y - along_y * force_x), dim=1)

    def cube(self, phase: Tensor, box: Box) -> Tensor:
        """The modes of φ³."""
        return box.modes(box.values(phase) ** 3)

    def energies(self, state: Float[Tensor, "B 2 Y X"]) -> Float[Tensor, "B 2"]:
        """Kinetic and free energy over the density [m⁴/s²]."""
        box = Box(tuple(state.shape[2:]), self.side, state)
        epsilon, strength, _ = self.coefficients(box)
        modes = box.modes(state)
        kinetic = box.values(velocity(modes[:, 1:], box)).square().sum(dim=1) / 2
        slope = box.values(box.gradient(modes[:, :1])).square().sum(dim=1)
        phase = box.values(modes[:, :1])[:, 0]
        free = strength * ((phase**2 - 1) ** 2 / (4 * epsilon) + epsilon / 2 * slope)
        return torch.stack((kinetic, free), dim=1).mean(dim=(2, 3)) * self.side**2

    def observe(self, state: Float[Tensor, "B 2 Y X"]) -> Float[Tensor, "B 3 Y X"]:
        box = Box(tuple(state.shape[2:]), self.side, state)
        flow = box.values(velocity(box.modes(state[:, 1:]), box))
        return torch.cat((state[:, :1], flow), dim=1)


def velocity(vorticity: Complex[Tensor, "B 1 *modes"], box: Box) -> Complex[Tensor, "B 2 *modes"]:
    """The modes of u and v: (ψ_y, -ψ_x) of the stream function ψ with -∇²ψ = ω, without a mean."""
    square = box.square.to(vorticity.real).clone()
    square[box.mean] = torch.inf
    along_y, along_x = box.gradient(vorticity / square).unbind(1)
    return torch.stack((along_y, -along_x), dim=1)
