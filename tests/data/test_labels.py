"""Fields are written with the names, times and attributes of the file that they came from."""

import json
import shutil

import numpy as np
import pytest
import xarray

import matey
from matey.cli import main
from matey.errors import DataError
from matey.fields.description import KEY

HOURS = {"units": "hours since 1959-01-01", "calendar": "noleap"}


def weather(frames=12):
    """Longitude before latitude, which falls; a mask without time; hours of another calendar."""
    random = np.random.default_rng(0)
    coords = {
        "time": ("time", 6.0 * np.arange(frames), {**HOURS, "long_name": "initial time"}),
        "longitude": ("longitude", np.arange(16) * 22.5, {"units": "degrees_east"}),
        "latitude": ("latitude", np.linspace(70, -70, 8), {"standard_name": "latitude"}),
        "level": 850,
    }
    over_time = random.normal(size=(frames, 16, 8)).astype("f4")
    named = {"units": "K", "long_name": "air temperature", "cell_methods": "time: mean"}
    dataset = xarray.Dataset(
        {
            "2m_temperature": (("time", "longitude", "latitude"), over_time, named),
            "land": (("longitude", "latitude"), random.random((16, 8)).astype("f4")),
        },
        coords,
        {"title": "a test", "source": "a model", "Conventions": "CF-1.8"},
    )
    dataset["2m_temperature"].encoding["_FillValue"] = np.float32(1e20)
    return dataset


def same_but_for_values(written, file):
    """Check names, order, coordinates and what the file says of them."""
    assert dict(written.sizes) | {"time": 0} == dict(file.sizes) | {"time": 0}
    assert list(written.dims) == list(file.dims)
    for name in ("2m_temperature", "land"):
        assert written[name].dims == file[name].dims
    for name in ("longitude", "latitude"):
        np.testing.assert_allclose(written[name], file[name])
        assert written[name].attrs == file[name].attrs
    assert written["time"].attrs == file["time"].attrs
    about = written["2m_temperature"].attrs
    assert (about["units"], about["long_name"]) == ("K", "air temperature")
    assert "cell_methods" not in about  # it need not hold of what is written
    assert written.attrs["title"] == "a test"
    assert written.attrs["original_source"] == "a model"


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_what_is_written_is_read_again_and_looks_like_the_file(tmp_path, suffix):
    if suffix == "zarr":
        pytest.importorskip("zarr", reason="needs zarr: pip install 'matey-pde[zarr]'")
    file = weather()
    file.to_netcdf(tmp_path / "a.nc")
    field = matey.open(tmp_path / "a.nc")[0]
    path = matey.write_field(field, tmp_path / f"b.{suffix}")
    engine = {"nc": "netcdf4", "zarr": "zarr"}[suffix]
    written = xarray.open_dataset(path, decode_times=False, engine=engine)
    same_but_for_values(written, file)
    np.testing.assert_array_equal(written["2m_temperature"], file["2m_temperature"])
    np.testing.assert_array_equal(written["time"], file["time"])
    again = matey.open(path)[0]
    assert (again.values == field.values).all()
    assert again.labels == field.labels
    assert again.grid == field.grid
    assert again.grid.falling == ("y",)
    decoded = xarray.open_dataset(path, engine=engine)
    assert decoded["time"].values[0].calendar == "noleap"
    back = matey.Field.from_xarray(decoded)
    assert (back.times == field.times).all()
    assert (back.values == field.values).all()
    twice = matey.write_field(again, tmp_path / f"c.{suffix}")
    same_but_for_values(xarray.open_dataset(twice, decode_times=False, engine=engine), file)


def test_predictions_look_like_the_file_that_they_continue(tmp_path):
    file = weather()
    (tmp_path / "data").mkdir()
    file.to_netcdf(tmp_path / "data" / "a.nc")
    shutil.copy(tmp_path / "data" / "a.nc", tmp_path / "data" / "b.nc")
    small = ["--model.embed_dim", "12", "--model.heads", "1", "--model.depth", "1"]
    small += ["--model.patches", "[8]", "--windows.history", "2", "--batch", "2"]
    mix, run, out = (str(tmp_path / name) for name in ("mix.yaml", "run", "p.nc"))
    assert main(["data", "inspect", str(tmp_path / "data"), "--write", mix]) == 0
    assert main(["train", "--data", mix, "--run", run, "--steps", "1", *small]) == 0
    assert main(["predict", run, str(tmp_path / "data/a.nc"), "--steps", "3", "--out", out]) == 0
    written = xarray.open_dataset(out, decode_times=False)
    same_but_for_values(written, file)
    np.testing.assert_array_equal(written["time"], 6.0 * np.arange(12, 15))
    np.testing.assert_array_equal(written["land"], file["land"])


def test_an_axis_and_a_variable_of_one_name_do_not_meet(tmp_path):
    """ERA5 calls the geopotential z, and the vertical axis pressure_level."""
    stored = np.random.default_rng(0).normal(size=(4, 3, 6, 8)).astype("f4")
    dims = ("valid_time", "pressure_level", "latitude", "longitude")
    coords = {"pressure_level": [850.0, 500.0, 250.0], "valid_time": np.arange(4.0)}
    xarray.Dataset({"z": (dims, stored)}, coords).to_netcdf(tmp_path / "a.nc")
    dataset = matey.open(tmp_path / "a.nc")[0].to_xarray()
    assert dataset["z"].dims == dims
    np.testing.assert_array_equal(dataset["z"], stored)
    np.testing.assert_array_equal(dataset["pressure_level"], [850, 500, 250])
    assert set(dataset.coords) == {"pressure_level", "valid_time"}  # others the file has not


def test_damaged_labels_are_refused(tmp_path):
    weather().to_netcdf(tmp_path / "a.nc")
    dataset = matey.open(tmp_path / "a.nc")[0].to_xarray()
    whole = json.loads(dataset.attrs[KEY])
    for key, value in {"dims": ["time"], "order": ["time", "x", "z"], "still": None}.items():
        labels = {**whole["labels"], key: value}
        dataset.attrs[KEY] = json.dumps({**whole, "labels": labels})
        with pytest.raises(DataError, match="matey_field is damaged"):
            matey.Field.from_xarray(dataset)
