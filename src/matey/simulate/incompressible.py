"""Incompressible flow in a box, stirred by a force on its tracer.

    v_t + (v·∇)v = -∇p + ν ∇²v + c F,   ∇·v = 0
    c_t + (v·∇)c = 0

v is the velocity [m/s], p the pressure over the density [m²/s²], ν the kinematic viscosity `NU`
[m²/s], c a dimensionless tracer of either sign, and F a force on it that varies in space but
not in time [m/s²]. Nothing flows through the walls. This is PDEBench's system with
inhomogeneous force (arXiv:2210.07182, appendix D); velocity, tracer and force start as smooth
noise, and the velocity is made free of divergence before the first frame.

Scheme: a staggered grid, with velocity and force on the faces of cells and tracer and pressure
in their centres (Harlow and Welch, Phys. Fluids 8 (1965) 2182). In a step the velocity advects
itself (semi-Lagrangian: straight back, then linear interpolation; Stam, SIGGRAPH 1999), is
diffused and forced by Euler's method, and made free of divergence by an exact solution for the
pressure in cosines; then it advects the tracer. Order 1. Linear interpolation smooths like a
diffusivity of up to |v| h / 2, with h the spacing. Advection is stable for any step, and makes
no new extremum of the tracer; diffusion is stable up to h² / (4ν).

The velocity along a wall vanishes `slip` spacings beyond it: Navier's condition, with slip
length slip · h. Published fields have half a spacing.
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
from torch.nn.functional import grid_sample, pad

from matey.config import require, require_positive
from matey.fields import PERIODIC_SIDES, Grid, Sides, SystemSpec, Variable
from matey.simulate.schemes.stepper import WALL_SIDES, Simulator, march, plane_grid


@dataclass(frozen=True)
class Incompressible(Simulator):
    """Incompressible Navier-Stokes. Stored: velocity, tracer, force, in the centres of cells.

    State: velocity along x on each cell's right face and along y on its upper face, tracer in
    its centre, force on the same faces as the velocity. The last face of an axis is the wall.

    Args:
        NU: kinematic viscosity [m²/s].
        speed: root mean square of either component at the start [m/s], before it is made free
            of divergence, which removes about half of its energy.
        force: root mean square of either component [m/s²].
        decay: amplitudes of the noise fall as wave number to the power -decay.
        waves: largest wave number of the noise, in periods of the domain.
        slip: slip length at the walls, in spacings: 0 none, 0.5 as in published fields,
            `math.inf` free slip.
        length: the domain is [0, length]² [m].
        span: time covered [s].
        longest: time step [s], unless diffusion requires a shorter one.
    """

    boundaries: ClassVar[tuple[Sides, Sides, Sides]] = (PERIODIC_SIDES, WALL_SIDES, WALL_SIDES)

    NU: float = 0.01
    speed: float = 1.0
    force: float = 1.0
    decay: float = 2.0
    waves: int = 16
    slip: float = 0.5
    length: float = 1.0
    span: float = 1.0
    longest: float = 0.005

    def __post_init__(self) -> None:
        require_positive(self, "", "waves", "length", "span", "longest")
        for name in ("NU", "speed", "force"):
            value = getattr(self, name)
            require(0 <= value < math.inf, name, value, "a number of 0 or more")
        require(self.slip >= 0, "slip", self.slip, "0 or more")

    def spec(self, dt: float) -> SystemSpec:
        variables = (
            Variable("velocity_x", "m/s", ("x",)),
            Variable("velocity_y", "m/s", ("y",)),
            Variable("tracer"),
            Variable("force_x", "m/s^2", ("x",), static=True),
            Variable("force_y", "m/s^2", ("y",), static=True),
        )
        return SystemSpec("incompressible", 2, variables, ("NU",), dt)

    def grid(self, resolution: int) -> Grid:
        return plane_grid(0.0, self.length, resolution)

    def draw(self, random: np.random.Generator, resolution: int) -> Float[Tensor, "5 Y X"]:
        """Smooth noise, with no flow through the walls."""
        face = (np.arange(resolution) + 1) / resolution
        centre = face - 0.5 / resolution
        places = ((face, centre), (centre, face), (centre, centre), (face, centre), (centre, face))
        noise = [smooth_noise(random, self.waves, self.decay, *xy) for xy in places]
        state = torch.from_numpy(np.array(noise))
        state[0:2] *= self.speed
        state[3:5] *= self.force
        state[(0, 3), :, -1] = 0
        state[(1, 4), -1, :] = 0
        return state

    def initial(
        self, trajectories: Sequence[int], resolution: int, seed: int
    ) -> Float[Tensor, "B 5 Y X"]:
        """Smooth noise, whose velocity is then made free of divergence."""
        state = super().initial(trajectories, resolution, seed)
        state[:, 0:2] = Pressure.on(state).project(state[:, 0], state[:, 1])
        return state

    def run(
        self, state: Float[Tensor, "B 5 Y X"], times: Sequence[float]
    ) -> Iterator[Float[Tensor, "B 5 Y X"]]:
        """The state at each of `times`; the first is the one given."""
        stable = (self.length / state.shape[-1]) ** 2 / (4 * self.NU) if self.NU else math.inf
        step = partial(self.step, pressure=Pressure.on(state))
        return march(state, times, min(self.longest, stable), step)

    def step(
        self, state: Float[Tensor, "B 5 Y X"], dt: float, number: int, pressure: "Pressure"
    ) -> Float[Tensor, "B 5 Y X"]:
        """One time step."""
        u, v, tracer, force_x, force_y = state.unbind(1)
        ratio = dt * state.shape[-1] / self.length
        u, v = self.carry(u, v, ratio), self.carry(v.mT, u.mT, ratio).mT
        u, v = self.diffuse(u, dt), self.diffuse(v.mT, dt).mT
        u = u + (dt / 2) * force_x * (tracer + tracer.roll(-1, -1))
        v = v + (dt / 2) * force_y * (tracer + tracer.roll(-1, -2))
        u, v = pressure.project(u, v).unbind(1)
        back = (between(u, -1).mul(-ratio), between(v, -2).mul(-ratio))
        return torch.stack([u, v, displaced(tracer, *back), force_x, force_y], dim=1)

    def carry(self, along: Tensor, across: Tensor, ratio: float) -> Tensor:
        """Velocity along the last axis, advected for a step; `ratio` is dt / spacing.

        A face moves with its own velocity, and the mean of the four nearest across it.
        """
        x = along.mul(-ratio)
        across = between(across, -2)
        y = (across + across.roll(-1, -1)).mul_(-ratio / 2)
        carried = displaced(self.walled(along), x, y, first=1)
        carried[..., -1] = 0
        return carried

    def diffuse(self, along: Tensor, dt: float) -> Tensor:
        """Velocity along the last axis after diffusion for a step."""
        points = along.shape[-1]
        number = self.NU * dt * (points / self.length) ** 2
        walled = self.walled(along)
        laplacian = walled.diff(n=2, dim=-2)[..., 1:-1] + walled.diff(n=2, dim=-1)[..., 1:-1, :]
        return along + pad(laplacian, (0, 1)).mul_(number)

    def walled(self, along: Float[Tensor, "B n n"]) -> Float[Tensor, "B n+2 n+1"]:
        """Add the first wall, and ghosts beyond the side walls, to velocity along the last axis.

        A ghost lies half a spacing beyond the wall, its neighbour half a spacing before.
        """
        ghost = 1 - 2 / (2 * self.slip + 1)
        low, high = ghost * along[..., :1, :], ghost * along[..., -1:, :]
        return pad(torch.cat([low, along, high], dim=-2), (1, 0))

    def observe(self, state: Float[Tensor, "B 5 Y X"]) -> Float[Tensor, "B 5 Y X"]:
        u, v, tracer, force_x, force_y = state.unbind(1)
        u, v = between(u, -1), between(v, -2)
        return torch.stack([u, v, tracer, between(force_x, -1), between(force_y, -2)], dim=1)

    def state_of(self, frame: Float[Tensor, "B 5 Y X"]) -> Float[Tensor, "B 5 Y X"]:
        """The state with these stored variables: the inverse of `observe`.

        From the wall on, the value at each face is twice that in the centre less that at the face
        before. Rounding accumulates: to 2e-6 for float32 at 64² points.
        """
        state = frame.clone()
        signs = torch.ones(frame.shape[-1], dtype=frame.dtype, device=frame.device)
        signs[1::2] = -1
        for variable, dim in ((0, -1), (1, -2), (3, -1), (4, -2)):
            sign = signs if dim == -1 else signs[:, None]
            state[:, variable] = (2 * sign * frame[:, variable]).cumsum(dim).mul_(sign)
        state[:, (0, 3), :, -1] = 0
        state[:, (1, 4), -1, :] = 0
        return state


@dataclass(frozen=True)
class Pressure:
    """Solves for the pressure between walls: cosines are the eigenvectors of the Laplacian.

    `cosines` [n n] is orthogonal, one cosine per row; `inverse` [n n] is one over the eigenvalue
    times spacing² of each pair of them, and 0 for the constant.
    Source: Strang, SIAM Rev. 41 (1999) 135.
    """

    cosines: Float[Tensor, "n n"]
    inverse: Float[Tensor, "n n"]

    @classmethod
    def on(cls, state: Tensor) -> "Pressure":
        """The solver for states of this shape, type and device."""
        points = state.shape[-1]
        number = torch.arange(points, dtype=torch.float64)
        cosines = torch.cos(torch.pi / points * number[:, None] * (number + 0.5))
        cosines *= math.sqrt(2 / points)
        cosines[0] /= math.sqrt(2)
        eigenvalue = 2 * torch.cos(torch.pi / points * number) - 2
        inverse = 1 / (eigenvalue[:, None] + eigenvalue)
        inverse[0, 0] = 0
        return cls(cosines.to(state), inverse.to(state))

    def project(
        self, u: Float[Tensor, "B n n"], v: Float[Tensor, "B n n"]
    ) -> Float[Tensor, "B 2 n n"]:
        """Make the velocity on faces free of divergence: subtract the pressure gradient."""
        divergence = (u - u.roll(1, -1)).add_(v).sub_(v.roll(1, -2))
        spectrum = self.cosines @ divergence @ self.cosines.mT
        pressure = self.cosines.mT @ spectrum.mul_(self.inverse) @ self.cosines
        velocity = torch.stack([u, v], dim=1)
        velocity[:, 0, :, :-1].sub_(pressure.diff(dim=-1))
        velocity[:, 1, :-1, :].sub_(pressure.diff(dim=-2))
        return velocity


def between(values: Tensor, dim: int) -> Tensor:
    """Mean of both faces of each cell; values are 0 on the first and the last face."""
    return (values + values.roll(1, dim)).mul_(0.5)


def displaced(values: Tensor, x: Tensor, y: Tensor, first: int = 0) -> Tensor:
    """Values a displacement (x, y) away, in spacings, by linear interpolation.

    The point [j, i] of `x` and `y` is the point [j + first, i + first] of `values`. Beyond the
    outermost points the values are those of the outermost points.
    """
    rows, columns = x.shape[-2:]
    i = torch.arange(first, first + columns, dtype=x.dtype, device=x.device)
    j = torch.arange(first, first + rows, dtype=y.dtype, device=y.device)
    # From indices to [-1, 1] between the centres of the outermost points.
    x = (x + i).mul_(2 / (values.shape[-1] - 1)).sub_(1)
    y = (y + j[:, None]).mul_(2 / (values.shape[-2] - 1)).sub_(1)
    points = torch.stack([x, y], dim=-1)
    return grid_sample(values[:, None], points, padding_mode="border", align_corners=True)[:, 0]


def smooth_noise(
    random: np.random.Generator, largest: int, decay: float, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Gaussian noise [Y X] of mean 0 and mean square 1 over a periodic unit square.

    The same draws give the same noise on any points. Amplitudes fall as wave number to the power
    -decay.
    """
    number = np.arange(-largest, largest + 1)
    size = np.hypot(number[:, None], number)
    size[largest, largest] = np.inf
    real, imaginary = size**-decay * random.standard_normal((2, *size.shape))
    strength = real + 1j * imaginary
    strength += strength[::-1, ::-1].conj()  # so that the sum of all waves is real
    strength /= np.linalg.norm(strength)
    along_y, along_x = (np.exp(2j * np.pi * np.outer(points, number)) for points in (y, x))
    return (along_y @ strength @ along_x.T).real
