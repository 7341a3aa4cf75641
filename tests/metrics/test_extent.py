"""Extents of fields whose values and slopes are known."""

import pytest
import torch

from matey.fields import PERIODIC_SIDES, Field, Grid, SystemSpec, Variable
from matey.metrics.extent import extents, sampling

STRETCHED = (0.0, 1.0, 3.0, 7.0)


def field(values, spacing=0.5, positions=(), mask=None):
    """Frames [T Y X] of one variable on a grid of two axes."""
    values = torch.as_tensor(values, dtype=torch.float32)[:, None, None]
    variables = [Variable("tracer", "kg")]
    if mask is not None:
        variables.append(Variable("land", static=True, mask=True))
        values = torch.cat([values, mask.expand(len(values), 1, 1, -1, -1)], dim=1)
    shape = tuple(values.shape[2:])
    grid = Grid(("y", "x"), shape, (0.0, 0.0, 0.0), (1.0, 1.0, spacing), ((), (), positions))
    return Field(
        values,
        torch.arange(len(values)) * 0.25,
        grid,
        (PERIODIC_SIDES,) * 3,
        {"nu": 0.1},
        SystemSpec("toy", 2, tuple(variables), ("nu",), 0.25),
    )


def test_a_plane_has_the_slope_it_has_along_its_steeper_axis():
    y, x = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")
    found = extents(field(torch.stack([2 * y + 3 * x, y])))
    assert found["value"]["tracer"] == (0, 21)
    assert found["extreme"]["tracer"] == (0, 21)
    assert found["gradient"]["tracer"] == (1, 6)  # of the second frame, and of the first


def test_slopes_on_a_stretched_grid_are_over_the_distance_of_its_points():
    values = torch.tensor([0.0, 3.0, 5.0, 6.0]).expand(1, 2, 4)
    assert extents(field(values, 7 / 3, STRETCHED))["gradient"]["tracer"] == (3, 3)
    found = sampling(torch.tensor([0.0]), 0.25, field(values, 7 / 3, STRETCHED).grid, {"nu": 0.1})
    assert found["spacing"] == {"y": (1, 1), "x": (1, 4)}
    assert found["dt"] == {"": (0.25, 0.25)}  # a single time: the system's
    assert found["parameter"] == {"nu": (0.1, 0.1)}


def test_a_thousandth_of_the_points_makes_no_range_but_the_extremes():
    values = torch.linspace(0, 1, 4000).reshape(1, 40, 100)
    odd = values.clone()
    odd[0, 20, :3] = 1e6
    found = extents(field(odd))
    assert found["value"]["tracer"][1] == pytest.approx(1, rel=1e-2)
    assert found["extreme"]["tracer"] == (0, 1e6)
    assert found["gradient"]["tracer"][1] > 1e4  # more pairs than a thousandth are at their sides
    odd[0, 20, :9] = 1e6
    assert extents(field(odd))["value"]["tracer"][1] == 1e6


def test_what_a_mask_hides_is_in_no_range():
    values = torch.ones(2, 3, 4)
    values[:, :, 2:] = -500
    values[:, :, 1] = 2
    mask = torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(3, 4)
    found = extents(field(values, mask=mask))
    assert found["extreme"] == {"tracer": (1, 2)}
    assert found["gradient"] == {"tracer": (2, 2)}
    assert extents(field(values, mask=torch.zeros(3, 4)))["value"] == {}
