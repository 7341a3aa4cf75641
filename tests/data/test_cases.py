"""Layouts from public reports, rebuilt by scripts that lie beside the shared data.

Values, times, axes and sides are those that xarray and h5py find in the same files, read by the
draft that inspection makes.
"""

import runpy
import subprocess
import sys

import h5py
import numpy as np
import pytest
import xarray

import matey
from matey.cli import main
from matey.config import ArrayConfig, SourceConfig
from matey.data.draft_config import data_config
from matey.data.inspect import inspect
from matey.data.systems import open_systems
from matey.data.trajectories import open_source
from matey.data.write import write_field
from matey.errors import DataError
from tests.conftest import SHARED
from tests.layouts import OPEN, ROUND, asked, check, drafted, faces

CASES = SHARED.parent / "cases"
SMALL = ["--model.embed_dim", "12", "--model.heads", "1", "--model.depth", "1"]
SMALL += ["--model.patches", "[8]", "--batch", "2"]
SMALL += ["--windows.history", "2", "--device", "cpu"]


@pytest.fixture
def case(tmp_path, monkeypatch):
    """Runs a script, by its number, that writes its files into a folder, and gives the folder."""

    def write(number):
        monkeypatch.setattr(sys, "argv", ["", str(tmp_path)])
        runpy.run_path(str(script(number)))
        return tmp_path

    return write


def script(number):
    """The script of a number. Skips the test where there is none."""
    scripts = sorted(CASES.glob(f"{number}_*.py"))
    if not scripts:
        pytest.skip(
            f"needs the scripts of layouts from public reports, which are not at {CASES}: name a "
            "folder beside them in MATEY_SHARED_DATA"
        )
    return scripts[0]


def seconds(dates):
    """Dates as seconds since 1970."""
    return dates.to_numpy().astype("datetime64[s]").astype(float)


@pytest.mark.parametrize("kind", ["a", "b"])
def test_01_a_file_for_each_time(case, kind):
    folder = case("01") / kind
    fields = drafted(folder)
    assert (len(fields), fields.spec.name) == (4, kind)
    for run in range(4):
        frames = [xarray.load_dataset(f) for f in sorted((folder / f"run{run}").iterdir())]
        values = np.stack([frame.tracer.squeeze() for frame in frames])
        times = [float(f.time.item() if kind == "a" else f.attrs["time"]) for f in frames]
        places = {"y": frames[0].y, "x": frames[0].x}
        check(fields[run], {"tracer": values}, times, (OPEN, OPEN), places)


@pytest.mark.parametrize("kind", ["a", "b", "c"])
def test_02_an_array_for_each_frame(case, kind):
    folder = case("02") / kind
    (field,) = drafted(folder)
    frames = [np.load(file) for file in sorted(folder.iterdir())]
    values = np.stack([frame["velocity"] if kind == "b" else frame for frame in frames])
    if kind == "a":
        expected = {"data": values}
    elif kind == "b":
        expected = {f"velocity_{c}": values[..., c] for c in range(2)}
        assert [v.name for v in field.spec.variables] == ["velocity_x", "velocity_y"]
    else:
        expected = {f"data_{c}": values[:, c] for c in range(3)}
    check(field, expected, range(24), (OPEN, OPEN), {"y": None, "x": None})
    notices = inspect([folder]).systems[0].assumptions
    assert any(text.startswith("the axes of") and "y, x" in text for text in notices)


@pytest.mark.parametrize("kind", ["years", "npy"])
def test_04_channels_beside_times_are_asked_for(case, kind):
    folder = case("04") / kind
    array = "fields" if kind == "years" else "data"
    names = tuple(f"channel_{c}" for c in range(8))
    fields = asked(
        folder, axes=("time", "component", "y", "x"), arrays=(ArrayConfig(array, names),)
    )
    assert len(fields) == 4
    for year, path in enumerate(sorted(folder.iterdir())):
        stored = np.load(path) if kind == "npy" else h5py.File(path)["fields"][()]
        expected = {f"{array}_{c}": stored[:, c] for c in range(8)}
        check(fields[year], expected, range(40), (OPEN, OPEN), {"y": None, "x": None})


def test_05_matlab_of_the_fno_papers(case):
    folder = case("05") / "d"
    fields = asked(folder / "ns_v73.mat")
    stored = np.load(folder / "ns.npy")  # n, x, y, t
    assert len(fields) == 24
    for n in (0, 7):
        values = {"u": stored[n].transpose(2, 1, 0), "a": stored[n, ..., 0].T}
        check(fields[n], values, range(1, 21), (OPEN, OPEN), {"y": None, "x": None})
    both = inspect([folder])
    assert {path.name for system in both.systems for path in system.paths} == {
        "ns.npy",
        "ns_v73.mat",
    }
    numpy_axes = next(s for s in both.systems if s.paths[0].name == "ns.npy")
    assert "may be [sample, time, y, x]" in numpy_axes.problems[0]


@pytest.mark.parametrize("kind", ["pl", "sl"])
def test_06_era5_of_the_copernicus_store(case, kind):
    folder = case("06") / kind
    (field,) = drafted(folder)
    parts = [xarray.load_dataset(path) for path in sorted(folder.iterdir())]
    data = xarray.concat(parts, "valid_time").sortby("latitude")
    axes, sides = {"y": data.latitude, "x": data.longitude}, (OPEN, ROUND)
    if kind == "pl":
        data = data.sortby("pressure_level")
        axes, sides = {"z": data.pressure_level, **axes}, (OPEN, *sides)
    values = {name: data[name].to_numpy() for name in data.data_vars}
    check(field, values, seconds(data.valid_time), sides, axes)


def test_06_a_hole_makes_time_uneven(case):
    folder = case("06") / "gap"
    with pytest.raises(DataError, match=r"time steps differ from .* 21600 .*`uneven: allow`"):
        data_config(folder)
    fields = open_source(SourceConfig("gap", (str(folder),), uneven="allow"))
    assert len(fields) == 4
    for field, path in zip(fields, sorted(folder.iterdir()), strict=True):
        data = xarray.load_dataset(path).sortby("latitude")
        values = {name: data[name].to_numpy() for name in data.data_vars}
        axes = {"y": data.latitude, "x": data.longitude}
        check(field, values, seconds(data.valid_time), (OPEN, ROUND), axes)


@pytest.mark.parametrize("name", ["wb2", "surface"])
def test_07_weatherbench(case, name):
    pytest.importorskip("zarr", reason="needs zarr: pip install 'matey-pde[zarr]'")
    store = case("07") / f"{name}.zarr"
    (field,) = drafted(store)
    data = xarray.load_dataset(store, engine="zarr")
    axes, sides = {"y": data.latitude, "x": data.longitude}, (OPEN, ROUND)
    if name == "wb2":
        data = data[[n for n in data.data_vars if "level" in data[n].dims]]
        axes, sides = {"z": data.level, **axes}, (OPEN, *sides)
    order = ("time", "level", "latitude", "longitude")
    data = data.transpose(*order, missing_dims="ignore")
    values = {name: data[name].to_numpy() for name in data.data_vars}
    check(field, values, 6 * np.arange(60), sides, axes)
    assert field.labels.of("time")["units"] == "hours since 1959-01-01"
    write_field(field, store.with_name("again.nc"))
    again = xarray.load_dataset(store.with_name("again.nc"))
    for name in data.data_vars:
        xarray.testing.assert_allclose(again[name].transpose(*data[name].dims), data[name])


def test_08_one_long_run_is_split_in_time(case):
    folder = case("08")
    data = xarray.load_dataset(folder / "one" / "run.nc")
    config = data_config(folder / "one")
    assert config.split.by == "time"
    (system,) = open_systems(config).values()
    parts = [system.fields[i] for split in ("train", "valid", "test") for i in system.split[split]]
    np.testing.assert_array_equal(np.concatenate([part.times for part in parts]), data.time)
    assert [len(part.times) for part in parts] == [160, 20, 20]
    (field,) = drafted(folder / "one")
    check(field, {"tracer": data.tracer}, data.time, (OPEN, OPEN), {"y": data.y, "x": data.x})
    fields = drafted(folder / "ten")
    assert len(fields) == 10
    assert data_config(folder / "ten").split.by == "trajectory"
    for run in range(10):
        data = xarray.load_dataset(folder / "ten" / f"run{run}.nc")
        axes = {"y": data.y, "x": data.x}
        check(fields[run], {"tracer": data.tracer}, data.time, (OPEN, OPEN), axes)


def test_09_roms_has_land_and_faces(case):
    folder = case("09") / "roms"
    fields = drafted(folder)
    assert len(fields) == 4
    for field, path in zip(fields, sorted(folder.iterdir()), strict=True):
        data = xarray.load_dataset(path)
        velocities = {"ubar": faces(data.ubar.values, 2), "vbar": faces(data.vbar.values, 1)}
        sea = np.isfinite(data.zeta.values[0])
        for values in velocities.values():
            sea &= np.isfinite(values[0])
        values = {"zeta": data.zeta.values, **velocities}
        values |= {n: data[n].values for n in ("h", "mask_rho", "lon_rho", "lat_rho")}
        filled = {name: np.where(sea, its, 0) for name, its in values.items()}
        axes = {"y": None, "x": None}
        check(field, filled, 3600 * np.arange(24), (OPEN, OPEN), axes, {"zeta": "meter"})
        np.testing.assert_array_equal(field.held[0], sea)
        assert (sea <= (data.mask_rho.values == 1)).all()
        assert field.labels.of("ocean_time")["units"] == "seconds since 2000-01-01 00:00:00"


def test_09_nemo_is_packed_and_has_land(case):
    folder = case("09") / "nemo"
    fields = drafted(folder)
    assert len(fields) == 4
    for field, path in zip(fields, sorted(folder.iterdir()), strict=True):
        data = xarray.load_dataset(path)
        sea = np.isfinite(data.sossheig.values[0])
        values = {n: np.where(sea, data[n].values, 0) for n in ("sossheig", "nav_lon")}
        check(field, values, 3600 * np.arange(24), (OPEN, OPEN), {"y": None, "x": None})
        np.testing.assert_array_equal(field.held[0], sea)


@pytest.mark.parametrize("kind", ["wrf2d", "wrf3d"])
def test_10_wrf(case, kind):
    folder = case("10") / kind
    paths = sorted(folder.iterdir())
    parts = [xarray.load_dataset(path, decode_times=False, engine="netcdf4") for path in paths]
    data = xarray.concat(parts, "Time", data_vars="minimal", coords="all")
    if kind == "wrf2d":
        values = {name: data[name].values for name in ("XLAT", "XLONG", "T2", "PSFC")}
        axes, sides = {"y": None, "x": None}, (OPEN, OPEN)
    else:
        values = {"T": data["T"].values, "U": faces(data.U.values, 3)[..., 1:-1]}
        values |= {"V": faces(data.V.values, 2)[:, :, 1:-1], "W": faces(data.W.values, 1)[:, 1:-1]}
        axes, sides = {"z": None, "y": None, "x": None}, (OPEN,) * 3
    for config in (data_config(folder), data_config(*paths)):  # as a shell lists them, too
        (field,) = open_source(config.systems[0])
        check(field, values, data.XTIME.values, sides, axes)
    static = {v.alias for v in field.spec.variables if v.static}
    assert static == ({"XLAT", "XLONG"} if kind == "wrf2d" else set())


@pytest.mark.parametrize("kind", ["flat", "les"])
def test_11_oceananigans(case, kind):
    folder = case("11") / kind
    fields = drafted(folder)
    assert len(fields) == 4
    for field, path in zip(fields, sorted(folder.iterdir()), strict=True):
        data = xarray.load_dataset(path)
        axes, sides = {"y": data.y_aca, "x": data.x_caa}, (ROUND, ROUND)
        if kind == "flat":
            omega = (data.omega + data.omega.roll(x_faa=-1)) / 2
            omega = (omega + omega.roll(y_afa=-1)) / 2
            values = {"omega": omega.values, "speed": data.speed.values}
        else:
            axes, sides = {"z": data.z_aac, **axes}, (OPEN, OPEN, ROUND)
            u = (data.u + data.u.roll(x_faa=-1)) / 2
            values = {"u": u.values, "w": faces(data.w.values, 1)[:, 1:-1], "b": data.b.values}
        check(field, values, data.time, sides, axes)


def test_15_a_file_that_a_program_writes_is_called_that(case, tmp_path):
    command = [sys.executable, str(script("15")), str(tmp_path), "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout.readline() == "open\n"
            with pytest.raises(DataError, match=r"(?s)another program.*HDF5_USE_FILE_LOCKING"):
                matey.open(tmp_path / "run.h5")
        finally:
            program.kill()
    # The program was ended before it could close the file: it flushed what it had.


@pytest.mark.parametrize(("kind", "runs"), [("all", 4), ("linked", 3), ("files", 3)])
def test_16_links_are_followed(case, kind, runs):
    folder = case("16")
    (folder / "all" / "loop").symlink_to(folder / "all")
    fields = drafted(folder / kind)
    assert (len(fields), fields.spec.name) == (runs, kind)
    for field, run in zip(fields, range(4 - runs, 4), strict=True):
        (path,) = folder.glob(f"{'all' if not run else 'scratch'}/run{run}/o{run}.nc")
        data = xarray.load_dataset(path)
        check(field, {"tracer": data.tracer}, data.time, (OPEN, OPEN), {"y": data.y, "x": data.x})


def test_17_a_file_for_each_variable(case):
    folder = case("17")
    fields = drafted(folder)
    assert len(fields) == 4
    names = {v.alias: v.name for v in fields.spec.variables}
    assert names == {"u": "velocity_x", "v": "velocity_y", "p": "pressure"}
    for run in range(4):
        data = {n: xarray.load_dataset(folder / f"run{run}" / f"{n}.nc") for n in "uvp"}
        values = {name: its[name] for name, its in data.items()}
        axes = {"y": data["u"].y, "x": data["u"].x}
        check(fields[run], values, data["u"].time, (OPEN, OPEN), axes)


def test_19_a_folder_for_each_run(case):
    folder = case("19") / "runs"
    fields = drafted(folder)
    assert (len(fields), fields.spec.name) == (10, "runs")
    for field, path in zip(fields, sorted(folder.glob("*/output.nc")), strict=True):
        data = xarray.load_dataset(path)
        check(field, {"tracer": data.tracer}, data.time, (OPEN, OPEN), {"y": data.y, "x": data.x})
        assert field.parameters == {"Re": data.attrs["Re"]}


def test_24_a_dataset_for_each_step(case):
    folder = case("24") / "cut"
    fields = drafted(folder)
    assert len(fields) == 3
    for field, path in zip(fields, sorted(folder.iterdir()), strict=True):
        with h5py.File(path) as file:
            velocity = np.stack([file[f"Velocity_{k:04d}"] for k in range(1, 13)])
            pressure = np.stack([file[f"Pressure_{k:04d}"] for k in range(1, 13)])
            values = {f"Velocity_{c}": velocity[..., c] for c in range(3)}
            axes = {axis: file[f"{axis}coor"][()] for axis in "zyx"}
        check(field, values | {"Pressure": pressure[..., 0]}, range(1, 13), (OPEN,) * 3, axes)


def test_25_what_was_described_for_training_is_read_so_again(case, monkeypatch):
    folder = case("25")
    monkeypatch.chdir(folder)
    assert main(["train", "--data", "w.yaml", "--run", "r", "--steps", "2", *SMALL]) == 0
    assert main(["predict", "r", "ten/run0.nc", "--steps", "3", "--out", "p.nc"]) == 0
    data = xarray.load_dataset("ten/run0.nc")
    axes = {"y": data.y, "x": data.x}
    again = matey.open("ten/run0.nc", like="r")[0]
    check(again, {"tracer": data.tracer}, data.time, (ROUND, ROUND), axes)
    assert matey.open("p.nc")[0].boundaries[1:] == (ROUND, ROUND)
    predicted = xarray.load_dataset("p.nc")
    np.testing.assert_allclose(predicted.time, 2 + 0.1 * np.arange(3))
    np.testing.assert_array_equal(predicted.x, data.x)
