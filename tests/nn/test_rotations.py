"""By which turns queries and keys know how far apart cells are."""

import math
from dataclasses import replace

import pytest
import torch

from matey.nn.attention import rotations
from tests.nn.helpers import rough_inputs, system, tiny_model
from tests.nn.test_transformer import CLOSE


def centres(cells, ndim):
    """Cell centres of a lattice of so many cells along each axis."""
    line = (torch.arange(cells) + 0.5) / cells
    axes = [torch.full((1,), 0.5)] * (3 - ndim) + [line] * ndim
    return torch.cartesian_prod(*axes)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_all_pairs_of_channels_turn_with_axes_that_there_are(ndim):
    """Each with one axis, by whole turns across the domain; as they always did where no axis is
    named."""
    place, width = centres(4, ndim), 24
    active = tuple(range(3 - ndim, 3))
    turn = rotations(place, width, active)[:, 0, 0]
    for pair in range(width // 2):
        axis, times = 2 - pair % ndim, 1 + pair // ndim
        expected = 2 * math.pi * times * place[:, axis]
        torch.testing.assert_close(turn[:, pair], torch.polar(torch.ones_like(expected), expected))
    usual = rotations(place, width)
    assert torch.equal(usual, rotations(place, width, (0, 1, 2)))
    still = [pair for pair in range(width // 2) if 2 - pair % 3 < 3 - ndim]
    assert torch.equal(usual[:, 0, 0, still], usual[:1, 0, 0, still].expand(len(place), -1))


def test_neighbours_of_a_fine_lattice_are_farther_apart_by_all_channels():
    """64 cells along a line: the fastest of 12 pairs turns by 67 degrees instead of 22."""
    place = centres(64, 1)
    fastest = [
        float(rotations(place, 24, axes)[:2, 0, 0].angle().diff(dim=0).abs().max())
        for axes in ((2,), (0, 1, 2))
    ]
    assert fastest == pytest.approx([2 * math.pi * 12 / 64, 2 * math.pi * 4 / 64], rel=1e-4)


@pytest.mark.parametrize("ndim", [1, 2])
def test_shifts_by_coarse_cells_still_commute_with_the_model(ndim):
    spec = system(ndim)
    inputs = rough_inputs(spec)
    settings = {"absolute_position": False, "layer_scale": 1.0}
    model = tiny_model(spec, rotate_active=True, **settings)
    moved = replace(inputs, values=inputs.values.roll(8, -1))
    made = model(inputs).normalised.detach()
    torch.testing.assert_close(model(moved).normalised, made.roll(8, -1), **CLOSE)
    other = tiny_model(spec, **settings)(inputs).normalised.detach()
    assert float((other - made).abs().max()) > 1e-5
