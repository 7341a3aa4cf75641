"""From the ranges that a model keeps of its training to the mark in a report."""

import json
import logging
from dataclasses import replace

import pytest
import torch

import matey
from matey.cli import main
from matey.config import DataConfig, SourceConfig, WindowConfig
from matey.data import statistics
from matey.data.systems import open_systems
from matey.evaluate.score import ScoreConfig, evaluate
from matey.metrics.extent import extents
from matey.nn.folder import card_of, from_pretrained, save_pretrained
from matey.records.ranges import joined
from matey.records.scores import Scores
from tests.files import write_compressible, write_shallow_water
from tests.nn.helpers import tiny_model
from tests.train.tiny import tiny_run


@pytest.fixture
def data(tmp_path) -> DataConfig:
    path = write_shallow_water(tmp_path / "2D_rdb_NA_NA.h5", trajectories=6, frames=8)
    return DataConfig((SourceConfig("shallow_water", (str(path),)),))


@pytest.fixture
def model(data, tmp_path):
    """A model folder that says what all trajectories hold."""
    fields = open_systems(data)["shallow_water"].fields
    extent = statistics.extents_of(fields, range(len(fields)))
    ranges = statistics.ranges_of(extent, fields.trajectories, fields.spec, WindowConfig())
    training = {"ranges": {"shallow_water": ranges}}
    save_pretrained(tiny_model(fields.spec), tmp_path / "model", training)
    return from_pretrained(tmp_path / "model")


def doubled(field):
    return replace(field, values=2 * field.values)


def test_ranges_are_those_of_the_training_trajectories(data, monkeypatch):
    """Of all their frames where these are few, else of some of each trajectory."""
    system = open_systems(data)["shallow_water"]
    train = [system.fields.read(i) for i in system.split["train"]]
    whole = joined(map(extents, train))
    found = system.ranges(WindowConfig(history=2, stride=2))
    assert {name: found[name] for name in whole} == whole
    assert found["dt"][""] == pytest.approx((0.2, 0.2))  # a step is two frames
    assert found["spacing"]["x"] == pytest.approx((0.3125, 0.3125))

    read: list[tuple[int, int]] = []
    fields, original = system.fields, type(system.fields).read

    def noted(self, trajectory, frames=slice(None)):
        field = original(self, trajectory, frames)
        read.extend((trajectory, round(time / 0.1)) for time in field.times.tolist())
        return field

    monkeypatch.setattr(type(fields), "read", noted)
    monkeypatch.setattr(statistics, "LOOKED_AT", 16 * 16 * 12)
    monkeypatch.setattr(statistics, "BLOCK", 1)
    fewer = statistics.extents_of(fields, system.split["train"])
    assert {trajectory for trajectory, _ in read} == set(system.split["train"])
    assert len(read) == len(set(read)) <= 12
    assert len({frame for _, frame in read}) > 4  # not the same of each
    low, high = fewer["value"]["height"]
    assert whole["value"]["height"][0] <= low < high <= whole["value"]["height"][1]

    read.clear()  # a frame may hold more than that: of eight of them, not of a first one alone
    monkeypatch.setattr(statistics, "LOOKED_AT", 1)
    statistics.extents_of(fields, system.split["train"])
    assert len(read) == 8
    assert {trajectory for trajectory, _ in read} == set(system.split["train"])


def test_mirrors_of_training_are_in_its_ranges(tmp_path):
    path = write_compressible(tmp_path / "2D_CFD_Rand_M0.1_Eta0.01_Zeta0.01_periodic_Train.hdf5")
    system = open_systems(DataConfig((SourceConfig("gas", (str(path),)),)))["gas"]
    plain, turned = (system.ranges(WindowConfig(flip=flip)) for flip in ((), ("x",)))
    low, high = plain["value"]["velocity_x"]
    assert turned["value"]["velocity_x"] == (min(low, -high), max(high, -low))
    for name in ("velocity_y", "density"):
        assert turned["value"][name] == plain["value"][name]
    assert turned["gradient"] == plain["gradient"]
    low, high = plain["parameter"]["eta"]
    assert low == high == pytest.approx(0.01)


def test_a_model_tells_what_of_a_field_is_outside(model, data, caplog):
    field = matey.open(data.systems[0].paths[0])[0]
    assert model.outside(field) == []
    found = {(one.quantity, one.name): one for one in model.outside(doubled(field))}
    height = found["value", "height"]
    assert height.value == pytest.approx(2 * float(field.values[-2:].max()), rel=1e-2)
    assert height.value > height.high
    assert ("dt", "") not in found
    slower = replace(field, times=3 * field.times, spec=replace(field.spec, dt=0.3))
    assert [one.quantity for one in model.outside(slower)] == ["dt"]
    with caplog.at_level(logging.WARNING, logger="matey"):
        model.rollout(field, 1)
        assert caplog.text == ""
        model.rollout(doubled(field), 1)
    assert f"shallow_water: {height}." in caplog.text
    # The history alone counts: what a field was before is not given to the model.
    values = field.values.clone()
    values[:-2] *= 9
    assert model.outside(replace(field, values=values)) == []


@pytest.mark.parametrize("ranges", [None, {"shallow_water": {"value": {"height": "much"}}}, 3])
def test_a_folder_that_has_no_ranges_or_damaged_ones_says_nothing(ranges, data, tmp_path):
    field = matey.open(data.systems[0].paths[0])[0]
    training = {} if ranges is None else {"ranges": ranges}
    save_pretrained(tiny_model(field.spec), tmp_path / "old", {})
    config = tmp_path / "old/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "training": training}))
    assert from_pretrained(tmp_path / "old").outside(doubled(field)) == []


def test_a_system_of_another_name_is_compared_with_the_one_of_its_variables(model, data):
    field = doubled(matey.open(data.systems[0].paths[0])[0])
    renamed = replace(field, spec=replace(field.spec, name="pond"))
    assert model.outside(renamed) == model.outside(field)
    torch.testing.assert_close(renamed.values, field.values)


def test_scores_and_report_mark_what_is_outside(model, data, tmp_path, caplog):
    (score,) = evaluate(model, "toy", data, ScoreConfig(3), tmp_path / "within")
    assert score.outside == []
    twice = write_shallow_water(tmp_path / "b/2D_rdb_NA_NA.h5", points=8)
    wider = DataConfig((SourceConfig("shallow_water", (str(twice),)),))
    caplog.clear()
    (score,) = evaluate(model, "toy", wider, ScoreConfig(3), tmp_path / "wide")
    (kept,) = Scores.load(tmp_path / "wide/scores.json").systems
    assert kept.outside == score.outside
    assert [one.inputs for one in score.outside if one.quantity == "spacing"] == [4, 4]
    line = "the spacing along x is 0.625; training had 0.3125"
    assert caplog.text.count(line) == 1
    for folder, marked in (("within", False), ("wide", True)):
        page = tmp_path / f"{folder}.html"
        assert main(["report", str(tmp_path / folder), "--out", str(page)]) == 0
        text = page.read_text()
        assert ("inputs outside of training</h3>" in text) == marked
        assert ("Inputs lie outside the ranges of training on shallow_water" in text) == marked
        assert (f"{line}: outside by 0.3125, 4 of 4 rollouts" in text) == marked


def test_a_run_keeps_its_ranges_and_its_card_shows_them(data, tmp_path, monkeypatch):
    from matey.train import loop

    monkeypatch.setattr(loop, "memory_bound", lambda *arguments: 0)
    path = data.systems[0].paths[0]
    config = tiny_run({"shallow_water": path}, {"patches": (8,)}, {}, {}, steps=1)
    trained = loop.train(config, tmp_path / "run")
    field = doubled(matey.open(path)[0])
    said = trained.outside(field)
    assert said
    for folder in ("run", "run/model", "run/best"):
        assert from_pretrained(tmp_path / folder).outside(field) == said
    card = (tmp_path / "run/model/README.md").read_text()
    row = next(line for line in card.splitlines() if "| value | height |" in line)
    assert f"| {said[0].low:.4g} | {said[0].high:.4g} |" in row
    assert row in card_of(tmp_path / "run")
