"""One long run, split in time: what is trained on, validated on and tested on."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
import xarray
from hypothesis import given
from hypothesis import strategies as st

import matey
from matey.cli.options import read_data
from matey.config import DataConfig, SourceConfig, SplitConfig, WindowConfig
from matey.data.draft_config import config_text, data_config
from matey.data.identity import frames_of, overlapping
from matey.data.inspect import inspect
from matey.data.layouts.base import SPLITS
from matey.data.selection import every_nth, in_stretches, stretches
from matey.data.systems import open_systems
from matey.data.windows import Choice, Rollouts
from matey.errors import ConfigError, DataError
from tests.files import write_shallow_water


def long_run(path, frames=60):
    """A run of one trajectory, in which every value is the number of its frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.arange(frames, dtype="f4")[:, None, None] + np.zeros((4, 6), "f4")
    values = values + 0.001 * np.arange(6, dtype="f4")
    coords = {"time": 0.1 * np.arange(frames), "y": np.arange(4.0), "x": np.arange(6.0)}
    xarray.Dataset({"tracer": (("time", "y", "x"), values)}, coords).to_netcdf(path)
    return path


def config(path, **split):
    return DataConfig((SourceConfig("run", (str(path),)),), SplitConfig(**split))


def frames_in(windows):
    """The frames that each window of a part holds, by the values in them."""
    for i in range(len(windows)):
        batch = windows.batch([Choice(i)])
        held = torch.cat([batch.values[0], batch.target])
        yield {round(float(frame.min())) for frame in held}


def test_stretches_share_no_window_and_leave_the_gap_out(tmp_path):
    data = config(long_run(tmp_path / "run.nc"), by="time", gap=3)
    system = open_systems(data)["run"]
    held = {}
    for part in SPLITS:
        windows = system.windows(part, WindowConfig(history=2))
        held[part] = set().union(*frames_in(windows))
    assert held == {"train": {*range(42)}, "valid": {*range(45, 51)}, "test": {*range(54, 60)}}
    names = [trajectory.name for trajectory in system.fields.trajectories]
    assert names == ["run.nc#0000[0:42]", "run.nc#0000[45:51]", "run.nc#0000[54:60]"]
    assert system.fields.trajectories[2].times.tolist() == pytest.approx(
        (0.1 * np.arange(54, 60)).tolist()
    )
    other = pickle.loads(pickle.dumps(system.fields))
    assert torch.equal(other[1].values, matey.open(tmp_path / "run.nc")[0].values[45:51])


@given(st.integers(3, 200), st.floats(0, 0.5), st.floats(0, 0.5), st.integers(0, 5))
def test_no_frame_is_in_two_stretches(count, valid, test, gap):
    try:
        parts = stretches(count, SplitConfig(valid, test, by="time", gap=gap), "run")
    except DataError:
        return
    used = [part for part in parts if part]
    assert used[-1].stop == count
    for before, after in pairwise(used):
        assert after.start - before.stop == gap


def test_every_nth_frame_of_a_stretch(tmp_path):
    fields = matey.open(long_run(tmp_path / "run.nc"))
    thinned = every_nth(in_stretches(fields, SplitConfig(by="time")), 4)
    assert torch.equal(thinned[2].values, fields[0].values[54:60:4])
    (batch,) = Rollouts(thinned, [0], 2, 2, limit=1).batches(1)
    assert torch.equal(batch.truth[0].values, fields[0].values[0:16:4])
    assert thinned.place(1)[2] == range(48, 54, 4)


def test_a_run_of_one_trajectory_is_told_to_split_in_time(tmp_path):
    path = long_run(tmp_path / "run.nc")
    with pytest.raises(DataError, match=r"one trajectory.*split: \{by: time\}"):
        open_systems(config(path))
    assert open_systems(config(path, valid=0, test=0))["run"].split["train"] == [0]
    with pytest.raises(ConfigError, match=r"gap is 2, expected 0 unless"):
        SplitConfig(gap=2)


def test_a_run_that_is_too_short_to_split_is_named(tmp_path):
    path = long_run(tmp_path / "run.nc", frames=8)
    with pytest.raises(DataError, match=r"run.nc#0000 has 8 frames, too few.*gap = 4"):
        open_systems(config(path, by="time", gap=4))
    system = open_systems(config(path, by="time"))["run"]
    with pytest.raises(DataError, match=r"at most 1 frames.*larger share \(data\.split\)"):
        system.windows("valid", WindowConfig(history=2))


def test_files_that_come_divided_stay_whole(tmp_path):
    for part in SPLITS:
        long_run(tmp_path / part / "run.nc", 10)
    system = open_systems(config(tmp_path, by="time"))["run"]
    assert [len(t.times) for t in system.fields.trajectories] == [10, 10, 10]
    assert sorted(map(len, system.split.values())) == [1, 1, 1]


@pytest.mark.parametrize(("frames", "share"), [(200, 0.1), (30, 0.17), (20, 0.25)])
def test_a_draft_of_one_long_run_splits_it_in_time(tmp_path, frames, share):
    path = long_run(tmp_path / "run.nc", frames)
    inspection = inspect([path])
    assert not inspection.refused
    text = config_text(inspection, tmp_path)
    assert "by: time" in text
    assert data_config(path).split == SplitConfig(by="time", valid=share, test=share)
    system = open_systems(data_config(path))[inspection.systems[0].name]
    for part in SPLITS:
        assert len(system.windows(part, WindowConfig()))


def test_a_draft_of_a_run_too_short_to_divide_trains_on_all_of_it(tmp_path):
    path = long_run(tmp_path / "run.nc", 12)
    assert data_config(path).split == SplitConfig(valid=0, test=0)
    assert "too short to be divided" in config_text(inspect([path]), tmp_path)


def test_a_draft_of_one_long_run_beside_others_gives_it_a_split_of_its_own(tmp_path):
    long_run(tmp_path / "long" / "run.nc", 60)
    write_shallow_water(tmp_path / "2D_rdb_NA_NA.h5", 3)
    inspection = inspect([tmp_path])
    assert not inspection.refused
    assert data_config(tmp_path).split == SplitConfig()
    text = config_text(inspection, tmp_path)
    (tmp_path / "mix.yaml").write_text(text)
    opened = open_systems(read_data([str(tmp_path / "mix.yaml")]))
    assert [len(opened["long"].split[part]) for part in SPLITS] == [1, 1, 1]
    assert [t.split for t in opened["long"].fields.trajectories] == list(SPLITS)
    (water,) = set(opened) - {"long"}
    assert opened[water].fields.trajectories[0].split is None
    assert not inspect(read_data([str(tmp_path / "mix.yaml")])).refused


def test_a_draft_of_several_runs_divides_them_as_ever(tmp_path):
    path = write_shallow_water(tmp_path / "2D_rdb_NA_NA.h5", 3)
    assert data_config(path).split == SplitConfig()
    assert "by: time" not in config_text(inspect([path]), tmp_path)


def test_inspect_refuses_a_config_that_leaves_one_run_undivided(tmp_path):
    path = long_run(tmp_path / "run.nc")
    assert any("by: time" in problem for problem in inspect(config(path)).refused)
    assert not inspect(config(path, by="time")).refused


def test_what_was_trained_on_is_known_by_its_bytes_not_by_its_name(tmp_path):
    """A copy under another name counts, other frames of the same run do not."""
    path = long_run(tmp_path / "run.nc")
    system = open_systems(config(path, by="time"))["run"]
    seen = {"run": frames_of(system.fields, system.split["train"])}
    (tmp_path / "copy.nc").write_bytes(path.read_bytes())
    copy = matey.open(tmp_path / "copy.nc")
    assert overlapping(copy, [0], seen) == 1
    assert overlapping(system.fields, [0, 1, 2], seen) == 1
    assert overlapping(matey.open(long_run(tmp_path / "other.nc", 50)), [0], seen) == 0
