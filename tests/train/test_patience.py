"""When training ends before its last step, and whose model is kept: by validation."""

import json
from dataclasses import replace

import pytest
import torch

import matey
import matey.train.validate as validation
from matey.config import DataConfig
from matey.errors import ConfigError
from matey.nn.tensors import load_tensors
from matey.train import checkpoint
from matey.train.loop import train
from tests.train.test_finetune import config_for

SCORES = (5.0, 3.0, 4.0, 3.0, 2.0, 6.0, 7.0, 8.0, 9.0, 1.0)  # after steps 1, 2, ...
FILES = ("model", "optimizer", "random")


@pytest.fixture
def scripted(monkeypatch):
    """Validations that give `SCORES`."""
    done = {}
    after_step = validation.Keeper.after_step

    def note(keeper, progress):
        done["step"] = progress.step
        return after_step(keeper, progress)

    def score(model, systems, config, stop, team):
        error = SCORES[done["step"] - 1]
        scores = {key: {"shallow_water": error} for key in ("nrmse", "persistence", "loss")}
        worse = {"windows": 2, "of": 9, "times": error, "at": "a.h5#0001 from frame 0"}
        return {**scores, "worse": {"shallow_water": worse}}

    monkeypatch.setattr(validation.Keeper, "after_step", note)
    monkeypatch.setattr(validation, "validate", score)


@pytest.fixture
def config(data):
    water = DataConfig(data.systems[:1])
    return config_for(water, steps=10, validate_every=1, checkpoint_every=3, patience=3)


def records(run, kind):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


def test_training_ends_after_so_many_scores_without_a_better_one_and_keeps_the_best(
    scripted, config, data, tmp_path
):
    model = train(config, tmp_path / "run")
    assert [record["step"] for record in records(tmp_path / "run", "valid")] == list(range(1, 9))
    (end,) = records(tmp_path / "run", "end")
    assert (end["step"], end["best"]) == (8, 5)
    assert end["worse"]["shallow_water"]["times"] == 2  # of the model that is kept
    kept, best = (
        load_tensors(tmp_path / "run" / n / "model.safetensors") for n in ("model", "best")
    )
    assert all(torch.equal(kept[name], weight) for name, weight in best.items())
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in kept.items())
    told = json.loads((tmp_path / "run/model/config.json").read_text())["training"]
    assert (told["steps"], told["best_of"]) == (5, 8)
    card = (tmp_path / "run/model/README.md").read_text()
    assert "8 steps, 16 windows" in card
    assert "those after step 5, the best by validation" in card
    field = matey.open(data.systems[0].paths[0])[0]
    loaded = matey.from_pretrained(tmp_path / "run")
    assert torch.equal(loaded.rollout(field, 1).values, model.rollout(field, 1).values)


def test_the_steps_before_an_early_end_are_logged_and_paid_for(scripted, config, tmp_path):
    train(replace(config, log_every=5), tmp_path / "run")
    assert sum(record["windows"] for record in records(tmp_path / "run", "train")) == 16
    assert "8 steps, 16 windows" in (tmp_path / "run/model/README.md").read_text()


@pytest.mark.parametrize("broken", [4, 7])
def test_a_run_that_was_broken_off_ends_after_the_same_step_with_the_same_bits(
    scripted, config, tmp_path, broken
):
    class StopError(Exception):
        pass

    def stop(record):
        if record["kind"] == "train" and record["step"] == broken:
            raise StopError

    train(config, tmp_path / "whole")
    with pytest.raises(StopError):
        train(config, tmp_path / "broken", stop)
    train(config, tmp_path / "broken", resume=True)
    last = "checkpoints/step-00000008"
    for name in [*(f"{last}/{file}.safetensors" for file in FILES), "model/model.safetensors"]:
        files = [(tmp_path / run / name).read_bytes() for run in ("whole", "broken")]
        assert files[0] == files[1], name


def test_a_run_that_ended_stays_as_it_is_and_goes_on_with_more_patience(scripted, config, tmp_path):
    train(config, tmp_path / "run")
    train(config, tmp_path / "run", resume=True)
    assert [record["step"] for record in records(tmp_path / "run", "end")] == [8, 8]
    assert len(records(tmp_path / "run", "valid")) == 8
    train(replace(config, patience=5), tmp_path / "run", resume=True)
    assert records(tmp_path / "run", "end")[-1]["best"] == 10
    _, state = checkpoint.newest(tmp_path / "run")
    assert (state.progress.step, state.progress.best_step, state.progress.since_best) == (10, 10, 0)


def test_without_patience_all_steps_are_taken_and_the_last_model_is_kept(
    scripted, config, tmp_path
):
    model = train(replace(config, patience=0), tmp_path / "run")
    (end,) = records(tmp_path / "run", "end")
    assert end["step"] == 10
    kept = load_tensors(tmp_path / "run/model/model.safetensors")
    assert all(torch.equal(kept[name], w) for name, w in model.state_dict().items())
    with pytest.raises(ConfigError, match="patience is -1"):
        replace(config, patience=-1)
