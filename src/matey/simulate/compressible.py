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

Scheme: finite volumes. Density, velocity and pressure are linear in every cell, with slopes
bounded by the generalised minmod limiter (MUSCL) and by the heat in the cell. Fluxes are those of
the HLLC solver with Davis' speeds, stresses differences of order 2, and each trajectory takes
its own steps by Heun's method. Order 2 in space and time where the flow is smooth, 1 at
shocks. Stable up to Σ ((|v| + c) / h + 2 ν / h²) dt = 1, the sum over directions, with c the
speed of sound, h the spacing and ν = 4η/3 + ζ (over ρ, if not kinematic); `courant` of that is
used. Mass, momentum and energy are conserved to rounding.

Source: Toro, Riemann Solvers and Numerical Methods for Fluid Dynamics (3rd ed. 2009):
sections 10.4 and 10.5 (HLLC, speeds), 13.4 and 14.4 (MUSCL), 16 (several dimensions).
The limiter: Kurganov and Tadmor, J. Comput. Phys. 160 (2000) 241. Heun's method: Shu and
Osher, J. Comput. Phys. 77 (1988) 439.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import require, require_fraction, require_positive
from matey.fields import PERIODIC_SIDES, Grid, Sides, SystemSpec, Variable
from matey.simulate.stepper import Simulator, march_apart, plane_grid


@dataclass(frozen=True)
class Compressible(Simulator):
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
        require_positive(self, "", "M", "waves", "length", "span", "courant")
        require_fraction(self, "", "courant")
        for name in ("eta", "zeta"):
            value = getattr(self, name)
            require(0 <= value < math.inf, name, value, "a number of 0 or more")
        require(self.gamma > 1, "gamma", self.gamma, "more than 1")
        require(self.theta >= 1, "theta", self.theta, "1 or more")
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

    def run(
        self, state: Float[Tensor, "B S *points"], times: Sequence[float]
    ) -> Iterator[Float[Tensor, "B S *points"]]:
        """The state at each of `times`; the first is the one given."""
        return march_apart(state, times, self.longest_step, self.step)

    def longest_step(self, state: Float[Tensor, "B S *points"]) -> Float[Tensor, " B"]:
        """Time step of each trajectory [s]."""
        gas = self.primitive(state)
        density, velocity, pressure = gas[:, 0], gas[:, 1:-1], gas[:, -1]
        sound = (self.gamma * pressure / density).sqrt_()
        viscosity = 4 / 3 * self.eta + self.zeta
        diffusivity = torch.full_like(density, viscosity) if self.kinematic else viscosity / density
        fastest = torch.zeros_like(density)
        for component, spacing in zip(velocity.unbind(1), self.spacings(state), strict=True):
            fastest.add_(component.abs().add_(sound), alpha=1 / spacing)
            fastest.add_(diffusivity, alpha=2 / spacing**2)
        return self.courant / fastest.flatten(1).amax(dim=1)

    def step(
        self, state: Float[Tensor, "B S *points"], dt: Float[Tensor, " B"]
    ) -> Float[Tensor, "B S *points"]:
        """One step of Heun's method."""
        dt = dt.view(-1, *[1] * (state.ndim - 1))
        ahead = state.addcmul(self.rate(state), dt)
        return torch.addcmul(ahead, self.rate(ahead), dt).add_(state).mul_(0.5)

    def rate(self, state: Float[Tensor, "B S *points"]) -> Float[Tensor, "B S *points"]:
        """The time derivative of the state."""
        gas = self.primitive(state)
        spacings = self.spacings(state)
        total = self.inflow(gas, 0, spacings)
        for axis in range(1, len(spacings)):
            total.add_(self.inflow(gas, axis, spacings))
        return total

    def inflow(self, gas: Tensor, axis: int, spacings: Sequence[float]) -> Tensor:
        """Net flux into each cell along an axis (0 is x), per volume."""
        dim = -1 - axis
        slope = limited_slope(gas, dim, self.theta)
        # The ends of a cell have ρ s² / 8 more kinetic energy than its middle, taken from the
        # heat: at most a quarter of it, so that pressure stays positive.
        slope_squared = dot(slope[:, 1:-1], slope[:, 1:-1])
        share = (gas[:, -1] / slope_squared.mul_(gas[:, 0])).mul_(2 / (self.gamma - 1))
        slope.mul_(share.clamp_(max=1)[:, None])
        left = gas.add(slope, alpha=0.5)
        right = gas.sub(slope, alpha=0.5).roll(-1, dim)
        flux = hllc_flux(left, right, axis, self.gamma)
        if self.eta or self.zeta:
            flux[:, 1:].sub_(self.stress(gas, axis, spacings))
        return flux.roll(1, dim).sub_(flux).div_(spacings[axis])

    def stress(self, gas: Tensor, axis: int, spacings: Sequence[float]) -> Tensor:
        """Viscous flux along an axis (0 is x): momentum σ, and energy σ·v.

        Derivatives along the axis are differences across the face; along others, means of the
        central differences of both cells.
        """
        velocity = gas[:, 1:-1]
        ahead = velocity.roll(-1, -1 - axis)
        both = velocity + ahead
        flux = torch.empty_like(gas[:, 1:])
        stress = torch.sub(ahead, velocity, out=flux[:, :-1]).mul_(1 / spacings[axis])
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
            density = gas[:, :1]
            stress.mul_((density + density.roll(-1, -1 - axis)).mul_(0.5))
        torch.mul(dot(stress, both), 0.5, out=flux[:, -1])
        return flux

    def spacings(self, state: Float[Tensor, "B S *points"]) -> list[float]:
        """Grid spacing along x, y, z [m]."""
        return [self.length / points for points in reversed(state.shape[2:])]

    def primitive(self, state: Float[Tensor, "B S *points"]) -> Float[Tensor, "B S *points"]:
        """Density, velocity and pressure of a state."""
        gas = torch.empty_like(state)
        density, momentum, energy = state[:, :1], state[:, 1:-1], state[:, -1]
        gas[:, :1] = density
        velocity = torch.div(momentum, density, out=gas[:, 1:-1])
        torch.sub(energy, dot(momentum, velocity), alpha=0.5, out=gas[:, -1]).mul_(self.gamma - 1)
        return gas

    def observe(self, state: Float[Tensor, "B S *points"]) -> Float[Tensor, "B S *points"]:
        gas = self.primitive(state)
        return torch.cat([gas[:, :1], gas[:, -1:], gas[:, 1:-1]], dim=1)

    def state_of(self, frame: Float[Tensor, "B S *points"]) -> Float[Tensor, "B S *points"]:
        """The state with these stored variables: the inverse of `observe`."""
        density, pressure, velocity = frame[:, :1], frame[:, 1:2], frame[:, 2:]
        energy = pressure / (self.gamma - 1)
        energy = energy + density * (velocity**2).sum(dim=1, keepdim=True) / 2
        return torch.cat([density, density * velocity, energy], dim=1)


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


def dot(first: Tensor, second: Tensor) -> Tensor:
    """Scalar product of vectors whose components lie along axis 1."""
    total = first[:, 0] * second[:, 0]
    for i in range(1, first.shape[1]):
        total.addcmul_(first[:, i], second[:, i])
    return total


def central(values: Tensor, dim: int) -> Tensor:
    """Difference of the two neighbours along an axis."""
    return values.roll(-1, dim).sub_(values.roll(1, dim))


def limited_slope(values: Tensor, dim: int, theta: float) -> Tensor:
    """Change of the values across each cell: half that between its neighbours, but not beyond
    `theta` times the difference to either, and zero at an extremum."""
    ahead = values.roll(-1, dim).sub_(values)
    behind = ahead.roll(1, dim)
    slope = (ahead + behind).mul_(0.5)
    if math.isinf(theta):
        return slope
    highest = torch.minimum(ahead, behind).mul_(theta).clamp_(min=0)
    lowest = torch.maximum(ahead, behind, out=ahead).mul_(theta).clamp_(max=0)
    return torch.maximum(slope, lowest, out=slope).clamp_(max=highest)


def hllc_flux(left: Tensor, right: Tensor, axis: int, gamma: float) -> Tensor:
    """Flux of the state along an axis (0 is x) between gas on the left and on the right.

    Two outer waves of speeds `slow` and `fast` enclose a contact, which moves at `middle`.
    Of the gas on that side of the contact where the face is, the flux is F + s (U* - U), with
    s the outer wave's speed where it has passed the face, else 0, and U* the state behind it
    (Toro, equations 10.37 to 10.39).
    """
    along = 1 + axis
    (rho_left, u_left, p_left), (rho_right, u_right, p_right) = (
        (gas[:, 0], gas[:, along], gas[:, -1]) for gas in (left, right)
    )
    c_left = (p_left / rho_left).mul_(gamma).sqrt_()
    c_right = (p_right / rho_right).mul_(gamma).sqrt_()
    slow = torch.minimum(u_left - c_left, u_right - c_right)
    fast = torch.maximum(u_left.add(c_left), u_right.add(c_right))

    # Mass that enters each outer wave per time and area, and the speed of the contact.
    mass_left = (slow - u_left).mul_(rho_left)
    mass_right = (fast - u_right).mul_(rho_right)
    middle = (p_right - p_left).addcmul_(mass_left, u_left).addcmul_(mass_right, u_right, value=-1)
    middle.div_(mass_left - mass_right)

    on_left = (middle >= 0).to(middle.dtype)
    gas = torch.lerp(right, left, on_left[:, None])  # either of them, exactly
    rho, velocity, u, p = gas[:, 0], gas[:, 1:-1], gas[:, along], gas[:, -1]
    outer = torch.lerp(fast, slow, on_left)
    mass = torch.lerp(mass_right, mass_left, on_left)
    speed = torch.lerp(fast.clamp_(min=0), slow.clamp_(max=0), on_left)

    energy = dot(velocity, velocity).mul_(rho).mul_(0.5).add_(p, alpha=1 / (gamma - 1))
    squeezed = mass / (outer - middle)  # density behind the outer wave
    push = middle - u
    gain = (p / mass).add_(middle).mul_(push).add_(energy / rho).mul_(squeezed).sub_(energy)

    flux = torch.empty_like(left)
    through = torch.addcmul(rho * u, squeezed - rho, speed, out=flux[:, 0])
    torch.mul(velocity, through[:, None], out=flux[:, 1:-1])
    flux[:, along].add_(p).addcmul_(squeezed.mul_(speed), push)
    torch.mul(energy.add_(p), u, out=flux[:, -1]).addcmul_(gain, speed)
    return flux
