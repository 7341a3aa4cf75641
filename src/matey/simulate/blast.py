"""Blasts and shocks that run over bubbles of light and of heavy gas.

    ρ_t + ∇·(ρv) = 0
    (ρv)_t + ∇·(ρ v v + p) = 0
    E_t + ∇·((E + p) v) = 0,   E = p / (γ - 1) + ρ v² / 2

ρ is the density [kg/m³], v the velocity [m/s], p the pressure [Pa], E the energy [J/m³] and γ the
heat capacity at constant pressure over that at constant volume, drawn for each trajectory: 1.2 of
large molecules to 5/3 of a monatomic gas. No viscosity. Open on all sides, where ghost cells copy
the last cell: waves leave, and the gas behind a shock goes on coming in.

The gas is at rest, at one density and pressure but for round bubbles, which are lighter or heavier
at the same pressure. Then one to three balls of gas at high pressure burst; or a plane
shock enters through a side, along a random axis, and at times meets a blast. Blast waves
are thin shells that weaken as they widen and cross; bubbles hit by them are pressed flat, roll up
into rings and mix. At every resolution the edges of bubbles and shocks are as sharp as its
cells, and shear layers, which nothing widens, roll up the finer the smaller these are.

Scheme: finite volumes as in `gas`. Fronts of strong blasts are about a cell ahead where they run
along an axis of the grid. Both the steps and the cells of each grow with resolution: a trajectory
takes 1 s of one core at 64² and up to eight times as much at twice the resolution, in three
dimensions 0.6 s at 16³ and 3 s at 32³.

Source: Haas and Sturtevant, J. Fluid Mech. 181 (1987) 41 (shocks that meet bubbles); the jump at a
shock: Toro, Riemann Solvers and Numerical Methods for Fluid Dynamics (3rd ed. 2009), section 3.1.3.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import require, require_fraction, require_positive
from matey.fields import Grid, Sides, SystemSpec, Variable
from matey.simulate.schemes.gas import GasDynamics
from matey.simulate.schemes.stepper import OPEN_SIDES, Range, box_grid


@dataclass(frozen=True)
class Blast(GasDynamics):
    """Blasts and shocks among bubbles. State: density, momentum, energy.

    Stored: density, pressure, velocity.

    Args:
        ndim: dimensions, 2 or 3.
        gamma: heat capacity at constant pressure over that at constant volume.
        density: of the gas at rest [kg/m³].
        pressure: of the gas at rest [Pa].
        bubbles: range of the number of bubbles.
        lightness: range of a bubble's density over that around it, drawn evenly in its logarithm.
        radius: range of a bubble's radius [m].
        blasts: range of the number of blasts, one less where there is a shock.
        strength: range of a blast's pressure over that around it, drawn evenly in its logarithm.
        core: range of the radius of the ball that bursts [m].
        shocks: share of the trajectories that have a shock.
        M: range of the shock's Mach number: its speed over that of sound ahead of it.
        length: of the domain, [0, length] along every axis [m].
        span: time covered [s].
        theta: the limiter allows slopes up to `theta` times the smaller difference to a
            neighbour.
        courant: fraction of the largest stable step.
    """

    boundaries: ClassVar[tuple[Sides, Sides, Sides]] = (OPEN_SIDES, OPEN_SIDES, OPEN_SIDES)
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    vary: ClassVar[Mapping[str, Range]] = {"gamma": Range(1.2, 5 / 3)}

    ndim: int = 2
    gamma: float = 1.4
    density: float = 1.0
    pressure: float = 1.0
    bubbles: tuple[int, int] = (2, 5)
    lightness: tuple[float, float] = (0.15, 6.0)
    radius: tuple[float, float] = (0.06, 0.15)
    blasts: tuple[int, int] = (1, 3)
    strength: tuple[float, float] = (10.0, 100.0)
    core: tuple[float, float] = (0.04, 0.08)
    shocks: float = 0.5
    M: tuple[float, float] = (1.3, 2.5)
    length: float = 1.0
    span: float = 0.5
    theta: float = 2.0
    courant: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "", "density", "pressure")
        require_fraction(self, "", "shocks")
        for name in ("lightness", "radius", "strength", "core"):
            low, high = getattr(self, name)
            require(0 < low <= high, name, (low, high), "two numbers above 0, the lower first")
        require(1 < self.M[0] <= self.M[1], "M", self.M, "two numbers above 1, the lower first")

    def spec(self, dt: float) -> SystemSpec:
        variables = (
            Variable("density", "kg/m^3"),
            Variable("pressure", "Pa"),
            *(Variable(f"velocity_{axis}", "m/s", (axis,)) for axis in "xyz"[: self.ndim]),
        )
        return SystemSpec("blast", self.ndim, variables, ("gamma",), dt)

    def grid(self, resolution: int) -> Grid:
        return box_grid(0.0, self.length, resolution, self.ndim)

    def draw(self, random: np.random.Generator, resolution: int) -> Float[Tensor, "S ..."]:
        """Gas at rest with random bubbles, and random blasts or a shock."""
        still = torch.zeros([resolution] * self.ndim, dtype=torch.float64)
        density, pressure = still + self.density, still + self.pressure
        velocity = [still.clone() for _ in range(self.ndim)]
        for _ in range(random.integers(*self.bubbles, endpoint=True)):
            lightness = np.exp(random.uniform(*np.log(self.lightness)))
            inside = self.ball(random, self.radius, resolution)
            density += (lightness * self.density - density) * inside
        shock = random.random() < self.shocks
        for _ in range(random.integers(*self.blasts, endpoint=True) - shock):
            strength = np.exp(random.uniform(*np.log(self.strength)))
            inside = self.ball(random, self.core, resolution)
            pressure += (strength * self.pressure - pressure) * inside
        if shock:
            self.add_shock(random, density, pressure, velocity)
        return self.state_of(torch.stack([density, pressure, *velocity])[None])[0]

    def ball(
        self, random: np.random.Generator, radius: tuple[float, float], resolution: int
    ) -> Float[Tensor, "..."]:
        """How much of each cell lies in a ball somewhere in the domain: nearly, at its edge."""
        size = random.uniform(*radius)
        x = self.length / resolution * (torch.arange(resolution, dtype=torch.float64) + 0.5)
        square = torch.zeros((), dtype=torch.float64)
        for centre in random.uniform(0.15 * self.length, 0.85 * self.length, self.ndim):
            square = square[..., None] + (x - centre).square()
        return ((size - square.sqrt()) * resolution / self.length + 0.5).clamp(0, 1)

    def add_shock(
        self,
        random: np.random.Generator,
        density: Tensor,
        pressure: Tensor,
        velocity: list[Tensor],
    ) -> None:
        """Put the gas behind a shock along one side; the shock has just passed it.

        Rankine and Hugoniot's jump, of M's square m: pressure (2 γ m - γ + 1) / (γ + 1), density
        (γ + 1) m / ((γ - 1) m + 2).
        """
        M, g = random.uniform(*self.M), self.gamma
        axis, depth = int(random.integers(self.ndim)), random.uniform(0.05, 0.15)
        cells = max(1, round(depth * density.shape[0]))
        upper = bool(random.integers(2))
        behind = [
            values.narrow(-1 - axis, values.shape[0] - cells if upper else 0, cells)
            for values in (density, pressure, velocity[axis])
        ]
        compression = (g + 1) * M**2 / ((g - 1) * M**2 + 2)
        sound = (g * self.pressure / self.density) ** 0.5
        behind[0].fill_(self.density * compression)
        behind[1].fill_(self.pressure * (2 * g * M**2 - g + 1) / (g + 1))
        behind[2].fill_((-1 if upper else 1) * M * sound * (1 - 1 / compression))
