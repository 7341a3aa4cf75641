"""Reacting gas: random hot spots ignite it, and detonations run through a closed vessel.

    ρ_t + ∇·(ρv) = 0
    (ρv)_t + ∇·(ρ v v + p) = 0
    E_t + ∇·((E + p) v) = q ρ Y K exp(-Ea / T)
    (ρY)_t + ∇·(ρ Y v) = -ρ Y K exp(-Ea / T)
    E = p / (γ - 1) + ρ v² / 2,   T = p / ρ

ρ is the density [kg/m³], v the velocity [m/s], p the pressure [Pa], E the energy without that of
the bonds [J/m³], Y the mass fraction of the reactant, T the temperature, times the gas constant
[J/kg], q the heat of the reaction [J/kg], Ea its activation energy [J/kg] and K its
frequency [1/s]. The heat capacity at constant pressure over that at constant volume is γ = 1.2. No
viscosity, conduction or diffusion; solid walls without friction.

The reactant is at rest at one pressure, in a mixture that is warmer here and leaner there. In
hot spots it burns at once, and each drives a wave that becomes a detonation: a shock that
heats the reactant until it burns, and is driven by it. Plane ones run at Chapman and Jouguet's
speed, of Mach number √(1 + H) + √H with H = (γ² - 1) q / (2 γ T). Their fronts meet, leave
pockets that burn later, and go on as shocks in the burnt gas, which walls throw back. Some die
out as they widen, and set in again where shocks meet; the warmest gas may explode before they come.
In one dimension there is one hot spot, near an end of a tube, and the front runs along all of it:
by default for half the time, after which there would be nothing left to burn.

K is such that half of the reactant burns within `half_length` behind the front of a plane
detonation, the usual unit of length. A cell should be no longer than it: 80 points by default.
With fewer, the zone that burns is as wide as the grid makes it, and its speed still right. q and
Ea are drawn for each trajectory; plane waves are steady up to Ea = 25.26 at q = 50, and pulsate
beyond. Slow flames need conduction and are not part of these equations: what burns without being
compressed is smeared by the grid alone.

Scheme: finite volumes as in `gas`, between two half steps of the reaction at constant density and
velocity (Strang's splitting), each by the exponential of the rate at its midpoint: order 2, stable
for any rate, Y never below 0. Mass, and energy with that of the bonds, are conserved to rounding.

Source: Fickett and Davis, Detonation (1979), sections 2C and 5A (Zel'dovich, von Neumann and
Döring's wave), 6 (instability); Lee and Stewart, J. Fluid Mech. 216 (1990) 103 (the half length,
when waves pulsate); Strang, SIAM J. Numer. Anal. 5 (1968) 506.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import require, require_positive
from matey.fields import Grid, Sides, SystemSpec, Variable
from matey.simulate.schemes.gas import GasDynamics
from matey.simulate.schemes.spectral import random_waves
from matey.simulate.schemes.stepper import WALL_SIDES, Range, box_grid

END = 0.1  # share of a tube that holds its hot spot
TRACE = 1e-12  # mass fraction that counts as burnt: what is left would fall below all numbers
NODES = 64  # of the quadrature over a wave: exact to rounding


@dataclass(frozen=True)
class Wave:
    """A plane detonation at Chapman and Jouguet's speed into gas at rest.

    Args:
        M: its Mach number.
        gamma: heat capacity at constant pressure over that at constant volume.
    """

    M: float
    gamma: float

    def volume(self, burnt: np.ndarray) -> np.ndarray:
        """Volume over that ahead, where a share has burnt; also velocity over D, at the front."""
        M, g = self.M, self.gamma
        return (g * M**2 + 1 - (M**2 - 1) * np.sqrt(1 - burnt)) / ((g + 1) * M**2)

    def pressure(self, burnt: np.ndarray) -> np.ndarray:
        """Pressure over that ahead: momentum is conserved."""
        return 1 + self.gamma * self.M**2 * (1 - self.volume(burnt))


@dataclass(frozen=True)
class Reacting(GasDynamics):
    """Detonations from hot spots. State: density, momentum, energy, density of the reactant.

    Stored: density, pressure, velocity, and the burnt fraction, 1 - Y: the other is next to
    nothing once all has burnt, and errors are measured beside what is there.

    Args:
        ndim: dimensions, 1 or 2.
        heat: q, of the reaction [J/kg].
        activation: Ea [J/kg].
        half_length: behind a plane detonation's front, within which half of the reactant burns [m].
        gamma: heat capacity at constant pressure over that at constant volume.
        density: of the reactant on average [kg/m³].
        pressure: at the start, outside hot spots [Pa].
        spots: range of the number of hot spots, in two dimensions.
        hotness: range of a hot spot's temperature over that of the rest.
        radius: range of a hot spot's radius [m].
        pockets: range of the number of lean pockets.
        leanness: range of the share of reactant that is missing in the middle of a pocket.
        unevenness: range of the root mean square of density, over the mean.
        waves: largest wave number of that along an axis, in periods of the domain.
        length: of the domain, [0, length] along every axis [m].
        span: time covered [s]; `of_dimension` gives a tube half of it.
        theta: the limiter allows slopes up to `theta` times the smaller difference to a
            neighbour.
        courant: fraction of the largest stable step.
    """

    boundaries: ClassVar[tuple[Sides, Sides, Sides]] = (WALL_SIDES, WALL_SIDES, WALL_SIDES)
    dimensions: ClassVar[tuple[int, ...]] = (1, 2)
    carried: ClassVar[int] = 1
    vary: ClassVar[Mapping[str, Range]] = {
        "heat": Range(25.0, 50.0),
        "activation": Range(11.0, 16.0),
    }

    ndim: int = 2
    heat: float = 35.0
    activation: float = 13.0
    half_length: float = 0.0125
    gamma: float = 1.2
    density: float = 1.0
    pressure: float = 1.0
    spots: tuple[int, int] = (1, 4)
    hotness: tuple[float, float] = (25.0, 45.0)
    radius: tuple[float, float] = (0.06, 0.12)
    pockets: tuple[int, int] = (0, 4)
    leanness: tuple[float, float] = (0.5, 1.0)
    unevenness: tuple[float, float] = (0.02, 0.1)
    waves: int = 6
    length: float = 1.0
    span: float = 0.3
    theta: float = 2.0
    courant: float = 0.6

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "", "heat", "half_length", "density", "pressure", "waves")
        require(self.activation >= 0, "activation", self.activation, "0 or more")
        for name in ("hotness", "radius"):
            low, high = getattr(self, name)
            require(0 < low <= high, name, (low, high), "two numbers above 0, the lower first")

    def spec(self, dt: float) -> SystemSpec:
        variables = (
            Variable("density", "kg/m^3"),
            Variable("pressure", "Pa"),
            *(Variable(f"velocity_{axis}", "m/s", (axis,)) for axis in "xy"[: self.ndim]),
            Variable("burnt", pseudo=False),
        )
        return SystemSpec("reacting", self.ndim, variables, ("heat", "activation"), dt)

    def grid(self, resolution: int) -> Grid:
        return box_grid(0.0, self.length, resolution, self.ndim)

    def of_dimension(self, ndim: int) -> "Reacting":
        """The same in so many dimensions, over the time that fronts take there."""
        return replace(self, ndim=ndim, span=self.span * ndim / self.ndim)

    @property
    def temperature(self) -> float:
        """Of the reactant on average [J/kg]."""
        return self.pressure / self.density

    @cached_property
    def wave(self) -> Wave:
        """The plane detonation into the reactant on average."""
        H = (self.gamma**2 - 1) * self.heat / (2 * self.gamma * self.temperature)
        return Wave(math.sqrt(1 + H) + math.sqrt(H), self.gamma)

    @property
    def speed(self) -> float:
        """D, of the plane detonation [m/s]."""
        return self.wave.M * math.sqrt(self.gamma * self.temperature)

    @cached_property
    def frequency(self) -> float:
        """K [1/s]: dx = u dY / (Y K exp(-Ea / T)) over the half that burns first is half_length."""
        node, weight = np.polynomial.legendre.leggauss(NODES)
        burnt, weight = (node + 1) / 4, weight / 4
        volume = self.wave.volume(burnt)
        temperature = self.temperature * self.wave.pressure(burnt) * volume
        slowness = np.exp(self.activation / temperature) / (1 - burnt)
        return float(weight @ (self.speed * volume * slowness)) / self.half_length

    def draw(self, random: np.random.Generator, resolution: int) -> Float[Tensor, "S ..."]:
        """Reactant at rest, of uneven temperature, with random hot spots and lean pockets."""
        uneven = random_waves(random, 1, self.ndim, resolution, self.waves)[0]
        uneven *= random.uniform(*self.unevenness)
        density = self.density * uneven.exp()
        pressure = torch.full_like(density, self.pressure)
        reactant = torch.ones_like(density)
        tube = self.ndim == 1
        for _ in range(1 if tube else random.integers(*self.spots, endpoint=True)):
            hotness = random.uniform(*self.hotness)
            spot = self.bump(random, resolution, END if tube else 1.0)
            spot = spot.flip(0) if tube and random.integers(2) else spot
            pressure += (hotness * self.pressure - pressure) * spot
        for _ in range(random.integers(*self.pockets, endpoint=True)):
            reactant *= 1 - random.uniform(*self.leanness) * self.bump(random, resolution)
        velocity = [torch.zeros_like(density)] * self.ndim
        return self.state_of(torch.stack([density, pressure, *velocity, 1 - reactant])[None])[0]

    def observe(self, state: Float[Tensor, "B S *points"]) -> Float[Tensor, "B S *points"]:
        """Density, pressure, velocity and burnt fraction of a state."""
        stored = super().observe(state)
        stored[:, -1] = 1 - stored[:, -1]
        return stored

    def state_of(self, frame: Float[Tensor, "B S *points"]) -> Float[Tensor, "B S *points"]:
        """The state with these stored variables: the inverse of `observe`."""
        return super().state_of(torch.cat([frame[:, :-1], 1 - frame[:, -1:]], dim=1))

    def bump(
        self, random: np.random.Generator, resolution: int, within: float = 1.0
    ) -> Float[Tensor, "..."]:
        """1 in the middle of a round spot somewhere in the domain, or in the first share of it
        along each axis, and 0 far away."""
        size = random.uniform(*self.radius)
        x = self.length / resolution * (torch.arange(resolution, dtype=torch.float64) + 0.5)
        square = torch.zeros((), dtype=torch.float64)
        for centre in random.uniform(0, within * self.length, self.ndim):
            square = square[..., None] + (x - centre).square()
        return torch.exp(-(square**2) / size**4)

    def step(
        self, state: Float[Tensor, "B S *points"], dt: Float[Tensor, " B"]
    ) -> Float[Tensor, "B S *points"]:
        """Half a step of the reaction, a step of the gas, half a step of the reaction."""
        return self.react(super().step(self.react(state, dt / 2), dt), dt / 2)

    def react(
        self, state: Float[Tensor, "B S *points"], dt: Float[Tensor, " B"]
    ) -> Float[Tensor, "B S *points"]:
        """The state after a time of burning in place."""
        gas = self.primitive(state)
        density, reactant = gas[:, 0], gas[:, -1]
        temperature = self.flow(gas)[:, -1] / density
        dt = dt.view(-1, *[1] * (density.ndim - 1))
        halfway = self.remaining(temperature, dt / 2).mul_(reactant)
        released = (reactant - halfway).mul_(self.heat * (self.gamma - 1))
        remaining = self.remaining(temperature.add_(released), dt).mul_(reactant)
        remaining = remaining.where(remaining > TRACE, 0.0)
        after = state.clone()
        after[:, -1] = remaining.mul_(density)
        # The same difference that Y lost, so that the sum is kept.
        after[:, -2].add_(state[:, -1] - after[:, -1], alpha=self.heat)
        return after

    def remaining(self, temperature: Tensor, dt: Tensor) -> Tensor:
        """The share of the reactant that is left after a time at one temperature."""
        rate = (-self.activation / temperature).exp_().mul_(-self.frequency)
        return rate.mul_(dt).exp_()
