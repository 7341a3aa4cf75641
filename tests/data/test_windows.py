import copy
import pickle
from dataclasses import replace

import h5py
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import matey
from matey.config import SourceConfig, SplitConfig, WindowConfig
from matey.data.layouts.base import SPLITS
from matey.data.layouts.stored import progressions
from matey.data.selection import every_nth
from matey.data.systems import split_trajectories
from matey.data.trajectories import open_source
from matey.data.windows import Choice, Rollouts, Windows
from matey.errors import ConfigError, DataError
from tests.files import write_shallow_water


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    path = write_shallow_water(tmp_path_factory.mktemp("swe") / "2D_rdb_NA_NA.h5", 12, 8, 16)
    return matey.open(path)


def read(windows, *choice, **settings):
    return windows.batch([Choice(*choice, **settings)])


def test_a_window_holds_consecutive_frames_and_the_frame_at_its_lead(fields):
    windows = Windows(fields, [2, 5], WindowConfig(history=3, max_lead=4))
    assert len(windows) == 2 * (8 - 3)
    whole = fields[5]
    window = read(windows, 5 + 1, lead=3)
    assert torch.equal(window.values[0], whole.values[1:4])
    assert torch.equal(window.target[0], whole.values[3 + 3])
    assert window.lead_time == 3.0
    assert "#0005 frames 1-3" in window.sources[0]


def test_frames_after_a_window_are_counted_to_the_end(fields):
    windows = Windows(fields, [0], WindowConfig(history=3, max_lead=4))
    assert [windows.after(i) for i in range(len(windows))] == [5, 4, 3, 2, 1]


def test_a_pushed_window_has_its_target_so_many_frames_later(fields):
    windows = Windows(fields, [2], WindowConfig(history=2, max_lead=2, pushforward=3))
    window = read(windows, 1, lead=2, pushes=3)
    assert torch.equal(window.values[0], fields[2].values[1:3])
    assert torch.equal(window.target[0], fields[2].values[2 + 3 + 2])
    assert window.lead_time == 2.0


def test_pushforward_over_uneven_steps_is_refused(fields):
    times = fields.trajectories[0].times
    uneven = replace(fields.trajectories[0], times=times + 0.3 * torch.arange(len(times)) ** 2)
    stretched = copy.copy(fields)
    stretched.trajectories = [uneven]
    with pytest.raises(ConfigError, match=r"'shallow_water' are not\. Set it to 0"):
        Windows(stretched, [0], WindowConfig(history=2, pushforward=1))


def test_a_history_longer_than_the_trajectory_is_refused_with_the_longest_possible(fields):
    with pytest.raises(
        DataError, match=r"at most 8 frames.*windows\.history = 8.*Set windows\.history to 7"
    ):
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


def test_a_stride_spreads_the_history_and_makes_a_step_as_long(fields):
    windows = Windows(fields, [2, 5], WindowConfig(history=2, stride=2, max_lead=2))
    assert len(windows) == 2 * (8 - 4)
    assert windows.spec.dt == pytest.approx(2 * fields.spec.dt)
    assert [windows.after(i) for i in range(4)] == [2, 2, 1, 1]
    window = read(windows, 4 + 1, lead=2)
    whole = fields[5]
    assert torch.equal(window.values[0], whole.values[1:4:2])
    assert torch.equal(window.target[0], whole.values[3 + 2 * 2])
    assert window.spec == windows.spec
    assert window.lead_time == 2.0  # in units of the window's dt
    assert "frames 1-3 by 2" in window.sources[0]


def test_every_nth_frame_is_a_sequence_of_its_own(fields):
    thinned = every_nth(fields, 3)
    assert thinned.spec.dt == pytest.approx(3 * fields.spec.dt)
    for other in (thinned, pickle.loads(pickle.dumps(thinned))):
        assert torch.equal(other[2].values, fields[2].values[::3])
        assert torch.equal(other.read(2, slice(1, 3)).values, fields[2].values[[3, 6]])
        assert torch.equal(other[2].times, other.trajectories[2].times)
        assert other[2].spec == thinned.spec


def test_a_fixed_lead_leaves_room_for_itself(fields):
    windows = Windows(fields, [0], WindowConfig(history=3, min_lead=4, max_lead=4))
    assert len(windows) == 8 - 3 - 3
    assert torch.equal(read(windows, 1, lead=4).target[0], fields[0].values[3 + 4])
    with pytest.raises(DataError, match=r"windows\.history = 5 .*min_lead 4.* take 9"):
        Windows(fields, [0], WindowConfig(history=5, min_lead=4, max_lead=4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_lead": 3, "max_lead": 2}, r"windows\.min_lead is 3, expected at most .* = 2"),
        ({"max_lead": 0}, r"windows\.max_lead is 0"),
        ({"max_lead": -1}, r"windows\.max_lead is -1"),
        ({"stride": 0}, r"windows\.stride is 0"),
        ({"min_lead": 2, "max_lead": 2, "pushforward": 1}, r"windows\.pushforward is 1"),
        ({"flip": ("x", "x")}, r"windows\.flip"),
    ],
)
def test_settings_that_make_no_window_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        WindowConfig(**settings)


def test_a_lead_that_is_not_positive_or_beyond_the_end_is_refused_by_name(fields):
    windows = Windows(fields, [3], WindowConfig(history=3, max_lead=4))
    for lead in (0, -2):
        with pytest.raises(DataError, match=rf"Lead time {lead} .*#0003 is not positive"):
            read(windows, 1, lead=lead)
    with pytest.raises(DataError, match=r"Lead time 5 after frame 3 of .*#0003 .*4 steps"):
        read(windows, 1, lead=5)


def stretched(path, steps):
    """A file whose first trajectory has time steps of these lengths."""
    write_shallow_water(path, 2, len(steps) + 1, 8)
    with h5py.File(path, "a") as file:
        for key in file:
            file[f"{key}/grid/t"][...] = [sum(steps[:i]) for i in range(len(steps) + 1)]
    return SourceConfig("uneven", (str(path),), uneven="allow")


def test_steps_within_a_tenth_of_their_median_count_as_equal(tmp_path, caplog):
    source = stretched(tmp_path / "2D_rdb.h5", [1.0, 0.95, 1.0, 1.09, 1.0])
    with caplog.at_level("INFO", "matey"):
        fields = matey.open(tmp_path / "2D_rdb.h5")
    assert "counted as uniform" in caplog.text
    windows = Windows(fields, [0], WindowConfig(history=2, max_lead=3))
    assert [read(windows, 1, lead).lead_time for lead in (1, 2, 3)] == [1.0, 2.0, 3.0]
    assert open_source(source).spec.dt == 1.0


def test_other_uneven_steps_are_refused_or_give_the_elapsed_time_as_lead(tmp_path):
    source = stretched(tmp_path / "2D_rdb.h5", [1.0, 1.0, 0.5, 1.0, 2.0, 1.0])
    with pytest.raises(DataError, match=r"differ from their median 1 by up to 100%.*uneven: allow"):
        matey.open(tmp_path / "2D_rdb.h5")
    fields = open_source(source)
    windows = Windows(fields, [0], WindowConfig(history=2, max_lead=4))
    assert [read(windows, 1, lead).lead_time for lead in (1, 2, 3, 4)] == [0.5, 1.5, 3.5, 4.5]
    by_two = Windows(fields, [0], WindowConfig(history=2, stride=2))
    assert read(by_two, 1).lead_time == 1.5  # 3 elapsed over 2 dt
    (batch,) = Rollouts(fields, [0], 2, 4).batches(8)
    assert [span.tolist() for span in batch.spans([1, 2, 4])] == [[1, 0.5], [0.5, 1], [3, 3]]


@given(st.sets(st.integers(0, 60)))
def test_progressions_hold_each_number_once_and_in_order(numbers):
    ordered = sorted(numbers)
    slices = progressions(ordered)
    assert [i for piece in slices for i in range(61)[piece]] == ordered
    if numbers == set(range(61)):
        assert len(slices) == 1


@given(st.data())
def test_windows_read_together_are_those_read_alone(fields, data):
    history, stride = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    windows = Windows(fields, [1, 4], WindowConfig(history=history, stride=stride))
    picks = []
    for window in data.draw(st.lists(st.integers(0, len(windows) - 1), min_size=1, max_size=6)):
        picks.append(Choice(window, data.draw(st.integers(1, windows.after(window)))))
    together = windows.batch(picks)
    for i, pick in enumerate(picks):
        window = windows.batch([pick])
        trajectory, start = windows.place(pick.window)
        last = start + (history - 1) * stride
        whole = fields[trajectory].values
        assert torch.equal(together.values[i], whole[start : last + 1 : stride])
        assert torch.equal(together.target[i], whole[last + pick.lead * stride])
        assert torch.equal(window.values[0], together.values[i])
        assert torch.equal(window.target[0], together.target[i])
        assert together.sources[i] == window.sources[0]
        assert together.lead_time[i] == window.lead_time[0]


def test_scattered_windows_are_not_in_step_with_trajectories(fields):
    """Of 72 windows, six to a trajectory, every third one starts at frame 0 or 3 alone."""
    windows = Windows(fields, range(12), WindowConfig(history=2))
    places = [windows.place(choice.window) for choice in windows.scattered(24)]
    assert len(set(places)) == 24
    starts = [start for _, start in places]
    assert all(3 <= starts.count(start) <= 5 for start in range(6))
    assert {trajectory for trajectory, _ in places} == set(range(12))


def test_scattered_windows_are_all_of_them_where_there_are_few(fields):
    windows = Windows(fields, range(12), WindowConfig(history=2))
    chosen = [choice.window for choice in windows.scattered(100)]
    assert sorted(chosen) == list(range(72))
    neighbours = [{windows.place(window)[0] for window in chosen[i : i + 6]} for i in range(67)]
    assert min(map(len, neighbours)) >= 4
