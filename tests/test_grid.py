"""Where points are and how large their cells: by pencil and paper."""

import numpy as np
import pytest
import torch

from matey.errors import ShapeError
from matey.fields import PERIODIC_SIDES, Boundary, Field, SystemSpec, Variable
from matey.fields.description import read_description
from matey.fields.grid import Grid, join_points, stack_points

Y = (0.0, 1.0, 3.0, 7.0)  # edges of cells at -0.5, 0.5, 2, 5 and 9
SIZES = torch.tensor([1.0, 1.5, 3.0, 4.0], dtype=torch.float64)
EVEN = Grid(("y", "x"), (1, 4, 2), (0.0, 0.0, 0.0), (1.0, 7 / 3, 1.0))
GRID = Grid(("y", "x"), (1, 4, 2), (0.0, 0.0, 0.0), (1.0, 7 / 3, 1.0), ((), Y, ()))


def field(grid=GRID):
    values = torch.arange(16.0).reshape(2, 1, *grid.shape)
    sides = (PERIODIC_SIDES, (Boundary.WALL, Boundary.OPEN), PERIODIC_SIDES)
    spec = SystemSpec("channel", 2, (Variable("velocity_x", "m s-1", ("x",), alias="u"),))
    return Field(values, torch.tensor([0.0, 0.5], dtype=torch.float64), grid, sides, {}, spec)


def test_edges_lie_midway_between_points_and_outer_cells_are_symmetric():
    assert GRID.stretched == ("y",)
    assert GRID.coordinate(1).tolist() == list(Y)
    assert GRID.cell_edges(1).tolist() == [-0.5, 0.5, 2, 5, 9]
    assert GRID.cell_edges(2).tolist() == [-0.5, 0.5, 1.5]
    assert GRID.cell_edges(0).tolist() == [-0.5, 0.5]


def test_points_are_fractions_of_the_domain_and_volumes_fill_it():
    points = stack_points([GRID, EVEN])
    assert points.stretched == (False, True, False)
    expected = (torch.tensor(Y, dtype=torch.float64) + 0.5) / 9.5
    torch.testing.assert_close(points.centres[1][0], expected, rtol=0, atol=1e-15)
    torch.testing.assert_close(points.volumes[0, 0, 0, :, 0], SIZES / 9.5 / 2, rtol=0, atol=1e-15)
    torch.testing.assert_close(
        points.volumes[1], torch.full((1, 1, 4, 2), 1 / 8, dtype=torch.float64), rtol=0, atol=1e-15
    )
    assert points.edges[1][:, 0].tolist() == [0, 0]
    assert points.edges[1][:, -1].tolist() == [1, 1]


def test_even_grids_have_no_points_of_their_own():
    assert stack_points([EVEN, EVEN]) is None
    assert join_points([None, None], EVEN.shape) is None
    both = join_points([stack_points([GRID]), None], GRID.shape)
    torch.testing.assert_close(both.volumes, stack_points([GRID, EVEN]).volumes)


def test_a_mirror_turns_the_cells_of_its_samples_only():
    points = stack_points([GRID, GRID])
    mirrored = points.mirrored([(1,), ()])
    torch.testing.assert_close(mirrored.volumes[0], points.volumes[0].flip(-2))
    assert torch.equal(mirrored.volumes[1], points.volumes[1])
    torch.testing.assert_close(mirrored.mirrored([(1,), ()]).centres[1], points.centres[1])


def test_a_description_keeps_positions_to_the_bit_and_even_ones_stay_readable_by_older_versions():
    places = tuple(np.tanh(np.linspace(-1, 1, 4)).tolist())
    grid = Grid(("y", "x"), (1, 4, 2), (0.0, places[0], 0.0), (1.0, 0.5, 1.0), ((), places, ()))
    text = field(grid).description.to_json()
    assert '"format": 2' in text
    assert read_description(text, "here").grid == grid
    turned = Grid(EVEN.axes, EVEN.shape, EVEN.origin, EVEN.spacing, falling=("y",))
    text = field(turned).description.to_json()
    assert '"format": 2' in text
    assert read_description(text, "here").grid.falling == ("y",)
    plain = field(EVEN).description.to_json()
    assert '"format": 1' in plain
    assert "positions" not in plain
    assert "falling" not in plain


def test_an_axis_that_falls_in_the_file_falls_in_xarray_and_comes_back():
    grid = Grid(GRID.axes, GRID.shape, GRID.origin, GRID.spacing, GRID.positions, ("y",))
    original = field(grid)
    dataset = original.to_xarray()
    assert dataset["y"].values.tolist() == [7, 3, 1, 0]
    np.testing.assert_array_equal(dataset["u"].values, original.values[:, 0, 0].flip(1).numpy())
    for given in (dataset, dataset.sortby("y"), dataset.drop_vars("y")):
        again = Field.from_xarray(given)
        assert torch.equal(again.values, original.values)
        assert again.grid == grid


def test_positions_that_do_not_fit_or_increase_are_refused():
    with pytest.raises(ShapeError, match="3 positions do not fit"):
        Grid(GRID.axes, GRID.shape, GRID.origin, GRID.spacing, ((), (0.0, 1.0, 2.0), ()))
    with pytest.raises(ShapeError, match="along Y of a grid do not increase"):
        Grid(GRID.axes, GRID.shape, GRID.origin, GRID.spacing, ((), (0.0, 2.0, 1.0, 3.0), ()))
    with pytest.raises(ShapeError, match="not all axes of the grid"):
        Grid(GRID.axes, GRID.shape, GRID.origin, GRID.spacing, falling=("lat",))
