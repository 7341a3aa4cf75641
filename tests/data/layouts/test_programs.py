"""Files as programs of the field write them: axes, times and faces, read without a description.

Values are compared with those that xarray or h5py give for the same file.
"""

import pickle

import h5py
import netCDF4
import numpy as np
import pytest
import xarray

from matey import open as open_fields
from matey.config import ArrayConfig, LayoutConfig, SourceConfig
from matey.data.reader import open_reader
from matey.data.trajectories import open_source
from matey.errors import DataError, ShapeError
from matey.fields import Boundary

RANDOM = np.random.default_rng(0)
PERIODIC, OPEN = (Boundary.PERIODIC,) * 2, (Boundary.OPEN,) * 2


def noise(*shape):
    return RANDOM.normal(size=shape).astype("f4")


def values_of(reader, alias):
    """All frames of a variable by the name that the file gives it, without axes of one point."""
    names = [variable.alias for variable in reader.spec.variables]
    return reader.read(0).values[:, names.index(alias)].squeeze().numpy()


def static_of(reader):
    return {variable.alias for variable in reader.spec.variables if variable.static}


def mean(a, b):
    return (a + b) / 2


def test_era5_as_the_store_gives_it_since_2024(tmp_path):
    """`valid_time` in seconds, a scalar `number`, text `expver`, latitude that falls."""
    latitude = np.linspace(90, 45, 8)
    when = np.datetime64("2024-01-01", "ns") + np.arange(6) * np.timedelta64(6, "h")
    dims = ("valid_time", "pressure_level", "latitude", "longitude")
    coords = {
        "valid_time": when,
        "pressure_level": [1000.0, 850.0, 500.0],
        "latitude": latitude,
        "longitude": np.arange(16) * 22.5,
        "number": 0,
        "expver": ("valid_time", np.array(["0001"] * 6)),
    }
    stored = noise(6, 3, 8, 16)
    seconds = {"valid_time": {"units": "seconds since 1970-01-01", "dtype": "int64"}}
    dataset = xarray.Dataset({"t": (dims, stored)}, coords)
    dataset.to_netcdf(tmp_path / "a.nc", encoding=seconds)
    reader = open_reader(tmp_path / "a.nc")
    field = reader.read(0)
    assert field.spec.dt == 6 * 3600
    np.testing.assert_array_equal(field.times, when.astype("datetime64[s]").astype(float))
    np.testing.assert_array_equal(field.values[:, 0], stored[:, ::-1, ::-1])
    np.testing.assert_allclose(field.grid.coordinate(1), latitude[::-1])
    assert field.boundaries == (OPEN, OPEN, PERIODIC)  # longitudes go round the globe
    dataset.isel(valid_time=[0, 1, 2, 5]).to_netcdf(tmp_path / "gap.nc", encoding=seconds)
    with pytest.raises(DataError, match=r"time steps differ from their median 21600"):
        open_reader(tmp_path / "gap.nc")


def test_roms_has_velocities_between_the_points_of_its_grid(tmp_path):
    """At the sides there is one face beside a cell, and beside land too."""
    u, v, w, temp = noise(5, 4, 6, 7), noise(5, 4, 5, 8), noise(5, 5, 6, 8), noise(5, 4, 6, 8)
    u[:, :, 2, 3] = np.nan
    hours = {"units": "seconds since 2000-01-01", "calendar": "proleptic_gregorian"}
    xarray.Dataset(
        {
            "temp": (("ocean_time", "s_rho", "eta_rho", "xi_rho"), temp),
            "u": (("ocean_time", "s_rho", "eta_u", "xi_u"), u),
            "v": (("ocean_time", "s_rho", "eta_v", "xi_v"), v),
            "w": (("ocean_time", "s_w", "eta_rho", "xi_rho"), w),
            "dt": 60.0,
        },
        {"ocean_time": ("ocean_time", np.arange(5) * 3600.0, hours)},
    ).to_netcdf(tmp_path / "a.nc", encoding={"u": {"_FillValue": np.float32(1e37)}})
    reader = open_reader(tmp_path / "a.nc")
    assert reader.spec.dt == 3600
    assert reader.trajectories[0].grid.axes == ("z", "y", "x")
    expected = np.concatenate([u[..., :1], mean(u[..., 1:], u[..., :-1]), u[..., -1:]], -1)
    expected[:, :, 2, 3], expected[:, :, 2, 4] = u[:, :, 2, 2], u[:, :, 2, 4]
    np.testing.assert_array_equal(values_of(reader, "u"), expected)
    expected = np.concatenate([v[:, :, :1], mean(v[:, :, 1:], v[:, :, :-1]), v[:, :, -1:]], 2)
    np.testing.assert_array_equal(values_of(reader, "v"), expected)
    np.testing.assert_array_equal(values_of(reader, "w"), mean(w[:, 1:], w[:, :-1]))
    np.testing.assert_array_equal(values_of(reader, "temp"), temp)


def test_nemo_has_its_own_name_of_time(tmp_path):
    stored = noise(6, 5, 7)
    when = {"units": "seconds since 1900-01-01", "calendar": "noleap"}
    bounds = np.stack([np.arange(6) * 86400.0, np.arange(1, 7) * 86400.0], 1)
    xarray.Dataset(
        {
            "sossheig": (("time_counter", "y", "x"), stored),
            "nav_lat": (("y", "x"), noise(5, 7)),
            "time_counter_bounds": (("time_counter", "axis_nbounds"), bounds),
        },
        {"time_counter": ("time_counter", bounds.mean(1), when)},
    ).to_netcdf(tmp_path / "a.nc")
    reader = open_reader(tmp_path / "a.nc")
    np.testing.assert_array_equal(reader.trajectories[0].times, bounds.mean(1))
    np.testing.assert_array_equal(values_of(reader, "sossheig"), stored)
    assert static_of(reader) == {"nav_lat"}
    assert [v.alias for v in reader.spec.variables] == ["sossheig", "nav_lat"]


def write_wrf(path, xtime):
    """Three-hourly output on a grid with one face more than centres along each axis."""
    random = np.random.default_rng(1)
    with netCDF4.Dataset(path, "w", format="NETCDF3_64BIT_OFFSET") as file:
        sizes = {"Time": None, "DateStrLen": 19, "west_east": 7, "south_north": 6}
        sizes |= {"bottom_top": 4, "west_east_stag": 8, "south_north_stag": 7, "bottom_top_stag": 5}
        for name, size in sizes.items():
            file.createDimension(name, size)
        dates = file.createVariable("Times", "S1", ("Time", "DateStrLen"))
        for k in range(5):
            dates[k] = np.array(list(f"2020-07-01_{3 * k:02d}:00:00"), "S1")
        if xtime:
            minutes = file.createVariable("XTIME", "f4", ("Time",))
            minutes.units = "minutes since 2020-07-01 00:00:00"
            minutes[:] = 180 * np.arange(5)
        names = {"T": "", "U": "west_east", "V": "south_north", "W": "bottom_top", "HGT": ""}
        for name, along in names.items():
            axes = ("bottom_top", "south_north", "west_east")
            dims = tuple(f"{axis}_stag" if axis == along else axis for axis in axes)
            shape = [5, *(sizes[dim] for dim in dims)]
            variable = file.createVariable(name, "f4", ("Time", *dims))
            stored = random.normal(size=shape)
            variable[:] = stored[:1].repeat(5, 0) if name == "HGT" else stored


@pytest.mark.parametrize("xtime", [True, False])
def test_wrf_has_dates_and_faces(tmp_path, xtime):
    write_wrf(tmp_path / "wrfout_d01_2020-07-01_00:00:00", xtime)
    with netCDF4.Dataset(tmp_path / "wrfout_d01_2020-07-01_00:00:00") as file:
        u, v, w, t = (np.asarray(file[name][:]) for name in "UVWT")
    reader = open_reader(tmp_path / "wrfout_d01_2020-07-01_00:00:00")
    assert reader.spec.dt == (180 if xtime else 3 * 3600)
    first = 0 if xtime else np.datetime64("2020-07-01", "s").astype(float)
    assert reader.trajectories[0].times[0] == first
    np.testing.assert_array_equal(values_of(reader, "U"), mean(u[..., 1:], u[..., :-1]))
    np.testing.assert_array_equal(values_of(reader, "V"), mean(v[:, :, 1:], v[:, :, :-1]))
    np.testing.assert_array_equal(values_of(reader, "W"), mean(w[:, 1:], w[:, :-1]))
    np.testing.assert_array_equal(values_of(reader, "T"), t)
    assert static_of(reader) == {"HGT"}


def test_oceananigans_has_as_many_faces_as_centres_where_it_is_periodic(tmp_path):
    u, w, b = noise(5, 4, 6, 8), noise(5, 5, 6, 8), noise(5, 4, 6, 8)
    faces, centres = np.arange(8) / 8, (np.arange(8) + 0.5) / 8
    below = -1 + (np.arange(4) + 0.5) / 4
    xarray.Dataset(
        {
            "u": (("time", "z_aac", "y_aca", "x_faa"), u),
            "w": (("time", "z_aaf", "y_aca", "x_caa"), w),
            "b": (("time", "z_aac", "y_aca", "x_caa"), b),
        },
        {
            "time": ("time", 0.2 * np.arange(5), {"units": "seconds"}),
            "x_faa": faces,
            "x_caa": centres,
            "z_aac": below,
            "z_aaf": np.linspace(-1, 0, 5),
        },
    ).to_netcdf(tmp_path / "a.nc")
    reader = open_reader(tmp_path / "a.nc")
    field = reader.read(0)
    assert field.boundaries == (OPEN, OPEN, PERIODIC)
    np.testing.assert_allclose(field.grid.coordinate(2), centres)
    np.testing.assert_allclose(field.grid.coordinate(0), below)
    np.testing.assert_array_equal(values_of(reader, "u"), mean(u, np.roll(u, -1, -1)))
    np.testing.assert_array_equal(values_of(reader, "w"), mean(w[:, 1:], w[:, :-1]))
    np.testing.assert_array_equal(values_of(reader, "b"), b)


def test_faces_of_a_program_that_is_not_known_are_left_out_with_a_notice(tmp_path):
    stored = noise(5, 6, 8)
    xarray.Dataset(
        {"q": (("time", "y", "x"), stored), "flux": (("time", "y", "x_edges"), noise(5, 6, 9))},
        {"time": np.arange(5.0), "x": np.arange(8.0), "y": np.arange(6.0)},
    ).to_netcdf(tmp_path / "a.nc")
    reader = open_reader(tmp_path / "a.nc")
    assert [v.alias for v in reader.spec.variables] == ["q"]
    np.testing.assert_array_equal(values_of(reader, "q"), stored)
    assert any("flux" in text and "left out" in text for text in reader.contents.assumptions)


def write_matlab(path):
    """As MATLAB saves with -v7.3: HDF5 with axes in reverse, and vectors with a second axis."""
    stored = noise(6, 8, 10, 5)  # samples, x, y, times in MATLAB
    with h5py.File(path, "w", userblock_size=512) as file:
        file["u"], file["a"] = stored.T, stored[..., 0].T
        file["t"] = np.arange(1.0, 6.0)[:, None]
        for name in "uat":
            file[name].attrs["MATLAB_class"] = np.bytes_("single")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + bytes(8) + b"\x00\x02IM")
    return stored


def test_matlab_lists_axes_in_reverse(tmp_path):
    """The first reading is the usual one; that 6 samples are no levels nobody says."""
    stored = write_matlab(tmp_path / "ns.mat")
    (tmp_path / "old.mat").write_bytes(b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(128))
    drafted = open_reader(tmp_path / "ns.mat").contents.described
    assert drafted.axes == ("time", "y", "x", "sample")
    both = r"ns.mat: u of shape .* may be \[time, y, x, sample\] or \[time, z, y, x\]"
    with pytest.raises(DataError, match=both):
        open_fields(tmp_path)  # a folder too
    layout = LayoutConfig(
        ("time", "y", "x", "sample"), (ArrayConfig("u", ("vorticity",)),), time="t"
    )
    fields = open_source(SourceConfig("ns", (str(tmp_path / "ns.mat"),), layout=layout))
    assert len(fields) == 6
    np.testing.assert_array_equal(fields[2].times, np.arange(1.0, 6.0))
    np.testing.assert_array_equal(fields[2].values[:, 0, 0], stored[2].transpose(2, 1, 0))


@pytest.mark.parametrize("write", ["npy", "h5"])
def test_times_and_channels_without_names_are_asked_for(tmp_path, write):
    stored = noise(12, 5, 8, 16)
    if write == "npy":
        np.save(tmp_path / "a.npy", stored)
    else:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["fields"] = stored
    path = tmp_path / f"a.{write}"
    both = r"may be \[sample, time, y, x\] or \[time, component, y, x\] or"
    with pytest.raises(DataError, match=both):
        open_fields(path)
    array = "data" if write == "npy" else "fields"
    names = tuple(f"channel_{i}" for i in range(5))
    source = SourceConfig(
        "weather",
        (str(path),),
        layout=LayoutConfig(
            ("time", "component", "y", "x"), (ArrayConfig(array, names),), doubts=("which?",)
        ),
    )
    with pytest.raises(DataError, match=r"which\?.* take the line out of `doubts`"):
        open_source(source)
    layout = LayoutConfig(("time", "component", "y", "x"), (ArrayConfig(array, names),))
    fields = open_source(SourceConfig("weather", (str(path),), layout=layout))
    np.testing.assert_array_equal(fields[0].values[:, :, 0], stored)


def test_a_square_grid_without_names_is_asked_for(tmp_path):
    """Which of two axes of the same length is x, lengths do not say."""
    np.savez(tmp_path / "a.npz", rho=noise(6, 8, 8), t=np.arange(6), x=np.arange(8), y=np.arange(8))
    with pytest.raises(DataError, match=r"\[time, y, x\] or \[time, x, y\]"):
        open_fields(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("position", "periodic", "weights"),
    [
        ("left", False, [[1, 1, 0], [0, 1, 1], [0, 0, 2]]),
        ("left", True, [[1, 1, 0], [0, 1, 1], [1, 0, 1]]),
        ("right", False, [[2, 0, 0], [1, 1, 0], [0, 1, 1]]),
        ("right", True, [[1, 0, 1], [1, 1, 0], [0, 1, 1]]),
        ("outer", False, [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]),
        ("inner", False, [[2, 0], [1, 1], [0, 2]]),
    ],
)
def test_a_centre_has_the_mean_of_its_two_faces(tmp_path, position, periodic, weights):
    weights = np.array(weights, "f4") / 2
    faces = noise(4, 5, weights.shape[1])
    np.savez(tmp_path / "a.npz", u=faces, q=noise(4, 5, 3))
    layout = LayoutConfig(
        ("time", "y", "x"),
        (ArrayConfig("q", ("q",)), ArrayConfig("u", ("u",), staggered={"x": position})),
        boundaries={"x": "periodic" if periodic else "open"},
    )
    field = open_source(SourceConfig("a", (str(tmp_path / "a.npz"),), layout=layout))[0]
    np.testing.assert_allclose(field.values[:, 1, 0], faces @ weights.T, atol=1e-6)


def test_faces_that_do_not_fit_their_centres_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", u=noise(4, 5, 6), q=noise(4, 5, 3))
    arrays = (ArrayConfig("q", ("q",)), ArrayConfig("u", ("u",), staggered={"x": "outer"}))
    layout = LayoutConfig(("time", "y", "x"), arrays)
    with pytest.raises(ShapeError, match=r"u \[t, y, x\] has shape \(4, 5, 6\), which does not"):
        open_source(SourceConfig("a", (str(tmp_path / "a.npz"),), layout=layout))


def test_a_variable_that_changes_in_one_file_is_static_in_none(tmp_path):
    """A run without smoke beside one with it; the height of the ground never changes."""
    ground = noise(6, 8)[None].repeat(5, 0)
    for name, smoke in (("clear", np.zeros((5, 6, 8), "f4")), ("smoky", noise(5, 6, 8))):
        dims = ("time", "y", "x")
        arrays = {"q": (dims, noise(5, 6, 8)), "smoke": (dims, smoke), "ground": (dims, ground)}
        xarray.Dataset(arrays, {"time": np.arange(5.0)}).to_netcdf(tmp_path / f"{name}.nc")
    alone = open_fields(tmp_path / "clear.nc")
    assert [v.alias for v in alone.spec.variables if v.static] == ["smoke", "ground"]
    fields = open_fields(tmp_path)
    assert [v.alias for v in fields.spec.variables if v.static] == ["ground"]
    assert len(fields) == 2
    again = pickle.loads(pickle.dumps(fields))  # as for a worker of a loader
    assert again.spec == fields.spec
    np.testing.assert_array_equal(again[0].values, fields[0].values)
