"""Ideal magnetohydrodynamics: shocks, current sheets and blasts in a gas that carries a field.

    ρ_t + ∇·(ρv) = 0
    (ρv)_t + ∇·(ρ v v - B B + p + B²/2) = 0
    E_t + ∇·((E + p + B²/2) v - (v·B) B) = 0,   E = p / (γ - 1) + ρ v² / 2 + B² / 2
    B_t = ∇ × (v × B),   ∇·B = 0

ρ is the density, v the velocity, p the pressure, E the energy, B the magnetic field in units in
which its pressure is B²/2, and γ = 5/3 that of a monatomic gas. All are dimensionless: lengths in
sides of the periodic box, density in that of the background, and speeds in its speed of sound.

The initial states are uniform gas with random waves of velocity, and a field of random waves
beside a uniform one of random direction; up to three round regions of high pressure, which blast.
M is the Mach number of the root mean square velocity and beta the pressure of the background over
that of the mean square field, both at the start.

Scheme: finite volumes. Density, velocity, pressure and field are linear in every cell, with slopes
bounded by the generalised minmod limiter (MUSCL), fluxes are those of the HLLD solver (`hlld`), and
each trajectory takes its own steps by Heun's method. Constrained transport: a component of B along
an axis lies on the faces across that axis, and changes by the electric field on their edges, the
mean of those in the four fluxes around an edge and of their upwind gradients (Gardiner and Stone).
So ∇·B stays 0 to rounding, and mass, momentum, energy and mean field are conserved to rounding.
Where a step leaves no positive pressure it is made again with flat cells around that place (order
1), and if that is not enough, heat is added there. Order 2 where the flow is smooth, 1 at shocks.
Stable up to Σ (|v| + c) dt / h = 1, the sum over directions, with c the fast speed and h the
spacing; `courant` of that is used. A trajectory with blasts takes some 4 s of one core on 64²
points and 20 s on 112²: it grows as the cube of the points a side, in three dimensions as their
fourth power.

Source: Gardiner and Stone, J. Comput. Phys. 205 (2005) 509 and 227 (2008) 4123 (constrained
transport); Miyoshi and Kusano, J. Comput. Phys. 208 (2005) 315 (HLLD); Orszag and Tang, J. Fluid
Mech. 90 (1979) 129, for a state of this kind.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import require, require_fraction, require_positive
from matey.fields import PERIODIC_SIDES, Grid, Sides, SystemSpec, Variable
from matey.simulate.schemes.gas import dot, limited_slope, neighbours
from matey.simulate.schemes.hlld import conserved, fast_speed, hlld_flux, parts
from matey.simulate.schemes.spectral import random_waves
from matey.simulate.schemes.stepper import (
    Range,
    Simulator,
    box_grid,
    march_apart,
    require_dimension,
)

COOLEST = 0.1  # of its pressure before a step that a cell keeps at least, if not even order 1 helps

Pairs = Mapping[tuple[int, int], Tensor]  # by axes a < b, on the edges between their faces


@dataclass(frozen=True)
class MHD(Simulator):
    """Magnetohydrodynamics. State: density, momentum, energy at the centres of cells, and the
    field on their faces: each component on the far face along its axis, or at the centre where it
    has no axis. Stored: density, pressure, velocity, field, all at the centres.

    `run` solves in as many dimensions as the state has axes of points, with two or three components
    of velocity and field.

    Args:
        M: Mach number at the start.
        beta: pressure of the gas over that of the field at the start.
        gamma: heat capacity at constant pressure over that at constant volume.
        uniform: largest share of the field's energy that is in its uniform part.
        waves: largest wave number at the start, in periods of the domain.
        blasts: least and largest number of regions of high pressure.
        burst: range of their pressure over that of the background, less one.
        radius: range of their radii.
        span: time covered.
        theta: the limiter allows slopes up to `theta` times the smaller difference to a
            neighbour: 1 is minmod, 2 the monotonised central limiter, `math.inf` none at all.
        courant: fraction of the largest stable step.
        ndim: dimensions.
    """

    boundaries: ClassVar[tuple[Sides, Sides, Sides]] = (PERIODIC_SIDES,) * 3
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    vary: ClassVar[Mapping[str, Range]] = {
        "M": Range(0.3, 1.5),
        "beta": Range(0.3, 10.0, log=True),
    }

    M: float = 1.0
    beta: float = 1.0
    gamma: float = 5 / 3
    uniform: float = 0.5
    waves: int = 2
    blasts: tuple[int, int] = (0, 3)
    burst: tuple[float, float] = (3.0, 15.0)
    radius: tuple[float, float] = (0.06, 0.12)
    span: float = 0.5
    theta: float = 1.5
    courant: float = 0.8
    ndim: int = 2

    def __post_init__(self) -> None:
        require_dimension(self.ndim, self.dimensions)
        require_positive(self, "", "M", "beta", "waves", "span", "courant")
        require_fraction(self, "", "courant")
        require(self.gamma > 1, "gamma", self.gamma, "more than 1")
        require(self.theta >= 1, "theta", self.theta, "1 or more")
        require(0 <= self.uniform <= 1, "uniform", self.uniform, "a share, 0 to 1")
        for name in ("blasts", "burst", "radius"):
            low, high = getattr(self, name)
            require(0 <= low <= high, name, (low, high), "two numbers of 0 or more, lower first")

    def spec(self, dt: float) -> SystemSpec:
        axes = "xyz"[: self.ndim]
        vectors = [
            Variable(f"{name}_{axis}", axes=(axis,))
            for name in ("velocity", "magnetic")
            for axis in axes
        ]
        variables = (Variable("density"), Variable("pressure"), *vectors)
        return SystemSpec("mhd", self.ndim, variables, ("gamma", "M", "beta"), dt)

    def grid(self, resolution: int) -> Grid:
        return box_grid(0.0, 1.0, resolution, self.ndim)

    def draw(self, random: np.random.Generator, resolution: int) -> Float[Tensor, "S ..."]:
        """Waves of velocity and field in uniform gas of density 1 and sound speed 1, and blasts."""
        ndim, points = self.ndim, resolution
        velocity = random_waves(random, ndim, ndim, points, self.waves) * self.M / math.sqrt(ndim)
        pressure = torch.from_numpy(1 / self.gamma * self.bursts(random, resolution))
        uniform = random.uniform(0, self.uniform)
        strength = math.sqrt(2 / (self.gamma * self.beta))
        direction = random.standard_normal(ndim)
        direction *= strength * math.sqrt(uniform) / np.linalg.norm(direction)
        potential = {}
        for a, b in combinations(range(ndim), 2):
            on_edge = [1.0 if ndim - 1 - axis in (a, b) else 0.5 for axis in range(ndim)]
            potential[a, b] = random_waves(random, 1, ndim, points, self.waves, on_edge)
        field = curl(potential, [1 / points] * ndim)[0]
        field *= strength * math.sqrt(1 - uniform) / dot(field[None], field[None]).mean().sqrt()
        field += torch.from_numpy(direction).view(-1, *[1] * ndim)
        density = torch.ones_like(pressure)
        gas = torch.cat((density[None], velocity, pressure[None], centred(field[None])[0]))
        state = conserved(gas[None], self.gamma)[0]
        state[2 + ndim :] = field
        return state

    def bursts(self, random: np.random.Generator, resolution: int) -> np.ndarray:
        """The background's pressure times what this gives, [*points], is that at the start."""
        x = (np.arange(resolution) + 0.5) / resolution
        factor = np.ones([resolution] * self.ndim)
        for _ in range(random.integers(*self.blasts, endpoint=True)):
            centre, radius = random.random(self.ndim), random.uniform(*self.radius)
            square = np.zeros(())
            for position in centre:
                square = square[..., None] + ((x - position + 0.5) % 1 - 0.5) ** 2
            edge = (np.sqrt(square) - radius) / (radius / 8)
            factor += random.uniform(*self.burst) / (1 + np.exp(np.clip(2 * edge, -60, 60)))
        return factor

    def run(
        self, state: Float[Tensor, "B S *points"], times: Sequence[float]
    ) -> Iterator[Float[Tensor, "B S *points"]]:
        """The state at each of `times`; the first is the one given."""
        return march_apart(state, times, self.longest_step, self.step)

    def longest_step(self, state: Float[Tensor, "B S *points"]) -> Float[Tensor, " B"]:
        """Time step of each trajectory."""
        gas = self.primitive(state)
        fastest = torch.zeros_like(gas[:, 0])
        for axis, spacing in enumerate(self.spacings(state)):
            speed = fast_speed(gas, axis, self.gamma).add_(gas[:, 1 + axis].abs())
            fastest.add_(speed, alpha=1 / spacing)
        return self.courant / fastest.flatten(1).amax(dim=1)

    def step(
        self, state: Float[Tensor, "B S *points"], dt: Float[Tensor, " B"]
    ) -> Float[Tensor, "B S *points"]:
        """One step of Heun's method."""
        dt = dt.view(-1, *[1] * (state.ndim - 1))
        ahead = self.advance(state, state, dt)
        return self.advance(ahead, state, dt, share=0.5)

    def advance(self, at: Tensor, start: Tensor, dt: Tensor, share: float = 1.0) -> Tensor:
        """`share` of (at + dt * rate(at)), and the rest of `start`; positive pressure."""
        after = torch.lerp(start, at.addcmul(self.rate(at), dt), share)
        bad = self.negative(after)
        if bad.any():
            after = torch.lerp(start, at.addcmul(self.rate(at, around(bad)), dt), share)
            bad = self.negative(after)
            if bad.any():
                before, now = self.primitive(at), self.primitive(after)
                lacking = COOLEST * parts(before)[2] - parts(now)[2]
                parts(after)[2].add_(lacking.where(bad, 0.0), alpha=1 / (self.gamma - 1))
        return after

    def negative(self, state: Tensor) -> Tensor:
        """Where the pressure is not positive."""
        return parts(self.primitive(state))[2] <= 0

    def rate(
        self, state: Float[Tensor, "B S *points"], flat: Tensor | None = None
    ) -> Float[Tensor, "B S *points"]:
        """The time derivative of the state. Cells that are `flat` have no slopes."""
        gas, spacings = self.primitive(state), self.spacings(state)
        ndim = len(spacings)
        _, velocity, _, field = parts(gas)
        faces = parts(state)[3]
        total = torch.zeros_like(state)
        fluxes = []
        for axis, spacing in enumerate(spacings):
            dim = -1 - axis
            cells = gas.shape[dim]
            wide = torch.cat((gas.narrow(dim, cells - 1, 1), gas, gas.narrow(dim, 0, 2)), dim)
            slope = limited_slope(wide, dim, self.theta)  # of the cells and the first once more
            if flat is not None:
                flat_too = torch.cat((flat, flat.narrow(dim, 0, 1)), dim)
                slope.masked_fill_(flat_too[:, None], 0.0)
            here, there = neighbours(wide.narrow(dim, 1, cells + 1), dim)
            slope_here, slope_there = neighbours(slope, dim)
            left, right = here.add(slope_here, alpha=0.5), there.sub(slope_there, alpha=0.5)
            parts(left)[3][:, axis] = parts(right)[3][:, axis] = faces[:, axis]
            flux = hlld_flux(left, right, axis, self.gamma)
            total.add_(flux.roll(1, dim).sub_(flux), alpha=1 / spacing)
            fluxes.append(flux)
        electric = {
            (a, b): on_edges(fluxes, velocity, field, a, b) for a, b in combinations(range(ndim), 2)
        }
        # On faces the field changes by what is on their edges, and along its axis by nothing else.
        parts(total)[3][:, :ndim] = curl(electric, spacings) if electric else 0.0
        return total

    def spacings(self, state: Float[Tensor, "B S *points"]) -> list[float]:
        """Grid spacing along x, y, z."""
        return [1 / points for points in reversed(state.shape[2:])]

    def primitive(self, state: Float[Tensor, "B S *points"]) -> Float[Tensor, "B S *points"]:
        """Density, velocity, pressure and field of a state, at the centres of cells."""
        density, momentum, energy, faces = parts(state)
        velocity, field = momentum / density[:, None], centred(faces)
        pressure = energy.sub(dot(momentum, velocity).add_(dot(field, field)), alpha=0.5)
        pressure.mul_(self.gamma - 1)
        return torch.cat((density[:, None], velocity, pressure[:, None], field), dim=1)

    def observe(self, state: Float[Tensor, "B S *points"]) -> Float[Tensor, "B S *points"]:
        density, velocity, pressure, field = parts(self.primitive(state))
        return torch.cat((density[:, None], pressure[:, None], velocity, field), dim=1)


def centred(faces: Float[Tensor, "B C *points"]) -> Float[Tensor, "B C *points"]:
    """The field at the centres of cells: means of both faces, along axes that exist."""
    field = faces.clone()
    for axis in range(min(faces.ndim - 2, faces.shape[1])):
        field[:, axis].add_(faces[:, axis].roll(1, -1 - axis)).mul_(0.5)
    return field


def curl(edges: Pairs, spacings: Sequence[float]) -> Float[Tensor, "B D *points"]:
    """Component a of what is on the faces: the sum over b of the derivative along b of what is on
    the edges of (a, b), which is that of (b, a) with the other sign. Its divergence is 0."""
    total = torch.zeros(1)
    components = [total] * len(spacings)
    for (a, b), values in edges.items():
        components[a] = components[a] + values.sub(values.roll(1, -1 - b)) / spacings[b]
        components[b] = components[b] - values.sub(values.roll(1, -1 - a)) / spacings[a]
    return torch.stack(components, dim=1)


def on_edges(fluxes: Sequence[Tensor], velocity: Tensor, field: Tensor, a: int, b: int) -> Tensor:
    """v_a B_b - v_b B_a on the edges between the faces across a and b.

    The mean of the four fluxes around an edge, and of their upwind gradients: from a face across
    a, the difference between flux and centre of the cell that the gas comes from (Gardiner and
    Stone 2005, equations 41, 45 and 50).
    """
    first, second = -1 - a, -1 - b
    on_a, on_b = parts(fluxes[a])[3][:, b], parts(fluxes[b])[3][:, a].neg()
    centre = velocity[:, a] * field[:, b] - velocity[:, b] * field[:, a]
    total = torch.zeros_like(centre)
    for flux, mine, other, across, along in (
        (on_a, fluxes[a][:, 0], on_b, first, second),
        (on_b, fluxes[b][:, 0], on_a, second, first),
    ):
        ahead = mine.sign().add_(1).mul_(0.5)  # share of the near cell: it is upwind
        near = torch.lerp((other - centre).roll(-1, across), other - centre, ahead)
        far = other - centre.roll(-1, along)
        far = torch.lerp(far.roll(-1, across), far, ahead.roll(-1, along))
        total.add_(flux).add_(flux.roll(-1, along)).add_(near).add_(far)
    return total.mul_(0.25)


def around(cells: Tensor) -> Tensor:
    """Cells, and their neighbours along all axes."""
    wide = cells
    for dim in range(1, cells.ndim):
        wide = wide | wide.roll(1, dim) | wide.roll(-1, dim)
    return wide
