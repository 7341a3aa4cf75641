"""What a run tells while it goes on: metrics.jsonl, the console, TensorBoard, the report."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from matey.cli import main
from matey.cli.console import watch_training
from matey.config import ModelConfig, RunConfig, WindowConfig
from matey.cost.count import step_cost
from matey.cost.machine import measure_peak
from matey.errors import ConfigError
from matey.nn.transformer import Matey
from matey.report import build
from matey.train.loop import train
from matey.train.run_folder import Journal
from matey.train.trackers.records import numbers
from tests.files import write_shallow_water
from tests.nn.helpers import rough_inputs, system
from tests.train.tiny import tiny_run


@pytest.fixture
def config(tmp_path) -> RunConfig:
    water = write_shallow_water(tmp_path / "2D_rdb_NA_NA.h5")
    return tiny_run(
        {"shallow_water": water},
        model={"embed_dim": 24, "heads": 2},
        windows={},
        optim={"warmup": 1},
        steps=4,
        validate_every=2,
        checkpoint_every=2,
    )


def records(run: Path, kind: str) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def test_every_logged_step_tells_rates_that_agree_and_the_time_left(config, tmp_path):
    train(config, tmp_path / "run")
    (start,) = records(tmp_path / "run", "start")
    steps = records(tmp_path / "run", "train")
    assert len(steps) == 4
    for record in steps:
        seconds = record["windows"] / record["windows_per_second"]
        assert 0 < seconds <= record["seconds"]
        assert record["tokens_per_second"] == pytest.approx(record["tokens"] / seconds)
        assert record["of_peak"] == pytest.approx(record["flop_per_second"] / start["peak"])
    left = [record["seconds_left"] for record in steps]
    assert left[0] > 0
    assert left[-1] == 0


def test_pushed_frames_count_as_further_forward_passes(config, tmp_path):
    """Two pushes more are two forward passes more, and a step is less than three of them."""
    pushed = replace(config, windows=WindowConfig(history=2, pushforward=2), steps=12)
    train(replace(config, steps=12), tmp_path / "plain")
    train(pushed, tmp_path / "pushed")
    plain, more = (
        sum(
            record["flop_per_second"] * record["windows"] / record["windows_per_second"]
            for record in records(tmp_path / name, "train")
        )
        for name in ("plain", "pushed")
    )
    assert 1.05 * plain < more < 1.7 * plain


@pytest.mark.parametrize("mode", ["uniform", "adap_mix", "adap_mul"])
def test_operations_are_the_same_from_the_segments_of_a_prediction(mode):
    patches = (8,) if mode == "uniform" else (8, 4)
    schemes = ("vit", "svit", "avit")
    config = ModelConfig(24, 2, depth=3, scheme=schemes, mode=mode, patches=patches)
    spec = system(2)
    model, inputs = Matey(config, [spec], 2), rough_inputs(spec, points=32, samples=2, times=2)
    prediction = model(inputs)
    assert model.cost(inputs, prediction) == step_cost(model, spec, prediction.plan)


def test_the_peak_is_measured_once(monkeypatch):
    device = torch.device("cpu")
    peak = measure_peak(device)
    monkeypatch.setattr(torch, "mm", None)
    assert measure_peak(device) == peak > 1e8


@pytest.mark.parametrize("rest", ["", '{"kind": "tra', '{"kind": "train", "step": 3}'])
def test_a_line_that_a_killed_process_left_half_written_does_not_spoil_the_next(tmp_path, rest):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"kind": "start", "step": 0}\n' + rest)
    Journal(tmp_path, [print]).write("start", step=2)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 2]


def test_a_report_is_made_of_a_run_that_goes_on(config, tmp_path):
    """From within the run: no model yet, and a last line that is being written."""
    run, pages = tmp_path / "run", {}

    def watch(record):
        log = run / "metrics.jsonl"
        whole = log.read_bytes()
        log.write_bytes(whole + b'{"kind": "train", "step": 9, "lo')
        assert not (run / "model").exists() or record["kind"] == "end"
        build([run], tmp_path / "page.html")
        pages[record["kind"]] = (tmp_path / "page.html").read_text()
        log.write_bytes(whole)

    train(config, run, watch)
    assert "had not finished" not in pages.pop("end")
    assert all("had not finished" in page for page in pages.values())
    assert "were left" in pages["train"]
    assert "Windows per second" in pages["train"]


def test_the_console_shows_the_rate_and_the_time_left(config, tmp_path, capsys):
    with watch_training("train") as watch:
        train(config, tmp_path / "run", watch)
    lines = [line for line in capsys.readouterr().err.splitlines() if "loss" in line]
    assert lines[0].startswith("train: step 1/4  loss ")
    for text in (" windows/s  ", "% of peak  ", " s left"):
        assert all(text in line for line in lines)


def test_the_end_tells_where_persistence_is_better(capsys):
    worse = {"windows": 1, "of": 30, "times": 57.21, "at": "a.h5#0007 from frame 0"}
    with watch_training("finetune") as watch:
        watch({"kind": "start", "step": 0, "steps": 8})
        watch({"kind": "end", "step": 8, "best": 8, "worse": {"water": worse}})
    assert capsys.readouterr().err == (
        "finetune: 1 of 30 validation windows of water is worse than persistence, by up to 57.2 "
        "times (a.h5#0007 from frame 0): lower optim.lr, or train for longer\n"
    )


def test_nested_numbers_are_named_by_their_path():
    record = {"kind": "valid", "step": 2, "nrmse": {"water": 0.5, "gas": None}, "flag": True}
    assert list(numbers(record)) == [("step", 2), ("nrmse/water", 0.5)]


def test_tensorboard_shows_the_numbers_of_metrics_jsonl(config, tmp_path):
    reason = "TensorBoard is not installed: pip install 'matey-pde[tensorboard]'"
    events = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason=reason
    )
    run = tmp_path / "run"
    train(replace(config, tensorboard=True), run)
    train(replace(config, tensorboard=True, steps=6), run, resume=True)
    found = events.EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    losses = [(event.step, event.value) for event in found.Scalars("train/loss")]
    expected = [(record["step"], record["loss"]) for record in records(run, "train")]
    assert losses == [(step, pytest.approx(loss)) for step, loss in expected]  # kept in float32
    assert "valid/nrmse/shallow_water" in found.Tags()["scalars"]


def test_tensorboard_that_is_asked_for_and_missing_is_an_error_before_the_run(
    config, tmp_path, monkeypatch
):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"pip install 'matey-pde\[tensorboard\]'"):
        train(replace(config, tensorboard=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(replace(config, steps=1), tmp_path / "run")  # nothing else needs it


def test_a_report_of_a_run_without_a_log_yet_is_made(config, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("steps: 4\n")
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "page.html")]) == 0
