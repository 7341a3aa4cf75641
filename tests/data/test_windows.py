import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import matey
from matey.config import SplitConfig, WindowConfig
from matey.data.windows import SPLITS, Windows, split_trajectories
from matey.errors import ConfigError, DataError
from tests.files import write_shallow_water


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    path = write_shallow_water(tmp_path_factory.mktemp("swe") / "2D_rdb_NA_NA.h5", 12, 8, 16)
    return matey.open(path)


def test_a_window_holds_consecutive_frames_and_the_frame_at_its_lead(fields):
    windows = Windows(fields, [2, 5], WindowConfig(history=3, max_lead=4))
    assert len(windows) == 2 * (8 - 3)
    whole = fields[5]
    window = windows.read(5 + 1, lead=3)
    assert torch.equal(window.history.values, whole.values[1:4])
    assert torch.equal(window.target, whole.values[3 + 3])
    assert window.lead_time == 3.0
    assert "#0005 frames 1-3" in window.source


def test_frames_after_a_window_are_counted_to_the_end(fields):
    windows = Windows(fields, [0], WindowConfig(history=3, max_lead=4))
    assert [windows.after(i) for i in range(len(windows))] == [5, 4, 3, 2, 1]


def test_a_pushed_window_has_its_target_so_many_frames_later(fields):
    windows = Windows(fields, [2], WindowConfig(history=2, max_lead=2, pushforward=3))
    window = windows.read(1, lead=2, pushes=3)
    assert torch.equal(window.history.values, fields[2].values[1:3])
    assert torch.equal(window.target, fields[2].values[2 + 3 + 2])
    assert window.lead_time == 2.0


def test_pushforward_over_uneven_steps_is_refused(fields):
    times = fields.trajectories[0].times
    uneven = replace(fields.trajectories[0], times=times + 0.3 * torch.arange(len(times)) ** 2)
    stretched = copy.copy(fields)
    stretched.trajectories = [uneven]
    with pytest.raises(ConfigError, match=r"'shallow_water' are not\. Set it to 0"):
        Windows(stretched, [0], WindowConfig(history=2, pushforward=1))


def test_a_history_longer_than_the_trajectory_is_refused_with_the_longest_possible(fields):
    with pytest.raises(DataError, match=r"at most 8 frames.*windows\.history = 8.*Set it to 7"):
        Windows(fields, [0], WindowConfig(history=8))


@given(st.integers(0, 5), st.floats(0, 0.45), st.floats(0, 0.45))
def test_a_split_divides_the_trajectories_without_overlap(fields, seed, valid, test):
    split = split_trajectories(fields, SplitConfig(valid, test, seed))
    together = [i for part in SPLITS for i in split[part]]
    assert sorted(together) == list(range(12))
    assert split == split_trajectories(fields, SplitConfig(valid, test, seed))


def test_two_seeds_split_differently_and_small_sets_keep_one_for_each_part(fields):
    first, second = (split_trajectories(fields, SplitConfig(seed=seed)) for seed in (0, 1))
    assert first != second
    assert {part: len(first[part]) for part in SPLITS} == {"train": 10, "valid": 1, "test": 1}
