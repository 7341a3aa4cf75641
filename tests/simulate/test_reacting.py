"""Detonations against Chapman and Jouguet, Zel'dovich, von Neumann and Döring, and an explosion."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from matey.errors import ConfigError
from matey.fields import PERIODIC_SIDES, Boundary
from matey.simulate import find_system, simulate
from matey.simulate.reacting import Reacting


class Tube(Reacting):
    """Open ends: the gas behind a wave is as long as it has to be."""

    boundaries = ((Boundary.OPEN, Boundary.OPEN),) * 3


class Torus(Reacting):
    boundaries = (PERIODIC_SIDES,) * 3


def centres(points, length=1.0):
    return length * (torch.arange(points, dtype=torch.float64) + 0.5) / points


def frame(*variables):
    """Stored variables of one trajectory [1 S *points]."""
    return torch.stack(torch.broadcast_tensors(*variables))[None]


def chapman_jouguet(heat, gamma):
    """Speed into gas of density and pressure 1 (Fickett and Davis, section 2A.2): the sum of two
    roots, here of the squares of both."""
    q = (gamma**2 - 1) * heat / 2
    return math.sqrt(q + gamma) + math.sqrt(q)


def front(system, state):
    """Where the pressure falls through half of that ahead more, from the far end [m]."""
    pressure = system.observe(state)[0, 1]
    last = int((pressure > 1.5).nonzero().max())
    inside, outside = pressure[last].item(), pressure[last + 1].item()
    cells = last + 0.5 + (inside - 1.5) / (inside - outside)
    return cells * system.length / len(pressure)


@pytest.mark.parametrize(("heat", "activation"), [(40.0, 12.0), (45.0, 14.0)])
def test_a_hot_end_starts_a_detonation_of_chapman_and_jouguets_speed(heat, activation):
    """Between 70 and 95 % of a closed tube. Required: 1 %."""
    system = Reacting(ndim=1, heat=heat, activation=activation, half_length=0.006)
    x = centres(500)
    pressure = 1 + 39 * torch.exp(-((x / 0.06) ** 4))
    still = torch.zeros_like(x)
    state = system.state_of(frame(1 + still, pressure, still, still))
    speed = chapman_jouguet(heat, 1.2)
    assert system.speed == pytest.approx(speed, rel=1e-12)
    places, times = [], [step * 0.02 / speed for step in range(50)]
    for later in system.run(state, times):
        places.append(front(system, later))
        if places[-1] > 0.95:
            break
    late = [i for i, place in enumerate(places) if 0.7 < place < 0.95]
    measured = (places[late[-1]] - places[late[0]]) / (times[late[-1]] - times[late[0]])
    assert measured == pytest.approx(speed, rel=0.01)


def znd(system, speed):
    """The wave behind its front by integration along it: density, velocity, pressure and reactant
    at distances behind (Fickett and Davis, section 2C), from mass, momentum and energy."""
    g, q = system.gamma, system.heat
    enthalpy = g / (g - 1) + speed**2 / 2  # ahead, at density and pressure 1, seen from the front

    def gas(reactant):
        # In the front's frame ρu = D, p + Du = 1 + D², and γ/(γ-1) p/ρ + u²/2 is ahead's and q Y's
        # share: a square in u, whose smaller root is behind a shock.
        a, b = (g + 1) / (g - 1) / 2, g / (g - 1) * (1 + speed**2) / speed
        c = enthalpy + q * (1 - reactant)
        u = (b - np.sqrt(np.maximum(b**2 - 4 * a * c, 0))) / (2 * a)
        return speed / u, u, 1 + speed**2 - speed * u

    def slope(_, reactant):
        density, u, pressure = gas(reactant)
        return -reactant * system.frequency * np.exp(-system.activation * density / pressure) / u

    path = solve_ivp(slope, (0, 10), [1.0], rtol=1e-9, atol=1e-12, dense_output=True)

    def profile(behind):
        reactant = path.sol(np.clip(behind, 0, 10))[0]
        density, u, pressure = gas(reactant)
        return np.stack([density, pressure, speed - u, 1 - reactant])

    return profile


def test_half_of_the_reactant_is_burnt_at_the_half_length():
    system = Reacting(ndim=1, heat=30.0, activation=14.0)
    burnt = znd(system, system.speed)(np.array([system.half_length]))[3, 0]
    assert burnt == pytest.approx(0.5, abs=1e-6)


def test_a_plane_wave_keeps_the_profile_of_zeldovich_von_neumann_and_doring():
    """After 15 half lengths. Required: a mean error of 1 % of the von Neumann state at 10 cells
    per half length, and at least 0.8 as order, as for any shock. The last cells are behind."""
    errors = []
    for points in (150, 300):
        system = Tube(ndim=1, heat=30.0, activation=14.0, half_length=1 / 30)
        profile = znd(system, system.speed)
        x = centres(points)
        time = 15 * system.half_length / system.speed

        def wave(place, x=x, profile=profile):
            behind = torch.from_numpy(profile(np.maximum(place - x.numpy(), 0)))
            ahead = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)[:, None]
            return torch.where(x < place, behind, ahead)[None]

        *_, state = system.run(system.state_of(wave(0.4)), [0.0, time])
        error = (system.observe(state) - wave(0.9)).abs().mean(dim=2)[0]
        errors.append(error / wave(0.9)[0].abs().amax(dim=1))
    assert errors[1].max() < 0.01
    assert torch.log2(errors[0] / errors[1]).min() > 0.8


def explode(system, time):
    """Temperature and reactant of gas that burns in place, from 2 and 1."""

    def slope(_, values):
        temperature, reactant = values
        burning = reactant * system.frequency * np.exp(-system.activation / temperature)
        return [(system.gamma - 1) * system.heat * burning, -burning]

    return solve_ivp(slope, (0, time), [2.0, 1.0], rtol=1e-10, atol=1e-12).y[:, -1]


def test_gas_at_rest_explodes_as_its_rate_says_with_order_two():
    """Steps of a tenth and a twentieth of the time in which half burns. Required: 1.9."""
    system = Torus(ndim=1, heat=20.0, activation=10.0)
    one = torch.ones(8, dtype=torch.float64)
    start = system.state_of(frame(one, 2 * one, 0 * one, 0 * one))
    time = 0.6 * math.exp(5.0) / system.frequency / (10 * 0.2 * 20 / 4)  # of the runaway at T = 2
    temperature, reactant = explode(system, time)
    assert 0.3 < reactant < 0.97
    errors = []
    for steps in (8, 16):
        state = start
        for _ in range(steps):
            state = system.step(state, torch.tensor([time / steps], dtype=torch.float64))
        stored = system.observe(state)[0, :, 0]
        left = 1 - stored[3].item()
        errors.append(abs(left - reactant))
        assert stored[1].item() - temperature == pytest.approx(
            -(left - reactant) * 0.2 * 20, rel=1e-4
        )
    assert math.log2(errors[0] / errors[1]) > 1.9


def test_what_burns_while_it_moves_is_of_order_two():
    """Reactant of no heat that decays at one rate and drifts around a periodic tube: exact. Without
    limiter; required: 1.9."""
    errors = []
    for points in (32, 64):
        system = Torus(ndim=1, heat=1e-9, activation=0.0, half_length=0.3, theta=math.inf)
        x = centres(points)
        one = torch.ones_like(x)
        time = 0.5

        def wave(x):
            return 0.5 + 0.3 * torch.sin(2 * torch.pi * x)

        *_, state = system.run(system.state_of(frame(one, one, one, 1 - wave(x))), [0.0, time])
        exact = wave(x - time) * math.exp(-system.frequency * time)
        errors.append((1 - system.observe(state)[0, 3] - exact).abs().mean())
    assert math.log2(errors[0] / errors[1]) > 1.9


@pytest.mark.parametrize(("ndim", "points"), [(1, 128), (2, 32)])
def test_mass_and_energy_are_conserved_and_what_is_burnt_stays_a_fraction(ndim, points):
    """In a closed vessel, with the energy of the bonds: to rounding. Much of it burns."""
    system = Reacting(ndim=ndim, heat=30.0)
    state = system.initial(range(2), points, seed=1)
    final = list(system.run(state, [0.0, 0.4]))[-1]
    space = tuple(range(2, 2 + ndim))

    def held(state):
        energy = state[:, -2] + system.heat * state[:, -1]
        return torch.stack([state[:, 0], energy], dim=1).sum(dim=space)

    torch.testing.assert_close(held(final), held(state), rtol=1e-12, atol=0)
    burnt = system.observe(final)[:, -1]
    assert burnt.min() >= -1e-12
    assert burnt.max() <= 1
    assert final[:, -1].sum() < 0.7 * state[:, -1].sum()


def test_a_front_runs_through_most_frames_of_a_tube():
    """In 12 of 20 intervals at least 1 % more is burnt, also where lean pockets hold it up. Fronts
    run both ways."""
    fields = simulate("reacting", trajectories=6, resolution=80, steps=21, seed=0, ndim=1)
    for field in fields:
        burnt = (field.values[:, 0] * field.values[:, -1]).mean(dim=(1, 2, 3))
        assert (burnt.diff() > 0.01 * burnt[-1]).sum() >= 12
    assert len({bool(field.values[0, 1, 0, 0, :40].max() > 10) for field in fields}) == 2


def test_tubes_are_covered_for_half_of_the_time():
    system = find_system("reacting")
    assert find_system("reacting", 1).span == pytest.approx(system.span / 2)
    assert find_system("reacting", 2) == system


@pytest.mark.parametrize("setting", [{"ndim": 3}, {"heat": 0.0}, {"radius": (0.2, 0.1)}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        Reacting(**setting)
