"""The shared spectral stepper: exact waves, measured order, products without aliasing."""

import math

import numpy as np
import pytest
import torch

from matey.errors import ConfigError
from matey.simulate import SYSTEMS, find_system, simulate
from matey.simulate.schemes.spectral import ETDRK4, Box, PeriodicSystem, random_waves


def logistic_error(count: int) -> float:
    """Error at time 1 of y' = y² - y from 1/2; the linear part is exact, the rest is not."""
    step = ETDRK4(torch.tensor([-1.0]).double(), torch.square)
    state = torch.full((1,), 0.5, dtype=torch.complex128)
    for _ in range(count):
        state = step(state, 1 / count)
    return abs(state.item() - 1 / (1 + math.e))


def test_the_stepper_is_of_order_four():
    """0.1: what higher terms still change between 16 and 32 steps."""
    assert math.log2(logistic_error(16) / logistic_error(32)) == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("dt", [1e-6, 0.3, 40.0])
def test_dispersion_and_decay_are_exact_for_any_step(dt):
    """u_t = -u_xxx + u_xx / 100: one step turns a wave by k³ dt and shrinks it; rounding of
    phases up to 1e5."""
    box = Box((32,), 2 * torch.pi, torch.zeros(1, dtype=torch.float64))
    k = box.wavenumbers[0]
    step = ETDRK4((1j * k**3 - k**2 / 100)[None], torch.zeros_like)
    x = 2 * torch.pi * torch.arange(32, dtype=torch.float64) / 32
    start = (3 * x).cos() + (10 * x).sin()
    found = box.values(step(box.modes(start[None, None]), dt))[0, 0]
    slow = math.exp(-0.09 * dt) * (3 * x + 27 * dt).cos()
    fast = math.exp(-1.0 * dt) * (10 * x + 1000 * dt).sin()
    torch.testing.assert_close(found, slow + fast, rtol=0, atol=1e-10)


def test_without_a_linear_part_the_weights_are_those_of_runge_and_kutta():
    """1/2 in a half step; 1/6, 2/6 and 1/6 in a whole one: limits that the formulas cancel to."""
    step = ETDRK4(torch.zeros(1, dtype=torch.float64), torch.zeros_like)
    weights = step.coefficients(1.0, torch.zeros(1, dtype=torch.complex128))
    expected = [1, 1, 1 / 2, 1 / 6, 2 / 6, 1 / 6]
    assert [weight.item() for weight in weights] == pytest.approx(expected, abs=1e-14)


def test_weights_of_stiff_modes_are_those_of_the_formulas():
    """At L dt = -50 nothing cancels, and the formulas can be used as they are."""
    z = -50.0
    step = ETDRK4(torch.tensor([z]).double(), torch.zeros_like)
    weights = step.coefficients(1.0, torch.zeros(1, dtype=torch.complex128))
    first = (-4 - z + math.exp(z) * (4 - 3 * z + z**2)) / z**3
    assert weights[2].item() == pytest.approx((math.exp(z / 2) - 1) / z, rel=1e-13)
    assert weights[3].item() == pytest.approx(first, rel=1e-13)


def test_products_of_two_fields_are_free_of_aliasing():
    """On 16 points, modes of a product are those found on 64, where nothing is folded back."""
    like = torch.zeros(1, dtype=torch.float64)
    coarse, fine = Box((16, 16), 1.0, like), Box((64, 64), 1.0, like)
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 2, 16, 16, generator=random, dtype=torch.float64)
    modes = coarse.modes(noise)
    padded = torch.zeros(1, 2, 64, 33, dtype=torch.complex128)
    rows = [*range(8), *range(-8, 0)]
    padded[:, :, rows, :8] = 16 * modes[:, :, rows, :8]
    values = coarse.values(modes), fine.values(padded)
    product = coarse.modes(values[0].prod(dim=1, keepdim=True))
    exact = fine.modes(values[1].prod(dim=1, keepdim=True))[:, :, rows, :8] / 16
    # Rounding of sums of 4096 terms of order 10.
    torch.testing.assert_close(product[:, :, rows, :8], exact * coarse.kept[rows, :8])


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_derivatives_of_waves_are_exact(ndim):
    """Rounding of wavenumbers of order 10 on the last axis first, as in the arrays."""
    side, points = 3.0, 12
    like = torch.zeros(1, dtype=torch.float64)
    box = Box((points,) * ndim, side, like)
    x = torch.arange(points, dtype=torch.float64) * side / points
    k = 2 * torch.pi / side * torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)[:ndim]
    phase = sum(
        (
            number * grid
            for number, grid in zip(k, torch.meshgrid(*[x] * ndim, indexing="ij"), strict=True)
        ),
        torch.zeros(()),
    )
    gradient = box.values(box.gradient(box.modes(phase.sin()[None, None])))[0]
    for axis in range(ndim):
        torch.testing.assert_close(gradient[axis], k[axis] * phase.cos(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_part_that_no_real_field_has_is_taken_away(ndim):
    """Values do not see it; what is left are the modes of the values. Rounding of 512 sums."""
    box = Box((8,) * ndim, 1.0, torch.zeros(1, dtype=torch.float64))
    random = torch.Generator().manual_seed(3)
    shape = (2, 1, *box.kept.shape)
    modes = torch.randn(shape, generator=random, dtype=torch.complex128) * box.kept
    values = box.values(modes)
    assert not torch.allclose(box.modes(values), modes)
    torch.testing.assert_close(box.as_real(modes), box.modes(values), rtol=0, atol=1e-13)
    torch.testing.assert_close(box.values(modes), values, rtol=0, atol=1e-13)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_random_waves_are_one_field_on_every_grid(ndim):
    """Centres of 8 cells are corners of 16, and centres of every third of 24."""
    coarse, fine = (
        random_waves(np.random.default_rng(7), 2, ndim, points, 3) for points in (8, 24)
    )
    torch.testing.assert_close(coarse, fine[(slice(None), *[slice(1, None, 3)] * ndim)])
    mean = fine.mean(dim=tuple(range(1, ndim + 1)))
    square = fine.square().mean(dim=tuple(range(1, ndim + 1)))
    torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-14)
    torch.testing.assert_close(square, torch.ones_like(square))


CHOICES = [
    (name, ndim)
    for name in SYSTEMS
    if isinstance(system := find_system(name), PeriodicSystem)
    for ndim in system.dimensions
]


@pytest.mark.parametrize(("name", "ndim"), CHOICES)
def test_systems_are_made_in_every_dimension_they_have(name, ndim):
    points = 32 if name == "kuramoto_sivashinsky" else 12
    (field,) = simulate(name, trajectories=1, resolution=points, steps=2, seed=0, ndim=ndim)
    assert field.spec.ndim == field.grid.ndim == ndim
    assert field.values.shape[2:] == (1,) * (3 - ndim) + (points,) * ndim
    assert not torch.equal(field.values[0], field.values[1])


def test_dimensions_that_a_system_lacks_are_refused_by_name():
    with pytest.raises(ConfigError, match="ndim is 3, expected one of 1, 2"):
        find_system("kuramoto_sivashinsky", 3)
    with pytest.raises(ConfigError, match="ndim is 1, expected 2, the only one of 'thermals'"):
        find_system("thermals", 1)
    assert find_system("thermals", 2) == find_system("thermals")


PATTERNS = pytest.mark.parametrize(
    ("name", "time"), [("kuramoto_sivashinsky", 10.0), ("gray_scott", 100.0)]
)


@PATTERNS
def test_patterns_that_vary_along_x_alone_are_those_of_one_dimension(name, time):
    line, plane = find_system(name, 1), find_system(name, 2)
    state = line.initial([2], 32, seed=1)
    *_, expected = line.run(state, [0.0, time])
    *_, end = plane.run(state[:, :, None].expand(-1, -1, 32, -1), [0.0, time])
    torch.testing.assert_close(end[:, :, 7], expected, rtol=0, atol=1e-11)


@PATTERNS
def test_mirrored_patterns_stay_mirrored(name, time):
    """Across x, and then across a diagonal. Of fronts, 1e-14 of rounding grows about tenfold in
    10 times."""
    system = find_system(name)
    state = system.initial([5], 32, seed=5)
    *_, end = system.run(state, [0.0, time])
    *_, image = system.run(state.flip(-1).transpose(-1, -2), [0.0, time])
    torch.testing.assert_close(image, end.flip(-1).transpose(-1, -2), rtol=0, atol=1e-11)
