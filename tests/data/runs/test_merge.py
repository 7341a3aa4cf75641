"""Files with different variables of one run are merged, and parts that overlap stay together."""

import numpy as np
import pytest
import xarray

from matey import open as open_fields
from matey.cli import main
from matey.cli.data import alike
from matey.cli.options import read_data
from matey.data.inspect import inspect
from matey.data.runs.overlap import sharing_frames
from matey.data.systems import open_systems
from matey.errors import DataError
from tests.waves import NX, NY, TIMES, X, Y, stretch, wave, written

DIMS = ("time", "y", "x")
COORDS = {"time": TIMES, "y": Y, "x": X}


def save(path, **variables):
    written(path, xarray.Dataset({n: (DIMS, values) for n, values in variables.items()}, COORDS))


def in_folders_of_runs(folder, run, name, values):
    save(folder / f"run{run}" / f"{name}.nc", **{name: values})


def in_folders_of_variables(folder, run, name, values):
    save(folder / name / f"run{run}.nc", **{name: values})


def in_names(folder, run, name, values):
    save(folder / f"sim{run}_{name}_final.nc", **{name: values})


def under_another_name(folder, run, name, values):
    """`velocity_x.nc` of u, as is the canonical name."""
    called = {"u": "velocity_x", "v": "vy", "p": "pressure"}[name]
    save(folder / f"run{run}" / f"{called}.nc", **{name: values})


def as_npy(folder, run, name, values):
    top = folder / f"run{run}"
    top.mkdir(parents=True, exist_ok=True)
    np.save(top / f"{name}.npy", values)
    for axis, points in (("t", TIMES), ("y", Y), ("x", X)):
        np.save(top / f"{axis}.npy", points)


WRITERS = [in_folders_of_runs, in_folders_of_variables, in_names, under_another_name, as_npy]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_a_file_for_each_variable_is_merged_into_runs(tmp_path, write):
    for run in range(3):
        for c, name in enumerate("uvp"):
            write(tmp_path / "a", run, name, wave(10 * c + run))
    mix = tmp_path / "w.yaml"
    assert main(["data", "inspect", str(tmp_path / "a"), "--write", str(mix)]) == 0
    config = read_data([str(mix)])
    assert config.systems[0].join == "variables"
    for fields in (open_fields(tmp_path / "a"), open_systems(config)["a"].fields):
        assert len(fields) == 3
        order = [variable.name for variable in fields.spec.variables]
        assert sorted(order) == ["pressure", "velocity_x", "velocity_y"]
        for run, field in enumerate(fields):
            for c, name in enumerate(("velocity_x", "velocity_y", "pressure")):
                values = field.values[:, order.index(name), 0]
                np.testing.assert_array_equal(values, wave(10 * c + run))
            np.testing.assert_allclose(field.times, TIMES)
            np.testing.assert_allclose(field.grid.coordinate(2), X)


def test_a_file_for_each_variable_and_part_is_one_run(tmp_path):
    """As climate models keep them: tas_2000-2009.nc, tas_2010-2019.nc, pr_2000-2009.nc, ..."""
    for c, name in enumerate(("tas", "pr")):
        for first, last in ((0, 20), (20, 40)):
            stretch(tmp_path / f"{name}_day_{first:03d}-{last:03d}.nc", first, last, c, name=name)
    (field,) = open_fields(tmp_path)
    assert field.values.shape == (40, 2, 1, NY, NX)
    order = [variable.name for variable in field.spec.variables]
    for c, name in enumerate(("tas", "pr")):
        np.testing.assert_array_equal(field.values[:, order.index(name), 0], wave(c, 40))


def test_files_of_other_names_at_the_same_times_and_places_are_a_doubt(tmp_path):
    save(tmp_path / "first.nc", tracer=wave(0))
    save(tmp_path / "second.nc", depth=wave(1))
    found = inspect([tmp_path])
    assert "first.nc, second.nc hold different variables at the same times" in found.refused[0]
    assert len(found.systems) == 1
    with pytest.raises(DataError, match="they may be systems of their own"):
        open_fields(tmp_path)


@pytest.mark.parametrize("other", ["times", "positions"])
def test_variables_at_other_times_or_places_are_not_merged(tmp_path, other):
    save(tmp_path / "u.nc", u=wave(0))
    coords = COORDS | ({"time": TIMES + 0.05} if other == "times" else {"x": X + 0.01})
    written(tmp_path / "p.nc", xarray.Dataset({"p": (DIMS, wave(1))}, coords))
    assert len(inspect([tmp_path]).systems) == 2


def test_parts_that_share_frames_never_fall_into_different_splits(tmp_path):
    """Of any number of parts and any seed, where a data config does not join them."""
    for n, (first, last) in enumerate([(0, 15), (10, 25), (20, 40)]):
        stretch(tmp_path / f"a{n}.nc", first, last)
    for n in range(6):
        stretch(tmp_path / f"b{n}.nc", 5 * (n % 2), 20, run=n + 1)
    layout = "{axes: [time, y, x], arrays: [{array: u, variables: [u]}], time: time}"
    for seed in range(8):
        mix = tmp_path / "w.yaml"
        mix.write_text(
            f"systems: [{{name: a, paths: ['*.nc'], layout: {layout}}}]\n"
            f"split: {{seed: {seed}, test: 0.3, valid: 0.3}}\n"
        )
        (system,) = open_systems(read_data([str(mix)])).values()
        names = [t.name for t in system.fields.trajectories]
        together = {i for i, name in enumerate(names) if name.startswith("a")}
        assert sharing_frames(system.fields) == [sorted(together)]
        parts = {part for part, chosen in system.split.items() if together & set(chosen)}
        assert len(parts) == 1
        assert sorted(i for chosen in system.split.values() for i in chosen) == list(range(9))
    mix.write_text(mix.read_text().replace("seed:", "by: time, seed:"))
    with pytest.raises(DataError, match="share frames, which a split in time would put into"):
        open_systems(read_data([str(mix)]))


def test_nothing_is_read_to_divide_trajectories_that_begin_at_once(tmp_path, monkeypatch):
    for n in range(5):
        stretch(tmp_path / f"out_{n}.nc", 0, 20, run=n)
    fields = open_fields(tmp_path)
    monkeypatch.setattr(type(fields), "read", None)
    assert sharing_frames(fields) == []


@pytest.mark.parametrize("name", ["empty.nc", "empty.h5"])
def test_a_file_without_frames_is_one_line_in_every_command(tmp_path, name, capsys):
    path = str(tmp_path / name)
    coords = {"time": np.zeros(0), "y": Y, "x": X}
    empty = xarray.Dataset({"u": (DIMS, np.zeros((0, NY, NX), "f4"))}, coords)
    empty.to_netcdf(path, unlimited_dims=["time"])
    assert main(["data", "inspect", path]) == 1
    assert "holds no frame" in " ".join(capsys.readouterr().out.split())
    assert main(["data", "convert", path, str(tmp_path / "out")]) == 2
    assert "holds no frame" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"holds no frame\. Leave the file out, or wait"):
        open_fields(path)


def test_one_frame_alone_says_to_give_the_whole_run(tmp_path):
    written(tmp_path / "a.nc", xarray.Dataset({"u": (DIMS[1:], wave()[0])}, {"y": Y, "x": X}))
    with pytest.raises(DataError, match=r"it is one frame\. Give all files of the run together"):
        open_fields(tmp_path / "a.nc")


def test_refusals_that_are_alike_are_grouped():
    lines = [f"/data/run{n}/a.nc is cut short: {n} bytes, expected 90." for n in range(3)]
    grouped = alike([*lines, "another"])
    assert grouped == [f"{lines[0]} (and 2 more like it)", "another"]
