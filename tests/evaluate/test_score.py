import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import matey
from matey.config import DataConfig, SourceConfig, SplitConfig
from matey.data.mixture import open_systems
from matey.errors import DataError
from matey.evaluate.score import Ask, evaluate
from matey.metrics.error import nrmse
from tests.files import write_shallow_water
from tests.nn.helpers import tiny_model


@pytest.fixture
def data(tmp_path) -> DataConfig:
    path = write_shallow_water(tmp_path / "2D_rdb_NA_NA.h5", trajectories=6, frames=8)
    return DataConfig((SourceConfig("shallow_water", (str(path),)),))


def test_scores_equal_rollouts_made_by_hand(data, tmp_path):
    fields = matey.open(data.systems[0].paths[0])
    model = tiny_model(fields.spec)
    (score,) = evaluate(model, "toy", data, Ask(3, batch=2), tmp_path / "out")
    assert score.windows == 8 - 2 - 3 + 1
    results = json.loads((tmp_path / "out/scores.json").read_text())
    entry = results["systems"][0]
    assert entry["metrics"]["nrmse"]["mean"]["error"] == score.main.error

    (trajectory,) = open_systems(data)["shallow_water"].split["test"]
    whole = fields[trajectory]
    errors, still = [], []
    for start in range(score.windows):
        history = fields.read(trajectory, slice(start, start + 2))
        truth = whole.values[start + 2 : start + 5]
        errors.append(nrmse(model.rollout(history, steps=3).values, truth))
        still.append(nrmse(history.values[-1:].expand(3, -1, -1, -1, -1), truth))
    # One rollout at a time instead of two: float32 rounding in the model.
    expected = torch.stack(errors).mean(dim=(0, 2)).tolist()
    assert score.main.error == pytest.approx(expected, rel=1e-4)
    assert score.main.persistence == pytest.approx(torch.stack(still).mean(dim=(0, 2)).tolist())


def test_a_model_of_longer_steps_is_scored_at_its_own(data, tmp_path):
    fields = matey.open(data.systems[0].paths[0])
    model = tiny_model(replace(fields.spec, dt=2 * fields.spec.dt))
    (score,) = evaluate(model, "toy", data, Ask(1), tmp_path / "out")
    assert score.dt == pytest.approx(2 * fields.spec.dt)
    assert score.windows == 4 - 2  # of 8 frames every other
    (trajectory,) = open_systems(data)["shallow_water"].split["test"]
    frames = fields[trajectory].values[::2]
    still = nrmse(frames[1:3], frames[2:4])
    assert score.main.persistence == pytest.approx([float(still.mean())])


@pytest.mark.parametrize("asked", [1, 3, 50])
def test_so_many_rollouts_as_asked_are_spread_over_all_test_trajectories(data, tmp_path, asked):
    model = tiny_model(matey.open(data.systems[0].paths[0]).spec)
    half = DataConfig(data.systems, SplitConfig(test=0.5))
    every = 3 * (8 - 2 - 2 + 1)
    (score,) = evaluate(model, "toy", half, Ask(2, windows=asked), tmp_path / "out")
    assert score.windows == min(asked, every)
    assert score.trajectories == min(asked, 3)


def test_examples_hold_the_fields_and_the_cells_of_a_report(data, tmp_path):
    model = tiny_model(matey.open(data.systems[0].paths[0]).spec)
    evaluate(model, "toy", data, Ask(4), tmp_path / "out")
    with np.load(tmp_path / "out/examples/shallow_water.npz", allow_pickle=False) as example:
        assert example["steps"].tolist() == [1, 2, 4]
        assert example["truth"].shape == example["prediction"].shape == (3, 1, 1, 16, 16)
        assert example["variables"].tolist() == ["height"]
        assert int(example["size"].prod(axis=1).sum()) == 16 * 16


def test_a_rollout_stops_where_the_data_end(data, tmp_path):
    model = tiny_model(matey.open(data.systems[0].paths[0]).spec)
    (score,) = evaluate(model, "toy", data, Ask(50), tmp_path / "out")
    assert score.steps == list(range(1, 7))


def test_a_system_without_test_trajectories_is_named(data, tmp_path):
    model = tiny_model(matey.open(data.systems[0].paths[0]).spec)
    nothing = DataConfig(data.systems, SplitConfig(test=0))
    with pytest.raises(DataError, match="'shallow_water' has no test trajectory"):
        evaluate(model, "toy", nothing, Ask(1), tmp_path / "out")
