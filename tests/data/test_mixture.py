from dataclasses import replace

import pytest
import torch

import matey
from matey.config import DataConfig, SourceConfig, WindowConfig
from matey.data.mixture import Mixture, in_order, open_systems
from matey.data.windows import Windows
from matey.errors import DataError
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


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_change_nothing(windows, workers):
    mixture = Mixture(windows, 4, seed=0)
    for plain, loaded in zip(mixture.batches(3, 9), mixture.batches(3, 9, workers), strict=True):
        assert same(plain, loaded)
        assert plain.sources == loaded.sources


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


def test_a_batch_larger_than_the_data_repeats_windows(windows):
    assert len(Mixture(windows, 50, seed=0)[0].values) == 50


def test_validation_sees_each_window_once(windows):
    group = windows["shallow_water"]
    sources = [source for batch in in_order(group, 4) for source in batch.sources]
    assert len(sources) == len(set(sources)) == len(group)
    few = [source for batch in in_order(group, 4, limit=6) for source in batch.sources]
    assert len(few) == 6


def test_no_data_says_how_to_name_some():
    with pytest.raises(DataError, match="pass --data"):
        open_systems(DataConfig())


def test_only_the_first_training_trajectories_are_used_on_request(tmp_path):
    path = write_shallow_water(tmp_path / "2D_rdb_NA_NA.h5", 10)
    source = SourceConfig("shallow_water", (str(path),))
    systems = open_systems(DataConfig((source,), trajectories=1))
    split = systems["shallow_water"].split
    assert [len(split[part]) for part in ("train", "valid", "test")] == [1, 1, 1]
