"""Two fluids: the interface's profile, Laplace's law, energy, mass, order in time, symmetry."""

import math
from dataclasses import replace

import pytest
import torch

from matey.errors import ConfigError
from matey.simulate import simulate
from matey.simulate.schemes.spectral import Box
from matey.simulate.two_phase import TwoPhase


def last(system: TwoPhase, state: torch.Tensor, time: float) -> torch.Tensor:
    return list(system.run(state, [0.0, time]))[-1]


def centres(points: int) -> torch.Tensor:
    """From -1/2 to 1/2, across a box of side 1."""
    return (torch.arange(points, dtype=torch.float64) + 0.5) / points - 0.5


def at_rest(phase: torch.Tensor) -> torch.Tensor:
    return torch.stack((phase, torch.zeros_like(phase)))[None]


@pytest.mark.parametrize(("cells", "error"), [(1.25, 4e-3), (2.0, 1e-4)])
def test_an_interface_becomes_a_hyperbolic_tangent(cells, error):
    """A slab with edges that start too thick. The grid holds waves up to k = 2π/3 over the spacing,
    and the spectrum of the profile falls as exp(-π k ε / √2): to 3e-3 and 9e-5 of what is largest
    with 1.25 and with 2 cells. Measured: 3.5e-3 and 8.3e-5, all of it ripples of the grid."""
    points = 64
    system = TwoPhase(cells=cells, gravity=0.0, recovery=3.0)
    epsilon = system.epsilon(points)
    # Eight rows: a box needs not be square for what does not vary along y.
    inside = (0.25 - centres(points).abs()).expand(8, points)
    thick = at_rest((inside / (2 * epsilon)).tanh())
    found = last(system, thick, 2.0)
    exact = (inside / (math.sqrt(2) * epsilon)).tanh()
    assert (found[0, 0] - exact).abs().max() < error
    assert (thick[0, 0] - exact).abs().max() > 0.1
    # It carries the surface tension: the energy of two edges of length 1 is 2 σ.
    assert system.energies(found)[0, 1].item() == pytest.approx(2 * system.sigma, rel=error)


@pytest.mark.parametrize("radius", [0.2, 0.3])
def test_the_pressure_in_a_drop_is_that_of_laplace(radius):
    """σ / R higher than outside, R being that of a disc of as much of the inner fluid. 2 %: the
    sharp interface's law up to terms of relative order (ε / R)², of which ε / R = 0.1 has 1 %.

    Both fluids start as the drop's potential, σ / 2R, shifts them: by it over the slope 2 s / ε.
    """
    points = 64
    system = TwoPhase(gravity=0.0)
    epsilon, x = system.epsilon(points), centres(points)
    depth = radius - torch.hypot(x[:, None], x)
    shift = math.sqrt(8) * epsilon / (12 * radius)
    state = last(system, at_rest((depth / (math.sqrt(2) * epsilon)).tanh() + shift), 0.5)
    box = Box((points, points), system.side, state)
    modes = box.modes(state)
    epsilon, strength, _ = system.coefficients(box)
    phase = modes[:, :1]
    cube = box.modes(box.values(phase) ** 3)
    mu = box.values(strength * ((cube - phase) / epsilon + epsilon * box.square * phase))
    force = box.modes(mu * box.values(box.gradient(phase)))
    square = box.square.clone()
    square[box.mean] = torch.inf
    pressure = box.values((-1j * box.wavenumbers * force).sum(dim=1, keepdim=True) / square)[0, 0]
    middle, corner = pressure[32, 32].item(), pressure[0, 0].item()
    inner, outer = state[0, 0, 32, 32].item(), state[0, 0, 0, 0].item()
    area = (state[0, 0].mean().item() - outer) / (inner - outer)
    assert middle - corner == pytest.approx(system.sigma * math.sqrt(math.pi / area), rel=0.02)
    # At rest: speeds far below that of capillary waves, (σ / R)^½ = 0.2.
    assert system.observe(state)[:, 1:].abs().max() < 1e-3


@pytest.mark.parametrize("number", range(4))
def test_energy_never_rises_and_mass_stays(number):
    """Without weight. Drops and mixtures; mass to the rounding of sums over 48² points."""
    system = TwoPhase(gravity=0.0, stir=(4.0, 4.0))
    state = system.initial([number], 48, seed=1)
    frames = list(system.run(state, [0.1 * frame for frame in range(11)]))
    energy = torch.stack([system.energies(frame).sum() for frame in frames])
    assert (energy.diff() < 0).all()
    assert energy[-1] < 0.99 * energy[0]
    assert max(abs(frame[:, 0].mean() - state[:, 0].mean()) for frame in frames) < 1e-14


def test_energy_goes_where_viscosity_and_diffusion_take_it():
    """The rate of the energy is -ν ∫ ω² - M ∫ |∇μ|², to rounding: its gradient times the rate of
    the state. Advection, by which both energies change hands, has no share."""
    points = 32
    system = TwoPhase(gravity=0.0)
    state = system.initial([0], points, seed=1)
    box = Box((points, points), system.side, state)
    state = box.values(box.modes(state)).requires_grad_()
    (slope,) = torch.autograd.grad(system.energies(state).sum(), state)
    state = state.detach()
    modes = box.modes(state)
    rate = box.values(system.linear(box) * modes + system.nonlinear(modes, box))
    epsilon, strength, mobility = system.coefficients(box)
    phase = modes[:, :1]
    cube = box.modes(box.values(phase) ** 3)
    mu = strength * ((cube - phase) / epsilon + epsilon * box.square * phase)
    viscous = system.NU * state[:, 1].square().mean()
    diffusive = mobility * box.values(box.gradient(mu)).square().sum(dim=1).mean()
    assert viscous > 1e-5
    assert diffusive > 1e-5
    found = (slope * rate).sum().item()
    assert found == pytest.approx(-(viscous + diffusive).item(), rel=1e-10)


def test_time_steps_are_of_order_four():
    """Of a mixture in a flow, by both variables; higher terms leave 0.1. Diffusion is slow: with
    ten times the mobility it is stiff, and errors of the same size fall with order 3.8."""
    points, time = 16, 0.2
    first = TwoPhase(cells=2.0, NU=0.01, recovery=0.003, mixtures=1.0, waves=3)
    state = first.initial([2], points, seed=0)
    longest = first.longest_step(Box((points, points), 1.0, state)) / first.fraction
    finals = [
        last(replace(first, fraction=time / (longest * steps)), state, time)
        for steps in (10, 20, 80)
    ]
    errors = [(final - finals[-1]).square().sum(dim=(0, 2, 3)).sqrt() for final in finals[:2]]
    for coarse, fine in zip(*errors, strict=True):
        assert math.log2(coarse / fine) == pytest.approx(4, abs=0.1)


def test_finer_grids_converge_faster_than_any_power():
    """Of a mixture with ε = 1/12, by its modes, whose phases alone depend on where centres are:
    by more than 2⁸ when the spacing is halved."""
    found = []
    for points in (16, 32, 64):
        system = TwoPhase(cells=points / 12, mixtures=1.0, waves=3, fraction=0.2)
        state = last(system, system.initial([0], points, seed=3), 0.2)
        found.append(Box((points, points), 1.0, state).modes(state).abs() / points**2)
    errors = [
        (modes[..., rows, :6] - found[2][..., rows, :6]).norm()
        for modes in found[:2]
        for rows in [torch.arange(-5, 6)]
    ]
    assert errors[1] < errors[0] / 2**8


def test_light_drops_rise_and_heavy_ones_sink():
    """The lighter fluid goes up and the box stays: no mean velocity, and all of one fluid's
    momentum is against the other's."""
    system = TwoPhase(stir=(0.0, 0.0), mixtures=0.0)
    state = last(system, system.initial(range(3), 48, seed=4), 0.3)
    phase, u, v = system.observe(state).unbind(1)
    assert (((phase - phase.mean(dim=(1, 2), keepdim=True)) * v).mean(dim=(1, 2)) > 0.01).all()
    for component in (u, v):
        assert component.mean(dim=(1, 2)).abs().max() < 1e-15


def test_a_mirror_and_the_exchange_of_fluids_make_solutions():
    """x → -x turns u and ω. And fluids that change places rise where the others sank: y → -y with
    φ → -φ. To the rounding of 100 steps that amplify it."""
    system = TwoPhase()
    state = system.initial([0, 1], 24, seed=3)
    end = last(system, state, 0.3)
    across = state.flip(-1) * torch.tensor([1.0, -1.0])[:, None, None]
    expected = end.flip(-1) * torch.tensor([1.0, -1.0])[:, None, None]
    torch.testing.assert_close(last(system, across, 0.3), expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(last(system, -state.flip(-2), 0.3), -end.flip(-2), rtol=0, atol=1e-9)


def test_drops_of_either_fluid_lie_apart():
    """Between their centres is at least the gap and both radii, so the depth in the outer
    fluid between any two of them is at least half the gap."""
    system = TwoPhase(mixtures=0.0, gap=0.1)
    fields = [system.initial([number], 64, seed=2)[0, 0] for number in range(12)]
    assert len({float(field.mean()) for field in fields}) == 12
    assert {math.copysign(1, field.mean()) for field in fields} == {-1.0, 1.0}
    # As many pieces as areas say: discs whose number and radii are in range.
    for field in fields:
        inside = (field * -field.mean() > 0).double().mean().item()
        assert 3 * math.pi * 0.07**2 * 0.9 < inside < 7 * math.pi * 0.15**2


def test_fields_start_alike_on_all_grids_and_settings_are_checked():
    coarse, fine = (
        simulate("two_phase", trajectories=1, resolution=points, steps=2, seed=0, frames=1)
        for points in (16, 48)
    )
    torch.testing.assert_close(
        coarse[0].values[:, 1:].norm(), fine[0].values[:, 1:].norm() / 3, rtol=0.02, atol=0
    )
    with pytest.raises(ConfigError, match="sigma is 0, expected a number above 0"):
        TwoPhase(sigma=0)
    with pytest.raises(ConfigError, match="drops is"):
        TwoPhase(drops=(3, 2))
