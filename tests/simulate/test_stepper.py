"""How simulators move in time."""

import math

import pytest
import torch

from matey.errors import ConfigError
from matey.simulate.schemes.stepper import march, march_apart, rk4, wicker_skamarock


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


def test_every_trajectory_takes_its_own_steps_to_the_output_times():
    """Longest steps of 0.3, 0.07 and 1: what one takes does not depend on the others."""
    longest = torch.tensor([0.3, 0.07, 1.0], dtype=torch.float64)
    taken: list[list[float]] = [[], [], []]

    def step(state, dt):
        for number, length in zip(state[:, 1].int().tolist(), dt.tolist(), strict=True):
            taken[number].append(length)
        return state + torch.stack([dt, torch.zeros_like(dt)], dim=1)

    def allowed(state):
        return longest[state[:, 1].int()]

    start = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 2.0]], dtype=torch.float64)
    states = torch.stack(list(march_apart(start, [0.0, 0.5, 1.0], allowed, step)))
    times = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(states[:, :, 0], times[:, None].expand(3, 3), rtol=0, atol=1e-15)
    assert [len(steps) for steps in taken] == [4, 16, 2]
    assert taken[0] == pytest.approx([0.3, 0.2, 0.3, 0.2])
    assert not start[:, 0].any()


@pytest.mark.parametrize("broken", [0.0, 1e-9, math.nan])
def test_a_trajectory_that_never_arrives_is_no_longer_a_number_and_others_go_on(broken):
    """It would otherwise be marched for ever."""

    def allowed(state):
        return torch.where(state > 5, broken, 0.25).double()

    start = torch.tensor([0.0, 10.0], dtype=torch.float64)
    final = list(march_apart(start, [0.0, 1.0], allowed, lambda state, dt: state + dt))[-1]
    assert final[0] == 1
    assert final[1].isnan()
