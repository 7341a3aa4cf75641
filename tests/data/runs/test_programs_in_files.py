"""Runs in many files as programs of the field write them, rebuilt from their documentation."""

import h5py
import numpy as np
import pytest
import xarray

from matey import open as open_fields
from tests.waves import NX, NY, STEPS, TIMES, X, Y, wave, written


def test_sets_of_dedalus_are_one_run(tmp_path):
    """`max_writes` cuts an output into sets, each a file with scales and tasks.

    Source: https://dedalus-project.readthedocs.io, "Analysis and Post-processing".
    """
    values = wave(0, 30)
    (tmp_path / "snapshots").mkdir()
    for n in range(3):
        with h5py.File(tmp_path / f"snapshots/snapshots_s{n + 1}.h5", "w") as file:
            scales = {"sim_time": 0.1 * np.arange(10 * n, 10 * n + 10), "y": Y, "x": X}
            file["tasks/u"] = values[10 * n : 10 * n + 10]
            file["scales/iteration"] = np.arange(10)
            for axis, (name, points) in enumerate(scales.items()):
                file[f"scales/{name}"] = points
                file[f"scales/{name}"].make_scale(name)
                file["tasks/u"].dims[axis].attach_scale(file[f"scales/{name}"])
    (field,) = open_fields(tmp_path)
    np.testing.assert_array_equal(field.values[:, 0, 0], values)
    np.testing.assert_allclose(field.times, 0.1 * np.arange(30))
    np.testing.assert_allclose(field.grid.coordinate(2), X)


def test_days_of_wrf_are_one_run(tmp_path):
    """`frames_per_outfile` frames in a file without a suffix, with times as text.

    Source: https://www2.mmm.ucar.edu/wrf/users, "Time_Control" of the namelist.
    """
    values, dims = wave(0, 16), ("Time", "south_north", "west_east")
    for day in range(4):
        dates = [f"2020-01-0{day + 1}_{hour:02d}:00:00" for hour in (0, 6, 12, 18)]
        arrays = {"T2": (dims, values[4 * day :][:4]), "Times": ("Time", np.array(dates, "S19"))}
        written(tmp_path / f"wrfout_d01_2020-01-0{day + 1}_00:00:00", xarray.Dataset(arrays))
    (field,) = open_fields(tmp_path)
    np.testing.assert_array_equal(field.values[:, 0, 0], values)
    np.testing.assert_allclose(field.times - field.times[0], 6 * 3600.0 * np.arange(16))


def test_files_of_openpmd_by_group_are_one_run(tmp_path):
    """`groupBased`: an iteration in a group each, with time, and labels of axes.

    Source: https://github.com/openPMD/openPMD-standard, version 1.1.0.
    """
    with h5py.File(tmp_path / "diag.h5", "w") as file:
        for k in range(STEPS):
            step = file.create_group(f"data/{100 * k}")
            step.attrs.update({"time": 10.0 * k, "dt": 10.0, "timeUnitSI": 1e-3})
            step["fields/rho"] = wave()[k]
            step["fields/rho"].attrs["axisLabels"] = np.array(["y", "x"], "S1")
    (field,) = open_fields(tmp_path)
    np.testing.assert_array_equal(field.values[:, 0, 0], wave())
    np.testing.assert_allclose(field.times, 0.01 * np.arange(STEPS))
    assert field.grid.axes == ("y", "x")


@pytest.mark.parametrize("kind", ["folder of a time", "cutout", "dump"])
def test_other_programs_give_one_run_as_well(tmp_path, kind):
    """A folder for each time (OpenFOAM), a dataset for each (cutouts of the Johns Hopkins
    Turbulence Database), an archive for each (dumps of one's own)."""
    order = ["velocity_x", "velocity_y"]
    for k in range(STEPS):
        pair = {"u": wave()[k], "v": wave(1)[k]}
        if kind == "folder of a time":
            folder = tmp_path / "case" / f"{0.1 * k:g}"
            folder.mkdir(parents=True)
            for name, values in pair.items():
                np.save(folder / f"{name}.npy", values)
        elif kind == "dump":
            np.savez(tmp_path / f"dump.{100 * k:06d}.npz", x=X, y=Y, time=0.1 * k, **pair)
        else:
            with h5py.File(tmp_path / "cut.h5", "a") as file:
                file[f"Velocity_{k:04d}"] = np.stack([*pair.values()], -1)
                if not k:
                    file["xcoor"], file["ycoor"] = X, Y
    (field,) = open_fields(tmp_path)
    assert [variable.name for variable in field.spec.variables] == order
    for c in range(2):
        np.testing.assert_array_equal(field.values[:, c, 0], wave(c))
    step = 1.0 if kind == "cutout" else TIMES[1]
    np.testing.assert_allclose(field.times, step * np.arange(STEPS))
    assert field.grid.shape == (1, NY, NX)
