"""Training on fields that are constant, zero, tiny, huge, or as small as a patch."""

import json

import h5py
import pytest

import matey
from matey.cli import main
from tests.files import write_shallow_water

MODEL = ["--model.embed_dim", "12", "--model.heads", "1", "--model.depth", "1"]
RUN = ["--steps", "2", "--batch", "2", "--optim.warmup", "1", "--device", "cpu"]


def scaled(path, factor, **sizes):
    """Shallow water whose heights are multiplied by a factor."""
    write_shallow_water(path, **sizes)
    with h5py.File(path, "a") as file:
        for group in file.values():
            group["data"][:] = group["data"][()] * factor
    return path


def losses(path, tmp_path, *words, patches="[8,4]"):
    """The losses of a short run on a file."""
    mix, run = tmp_path / f"{path.stem}.yaml", tmp_path / f"run_{path.stem}"
    mix.write_text(json.dumps({"systems": [{"name": "water", "paths": [path.name]}]}))
    command = ["train", "--data", str(mix), "--run", str(run), *MODEL, *RUN]
    assert main([*command, "--model.patches", patches, *words]) == 0
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["kind"] == "train"], run


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_constant_field_trains_with_a_finite_loss_and_is_refined_nowhere(tmp_path, value):
    """At 0 the target is zero too: the loss stays bounded. With nothing to compare with, an error
    of 1 on normalised fields costs 1 / epsilon = 1000, and a new model is nearer than that."""
    path = scaled(tmp_path / "2D_rdb_still.h5", 0.0)
    with h5py.File(path, "a") as file:
        for group in file.values():
            group["data"][:] = value
    found, run = losses(path, tmp_path, "--log_every", "1")
    assert len(found) == 2
    assert all(0 <= loss < 1e3 for loss in found)
    plan = matey.from_pretrained(run).plan(matey.open(path)[0])
    assert len(plan.leaves) == (16 // 8) ** 2


def test_amplitudes_of_1e_minus_12_and_1e12_are_normalised_alike(tmp_path):
    """By powers of two, which are exact: the losses agree to the bit."""
    found = [
        losses(scaled(tmp_path / f"2D_rdb_{exponent}.h5", 2.0**exponent), tmp_path)[0]
        for exponent in (-40, 0, 40)
    ]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("points", [8, 5, 13])
def test_a_grid_of_one_patch_a_smaller_and_an_undivided_one_train(tmp_path, points):
    path = scaled(tmp_path / f"2D_rdb_{points}.h5", 1.0, points=points)
    _, run = losses(path, tmp_path)
    plan = matey.from_pretrained(run).plan(matey.open(path)[0])
    assert plan.domain == (1, points, points)
    assert plan.labels.shape == (1, 1, points, points)


def test_a_history_of_one_frame_trains(tmp_path):
    path = scaled(tmp_path / "2D_rdb_short.h5", 1.0, frames=3)
    assert losses(path, tmp_path, "--windows.history", "1")[0]
