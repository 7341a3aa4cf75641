"""Converted files hold the same fields as their sources, to the bit."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import matey
from matey.config import SourceConfig, SplitConfig, WindowConfig
from matey.data import write
from matey.data.convert import convert, read_rate
from matey.data.systems import split_trajectories
from matey.data.trajectories import open_readers
from matey.data.windows import Choice, Windows
from matey.errors import DataError
from matey.fields import PERIODIC_SIDES, Boundary, Field, Grid, SystemSpec, Variable
from tests.files import write_compressible, write_shallow_water

REAL = ["pdebench/swe", "pdebench/diffre2d", "pdebench/incompNS", "pdebench/compNS"]
REAL += ["miniweather/thermals", "miniweather/raw/output_with_hy_64x32.nc", "the_well"]


def check_same(before, after):
    """All that training reads of two sequences of trajectories is equal."""
    assert len(before) == len(after)
    assert after.spec == before.spec
    aliases = [[v.alias for v in fields.spec.variables] for fields in (before, after)]
    assert aliases[0] == aliases[1]
    for n, (old, new) in enumerate(zip(before.trajectories, after.trajectories, strict=True)):
        one, other = before[n], after[n]
        assert torch.equal(one.values.view(torch.int32), other.values.view(torch.int32))
        assert torch.equal(one.times, other.times)
        assert (one.grid, one.boundaries) == (other.grid, other.boundaries)
        assert one.parameters == other.parameters
        assert old.split == new.split


def converted(paths, destination, **options):
    (system,) = convert(paths, destination, seconds=0.0, **options)
    return system


@pytest.mark.parametrize("compress", [False, True])
def test_a_conversion_is_lossless_and_splits_the_same(tmp_path, compress):
    path = write_shallow_water(tmp_path / "2D_rdb_NA_NA.h5", 12)
    converted([path], tmp_path / "new", compress=compress)
    before, after = matey.open(path), matey.open(tmp_path / "new")
    check_same(before, after)
    for seed in range(3):
        config = SplitConfig(seed=seed)
        assert split_trajectories(before, config) == split_trajectories(after, config)
    with h5py.File(tmp_path / "new/data/all/2D_rdb_NA_NA.hdf5") as file:
        assert file["t0_fields/height"].compression == ("gzip" if compress else None)


@pytest.mark.parametrize("folder", REAL)
def test_real_files_are_converted_without_loss(shared, tmp_path, folder):
    system = converted([shared / folder], tmp_path / "new")
    before = matey.open(shared / folder)
    check_same(before, matey.open(tmp_path / "new"))
    assert system.frames == sum(len(t.times) for t in before.trajectories)


def test_uneven_files_are_converted_and_stay_uneven(shared, tmp_path):
    source = shared / "miniweather/raw/output_upstream_64x32.nc"
    options = SourceConfig("thermals", (str(source),), uneven="allow")
    converted([source], tmp_path / "new", options=options)
    before, after = (open_readers([p], options)[0] for p in (source, tmp_path / "new"))
    assert torch.equal(before.read(0).values, after.read(0).values)
    assert torch.equal(before.read(0).times, after.read(0).times)


def test_files_that_come_divided_stay_divided(tmp_path):
    field = matey.open(write_shallow_water(tmp_path / "2D_rdb.h5", 1))[0]
    for split in ("train", "valid", "test"):
        write.write_well([field], tmp_path / "old", name="a", split=split)
    system = converted([tmp_path / "old"], tmp_path / "new")
    assert system.files == 3
    check_same(matey.open(tmp_path / "old"), matey.open(tmp_path / "new"))


def test_trajectories_of_several_grids_and_lengths_go_to_files_of_their_own(tmp_path):
    path = write_shallow_water(tmp_path / "2D_rdb.h5", 4)
    with h5py.File(path, "a") as file:
        for key, frames in (("0001", 6), ("0002", 6)):
            values, times = file[f"{key}/data"][:frames], file[f"{key}/grid/t"][:frames]
            del file[f"{key}/data"], file[f"{key}/grid/t"]
            file[f"{key}/data"], file[f"{key}/grid/t"] = values, times
    converted([path], tmp_path / "new")
    before, after = matey.open(path), matey.open(tmp_path / "new")
    assert [path.name for path in sorted((tmp_path / "new/data/all").iterdir())] == [
        "2D_rdb.hdf5",
        "2D_rdb_2.hdf5",
    ]
    for old, new in zip((0, 3, 1, 2), range(4), strict=True):
        assert torch.equal(before[old].values, after[new].values)


def test_each_system_has_a_folder_of_its_own(tmp_path):
    sources = tmp_path / "sources"
    sources.mkdir()
    water = write_shallow_water(sources / "2D_rdb.h5")
    gas = write_compressible(sources / "2D_CFD.hdf5")
    systems = convert([sources], tmp_path / "new", seconds=0.0)
    assert {system.name for system in systems} == {"shallow_water", "compressible"}
    check_same(matey.open(water), matey.open(tmp_path / "new/shallow_water"))
    check_same(matey.open(gas), matey.open(tmp_path / "new/compressible"))


@pytest.mark.parametrize("name", ["wörk 数据.h5", "a b.h5", "line\nbreak.h5", "b[1]#x.h5"])
def test_any_file_name_is_converted(tmp_path, name):
    path = write_shallow_water(tmp_path / name, 2)
    new = tmp_path / f"new {name}"
    converted([path], new)
    check_same(matey.open(path), matey.open(new))


def test_a_value_that_is_not_finite_leaves_nothing_behind(tmp_path):
    path = write_shallow_water(tmp_path / "2D_rdb.h5", 3)
    with h5py.File(path, "a") as file:
        file["0002/data"][7, 1, 1] = np.nan
    with pytest.raises(DataError, match=r"#0002 is nan at time 0\.7"):
        converted([path], tmp_path / "new")
    assert [found.name for found in tmp_path.iterdir()] == ["2D_rdb.h5"]


def test_what_is_there_is_not_overwritten(tmp_path):
    path = write_shallow_water(tmp_path / "2D_rdb.h5", 3)
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"is there already\. Name a new folder"):
        converted([path], tmp_path)
    with pytest.raises(DataError, match="is there already"):
        converted([path], path)
    assert path.read_bytes() == before


def test_memory_does_not_grow_with_the_trajectory(tmp_path, monkeypatch):
    """No read asks for more than the block of two frames, however long the file is."""
    path = write_shallow_water(tmp_path / "2D_rdb.h5", 2, frames=9)
    frame = 4 * 16 * 16
    monkeypatch.setattr(write, "BLOCK", 2 * frame)
    (reader,) = open_readers([path])
    asked = []
    read = type(reader).read

    def recorded(self, trajectory, frames=slice(None)):
        field = read(self, trajectory, frames)
        asked.append(len(field))
        return field

    monkeypatch.setattr(type(reader), "read", recorded)
    write.copy_to_well(reader, [0, 1], tmp_path / "new", name="a")
    assert asked == [2, 2, 2, 2, 1] * 2


def test_the_rate_is_none_for_single_frames(tmp_path):
    spec = SystemSpec("s", 1, (Variable("height"),))
    sides = (PERIODIC_SIDES, PERIODIC_SIDES, (Boundary.WALL, Boundary.WALL))
    grid = Grid(("x",), (1, 1, 4), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    field = Field(torch.rand(1, 1, 1, 1, 4), torch.zeros(1).double(), grid, sides, {}, spec)
    write.write_well([field], tmp_path, name="a")
    assert read_rate(matey.open(tmp_path)) is None
    rate = read_rate(matey.open(write_shallow_water(tmp_path / "b.h5", frames=3)), seconds=0.05)
    assert rate is not None
    assert rate.history == 2
    assert rate.windows_per_second > 0


def test_the_command_prints_what_was_gained(tmp_path, capsys, monkeypatch):
    from matey.cli import main

    monkeypatch.chdir(tmp_path)
    write_shallow_water(Path("2D_rdb.h5"), 3)
    assert main(["data", "convert", "2D_rdb.h5", "new"]) == 0
    printed = capsys.readouterr().out
    assert f"shallow_water: 3 trajectories, 24 frames, in 1 file below {os.getcwd()}/new" in printed
    assert "windows/s before" in printed
    assert main(["data", "convert", "2D_rdb.h5", "new"]) == 2
    assert "is there already" in capsys.readouterr().err


def test_batches_hold_the_same_values_and_are_not_turned_in_memory(tmp_path, make_compressible):
    """In these files x is the slowest axis; a batch has it last, as a view of what was read."""
    path = make_compressible(tmp_path / "a.hdf5", nx=6, ny=4)
    converted([path], tmp_path / "new")
    shallow = write_shallow_water(tmp_path / "2D_rdb_NA_NA.h5", 3)  # one variable, [t, x, y, c]
    choices = [Choice(0), Choice(2)]
    for source in (path, tmp_path / "new", shallow):
        fields = matey.open(source)
        batch = Windows(fields, range(2), WindowConfig(history=2)).batch(choices)
        whole = fields[0].values
        assert torch.equal(batch.values, torch.stack([whole[0:2], whole[2:4]]))
        assert torch.equal(batch.target, torch.stack([whole[2], whole[4]]))
        for values in (batch.values, batch.target):
            z, y, x = values.stride()[-3:]
            assert (z, y, x) == (1, 1, values.shape[-2])
            # Of a variable, two frames of history and the target follow each other.
            assert values.stride(-4) == 3 * y * values.shape[-2] * values.shape[-1]


def test_what_a_conversion_cannot_keep_is_said(tmp_path, capsys):
    """Digits beyond float32; places that are not evenly apart are kept. The help shows no `%%`."""
    from matey.cli import main

    values = np.random.default_rng(0).standard_normal((2, 6, 4, 8))
    places = {"time": np.arange(6.0), "y": np.arange(4.0), "x": np.arange(8.0) ** 1.2}
    np.savez(tmp_path / "a.npz", u=values, v=values.astype("f4"), **places)
    assert main(["data", "convert", str(tmp_path / "a.npz"), str(tmp_path / "new")]) == 0
    said = capsys.readouterr().out
    assert "velocity_x is float64 in the file and stored as float32" in said
    assert "velocity_y is float64" not in said
    assert "coordinate x is stretched" in said
    grid = matey.open(tmp_path / "new").trajectories[0].grid
    assert grid.coordinate(2).tolist() == places["x"].tolist()
    assert str(tmp_path / "new/data") not in said  # the copies are not judged once more
    with pytest.raises(SystemExit):
        main(["data", "convert", "--help"])
    assert "10 %\n" in capsys.readouterr().out.replace("10\n                        %", "10 %\n")


def test_how_far_a_conversion_is_is_told_over_all_systems(tmp_path):
    sources = tmp_path / "sources"
    sources.mkdir()
    write_shallow_water(sources / "2D_rdb.h5", 2)
    write_compressible(sources / "2D_CFD.hdf5", 1)
    told = []
    convert([sources], tmp_path / "new", seconds=0.0, watch=lambda *far: told.append(far))
    assert told == [(8, 24), (16, 24), (24, 24)]


def test_a_data_config_is_converted_as_it_says(tmp_path, capsys):
    """Axes that a draft takes for others, a system's own name, and its split."""
    from matey.cli import main

    values = np.random.default_rng(0).random((3, 6, 5, 4)).astype(np.float32)  # n, t, x, y
    np.savez(tmp_path / "a.npz", u=values)
    mix, new = tmp_path / "mix.yaml", tmp_path / "new"
    mix.write_text(
        "systems:\n- name: mine\n  paths: [a.npz]\n  layout:\n    axes: [sample, time, x, y]\n"
        "    arrays:\n    - {array: u, variables: [tracer]}\n    split: {test: ['*#0002']}\n"
    )
    assert main(["data", "convert", str(mix), str(new), "--uneven", "allow"]) == 2
    assert main(["data", "convert", str(mix), str(tmp_path / "a.npz"), str(new)]) == 2
    assert "Give it alone" in capsys.readouterr().err
    assert main(["data", "inspect", str(mix)]) == 0
    assert "mine" in capsys.readouterr().out
    assert main(["data", "inspect", str(mix), "--write", str(tmp_path / "b.yaml")]) == 2
    assert main(["data", "convert", str(mix), str(new)]) == 0
    fields = matey.open(new)
    assert (fields.spec.name, fields.spec.variables[0].name) == ("mine", "tracer")
    assert [t.split for t in fields.trajectories] == ["test", "train", "train"]
    np.testing.assert_array_equal(fields[0].values[:, 0, 0], values[2].swapaxes(1, 2))


def test_each_grid_of_a_system_has_a_folder_of_its_own(tmp_path):
    """The published package takes grids of one shape in a folder; here they stay one system."""
    for name, points in (("a", 8), ("b", 16)):
        values = np.random.default_rng(0).random((2, 6, points, 5))
        axes = {"t": np.arange(6.0), "y": np.arange(float(points)), "x": np.arange(5.0)}
        np.savez(tmp_path / f"{name}.npz", u=values.astype(np.float32), **axes)
    converted([tmp_path], tmp_path / "new")
    found = sorted(str(p.relative_to(tmp_path / "new")) for p in tmp_path.glob("new/**/*.hdf5"))
    assert found == ["16x5/data/all/b.hdf5", "8x5/data/all/a.hdf5"]
    before, after = matey.open(tmp_path / "*.npz"), matey.open(tmp_path / "new")
    assert len(after) == 4
    for seed in range(3):
        splits = []
        for fields in (before, after):
            split = split_trajectories(fields, SplitConfig(seed=seed))
            names = [t.name.replace(".npz", ".hdf5") for t in fields.trajectories]
            splits.append({part: {names[i] for i in split[part]} for part in split})
        assert splits[0] == splits[1]
