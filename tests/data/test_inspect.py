"""What inspection says of good and bad data, and the config it drafts."""

import gc
import shutil
import tracemalloc
from contextlib import nullcontext

import h5py
import numpy as np
import pytest
import torch

from matey import open as open_fields
from matey.cli import main
from matey.cli.options import load_yaml, read_data
from matey.config import DataConfig, SourceConfig, SplitConfig, WindowConfig
from matey.data.draft_config import config_text
from matey.data.formats.find import find_files
from matey.data.inspect import inspect
from matey.data.systems import open_systems
from matey.data.trajectories import open_source
from matey.data.write import write_well
from matey.errors import ConfigError, DataError
from matey.fields import PERIODIC_SIDES, Field, Grid, SystemSpec, Variable


def as_config(text, folder):
    """The data config that the YAML text is, with its paths made whole."""
    plain = load_yaml(text)
    sources = [
        SourceConfig(s["name"], tuple(str(folder / p) for p in s["paths"]))
        for s in plain.pop("systems")
    ]
    config = DataConfig(tuple(sources), SplitConfig(**plain.pop("split")))
    assert not plain
    return config


def test_statistics_are_those_of_all_values(tmp_path, make_compressible, monkeypatch):
    """Streamed a frame at a time, to rounding of float64."""
    monkeypatch.setattr("matey.data.inspect.BLOCK", 1)
    path = make_compressible(tmp_path / "a.hdf5")
    system = inspect([path]).systems[0]
    with h5py.File(path) as file:
        for found, name in zip(system.statistics, ("density", "pressure", "Vx", "Vy"), strict=True):
            values = file[name][()].astype(np.float64)
            assert (found.minimum, found.maximum) == (values.min(), values.max())
            assert found.mean == pytest.approx(values.mean(), rel=1e-12)
            assert found.std == pytest.approx(values.std(), rel=1e-12)
    assert system.parameters == {"eta": (0.01, 0.01), "zeta": (0.02, 0.02), "M": (0.1, 0.1)}
    assert system.window_bytes == 4 * 5 * 4 * 12


def test_bad_values_are_problems_and_odd_ones_notices(tmp_path, make_compressible):
    path = make_compressible(tmp_path / "a.hdf5", samples=3)
    with h5py.File(path, "a") as file:
        for name in ("density", "pressure", "Vx", "Vy"):
            file[name][1] = file[name][0]
        file["density"][:] = 1.0
        file["Vx"][2, 0, 0, 0] = np.nan
    found = inspect([path])
    assert len(found.refused) == 1
    assert "Vx of trajectory a.hdf5#0002 is nan" in found.refused[0]
    notices = " ".join(found.systems[0].notices)
    assert "density is constant, 1 everywhere" in notices
    assert "a.hdf5#0001 is a duplicate of a.hdf5#0000" in notices
    text = config_text(found, tmp_path)
    assert text.splitlines()[1].startswith("# REFUSED: ")
    assert "Vx of trajectory a.hdf5#0002 is nan" in text


def written(folder, **frames):
    """A folder of the Well with a file of two trajectories of so many frames for each split."""
    for split, count in frames.items():
        values = torch.rand(2, count, 1, 1, 1, 8)
        grid = Grid(("x",), (1, 1, 8), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        spec = SystemSpec("waves", 1, (Variable("height"),))
        times = torch.arange(count, dtype=torch.float64)
        fields = [Field(v, times, grid, (PERIODIC_SIDES,) * 3, {}, spec) for v in values]
        write_well(fields, folder, name="a", split=split)
    return folder


@pytest.mark.parametrize("alone", ["valid", "test"])
def test_a_part_of_the_well_alone_is_refused_as_training_does(tmp_path, alone):
    written(tmp_path, train=6, valid=6, test=6)
    assert not inspect([tmp_path]).refused
    source = SourceConfig("waves", (str(tmp_path / "data" / alone),))
    with pytest.raises(DataError, match="no trajectory left to train on"):
        open_systems(DataConfig((source,)))
    (problem,) = inspect([tmp_path / "data" / alone]).refused
    assert f"no trajectory left to train on: 2 {alone}" in problem


@pytest.mark.parametrize("short", ["train", "valid", "test"])
def test_a_part_of_only_short_trajectories_is_refused_where_windows_are_made_of_it(tmp_path, short):
    """Training makes windows of those for training and for validation."""
    written(tmp_path, **{split: 4 if split == short else 6 for split in ("train", "valid", "test")})
    found = inspect([tmp_path])
    used = short != "test"
    said = found.refused if used else found.systems[0].notices
    assert any("too few frames for windows.history = 4" in line for line in said)
    assert bool(found.refused) == used
    system = open_systems(DataConfig((SourceConfig("waves", (str(tmp_path),)),)))["waves"]
    for split in ("train", "valid"):
        with pytest.raises(DataError) if split == short else nullcontext():
            system.windows(split, WindowConfig())


def test_files_of_which_only_some_are_divided_are_refused_as_training_does(tmp_path):
    written(tmp_path, train=6, valid=6)
    (tmp_path / "data/valid").rename(tmp_path / "data/val")
    (problem,) = inspect([tmp_path]).refused
    assert "in no folder called train, valid, test" in problem


def test_trajectories_shorter_than_a_window_are_refused_or_counted(tmp_path, make_compressible):
    make_compressible(tmp_path / "a.hdf5", frames=4, samples=1)
    assert "too few frames for windows.history = 4" in inspect([tmp_path]).refused[0]
    make_compressible(tmp_path / "b.hdf5", frames=5, samples=20)
    found = inspect([tmp_path])
    assert not found.refused
    assert "1 of 21 trajectories" in " ".join(found.systems[0].notices)


def test_damaged_files_are_problems_beside_good_ones(tmp_path, make_compressible):
    make_compressible(tmp_path / "a.hdf5")
    (tmp_path / "b.hdf5").write_bytes((tmp_path / "a.hdf5").read_bytes()[:3000])
    found = inspect([tmp_path])
    assert len(found.systems) == 1
    assert "b.hdf5 is cut short: 3000 bytes" in found.refused[0]


def test_the_drafted_config_opens_the_same_systems(tmp_path, make_compressible, make_shallow):
    """Two systems of one name in one folder, a third in another; one path needs quotes."""
    folder = tmp_path / "a: 'b' #c\nd"
    folder.mkdir()
    make_compressible(folder / "a.hdf5")
    with h5py.File(make_compressible(folder / "b.hdf5"), "a") as file:
        file["t-coordinate"][:] *= 2
    (tmp_path / "swe").mkdir()
    make_shallow(tmp_path / "swe" / "c.h5")
    found = inspect([folder, tmp_path / "swe"])
    config = as_config(config_text(found, tmp_path), tmp_path)
    names = [source.name for source in config.systems]
    assert names == ["compressible", "compressible_2", "shallow_water"]
    assert load_yaml(config_text(found, tmp_path))["systems"][2]["paths"] == ["swe"]
    assert load_yaml(config_text(found, folder))["systems"][2]["paths"] == [str(tmp_path / "swe")]
    for source, system in zip(config.systems, found.systems, strict=True):
        assert open_source(source).spec == system.spec


def test_the_command_prints_writes_and_does_not_overwrite(tmp_path, make_compressible, capsys):
    make_compressible(tmp_path / "a[red].hdf5")
    target = tmp_path / "mix.yaml"
    words = ["data", "inspect", str(tmp_path), "--write", str(target)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "2 trajectories of 6 frames on 3x4 (y, x), dt 0.05" in printed
    assert as_config(target.read_text(), tmp_path).systems[0].name == "compressible"
    assert main(words) == 2
    assert "exists. Give --overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0


def test_the_command_fails_where_training_would(tmp_path, make_compressible, capsys):
    path = make_compressible(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file["Vy"][0, 0, 0, 0] = np.inf
    target = tmp_path / "mix.yaml"
    assert main(["data", "inspect", str(path), "--write", str(target)]) == 1
    assert "refused: " in capsys.readouterr().out
    assert "# REFUSED: " in target.read_text()
    path.write_bytes(path.read_bytes()[:100])
    words = ["data", "inspect", str(path), "--write", str(tmp_path / "none.yaml")]
    assert main(words) == 1
    assert not (tmp_path / "none.yaml").exists()
    assert main(["data", "inspect", str(tmp_path / "none.h5")]) == 2
    assert "none.h5 does not exist" in capsys.readouterr().err


def test_real_folders_are_told_apart_and_duplicates_found(shared, tmp_path, caplog):
    """Dam radii that differ by less than the grid can show give identical trajectories."""
    shutil.copy(shared / "pdebench" / "swe" / "2D_rdb_NA_NA.h5", tmp_path / "a.h5")
    found = inspect([tmp_path, shared / "miniweather"])
    names = [system.name for system in found.systems]
    assert names == ["shallow_water", "thermals", "thermals_2"]
    assert len([n for n in found.systems[0].notices if "duplicate" in n]) == 6
    assert not found.refused


@pytest.mark.parametrize("name", ["a.hdf5", "a.npz", "a.npy"])
def test_memory_does_not_grow_with_the_file(tmp_path, name, monkeypatch):
    """Ten times the frames of 16 kB, the same peak but for the mark that each frame leaves.

    A mark is a number of 36 bytes, 18 in two lists, and 65 in the arrays that sort them to find
    equal ones: below 1 % of a frame.
    """
    monkeypatch.setattr("matey.data.inspect.BLOCK", 2**16)
    peaks = []
    for frames in (100, 1000):
        values = np.random.default_rng(0).random((frames, 64, 64)).astype(np.float32)
        path = tmp_path / f"{frames}{name}"
        if name == "a.hdf5":
            with h5py.File(path, "w") as file:
                file.create_dataset("u", data=values, chunks=(1, 64, 64))
        elif name == "a.npz":
            np.savez(path, u=values)
        else:
            np.save(path, values)
        size = values.nbytes
        del values
        inspect([path])  # imports and caches
        gc.collect()  # what others left is not ours to count
        tracemalloc.start()
        assert all("nothing in the file decides" in told for told in inspect([path]).refused)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 900 * 160
    assert peaks[1] < size / 40


def test_an_outlier_is_named_with_trajectory_and_time(tmp_path, make_compressible):
    """One value among 14,400 of a standard deviation near 1 lies 119 of its own away."""
    path = make_compressible(tmp_path / "a.hdf5", frames=6, nx=40, ny=30)
    with h5py.File(path, "a") as file:
        file["Vx"][:] = np.random.default_rng(0).normal(size=(2, 6, 40, 30))
        file["Vx"][1, 3, 7, 9] = -1e4
    notices = inspect([path]).systems[0].notices
    assert len(notices) == 1
    assert "velocity_x has an outlier: -10000 in a.hdf5#0001 at time 0.15" in notices[0]


def test_shorter_trajectories_are_listed(tmp_path, make_shallow):
    with h5py.File(make_shallow(tmp_path / "a.h5", frames=9), "a") as file:
        file.copy("0000", "0002")
        del file["0001/data"], file["0001/grid/t"]
        file["0001/data"], file["0001/grid/t"] = file["0000/data"][:6] + 1, np.arange(6) * 0.1
    notices = inspect([tmp_path]).systems[0].notices
    assert any("a.h5#0001 has 6 frames, most have 9" in notice for notice in notices)


def test_training_and_test_data_in_common_are_reported(tmp_path, make_shallow):
    """Files that come divided, where the test trajectory is the end of a training one."""
    field = open_source(SourceConfig("w", (str(make_shallow(tmp_path / "a.h5", frames=9)),)))
    write_well([field[0]], tmp_path / "well", name="a", split="train")
    write_well([field.read(0, slice(2, None))], tmp_path / "well", name="b", split="test")
    write_well([field[1]], tmp_path / "well", name="c", split="valid")
    found = inspect([tmp_path / "well"])
    overlap = [n for n in found.systems[0].notices if "in common" in n]
    assert len(overlap) == 1
    assert "has 7 of 9 frames in common with" in overlap[0] or "7 of 7 frames" in overlap[0]
    assert "the files put them into" in overlap[0]
    assert "test" in overlap[0]
    assert "train" in overlap[0]


def test_trajectories_that_only_start_alike_are_not_duplicates(tmp_path, make_compressible):
    """At rest, say, before the forcing differs."""
    path = make_compressible(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        for name in ("density", "pressure", "Vx", "Vy"):
            file[name][:, :2] = 0
    assert not [n for n in inspect([path]).systems[0].notices if "in common" in n]


def test_every_real_file_opens_and_passes(shared):
    """Alone, as `matey.open` and `matey data inspect` take it; 1D, 2D and 3D."""
    seen = set()
    for path in find_files([shared]):
        fields = open_fields(path)
        field = fields.read(len(fields) - 1, slice(0, 2))
        assert field.values.shape[0] == 2
        seen.add(field.grid.ndim)
        found = inspect([path])
        whole = path.parent.name not in ("valid", "test")
        assert len(found.refused) == 1 - whole, path
        assert whole or "no trajectory left to train on" in found.refused[0]
        assert found.systems[0].layout != "described"
    assert seen == {1, 2, 3}


def test_duplicates_on_both_sides_of_the_usual_split_are_reported(tmp_path, make_shallow):
    """Of two trajectories one is for test: a copy of it would be trained on."""
    with h5py.File(make_shallow(tmp_path / "a.h5"), "a") as file:
        file["0001/data"][:] = file["0000/data"][:]
    found = inspect([tmp_path])
    (notice,) = [n for n in found.systems[0].notices if "duplicate" in n]
    assert notice.startswith("a.h5#0001 is a duplicate of a.h5#0000, and the usual split puts them")
    assert "test" in notice
    assert "train" in notice


def test_uneven_times_are_a_problem_and_nearly_even_ones_a_notice(
    tmp_path, make_compressible, capsys
):
    for name, late, code in (("near.hdf5", 0.004, 0), ("far.hdf5", 0.04, 1)):
        path = make_compressible(tmp_path / name)
        with h5py.File(path, "a") as file:
            file["t-coordinate"][3:] += np.float32(late)
        assert main(["data", "inspect", str(path)]) == code
        said = "".join(capsys.readouterr().out.splitlines())
        assert ("counted as uniform" if code == 0 else "differ from their median 0.05") in said
        assert ("refused: " in said) == bool(code)


def test_a_variation_that_float32_cannot_resolve_is_said_and_no_duplicate(tmp_path):
    """Noise of 1e-3 around 1e5, where numbers of float32 are 0.008 apart; 10 around it is fine."""
    for name, size, count in (("small", 1e-3, 1), ("large", 10.0, 0)):
        (tmp_path / name).mkdir()
        noise = np.random.default_rng(0).standard_normal((4, 6, 8, 8))
        np.savez(tmp_path / name / "a.npz", p=1e5 + size * noise, q=np.ones((4, 6, 8, 8)))
        notices = inspect([tmp_path / name]).systems[0].notices
        lost = [n for n in notices if n.startswith("pressure varies by less than a millionth")]
        assert len(lost) == count
        assert [n for n in notices if "duplicate" in n] == []
        assert "q is constant, 1 everywhere." in notices


def test_how_many_frames_were_looked_at_is_told(tmp_path, make_compressible):
    make_compressible(tmp_path / "a.hdf5")
    make_compressible(tmp_path / "b.hdf5", samples=1)
    told = []
    inspect([tmp_path], watch=lambda done, total: told.append((done, total)))
    assert told == [(6, 18), (12, 18), (18, 18)]


def test_unevenly_timed_files_are_drafted_where_that_is_allowed(
    tmp_path, make_compressible, capsys
):
    path = make_compressible(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file["t-coordinate"][3:] += np.float32(0.04)
    words = ["data", "inspect", str(path), "--write", str(tmp_path / "mix.yaml")]
    assert main(words) == 1
    assert "matey data inspect --uneven allow --write" in capsys.readouterr().out
    asked = (tmp_path / "mix.yaml").read_text()
    assert "# DOUBT: times are uneven" in asked
    with pytest.raises(DataError, match="time steps differ from their median"):
        open_systems(read_data([str(tmp_path / "mix.yaml")]))
    assert main([*words, "--uneven", "allow", "--overwrite"]) == 0
    config = read_data([str(tmp_path / "mix.yaml")])
    assert config.systems[0].uneven == "allow"
    assert len(open_systems(config)["compressible"].fields) == 2
    assert main(["data", "inspect", str(tmp_path / "mix.yaml")]) == 0


def test_a_data_config_is_judged_by_its_own_split(tmp_path, make_compressible):
    make_compressible(tmp_path / "a.hdf5")
    text = "systems:\n- {name: gas, paths: [a.hdf5]}\nsplit: {valid: 0.5, test: 0.5}\n"
    (tmp_path / "mix.yaml").write_text(text)
    config = read_data([str(tmp_path / "mix.yaml")])
    (problem,) = inspect(config).refused
    assert "gas has no trajectory left to train on: 1 valid, 1 test" in problem
    (tmp_path / "bad.yaml").write_text("systems:\n- {name: gas, path: [a.hdf5]}\n")
    with pytest.raises(ConfigError, match="Did you mean 'paths'"):
        read_data([str(tmp_path / "bad.yaml")])
