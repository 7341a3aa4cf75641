"""Burgers' equation against the solution of Cole and Hopf, momentum and symmetry."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from matey.simulate.burgers import Burgers
from matey.simulate.schemes.spectral import Box, random_waves


def cole_hopf(system: Burgers, points: int, time: float) -> torch.Tensor:
    """u = -2ν ∇φ / φ of a φ that diffuses: a sum of decaying waves and a constant."""
    nu, k = system.Nu / math.pi, 2 * math.pi
    x = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    grids = torch.meshgrid(*[x] * system.ndim, indexing="ij")[::-1]  # x, y, z
    phi = torch.full_like(grids[0], 4.0)
    gradient = torch.zeros(system.ndim, *phi.shape, dtype=torch.float64)
    for numbers, phase in (((1, 0, 0), 0.0), ((0, 1, 0), 1.0), ((1, 1, 1), 2.0), ((2, 0, -1), 3.0)):
        waves = numbers[: system.ndim]
        angle = phase + sum((k * n * grid for n, grid in zip(waves, grids, strict=True)), 0 * phi)
        decay = math.exp(-nu * k**2 * sum(n**2 for n in waves) * time)
        phi += decay * angle.cos()
        for axis, n in enumerate(waves):
            gradient[axis] -= decay * k * n * angle.sin()
    return (-2 * nu * gradient / phi)[None]


def last(system: Burgers, state: torch.Tensor, time: float) -> torch.Tensor:
    return list(system.run(state, [0.0, time]))[-1]


@pytest.mark.parametrize(("ndim", "points"), [(1, 64), (2, 48), (3, 24)])
def test_the_solution_of_cole_and_hopf_is_reproduced(ndim, points):
    """In 1D and 2D the error is that of the time step; on 24 points a side, that of the 8
    periods kept, which are five times smaller each."""
    system = Burgers(ndim=ndim, Nu=0.3, courant=0.5)
    found = last(system, cole_hopf(system, points, 0.0), 0.2)
    exact = cole_hopf(system, points, 0.2)
    assert (found - exact).norm() / exact.norm() < {1: 1e-9, 2: 1e-8, 3: 1e-4}[ndim]


def test_time_steps_are_of_order_four():
    """With 64 points the grid's error is far below that of 6 and 12 steps."""
    errors = []
    for courant in (4.0, 2.0):
        system = Burgers(ndim=1, Nu=0.6, courant=courant)
        found = last(system, cole_hopf(system, 64, 0.0), 0.1)
        errors.append((found - cole_hopf(system, 64, 0.1)).norm())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.3)


def test_momentum_is_conserved_where_the_velocity_is_irrotational():
    """To rounding of 200 steps: in one dimension, and for a gradient in two."""
    line = Burgers(ndim=1)
    state = line.initial(range(3), 64, seed=0) + 0.3
    assert (last(line, state, 0.5) - state).mean(dim=-1).abs().max() < 1e-14
    plane = Burgers(ndim=2)
    box = Box((32, 32), 1.0, state)
    potential = 0.1 * random_waves(np.random.default_rng(0), 1, 2, 32, 3)[None]
    state = box.values(box.gradient(box.modes(potential))).flip(1)
    assert (last(plane, state, 0.2) - state).mean(dim=(-2, -1)).abs().max() < 1e-14


def test_x_and_y_may_be_exchanged():
    """Components change places with the axes; 100 steps of rounding."""
    system = Burgers(ndim=2)
    state = system.initial([4], 32, seed=0)
    swapped = state.flip(1).transpose(-1, -2)
    expected = last(system, state, 0.3).flip(1).transpose(-1, -2)
    torch.testing.assert_close(last(system, swapped, 0.3), expected, rtol=0, atol=1e-12)


def test_mirrored_velocity_stays_mirrored():
    system = Burgers(ndim=1)
    state = system.initial([2], 64, seed=0)
    expected = -last(system, state, 0.5).flip(-1)
    torch.testing.assert_close(last(system, -state.flip(-1), 0.5), expected, rtol=0, atol=1e-12)


def test_a_flow_along_x_alone_is_that_of_one_dimension():
    """v = 0 stays, and u obeys the equation on a line."""
    line, plane = Burgers(ndim=1), Burgers(ndim=2, courant=2 * 2**0.5)  # of equal steps
    state = line.initial([1], 32, seed=3)
    spread = torch.stack((state[:, 0, None].expand(-1, 32, -1), torch.zeros(1, 32, 32)), dim=1)
    found = last(plane, spread, 0.4)
    torch.testing.assert_close(found[:, 0, 5], last(line, state, 0.4)[:, 0], rtol=0, atol=1e-12)
    assert found[:, 1].abs().max() < 1e-14


def test_fronts_are_resolved_at_default_settings():
    """The largest velocity never grows, which unresolved fronts would break; 1 % of it for
    maxima between grid points, which may come to lie on one."""
    system = Burgers()
    state = system.initial(range(8), 64, seed=1)
    largest = [frame.abs().amax(dim=(1, 2, 3)) for frame in system.run(state, [0, 0.1, 0.3, 1.0])]
    for before, after in pairwise(largest):
        assert (after < 1.01 * before).all()
