"""Runs whose model is the average of the weights: what is validated, saved and resumed."""

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import matey
from matey.config import DataConfig, OptimConfig, ParallelConfig
from matey.data.systems import open_systems
from matey.train.checkpoint import AVERAGE
from matey.train.finetune import finetune
from matey.train.loop import train
from matey.train.parallel.distributed import Team
from matey.train.signals import Stop
from matey.train.validate import validate
from tests.cost.test_forecast import foretold
from tests.train.test_loop import break_and_resume, config_for, records

OPTIM = OptimConfig(lr=3e-3, warmup=2, ema=0.9)
LAST = "checkpoints/step-00000006"


@pytest.fixture(scope="module")
def config(data):
    return config_for(data, optim=OPTIM)


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """The run that nothing disturbs."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    train(config, run)
    return run


def test_the_weights_are_trained_as_without_an_average(config, whole, tmp_path):
    plain = tmp_path / "plain"
    train(replace(config, optim=replace(OPTIM, ema=0.0)), plain)
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (plain / LAST / name).read_bytes() == (whole / LAST / name).read_bytes()
    assert not (plain / LAST / AVERAGE).exists()
    assert "ema" not in json.loads((plain / "model/config.json").read_text())["training"]


def test_the_model_that_is_saved_and_scored_is_the_average(config, whole, data):
    averages = load_file(whole / LAST / AVERAGE)
    weights = load_file(whole / LAST / "model.safetensors")
    shipped = load_file(whole / "model/model.safetensors")
    assert shipped.keys() == weights.keys()
    assert all(torch.equal(shipped[name], averages.get(name, weights[name])) for name in shipped)
    assert not all(torch.equal(shipped[name], weights[name]) for name in averages)
    stop, alone = Stop(), Team(ParallelConfig(), torch.device("cpu"))
    systems = open_systems(data)
    for model, step in (("model", 6), ("best", None)):
        loaded = matey.from_pretrained(whole / model)
        scores = validate(loaded, systems, config, stop, alone)
        logged = [record for record in records(whole, "valid") if step in (None, record["step"])]
        if step is None:
            logged = [min(logged, key=lambda record: sum(record["nrmse"].values()))]
        assert scores["nrmse"] == logged[0]["nrmse"]  # to the bit
    training = json.loads((whole / "model/config.json").read_text())["training"]
    assert training["ema"] == 0.9
    assert "averages over steps, of decay 0.9" in (whole / "model/README.md").read_text()


def test_a_resumed_average_equals_the_undisturbed_one_to_the_bit(config, whole, tmp_path):
    broken = tmp_path / "broken"
    break_and_resume(config, whole, broken, stop=4)
    for name in (f"{LAST}/{AVERAGE}", "model/model.safetensors", "best/model.safetensors"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes()


def test_an_average_that_is_switched_on_later_begins_with_the_weights_there(config, tmp_path):
    run = tmp_path / "run"
    short = replace(config, steps=3, optim=replace(OPTIM, ema=0.0))
    train(short, run)
    train(replace(config, steps=3), run, resume=True)
    weights = load_file(run / "checkpoints/step-00000003/model.safetensors")
    shipped = load_file(run / "model/model.safetensors")
    assert all(torch.equal(shipped[name], weights[name]) for name in weights)
    train(replace(config, steps=4), run, resume=True)
    assert (run / "checkpoints/step-00000004" / AVERAGE).exists()
    train(replace(short, steps=5), run, resume=True)
    assert not (run / "checkpoints/step-00000005" / AVERAGE).exists()
    assert all(math.isfinite(record["loss"]) for record in records(run, "train"))


def test_fine_tuning_goes_on_from_averages_and_averages_what_trains(config, whole, data, tmp_path):
    run = tmp_path / "tuned"
    other = replace(config, data=DataConfig(data.systems[1:]), mode="frozen-attention", steps=1)
    finetune(whole, replace(other, checkpoint_every=1), run)
    averages = load_file(run / "checkpoints/step-00000001" / AVERAGE)
    before, after = (load_file(r / "model/model.safetensors") for r in (whole, run))
    blocks = [name for name in after if name.startswith("blocks.")]
    assert blocks
    assert not set(blocks) & set(averages)
    assert all(torch.equal(before[name], after[name]) for name in blocks)
    assert all(torch.equal(averages[name], after[name]) for name in averages)


def test_the_forecast_counts_the_average_of_what_trains(config):
    plain = foretold(replace(config, optim=OptimConfig())).step
    for mode in ("full", "frozen-attention"):
        step = foretold(replace(config, mode=mode)).step
        assert step.average == step.moments // 2
        if mode == "full":
            grown = step.heap * step.average
            assert step.total - plain.total == pytest.approx(grown, abs=1)  # whole bytes
