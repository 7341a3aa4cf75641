"""Gray and Scott's reaction against its ordinary equation, exact decay and symmetry."""

import math

import pytest
import torch

from matey.simulate.gray_scott import GrayScott
from matey.simulate.schemes.stepper import rk4


def last(system: GrayScott, state: torch.Tensor, time: float) -> torch.Tensor:
    return list(system.run(state, [0.0, time]))[-1]


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_mixed_reactor_follows_the_ordinary_equation(ndim):
    """A uniform state has no diffusion; its rate, integrated by another method in steps of
    0.01 s, whose error is below rounding. Steps of 0.1 s leave 4e-10."""
    system = GrayScott(ndim=ndim, step=0.1)

    def rate(state: torch.Tensor) -> torch.Tensor:
        A, B = state
        reaction = A * B**2
        return torch.stack((-reaction + system.F * (1 - A), reaction - (system.F + system.k) * B))

    expected = torch.tensor([0.6, 0.4], dtype=torch.float64)
    state = expected.reshape(1, 2, *[1] * ndim).expand(1, 2, *[8] * ndim).clone()
    for _ in range(2000):
        expected = rk4(rate, expected, 0.01)
    found = last(system, state, 20.0)[0].flatten(1)
    torch.testing.assert_close(found, expected[:, None].expand(found.shape), rtol=0, atol=1e-9)


def test_without_b_waves_of_a_die_out_exactly():
    """A - 1 decays at the rate Du k² + F in one long step: the equation is linear."""
    system = GrayScott(ndim=2, step=1e3)
    x = (torch.arange(32, dtype=torch.float64) + 0.5) / 32
    wave = 0.1 * (2 * torch.pi * (3 * x[:, None] + 2 * x)).cos()
    state = torch.stack((1 + wave, torch.zeros_like(wave)))[None]
    rate = system.Du * (2 * math.pi / system.side) ** 2 * 13 + system.F
    expected = 1 + wave * math.exp(-50 * rate)
    found = last(system, state, 50.0)
    torch.testing.assert_close(found[0, 0], expected, rtol=0, atol=1e-14)
    assert not found[:, 1].any()


def test_time_steps_are_of_order_four():
    """Against a quarter of the shorter step; higher terms leave 0.3."""
    state = GrayScott(ndim=1).initial([0], 64, seed=0)
    finals = [last(GrayScott(ndim=1, step=step), state, 64.0) for step in (4.0, 2.0, 0.5)]
    errors = [(final - finals[-1]).norm() for final in finals[:2]]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.3)


def test_patterns_grow_and_stay_within_what_is_fed():
    """Spots become stripes: B spreads, and neither leaves [0, 1] by more than 1 %, the grid's
    error."""
    system = GrayScott()
    state = system.initial(range(2), 64, seed=0)
    final = last(system, state, 600.0)
    assert final.min() > -0.01
    assert final.max() < 1.01
    assert (final[:, 1] > 0.1).double().mean() > 2 * (state[:, 1] > 0.1).double().mean()


def test_spots_are_the_same_on_every_grid():
    """Cells of 16 have their centres at those of every third of 48."""
    system = GrayScott(ndim=2)
    coarse, fine = (system.initial([5], points, seed=2) for points in (16, 48))
    torch.testing.assert_close(coarse, fine[:, :, 1::3, 1::3])
