"""How simulators move in time."""

import math

import pytest
import torch

from matey.errors import ConfigError
from matey.simulate.stepper import march, rk4, wicker_skamarock


def decay_error(step, count: int) -> float:
    """Error at time 1 of y' = -y² from 1, whose solution is 1 / (1 + t)."""
    state = torch.ones(1, dtype=torch.float64)
    for _ in range(count):
        state = step(state, 1 / count)
    return abs(state.item() - 0.5)


def growth_error(step, count: int) -> float:
    """Error at time 1 of y' = y from 1."""
    state = torch.ones(1, dtype=torch.float64)
    for _ in range(count):
        state = step(state, 1 / count)
    return abs(state.item() - math.e)


def order(error, step) -> float:
    """Measured order between 64 and 128 steps, where higher terms still change it by 0.1."""
    return math.log2(error(step, 64) / error(step, 128))


def test_rk4_is_of_order_four():
    assert order(decay_error, lambda y, dt: rk4(lambda y: -(y**2), y, dt)) == pytest.approx(
        4, abs=0.1
    )


def test_wicker_skamarock_is_of_order_three_for_linear_rates_and_two_for_others():
    linear = lambda y, dt: wicker_skamarock(lambda base, at, h: base + h * at, y, dt)  # noqa: E731
    square = lambda y, dt: wicker_skamarock(lambda base, at, h: base - h * at**2, y, dt)  # noqa: E731
    assert order(growth_error, linear) == pytest.approx(3, abs=0.1)
    assert order(decay_error, square) == pytest.approx(2, abs=0.1)


def test_steps_hit_the_output_times_and_are_never_longer_than_allowed():
    taken: list[float] = []

    def step(state, dt, number):
        assert number == len(taken)
        taken.append(dt)
        return state + dt

    times = [0.0, 0.3, 0.35, 1.0]
    states = list(march(torch.zeros(1, dtype=torch.float64), times, 0.1, step))
    torch.testing.assert_close(torch.cat(states), torch.tensor(times, dtype=torch.float64))
    assert max(taken) <= 0.1 * (1 + 1e-9)  # march forgives 1e-9 of rounding
    assert len(taken) == 3 + 1 + 7


def test_output_times_must_increase():
    with pytest.raises(ConfigError, match="must increase"):
        list(march(torch.zeros(1), [0.0, 1.0, 1.0], 0.1, lambda state, dt, number: state))
