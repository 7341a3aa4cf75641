"""Pictures: every grid point keeps its place and its colour, and cells lie where they are."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from matey.errors import DataError
from matey.report.example import load_example
from matey.report.figures import (
    MISSING,
    Scale,
    cell_outlines,
    cells_in_slice,
    error_scale,
    field_scale,
    picture,
    relative_error,
    token_map,
)
from matey.report.gallery import fine_cells, line_frame

from .conftest import burgers, cube, shallow_water


def pixels(data: str) -> np.ndarray:
    raw = base64.b64decode(data.removeprefix("data:image/png;base64,"))
    return np.array(Image.open(io.BytesIO(raw)).convert("RGB"))


def saved(folder, arrays):
    np.savez(folder / "x.npz", **arrays)
    return folder / "x.npz"


def test_y_points_up_and_one_grid_point_is_one_pixel():
    values = np.zeros((4, 6), dtype=np.float32)
    values[0, 5] = 1.0  # lowest row, right
    image = pixels(picture(values, Scale(0.0, 1.0, "viridis")))
    assert image.shape == (4, 6, 3)
    bright = image.sum(axis=2) > 2 * image[0, 0].sum()
    assert np.argwhere(bright).tolist() == [[3, 5]]


def test_a_value_that_is_not_finite_is_grey():
    values = np.array([[0.0, np.nan, np.inf, 1.0]], dtype=np.float32)
    image = pixels(picture(values, Scale(0.0, 1.0, "viridis")))
    assert [tuple(p) == MISSING for p in image[0]] == [False, True, True, False]


def test_a_large_field_is_thinned():
    image = pixels(picture(np.zeros((10, 1200), dtype=np.float32), Scale(0.0, 1.0, "viridis")))
    assert image.shape[1] == 400


def test_a_field_of_both_signs_gets_a_diverging_scale_about_zero():
    scale = field_scale(np.array([-1.0, 0.5], dtype=np.float32))
    assert (scale.low, scale.high, scale.colours) == (-1.0, 1.0, "RdBu_r")
    assert field_scale(np.array([300.0, 305.0], dtype=np.float32)).colours == "viridis"


@pytest.mark.parametrize("values", [[0.0, 0.0], [3.0, 3.0], [np.nan, np.nan]])
def test_a_constant_or_missing_field_still_has_a_scale(values):
    array = np.array(values, dtype=np.float32)
    for scale in (field_scale(array), error_scale(array)):
        assert scale.high > scale.low


def test_the_relative_error_of_half_the_field_is_one_half():
    truth = np.ones((1, 4, 4), dtype=np.float32)
    assert relative_error(truth, truth / 2) == pytest.approx(0.5)
    assert np.isnan(relative_error(0 * truth, truth))


def test_the_cells_of_a_plane_tile_its_picture(tmp_path):
    example = load_example(saved(tmp_path, shallow_water()))
    covered = np.zeros((128, 128), dtype=int)
    for x, y, width, height, _ in cells_in_slice(example.cells, example.edges):
        covered[y : y + height, x : x + width] += 1
    assert (covered == 1).all()


def drawn(path: str, rows: int, columns: int) -> list[np.ndarray]:
    """Unit pieces of the plane's lattice that a path covers, upright ones and level ones."""
    upright, level = np.zeros((rows, columns), dtype=int), np.zeros((rows, columns), dtype=int)
    for x, y, way, end in re.findall(r"M(\d+) (\d+)([VH])(\d+)", path):
        if way == "V":
            upright[int(y) : int(end), int(x)] += 1
        else:
            level[int(y), int(x) : int(end)] += 1
    return [upright, level]


def test_outlines_are_the_edges_of_all_cells_each_once(tmp_path):
    """Edges that touch are one line, and nothing more is drawn than left and upper edges."""
    example = load_example(saved(tmp_path, shallow_water()))
    assert example.later is not None
    for cells in (example.cells, *example.later):
        expected = [np.zeros((128, 128), dtype=int) for _ in range(2)]
        for x, y, width, height, _ in cells_in_slice(cells, example.edges):
            expected[0][y : y + height, x] += 1
            expected[1][y, x : x + width] += 1
        path = str(cell_outlines(cells, example.edges, "cells"))
        np.testing.assert_array_equal(drawn(path, 128, 128), expected)
        assert len(path) < 10 * len(cells)


def test_only_the_cells_that_the_middle_slice_cuts_are_drawn(tmp_path):
    """Eight octants of a cube of eight points: the slice z = 4 cuts the upper four."""
    example = load_example(saved(tmp_path, cube()))
    assert sorted(cells_in_slice(example.cells, example.edges)) == [
        (0, 0, 4, 4, 0),
        (0, 4, 4, 4, 0),
        (4, 0, 4, 4, 0),
        (4, 4, 4, 4, 0),
    ]
    assert "M0 0V8M4 0V8M0 0H8M0 4H8" in cell_outlines(example.cells, example.edges, "cells")


def stretched() -> dict[str, np.ndarray]:
    """Two rows of four points, whose cells are 1, 1, 2 and 4 wide, from 10 on."""
    values = np.arange(8, dtype=np.float32).reshape(1, 1, 1, 2, 4)
    corner = [[0, 0, 0], [0, 0, 2]]
    return {
        "truth": values,
        "prediction": values + 1,
        "last": values[0],
        "steps": np.array([1]),
        "variables": np.array(["height"]),
        "corner": np.array(corner),
        "size": np.array([[1, 2, 2]] * 2),
        "level": np.array([0, 0]),
        "edges_z": np.array([0.0, 1]),
        "edges_y": np.array([0.0, 4, 8]),
        "edges_x": np.array([10.0, 11, 12, 14, 18]),
    }


def test_a_stretched_field_is_drawn_where_its_points_are(tmp_path):
    example = load_example(saved(tmp_path, stretched()))
    expected = [[0, 1, 2, 2, 3, 3, 3, 3], [4, 5, 6, 6, 7, 7, 7, 7]]
    assert example.last[0, 0].tolist() == expected
    assert example.prediction[0, 0, 0].tolist() == (np.array(expected) + 1).tolist()
    assert cells_in_slice(example.cells, example.edges) == [(0, 0, 2, 2, 0), (2, 0, 6, 2, 0)]
    assert "M0 0V2M2 0V2M0 0H8" in cell_outlines(example.cells, example.edges, "cells")
    assert example.aspect == 1  # 8 wide and 8 high
    token_map(saved(tmp_path, stretched()), tmp_path / "banner.png")
    image = Image.open(tmp_path / "banner.png")
    assert image.width / image.height > 2.5  # three squares and a heading


def test_a_raster_has_no_more_than_four_points_for_each_of_a_grid(tmp_path):
    arrays = stretched() | {"edges_x": np.array([0.0, 1e-6, 1, 2, 3])}
    assert load_example(saved(tmp_path, arrays)).last.shape == (1, 1, 2, 16)


@pytest.mark.parametrize(
    ("edges", "fault"),
    [([0.0, 1, 1, 2, 3], "does not increase"), ([0.0, 1, 2, 3], "expected"), (None, "no array")],
)
def test_edges_that_do_not_fit_are_refused_by_name(tmp_path, edges, fault):
    arrays = stretched()
    del arrays["edges_x"]
    if edges is not None:
        arrays["edges_x"] = np.array(edges)
    with pytest.raises(DataError, match=f"edges_x.*{fault}|{fault} 'edges_x'"):
        load_example(saved(tmp_path, arrays))


def test_a_line_on_a_stretched_axis_is_drawn_over_its_coordinate(tmp_path):
    """Points of the raster from 10 to 18, and the fine cells from 10 to 12."""
    arrays = stretched()
    one = {name: arrays[name][..., :1, :] for name in ("truth", "prediction", "last")}
    arrays |= one | {"size": np.array([[1, 1, 2]] * 2), "level": np.array([1, 0])}
    arrays["edges_y"] = np.array([0.0, 1])
    example = load_example(saved(tmp_path, arrays))
    frame = line_frame(example, 0, 0, field_scale(example.truth), key=True)
    assert ">x</text>" in str(frame.chart.svg)
    assert "grid point" not in str(frame.chart.svg)
    assert fine_cells(example.cells, 2, 1, 10 + example.edges[2]) == [(10.0, 12.0)]


def test_the_banner_is_wide_and_shows_the_cells(tmp_path):
    example = saved(tmp_path, shallow_water())
    token_map(example, tmp_path / "banner.png", variable="height", step=5)
    image = Image.open(tmp_path / "banner.png")
    assert image.width == 1800
    assert image.width > 2.5 * image.height


@pytest.mark.parametrize(
    ("options", "complaint"),
    [({"variable": "depth"}, "variable 'depth' is not there; found height"), ({"step": 7}, "1, 5")],
)
def test_a_banner_of_what_is_not_there_is_an_error(tmp_path, options, complaint):
    with pytest.raises(DataError, match=complaint):
        token_map(saved(tmp_path, shallow_water()), tmp_path / "b.png", **options)


def test_a_banner_needs_a_plane(tmp_path):
    with pytest.raises(DataError, match="one-dimensional"):
        token_map(saved(tmp_path, burgers()), tmp_path / "b.png")
