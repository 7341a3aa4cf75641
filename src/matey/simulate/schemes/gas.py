"""Gas dynamics: the finite volumes that all systems of compressible gas share.

    ρ_t + ∇·(ρv) = 0
    (ρv)_t + ∇·(ρ v v + p) = 0
    E_t + ∇·((E + p) v) = 0,   E = p / (γ - 1) + ρ v² / 2
    (ρY)_t + ∇·(ρ Y v) = 0

ρ is the density [kg/m³], v the velocity [m/s], p the pressure [Pa], E the energy [J/m³], γ the heat
capacity at constant pressure over that at constant volume, and Y the mass fractions that the gas
carries, if any. Sides are periodic, or have two ghost cells: copies of the last cell where the
side is open, mirror images at a wall.

Scheme: density, velocity, pressure and mass fractions are linear in every cell, with slopes bounded
by the generalised minmod limiter (MUSCL) and by the heat in the cell. They tell what the gas is
halfway through a step (Hancock), and the fluxes there are those of the HLLC solver with Davis'
speeds, through all faces at once. Each trajectory takes its own steps. Order 2 in space and time
where the flow is smooth, 1 at shocks. Stable up to Σ (|v| + c) dt / h = 1, the sum over directions,
with c the speed of sound and h the spacing; `courant` of that is used. Mass, momentum and energy
are conserved to rounding.

Source: Toro, Riemann Solvers and Numerical Methods for Fluid Dynamics (3rd ed. 2009):
sections 10.4 and 10.5 (HLLC, speeds), 13.4 and 14.4 (MUSCL-Hancock), 16 (several dimensions).
The limiter: Kurganov and Tadmor, J. Comput. Phys. 160 (2000) 241.

Axes: B trajectories, S variables (density, momentum along x, y, z, energy, and densities of what is
carried; or density, velocity, pressure and mass fractions), then one to three of grid points.
"""

import math
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import require, require_fraction, require_positive
from matey.fields import Boundary
from matey.simulate.schemes.stepper import Simulator, march_apart, require_dimension

GHOSTS = 2  # cells beyond a side that slopes and fluxes look at
KEPT = 0.1  # of density and pressure at a face, at least, half a step later


class GasDynamics(Simulator):
    """A system of compressible gas. Stored: density, pressure, velocity, mass fractions.

    It is solved in one, two or three dimensions, as many as the state has axes of points.

    Attributes:
        ndim: dimensions of the domain, of systems that exist in several.
        gamma: heat capacity at constant pressure over that at constant volume.
        length: of the domain along every axis [m].
        theta: the limiter allows slopes up to `theta` times the smaller difference to a
            neighbour: 1 is minmod, 2 the monotonised central limiter, `math.inf` none at all.
        courant: fraction of the largest stable step.
    """

    carried: ClassVar[int] = 0  # how many mass fractions

    ndim: int
    gamma: float
    length: float
    theta: float
    courant: float

    def __post_init__(self) -> None:
        if self.dimensions:
            require_dimension(self.ndim, self.dimensions)
        require_positive(self, "", "length", "span", "courant")
        require_fraction(self, "", "courant")
        require(self.gamma > 1, "gamma", self.gamma, "more than 1")
        require(self.theta >= 1, "theta", self.theta, "1 or more")

    def run(
        self, state: Float[Tensor, "B S *points"], times: Sequence[float]
    ) -> Iterator[Float[Tensor, "B S *points"]]:
        """The state at each of `times`; the first is the one given."""
        return march_apart(state, times, self.longest_step, self.step)

    def longest_step(self, state: Float[Tensor, "B S *points"]) -> Float[Tensor, " B"]:
        """Time step of each trajectory [s]."""
        gas = self.flow(self.primitive(state))
        density, velocity, pressure = gas[:, 0], gas[:, 1:-1], gas[:, -1]
        sound = (self.gamma * pressure / density).sqrt_()
        diffusivity = self.diffusivity(density)
        fastest = torch.zeros_like(density)
        for component, spacing in zip(velocity.unbind(1), self.spacings(state), strict=True):
            fastest.add_(component.abs().add_(sound), alpha=1 / spacing)
            if diffusivity is not None:
                fastest.add_(diffusivity, alpha=2 / spacing**2)
        return self.courant / fastest.flatten(1).amax(dim=1)

    def diffusivity(self, density: Tensor) -> Tensor | None:
        """What limits the step beside waves [m²/s]; None where nothing diffuses."""
        return None

    def step(
        self, state: Float[Tensor, "B S *points"], dt: Float[Tensor, " B"]
    ) -> Float[Tensor, "B S *points"]:
        """One step of the MUSCL-Hancock scheme: fluxes halfway through it."""
        dt = dt.view(-1, *[1] * (state.ndim - 1))
        gas, axes = self.primitive(state), range(state.ndim - 2)
        slopes = [self.slope(self.with_ghosts(gas, axis), axis) for axis in axes]
        gas = self.halfway(gas, slopes, dt)
        inflow = torch.zeros_like(state)
        for axis, slope in enumerate(slopes):
            flux = self.flux(inside(self.with_ghosts(gas, axis), axis), slope, axis)
            inflow.add_(self.gain(flux, axis))
        return torch.addcmul(state, inflow, dt)

    def halfway(
        self, gas: Float[Tensor, "B S *points"], slopes: Sequence[Tensor], dt: Tensor
    ) -> Float[Tensor, "B S *points"]:
        """The gas half a step later, by its slopes along every axis, which go one cell beyond both
        sides. Density and pressure at the faces keep at least `KEPT` of what they had, and mass
        fractions stay between 0 and 1."""
        later, density, pressure = gas.clone(), gas[:, 0], self.flow(gas)[:, -1]
        slopes = [inside(slope, axis) for axis, slope in enumerate(slopes)]
        for axis, (slope, spacing) in enumerate(zip(slopes, self.spacings(gas), strict=True)):
            change = slope * gas[:, 1 + axis, None]
            stretch, push = slope[:, 1 + axis], self.flow(slope)[:, -1]
            change[:, 0].addcmul_(density, stretch)
            change[:, 1 + axis].addcdiv_(push, density)
            self.flow(change)[:, -1].addcmul_(pressure, stretch, value=self.gamma)
            later.addcmul_(change, dt, value=-0.5 / spacing)
        # A face is half the steepest slope from the middle, at most.
        fractions = range(-self.carried, 0)
        for variable in (0, -1 - self.carried, *fractions):
            steps = [slope[:, variable].abs() for slope in slopes]
            reach, value = reduce(torch.maximum, steps).mul(0.5), later[:, variable]
            if variable in fractions:
                value.clamp_(reach, 1 - reach)
            else:
                least = (gas[:, variable] - reach).mul_(KEPT).add_(reach)
                torch.maximum(value, least, out=value)
        return later

    def gain(self, flux: Tensor, axis: int) -> Tensor:
        """What flows into each cell per time and volume, of the flux through the faces along an
        axis (0 is x)."""
        into, out = neighbours(flux, -1 - axis)
        return into.sub(out).div_(self.length / into.shape[-1 - axis])

    def with_ghosts(self, gas: Tensor, axis: int) -> Tensor:
        """The gas with ghost cells beyond both sides of an axis (0 is x)."""
        dim, cells = -1 - axis, gas.shape[-1 - axis]
        parts = [gas]
        for upper, side in enumerate(self.boundaries[2 - axis]):
            if side == Boundary.OPEN:
                edge = gas.narrow(dim, cells - 1 if upper else 0, 1)
                ghosts = torch.cat([edge] * GHOSTS, dim)
            else:
                at_end = bool(upper) == (side == Boundary.WALL)
                ghosts = gas.narrow(dim, cells - GHOSTS if at_end else 0, GHOSTS)
            if side == Boundary.WALL:
                ghosts = ghosts.flip(dim)
                ghosts[:, 1 + axis].neg_()
            parts.insert(2 * upper, ghosts)
        return torch.cat(parts, dim)

    def slope(self, gas: Tensor, axis: int) -> Tensor:
        """Change of the gas across each cell but the first and the last along an axis (0 is x)."""
        slope = limited_slope(gas, -1 - axis, self.theta)
        gas = inside(gas, axis)
        # The ends of a cell have ρ s² / 8 more kinetic energy than its middle, taken from the
        # heat: at most a quarter of it, so that pressure stays positive.
        velocity = self.flow(slope)[:, 1:-1]
        slope_squared = dot(velocity, velocity)
        heat = self.flow(gas)[:, -1]
        share = (heat / slope_squared.mul_(gas[:, 0])).mul_(2 / (self.gamma - 1))
        return slope.mul_(share.clamp_(max=1)[:, None])

    def flux(self, gas: Tensor, slope: Tensor, axis: int) -> Tensor:
        """Flux of the state through the faces between cells, along an axis (0 is x)."""
        dim = -1 - axis
        (left, right), (left_slope, right_slope) = neighbours(gas, dim), neighbours(slope, dim)
        left, right = left.add(left_slope, alpha=0.5), right.sub(right_slope, alpha=0.5)
        flux = hllc_flux(self.flow(left), self.flow(right), axis, self.gamma)
        if not self.carried:
            return flux
        # What is carried goes where the mass goes, from the cell that it leaves.
        through, last = flux[:, :1], slice(-self.carried, None)
        taken = through.clamp(min=0).mul(left[:, last])
        return torch.cat([flux, taken.addcmul_(through.clamp(max=0), right[:, last])], dim=1)

    def flow(self, values: Float[Tensor, "B S *points"]) -> Float[Tensor, "B D *points"]:
        """A view of the values without what the gas carries."""
        return values[:, : values.shape[1] - self.carried]

    def spacings(self, state: Float[Tensor, "B S *points"]) -> list[float]:
        """Grid spacing along x, y, z [m]."""
        return [self.length / points for points in reversed(state.shape[2:])]

    def primitive(self, state: Float[Tensor, "B S *points"]) -> Float[Tensor, "B S *points"]:
        """Density, velocity, pressure and mass fractions of a state."""
        gas = torch.empty_like(state)
        flow, into = self.flow(state), self.flow(gas)
        density, momentum, energy = flow[:, :1], flow[:, 1:-1], flow[:, -1]
        gas[:, :1] = density
        velocity = torch.div(momentum, density, out=into[:, 1:-1])
        torch.sub(energy, dot(momentum, velocity), alpha=0.5, out=into[:, -1]).mul_(self.gamma - 1)
        if self.carried:
            torch.div(state[:, -self.carried :], density, out=gas[:, -self.carried :])
        return gas

    def observe(self, state: Float[Tensor, "B S *points"]) -> Float[Tensor, "B S *points"]:
        gas = self.primitive(state)
        flow, fractions = self.flow(gas), gas[:, gas.shape[1] - self.carried :]
        return torch.cat([flow[:, :1], flow[:, -1:], flow[:, 1:-1], fractions], dim=1)

    def state_of(self, frame: Float[Tensor, "B S *points"]) -> Float[Tensor, "B S *points"]:
        """The state with these stored variables: the inverse of `observe`."""
        flow, fractions = self.flow(frame), frame[:, frame.shape[1] - self.carried :]
        density, pressure, velocity = flow[:, :1], flow[:, 1:2], flow[:, 2:]
        energy = pressure / (self.gamma - 1)
        energy = energy + density * (velocity**2).sum(dim=1, keepdim=True) / 2
        return torch.cat([density, density * velocity, energy, density * fractions], dim=1)


def dot(first: Tensor, second: Tensor) -> Tensor:
    """Scalar product of vectors whose components lie along axis 1."""
    total = first[:, 0] * second[:, 0]
    for i in range(1, first.shape[1]):
        total.addcmul_(first[:, i], second[:, i])
    return total


def neighbours(values: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Views of the values at each place but the last along an axis, and of those at the next."""
    pairs = values.shape[dim] - 1
    return values.narrow(dim, 0, pairs), values.narrow(dim, 1, pairs)


def inside(values: Tensor, axis: int) -> Tensor:
    """A view of the values at all places but the first and the last along an axis (0 is x)."""
    return values.narrow(-1 - axis, 1, values.shape[-1 - axis] - 2)


def limited_slope(values: Tensor, dim: int, theta: float) -> Tensor:
    """Change of the values across each cell but the first and the last along an axis: half that
    between its neighbours, but not beyond `theta` times the difference to either, and zero at an
    extremum."""
    here, there = neighbours(values, dim)
    difference = there - here
    behind, ahead = neighbours(difference, dim)
    slope = (ahead + behind).mul_(0.5)
    if math.isinf(theta):
        return slope
    behind, ahead = neighbours(difference.mul_(theta), dim)
    highest = torch.minimum(ahead, behind).clamp_(min=0)
    lowest = torch.maximum(ahead, behind).clamp_(max=0)
    return slope.clamp_(lowest, highest)


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
