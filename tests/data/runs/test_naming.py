"""Runs in folders of their own are one system, called after the folder that holds them."""

import os

import numpy as np
import pytest
import xarray

from matey import open as open_fields
from matey.cli import main
from matey.cli.options import read_data
from matey.data.inspect import inspect
from matey.data.systems import open_systems
from matey.errors import DataError

X, TIMES = (np.arange(32) + 0.5) / 32, 0.1 * np.arange(20)


def wave(phase):
    """[t, y, x], a wave that moves to the right."""
    along = np.sin(2 * np.pi * (X - 0.3 * TIMES[:, None, None] + 0.137 * phase))
    return (along * np.cos(2 * np.pi * X[:, None])).astype("f4")


def write_run(path, phase, times=TIMES, name="tracer", **attributes):
    path.parent.mkdir(parents=True, exist_ok=True)
    coords = {"time": times, "y": X, "x": X}
    dataset = xarray.Dataset({name: (("time", "y", "x"), wave(phase))}, coords, attributes)
    dataset.to_netcdf(path)
    return path


def folders_of_runs(folder):
    for k in range(10):
        re = 100 * (1 + k % 2)
        write_run(folder / f"Re{re}_seed{k // 2}" / "output.nc", k, Re=float(re))


def test_a_folder_for_each_run_is_one_system_of_all(tmp_path):
    folders_of_runs(tmp_path / "runs")
    mix = tmp_path / "w.yaml"
    assert main(["data", "inspect", str(tmp_path / "runs"), "--write", str(mix)]) == 0
    config = read_data([str(mix)])
    assert [(s.name, s.paths) for s in config.systems] == [("runs", (str(tmp_path / "runs"),))]
    fields = open_systems(config)["runs"].fields
    names = [f"Re{re}_seed{s}/output.nc#0000" for re in (100, 200) for s in range(5)]
    assert [t.name for t in fields.trajectories] == names
    for i, k in enumerate([*range(0, 10, 2), *range(1, 10, 2)]):
        with xarray.open_dataset(tmp_path / "runs" / names[i].partition("#")[0]) as truth:
            np.testing.assert_array_equal(fields[i].values[:, 0, 0], truth["tracer"].values)
            np.testing.assert_array_equal(fields[i].times, truth["time"].values)
            np.testing.assert_allclose(fields[i].grid.coordinate(2), truth["x"].values)
        assert fields[i].parameters == {"Re": 100.0 * (1 + k % 2)}


def test_opening_the_folder_gives_them_all_too(tmp_path):
    folders_of_runs(tmp_path / "runs")
    fields = open_fields(tmp_path / "runs")
    assert len(fields) == 10
    assert fields.spec.name == "runs"


@pytest.mark.parametrize("expanded", ["folders", "files"])
def test_a_pattern_that_the_shell_expands_is_the_same_system(tmp_path, expanded):
    folders_of_runs(tmp_path / "runs")
    runs = sorted((tmp_path / "runs").iterdir())
    paths = runs if expanded == "folders" else [run / "output.nc" for run in runs]
    (system,) = inspect(paths).systems
    assert (system.name, system.trajectories) == ("runs", 10)


def test_runs_that_differ_in_variables_grid_or_dt_stay_apart(tmp_path):
    for n in range(3):
        write_run(tmp_path / f"all/swe/run{n}/o.nc", n)
        write_run(tmp_path / f"all/gas/run{n}/o.nc", n, name="pressure")
    write_run(tmp_path / "all/fast/o.nc", 1, times=0.5 * TIMES)
    names = {s.name: s.trajectories for s in inspect([tmp_path / "all"]).systems}
    assert names == {"swe": 3, "gas": 3, "fast": 1}
    with pytest.raises(DataError, match="3 systems"):
        open_fields(tmp_path / "all")


def test_two_folders_that_are_given_apart_stay_two_systems(tmp_path):
    write_run(tmp_path / "a/one/o.nc", 1)
    write_run(tmp_path / "b/two/o.nc", 2)
    found = inspect([tmp_path / "a/one", tmp_path / "b/two"])
    assert [system.name for system in found.systems] == ["one", "two"]


@pytest.mark.parametrize("gathered", ["all", "linked", "files"])
def test_runs_gathered_by_links_are_all_read(tmp_path, gathered):
    write_run(tmp_path / "all/run0/o0.nc", 0)
    for run in (1, 2, 3):
        real = write_run(tmp_path / f"scratch/run{run}/o{run}.nc", run)
        for name in ("all", "linked"):
            (tmp_path / name).mkdir(exist_ok=True)
            os.symlink(real.parent, tmp_path / name / f"run{run}")
        (tmp_path / "files").mkdir(exist_ok=True)
        os.symlink(real, tmp_path / "files" / real.name)
    os.symlink(tmp_path / gathered, tmp_path / gathered / "loop")
    fields = open_fields(tmp_path / gathered)
    runs = range(4) if gathered == "all" else range(1, 4)
    assert (fields.spec.name, len(fields)) == (gathered, len(runs))
    for field, run in zip(fields, runs, strict=True):
        np.testing.assert_array_equal(field.values[:, 0, 0], wave(run))
