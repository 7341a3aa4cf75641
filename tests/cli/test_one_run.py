"""One long run, from the file to the page: split in time; scores on training data are marked."""

import json
from pathlib import Path

import numpy as np
import xarray
import yaml

from matey.cli import main

TINY = "--model.embed_dim 24 --model.heads 2 --model.depth 1 --model.patches [8] --steps 2"
SMALL = [*TINY.split(), "--batch", "2", "--windows.history", "2", "--device", "cpu"]


def write_run(path, frames=200):
    """A wave that travels, in one file."""
    x, t = (np.arange(16) + 0.5) / 16, 0.1 * np.arange(frames)
    wave = np.sin(2 * np.pi * (x - 0.3 * t[:, None, None])) * np.cos(2 * np.pi * x[:, None])
    arrays = {"tracer": (("time", "y", "x"), wave.astype("f4"))}
    xarray.Dataset(arrays, {"time": t, "y": x, "x": x}).to_netcdf(path)


def test_one_long_run_is_drafted_trained_and_scored_in_time(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_run("run.nc")
    assert main(["data", "inspect", "run.nc", "--write", "w.yaml"]) == 0
    drafted = yaml.safe_load(Path("w.yaml").read_text())
    assert drafted["split"] == {"by": "time", "valid": 0.1, "test": 0.1, "gap": 0}
    gap = ["--data", "w.yaml", "--data.split.gap", "4"]
    assert main(["train", *gap, "--run", "runs/a", *SMALL]) == 0
    split = json.loads(Path("runs/a/provenance.json").read_text())["split"]
    (system,) = split.values()
    assert system == {
        "train": ["run.nc#0000[0:152]"],
        "valid": ["run.nc#0000[156:176]"],
        "test": ["run.nc#0000[180:200]"],
    }
    capsys.readouterr()
    assert main(["evaluate", "runs/a", *gap, "--rollout", "3", "--out", "fair"]) == 0
    assert "trained on" not in "".join(capsys.readouterr())
    (score,) = json.loads(Path("fair/scores.json").read_text())["systems"]
    assert score["trained_on"] == 0
    assert score["windows"] == 20 - 2 - 3 + 1

    whole = ["--data", "w.yaml", "--data.split.by", "trajectory", "--data.split.valid", "0"]
    ask = ["evaluate", "runs/a", *whole, "--data.split.test", "1", "--rollout", "3"]
    assert main([*ask, "--out", "unfair"]) == 0
    heard = capsys.readouterr()
    assert "was trained on 1 of the 1 trajectories" in heard.err
    assert "some of which it was trained on" in " ".join(heard.out.split())
    (score,) = json.loads(Path("unfair/scores.json").read_text())["systems"]
    assert score["trained_on"] == 1
    assert main(["report", "runs/a", "unfair", "--out", "page.html"]) == 0
    page = Path("page.html").read_text()
    assert "scored on training data" in page
    assert "the model was trained on 1 of them: this is no test" in page
    assert "held out for the test" not in page
    assert main(["report", "runs/a", "fair", "--out", "page.html"]) == 0
    assert "held out for the test" in Path("page.html").read_text()


def test_no_message_recommends_to_score_what_was_trained_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_run("run.nc", 40)
    source = {"systems": [{"name": "run", "paths": ["run.nc"]}]}
    with open("w.yaml", "w") as file:
        yaml.safe_dump(source, file)
    train = ["train", "--data", "w.yaml", "--run", "runs/a", *SMALL]
    assert main(train) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "split: {by: time}" in line
    everything = ["--data.split.valid", "0", "--data.split.test", "0"]
    assert main([*train, *everything]) == 0
    capsys.readouterr()
    assert main(["evaluate", "runs/a", "--data", "w.yaml"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "split: {by: time}" in line
    assert "--data.split.test" not in line
    write_run("unseen.nc", 41)
    source["systems"][0]["paths"] = ["unseen.nc"]
    with open("u.yaml", "w") as file:
        yaml.safe_dump(source, file)
    assert main(["evaluate", "runs/a", "--data", "u.yaml"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "--data.split.test 1 --data.split.valid 0" in line
    ask = ["evaluate", "runs/a", "--data", "u.yaml", "--rollout", "2", "--out", "results"]
    assert main([*ask, "--data.split.test", "1", "--data.split.valid", "0"]) == 0
    (score,) = json.loads(Path("results/scores.json").read_text())["systems"]
    assert score["trained_on"] == 0
