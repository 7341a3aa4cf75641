"""Four and eight processes (gloo) against one: masks, stretched grids, keys in a ring."""

import json
import logging
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from matey.config import ModelConfig, ParallelConfig, RunConfig
from matey.errors import ConfigError
from matey.train.loop import train
from matey.train.parallel.distributed import Team
from matey.train.resume import changes
from matey.train.run_folder import to_yaml
from tests.nn.helpers import system, tiny_model
from tests.train.pair import Pair
from tests.train.parallel.many import CASES, CPU, step_in, steps_of_many
from tests.train.parallel.test_distributed import is_rounding
from tests.train.test_loop import records
from tests.train.test_processes import short_config, weights_of, words
from tests.train.works import command, modelled_for


def check_traffic(folder, size):
    """All processes together send what is modelled, activation checkpointing included."""
    name = "heads and ring"
    each = [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(size)]
    for what, modelled in modelled_for(size, *CASES[size][name], True).items():
        sent = sum(one[what] for one in each)
        # Heads and cells that do not divide evenly; around the ring go all of them.
        assert sent == pytest.approx(size * modelled, rel=1e-9 if what == "ring" else 0.01), what


@pytest.mark.parametrize("size", [4, pytest.param(8, marks=pytest.mark.slow)])
def test_many_processes_have_the_losses_and_gradients_of_one(tmp_path, size):
    """Keys of blocks that differ by a cell, segments that lie in one block or in all, masks and
    stretched grids, with one step for each way to share the work."""
    for ended in Pair(tmp_path, steps_of_many, tmp_path, size=size).finish(300, awaited=size):
        assert ended.code == 0, ended.said
        assert ended.said == ""
    check_traffic(tmp_path, size)
    one = Team(ParallelConfig(), CPU)
    alone = {model: step_in(model, one) for model in {model for model, _ in CASES[size].values()}}
    paths = sorted(tmp_path.glob("*.safetensors"))
    assert len(paths) == len(CASES[size]) + 1
    for path in paths:
        config, _ = CASES[size][path.stem.removesuffix("-checkpointed")]
        found, expected = load_file(path), alone[config]
        assert set(found) == set(expected)
        for name, value in expected.items():
            error = torch.linalg.vector_norm(found[name] - value)
            if is_rounding(name, config):
                assert error <= 1e-8 * expected["norm"], (path.stem, name)
            else:
                # Sums in another order: float32 rounding of each tensor, and nothing else.
                assert error <= 1e-5 * torch.linalg.vector_norm(value), (path.stem, name)


def test_more_processes_than_heads_are_told_of_the_ring():
    model = ModelConfig(embed_dim=24, heads=3)
    with pytest.raises(ConfigError, match=r"sequence is 8, .* 1 × 3.*--parallel.ring 4"):
        RunConfig(model=model, parallel=ParallelConfig(sequence=8))
    with pytest.raises(ConfigError, match=r"sequence is 5, .* 1 × 3.*--parallel.ring 5"):
        RunConfig(model=model, parallel=ParallelConfig(sequence=5))
    RunConfig(model=model, parallel=ParallelConfig(sequence=8, ring=4))
    with pytest.raises(ConfigError, match=r"parallel.ring is 3, expected a divisor of .* = 8"):
        ParallelConfig(sequence=8, ring=3)


@pytest.fixture
def saved(tmp_path):
    """A run folder that eight processes with samples of their own have left, and its config."""
    config = RunConfig(batch=3)
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    origin = {"data_fingerprint": {}, "data_ranks": 8}
    (tmp_path / "provenance.json").write_text(json.dumps(origin))
    return tmp_path, config


def test_other_processes_go_on_with_the_same_windows_by_another_batch(saved, caplog):
    run, config = saved
    model = tiny_model(system())
    with caplog.at_level(logging.WARNING, "matey"):
        assert changes(run, replace(config, batch=12), {}, model, {}, 2) == {"batch": [3, 12]}
        assert changes(run, config, {}, model, {}, 8) == {}
        assert caplog.text == ""
        assert changes(run, config, {}, model, {}, 2) == {}
        assert "had 8 processes with samples of their own, and has 2" in caplog.text
        assert "For the same as before: --batch 12." in caplog.text
        assert changes(run, config, {}, model, {}, 5) == {}
        assert "For the same as before: 8 such processes." in caplog.text
    for batch, ranks in ((12, 1), (4, 2), (12, 8)):
        with pytest.raises(ConfigError, match=rf"batch was 3 and is {batch}"):
            changes(run, replace(config, batch=batch), {}, model, {}, ranks)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("eight", "two"),
    [
        (ParallelConfig(timeout=120), ParallelConfig("fsdp", timeout=120)),
        (ParallelConfig(sequence=8, ring=4, timeout=120), ParallelConfig(sequence=2, timeout=120)),
    ],
    ids=["samples", "tokens"],
)
def test_a_run_saved_by_eight_goes_on_with_two_as_one_process_would_have(
    data, tmp_path, eight, two
):
    """The same windows in the same order, and the same losses and weights."""
    config = short_config(data, batch=8, steps=4, checkpoint_every=2, validate_every=0)
    run = tmp_path / "run"
    for size, parallel, steps in ((8, eight, 2), (2, two, 4)):
        batch = 8 * parallel.sequence // size
        part = replace(config, batch=batch, parallel=parallel, steps=steps)
        told = words(part, run, "--resume", "auto")
        for ended in Pair(tmp_path / f"{size}", command, *told, size=size).finish(300, size):
            assert ended.code == 0, ended.said
            assert "drawn anew" not in ended.said
    train(config, tmp_path / "one")
    for found, expected in zip(
        records(run, "train"), records(tmp_path / "one", "train"), strict=True
    ):
        assert found["windows"] == expected["windows"]
        # Rounding of float32 that steps of AdamW have made larger.
        for key in ("loss", "gradient_norm"):
            assert found[key] == pytest.approx(expected[key], rel=1e-5), key
    weights, alone = weights_of(run, 4), weights_of(tmp_path / "one", 4)
    error = sum(float((weights[name] - alone[name]).square().sum()) for name in alone)
    assert error <= 1e-5**2 * sum(float(weight.square().sum()) for weight in alone.values())
