"""Convection between plates: warm fluid rises from the lower one, cold fluid sinks from the upper.

    u_t + (u·∇)u = -∇p + √(Pr/Ra) ∇²u + T ŷ,   ∇·u = 0
    T_t + (u·∇)T = ∇²T / √(Ra Pr)

u is the velocity (u, v) and T the temperature, in units of the height of the layer, of the
difference of temperature between the plates, and of the speed that it lends to a fluid that falls
freely through this height; T is 1/2 at the lower plate y = 0 and -1/2 at the upper one y = 1. Ra is
the Rayleigh number, buoyancy over friction and conduction, and Pr the Prandtl number, viscosity
over the diffusivity of heat. The fluid does not slip at the plates; x is periodic. This is Rayleigh
and Bénard's layer in Boussinesq's approximation. It rests below Ra = 1708. The heat that passes is
Nu, Nusselt's number, times what conduction alone would carry.

The initial state is a fluid at rest, between conduction and a well mixed one with thin layers at
the plates, with random waves that choose where plumes rise.

Scheme: a staggered grid, with velocity on the faces of cells and temperature and pressure in their
centres (Harlow and Welch, Phys. Fluids 8 (1965) 2182). Differences are central, of order 2: they
conserve heat, and advection neither energy nor the square of T. The pressure is solved for
exactly, by waves along x and cosines along y. Order 4 in time (classical Runge-Kutta). Stable for
diffusion up to 2.78 / (4 D (1/dx² + 1/dy²)), D the larger of viscosity and diffusivity, and for
advection up to 2.83 / (|u|/dx + |v|/dy); `fraction` of both together is used. Plumes are about as
wide as the layers at the plates, 1/(2 Nu), which 64 points resolve up to Ra = 2e6. At 64 × 128
points 21 frames take 6 s of one core, and eight times as long with twice the resolution, or
sixteen times where diffusion limits the step.

Source: Chandrasekhar, Hydrodynamic and Hydromagnetic Stability (1961), chapter II (equations and
onset); Clever and Busse, J. Fluid Mech. 65 (1974) 625 (heat that steady rolls carry).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from matey.config import require, require_fraction, require_positive
from matey.fields import PERIODIC_SIDES, Grid, Sides, SystemSpec, Variable
from matey.simulate.schemes.stepper import WALL_SIDES, Range, Simulator, march_by_rk4

HOT, COLD = 0.5, -0.5  # the lower and the upper plate
FASTEST = 1.2  # bound of |u| + |v|: plumes reach about half of it


@dataclass(frozen=True)
class Convection(Simulator):
    """The layer. Stored: velocity, temperature, in the centres of cells.

    State: velocity along x on each cell's right face and along y on its upper face, temperature
    in its centre. The last faces along y are the upper plate.

    Args:
        Ra: Rayleigh number.
        Pr: Prandtl number.
        width: of the layer, over its height.
        layers: range of how much thinner than the layer those at the plates are at the start; at
            0 the fluid conducts.
        amplitude: range of the largest departure of temperature by the random waves.
        waves: most periods of these along the layer.
        span: time covered.
        fraction: time step over the largest stable one.
    """

    boundaries: ClassVar[tuple[Sides, Sides, Sides]] = (PERIODIC_SIDES, WALL_SIDES, PERIODIC_SIDES)
    vary: ClassVar[Mapping[str, Range]] = {
        "Ra": Range(1e5, 2e6, log=True),
        "Pr": Range(0.5, 2.0, log=True),
    }

    Ra: float = 1e6
    Pr: float = 1.0
    width: float = 2.0
    layers: tuple[float, float] = (1.0, 8.0)
    amplitude: tuple[float, float] = (0.05, 0.2)
    waves: int = 6
    span: float = 20.0
    fraction: float = 0.8

    def __post_init__(self) -> None:
        require_positive(self, "", "Ra", "Pr", "width", "waves", "span", "fraction")
        require_fraction(self, "", "fraction")
        require(self.layers[0] >= 0, "layers", self.layers, "0 or more")
        require(self.amplitude[1] <= 0.25, "amplitude", self.amplitude, "at most 0.25")

    @property
    def viscosity(self) -> float:
        return math.sqrt(self.Pr / self.Ra)

    @property
    def diffusivity(self) -> float:
        return 1 / math.sqrt(self.Pr * self.Ra)

    def spec(self, dt: float) -> SystemSpec:
        variables = (
            Variable("velocity_x", axes=("x",)),
            Variable("velocity_y", axes=("y",)),
            Variable("temperature"),
        )
        return SystemSpec("convection", 2, variables, ("Ra", "Pr"), dt)

    def grid(self, resolution: int) -> Grid:
        """`resolution` points along y, and along x as many as keep cells near square."""
        points = max(8, round(resolution * self.width))
        dy, dx = 1 / resolution, self.width / points
        return Grid(("y", "x"), (1, resolution, points), (0.0, dy / 2, dx / 2), (1.0, dy, dx))

    def draw(self, random: np.random.Generator, resolution: int) -> Float[Tensor, "3 Y X"]:
        """Fluid at rest with layers at the plates and random waves, which vanish there."""
        grid = self.grid(resolution)
        y, x = grid.coordinate(1)[:, None], grid.coordinate(2) / self.width
        sharp = random.uniform(*self.layers) + 1e-3
        profile = HOT * torch.sinh(sharp * (1 - 2 * y)) / math.sinh(sharp)
        waves = torch.zeros(grid.shape[1:], dtype=torch.float64)
        for periods in range(1, self.waves + 1):
            for heights in (1, 2):
                strength, phase = random.standard_normal() / periods**0.5, random.uniform()
                along = torch.cos(2 * torch.pi * (periods * x + phase))
                waves += strength * along * torch.sin(torch.pi * heights * y)
        waves *= random.uniform(*self.amplitude) / waves.abs().max()
        heat = profile + waves * (1 - 4 * profile**2)  # between the temperatures of the plates
        return torch.stack((torch.zeros_like(heat), torch.zeros_like(heat), heat))

    def run(
        self, state: Float[Tensor, "B 3 Y X"], times: Sequence[float]
    ) -> Iterator[Float[Tensor, "B 3 Y X"]]:
        """The state at each of `times`; the first is the one given."""
        dy, dx = self.grid(state.shape[-2]).spacing[1:]
        largest = max(self.viscosity, self.diffusivity)
        diffusion = 4 * largest * (dx**-2 + dy**-2) / 2.78
        advection = FASTEST / (2.83 * min(dx, dy))
        longest = self.fraction / (diffusion + advection)
        rate = partial(self.rate, pressure=Pressure.on(state, dx, dy))
        return march_by_rk4(state, times, longest, rate)

    def rate(self, state: Float[Tensor, "B 3 Y X"], pressure: "Pressure") -> Tensor:
        """The time derivative of the state, with a velocity free of divergence."""
        dx, dy = pressure.dx, pressure.dy
        u, v, heat = state.unbind(1)
        u_rate, v_rate, heat_rate = advection(u, v, heat, dx, dy)
        u_rate.add_(laplacian(u, 0.0, 0.0, dx, dy), alpha=self.viscosity)
        heat_rate.add_(laplacian(heat, HOT, COLD, dx, dy), alpha=self.diffusivity)
        v_rate.add_(between_plates(v, dx, dy), alpha=self.viscosity)
        v_rate.add_(upwards(heat))
        u_rate, v_rate = pressure.project(u_rate, v_rate)
        return torch.stack((u_rate, v_rate, heat_rate), dim=1)

    def observe(self, state: Float[Tensor, "B 3 Y X"]) -> Float[Tensor, "B 3 Y X"]:
        u, v, heat = state.unbind(1)
        u, v = (u + u.roll(1, -1)) / 2, (v + below(v)) / 2
        return torch.stack((u, v, heat), dim=1)

    def heat_flux(self, state: Float[Tensor, "B 3 Y X"]) -> Float[Tensor, "B 2"]:
        """Nusselt's number at the lower and at the upper plate."""
        heat, dy = state[:, 2], 1 / state.shape[-2]
        lower, upper = HOT - heat[:, 0].mean(dim=-1), heat[:, -1].mean(dim=-1) - COLD
        return torch.stack((lower, upper), dim=-1) * (2 / dy)


@dataclass(frozen=True)
class Pressure:
    """Makes a velocity free of divergence between plates: waves along x and cosines along y are
    the eigenvectors of the Laplacian.

    `cosines` [n n] is orthogonal, one cosine per row; `inverse` [n m] is one over the eigenvalue of
    each pair, and 0 for the constant.
    """

    dx: float
    dy: float
    cosines: Float[Tensor, "n n"]
    inverse: Float[Tensor, "n m"]

    @classmethod
    def on(cls, state: Tensor, dx: float, dy: float) -> "Pressure":
        """The solver for states of this shape, type and device."""
        rows, columns = state.shape[-2:]
        number = torch.arange(rows, dtype=torch.float64)
        cosines = math.sqrt(2 / rows) * torch.cos(
            torch.pi / rows * number[:, None] * (number + 0.5)
        )
        cosines[0] /= math.sqrt(2)
        wave = torch.arange(columns // 2 + 1, dtype=torch.float64)
        along_y = (2 * torch.cos(torch.pi / rows * number) - 2) / dy**2
        along_x = (2 * torch.cos(2 * torch.pi / columns * wave) - 2) / dx**2
        inverse = 1 / (along_y[:, None] + along_x)
        inverse[0, 0] = 0
        return cls(dx, dy, cosines.to(state), inverse.to(state))

    def project(
        self, u: Float[Tensor, "B n X"], v: Float[Tensor, "B n X"]
    ) -> tuple[Tensor, Tensor]:
        """Subtract the gradient of the pressure; nothing flows through the plates."""
        spectrum = torch.fft.rfft(self.cosines @ divergence(u, v, self.dx, self.dy))
        pressure = torch.fft.irfft(spectrum * self.inverse, n=u.shape[-1])
        pressure = self.cosines.mT @ pressure
        u = u - (pressure.roll(-1, -1) - pressure) / self.dx
        return u, v - pad(pressure.diff(dim=-2) / self.dy, (0, 0, 0, 1))


def below(faces: Tensor) -> Tensor:
    """Values on the lower faces of cells, of those on the upper ones: 0 on the lower plate."""
    return pad(faces[..., :-1, :], (0, 0, 1, 0))


def upwards(centres: Tensor) -> Tensor:
    """Means of cells and those above them, on the faces between; 0 on the upper plate."""
    return pad((centres[..., 1:, :] + centres[..., :-1, :]) / 2, (0, 0, 0, 1))


def divergence(u: Tensor, v: Tensor, dx: float, dy: float) -> Tensor:
    """What flows out of each cell, per volume."""
    return (u - u.roll(1, -1)) / dx + (v - below(v)) / dy


def advection(
    u: Tensor, v: Tensor, heat: Tensor, dx: float, dy: float
) -> tuple[Tensor, Tensor, Tensor]:
    """-∇·(uu), -∇·(uv) and -∇·(uT), where each stands; 0 on the plates."""
    u_centre, v_centre = (u + u.roll(1, -1)) / 2, (v + below(v)) / 2
    corner = upwards(u) * ((v + v.roll(-1, -1)) / 2)  # at the upper right; v is 0 on the plates
    square = u_centre.square()
    u_rate = (square - square.roll(-1, -1)) / dx - (corner - below(corner)) / dy
    v_rate = pad(v_centre.square().diff(dim=-2) / -dy, (0, 0, 0, 1))
    v_rate -= (corner - corner.roll(1, -1)) / dx
    along = u * ((heat + heat.roll(-1, -1)) / 2)
    return u_rate, v_rate, divergence(along, v * upwards(heat), dx, dy).neg_()


def laplacian(values: Tensor, low: float, high: float, dx: float, dy: float) -> Tensor:
    """The Laplacian of values half a cell away from the plates, where they are `low` and `high`.

    A plate's gradient is that over the half cell beside it.
    """
    inner = values.diff(dim=-2)
    first, last = 2 * (values[..., :1, :] - low), 2 * (high - values[..., -1:, :])
    flux = torch.cat((first, inner, last), dim=-2)
    return flux.diff(dim=-2).div_(dy**2).add_(around(values), alpha=dx**-2)


def between_plates(faces: Tensor, dx: float, dy: float) -> Tensor:
    """The Laplacian of values on upper faces, which are 0 on both plates, and there 0."""
    rate = pad(faces, (0, 0, 1, 0)).diff(n=2, dim=-2) / dy**2
    return pad(rate.add_(around(faces)[..., :-1, :], alpha=dx**-2), (0, 0, 0, 1))


def around(values: Tensor) -> Tensor:
    """Next less twice this plus previous along x."""
    return values.roll(-1, -1).add_(values.roll(1, -1)).sub_(values, alpha=2)
