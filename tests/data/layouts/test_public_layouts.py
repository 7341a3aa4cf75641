"""Layouts that programs and data sets document in public; docs/formats.md names the sources.

Each is written small, and what its draft reads is compared with what was put in: values, times,
axes and sides. Where nothing in a file decides, it is asked for, and read right once a person has
agreed.
"""

import json
from contextlib import closing

import h5py
import numpy as np
import pytest
import xarray

from matey.data.formats.container import open_container
from matey.data.layouts import positions
from tests.layouts import OPEN, ROUND, asked, check, drafted, faces

T, Z, Y, X = 6, 5, 12, 16
RANDOM = np.random.default_rng(5)
FREE = {"y": None, "x": None}  # axes without positions
LAT, LON = np.linspace(-82.5, 82.5, Y), np.arange(X) * 22.5
DEGREES = ({"units": "degrees_north"}, {"units": "degrees_east"})
SPHERE = {"lat": ("lat", LAT, DEGREES[0]), "lon": ("lon", LON, DEGREES[1])}
PLACES = {"y": LAT, "x": LON}


def noise(*shape):
    return RANDOM.normal(size=shape).astype("f4")


def table(kind, **rows):
    """A table of names and values, as Flash-X writes its parameters."""
    entries = [(name.ljust(80).encode(), value) for name, value in rows.items()]
    return np.array(entries, [("name", "S80"), ("value", kind)])


def bubbleml(folder):
    """Positions at every point and time, no times, tables of parameters."""
    y, x = np.meshgrid(0.1 * np.arange(Y), 0.2 * np.arange(X), indexing="ij")
    values = {name: noise(T, Y, X) for name in ("temperature", "pressure", "velx", "vely", "dfun")}
    with h5py.File(folder / "Twall-90.hdf5", "w") as file:
        file.update(values | {name: np.tile(v, (T, 1, 1)) for name, v in {"x": x, "y": y}.items()})
        file["real-runtime-params"] = table("f8", ins_invreynolds=0.0042)
    return values, range(T), (OPEN, OPEN), {"y": y[:, 0], "x": x[0]}


def grids_of_positions(folder):
    """`numpy.meshgrid` beside the fields."""
    y, x = np.meshgrid(0.1 * np.arange(Y), 0.2 * np.arange(X), indexing="ij")
    values = {"u": noise(T, X, Y), "v": noise(T, X, Y)}
    np.savez(folder / "a.npz", **values, X=x.T, Y=y.T, t=0.5 * np.arange(T))
    values = {name: field.transpose(0, 2, 1) for name, field in values.items()}
    return values, 0.5 * np.arange(T), (OPEN, OPEN), {"y": y[:, 0], "x": x[0]}


def pluto(folder):
    """A file for each time, its arrays in a group called after the step, positions on a grid."""
    places = [20.0 + np.arange(Z), 0.1 * np.arange(Y), 0.2 * np.arange(X)]
    grids = np.meshgrid(*places, indexing="ij")
    values = {name: noise(T, Z, Y, X) for name in ("rho", "vx1", "prs")}
    for k in range(T):
        with h5py.File(folder / f"data.{k:04d}.dbl.h5", "w") as file:
            file.create_group(f"Timestep_{k}").attrs["Time"] = 0.25 * k
            for name, field in values.items():
                file[f"Timestep_{k}/vars/{name}"] = field[k]
            for name, grid in zip("ZYX", grids, strict=True):
                file[f"cell_coords/{name}"] = grid.astype("f4")
                file[f"node_coords/{name}"] = np.zeros((Z + 1, Y + 1, X + 1), "f4")
    return values, 0.25 * np.arange(T), (OPEN,) * 3, dict(zip("zyx", places, strict=True))


def openpmd(folder):
    """`fileBased`: an iteration a file, in a group called after it."""
    values = {"rho": noise(T, Y, X), "Ex": noise(T, Y, X)}
    for k in range(T):
        with h5py.File(folder / f"simData_{100 * k:06d}.h5", "w") as file:
            step = file.create_group(f"data/{100 * k}")
            step.attrs.update({"time": 10.0 * k, "dt": 0.1, "timeUnitSI": 0.5})
            for name, field in values.items():
                step[f"fields/{name}"] = field[k]
                step[f"fields/{name}"].attrs["axisLabels"] = np.array([b"y", b"x"])
    return values, 5.0 * np.arange(T), (OPEN, OPEN), FREE


def carpet(folder):
    """Cactus: a dataset for each iteration, its time an attribute."""
    rho = noise(T, Y, X)
    with h5py.File(folder / "rho.xy.h5", "w") as file:
        for k in range(T):
            name = f"HYDROBASE::rho it={64 * k} tl=0 rl=0"
            file[name] = rho[k]
            file[name].attrs.update({"time": 0.5 * k, "iteration": 64 * k})
    return {"HYDROBASE::rho tl=0 rl=0": rho}, 0.5 * np.arange(T), (OPEN, OPEN), FREE


def oceananigans_jld2(folder):
    """JLD2 is HDF5: a dataset for each iteration, and its time beside it under the same number."""
    values = {"b": noise(T, Y, X), "u": noise(T, Y, X)}
    with h5py.File(folder / "run.jld2", "w") as file:
        for k in range(T):
            file[f"timeseries/t/{10 * k}"] = 0.2 * k
            for name, field in values.items():
                file[f"timeseries/{name}/{10 * k}"] = field[k][None]
        file["grid/Nx"] = X
    return values, 0.2 * np.arange(T), (OPEN, OPEN), FREE


def flash(folder):
    """A uniform grid: one block, and the time in a table of names and values."""
    values = {name: noise(T, Y, X) for name in ("dens", "pres", "velx")}
    for k in range(T):
        with h5py.File(folder / f"sedov_hdf5_plt_cnt_{k:04d}", "w") as file:
            for name, field in values.items():
                file[name] = field[k][None, None]
            file["real scalars"] = table("f8", time=0.5 * k, dt=1e-3)
            file["integer scalars"] = table("i4", nxb=X, nyb=Y)
            file["coordinates"], file["bounding box"] = np.zeros((1, 3)), np.zeros((1, 3, 2))
            file["block size"], file["refine level"] = np.ones((1, 3)), np.ones(1, "i4")
            file["gid"] = np.full((1, 9), -1)
    return values, 0.5 * np.arange(T), (OPEN, OPEN), FREE


def pdearena(folder):
    """A group called after the split, positions and steps for each sample, `u` beside `vx`."""
    values = {name: noise(2, T, Y, X) for name in ("u", "vx", "vy")}
    with h5py.File(folder / "NavierStokes2D_train_1_0.5_2.h5", "w") as file:
        for name, field in values.items():
            file[f"train/{name}"] = field
        file["train/t"] = np.tile(1.5 * np.arange(T), (2, 1))
        file["train/dt"] = file["train/buo_y"] = np.full(2, 0.5)
    both = [{name: field[n] for name, field in values.items()} for n in range(2)]
    return both, 1.5 * np.arange(T), (OPEN, OPEN), FREE


def cfdbench(folder):
    """A folder for each case, a file for each component."""
    cases = []
    for case in range(3):
        here = folder / "cavity" / "bc" / f"case{case:04d}"
        here.mkdir(parents=True)
        cases.append({"u": noise(T, 20, 20), "v": noise(T, 20, 20)})
        for name, field in cases[-1].items():
            np.save(here / f"{name}.npy", field)
        (here / "case.json").write_text(json.dumps({"vel_top": case, "density": 1}))
    return cases, range(T), (OPEN, OPEN), FREE


def phiflow(folder):
    """A scene: a file for each quantity and frame, with the names of its axes."""
    scenes = []
    for scene in range(2):
        (folder / f"sim_{scene:06d}").mkdir()
        fields = {"smoke": noise(T, X, Y), "pressure": noise(T, X, Y)}
        scenes.append({name: field.transpose(0, 2, 1) for name, field in fields.items()})
        for name, field in fields.items():
            for k in range(T):
                path = folder / f"sim_{scene:06d}" / f"{name}_{k:06d}.npz"
                about = {"dim_names": np.array(["x", "y"]), "field_type": np.array("CenteredGrid")}
                np.savez(path, data=field[k], lower=np.zeros(2), upper=np.ones(2), **about)
    return scenes, range(T), (OPEN, OPEN), FREE


def shenfun(folder):
    """A dataset for each step, called by its number alone."""
    field = noise(T, Y, X)
    with h5py.File(folder / "run.h5", "w") as file:
        for k in range(T):
            file[f"u/2D/{10 * k}"] = field[k]
        file["u/mesh/x0"], file["u/mesh/x1"] = np.arange(Y) * 0.5, np.arange(X) * 0.25
    return {"2D": field}, 10.0 * np.arange(T), (OPEN, OPEN), FREE


def microhh(folder):
    """A file for each variable, velocities half a cell aside (`xh`, `yh`, `zh`)."""
    time = ("time", 300.0 * np.arange(T), {"units": "seconds since 2000-01-01"})
    places = {"x": 5 + 10.0 * np.arange(X), "y": 5 + 10.0 * np.arange(Y)}
    places |= {"z": 10 + 20.0 * np.arange(Z), "zh": 20.0 * np.arange(Z + 1)}
    places |= {"xh": places["x"] - 5, "yh": places["y"] - 5}
    stored = {}
    dims = {
        "u": ("z", "y", "xh"),
        "v": ("z", "yh", "x"),
        "w": ("zh", "y", "x"),
        "th": ("z", "y", "x"),
    }
    for name, its in dims.items():
        stored[name] = noise(T, *(len(places[dim]) for dim in its))
        coords = {"time": time} | {dim: places[dim] for dim in its}
        dataset = xarray.Dataset({name: (("time", *its), stored[name])}, coords)
        dataset.to_netcdf(folder / f"{name}.nc")
    left = {
        name: faces(stored[name], axis)[(slice(None),) * axis + (slice(1, None),)]
        for name, axis in (("u", 3), ("v", 2))
    }
    values = {"th": stored["th"], "w": faces(stored["w"], 1)[:, 1:-1], **left}
    return values, 300.0 * np.arange(T), (OPEN,) * 3, {axis: places[axis] for axis in "zyx"}


def cam(folder):
    """Levels between layers, and the staggered latitudes of the finite-volume core."""
    vertical = {"positive": "down", "standard_name": "atmosphere_hybrid_sigma_pressure_coordinate"}
    lev, ilev = 100.0 * np.arange(1, Z + 1), 100.0 * np.arange(1, Z + 2) - 50
    t, omega, us = noise(T, Z, Y, X), noise(T, Z + 1, Y, X), noise(T, Z, Y - 1, X)
    xarray.Dataset(
        {
            "T": (("time", "lev", "lat", "lon"), t, {"units": "K"}),
            "OMEGA": (("time", "ilev", "lat", "lon"), omega),
            "US": (("time", "lev", "slat", "lon"), us),
            "hyam": ("lev", np.ones(Z)),
            "P0": 1e5,
            "date": ("time", np.arange(T)),
            "time_bnds": (("time", "nbnd"), np.ones((T, 2))),
        },
        {
            "time": (
                "time",
                np.arange(T) / 8,
                {"units": "days since 0001-01-01", "calendar": "noleap"},
            ),
            "lev": ("lev", lev, vertical),
            "ilev": ("ilev", ilev, vertical),
            **SPHERE,
            "slat": ("slat", (LAT[1:] + LAT[:-1]) / 2, DEGREES[0]),
        },
    ).to_netcdf(folder / "case.cam.h0.0001-01-01-00000.nc")
    values = {"T": t, "OMEGA": faces(omega, 1)[:, 1:-1], "US": faces(us, 2)}
    return values, np.arange(T) / 8, (OPEN, OPEN, ROUND), {"z": lev, **PLACES}


def nemo(folder):
    """A file for each grid of points; those of u lie right of the centres, as `depthu` tells."""
    temp, u = noise(T, Z, Y, X), noise(T, Z, Y, X)
    days = ("time_counter", 86400.0 * np.arange(T), {"units": "seconds since 1900-01-01"})
    for grid, name, field in (("T", "votemper", temp), ("U", "vozocrtx", u)):
        depth = f"depth{grid.lower()}"
        xarray.Dataset(
            {name: (("time_counter", depth, "y", "x"), field)},
            {"time_counter": days, depth: 10.0 * np.arange(Z)},
        ).to_netcdf(folder / f"ORCA2_1d_20200101_20200106_grid_{grid}.nc")
    right = faces(u, 3)[..., :-1]
    depths = {"z": 10.0 * np.arange(Z), **FREE}
    return {"votemper": temp, "vozocrtx": right}, 86400.0 * np.arange(T), (OPEN,) * 3, depths


def merra2(folder):
    """A day a file, each counting minutes from its own beginning."""
    wind = noise(72, Y, X)
    for day in range(3):
        units = {"units": f"minutes since 2020-01-0{day + 1} 00:30:00"}
        coords = {"time": ("time", 60.0 * np.arange(24), units), **SPHERE}
        part = xarray.Dataset({"U10M": (("time", "lat", "lon"), wind[24 * day :][:24])}, coords)
        part.to_netcdf(folder / f"MERRA2_400.tavg1_2d_slv_Nx.2020010{day + 1}.nc4")
    return {"U10M": wind}, 60.0 * np.arange(72), (OPEN, ROUND), PLACES


def oisst(folder):
    """A day a file, one level, packed, land missing."""
    sea = np.ones((Y, X), bool)
    sea[:3, :5] = False
    sst = np.round(20 + noise(8, Y, X), 2)
    packing = {"dtype": "int16", "scale_factor": 0.01, "_FillValue": -999}
    for k in range(8):
        units = {"units": "days since 1978-01-01 12:00:00"}
        field = np.where(sea, sst[k], np.nan)[None, None]
        xarray.Dataset(
            {"sst": (("time", "zlev", "lat", "lon"), field)},
            {"time": ("time", [15340.0 + k], units), "zlev": ("zlev", [0.0]), **SPHERE},
        ).to_netcdf(folder / f"oisst-avhrr-v02r01.2020010{k + 1}.nc", encoding={"sst": packing})
    return {"sst": np.where(sea, sst, 0)}, 15340.0 + np.arange(8), (OPEN, ROUND), PLACES


def hycom(folder):
    """The bottom cuts off deep levels: a mask of its own for each."""
    sea = np.ones((3, Y, X), bool)
    sea[:, :2, :4] = sea[2, :5, :6] = False
    u = np.round(noise(T, 3, Y, X), 3)
    depths = np.array([0.0, 2, 4])
    xarray.Dataset(
        {"water_u": (("time", "depth", "lat", "lon"), np.where(sea, u, np.nan))},
        {
            "time": ("time", 3.0 * np.arange(T), {"units": "hours since 2000-01-01", "axis": "T"}),
            "depth": ("depth", depths, {"positive": "down", "axis": "Z"}),
            **SPHERE,
            "tau": ("time", np.zeros(T), {"units": "hours since analysis"}),
        },
    ).to_netcdf(
        folder / "hycom_GLBy0.08_930_2020010112.nc",
        encoding={"water_u": {"dtype": "int16", "scale_factor": 0.001, "_FillValue": -30000}},
    )
    sides = (OPEN, OPEN, ROUND)
    return {"water_u": np.where(sea, u, 0)}, 3.0 * np.arange(T), sides, {"z": depths, **PLACES}


def graphcast(folder):
    """A batch of one, times as differences, dates beside them."""
    steps = np.arange(T) * np.timedelta64(6, "h").astype("timedelta64[ns]")
    field = noise(1, T, 3, Y, X)
    xarray.Dataset(
        {"temperature": (("batch", "time", "level", "lat", "lon"), field)},
        {
            "time": steps,
            "level": [500, 850, 1000],
            "lat": LAT.astype("f4"),
            "lon": LON.astype("f4"),
            "datetime": (("batch", "time"), (np.datetime64("2022-01-01", "ns") + steps)[None]),
        },
    ).to_netcdf(folder / "source-era5_date-2022-01-01_res-1.0_levels-3_steps-04.nc")
    axes = {"z": [500, 850, 1000], **PLACES}
    return {"temperature": field[0]}, 6.0 * np.arange(T), (OPEN, OPEN, ROUND), axes


def speedy(folder):
    """SpeedyWeather: layers as fractions of the pressure, latitudes from the north."""
    field, layers = noise(T, Z, Y, X), np.linspace(0.1, 0.9, Z)
    xarray.Dataset(
        {"vor": (("time", "layer", "lat", "lon"), field)},
        {
            "time": ("time", 6.0 * np.arange(T), {"units": "hours since 2000-01-01"}),
            "layer": layers,
            "lat": ("lat", LAT[::-1], DEGREES[0]),
            "lon": SPHERE["lon"],
        },
    ).to_netcdf(folder / "output.nc")
    axes = {"z": layers, **PLACES}
    return {"vor": field[:, :, ::-1]}, 6.0 * np.arange(T), (OPEN, OPEN, ROUND), axes


def wrf_restarts(folder):
    """A frame a file, two levels of time in each (`T_1`, `T_2`), dates as text."""
    stored = {f"{name}_{i}": noise(20, Z, Y, X + (name == "U")) for name in "TU" for i in (1, 2)}
    dims = ("Time", "bottom_top", "south_north")
    for k in range(20):
        date = f"2020-01-01_{k:02d}:00:00"
        arrays = {
            name: ((*dims, "west_east_stag" if name[0] == "U" else "west_east"), field[k : k + 1])
            for name, field in stored.items()
        }
        arrays["Times"] = ("Time", np.array([date], "S19"))
        xarray.Dataset(arrays).to_netcdf(folder / f"wrfrst_d01_{date}")
    values = {n: faces(f, 3)[..., 1:-1] if n[0] == "U" else f for n, f in stored.items()}
    begin = np.datetime64("2020-01-01", "s").astype(float)
    return values, begin + 3600.0 * np.arange(20), (OPEN,) * 3, {"z": None, **FREE}


def boutpp(folder):
    """Axes t, x, y, z, and times in `t_array`."""
    field = noise(T, X, Z, Y)
    xarray.Dataset(
        {"n": (("t", "x", "y", "z"), field), "wall_time": ("t", 2.0 * np.arange(T))},
        {"t_array": ("t", 50.0 * np.arange(T))},
        {"BOUT_VERSION": 5.0},
    ).to_netcdf(folder / "BOUT.dmp.nc")
    axes = {"z": None, "y": None, "x": None}
    return {"n": field.transpose(0, 3, 2, 1)}, 50.0 * np.arange(T), (OPEN,) * 3, axes


def jax_cfd(folder):
    """x before y, and an axis of samples."""
    values = {"u": noise(2, T, X, Y), "v": noise(2, T, X, Y)}
    places = {"x": np.arange(X) * 0.5, "y": np.arange(Y) * 0.25}
    dims = ("sample", "time", "x", "y")
    xarray.Dataset(
        {name: (dims, field) for name, field in values.items()},
        {"sample": [0, 1], "time": 0.1 * np.arange(T), **places},
    ).to_netcdf(folder / "eval_64x64.nc")
    both = [{name: f[n].transpose(0, 2, 1) for name, f in values.items()} for n in range(2)]
    return both, 0.1 * np.arange(T), (OPEN, OPEN), {axis: places[axis] for axis in "yx"}


def climax(folder):
    """Shards of years in folders called after the split, an axis of one level."""
    shards = []
    for split in ("test", "train", "val"):
        (folder / split).mkdir()
        for year in range(2):
            shards.append({"2m_temperature": noise(30, Y, X)})
            stored = {name: field[:, None] for name, field in shards[-1].items()}
            np.savez(folder / split / f"{1979 + year}_0.npz", **stored)
    return shards, range(30), (OPEN, OPEN), FREE


READ = [
    *(
        boutpp,
        bubbleml,
        cam,
        carpet,
        graphcast,
        grids_of_positions,
        hycom,
        jax_cfd,
        merra2,
        microhh,
        oisst,
    ),
    *(openpmd, phiflow, pluto, speedy, wrf_restarts),
]
ASKED = [cfdbench, climax, flash, nemo, oceananigans_jld2, pdearena, shenfun]


@pytest.mark.parametrize("layout", [*READ, *ASKED], ids=lambda layout: layout.__name__)
def test_a_layout_is_read_as_its_program_means_it(tmp_path, layout):
    values, times, sides, axes = layout(tmp_path)
    expected = values if isinstance(values, list) else [values]
    fields = (asked if layout in ASKED else drafted)(tmp_path)
    assert len(fields) == len(expected)
    for field, each in zip(fields, expected, strict=True):
        check(field, each, times, sides, axes)


def test_folders_of_a_split_may_be_called_otherwise(tmp_path):
    climax(tmp_path)
    splits = [trajectory.split for trajectory in asked(tmp_path).trajectories]
    assert splits == ["test", "test", "train", "train", "valid", "valid"]


def test_a_scalar_beside_velocities_is_none(tmp_path):
    pdearena(tmp_path)
    fields = asked(tmp_path)
    names = {variable.alias: variable.name for variable in fields.spec.variables}
    assert names == {"u": "u", "vx": "velocity_x", "vy": "velocity_y"}
    assert fields.spec.variables[0].pseudo is None


def test_positions_that_change_along_two_axes_are_no_coordinate(tmp_path):
    y, x = np.meshgrid(0.1 * np.arange(Y), 0.2 * np.arange(X), indexing="ij")
    rho = noise(T, Y, X)
    np.savez(tmp_path / "a.npz", rho=rho, X=x + 0.1 * y, Y=y, t=np.arange(T))
    field = asked(tmp_path / "a.npz")[0]
    static = {variable.alias for variable in field.spec.variables if variable.static}
    assert static == {"X"}
    np.testing.assert_allclose(field.grid.coordinate(1), y[:, 0])
    np.testing.assert_array_equal(field.grid.coordinate(2), np.arange(X))


@pytest.mark.parametrize("bend", [0.0, 0.01])
def test_a_large_grid_that_is_bent_inside_alone_is_no_coordinate(tmp_path, monkeypatch, bend):
    monkeypatch.setattr(positions, "WHOLE", 0)
    y, x = np.meshgrid(np.linspace(0, 1, Y), np.linspace(0, 1, X), indexing="ij")
    bent = x + bend * np.sin(np.pi * x) * np.sin(np.pi * y)
    bent[[0, -1]] = x[[0, -1]]
    np.savez(tmp_path / "a.npz", X=bent)
    with closing(open_container(tmp_path / "a.npz")) as file:
        assert positions.read_positions(file, "X").shape == ((Y, X) if bend else (X,))


def test_a_field_called_as_an_axis_that_is_fixed_at_the_sides_is_a_field(tmp_path):
    y, x = np.meshgrid(np.linspace(0, 1, Y), np.linspace(0, 1, X), indexing="ij")
    z = np.arange(T)[:, None, None] * (y * (1 - y) * x * (1 - x))
    np.savez(tmp_path / "a.npz", u=noise(T, Y, X), z=z)
    variables = asked(tmp_path / "a.npz").spec.variables
    assert [variable.alias for variable in variables] == ["u", "z"]


def test_a_grid_of_positions_without_points_is_no_coordinate(tmp_path):
    np.savez(tmp_path / "a.npz", rho=noise(T, Y, X), X=np.zeros((0, 5)), t=np.arange(T))
    assert asked(tmp_path / "a.npz")[0].grid.shape == (1, Y, X)
