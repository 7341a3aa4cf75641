import math
import multiprocessing
import os
import signal
import time
from collections import Counter
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

import matey
from matey.config import DataConfig, MixtureConfig, SourceConfig, SplitConfig, WindowConfig
from matey.data.formats import files
from matey.data.mixture import FIRSTS, Mixture, in_order, some
from matey.data.systems import open_systems
from matey.data.trajectories import open_source
from matey.data.windows import Choice, Windows
from matey.errors import ConfigError, DataError
from tests.files import write_compressible, write_shallow_water


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mix")
    config = WindowConfig(history=3, max_lead=2)
    names = {
        "shallow_water": write_shallow_water(folder / "2D_rdb_NA_NA.h5"),
        "compressible": write_compressible(
            folder / "2D_CFD_Rand_M0.1_Eta0.01_Zeta0.01_periodic_16_Train.hdf5"
        ),
    }
    opened = {name: matey.open(path) for name, path in names.items()}
    return {name: Windows(f, range(len(f)), config) for name, f in opened.items()}


def same(first, second):
    return torch.equal(first.values, second.values) and torch.equal(first.target, second.target)


def test_the_same_seed_and_step_give_the_same_batch_in_whatever_order_they_are_asked(windows):
    first, second = Mixture(windows, 4, seed=3), Mixture(windows, 4, seed=3)
    backwards = {i: second[i] for i in (5, 4, 0)}
    assert all(same(first[i], batch) for i, batch in backwards.items())
    assert not same(first[0], Mixture(windows, 4, seed=4)[0])


@pytest.mark.parametrize(("workers", "method"), [(1, "fork"), (2, "fork")])
def test_worker_processes_change_nothing_from_any_step_on(windows, workers, method):
    mixture = Mixture(windows, 4, seed=0)
    plain = list(mixture.batches(0, 9))  # leaves files open, which a forked process must not use
    for start in (0, 3, 8):
        loaded = list(mixture.batches(start, 9, workers, method))
        assert len(loaded) == 9 - start
        for one, other in zip(plain[start:], loaded, strict=True):
            assert same(one, other)
            assert one.sources == other.sources
            assert torch.equal(one.lead_time, other.lead_time)


@pytest.mark.slow  # a new interpreter takes seconds to import torch
@pytest.mark.parametrize("workers", [1, 2])
def test_new_processes_change_nothing_either(windows, workers):
    test_worker_processes_change_nothing_from_any_step_on(windows, workers, "spawn")


def test_each_system_has_its_turn_in_every_round(windows):
    mixture = Mixture(windows, 2, seed=0)
    for turn in range(10):
        systems = {mixture[2 * turn + place].spec.name for place in range(2)}
        assert systems == {"shallow_water", "compressible"}


def test_a_batch_holds_one_system_with_its_parameters(windows):
    mixture = Mixture(windows, 4, seed=0)
    for batch in (mixture[0], mixture[1]):
        assert batch.values.shape == (4, 3, len(batch.spec.variables), 1, 16, 16)
        assert batch.parameters.shape == (4, len(batch.spec.parameters))
        assert set(batch.lead_time.tolist()) <= {1.0, 2.0}
        assert all(source.startswith("2D_") for source in batch.sources)


def test_rolls_move_windows_along_periodic_axes_only_and_history_with_target(windows):
    for name, group in windows.items():
        rolled = Windows(group.fields, range(4), WindowConfig(history=3, max_lead=2, roll=True))
        still = Windows(group.fields, range(4), WindowConfig(history=3, max_lead=2))
        for i in range(3):
            before, after = (Mixture({name: w}, 2, seed=0)[i] for w in (still, rolled))
            if name == "shallow_water":  # open sides
                assert same(before, after)
                continue
            assert not same(before, after)
            # Whole frames keep their values, in another order; the target moves with them.
            torch.testing.assert_close(
                before.values.flatten(3).sort().values, after.values.flatten(3).sort().values
            )
            change = (before.target - before.values[:, -1]).flatten(2).sort().values
            moved = (after.target - after.values[:, -1]).flatten(2).sort().values
            assert torch.equal(change, moved)


def test_pushes_are_drawn_per_batch_and_leave_room_for_a_target(windows):
    fields = windows["shallow_water"].fields
    config = WindowConfig(history=3, max_lead=2, pushforward=2)
    mixture = Mixture({"shallow_water": Windows(fields, range(4), config)}, 2, seed=0)
    batches = [mixture[i] for i in range(40)]
    assert {batch.pushes for batch in batches} == {0, 1, 2}
    assert {lead for batch in batches for lead in batch.lead_time.tolist()} == {1.0, 2.0}
    plain = Windows(fields, range(4), replace(config, pushforward=0))
    assert all(Mixture({"shallow_water": plain}, 2, seed=0)[i].pushes == 0 for i in range(10))


def test_rollouts_have_another_length_in_the_end_of_a_run(windows):
    fields = windows["shallow_water"].fields
    config = WindowConfig(history=3, pushforward=1, pushforward_end=3, learn_rollout=True)

    def mixture(config, end=None):
        return Mixture({"shallow_water": Windows(fields, range(4), config)}, 2, seed=0, end=end)

    longer, plain = mixture(config, end=20), mixture(replace(config, pushforward_end=None))
    for i in range(20):  # the same, to the bit, until the end
        assert longer[i].pushes == plain[i].pushes
        assert torch.equal(longer[i].values, plain[i].values)
    assert {longer[i].pushes for i in range(20, 80)} == {0, 1, 2, 3}
    assert {mixture(config)[i].pushes for i in range(20, 80)} == {0, 1}  # no end is told


def test_a_batch_larger_than_the_data_repeats_windows(windows):
    assert len(Mixture(windows, 50, seed=0)[0].values) == 50


def test_validation_sees_each_window_once(windows):
    group = windows["shallow_water"]
    seen = [choice.window for batch in in_order(group, 4) for choice in batch]
    assert len(seen) == len(set(seen)) == len(group)
    assert [len(batch) for batch in in_order(group, 4, limit=6)] == [4, 2]


@pytest.mark.parametrize("trajectories", [2, 64, 1000])
def test_validation_sees_first_windows_and_does_not_fall_in_step_with_trajectories(trajectories):
    """An even spread of 32 over 64 trajectories of 24 windows has first ones alone."""
    each, most = 24, 32

    class Even(Windows):
        def __init__(self):
            pass

        def place(self, window):
            return divmod(window, each)

    chosen = some(Even(), np.arange(trajectories * each), most)
    assert len(set(chosen)) == len(chosen) == most
    frames = [window % each for window in chosen]
    wanted = min(trajectories, most // FIRSTS)
    assert wanted <= frames.count(0) <= wanted + 2
    assert len(set(frames)) > 12
    assert len({window // each for window in chosen}) >= min(trajectories, 28)


def test_no_data_says_how_to_name_some():
    with pytest.raises(DataError, match="pass --data"):
        open_systems(DataConfig())


def test_only_the_first_training_trajectories_are_used_on_request(tmp_path):
    path = write_shallow_water(tmp_path / "2D_rdb_NA_NA.h5", 10)
    source = SourceConfig("shallow_water", (str(path),))
    systems = open_systems(DataConfig((source,), trajectories=1))
    split = systems["shallow_water"].split
    assert [len(split[part]) for part in ("train", "valid", "test")] == [1, 1, 1]


def sizes_of(windows):
    return {name: len(group) for name, group in windows.items()}


@pytest.mark.parametrize(
    ("config", "power"),
    [
        (MixtureConfig(), 0),
        (MixtureConfig("size"), 1),
        (MixtureConfig("temperature", temperature=2.0), 0.5),
        (MixtureConfig("temperature", temperature=1e9), 0),
        (MixtureConfig(shares={"third": 3.0, "no_such": 9.0}), 0),
    ],
)
def test_systems_are_drawn_as_often_as_their_weights_say(windows, config, power):
    """In each round the count is within one of its share, at random, and the mean is exact:
    over 2000 rounds it has a standard deviation of at most 0.5 / sqrt(2000) = 0.011."""
    few = {"shallow_water": windows["shallow_water"]}
    fields = windows["compressible"].fields
    few["compressible"] = Windows(fields, [0], windows["compressible"].config)
    few["third"] = Windows(fields, [1, 2], windows["compressible"].config)
    assert list(sizes_of(few).values()) == [30, 5, 10]
    mixture = Mixture(few, 2, 0, config)
    rounds = [Counter(mixture.system(3 * turn + i) for i in range(3)) for turn in range(2000)]
    times = {name: config.shares.get(name, 1.0) for name in few}
    total = sum(times[name] * count**power for name, count in sizes_of(few).items())
    for name, count in sizes_of(few).items():
        share = 3 * times[name] * count**power / total
        drawn = [counted[name] for counted in rounds]
        assert math.floor(share - 1e-6) <= min(drawn) <= max(drawn) <= math.ceil(share + 1e-6)
        assert sum(drawn) / len(drawn) == pytest.approx(share, abs=4 * 0.011)


def test_the_order_within_a_round_differs(windows):
    mixture = Mixture(windows, 2, seed=0)
    assert {mixture.system(2 * turn) for turn in range(20)} == set(windows)


@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_share_one_larger_batch_of_the_same_system(windows, ranks):
    config = WindowConfig(
        history=3, max_lead=2, pushforward=1, learn_rollout=True, roll=True, flip=("x",)
    )
    turned = {name: Windows(group.fields, range(4), config) for name, group in windows.items()}
    alone = Mixture(turned, 2 * ranks, seed=1)
    shares = [Mixture(turned, 2, seed=1, rank=rank, ranks=ranks) for rank in range(ranks)]
    for index in range(6):
        whole, parts = alone[index], [share[index] for share in shares]
        assert len(set(whole.sources)) == 2 * ranks  # no window twice, whoever has it
        for name in ("values", "target", "lead_time", "boundaries", "parameters"):
            joined = torch.cat([getattr(part, name) for part in parts])
            assert torch.equal(joined, getattr(whole, name)), name
        between = [part.between for part in parts if part.between is not None]
        assert (len(between) == 0) == (whole.between is None) == (whole.pushes == 0)
        assert whole.between is None or torch.equal(torch.cat(between), whole.between)
        assert {part.spec.name for part in parts} == {whole.spec.name}
        assert {part.pushes for part in parts} == {whole.pushes}


def test_batches_hold_as_many_windows_as_tokens_fit(windows):
    config = MixtureConfig(tokens_per_batch=100)
    asked = []

    def tokens(points):
        asked.append(points)
        return 33

    mixture = Mixture(windows, 8, 0, config, tokens=tokens)
    assert {len(mixture[i].values) for i in range(4)} == {3}
    assert set(asked) == {(1, 16, 16)}
    with pytest.raises(ConfigError, match=r"tokens_per_batch is 100, .*\(1, 16, 16\).* to 101"):
        Mixture(windows, 8, 0, config, tokens=lambda points: 101)


def test_a_system_can_have_another_number_of_windows_to_a_batch(windows):
    config = MixtureConfig(batch={"shallow_water": 1})
    sizes = {"shallow_water": 1, "compressible": 4}
    whole = Mixture(windows, 4, 0, config)
    for index in range(4):
        batch = whole[index]
        assert len(batch.values) == sizes[batch.spec.name]
        parts = [Mixture(windows, 4, 0, config, rank=rank, ranks=2)[index] for rank in (0, 1)]
        assert {len(part.values) for part in parts} == {sizes[batch.spec.name]}
        assert len({source for part in parts for source in part.sources}) == 2 * len(batch.values)


def mixed(folder):
    """One system on two grids, beside another system."""
    for points, name in ((16, "a"), (8, "b")):
        write_compressible(folder / f"2D_CFD_{name}.hdf5", 2, 6, points)
    write_shallow_water(folder / "2D_rdb.h5", 3, 6, 16)
    source = SourceConfig("gas", tuple(str(folder / f"2D_CFD_{name}.hdf5") for name in "ab"))
    fields = {"gas": open_source(source), "water": matey.open(folder / "2D_rdb.h5")}
    config = WindowConfig(history=2)
    return {name: Windows(group, range(len(group)), config) for name, group in fields.items()}


def test_grids_and_variables_never_mix_within_a_batch_but_all_have_their_turn(tmp_path):
    tokens = {(1, 16, 16): 4, (1, 8, 8): 1}
    config = MixtureConfig(tokens_per_batch=8)
    mixture = Mixture(mixed(tmp_path), 2, 0, config, tokens=tokens.__getitem__)
    seen = {(tuple(mixture[i].values.shape), mixture[i].spec.name) for i in range(40)}
    assert seen == {
        ((2, 2, 4, 1, 16, 16), "gas"),
        ((8, 2, 4, 1, 8, 8), "gas"),
        ((2, 2, 1, 1, 16, 16), "shallow_water"),
    }


def test_a_system_left_without_trajectories_to_train_on_is_named(tmp_path):
    source = SourceConfig("water", (str(write_shallow_water(tmp_path / "2D_rdb.h5", 1)),))
    alone = SplitConfig(valid=0, test=0)
    systems = open_systems(DataConfig((source,), alone))  # a single trajectory is for training
    assert systems["water"].split == {"train": [0], "valid": [], "test": []}
    assert in_order(systems["water"].windows("valid", WindowConfig()), 4) == []
    with pytest.raises(DataError, match=r"No window to train on in any .*\['water'\]"):
        Mixture({"water": systems["water"].windows("test", WindowConfig())}, 4, 0)
    path = write_shallow_water(tmp_path / "2D_rdb_2.h5", 2)
    source = SourceConfig("water", (str(path),))
    with pytest.raises(DataError, match=r"'water' has no trajectory left .*: 2 in all"):
        open_systems(DataConfig((source,), SplitConfig(valid=0.4, test=0.5)))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("change", ["vanish", "replace"])
def test_a_file_that_vanishes_or_changes_in_the_middle_of_a_run_is_named(tmp_path, workers, change):
    path = write_shallow_water(tmp_path / "2D_rdb.h5", 4)
    fields = matey.open(path)
    mixture = Mixture({"water": Windows(fields, range(4), WindowConfig())}, 2, 0)
    batches = mixture.batches(0, 1000, workers)
    next(batches)
    if change == "vanish":
        path.unlink()
    else:
        write_shallow_water(tmp_path / "other.h5", 5).replace(path)
    with pytest.raises(DataError, match=r"2D_rdb\.h5 (cannot be opened|changed while)") as caught:
        list(batches)
    assert "Traceback" not in str(caught.value)


def test_a_killed_loader_process_is_named_and_nothing_hangs(windows):
    mixture = Mixture(windows, 2, 0)
    batches = mixture.batches(0, 10**6, workers=2)
    next(batches)
    victim = multiprocessing.active_children()[0]
    os.kill(victim.pid, signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(DataError, match=r"process that loads data has ended .*Lower workers = 2"):
        for _ in batches:
            pass
    assert time.monotonic() - began < 60  # torch looks every 5 s whether its processes live
    batches.close()


def test_no_chunk_is_read_twice_for_a_batch(tmp_path, bytes_read):
    """Windows that overlap, on chunks of three frames of noise: what is read from the file for
    a batch of all windows is each chunk once. Metadata add less than a chunk."""
    path, frames, points = tmp_path / "2D_CFD.hdf5", 12, 64
    write_compressible(path, 1, frames, points)
    with h5py.File(path, "a") as file:
        chunk = 3 * points**2 * 4
        noise = np.random.default_rng(0)
        for name in ("density", "pressure", "Vx", "Vy"):
            del file[name]
            values = noise.random((1, frames, points, points), dtype=np.float32)
            file.create_dataset(name, data=values, chunks=(1, 3, points, points))
    files.close_files()
    windows = Windows(matey.open(path), [0], WindowConfig(history=3))
    choices = [Choice(i, lead) for i in range(len(windows)) for lead in (1, windows.after(i))]
    windows.batch(choices[:1])  # opens the file and finds its datasets
    files.close_files()
    before = bytes_read()
    windows.batch(choices)
    read = bytes_read() - before
    assert 4 * (frames // 3) * chunk <= read < (4 * (frames // 3) + 1) * chunk
