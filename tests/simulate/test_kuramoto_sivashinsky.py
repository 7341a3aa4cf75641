"""Wrinkled flame fronts: growth rates, mean, symmetry and a front that stays bounded."""

import math

import pytest
import torch

from matey.errors import ConfigError
from matey.simulate.kuramoto_sivashinsky import KuramotoSivashinsky


def last(system: KuramotoSivashinsky, state: torch.Tensor, time: float) -> torch.Tensor:
    return list(system.run(state, [0.0, time]))[-1]


@pytest.mark.parametrize("numbers", [(1,), (6,), (9,), (3, 0), (5, 2), (-4, 4)])
def test_small_waves_grow_and_decay_at_their_rate(numbers):
    """exp((k² - k⁴) t); the square of an amplitude of 1e-9 is below rounding."""
    system = KuramotoSivashinsky(ndim=len(numbers))
    centres = (torch.arange(32, dtype=torch.float64) + 0.5) * system.side / 32
    grids = torch.meshgrid(*[centres] * len(numbers), indexing="ij")
    k = [2 * math.pi / system.side * n for n in numbers]
    phase = sum((n * x for n, x in zip(k, grids, strict=True)), torch.zeros(()))
    wave = 1e-9 * phase.cos()[None, None]
    square = sum(n**2 for n in k)
    expected = math.exp((square - square**2) * 5) * wave
    torch.testing.assert_close(last(system, wave, 5.0), expected, rtol=0, atol=1e-16)


@pytest.mark.parametrize("ndim", [1, 2])
def test_the_mean_stays_and_the_front_is_bounded(ndim):
    """Rounding of 400 sums of numbers below 10. Slopes of the chaotic front are 1 to 2,
    and stay below the 6 that the time step is made for."""
    system = KuramotoSivashinsky(ndim=ndim)
    final = last(system, system.initial(range(4), 48, seed=0) + 0.5, 60.0)
    assert (final.flatten(1).mean(dim=1) - 0.5).abs().max() < 1e-12
    slope = final.diff(dim=-1) / (system.side / 48)
    assert 0.3 < slope.square().mean().sqrt() < 2
    assert slope.abs().max() < 6


def test_fronts_stay_bounded_for_long():
    """In single precision, on the coarsest grid. A part of the modes that no real field has
    would grow as exp(t / 4) from 1e-7, and break the solution at 150."""
    system = KuramotoSivashinsky(courant=2.0)
    final = last(system, system.initial([0], 32, seed=1).float(), 220.0)
    assert final.abs().max() < 40


def test_slopes_obey_the_conservative_form():
    """u = h_x: u_t = -(u²/2)_x - u_xx - u_xxxx, by central differences in time over 2e-3.

    Their error is a millionth of the third derivative in time, about 10.
    """
    system = KuramotoSivashinsky(ndim=1)
    state = last(system, system.initial([0], 64, seed=2), 20.0)
    frames = [frame[0, 0] for frame in system.run(state, [0.0, 1e-3, 2e-3])]
    k = 2 * torch.pi / system.side * torch.fft.rfftfreq(64, 1 / 64, dtype=torch.float64)
    kept = k <= k[21]

    def modes(values: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfft(values) * kept

    u = torch.fft.irfft(1j * k * modes(frames[1]))
    rate = torch.fft.irfft(1j * k * modes(frames[2] - frames[0])) / 2e-3
    right = (k**2 - k**4) * modes(u) - 1j * k * modes(u**2 / 2)
    torch.testing.assert_close(rate, torch.fft.irfft(right), rtol=0, atol=1e-4)


def test_time_steps_are_of_order_four():
    """Against a quarter of the shorter step; higher terms leave 0.3, as waves that decay fast
    start away from where the long ones drive them."""
    state = KuramotoSivashinsky(ndim=1).initial([0], 64, seed=0)
    finals = [
        last(KuramotoSivashinsky(ndim=1, courant=courant), state, 5.0)
        for courant in (0.5, 0.25, 0.0625)
    ]
    errors = [(final - finals[-1]).norm() for final in finals[:2]]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.3)


def test_grids_that_miss_the_damped_waves_are_refused():
    with pytest.raises(ConfigError, match="resolution is 16, expected 32 points or more"):
        KuramotoSivashinsky().grid(16)
