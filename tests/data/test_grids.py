"""Stretched and falling coordinates in files of every kind, against what xarray makes of them."""

import h5py
import numpy as np
import pytest
import torch
import xarray

from matey.config import ArrayConfig, LayoutConfig, SourceConfig, WindowConfig
from matey.data.formats.files import close_files
from matey.data.layouts.base import make_grid
from matey.data.layouts.miniweather import hydrostatic
from matey.data.mixture import Mixture
from matey.data.reader import open_reader
from matey.data.trajectories import open as open_fields
from matey.data.trajectories import open_source
from matey.data.windows import Choice, Windows
from matey.data.write import write_field, write_well
from matey.errors import DataError
from matey.fields import Boundary

NY, NX, FRAMES = 8, 6, 5
TIMES, X = np.arange(FRAMES) * 0.5, np.arange(NX) * 1.0
WALL = 1 + np.tanh(2.0 * (np.linspace(0, 1, NY) - 1)) / np.tanh(2.0)  # clustered at the top
LATITUDE = np.linspace(90, -90, NY)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape or (FRAMES, NY, NX)).astype("f4")


def dataset(y, **arrays):
    arrays = arrays or {"u": noise(), "v": noise(seed=1)}
    axes = ("time", "lat", "lon")
    variables = {name: (axes, values) for name, values in arrays.items()}
    return xarray.Dataset(variables, {"time": TIMES, "lat": y, "lon": X})


def write_nc(folder, data):
    data.to_netcdf(folder / "a.nc")
    return folder / "a.nc"


def write_classic(folder, data):
    data.to_netcdf(folder / "a.nc", format="NETCDF3_64BIT", engine="netcdf4")
    return folder / "a.nc"


def write_npz(folder, data):
    named = {"time": "time", "y": "lat", "x": "lon", "u": "u", "v": "v"}
    np.savez(folder / "a.npz", **{ours: data[theirs].values for ours, theirs in named.items()})
    return folder / "a.npz"


def write_hdf5(folder, data):
    with h5py.File(folder / "a.h5", "w") as file:
        file["u"], file["v"] = data["u"].values, data["v"].values
        file["t"], file["y"], file["x"] = TIMES, data["lat"].values, X
    return folder / "a.h5"


def write_zarr(folder, data):
    pytest.importorskip("zarr")
    data.to_zarr(folder / "a.zarr", zarr_format=2)
    return folder / "a.zarr"


WRITERS = [write_nc, write_classic, write_npz, write_hdf5, write_zarr]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("y", [LATITUDE, WALL[::-1], WALL], ids=["falling", "both", "stretched"])
def test_fields_are_what_xarray_sorts_them_to(tmp_path, write, y):
    data = dataset(y)
    field = open_fields(write(tmp_path, data))[0]
    ordered = data.sortby("lat")
    for i, name in enumerate(("u", "v")):
        np.testing.assert_array_equal(field.values[:, i, 0], ordered[name].values)
    assert field.grid.falling == (("y",) if y[0] > y[-1] else ())
    assert field.grid.stretched == (("y",) if 1 in (y[0], y[-1]) else ())
    if field.grid.stretched:
        assert field.grid.coordinate(1).tolist() == ordered["lat"].values.tolist()
    else:
        np.testing.assert_allclose(field.grid.coordinate(1), ordered["lat"], atol=1e-12)


def test_only_the_frames_and_windows_asked_for_are_turned(tmp_path):
    data = dataset(LATITUDE)
    fields = open_fields(write_nc(tmp_path, data))
    ordered = data.sortby("lat")["u"].values
    np.testing.assert_array_equal(fields.read(0, slice(1, 4, 2)).values[:, 0, 0], ordered[1:4:2])
    batch = Windows(fields, [0], WindowConfig(history=2)).batch([Choice(0), Choice(2)])
    np.testing.assert_array_equal(batch.values[:, :, 0, 0], [ordered[0:2], ordered[2:4]])
    np.testing.assert_array_equal(batch.target[:, 0, 0], ordered[[2, 4]])


def test_what_is_written_is_in_the_order_of_the_file_and_reads_back(tmp_path):
    data = dataset(WALL[::-1])
    field = open_fields(write_nc(tmp_path, data))[0]
    for name in ("b.nc", "b.zarr"):
        if name.endswith("zarr"):
            pytest.importorskip("zarr")
        write_field(field, tmp_path / name, provenance={})
        opened = xarray.open_zarr if name.endswith("zarr") else xarray.open_dataset
        with opened(tmp_path / name) as written:
            assert written["lat"].values.tolist() == data["lat"].values.tolist()
            np.testing.assert_array_equal(written["u"].values, data["u"].values)
        again = open_fields(tmp_path / name)[0]
        assert torch.equal(again.values, field.values)
        assert (again.grid, again.grid.falling) == (field.grid, ("y",))


def test_a_prediction_that_another_program_sorted_is_read_as_it_now_is(tmp_path):
    field = open_fields(write_nc(tmp_path, dataset(LATITUDE)))[0]
    field.to_xarray().sortby("lat").to_netcdf(tmp_path / "b.nc")
    again = open_fields(tmp_path / "b.nc")[0]
    assert torch.equal(again.values, field.values)
    assert again.grid.falling == ()


def test_the_well_keeps_positions_to_the_bit_and_turns_masks_of_sides(tmp_path):
    field = open_fields(write_nc(tmp_path, dataset(WALL)))[0]
    sides = (field.boundaries[0], (Boundary.WALL, Boundary.OPEN), field.boundaries[2])
    field = type(field)(field.values, field.times, field.grid, sides, {}, field.spec)
    path = write_well([field], tmp_path / "well", name="a")
    again = open_fields(path)[0]
    assert again.grid == field.grid
    assert torch.equal(again.values, field.values)
    close_files()
    with h5py.File(path, "a") as file:  # the same with the axis the other way round
        places = file["dimensions/y"][()]
        file["dimensions/y"][...] = places[::-1]
        velocity = file["t1_fields/velocity"]
        velocity[...] = velocity[()][:, :, :, ::-1]
        for condition in file["boundary_conditions"].values():
            if list(condition.attrs["associated_dims"]) == ["y"]:
                condition["mask"][...] = condition["mask"][()][::-1]
    turned = open_fields(path)[0]
    assert turned.grid.falling == ("y",)
    assert (turned.grid, turned.boundaries) == (field.grid, field.boundaries)
    assert torch.equal(turned.values, field.values)


def test_pdebench_may_be_stretched(tmp_path):
    path = tmp_path / "1D_Advection_Sols_beta0.1.hdf5"
    places = np.array([0, 1, 3, 7.0])
    with h5py.File(path, "w") as file:
        file["tensor"] = noise(2, 3, 4)
        file["x-coordinate"], file["t-coordinate"] = places, np.arange(4.0)
    field = open_fields(path)[1]
    assert field.grid.positions[2] == (0, 1, 3, 7)
    close_files()
    with h5py.File(path, "a") as file:
        values = file["tensor"][1]
        file["x-coordinate"][...] = places[::-1]
    turned = open_fields(path)[1]
    np.testing.assert_array_equal(turned.values[:, 0, 0, 0], values[..., ::-1])


def test_the_background_of_miniweather_is_that_at_the_heights_of_the_file(tmp_path):
    """As stored from the ground up, from the top down, and on levels that are stretched."""
    heights = (np.arange(4) + 0.5) * 2500
    shape = (2, 4, 3)

    def write(z, name):
        arrays = {n: (("t", "z", "x"), noise(*shape)) for n in ("dens", "uwnd", "wwnd", "theta")}
        coords = {"t": [0.0, 1.0], "z": z, "x": np.arange(3.0)}
        xarray.Dataset(arrays, coords).to_netcdf(tmp_path / name)
        return open_fields(tmp_path / name)[0].values[0, 0, 0].numpy()

    perturbation = noise(*shape)[0]
    expected = hydrostatic(4).density[:, None]
    np.testing.assert_allclose(write(heights, "up.nc"), perturbation + expected, rtol=1e-6)
    np.testing.assert_allclose(
        write(heights[::-1], "down.nc"), perturbation[::-1] + expected, rtol=1e-6
    )
    fine = hydrostatic(16).density[[0, 1, 4, 10], None]  # at cells of 625 m
    stretched = (np.array([0, 1, 4, 10]) + 0.5) * 625
    np.testing.assert_allclose(write(stretched, "far.nc"), perturbation + fine, rtol=1e-6)


def test_words_for_sides_are_low_then_high_whichever_comes_first_in_the_file(tmp_path):
    path = write_nc(tmp_path, dataset(LATITUDE))
    layout = LayoutConfig(
        axes=("time", "y", "x"),
        arrays=(ArrayConfig("u", ("u",)),),
        coordinates={"y": "lat"},
        boundaries={"y": "wall open"},
    )
    fields = open_source(SourceConfig("s", (str(path),), layout=layout))
    assert fields.trajectories[0].boundaries[1] == (Boundary.WALL, Boundary.OPEN)


def test_a_value_that_is_not_finite_is_named_by_its_place_in_the_file(tmp_path):
    values = noise()
    values[2, 1, 4] = np.nan
    path = write_nc(tmp_path, dataset(LATITUDE, u=values))
    with pytest.raises(DataError, match=r"time 1, index \(0, 1, 4\) \(z, y, x\)"):
        open_fields(path)[0]


@pytest.mark.parametrize("points", [np.linspace(1000, 1001, 2001), 273.15 + np.arange(500) * 0.01])
def test_what_float32_rounds_is_even(points):
    rounded = points.astype(np.float32).astype(np.float64)
    assert not make_grid(("x",), [rounded], [len(points)], "here").stretched
    bent = points + np.linspace(0, 1, len(points)) ** 2 * (points[-1] - points[0])
    assert make_grid(("x",), [bent], [len(points)], "here").stretched == ("x",)


def test_what_was_found_is_said(tmp_path, caplog):
    caplog.set_level("INFO")
    open_reader(write_nc(tmp_path, dataset(WALL[::-1])))
    assert "coordinate y falls from 1 to 0; fields are turned round" in caplog.text
    assert "coordinate y is stretched, in steps of 0.0" in caplog.text


def test_windows_of_several_stretched_grids_have_each_its_own_points(tmp_path):
    """A batch of one shape; a mirror turns points with values, a roll leaves the axis alone."""
    other = WALL**2 + WALL
    for name, y in (("a", WALL), ("b", other), ("c", np.linspace(0, 1, NY))):
        data = dataset(y)
        data.attrs.update(system="s", boundary_y="periodic", boundary_x="periodic")
        data.to_netcdf(tmp_path / f"{name}.nc")
    fields = open_fields(tmp_path)
    windows = Windows(fields, [0, 1, 2], WindowConfig(history=2))
    batch = windows.batch([Choice(0), Choice(3), Choice(6)])
    for i, y in enumerate((WALL, other, np.linspace(0, 1, NY))):
        middle = (y[1:] + y[:-1]) / 2
        edges = np.concatenate([[2 * y[0] - middle[0]], middle, [2 * y[-1] - middle[-1]]])
        sizes = np.diff(edges) / (edges[-1] - edges[0])
        expected = np.broadcast_to(sizes[:, None] / NX, (NY, NX))
        np.testing.assert_allclose(batch.points.volumes[i, 0, 0], expected, rtol=1e-12)
    config = WindowConfig(history=2, roll=True, flip=("y",))
    mixture = Mixture({"s": Windows(fields, [0], config)}, 2, seed=0)
    whole, turned = fields[0].values, 0
    plain = windows.batch([Choice(0)]).points.volumes[0]
    for step in range(8):
        batch = mixture[step]
        for values, volumes in zip(batch.values, batch.points.volumes, strict=True):
            profile = values[0, 0, 0].abs().sum(dim=-1)  # no roll along x changes it
            rows = [whole[t, 0, 0].abs().sum(dim=-1) for t in range(FRAMES)]
            straight = any(torch.allclose(profile, row) for row in rows)
            mirrored = any(torch.allclose(profile, row.flip(0)) for row in rows)
            assert straight != mirrored
            turned += mirrored
            torch.testing.assert_close(volumes, plain.flip(-2) if mirrored else plain)
    assert 0 < turned < 16
