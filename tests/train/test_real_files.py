"""Training on every real file, as its user would: inspect all of them, then train on the draft."""

import json
from dataclasses import replace
from math import isfinite

import pytest

from matey.cli import main
from matey.data.draft_config import config_text
from matey.data.inspect import inspect

MODEL = ["--model.embed_dim", "12", "--model.heads", "1", "--model.depth", "1"]
MODEL += ["--model.patches", "[16]", "--model.mode", "uniform", "--windows.history", "2"]
RUN = ["--steps", "10", "--batch", "2", "--log_every", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def inspected(shared):
    """What is in all files, whose every value is read once."""
    return inspect([shared])


@pytest.mark.slow
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_all_real_files_of_one_dimension_train_in_one_mixture(inspected, shared, tmp_path, ndim):
    """Ten steps with finite losses, in which every system has its turn."""
    assert not inspected.refused
    systems = tuple(system for system in inspected.systems if system.spec.ndim == ndim)
    mix, run = tmp_path / "mix.yaml", tmp_path / "run"
    mix.write_text(config_text(replace(inspected, systems=systems), tmp_path))
    assert main(["train", "--data", str(mix), "--run", str(run), *MODEL, *RUN]) == 0
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    steps = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in steps] == list(range(1, 11))
    assert all(isfinite(line["loss"]) for line in steps)
    assert {name for line in steps for name in line["losses"]} == {s.name for s in systems}
