"""Colliding thermals: a warm bubble of air rises into a cold one that sinks.

    ρ_t + (ρu)_x + (ρw)_z = 0
    (ρu)_t + (ρu² + p)_x + (ρuw)_z = 0
    (ρw)_t + (ρuw)_x + (ρw² + p)_z = -ρ g
    (ρθ)_t + (ρuθ)_x + (ρwθ)_z = 0,   p = C0 (ρθ)^γ

in a vertical section, dry air: ρ density [kg/m³], u and w velocity along x and upwards
[m/s], θ potential temperature [K], p pressure [Pa], g gravity [m/s²]. The solver works with
departures from air at rest with θ = 300 K and p_z = -ρ g. Periodic in x, solid walls below and
above.

These are the equations, numbers and numerics of Matt Norman's miniWeather
(github.com/mrnorman/miniWeather, BSD-2-Clause), rewritten: finite volumes, values at faces
interpolated from four cell means (order 4), hyperviscosity from the third derivative, three
Runge-Kutta stages (order 2), x and z one after the other in alternating order. The step is
1.5 spacings over 450 m/s, which exceeds sound and wind together; it is stable up to 1.6.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import require_positive
from matey.fields import PERIODIC_SIDES, Grid, Sides, SystemSpec, Variable
from matey.simulate.schemes.stepper import WALL_SIDES, Simulator, march, wicker_skamarock

# Gauss-Legendre quadrature with three points on [0, 1]: exact up to degree 5.
QUADRATURE = (torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64) * math.sqrt(0.6) + 1) / 2
WEIGHTS = torch.tensor([5.0, 8.0, 5.0], dtype=torch.float64) / 18


@dataclass(frozen=True)
class Bubble:
    """An ellipse of warm or cold air: `amplitude` [K] at its centre, lengths in m."""

    amplitude: float
    x: float
    z: float
    radius_x: float = 2000.0
    radius_z: float = 2000.0


COLLISION = (Bubble(20.0, 10_000.0, 2000.0), Bubble(-20.0, 10_000.0, 8000.0))


@dataclass(frozen=True)
class Background:
    """Air at rest: cell means with two ghost cells, [Z+4 1]; values at faces, [Z+1 1]."""

    density: Tensor
    density_theta: Tensor
    face_density: Tensor
    face_density_theta: Tensor
    face_pressure: Tensor

    @property
    def inner_density(self) -> Tensor:
        return self.density[2:-2]

    @property
    def inner_density_theta(self) -> Tensor:
        return self.density_theta[2:-2]

    def like(self, state: Tensor) -> "Background":
        """The background in the type and on the device of a state."""
        values = (getattr(self, name).to(state) for name in self.__dataclass_fields__)
        return Background(*values)


@dataclass(frozen=True)
class Thermals(Simulator):
    """Two colliding thermals. Stored: density, both winds, potential temperature.

    State: departures of density and density times potential temperature from the
    background, and momenta, ordered density, x, z, density-theta.

    Args:
        length: of the section [m].
        height: of the section [m].
        span: time covered [s].
        amplitude: range of the warm bubble's amplitude; the cold one's is negative [K].
        x: range of both centres along x [m].
        low: range of the height of the warm bubble's centre [m].
        high: range of the height of the cold bubble's centre [m].
        radius: range of all four radii [m].
        theta: potential temperature of the background [K].
        gravity: [m/s²].
        pressure_ground: of the background [Pa].
        gas_constant: of dry air [J/kg/K].
        heat_capacity: of dry air at constant pressure [J/kg/K].
        gamma: heat capacity at constant pressure over that at constant volume.
        C0: p / (ρθ)^γ, in SI units.
        fastest: upper bound of the speed of sound and wind together [m/s].
        courant: step times `fastest` over the smaller spacing.
        hyperviscosity: 0 none, 1 as much as is stable.
    """

    boundaries: ClassVar[tuple[Sides, Sides, Sides]] = (PERIODIC_SIDES, WALL_SIDES, PERIODIC_SIDES)

    length: float = 20_000.0
    height: float = 10_000.0
    span: float = 500.0
    amplitude: tuple[float, float] = (10.0, 23.0)
    x: tuple[float, float] = (7500.0, 12_500.0)
    low: tuple[float, float] = (1500.0, 3000.0)
    high: tuple[float, float] = (7000.0, 8500.0)
    radius: tuple[float, float] = (1200.0, 2500.0)
    theta: float = 300.0
    gravity: float = 9.8
    pressure_ground: float = 1e5
    gas_constant: float = 287.0
    heat_capacity: float = 1004.0
    gamma: float = 1.40027894002789401
    C0: float = 27.5629410929725921
    fastest: float = 450.0
    courant: float = 1.5
    hyperviscosity: float = 0.05

    def __post_init__(self) -> None:
        require_positive(self, "", "length", "height", "span", "theta", "gravity", "fastest")
        require_positive(self, "", "courant", "gamma", "C0", "pressure_ground", "gas_constant")

    def spec(self, dt: float) -> SystemSpec:
        variables = (
            Variable("density", "kg m-3"),
            Variable("velocity_x", "m s-1", ("x",)),
            Variable("velocity_y", "m s-1", ("y",)),
            Variable("potential_temperature", "K"),
        )
        return SystemSpec("thermals", 2, variables, (), dt)

    def grid(self, resolution: int) -> Grid:
        """`resolution` points along z, and along x as many as keep cells near square."""
        points = round(resolution * self.length / self.height)
        dz, dx = self.height / resolution, self.length / points
        return Grid(("z", "x"), (1, resolution, points), (0.0, dz / 2, dx / 2), (1.0, dz, dx))

    def draw(self, random: np.random.Generator, resolution: int) -> Float[Tensor, "4 Y X"]:
        """Air at rest with a warm bubble below and a cold one above, drawn at random."""
        draw = random.uniform
        radii = draw(*self.radius, size=4)
        warm = Bubble(draw(*self.amplitude), draw(*self.x), draw(*self.low), *radii[:2])
        cold = Bubble(-draw(*self.amplitude), draw(*self.x), draw(*self.high), *radii[2:])
        return self.place((warm, cold), self.grid(resolution))

    def place(self, bubbles: Sequence[Bubble], grid: Grid) -> Float[Tensor, "4 Y X"]:
        """The state of air at rest with these bubbles; cell means by quadrature.

        A bubble adds amplitude cos²(πr/2) to the potential temperature, where r <= 1 is the
        distance from its centre in units of its radii. The density is the background's.
        """
        dz, dx = grid.spacing[1:]
        z = grid.coordinate(1)[:, None, None, None] + dz * (QUADRATURE[:, None, None] - 0.5)
        x = grid.coordinate(2)[:, None] + dx * (QUADRATURE - 0.5)
        warmth = torch.zeros((), dtype=torch.float64)
        for bubble in bubbles:
            across, up = (x - bubble.x) / bubble.radius_x, (z - bubble.z) / bubble.radius_z
            r = (across**2 + up**2).sqrt()
            bump = bubble.amplitude * torch.cos(torch.pi / 2 * r) ** 2
            warmth = warmth + torch.where(r <= 1, bump, 0.0)
        added = self.density(z) * warmth
        state = torch.zeros(4, *grid.shape[1:], dtype=torch.float64)
        state[3] = torch.einsum("zaxb,a,b->zx", added, WEIGHTS, WEIGHTS)
        return state

    def density(self, z: Tensor) -> Tensor:
        """Density of the background at height z, also a little beyond the walls."""
        exner = 1 - self.gravity * z / (self.heat_capacity * self.theta)
        pressure = self.pressure_ground * exner ** (self.heat_capacity / self.gas_constant)
        return (pressure / self.C0) ** (1 / self.gamma) / self.theta

    def background(self, cells: int) -> Background:
        """The background on that many cells in z, and at their faces.

        miniWeather takes the value at a cell's centre for its mean, and so do we.
        """
        level = self.height / cells * torch.arange(2 * cells + 9, dtype=torch.float64)[:, None] / 2
        density = self.density(level - 2 * self.height / cells)
        cell, face = density[1::2], density[4:-4:2]
        return Background(
            cell, cell * self.theta, face, face * self.theta, self.pressure(face * self.theta)
        )

    def pressure(self, density_theta: Tensor) -> Tensor:
        return self.C0 * density_theta**self.gamma

    def longest_step(self, grid: Grid) -> float:
        """Time step of miniWeather [s]."""
        return self.courant * min(grid.spacing[1:]) / self.fastest

    def run(
        self, state: Float[Tensor, "B 4 Y X"], times: Sequence[float]
    ) -> Iterator[Float[Tensor, "B 4 Y X"]]:
        """The state at each of `times`; the first is the one given."""
        grid = self.grid(state.shape[-2])
        step = partial(self.step, air=self.background(state.shape[-2]).like(state))
        return march(state, times, self.longest_step(grid), step)

    def run_as_published(
        self, state: Float[Tensor, "B 4 Y X"], interval: float
    ) -> Iterator[tuple[float, Float[Tensor, "B 4 Y X"]]]:
        """Times and states as miniWeather writes them.

        It writes at the first step past each multiple of `interval`, and shortens the last
        step to end on time. Times are summed as it sums them, to the same rounding. This decides
        the number of steps, and a last one of 7e-12 s smooths as much as a long one, since
        hyperviscosity does not depend on the length of a step.
        """
        dt = self.longest_step(self.grid(state.shape[-2]))
        air = self.background(state.shape[-2]).like(state)
        time, waited, number = 0.0, 0.0, 0
        yield time, state
        while time < self.span:
            if time + dt > self.span:
                dt = self.span - time
            state = self.step(state, dt, number, air)
            time, waited, number = time + dt, waited + dt, number + 1
            if waited >= interval:
                waited -= interval
                yield time, state

    def step(
        self, state: Float[Tensor, "B 4 Y X"], dt: float, number: int, air: Background
    ) -> Float[Tensor, "B 4 Y X"]:
        """One time step: x then z where `number` is even, else z then x."""
        along_x, along_z = partial(self.advance_x, air=air), partial(self.advance_z, air=air)
        for advance in (along_x, along_z) if number % 2 == 0 else (along_z, along_x):
            state = wicker_skamarock(advance, state, dt)
        return state

    def advance_x(self, base: Tensor, at: Tensor, dt: float, air: Background) -> Tensor:
        """base + dt * (rate of change along x of the state `at`)."""
        cells = torch.cat([at[..., -2:], at, at[..., :2]], dim=-1)
        values, third = at_faces(cells, axis=-1)
        density_theta = air.inner_density_theta
        flux = self.flux(values, 1, air.inner_density, density_theta, self.pressure(density_theta))
        ratio = dt * at.shape[-1] / self.length
        flux.add_(third, alpha=self.hyperviscosity / (16 * ratio))
        return base.sub(flux.diff(dim=-1), alpha=ratio)

    def advance_z(self, base: Tensor, at: Tensor, dt: float, air: Background) -> Tensor:
        """base + dt * (rate of change along z of the state `at`, and weight)."""
        values, third = at_faces(between_walls(at, air), axis=-2)
        # No wind through a wall, and no smoothing of density across it, so mass is kept;
        # miniWeather lets a little heat pass by smoothing (1e-6 of it in 500 s).
        for wall in (0, -1):
            values[:, 2, wall] = 0
            third[:, 0, wall] = 0
        flux = self.flux(values, 2, air.face_density, air.face_density_theta, air.face_pressure)
        ratio = dt * at.shape[-2] / self.height
        flux.add_(third, alpha=self.hyperviscosity / (16 * ratio))
        after = base.sub(flux.diff(dim=-2), alpha=ratio)
        after[:, 2].sub_(at[:, 0], alpha=dt * self.gravity)
        return after

    def flux(
        self, values: Tensor, along: int, density: Tensor, density_theta: Tensor, pressure: Tensor
    ) -> Tensor:
        """Flux through faces along x (`along` is 1) or z (2), less the background's pressure.

        The departure of pressure is p ((1 + δ)^γ - 1), δ that of density-theta relative to
        the background: written so that single precision does not lose it.
        """
        departure = (values[:, 3] / density_theta).log1p_().mul_(self.gamma).expm1_().mul_(pressure)
        wind = values[:, along] / (values[:, 0] + density)
        values[:, 3].add_(density_theta)
        flux = values * wind[:, None]
        flux[:, 0] = values[:, along]
        flux[:, along].add_(departure)
        return flux

    def observe(self, state: Float[Tensor, "B 4 Y X"]) -> Float[Tensor, "B 4 Y X"]:
        air = self.background(state.shape[-2]).like(state)
        density = state[:, 0] + air.inner_density
        theta = (state[:, 3] + air.inner_density_theta) / density
        return torch.stack([density, state[:, 1] / density, state[:, 2] / density, theta], dim=1)


def at_faces(cells: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Value (order 4) and third difference at every face with two cells on either side."""
    count = cells.shape[axis] - 3
    first, second, third, fourth = (cells.narrow(axis, i, count) for i in range(4))
    near, far = second + third, first + fourth
    value = near.mul_(7 / 12).sub_(far, alpha=1 / 12)
    return value, torch.sub(fourth, first, out=far).sub_(third - second, alpha=3)


def between_walls(state: Tensor, air: Background) -> Tensor:
    """Add two ghost cells below and above: no vertical momentum, the same wind along x."""
    low, high = state[:, :, :1], state[:, :, -1:]
    cells = torch.cat([low, low, state, high, high], dim=2)
    for ghosts, edge in ((slice(0, 2), 2), (slice(-2, None), -3)):
        cells[:, 2, ghosts] = 0
        cells[:, 1, ghosts].mul_(air.density[ghosts] / air.density[edge])
    return cells
