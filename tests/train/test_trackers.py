"""Weights & Biases and MLflow get the numbers of metrics.jsonl, and send nothing unasked.

Where they are not installed stand-ins of the same signatures are asked, and the real ones skipped.
"""

import inspect
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from matey.config import RunConfig
from matey.errors import ConfigError, StoppedError
from matey.train import loop
from matey.train.loop import train
from matey.train.run_folder import Journal, trackers
from matey.train.trackers.mlflow import address
from matey.train.trackers.records import scalars
from tests.files import write_shallow_water
from tests.train.tiny import tiny_run

MISSING = "is not installed: pip install 'matey-pde[{}]'"


@pytest.fixture
def config(tmp_path, monkeypatch) -> RunConfig:
    monkeypatch.setattr(loop, "memory_bound", lambda *arguments: 0)
    for name in ("WANDB_MODE", "WANDB_PROJECT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    water = write_shallow_water(tmp_path / "2D_rdb_NA_NA.h5")
    return tiny_run(
        {"shallow_water": water},
        model={"patches": (8,)},
        windows={},
        optim={"warmup": 1},
        steps=3,
        checkpoint_every=2,
        validate_every=2,
    )


def logged(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What metrics.jsonl has, by name: step and number."""
    rows: dict[str, list[tuple[int, float]]] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        for name, value in scalars(record).items():
            rows.setdefault(name, []).append((record["step"], value))
    return rows


class FakeWandB(ModuleType):
    """Weights & Biases, as far as it is used: keeps what it is told."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.begun: list[dict] = []
        self.rows: list[tuple[int, dict]] = []
        self.finished = 0

    def Settings(self, console=None, silent=None):
        return SimpleNamespace(console=console, silent=silent)

    def init(self, *, dir, mode, project, group, name, config, reinit, settings):
        about = {"dir": dir, "mode": mode, "project": project, "name": name, "config": config}
        self.begun.append(about)
        return SimpleNamespace(log=self.log, finish=self.finish)

    def log(self, data, step=None):
        self.rows.append((step, data))

    def finish(self):
        self.finished += 1


class FakeMLflow(ModuleType):
    """MLflow, as far as it is used: keeps what it is told."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.uris: list[str] = []
        self.names: list[str] = []
        self.metrics: list[SimpleNamespace] = []
        self.parameters: dict[str, str] = {}
        self.ends: list[str] = []
        self.experiments: dict[str, str] = {}
        self.entities = SimpleNamespace(
            Metric=lambda key, value, timestamp, step: SimpleNamespace(
                key=key, value=value, timestamp=timestamp, step=step
            ),
            Param=lambda key, value: (key, value),
        )

    def MlflowClient(self, tracking_uri=None):
        self.uris.append(tracking_uri)
        return self

    def get_experiment_by_name(self, name):
        there = self.experiments.get(name)
        return there and SimpleNamespace(experiment_id=there)

    def create_experiment(self, name):
        self.experiments[name] = "7"
        return "7"

    def create_run(self, experiment_id, run_name=None):
        assert experiment_id == "7"
        self.names.append(run_name)
        return SimpleNamespace(info=SimpleNamespace(run_id="r"))

    def log_batch(self, run_id, metrics=(), params=()):
        assert len(params) <= 100
        self.metrics += metrics
        self.parameters |= dict(params)

    def set_terminated(self, run_id, status=None):
        self.ends.append(status)


def test_weights_and_biases_gets_the_numbers_and_stays_offline(config, tmp_path, monkeypatch):
    fake, run = FakeWandB(), tmp_path / "a"
    monkeypatch.setitem(sys.modules, "wandb", fake)
    train(replace(config, wandb=True), run)
    rows: dict[str, list[tuple[int, float]]] = {}
    for step, data in fake.rows:
        for name, value in data.items():
            rows.setdefault(name, []).append((step, value))
    assert rows == logged(run)
    (begun,) = fake.begun
    assert (begun["dir"], begun["mode"], begun["project"]) == (str(run), "offline", "matey")
    assert begun["config"]["model"]["embed_dim"] == 12
    assert str(tmp_path) not in str({**begun, "dir": ""})  # no path of the data
    assert fake.finished == 1

    monkeypatch.setenv("WANDB_MODE", "online")  # the user's own word
    train(replace(config, wandb=True, steps=4), run, resume=True)
    assert fake.begun[1]["mode"] == "online"
    assert fake.begun[1]["name"] == "a from step 3"
    assert fake.rows[-1][0] == 4
    assert fake.finished == 2


def test_mlflow_gets_the_numbers_and_the_settings(config, tmp_path, monkeypatch):
    fake, run = FakeMLflow(), tmp_path / "a"
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    train(replace(config, mlflow=True), run)
    rows: dict[str, list[tuple[int, float]]] = {}
    for metric in fake.metrics:
        rows.setdefault(metric.key, []).append((metric.step, metric.value))
    assert rows == logged(run)
    assert fake.uris == [f"sqlite:///{run}/mlflow/mlflow.db"]
    assert fake.parameters["model/embed_dim"] == "12"
    assert not any("data" in name for name in fake.parameters)
    assert fake.ends == ["FINISHED"]

    def stop(record):
        if record["kind"] == "train":
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    with pytest.raises(StoppedError):
        train(replace(config, mlflow=True, steps=6), run, stop, resume=True)
    assert fake.uris[1] == "http://elsewhere:5000"
    assert fake.names == ["a", "a from step 3"]
    assert fake.ends[1] == "KILLED"


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_that_fails_is_left_out_with_a_warning(
    config, tmp_path, monkeypatch, caplog, name
):
    fake = {"wandb": FakeWandB, "mlflow": FakeMLflow}[name]()
    calls = []

    def fail(*arguments, **options):
        if "params" not in options:
            calls.append(arguments)
            raise RuntimeError("no route\nto host")

    monkeypatch.setattr(fake, {"wandb": "log", "mlflow": "log_batch"}[name], fail)
    monkeypatch.setitem(sys.modules, name, fake)
    train(replace(config, **{name: True}), tmp_path / "run")
    assert len(calls) == 1
    assert caplog.text.count("no route to host. metrics.jsonl has all of them") == 1
    assert (tmp_path / "run/model").is_dir()


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_that_cannot_begin_or_is_missing_is_an_error_of_one_line(
    config, tmp_path, monkeypatch, name
):
    fake = {"wandb": FakeWandB, "mlflow": FakeMLflow}[name]()

    def fail(*arguments, **options):
        raise RuntimeError("not\nlogged in")

    monkeypatch.setattr(fake, {"wandb": "init", "mlflow": "create_run"}[name], fail)
    monkeypatch.setitem(sys.modules, name, fake)
    with pytest.raises(ConfigError, match=rf"{name} is true, but .* not logged in\. Set "):
        train(replace(config, **{name: True}), tmp_path / "run")
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf"pip install 'matey-pde\[{name}\]'"):
        train(replace(config, **{name: True}), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_real_weights_and_biases_keeps_a_run_offline(config, tmp_path):
    wandb = pytest.importorskip("wandb", reason=f"wandb {MISSING.format('wandb')}")
    run = tmp_path / "a"
    for steps, goes_on in ((3, False), (4, True)):
        asked = replace(config, wandb=True, steps=steps)
        train(asked, run, resume=goes_on)
    files = sorted(run.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime)
    assert len(files) == 2
    history = [row for path in files for row in read_history(path)]
    expected = logged(run)["train/loss"]
    losses = [(row["_step"], row["train/loss"]) for row in history if "train/loss" in row]
    assert losses == [(step, pytest.approx(loss)) for step, loss in expected]
    taken = inspect.signature(wandb.init).parameters
    assert set(inspect.signature(FakeWandB.init).parameters) - {"self"} <= set(taken)


def read_history(path: Path) -> list[dict]:
    """The rows of a run's offline file: protocol buffers in the format of LevelDB's logs, blocks of
    32 KiB with pieces of 7 bytes of header: checksum, length, and whether a record begins or ends
    in it. The file has a header of 7 bytes, too."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, whole, rows = path.read_bytes(), 7, b"", []
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        if left < 7 or kind == 0:  # the rest of a block
            place += left
            continue
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(whole)
            whole, items = b"", record.history.item
            named = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
            if named:
                rows.append({"_step": record.history.step.num, **named})
    return rows


def test_the_real_mlflow_keeps_a_run_in_its_folder(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mlflow = pytest.importorskip("mlflow", reason=f"mlflow {MISSING.format('mlflow')}")
    run = tmp_path / "a"
    train(replace(config, mlflow=True), run)
    client = mlflow.MlflowClient(tracking_uri=address(run))
    (experiment,) = [e for e in client.search_experiments() if e.name == "matey"]
    (kept,) = client.search_runs([experiment.experiment_id])
    assert (kept.info.status, kept.info.run_name) == ("FINISHED", "a")
    assert kept.data.params["model/embed_dim"] == "12"
    found = [
        (metric.step, metric.value)
        for metric in client.get_metric_history(kept.info.run_id, "train/loss")
    ]
    assert found == logged(run)["train/loss"]
    assert "valid/nrmse/shallow_water" in kept.data.metrics
    assert not (tmp_path / "mlruns").exists()


def test_only_the_process_that_writes_hands_records_on(config, tmp_path):
    assert trackers(tmp_path, config, 0) == []
    heard: list[dict] = []
    Journal(tmp_path, [heard.append], writes=False).write("end", step=1)
    assert heard == []
    assert not (tmp_path / "metrics.jsonl").exists()
