import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

import matey
from matey.config import BaselineConfig, DataConfig, ModelConfig, SourceConfig, SplitConfig
from matey.data.systems import open_systems
from matey.data.trajectories import open_source
from matey.errors import ConfigError, DataError
from matey.evaluate.protocols import find_protocol
from matey.evaluate.score import ScoreConfig, evaluate, example_leads
from matey.fields import stack_fields
from matey.metrics.error import nrmse
from matey.metrics.seams import jumps
from matey.metrics.spectrum import energy_spectrum, power
from matey.nn.make import make_model
from tests.files import write_shallow_water
from tests.nn.helpers import rough_inputs, system, tiny_model


@pytest.fixture
def data(tmp_path) -> DataConfig:
    path = write_shallow_water(tmp_path / "2D_rdb_NA_NA.h5", trajectories=6, frames=8)
    return DataConfig((SourceConfig("shallow_water", (str(path),)),))


def test_scores_equal_rollouts_made_by_hand(data, tmp_path):
    fields = matey.open(data.systems[0].paths[0])
    model = tiny_model(fields.spec)
    (score,) = evaluate(model, "toy", data, ScoreConfig(3, batch=2), tmp_path / "out")
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


@pytest.mark.parametrize("mode", ["adap_mix", "adap_mul"])
def test_tokens_are_those_that_the_model_works_on(data, tmp_path, mode):
    fields = matey.open(data.systems[0].paths[0])
    model = tiny_model(fields.spec, mode=mode)
    (score,) = evaluate(model, "toy", data, ScoreConfig(1, batch=1), tmp_path / "out")
    (trajectory,) = open_systems(data)["shallow_water"].split["test"]
    used = []
    for start in range(score.windows):
        history = fields.read(trajectory, slice(start, start + 2))
        inputs = stack_fields([history], [1.0], ["toy"])
        used.append(model(inputs).tokens)
    assert len(set(used)) > 1 or used[0] not in (score.tokens["coarse"], score.tokens["fine"])
    assert score.tokens["mean"] == pytest.approx(sum(used) / len(used))


def test_a_model_of_longer_steps_is_scored_at_its_own(data, tmp_path):
    fields = matey.open(data.systems[0].paths[0])
    model = tiny_model(replace(fields.spec, dt=2 * fields.spec.dt))
    (score,) = evaluate(model, "toy", data, ScoreConfig(1), tmp_path / "out")
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
    (score,) = evaluate(model, "toy", half, ScoreConfig(2, windows=asked), tmp_path / "out")
    assert score.windows == min(asked, every)
    assert score.trajectories == min(asked, 3)


def test_examples_hold_the_fields_and_the_cells_of_a_report(data, tmp_path):
    model = tiny_model(matey.open(data.systems[0].paths[0]).spec)
    evaluate(model, "toy", data, ScoreConfig(4), tmp_path / "out")
    with np.load(tmp_path / "out/examples/shallow_water.npz", allow_pickle=False) as example:
        assert example["steps"].tolist() == [1, 2, 3, 4]
        assert example["truth"].shape == example["prediction"].shape == (4, 1, 1, 16, 16)
        assert example["variables"].tolist() == ["height"]
        assert int(example["size"].prod(axis=1).sum()) == 16 * 16


def test_the_cells_of_an_example_are_those_of_each_frame(data, tmp_path):
    """What the model plans, given the rollout so far; after its end nothing."""
    spec = matey.open(data.systems[0].paths[0]).spec
    model = tiny_model(spec)
    evaluate(model, "toy", data, ScoreConfig(4), tmp_path / "out")
    system = open_systems(data)["shallow_water"]
    start = system.fields.read(system.split["test"][0], slice(0, 2))
    rolled = model.rollout(start, 4)
    with np.load(tmp_path / "out/examples/shallow_water.npz", allow_pickle=False) as example:
        found = np.split(example["step_corner"], example["step_cells"].cumsum()[:-1])
        assert len(found) == 4
        for step, corners in enumerate(found):
            values = torch.cat([start.values, rolled.values[: step + 1]])
            times = torch.cat([start.times, rolled.times[: step + 1]])
            plan = model.plan(replace(start, values=values, times=times))
            assert corners.tolist() == plan.corner[plan.leaves].tolist()
        assert len(example["step_level"]) == len(example["step_size"]) == sum(map(len, found))

    model = tiny_model(spec)
    diverging(model, frames=3)
    evaluate(model, "toy", data, ScoreConfig(4), tmp_path / "bad")
    with np.load(tmp_path / "bad/examples/shallow_water.npz", allow_pickle=False) as example:
        assert (example["step_cells"] > 0).tolist() == [True, True, False, False]


def test_a_rollout_stops_where_the_data_end(data, tmp_path, caplog):
    model = tiny_model(matey.open(data.systems[0].paths[0]).spec)
    with caplog.at_level("WARNING", logger="matey"):
        (score,) = evaluate(model, "toy", data, ScoreConfig(50), tmp_path / "out")
    assert score.steps == list(range(1, 7))
    assert "rollouts of 6 steps, not 50: the shortest test trajectory has 8 frames" in caplog.text


def test_a_system_without_test_trajectories_is_named(data, tmp_path):
    model = tiny_model(matey.open(data.systems[0].paths[0]).spec)
    nothing = DataConfig(data.systems, SplitConfig(test=0))
    with pytest.raises(DataError, match="'shallow_water' has no test trajectory"):
        evaluate(model, "toy", nothing, ScoreConfig(1), tmp_path / "out")


def test_a_number_of_rollouts_below_one_is_refused():
    with pytest.raises(ConfigError, match="windows"):
        ScoreConfig(1, windows=0)


def diverging(model, frames: int):
    """Let a model's predictions of the first sample of a batch be NaN from a call on."""
    calls = []

    def spoil(module, given, made):
        calls.append(len(made.normalised))
        if len(calls) >= frames and calls[-1] == calls[0]:
            made.normalised[0] = torch.nan

    model.register_forward_hook(spoil)
    return calls


def test_a_rollout_to_nan_stops_alone_and_the_results_say_when(data, tmp_path):
    """Fault 66. The others of its batch go on, and score as they do without it."""
    spec = matey.open(data.systems[0].paths[0]).spec
    ask = ScoreConfig(4, batch=3)
    (whole,) = evaluate(tiny_model(spec), "toy", data, ask, tmp_path / "whole")
    model = tiny_model(spec)
    calls = diverging(model, frames=2)
    (score,) = evaluate(model, "toy", data, ask, tmp_path / "out")
    assert score.windows == 3
    assert calls == [3, 3, 2, 2]
    assert (score.divergence.rollouts, score.divergence.unfinished) == (1, 1)
    assert score.divergence.first == 2
    assert score.main.error[0] == pytest.approx(whole.main.error[0])
    assert score.main.error[1:] == [float("inf")] * 3
    assert score.main.persistence == whole.main.persistence
    results = json.loads((tmp_path / "out/scores.json").read_text())
    curve = results["systems"][0]["metrics"]["nrmse"]["mean"]
    assert curve["error"][1:] == curve["skill"][1:] == [None] * 3


def test_when_every_rollout_has_ended_the_model_is_not_asked_again(data, tmp_path):
    model = tiny_model(matey.open(data.systems[0].paths[0]).spec)
    calls = diverging(model, frames=1)
    (score,) = evaluate(model, "toy", data, ScoreConfig(4, batch=1), tmp_path / "out")
    assert len(calls) == score.windows == score.divergence.unfinished == 3
    assert score.correlation["height"].time == 1


@pytest.mark.parametrize("name", ["default", "pdebench-v1", "well-1.2"])
def test_every_metric_stands_by_variable_and_lead_beside_persistence(data, tmp_path, name):
    model = tiny_model(matey.open(data.systems[0].paths[0]).spec)
    protocol = find_protocol(name)
    evaluate(model, "toy", data, ScoreConfig(3, protocol=protocol), tmp_path / "out")
    results = json.loads((tmp_path / "out/scores.json").read_text())
    assert results["protocol"]["name"] == name
    (system,) = results["systems"]
    assert list(system["metrics"]) == list(protocol.metrics)
    for metric in system["metrics"].values():
        assert metric["mean"] == metric["by_variable"]["height"]
        curve = metric["mean"]
        assert curve["stencil"] is None  # of a model that was not trained
        for error, still, skill, _ in zip(*filter(None, curve.values()), strict=True):
            assert skill is None if not still else skill == pytest.approx(1 - error / still)
        assert len(curve["error"]) == 3
        if None not in curve["error"]:  # a band that the grid has none of
            mean = metric["windows"]["1:3"]["error"]
            assert mean == pytest.approx(np.mean(curve["error"]))
    assert len(system["correlation"]["height"]["correlation"]) == 3


def test_few_large_steps_are_scored_at_the_leads_that_they_reach(data, tmp_path):
    fields = matey.open(data.systems[0].paths[0])
    model = tiny_model(fields.spec)
    (score,) = evaluate(model, "toy", data, ScoreConfig(5, lead=2), tmp_path / "out")
    assert score.steps == [2, 4]
    (trajectory,) = open_systems(data)["shallow_water"].split["test"]
    whole = fields[trajectory]
    errors = []
    for start in range(score.windows):
        history = fields.read(trajectory, slice(start, start + 2))
        rolled = model.rollout(history, steps=2, lead_time=2.0)
        errors.append(nrmse(rolled.values, whole.values[[start + 3, start + 5]]))
    # One rollout at a time instead of all: float32 rounding in the model.
    assert score.main.error == pytest.approx(torch.stack(errors).mean(dim=(0, 2)).tolist(), 1e-4)


def test_spectra_and_drifts_of_the_truth_are_those_of_the_file(data, tmp_path):
    fields = matey.open(data.systems[0].paths[0])
    (score,) = evaluate(tiny_model(fields.spec), "toy", data, ScoreConfig(6), tmp_path / "out")
    assert score.windows == 1
    (trajectory,) = open_systems(data)["shallow_water"].split["test"]
    truth = fields[trajectory].values[1:].double()
    means = truth.mean(dim=(-3, -2, -1))[:, 0]
    drift = score.drift["mean"]["height"]
    assert drift.truth == pytest.approx((means[1:] - means[0]).abs().tolist())
    assert score.spectra.leads == [1, 3, 6]
    for lead, shells in zip([1, 3, 6], score.spectra.truth["height"], strict=True):
        assert shells == pytest.approx(energy_spectrum(power(truth[lead][None]), 16)[0, 0].tolist())
    assert len(score.spectra.prediction["height"][0]) == len(score.spectra.wavenumbers) == 9


def test_rollouts_from_several_trajectories_share_batches(data, tmp_path):
    model = tiny_model(matey.open(data.systems[0].paths[0]).spec)
    half = DataConfig(data.systems, SplitConfig(test=0.5))
    sizes = []
    model.register_forward_hook(lambda _, given, made: sizes.append(len(made.normalised)))
    (score,) = evaluate(model, "toy", half, ScoreConfig(2, windows=3), tmp_path / "out")
    assert (score.trajectories, sizes) == (3, [3, 3])


def test_an_example_keeps_the_ends_of_a_rollout_and_fewer_frames_of_large_fields():
    assert sorted(example_leads(range(1, 101), 100))[::16] == [1, 100]
    assert len(example_leads(range(1, 101), 100)) == 17
    assert example_leads([5, 10], 100) == {5, 10}
    assert example_leads([5], 100) == {5}
    assert sorted(example_leads(range(1, 101), 2**40)) == [1, 50, 100]


def test_linear_extrapolation_is_scored_beside_persistence(data, tmp_path):
    fields = matey.open(data.systems[0].paths[0])
    model = tiny_model(fields.spec)
    (score,) = evaluate(model, "toy", data, ScoreConfig(3, lead=2), tmp_path / "out")
    (trajectory,) = open_systems(data)["shallow_water"].split["test"]
    values = fields[trajectory].values
    before, last = values[: score.windows], values[1 : score.windows + 1]
    errors = nrmse(last + 2 * (last - before), values[3 : score.windows + 3])
    assert score.main.linear == pytest.approx([float(errors.mean())])
    (variable,) = score.variables
    assert score.metrics["nrmse"].by_variable[variable].linear == score.main.linear


def test_steps_of_unequal_length_are_as_long_as_they_are(tmp_path):
    """What grows with time is what linear extrapolation says, and a model is told elapsed times."""
    path = write_shallow_water(tmp_path / "2D_rdb.h5", trajectories=1, frames=6)
    times = np.array([0.0, 1.0, 2.0, 2.5, 3.5, 5.5])
    with h5py.File(path, "a") as file:
        for key in file:
            rows = file[f"{key}/data"][...]
            file[f"{key}/grid/t"][...] = times
            file[f"{key}/data"][...] = rows[:1] * (1 + times.reshape(-1, 1, 1, 1))
    source = SourceConfig("shallow_water", (str(path),), uneven="allow")
    data = DataConfig((source,), SplitConfig(valid=0, test=1))
    model, told = tiny_model(open_source(source).spec), []
    model.register_forward_pre_hook(lambda _, given: told.append(given[0].lead_time.tolist()))
    (score,) = evaluate(model, "toy", data, ScoreConfig(3, batch=2), tmp_path / "out")
    assert score.main.linear == pytest.approx([0, 0, 0], abs=1e-5)
    assert told == [[1.0, 0.5], [0.5, 1.0], [1.0, 2.0]]  # of two starts, step by step
    assert "unequal length" in score.no_stencil


def test_one_frame_given_has_no_trend_to_go_on(data, tmp_path):
    model = tiny_model(matey.open(data.systems[0].paths[0]).spec)
    model.history = 1
    (score,) = evaluate(model, "toy", data, ScoreConfig(1), tmp_path / "out")
    assert score.main.linear is None


def test_seams_are_those_of_the_cells_that_each_step_is_made_of(data, tmp_path):
    """By lead: what `jumps` says of rollouts made one by one, with the plan of their own frames."""
    fields = matey.open(data.systems[0].paths[0])
    model = tiny_model(fields.spec)
    (score,) = evaluate(model, "toy", data, ScoreConfig(2, batch=3), tmp_path / "out")
    (trajectory,) = open_systems(data)["shallow_water"].split["test"]
    values = fields[trajectory].values
    across, inside = torch.zeros(2), torch.zeros(2)
    for start in range(score.windows):
        history = fields.read(trajectory, slice(start, start + 2))
        rolled = model.rollout(history, steps=2)
        frames = torch.cat([history.values, rolled.values])
        for step in range(2):
            given = replace(history, values=frames[step : step + 2])
            labels = model.plan(given).labels
            made = frames[step + 2 : step + 3]
            found = jumps(made, values[start + step + 2 : start + step + 3], labels)
            across[step] += found.across[0, 0]
            inside[step] += found.inside[0, 0]
    # One rollout at a time instead of three: float32 rounding in the model.
    assert score.seams.mean == pytest.approx((across / inside).tolist(), rel=1e-3)
    assert score.seams.by_variable == {"height": score.seams.mean}
    results = json.loads((tmp_path / "out/scores.json").read_text())
    assert results["systems"][0]["seams"]["mean"] == score.seams.mean


def test_a_moved_lattice_moves_the_cells_with_it():
    """Moved by 3 and 5 points, a plan has its edges there, across the periodic sides too."""
    inputs = rough_inputs(system())
    model = tiny_model(inputs.spec, threshold=1.0)  # patches of 8 everywhere
    still, moved = model(inputs), model(inputs, (0, 3, 5))
    assert torch.equal(moved.patches, still.patches.roll((-3, -5), (-2, -1)))
    edges = (moved.patches[0, 0].diff(dim=1) != 0).any(dim=0).nonzero().flatten().tolist()
    assert edges == [2, 10]  # of cells from 8 and 16 on, 5 points before
    assert still.patches.unique().numel() == 3 * 4


def test_a_rollout_that_ends_leaves_the_seams_to_the_others(data, tmp_path):
    spec = matey.open(data.systems[0].paths[0]).spec
    (whole,) = evaluate(tiny_model(spec), "toy", data, ScoreConfig(4, batch=3), tmp_path / "whole")
    model = tiny_model(spec)
    diverging(model, frames=2)
    (score,) = evaluate(model, "toy", data, ScoreConfig(4, batch=3), tmp_path / "out")
    assert score.seams.mean[0] == pytest.approx(whole.seams.mean[0])
    assert np.isfinite(score.seams.mean).all()
    assert score.seams.mean[1] != whole.seams.mean[1]


@pytest.mark.parametrize("kind", ["unet", "stencil"])
def test_models_without_patches_have_no_seams(data, tmp_path, kind):
    spec = matey.open(data.systems[0].paths[0]).spec
    width = {"unet": 4, "stencil": 3}[kind]
    config = ModelConfig(baseline=BaselineConfig(kind=kind, width=width))
    model = make_model(config, [spec], 2).eval()
    (score,) = evaluate(model, "toy", data, ScoreConfig(1), tmp_path / "out")
    assert score.seams is None
    assert json.loads((tmp_path / "out/scores.json").read_text())["systems"][0]["seams"] is None
