"""Ideal magnetohydrodynamics against exact waves, published shock tubes, and what it conserves."""

import math

import pytest
import torch

from matey.errors import ConfigError
from matey.simulate.mhd import MHD, centred, curl
from matey.simulate.schemes.hlld import conserved, hlld_flux, parts, plain_flux

GAMMA = 5 / 3


def last(system, state, time):
    """The state at a time."""
    return list(system.run(state, [0.0, time]))[-1]


def divergence(system, state):
    """Of the field on the faces, times the spacing."""
    field = parts(state)[3]
    ndim = state.ndim - 2
    return sum(field[:, a] - field[:, a].roll(1, -1 - a) for a in range(ndim))


def state_of(density, velocity, pressure, faces, gamma=GAMMA):
    """The state [1 S *points] of gas at the centres and a field on the faces [3 *points]."""
    gas = torch.cat((density[None], velocity, pressure[None], centred(faces[None])[0]))
    state = conserved(gas[None], gamma)
    parts(state)[3][:] = faces
    return state


def alfven_wave(points: int):
    """A circularly polarised wave along (1, 2) in the unit square, and the time it takes to come
    round. Source: Tóth, J. Comput. Phys. 161 (2000) 605, section 6.3.1, in another direction."""
    index = torch.arange(points, dtype=torch.float64)
    wave = 2 * math.pi * math.sqrt(5)
    along = torch.tensor([1.0, 2.0], dtype=torch.float64) / math.sqrt(5)

    def phase(share):
        place = (index + share) / points
        return wave * (along[0] * place + along[1] * place[:, None])

    # B = ∇ × A + (1, 2)/√5 with A along z on the corners: amplitude 0.1 across the wave.
    potential = 0.1 / wave * phase(1.0).cos()
    faces = torch.zeros(3, points, points, dtype=torch.float64)
    faces[:2] = curl({(0, 1): potential[None]}, [1 / points] * 2)[0] + along[:, None, None]
    centre = phase(0.5)
    faces[2] = 0.1 * centre.cos()
    across = 0.1 * centre.sin()
    velocity = torch.stack((-along[1] * across, along[0] * across, faces[2]))
    one = torch.ones_like(centre)
    return state_of(one, velocity, 0.1 * one, faces), 2 * math.pi / wave


def test_a_circularly_polarised_wave_converges_with_order_two():
    """Exact for any amplitude. It comes round in time 1/√5; without limiter. Required: 1.9."""
    errors = []
    for points in (16, 32):
        state, period = alfven_wave(points)
        system = MHD(theta=math.inf)
        end = last(system, state, period)
        errors.append((end - state).abs().mean())
        assert divergence(system, end).abs().max() < 1e-14
    assert math.log2(errors[0] / errors[1]) > 1.9
    assert errors[1] < 0.005


def tube(points, left, right, gamma, time):
    """A shock tube on [-1/2, 1/2] at a time; gas is (density, velocity, pressure, field).

    One dimension of a periodic box of twice the length, the other half of which holds the
    same tube turned round. Gives x and the stored gas [S X].
    """
    x = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    sides = (torch.tensor(gas, dtype=torch.float64)[:, None] for gas in (left, right))
    gas = torch.where((x - 0.5).abs() < 0.25, *sides)[None]
    end = last(system := MHD(gamma=gamma), conserved(gas, gamma), time / 2)
    x = 2 * (x - 0.75)
    inside = x.abs() < 0.4375
    return x[inside], system.primitive(end)[0][:, inside]


def mean_over(x, values, low, high):
    """Mean between two places, which a plateau's ripples do not move."""
    return values[..., (x > low) & (x < high)].mean(dim=-1)


def test_all_seven_waves_of_dai_and_woodwards_tube_have_the_published_states():
    """Two fast shocks, two rotations, two slow shocks and a contact at t = 0.2. Published
    densities between them: 1.4903, 1.6343, 1.4735, 1.3090 (Dai and Woodward, J. Comput. Phys. 111
    (1994) 354; Ryu and Jones, Astrophys. J. 442 (1995) 228, figure 2a). Within 0.2 %, for
    the dip that the first steps leave beside the contact."""
    unit = 1 / math.sqrt(4 * math.pi)
    left = (1.08, 1.2, 0.01, 0.5, 0.95, 2 * unit, 3.6 * unit, 2 * unit)
    right = (1, 0, 0, 0, 1, 2 * unit, 4 * unit, 2 * unit)
    x, gas = tube(512, left, right, GAMMA, 0.2)
    plateaus = ((-0.12, 0.0), (0.08, 0.1), (0.148, 0.163), (0.25, 0.4))
    densities = [mean_over(x, gas[0], *ends).item() for ends in plateaus]
    assert densities == pytest.approx([1.4903, 1.6343, 1.4735, 1.3090], rel=2e-3)
    # Rotations turn the field and leave its strength: before and behind the fast one's trail.
    strength = (gas[5:] ** 2).sum(dim=0)
    behind, before = mean_over(x, strength, 0.205, 0.212), mean_over(x, strength, 0.25, 0.4)
    assert behind == pytest.approx(before.item(), rel=0.01)
    turned = mean_over(x, gas[6], 0.25, 0.4) - mean_over(x, gas[6], 0.19, 0.2)
    assert abs(turned) > 0.05


def brio_wu(points):
    """Brio and Wu, J. Comput. Phys. 75 (1988) 400, at t = 0.1, γ = 2."""
    return tube(points, (1, 0, 0, 1, 0.75, 1), (0.125, 0, 0, 0.1, 0.75, -1), 2.0, 0.1)


def test_brio_and_wus_tube_converges_to_a_fine_run_and_its_slow_shock_is_a_shock():
    """Mean error of the density against 1024 points; discontinuities spread less than as h to the
    0.7. Across the slow shock mass, momentum, energy and field keep to the jump conditions: the
    five give one speed, within 1 %."""
    x, fine = brio_wu(1024)
    errors = []
    for points in (128, 256):
        _, gas = brio_wu(points)
        means = fine.unflatten(-1, (gas.shape[-1], -1)).mean(dim=-1)
        errors.append((gas[0] - means[0]).abs().mean().item())
    assert errors[1] < 0.01
    assert math.log2(errors[0] / errors[1]) > 0.7
    behind, before = (mean_over(x, fine, *ends) for ends in ((0.08, 0.125), (0.18, 0.28)))
    sides = torch.stack((behind, before))[..., None]
    states = conserved(sides, 2.0)
    _, _, pressure, field = parts(sides)
    fluxes = plain_flux(sides, states, pressure + (field**2).sum(dim=1) / 2, 0)
    jumps = [(values[0] - values[1])[..., 0] for values in (states, fluxes)]
    moving = torch.tensor([0, 1, 2, 3, 5])  # all but the field along the tube
    speeds = (jumps[1] / jumps[0])[moving]
    assert speeds == pytest.approx(speeds.mean().item(), rel=0.01)
    # Published plateaus of the density: 0.676 behind the fast fan, 0.696 and 0.235 beside the
    # contact, 0.117 before the slow shock.
    plateaus = ((-0.07, -0.045), (0.0, 0.04), (0.08, 0.125), (0.18, 0.28))
    densities = [mean_over(x, fine[0], *ends).item() for ends in plateaus]
    assert densities == pytest.approx([0.676, 0.696, 0.235, 0.117], rel=0.01)


def random_gas(components, seed):
    random = torch.Generator().manual_seed(seed)
    gas = torch.randn(1, 2 * components + 2, 60, 50, dtype=torch.float64, generator=random)
    for positive in (0, 1 + components):
        gas[:, positive] = gas[:, positive].exp()
    return gas


@pytest.mark.parametrize("components", [2, 3])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_solver_is_consistent_and_knows_no_left_and_right(components, axis):
    """Equal gas on both sides gives its own flux; the mirror image gives the image. To rounding
    of sums of a hundred, which weak fields in fast gas lose."""
    left, right = random_gas(components, 0), random_gas(components, 1)
    normal = components + 2 + axis
    right[:, normal] = left[:, normal]
    state = conserved(left, GAMMA)
    _, _, pressure, field = parts(left)
    own = plain_flux(left, state, pressure + (field**2).sum(dim=1) / 2, axis)
    torch.testing.assert_close(hlld_flux(left, left, axis, GAMMA), own, rtol=1e-9, atol=1e-9)
    mirror = torch.ones(2 * components + 2, 1, 1, dtype=torch.float64)
    mirror[[1 + axis, normal]] = -1
    flux = hlld_flux(left, right, axis, GAMMA)
    image = hlld_flux(right * mirror, left * mirror, axis, GAMMA)
    torch.testing.assert_close(image, -mirror * flux, rtol=1e-9, atol=1e-9)


def test_contacts_and_rotations_at_rest_are_kept_exactly():
    """Density alone jumps; or the field turns in gas that moves with it, at the Alfvén speed."""
    still = torch.tensor([1.0, 0, 0, 0, 0.7, 0.5, 0.3, -0.2], dtype=torch.float64).view(1, -1, 1)
    dense = still.clone()
    dense[:, 0] = 3.0
    flux = hlld_flux(still, dense, 0, GAMMA)[0, :, 0]
    assert flux[[0, 4, 6, 7]].abs().max() < 1e-15
    # An Alfvén wave at rest: gas flows through it with u = B_n/√ρ, and v = B_t/√ρ on both sides.
    before = torch.tensor([1.0, 0.5, 0.4, 0, 0.7, 0.5, 0.4, 0], dtype=torch.float64).view(1, -1, 1)
    behind = torch.tensor([1.0, 0.5, 0, 0.4, 0.7, 0.5, 0, 0.4], dtype=torch.float64).view(1, -1, 1)
    first, second = (hlld_flux(gas, gas, 0, GAMMA) for gas in (before, behind))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-15)
    torch.testing.assert_close(hlld_flux(before, behind, 0, GAMMA), first, rtol=0, atol=1e-14)


@pytest.mark.parametrize("ndim", [2, 3])
def test_fields_stay_free_of_divergence_and_everything_is_conserved(ndim):
    """Through shocks and blasts. Only rounding of some hundred sums is there."""
    points = {2: 24, 3: 12}[ndim]
    system = MHD(ndim=ndim, blasts=(1, 2))
    state = system.initial([0, 1], points, seed=2)
    final = last(system, state, 0.2)
    for moment in (state, final):
        assert divergence(system, moment).abs().max() < 1e-13
    change = (final - state).flatten(2).sum(dim=-1).abs()
    assert (change / state.abs().flatten(2).sum(dim=-1)).max() < 1e-12
    assert (final - state).norm() > 0.1 * state.norm()


def orszag_tang(points: int):
    """The vortex, with the numbers of Stone et al., Astrophys. J. Suppl. 178 (2008) 137."""
    place = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    far = place + 0.5 / points
    strength = 1 / math.sqrt(4 * math.pi)
    potential = (4 * math.pi * far).cos() / (4 * math.pi)
    potential = strength * (potential + (2 * math.pi * far).cos()[:, None] / (2 * math.pi))
    faces = curl({(0, 1): potential[None]}, [1 / points] * 2)[0]
    sine = (2 * math.pi * place).sin()
    velocity = torch.stack(torch.broadcast_tensors(-sine[:, None], sine))
    one = torch.ones(points, points, dtype=torch.float64)
    return state_of(25 / (36 * math.pi) * one, velocity, 5 / (12 * math.pi) * one, faces)


def test_the_orszag_tang_vortex_keeps_its_symmetry():
    """Turned by half a circle about the middle it is itself. On 48 points at t = 0.25 shocks have
    formed; rounding has grown to 1e-12."""
    system = MHD()
    final = system.observe(last(system, orszag_tang(48), 0.25))
    sign = torch.tensor([1, 1, -1, -1, -1, -1], dtype=torch.float64).view(-1, 1, 1)
    torch.testing.assert_close(final.flip(-1, -2), final * sign, rtol=0, atol=1e-9)
    assert final[:, 0].max() > 2 * final[:, 0].min()


def test_no_pressure_is_lost_in_a_strong_blast():
    """A hundred times the pressure, in a field of twenty times the background's: every fifth step
    falls back to first order."""
    system = MHD(M=0.1, beta=0.05, blasts=(1, 1), burst=(100.0, 100.0))
    final = last(system, system.initial([0], 32, seed=0), 0.02)
    gas = system.primitive(final)
    assert final.isfinite().all()
    assert parts(gas)[2].min() > 0
    assert parts(gas)[0].min() > 0


def test_the_initial_state_has_the_numbers_asked_for():
    system = MHD(M=0.7, beta=2.0, blasts=(0, 0))
    density, velocity, pressure, field = parts(system.primitive(system.initial([0, 1], 64, 3)))
    speed = (velocity**2).sum(dim=1).mean(dim=(-2, -1)).sqrt()
    assert speed == pytest.approx(0.7, rel=1e-6)
    assert pressure == pytest.approx(density / GAMMA, rel=1e-6)
    # A cross term of waves and uniform field has mean 0; means of faces lose 0.5 % at 64 points.
    assert 2 * pressure.mean() / (field**2).sum(dim=1).mean(dim=(-2, -1)) == pytest.approx(
        2, rel=0.01
    )


@pytest.mark.parametrize("wrong", [{"gamma": 1.0}, {"beta": 0.0}, {"ndim": 1}, {"blasts": (2, 1)}])
def test_numbers_out_of_range_are_refused_by_name(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"{name} is"):
        MHD(**wrong)
