"""Compressible flow: random waves steepen into shocks, which cross, heat the gas and die out.

    ρ_t + ∇·(ρv) = 0
    (ρv)_t + ∇·(ρ v v + p - σ) = 0
    E_t + ∇·((E + p) v - σ·v) = 0
    E = p / (γ - 1) + ρ v² / 2,   σ = ρ (η (∇v + ∇vᵀ) + (ζ - 2η/3) (∇·v))

ρ is the density [kg/m³], v the velocity [m/s], p the pressure [Pa], E the energy [J/m³], η the
shear and ζ the bulk viscosity, kinematic [m²/s], and γ = 5/3 that of a monatomic gas. No heat
conduction. Periodic. This is PDEBench's system (arXiv:2210.07182, appendix D), and so are the
initial states: sums of sine waves of random amplitude and phase on a uniform background. The paper
writes σ without ρ, for viscosities in Pa s, but published fields in its layout are reproduced
only with ρ. `kinematic` chooses.

Scheme: finite volumes as in `gas`, but by Heun's method (Shu and Osher, J. Comput. Phys. 77 (1988)
439); stresses are differences of order 2. Stable up to Σ ((|v| + c) / h + 2 ν / h²) dt = 1, the sum
over directions, with c the speed of sound, h the spacing and ν = 4η/3 + ζ (over ρ, if not
kinematic); `courant` of that is used. Mass, momentum and energy are conserved to rounding.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import require, require_positive
from matey.fields import PERIODIC_SIDES, Grid, Sides, SystemSpec, Variable
from matey.simulate.schemes.gas import GasDynamics, dot, inside, neighbours
from matey.simulate.schemes.stepper import plane_grid


@dataclass(frozen=True)
class Compressible(GasDynamics):
    """Compressible Navier-Stokes. State: density, momentum, energy.

    Stored: density, pressure, velocity. `run` solves in one, two or three dimensions, as many
    as the state has axes of points; grid and initial states are two-dimensional.

    Args:
        eta: shear viscosity [m²/s].
        zeta: bulk viscosity [m²/s].
        kinematic: whether viscosities are per density; otherwise they are in Pa s.
        M: Mach number at the start: root mean square speed over the background's speed of sound.
        gamma: heat capacity at constant pressure over that at constant volume.
        density: range of the background's density [kg/m³].
        temperature: range of the background's pressure over density [m²/s²].
        contrast: range of the largest departure of density, and of pressure, from the
            background, relative to it.
        waves: largest wave number along an axis, in periods of the domain.
        length: of the domain, [0, length] along every axis [m].
        span: time covered [s]; 11 frames are 0.05 s apart, as published ones.
        theta: the limiter allows slopes up to `theta` times the smaller difference to a
            neighbour: 1 is minmod, 2 the monotonised central limiter, `math.inf` none at all.
        courant: fraction of the largest stable step.
    """

    boundaries: ClassVar[tuple[Sides, Sides, Sides]] = (
        PERIODIC_SIDES,
        PERIODIC_SIDES,
        PERIODIC_SIDES,
    )

    eta: float = 0.01
    zeta: float = 0.01
    kinematic: bool = True
    M: float = 1.0
    gamma: float = 5 / 3
    density: tuple[float, float] = (1.0, 10.0)
    temperature: tuple[float, float] = (1.0, 10.0)
    contrast: tuple[float, float] = (0.0, 0.8)
    waves: int = 4
    length: float = 1.0
    span: float = 0.5
    theta: float = 2.0
    courant: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "", "M", "waves")
        for name in ("eta", "zeta"):
            value = getattr(self, name)
            require(0 <= value < math.inf, name, value, "a number of 0 or more")
        require(self.contrast[1] < 1, "contrast", self.contrast, "less than 1: gas everywhere")

    def spec(self, dt: float) -> SystemSpec:
        variables = (
            Variable("density", "kg/m^3"),
            Variable("pressure", "Pa"),
            Variable("velocity_x", "m/s", ("x",)),
            Variable("velocity_y", "m/s", ("y",)),
        )
        return SystemSpec("compressible", 2, variables, ("eta", "zeta", "M"), dt)

    def grid(self, resolution: int) -> Grid:
        return plane_grid(0.0, self.length, resolution)

    def draw(self, random: np.random.Generator, resolution: int) -> Float[Tensor, "4 Y X"]:
        """A uniform background with waves of density, pressure and velocity, all random."""
        x = self.grid(resolution).coordinate(2).numpy() / self.length
        density, temperature = random.uniform(*self.density), random.uniform(*self.temperature)
        contrasts = random.uniform(*self.contrast, size=(2, 1, 1))
        waves = np.stack([random_waves(random, self.waves, x) for _ in range(4)])
        gas, velocity = waves[:2], waves[2:]
        gas *= contrasts / np.abs(gas).max(axis=(1, 2), keepdims=True)
        gas += 1
        gas *= [[[density]], [[density * temperature]]]
        speed = math.sqrt((velocity**2).sum(axis=0).mean())
        velocity *= self.M * math.sqrt(self.gamma * temperature) / speed
        return self.state_of(torch.from_numpy(waves)[None])[0]

    def diffusivity(self, density: Tensor) -> Tensor | None:
        """ν at every point."""
        viscosity = 4 / 3 * self.eta + self.zeta
        return torch.full_like(density, viscosity) if self.kinematic else viscosity / density

    def step(
        self, state: Float[Tensor, "B S *points"], dt: Float[Tensor, " B"]
    ) -> Float[Tensor, "B S *points"]:
        """One step of Heun's method, which takes waves and viscosity alike."""
        dt = dt.view(-1, *[1] * (state.ndim - 1))
        ahead = state.addcmul(self.rate(state), dt)
        return torch.addcmul(ahead, self.rate(ahead), dt).add_(state).mul_(0.5)

    def rate(self, state: Float[Tensor, "B S *points"]) -> Float[Tensor, "B S *points"]:
        """The time derivative of the state."""
        gas, spacings = self.primitive(state), self.spacings(state)
        total = torch.zeros_like(state)
        for axis in range(len(spacings)):
            beyond = self.with_ghosts(gas, axis)
            cells = inside(beyond, axis)
            flux = self.flux(cells, self.slope(beyond, axis), axis)
            if self.eta or self.zeta:
                flux[:, 1:].sub_(self.stress(cells, axis, spacings))
            total.add_(self.gain(flux, axis))
        return total

    def stress(self, gas: Tensor, axis: int, spacings: Sequence[float]) -> Tensor:
        """Viscous flux from each cell to the next along an axis (0 is x): momentum σ, energy σ·v.

        Derivatives along the axis are differences across the face; along others, means of the
        central differences of both cells.
        """
        here, ahead = neighbours(gas, -1 - axis)
        velocity, next_velocity = here[:, 1:-1], ahead[:, 1:-1]
        both = velocity + next_velocity
        flux = torch.empty_like(here[:, 1:])
        stress = torch.sub(next_velocity, velocity, out=flux[:, :-1]).mul_(1 / spacings[axis])
        # Along the axis: ζ - 2η/3 times the divergence, and η ∂u/∂x once more.
        normal = stress[:, axis] * (self.zeta + self.eta / 3)
        stress.mul_(self.eta)
        for other, spacing in enumerate(spacings):
            if other != axis:
                shear = central(both[:, axis], -1 - other)
                stress[:, other].add_(shear, alpha=self.eta / (4 * spacing))
                spread = central(both[:, other], -1 - other)
                normal.add_(spread, alpha=(self.zeta - 2 / 3 * self.eta) / (4 * spacing))
        stress[:, axis].add_(normal)
        if self.kinematic:
            stress.mul_((here[:, :1] + ahead[:, :1]).mul_(0.5))
        torch.mul(dot(stress, both), 0.5, out=flux[:, -1])
        return flux


def random_waves(random: np.random.Generator, largest: int, x: np.ndarray) -> np.ndarray:
    """Sum of sine waves over the unit square, [Y X], that have 1 to `largest` periods along
    both axes, in both diagonal directions; amplitudes uniform in [0, 1], any phase."""
    shape = (largest, 2 * largest)
    phase = 2j * np.pi * random.random(shape)
    strength = random.random(shape) * np.exp(phase)
    periods = np.arange(1, largest + 1)
    along_y = np.exp(2j * np.pi * np.outer(x, periods))
    along_x = np.exp(2j * np.pi * np.outer(np.concatenate([-periods, periods]), x))
    return (along_y @ strength @ along_x).imag


def central(values: Tensor, dim: int) -> Tensor:
    """Difference of the two neighbours along an axis."""
    return values.roll(-1, dim).sub_(values.roll(1, dim))
