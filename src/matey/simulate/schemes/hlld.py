"""The HLLD Riemann solver: fluxes of ideal magnetohydrodynamics through a face.

Between two outer fast waves of speeds S_L and S_R there are a contact of speed S_M and, on either
side of it, an Alfvén wave of speed S_M ∓ |B_n| / √ρ*, across which the transverse velocity and
field turn. The states U* behind the outer waves and U** behind the Alfvén waves satisfy the jump
conditions of all five, with one total pressure; density is positive, and pressure with it, for any
gas on either side that a first-order step could meet.

Source: Miyoshi and Kusano, J. Comput. Phys. 208 (2005) 315: equations 38 to 63.

Axes: B trajectories, S variables (density, momentum, energy, field; or density, velocity, pressure,
field) with two or three components of vectors along x, y, z, then one to three of grid points.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from matey.simulate.schemes.gas import dot

DEGENERATE = 1e-8  # relative: where an outer wave and an Alfvén wave are one, no field turns


def parts(values: Float[Tensor, "B S *points"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Views of a state: density, momentum, energy, field; or of density, velocity, pressure,
    field. Vectors keep axis 1."""
    components = (values.shape[1] - 2) // 2
    density, flow, energy, field = values.split((1, components, 1, components), dim=1)
    return density[:, 0], flow, energy[:, 0], field


def conserved(gas: Float[Tensor, "B S *points"], gamma: float) -> Float[Tensor, "B S *points"]:
    """Density, momentum, energy and field of density, velocity, pressure and field."""
    density, velocity, pressure, field = parts(gas)
    energy = dot(velocity, velocity).mul_(density).add_(dot(field, field)).mul_(0.5)
    energy.add_(pressure, alpha=1 / (gamma - 1))
    return torch.cat((density[:, None], velocity * density[:, None], energy[:, None], field), dim=1)


def fast_speed(
    gas: Float[Tensor, "B S *points"], axis: int, gamma: float
) -> Float[Tensor, "B ..."]:
    """Speed of the fast wave along an axis (0 is x)."""
    density, _, pressure, field = parts(gas)
    sound = gamma * pressure
    both = dot(field, field).add_(sound)
    normal = field[:, axis].square()
    root = both.square().sub_(normal.mul_(sound), alpha=4).clamp_(min=0).sqrt_()
    return both.add_(root).div_(density).mul_(0.5).sqrt_()


def plain_flux(gas: Tensor, state: Tensor, total: Tensor, axis: int) -> Tensor:
    """Flux of the state along an axis of gas with this total pressure."""
    _, velocity, _, field = parts(gas)
    u, normal = velocity[:, axis], field[:, axis]
    flux = state * u[:, None]
    _, momentum, energy, induced = parts(flux)
    momentum.sub_(field * normal[:, None])
    momentum[:, axis].add_(total)
    energy.addcmul_(total, u).sub_(dot(velocity, field).mul_(normal))
    induced.sub_(velocity * normal[:, None])
    return flux


def hlld_flux(left: Tensor, right: Tensor, axis: int, gamma: float) -> Tensor:
    """Flux of the state along an axis (0 is x) between gas on the left and on the right, whose
    fields have the same component along that axis.

    Of the gas on that side of the contact where the face is, the flux is
    F + s (U* - U) + a (U** - U*), with s and a the speeds of the outer and the Alfvén wave where
    they have passed the face, else 0.
    """
    gas = torch.cat((left, right))  # both sides at once
    density, velocity, pressure, field = parts(gas)
    u, normal = velocity[:, axis], field[:, axis]
    total = dot(field, field).mul_(0.5).add_(pressure)
    state = conserved(gas, gamma)

    (u_left, u_right), (p_left, p_right) = u.chunk(2), total.chunk(2)
    speed_left, speed_right = fast_speed(gas, axis, gamma).chunk(2)
    fastest = torch.maximum(speed_left, speed_right)
    slow, fast = torch.minimum(u_left, u_right) - fastest, torch.maximum(u_left, u_right) + fastest
    # Mass that enters each outer wave per time and area, less than 0 on the left.
    outer = torch.cat((slow, fast))
    mass = (outer - u).mul_(density)
    mass_left, mass_right = mass.chunk(2)
    weight = mass_right - mass_left
    middle = (mass_right * u_right - mass_left * u_left + p_left - p_right).div_(weight)
    between = (mass_left * mass_right).mul_(u_right - u_left)
    between.add_(mass_right * p_left).sub_(mass_left * p_right).div_(weight)

    middles, pressures = torch.cat((middle, middle)), torch.cat((between, between))
    star = behind_outer(gas, state, total, mass, outer - middles, middles, pressures, axis)
    turned, root = behind_alfven(star, normal)

    on_left = middle >= 0
    alfven = normal[: len(left)].abs()
    root_left, root_right = root.chunk(2)
    passed = torch.where(on_left, slow.clamp(max=0), fast.clamp(min=0))
    turning = torch.where(
        on_left,
        (middle - alfven / root_left).clamp_(max=0),
        (middle + alfven / root_right).clamp_(min=0),
    )
    total = torch.where(on_left, p_left, p_right)

    def chosen(both: Tensor) -> Tensor:
        left, right = both.chunk(2)
        return torch.where(on_left[:, None], left, right)

    gas, state, star, turned = chosen(gas), chosen(state), chosen(star), chosen(turned)
    flux = plain_flux(gas, state, total, axis)
    turned.sub_(star).mul_(turning[:, None])
    return flux.add_(turned).addcmul_(star.sub_(state), passed[:, None])


def behind_outer(
    gas: Tensor,
    state: Tensor,
    total: Tensor,
    mass: Tensor,
    gap: Tensor,
    middle: Tensor,
    between: Tensor,
    axis: int,
) -> Tensor:
    """The states U* of both sides (equations 43 to 48).

    `mass` enters the outer wave, which moves away from the contact, of speed `middle`, with speed
    `gap`; `total` pressure is that before, `between` that behind it.
    """
    density, velocity, _, field = parts(gas)
    u, normal = velocity[:, axis], field[:, axis]
    square = normal.square()
    push = mass * gap
    turn = push - square
    some = turn.abs() > DEGENERATE * (push.abs() + square)
    turn = torch.where(some, turn, 1.0)
    drag = torch.where(some, (middle - u).mul_(normal).div_(turn), 0.0)
    growth = torch.where(some, (mass.square() / density).sub_(square).div_(turn), 1.0)

    star = torch.empty_like(state)
    star_density, momentum, energy, star_field = parts(star)
    torch.div(mass, gap, out=star_density)
    behind = velocity - field * drag[:, None]
    behind[:, axis] = middle
    torch.mul(behind, star_density[:, None], out=momentum)
    torch.mul(field, growth[:, None], out=star_field)
    star_field[:, axis] = normal
    work = (dot(velocity, field) - dot(behind, star_field)).mul_(normal)
    work.add_(mass / density * parts(state)[2]).sub_(total * u).addcmul_(between, middle)
    torch.div(work, gap, out=energy)
    return star


def behind_alfven(star: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
    """The states U** of both sides (equations 59 to 63), and the roots of their densities."""
    density, momentum, energy, field = parts(star)
    velocity = momentum / density[:, None]
    root = density.sqrt()
    sign = normal.sign()
    (root_left, root_right), (v_left, v_right), (field_left, field_right) = (
        both.chunk(2) for both in (root[:, None], velocity, field)
    )
    direction, weight = sign[: len(v_left), None], root_left + root_right
    mean = (field_right - field_left).mul_(direction)
    mean.addcmul_(root_left, v_left).addcmul_(root_right, v_right).div_(weight)
    inside = (v_right - v_left).mul_(direction).mul_(root_left).mul_(root_right)
    inside.addcmul_(root_left, field_right).addcmul_(root_right, field_left).div_(weight)

    turned = torch.empty_like(star)
    _, turned_momentum, turned_energy, turned_field = parts(turned)
    turned[:, 0] = density
    torch.mul(torch.cat((mean, mean)), density[:, None], out=turned_momentum)
    turned_field.copy_(torch.cat((inside, inside)))
    gain = (dot(velocity, field) - dot(mean, inside).repeat(2, *[1] * (mean.ndim - 2))).mul_(root)
    gain.mul_(sign)
    gain[: len(v_left)].neg_()
    torch.add(energy, gain, out=turned_energy)
    return turned, root
