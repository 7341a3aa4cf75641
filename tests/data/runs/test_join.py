"""Frames in files, groups or datasets of their own are one run, in order of time."""

import os
import pickle

import h5py
import netCDF4
import numpy as np
import pytest
import xarray

from matey import open as open_fields
from matey.cli import main
from matey.cli.options import read_data
from matey.data.inspect import inspect
from matey.data.runs.names import parse_all
from matey.data.systems import open_systems
from matey.data.trajectories import open_source
from matey.errors import DataError
from tests.waves import NY, STEPS, TIMES, X, Y, stretch, wave, written


def with_time_axis(folder, run, k):
    coords = {"time": [TIMES[k]], "y": Y, "x": X}
    dataset = xarray.Dataset({"u": (("time", "y", "x"), wave(run)[k][None])}, coords)
    written(folder / f"out_{k:04d}.nc", dataset, unlimited_dims=["time"])


def with_time_attribute(folder, run, k):
    dataset = xarray.Dataset(
        {"u": (("y", "x"), wave(run)[k])}, {"y": Y, "x": X}, {"time": TIMES[k]}
    )
    written(folder / f"out_{k}.nc", dataset)


def with_scalar_time(folder, run, k):
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / f"{k:02d}.h5", "w") as file:
        file["u"], file["y"], file["x"], file["t"] = wave(run)[k], Y, X, TIMES[k]


def with_own_beginning(folder, run, k):
    """Hours since the beginning of each file, as WRF and ROMS write them."""
    coords = {"time": ("time", [0.0], {"units": f"hours since 2000-01-01 {k:02d}:00:00"})}
    dataset = xarray.Dataset({"u": (("time", "y", "x"), wave(run)[k][None])}, coords)
    written(folder / f"his_{k:05d}.nc", dataset)


def with_zarr(folder, run, k):
    pytest.importorskip("zarr", reason="needs zarr: pip install 'matey-pde[zarr]'")
    folder.mkdir(parents=True, exist_ok=True)
    coords = {"time": [TIMES[k]], "y": Y, "x": X}
    dataset = xarray.Dataset({"u": (("time", "y", "x"), wave(run)[k][None])}, coords)
    dataset.to_zarr(folder / f"snap{k}.zarr", consolidated=False)


def with_date_in_name(folder, run, k):
    dataset = xarray.Dataset({"u": (("y", "x"), wave(run)[k])}, {"y": Y, "x": X})
    written(folder / f"wrfout_d01_2020-01-{1 + k // 24:02d}_{k % 24:02d}:00:00", dataset)


def with_number_alone(folder, run, k):
    dataset = xarray.Dataset({"u": (("y", "x"), wave(run)[k])}, {"y": Y, "x": X})
    written(folder / f"out_{10 * k}.nc", dataset)


def with_time_in_name(folder, run, k):
    dataset = xarray.Dataset({"u": (("y", "x"), wave(run)[k])}, {"y": Y, "x": X})
    written(folder / f"u_t={TIMES[k]:.2f}.nc", dataset)


def with_decimals_in_name(folder, run, k):
    dataset = xarray.Dataset({"u": (("y", "x"), wave(run)[k])}, {"y": Y, "x": X})
    written(folder / f"u_{TIMES[k]:.6f}.nc", dataset)


def with_folder_of_its_time(folder, run, k):
    folder = folder / f"{TIMES[k]:g}"
    folder.mkdir(parents=True)
    np.save(folder / "u.npy", wave(run)[k])


def as_npy(folder, run, k):
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"frame_{k:04d}.npy", wave(run)[k])


def as_npz(folder, run, k):
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / f"step{k}.npz", u=wave(run)[k])


KINDS = {  # the writer, and the time of frame k in what it writes
    with_time_axis: 0.1,
    with_time_attribute: 0.1,
    with_scalar_time: 0.1,
    with_own_beginning: 1.0,
    with_zarr: 0.1,
    with_date_in_name: 3600.0,
    with_number_alone: 10.0,
    with_time_in_name: 0.1,
    with_decimals_in_name: 0.1,
    with_folder_of_its_time: 0.1,
    as_npy: 1.0,
    as_npz: 1.0,
}


@pytest.mark.parametrize("write", KINDS, ids=lambda write: write.__name__)
def test_a_file_for_each_frame_is_one_trajectory_in_order_of_time(tmp_path, write):
    for k in range(STEPS):
        write(tmp_path / "waves", 0, k)
    fields = open_fields(tmp_path / "waves")
    assert len(fields) == 1
    assert fields.spec.name == "waves"
    assert fields.spec.dt == pytest.approx(KINDS[write])
    field = fields[0]
    assert field.grid.axes == ("y", "x")
    np.testing.assert_array_equal(field.values[:, 0, 0], wave())
    steps = field.times - field.times[0]
    np.testing.assert_allclose(steps, KINDS[write] * np.arange(STEPS), rtol=1e-9)
    np.testing.assert_array_equal(fields.read(0, slice(3, 10, 2)).values[:, 0, 0], wave()[3:10:2])


@pytest.mark.parametrize("write", [with_time_axis, with_time_attribute, as_npy])
def test_runs_in_folders_are_trajectories_and_the_draft_reads_them_again(tmp_path, write):
    for run in range(4):
        for k in range(STEPS):
            write(tmp_path / "a" / f"run{run}", run, k)
    mix = tmp_path / "w.yaml"
    assert main(["data", "inspect", str(tmp_path / "a"), "--write", str(mix)]) == 0
    config = read_data([str(mix)])
    assert config.systems[0].join == "time"
    fields = open_systems(config)["a"].fields
    assert len(fields) == 4
    for run in range(4):
        np.testing.assert_array_equal(fields[run].values[:, 0, 0], wave(run))
    again = pickle.loads(pickle.dumps(fields))  # as worker processes do it
    np.testing.assert_array_equal(again[2].values, fields[2].values)


def test_frames_of_several_runs_in_one_folder_are_told_apart(tmp_path):
    """By the word before a number, else by the times."""
    for run in range(3):
        for k in range(STEPS):
            np.savez(tmp_path / f"sim{run}_{k:03d}.npz", u=wave(run)[k], t=TIMES[k])
            coords = {"time": [TIMES[k]], "y": Y, "x": X}
            dataset = xarray.Dataset({"v": (("time", "y", "x"), wave(run)[k][None])}, coords)
            written(tmp_path / "nc" / f"a{k}_{run}.nc", dataset)
    for folder, pattern in ((tmp_path, "sim*.npz"), (tmp_path / "nc", "*.nc")):
        fields = open_fields(str(folder / pattern))
        assert [len(t.times) for t in fields.trajectories] == [STEPS] * 3
        for run, field in enumerate(fields):
            np.testing.assert_array_equal(field.values[:, 0, 0], wave(run))


def test_two_numbers_of_which_nothing_tells_which_is_the_frame_are_a_doubt(tmp_path, capsys):
    for a in range(3):
        for b in range(5):
            np.savez(tmp_path / f"{a}_{b}.npz", y=Y, x=X, u=wave(a)[b])
    mix = tmp_path / "w.yaml"
    assert main(["data", "inspect", str(tmp_path), "--write", str(mix)]) == 1
    assert "the last of the numbers in 0_0.npz is taken" in " ".join(
        capsys.readouterr().out.split()
    )
    text = mix.read_text()
    assert "# DOUBT" in text
    with pytest.raises(DataError, match="last of the numbers"):
        open_systems(read_data([str(mix)]))
    with pytest.raises(DataError, match="last of the numbers"):
        open_fields(tmp_path)
    lines = text.splitlines()
    place = next(i for i, line in enumerate(lines) if line.strip().startswith("doubts:"))
    end = next(i for i in range(place, len(lines)) if lines[i].startswith("# "))
    mix.write_text("\n".join([*lines[:place], *lines[end:]]))
    (system,) = open_systems(read_data([str(mix)])).values()
    assert [len(t.times) for t in system.fields.trajectories] == [5] * 3


def grouped(path, name, **attributes):
    with h5py.File(path, "w") as file:
        for k in range(STEPS):
            group = file.create_group(name.format(k))
            group["u"] = wave()[k]
            for key, value in attributes.items():
                group.attrs[key] = value * k
        file["x"], file["y"] = X, Y


@pytest.mark.parametrize("name", ["Step#{}", "{:05d}", "data/{}/fields", "t_{}"])
def test_a_group_for_each_frame_is_one_variable(tmp_path, name):
    grouped(tmp_path / "a.h5", name, time=0.25)
    (field,) = open_fields(tmp_path / "a.h5")
    np.testing.assert_array_equal(field.values[:, 0, 0], wave())
    np.testing.assert_allclose(field.times, 0.25 * np.arange(STEPS))
    np.testing.assert_allclose(field.grid.coordinate(2), X)


def test_times_before_zero_are_frames_too_and_what_some_frames_lack_is_said(tmp_path):
    times = np.arange(STEPS) * 0.5 - 2
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for k, time in enumerate(times):
            file[f"t={time}/rho"] = wave()[k]
            if k > 2:
                file[f"t={time}/p"] = wave()[k]
    (field,) = fields = open_fields(tmp_path / "a.h5")
    np.testing.assert_array_equal(field.values[:, 0, 0], wave())
    np.testing.assert_array_equal(field.times, times)
    said = " ".join(fields.readers[0].contents.assumptions)
    assert f"/p and {STEPS - 4} more arrays left out: not in each of the {STEPS} frames" in said


@pytest.mark.parametrize(
    ("names", "values"),
    [
        ("u_0.000000 u_0.250000 u_0.500000", [[0], [0.25], [0.5]]),
        ("u_0.5000 u_1.0000 u_1.5000 u_2.0000", [[0.5], [1], [1.5], [2]]),
        ("u_0.0 u_0.1 u_0.2 u_0.30000000000000004", [[0], [0.1], [0.2], [0.30000000000000004]]),
        ("u_1.0000 u_2.0000", [[1], [2]]),
        ("u_2.500000e-01 u_1e-05 u_5.000000e+00", [[0.25], [1e-5], [5]]),
        ("u_-0.5 u_0.5 u=-1", [[-0.5], [0.5], [-1]]),
        ("u_1.0000 u_1.0001 u_1.0002", [[1, 0], [1, 1], [1, 2]]),
        ("u_1.0000 u_1.0010 u_2.0000 u_2.0010", [[1, 0], [1, 10], [2, 0], [2, 10]]),
        ("run0.2500 run0.5000", [[0, 2500], [0, 5000]]),
        ("rho-0001 rho-0002", [[1], [2]]),
    ],
)
def test_digits_about_a_point_are_one_number_unless_they_count_runs_and_frames(names, values):
    parsed = parse_all(f"a/{name}.npy" for name in names.split())
    assert [[number.value for number in name.numbers] for name in parsed] == values


def test_a_dataset_for_each_frame_is_one_variable(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for k in range(STEPS):
            file[f"Velocity_{k + 1:04d}"] = np.stack([wave(1)[k], wave(2)[k]], -1)
            file[f"Pressure_{k + 1:04d}"] = wave(3)[k]
        file["x"], file["y"] = X, Y
    (field,) = open_fields(tmp_path / "a.h5")
    names = [variable.name for variable in field.spec.variables]
    assert names == ["pressure", "velocity_x", "velocity_y"]
    for c, run in enumerate((3, 1, 2)):
        np.testing.assert_array_equal(field.values[:, c, 0], wave(run))
    np.testing.assert_array_equal(field.times, 1.0 + np.arange(STEPS))


def test_numbered_variables_of_a_run_are_no_frames(tmp_path):
    """Species of a reaction: of an axis of time, or of a file that has its time."""
    dims = ("time", "y", "x")
    coords = {"time": TIMES, "y": Y, "x": X}
    species = {f"Y_{n:02d}": (dims, wave(n)) for n in range(5)}
    written(tmp_path / "a.nc", xarray.Dataset(species, coords))
    assert len(open_fields(tmp_path / "a.nc").spec.variables) == 5
    for k in range(STEPS):
        species = {f"Y_{n:02d}": (("y", "x"), wave(n)[k]) for n in range(5)}
        dataset = xarray.Dataset(species, {"y": Y, "x": X}, {"time": TIMES[k]})
        written(tmp_path / "b" / f"o{k}.nc", dataset)
    (field,) = open_fields(tmp_path / "b")
    assert field.values.shape[:2] == (STEPS, 5)


def test_parts_of_a_run_that_was_restarted_are_joined(tmp_path):
    for n, (first, last) in enumerate([(0, 15), (15, 30), (30, 40)]):
        stretch(tmp_path / f"out_{n}.nc", first, last)
    (field,) = open_fields(tmp_path)
    np.testing.assert_array_equal(field.values[:, 0, 0], wave(0, 40))
    np.testing.assert_allclose(field.times, 0.1 * np.arange(40))


@pytest.mark.parametrize("kind", ["attribute", "number"])
def test_runs_of_other_parameters_stay_trajectories_and_frames_of_others_are_refused(
    tmp_path, kind
):
    for n in range(3):
        for name, values, time in (("run", wave(n), TIMES), ("frame", wave()[n], TIMES[n])):
            with h5py.File(tmp_path / f"{name[0]}{n}_{name}.h5", "w") as file:
                file["u"], file["y"], file["x"], file["t"] = values, Y, X, time
                if kind == "attribute":
                    file.attrs["Re"] = 10.0 * n
                else:
                    file["Re"] = 10.0 * n
    fields = open_fields(str(tmp_path / "*_run.h5"))
    assert [t.parameters["Re"] for t in fields.trajectories] == [0.0, 10.0, 20.0]
    with pytest.raises(DataError, match=r"hold the parameters {'Re': 0.0} and"):
        open_fields(str(tmp_path / "*_frame.h5"))


def test_members_that_cover_the_same_times_stay_trajectories(tmp_path):
    for n in range(4):
        stretch(tmp_path / f"out_{n}.nc", 0, 20, run=n)
    assert len(open_fields(tmp_path)) == 4


def test_forecasts_that_begin_one_after_the_other_stay_trajectories(tmp_path):
    for n in range(4):
        stretch(tmp_path / f"out_{n}.nc", 5 * n, 5 * n + 20, run=n)
    assert len(open_fields(tmp_path)) == 4


def test_a_frame_that_stands_twice_is_named_and_dropped(tmp_path, caplog):
    folder, mix = tmp_path / "run", tmp_path / "w.yaml"
    for n, (first, last) in enumerate([(0, 16), (15, 31), (30, 40)]):
        stretch(folder / f"restart_{n}.nc", first, last)
    assert main(["data", "inspect", str(folder), "--write", str(mix)]) in (0, 1)
    text = mix.read_text()
    assert "time 1.5 stands twice, in restart_0.nc and restart_1.nc" in text
    assert "duplicates: drop" in text
    fields = open_source(read_data([str(mix)]).systems[0])
    np.testing.assert_array_equal(fields[0].values[:, 0, 0], wave(0, 40))
    mix.write_text(text.replace("    duplicates: drop", "    #"))
    with pytest.raises(DataError, match=r"time 1\.5 stands twice.*`duplicates: drop`"):
        open_source(read_data([str(mix)]).systems[0])


def test_a_single_frame_that_stands_twice_is_taken_once(tmp_path, caplog):
    """As a run that was restarted writes its first frame again, under the next number."""
    for k in range(STEPS):
        now = k - (k > 5)
        coords = {"time": [TIMES[now]], "y": Y, "x": X}
        dataset = xarray.Dataset({"u": (("time", "y", "x"), wave()[now][None])}, coords)
        written(tmp_path / f"o{k}.nc", dataset)
    (field,) = open_fields(tmp_path)
    np.testing.assert_array_equal(field.values[:, 0, 0], wave()[: STEPS - 1])
    assert "time 0.5 stands twice, in o5.nc and o6.nc" in caplog.text


def test_parts_that_overlap_with_other_values_are_a_doubt(tmp_path):
    stretch(tmp_path / "part1.nc", 0, 20)
    stretch(tmp_path / "part2.nc", 17, 40, shift=1e-3)
    found = inspect([tmp_path])
    assert "stands twice, in part1.nc and part2.nc, with other values" in " ".join(found.refused)
    assert found.systems[0].trajectories == 1
    with pytest.raises(DataError, match="they may be two runs"):
        open_fields(tmp_path)


def test_a_part_within_another_is_refused(tmp_path):
    stretch(tmp_path / "part1.nc", 0, 30)
    stretch(tmp_path / "part2.nc", 10, 20)
    stretch(tmp_path / "w/part1.nc", 0, 10)
    layout = "{axes: [time, y, x], arrays: [{array: u, variables: [u]}], time: time}"
    mix = tmp_path / "w.yaml"
    mix.write_text(f"systems:\n- {{name: a, paths: ['part*.nc'], join: time, layout: {layout}}}\n")
    with pytest.raises(DataError, match=r"part2\.nc lies within part1\.nc"):
        open_systems(read_data([str(mix)]))


def test_a_hole_between_parts_makes_two_trajectories_and_is_told(tmp_path, caplog):
    for n, (first, last) in enumerate([(0, 10), (10, 15), (25, 40)]):
        stretch(tmp_path / f"out_{n}.nc", first, last)
    fields = open_fields(tmp_path)
    assert sorted(len(t.times) for t in fields.trajectories) == [15, 15]
    assert "no frame lies between the times 1.4 and 2.5" in caplog.text


def test_a_missing_frame_makes_time_uneven(tmp_path):
    for k in range(STEPS):
        if k != 5:
            with_time_axis(tmp_path, 0, k)
    with pytest.raises(DataError, match=r"time steps differ from their median 0\.1 by up to 100%"):
        open_fields(tmp_path)


@pytest.mark.parametrize("odd", ["grid", "positions", "variables", "time"])
def test_a_frame_unlike_the_others_is_refused_in_one_line_with_the_way_out(tmp_path, odd):
    for k in range(STEPS):
        with_time_axis(tmp_path, 0, k)
    x = X + 0.01 if odd == "positions" else X[:-1] if odd == "grid" else X
    name = "w" if odd == "variables" else "u"
    coords = {"y": Y, "x": x} | ({} if odd == "time" else {"time": [0.7]})
    dims = ("y", "x") if odd == "time" else ("time", "y", "x")
    shape = tuple({"time": 1, "y": NY, "x": len(x)}[dim] for dim in dims)
    written(tmp_path / "out_0007.nc", xarray.Dataset({name: (dims, np.ones(shape, "f4"))}, coords))
    with pytest.raises(DataError) as error:
        open_fields(tmp_path)
    assert "out_0007.nc" in str(error.value)
    assert "\n" not in str(error.value)
    found = inspect([tmp_path])
    assert len(found.refused) == 1
    assert found.systems == ()


def test_a_variable_that_only_some_frames_have_is_left_out_and_that_is_said(tmp_path, caplog):
    for k in range(STEPS):
        with_time_axis(tmp_path, 0, k)
    with netCDF4.Dataset(tmp_path / "out_0000.nc", "a") as file:
        file.createVariable("ground", "f4", ("time", "y", "x"))[:] = 1
    (field,) = open_fields(tmp_path)
    assert [variable.name for variable in field.spec.variables] == ["velocity_x"]
    assert "ground left out: only in some of the files, as out_0000.nc" in caplog.text


@pytest.mark.parametrize("name", ["run{}", "{}"])
@pytest.mark.parametrize("timed", [True, False])
def test_single_frames_that_no_reading_fits_are_refused_in_one_line(tmp_path, name, timed):
    """48 runs of which only the last frame was kept, or names that say nothing: never 48
    trajectories of one frame."""
    for n in range(48):
        called = name.format(n if name.startswith("run") else chr(97 + n % 26) + "_" * (n // 26))
        dims, coords = ("time", "y", "x"), {"time": [1.5], "y": Y, "x": X}
        dataset = xarray.Dataset({"u": (dims, wave(n)[:1])}, coords)
        written(tmp_path / f"{called}.nc", dataset if timed else dataset.isel(time=0, drop=True))
    found = inspect([tmp_path])
    assert found.systems == ()
    assert len(found.refused) == 1
    assert "48 files in" in found.refused[0]
    with pytest.raises(DataError, match=r"Give the frames of each run a folder"):
        open_fields(tmp_path)


def test_frames_whose_names_say_nothing_are_joined_by_their_times(tmp_path):
    for k, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
    ):
        dataset = xarray.Dataset({"u": (("y", "x"), wave()[k])}, {"y": Y, "x": X})
        written(tmp_path / f"{name}.nc", dataset.assign_attrs(time=TIMES[k]))
    (field,) = open_fields(tmp_path)
    np.testing.assert_array_equal(field.values[:, 0, 0], wave())
    np.testing.assert_allclose(field.times, TIMES)


def test_numbered_datasets_without_times_or_axes_are_a_doubt(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for n in range(5):
            file[f"Y_{n:02d}"] = wave(n)
    refused = " ".join(inspect([tmp_path / "a.h5"]).refused)
    assert "5 datasets as Y_00 are taken for frames of one run" in refused


def test_a_frame_that_changed_since_is_refused(tmp_path):
    for k in range(STEPS):
        as_npy(tmp_path, 0, k)
    fields = open_fields(tmp_path)
    np.save(tmp_path / "frame_0004.npy", wave(1)[4])
    os.utime(tmp_path / "frame_0004.npy", ns=(1, 1))
    np.testing.assert_array_equal(fields.read(0, slice(0, 4)).values[:, 0, 0], wave()[:4])
    with pytest.raises(DataError, match=r"frame_0004\.npy changed while it was in use"):
        fields.read(0, slice(2, 6))


def test_a_damaged_frame_is_named(tmp_path):
    for k in range(STEPS):
        with_scalar_time(tmp_path, 0, k)
    content = (tmp_path / "07.h5").read_bytes()
    (tmp_path / "07.h5").write_bytes(content[:900])
    with pytest.raises(DataError, match=r"07\.h5 is cut short"):
        open_fields(tmp_path)


def test_links_out_of_a_frame_are_refused(tmp_path):
    """A frame that shows what lies in another file is as hostile as any file that does."""
    for k in range(STEPS):
        with_scalar_time(tmp_path, 0, k)
    with h5py.File(tmp_path / "03.h5", "a") as file:
        del file["u"]
        file["u"] = h5py.ExternalLink("/etc/passwd", "/u")
    with pytest.raises(DataError, match="is a link to '/etc/passwd', which is refused"):
        open_fields(tmp_path)


def test_many_frames_keep_few_files_open(tmp_path):
    for k in range(100):
        np.save(tmp_path / f"frame_{k}.npy", wave(0, 100)[k])
    with_handles = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    (field,) = open_fields(tmp_path)
    assert len(field.times) == 100
    if with_handles:
        assert len(os.listdir("/proc/self/fd")) < with_handles + 40


def test_frames_that_the_shell_lists_are_drafted_with_all_their_paths(tmp_path):
    for k in range(STEPS):
        as_npz(tmp_path / "a", 0, k)
    files, mix = sorted((tmp_path / "a").iterdir()), tmp_path / "w.yaml"
    assert main(["data", "inspect", *map(str, files), "--write", str(mix)]) == 0
    config = read_data([str(mix)])
    assert sorted(config.systems[0].paths) == sorted(map(str, files))
    (system,) = open_systems(config, training=False).values()
    np.testing.assert_array_equal(system.fields.readers[0].read(0).values[:, 0, 0], wave())
