"""Further layouts, from public manuals and files (docs/formats.md lists the sources).

Each is a small file with the program's names of axes; values, times and axes are compared with what
was put in.
"""

import h5py
import numpy as np
import pytest
import xarray

from matey import open as open_fields
from matey.data.formats.hdf5 import Hdf5Container
from matey.data.reader import open_reader
from matey.errors import DataError

T, Z, Y, X = 5, 4, 6, 8
RANDOM = np.random.default_rng(3)


def noise(*shape):
    return RANDOM.normal(size=shape).astype("f4")


def inner(faces, axis):
    """Means of neighbours along an axis."""
    n = faces.shape[axis]
    return (np.take(faces, range(1, n), axis) + np.take(faces, range(n - 1), axis)) / 2


def left(faces, axis):
    """Faces at the left of as many centres; the last centre has one face."""
    return np.concatenate([inner(faces, axis), np.take(faces, [-1], axis)], axis)


def right(faces, axis):
    return np.concatenate([np.take(faces, [0], axis), inner(faces, axis)], axis)


def seconds(frames=T, step=900.0):
    return ("time", step * np.arange(frames), {"units": "seconds since 2000-01-01"})


def palm():
    """As many faces as centres: those of u to the left, of v below, of w above them."""
    u, v, w, theta = (noise(T, Z, Y, X) for _ in range(4))
    return (
        {
            "u": (("time", "zu_3d", "y", "xu"), u),
            "v": (("time", "zu_3d", "yv", "x"), v),
            "w": (("time", "zw_3d", "y", "x"), w),
            "theta": (("time", "zu_3d", "y", "x"), theta),
        },
        {"time": seconds(), "x": 5 + 10.0 * np.arange(X), "xu": 10.0 * np.arange(X)},
        {"u": left(u, 3), "v": left(v, 2), "w": right(w, 1), "theta": theta},
    )


def cm1():
    """Dimensions are counts, and positions stand in arrays of other names."""
    u, w, th = noise(T, Z, Y, X + 1), noise(T, Z + 1, Y, X), noise(T, Z, Y, X)
    return (
        {
            "u": (("time", "nk", "nj", "nip1"), u),
            "w": (("time", "nkp1", "nj", "ni"), w),
            "th": (("time", "nk", "nj", "ni"), th),
            "xh": ("ni", 0.5 + np.arange(X), {"units": "m"}),
            "xf": ("nip1", 1.0 * np.arange(X + 1), {"units": "m"}),
        },
        {"time": ("time", 60.0 * np.arange(T), {"units": "seconds"})},
        {"u": inner(u, 3), "w": inner(w, 1), "th": th},
    )


def mitgcm():
    """xmitgcm: the side of the faces is an attribute."""
    u, v, w, theta = (noise(T, Z, Y, X) for _ in range(4))
    shift = {"c_grid_axis_shift": -0.5}
    return (
        {
            "U": (("time", "Z", "YC", "XG"), u),
            "V": (("time", "Z", "YG", "XC"), v),
            "W": (("time", "Zl", "YC", "XC"), w),
            "THETA": (("time", "Z", "YC", "XC"), theta),
        },
        {
            "time": seconds(),
            "XC": ("XC", 0.5 + np.arange(X), {"axis": "X"}),
            "XG": ("XG", 1.0 * np.arange(X), {"axis": "X", **shift}),
            "YC": ("YC", 0.5 + np.arange(Y), {"axis": "Y"}),
            "YG": ("YG", 1.0 * np.arange(Y), {"axis": "Y", **shift}),
            "Z": ("Z", -0.5 - np.arange(Z), {"axis": "Z"}),
            "Zl": ("Zl", -1.0 * np.arange(Z), {"axis": "Z", **shift}),
        },
        {
            name: values[:, ::-1]
            for name, values in zip(
                ("U", "V", "W", "THETA"), (left(u, 3), left(v, 2), left(w, 1), theta), strict=True
            )
        },
    )


def mom6(symmetric):
    more = int(symmetric)
    u, e, h = noise(T, Z, Y, X + more), noise(T, Z + 1, Y, X), noise(T, Z, Y, X)
    return (
        {
            "uo": (("time", "zl", "yh", "xq"), u),
            "e": (("time", "zi", "yh", "xh"), e),
            "thetao": (("time", "zl", "yh", "xh"), h),
        },
        {"time": ("time", np.arange(T) + 0.5, {"units": "days since 1900-01-01"})},
        {"uo": inner(u, 3) if symmetric else right(u, 3), "e": inner(e, 1), "thetao": h},
    )


def fv3():
    ua, delz = noise(T, Z, Y, X), noise(T, Z + 1, Y, X)
    return (
        {
            "ucomp": (("time", "pfull", "grid_yt", "grid_xt"), ua),
            "w_interface": (("time", "phalf", "grid_yt", "grid_xt"), delz),
        },
        {
            "time": ("time", 0.25 * np.arange(T), {"units": "days since 2016-08-01"}),
            "grid_xt": ("grid_xt", 1.0 + np.arange(X), {"axis": "X"}),
            "pfull": ("pfull", 100.0 + np.arange(Z), {"axis": "Z", "positive": "down"}),
        },
        {"ucomp": ua, "w_interface": inner(delz, 1)},
    )


def cmip6_ocean():
    """Indices i and j, two-dimensional latitudes, bounds, and a year of 360 days."""
    so = noise(T, Z, Y, X)
    about = {"units": "days since 1850-01-01", "calendar": "360_day", "standard_name": "time"}
    return (
        {
            "so": (("time", "lev", "j", "i"), so),
            "latitude": (("j", "i"), noise(Y, X), {"units": "degrees_north"}),
            "time_bnds": (("time", "bnds"), noise(T, 2)),
            "lev_bnds": (("lev", "bnds"), noise(Z, 2)),
        },
        {"time": ("time", 30.0 * np.arange(T) + 15, about), "lev": 5.0 + 10 * np.arange(Z)},
        {"so": so},
    )


def rotated_pole():
    tas = noise(T, Y, X)
    names = {"rlat": "grid_latitude", "rlon": "grid_longitude"}
    return (
        {"tas": (("time", "rlat", "rlon"), tas), "rotated_pole": ((), np.int32(0))},
        {
            "time": seconds(),
            "rlat": ("rlat", -5 + 0.11 * np.arange(Y), {"standard_name": names["rlat"]}),
            "rlon": ("rlon", -9 + 0.11 * np.arange(X), {"standard_name": names["rlon"]}),
        },
        {"tas": tas},
    )


def attributes_alone():
    """Names that say nothing, in an order of their own."""
    q = noise(X, T, Y)
    return (
        {"q": (("east", "moment", "north"), q)},
        {
            "east": ("east", 1.0 * np.arange(X), {"axis": "X"}),
            "north": ("north", 2.0 * np.arange(Y), {"standard_name": "projection_y_coordinate"}),
            "moment": ("moment", 3.0 * np.arange(T), {"units": "hours since 2020-01-01"}),
        },
        {"q": q.transpose(1, 2, 0)},
    )


def croco():
    """Like ROMS, but with rows of u called as those of the other variables."""
    u, temp = noise(T, Z, Y, X - 1), noise(T, Z, Y, X)
    ends = np.concatenate([u[..., :1], inner(u, 3), u[..., -1:]], 3)
    return (
        {
            "u": (("time", "s_rho", "eta_rho", "xi_u"), u),
            "temp": (("time", "s_rho", "eta_rho", "xi_rho"), temp),
        },
        {"time": ("time", 3600.0 * np.arange(T), {"units": "second"})},
        {"u": ends, "temp": temp},
    )


def pop():
    temp, wvel = noise(T, Z, Y, X), noise(T, Z, Y, X)
    return (
        {
            "TEMP": (("time", "z_t", "nlat", "nlon"), temp),
            "WVEL": (("time", "z_w_top", "nlat", "nlon"), wvel),
        },
        {
            "time": ("time", 365.0 * np.arange(T), {"units": "days since 0001-01-01"}),
            "z_t": 500.0 + 1000 * np.arange(Z),
            "z_w_top": 1000.0 * np.arange(Z),
        },
        {"TEMP": temp, "WVEL": left(wvel, 1)},
    )


def unified_model():
    """Iris writes standard names; the height of the screen is a scalar."""
    air = noise(T, Z, Y, X)
    coords = {
        "time": ("time", 1.0 * np.arange(T), {"axis": "T", "units": "hours since 1970-01-01"}),
        "model_level_number": ("model_level_number", np.arange(1, Z + 1), {"positive": "up"}),
        "latitude": ("latitude", 1.0 * np.arange(Y), {"units": "degrees_north"}),
        "longitude": ("longitude", 1.0 * np.arange(X), {"units": "degrees_east"}),
        "forecast_reference_time": 0.0,
        "height": 1.5,
    }
    dims = ("time", "model_level_number", "latitude", "longitude")
    return {"air_temperature": (dims, air)}, coords, {"air_temperature": air}


PROGRAMS = {
    "palm": palm,
    "cm1": cm1,
    "mitgcm": mitgcm,
    "mom6": lambda: mom6(False),
    "mom6 symmetric": lambda: mom6(True),
    "fv3": fv3,
    "cmip6": cmip6_ocean,
    "rotated pole": rotated_pole,
    "attributes": attributes_alone,
    "croco": croco,
    "pop": pop,
    "um": unified_model,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_values_and_times_are_those_of_the_file(tmp_path, name):
    arrays, coords, expected = PROGRAMS[name]()
    xarray.Dataset(arrays, coords).to_netcdf(tmp_path / "a.nc")
    reader = open_reader(tmp_path / "a.nc")
    assert not reader.contents.doubts
    moving = {v.alias: i for i, v in enumerate(reader.spec.variables) if not v.static}
    assert set(moving) == set(expected)
    field = reader.read(0)
    for alias, values in expected.items():
        stored = field.values[:, moving[alias]].squeeze(1 if field.grid.ndim == 2 else ())
        np.testing.assert_allclose(stored, values, atol=1e-6, err_msg=alias)
    time = (
        next(
            values
            for dims, values, *_ in coords.values()
            if len(np.shape(values)) == 1 and dims in ("time", "moment")
        )
        if name != "um"
        else coords["time"][1]
    )
    np.testing.assert_array_equal(field.times, time)


@pytest.mark.parametrize(
    ("dims", "samples"),
    [
        (("number", "step", "latitude", "longitude"), "number"),  # cfgrib
        (("time", "prediction_timedelta", "latitude", "longitude"), "time"),  # WeatherBench 2
        (("init_time", "lead_time", "lat", "lon"), "init_time"),  # WeatherNext
        (("init", "lead", "lat", "lon"), "init"),  # climpred
    ],
)
def test_of_a_forecast_the_time_is_that_since_it_began(tmp_path, dims, samples):
    stored = noise(3, T, Y, X)
    lead = dims[1]
    about = {"units": "hours", "standard_name": "forecast_period"}
    starts = "hours since 2020-01-01" if samples != "number" else "1"
    coords = {
        lead: (lead, 6.0 * np.arange(T), about),
        samples: (samples, 24.0 * np.arange(3), {"units": starts}),
    }
    xarray.Dataset({"t2m": (dims, stored)}, coords).to_netcdf(tmp_path / "a.nc")
    fields = open_fields(tmp_path / "a.nc")
    assert len(fields) == 3
    assert fields.spec.dt == 6
    np.testing.assert_array_equal(fields[1].times, 6.0 * np.arange(T))
    np.testing.assert_array_equal(fields[1].values[:, 0, 0], stored[1])


def test_dedalus_labels_its_axes_and_keeps_positions_in_scales(tmp_path):
    """A vector has an axis without a label; wall times and iterations are no times."""
    velocity, buoyancy = noise(T, 2, X, Y), noise(T, X, Y)
    with h5py.File(tmp_path / "snapshots_s1.h5", "w") as file:
        scales = file.create_group("scales")
        scales["iteration"], scales["wall_time"] = np.arange(T) * 10, np.sort(RANDOM.random(T))
        scales["timestep"], scales["sim_time"] = np.full(T, 0.01), 0.25 * np.arange(T)
        scales["x_hash_0a1b"], scales["z_hash_2c3d"] = np.arange(X) / X, np.linspace(0, 1, Y)
        for name, values in (("u", velocity), ("b", buoyancy)):
            task = file.create_dataset(f"tasks/{name}", data=values)
            task.dims[0].label = "t"
            for scale in ("sim_time", "wall_time", "timestep", "iteration"):
                scales[scale].make_scale(scale)
                task.dims[0].attach_scale(scales[scale])
            for axis, label in ((-2, "x"), (-1, "z")):
                task.dims[values.ndim + axis].label = label
                scale = next(scales[s] for s in scales if s.startswith(f"{label}_hash"))
                scale.make_scale(scale.name.split("/")[-1])
                task.dims[values.ndim + axis].attach_scale(scale)
    reader = open_reader(tmp_path / "snapshots_s1.h5")
    field = reader.read(0)
    np.testing.assert_array_equal(field.times, 0.25 * np.arange(T))
    assert field.grid.axes == ("z", "x")
    np.testing.assert_allclose(field.grid.coordinate(1), np.linspace(0, 1, Y))
    names = [variable.alias for variable in field.spec.variables]
    values = field.values[:, :, 0]
    np.testing.assert_array_equal(values[:, names.index("b")], buoyancy.swapaxes(1, 2))
    for k in range(2):
        stored = values[:, names.index(f"u_{k}")]
        np.testing.assert_array_equal(stored, velocity[:, k].swapaxes(1, 2))


def test_openpmd_labels_the_axes_of_meshes(tmp_path):
    """Of a vector by its group; in Fortran order the labels are reversed."""
    with h5py.File(tmp_path / "data00000100.h5", "w") as file:
        mesh = file.create_group("data/100/fields/E")
        mesh.attrs["axisLabels"] = np.array([b"z", b"y", b"x"])
        mesh.attrs["dataOrder"] = np.bytes_("C")
        mesh["x"] = noise(Z, Y, X)
        file["data/100/fields/rho"] = noise(Z, Y, X)
        file["data/100/fields/rho"].attrs["axisLabels"] = np.array([b"x", b"y", b"z"])
        file["data/100/fields/rho"].attrs["dataOrder"] = np.bytes_("F")
    container = Hdf5Container(tmp_path / "data00000100.h5")
    assert container.dims("data/100/fields/E/x") == ("z", "y", "x")
    assert container.dims("data/100/fields/rho") == ("z", "y", "x")
    container.close()


def test_dates_that_are_none_are_refused_by_name(tmp_path):
    times = np.array(["2020-01-01", "yesterday", "2020-01-03"])
    dataset = xarray.Dataset({"q": (("time", "y", "x"), noise(3, Y, X))}, {"time": times})
    dataset.to_netcdf(tmp_path / "a.nc")
    with pytest.raises(DataError, match=r"time holds 'yesterday', expected a time"):
        open_reader(tmp_path / "a.nc")
