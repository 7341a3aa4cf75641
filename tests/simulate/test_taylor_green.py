"""Decaying flow in a cube against exact flows, published dissipation and the balance of energy."""

import math

import pytest
import torch

from matey.simulate import simulate
from matey.simulate.schemes.spectral import Box
from matey.simulate.taylor_green import TaylorGreen, curl

# Dissipation at Reynolds number 100, read off Brachet et al., J. Fluid Mech. 130 (1983) 411,
# figure 7, at these times; the curve can be read to about 1 %.
PUBLISHED = {2.0: 0.00928, 4.0: 0.01257, 4.9: 0.01298, 6.0: 0.0123, 8.0: 0.0087}


def box_of(system, state):
    return Box(tuple(state.shape[2:]), system.side, state)


def dissipation(system, state):
    """2 ν times the enstrophy, half the mean square of the vorticity."""
    box = box_of(system, state)
    vorticity = box.values(curl(box.modes(state), box))
    return system.nu * float(vorticity.square().sum(dim=1).mean())


def test_dissipation_at_reynolds_number_100_is_as_published():
    """24 points an axis; 2 %: what reading the figure and the grid leave."""
    system = TaylorGreen(nu=0.01)
    frames = system.run(system.vortices(24)[None], [0.0, *PUBLISHED])
    next(frames)
    found = [dissipation(system, state) for state in frames]
    assert found == pytest.approx(list(PUBLISHED.values()), rel=0.02)


def test_energy_is_lost_to_viscosity_alone():
    """d(v²/2)/dt = -2 ν Ω for any state: products of two fields are free of aliasing, so that
    advection moves energy between waves and neither makes nor takes any. To rounding."""
    system = TaylorGreen(nu=0.02)
    state = system.initial([3], 16, seed=0)
    box = box_of(system, state)
    modes = box.modes(state)
    rate = box.values(system.linear(box) * modes + system.nonlinear(modes, box))
    gained = (box.values(modes) * rate).sum(dim=1).mean()
    assert float(gained) == pytest.approx(-dissipation(system, state), rel=1e-12)
    push = (box.values(modes) * box.values(system.nonlinear(modes, box))).sum(dim=1)
    assert abs(push.mean()) < 1e-12 * push.abs().mean()
    assert push.abs().mean() > 0.01  # there is something to cancel


def test_plane_vortices_decay_as_they_should():
    """sin x cos y and -cos x sin y: advection is a gradient, and drops out. Rounding."""
    system, time = TaylorGreen(nu=0.05, speed=2.0, side=3.0), 0.7
    k = 2 * math.pi / system.side
    x = k * system.grid(12).coordinate(2)
    plane = torch.stack((x.sin() * x.cos()[:, None], -x.cos() * x.sin()[:, None]))
    start = torch.cat((plane, torch.zeros_like(plane[:1])))[None, :, None].repeat(1, 1, 12, 1, 1)
    *_, end = system.run(start, [0.0, time])
    expected = start * math.exp(-2 * system.nu * k**2 * time)
    torch.testing.assert_close(end, expected, rtol=0, atol=1e-13)


def test_a_flow_along_its_vorticity_only_decays():
    """Arnold, Beltrami and Childress' flow is its own curl: v × (∇ × v) = 0. Rounding."""
    system = TaylorGreen(nu=0.05)
    x = system.grid(12).coordinate(2)
    y, z = x[:, None], x[:, None, None]
    parts = (3 * z.sin() + y.cos(), 2 * x.sin() + 3 * z.cos(), y.sin() + 2 * x.cos())
    flow = torch.stack([part.expand(12, 12, 12) for part in parts])[None]
    *_, end = system.run(flow, [0.0, 2.0])
    torch.testing.assert_close(end, flow * math.exp(-2 * system.nu), rtol=0, atol=1e-12)


def test_velocity_stays_free_of_divergence():
    """Rounding of sums of 16³ terms, times wavenumbers of up to 5."""
    system = TaylorGreen()
    for state in system.run(system.initial([0, 1], 16, seed=4), [0.0, 1.0, 2.0]):
        box = box_of(system, state)
        k = 1j * box.wavenumbers.flip(0)
        divergence = box.values((k * box.modes(state)).sum(dim=1, keepdim=True))
        assert divergence.abs().max() < 1e-13


def test_steps_are_of_order_four():
    """Half the step, a sixteenth of the error: 0.3 for higher terms."""
    ends = []
    for courant in (4.0, 2.0, 0.5):
        system = TaylorGreen(nu=0.02, courant=courant)
        *_, end = system.run(system.initial([1], 12, seed=1), [0.0, 4.0])
        ends.append(end)
    coarse, fine = ((end - ends[2]).square().mean().sqrt() for end in ends[:2])
    assert math.log2(coarse / fine) == pytest.approx(4, abs=0.3)
    assert fine < 1e-4


def test_vortices_are_a_solution_in_any_place_and_along_any_axes():
    """A shift by whole cells and a turn of the axes, before or after: the same flow. Rounding."""
    system = TaylorGreen(nu=0.02)
    start = system.vortices(12)[None]
    # What was along y, z and x is now along x, y and z; an array's axes are z, y, x.
    turned = start[:, [1, 2, 0]].permute(0, 1, 4, 2, 3).roll((2, 3, 4), (2, 3, 4))
    *_, end = system.run(start, [0.0, 2.0])
    *_, other = system.run(turned, [0.0, 2.0])
    expected = end[:, [1, 2, 0]].permute(0, 1, 4, 2, 3).roll((2, 3, 4), (2, 3, 4))
    torch.testing.assert_close(other, expected, rtol=0, atol=1e-13)


def test_all_states_have_the_energy_of_the_vortices_and_differ():
    system = TaylorGreen(speed=3.0)
    states = system.initial(range(4), 12, seed=0)
    energy = states.square().sum(dim=1).mean(dim=(1, 2, 3)) / 2
    torch.testing.assert_close(energy, torch.full_like(energy, 9 / 8))
    vortices = system.vortices(12).square().sum(dim=0).mean() / 2
    assert float(vortices) == pytest.approx(9 / 8)
    assert (states[1:] - states[0]).square().mean(dim=(1, 2, 3, 4)).min() > 0.1


def test_every_trajectory_has_a_viscosity_of_its_own():
    fields = simulate("taylor_green", trajectories=3, resolution=8, steps=2, seed=0)
    assert len({field.parameters["nu"] for field in fields}) == 3
    assert all(0.01 <= field.parameters["nu"] <= 0.025 for field in fields)
