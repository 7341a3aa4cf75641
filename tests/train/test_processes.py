"""Whole runs in two processes, and what happens to one when the other fails."""

import json
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import matey
from matey.config import ModelConfig, OptimConfig, ParallelConfig
from matey.data.systems import open_systems
from matey.errors import ConfigError
from matey.train.finetune import finetune
from matey.train.loop import train
from matey.train.parallel.distributed import Team
from matey.train.run_folder import to_yaml
from matey.train.signals import Stop
from matey.train.validate import validate
from tests.train.pair import Pair, one_line
from tests.train.test_loop import config_for, records
from tests.train.works import command, faulty

MODEL = ModelConfig(embed_dim=24, heads=2, depth=2, patches=(8, 4), layer_scale=0.5)
PARALLEL = {
    "ddp": ParallelConfig(timeout=20),
    "fsdp": ParallelConfig("fsdp", timeout=20),
    "sequence": ParallelConfig(sequence=2, timeout=20),
}


def short_config(data, **changes):
    """No drop path, which differs between processes; the learning rate is always the same."""
    settings = {"model": MODEL, "optim": OptimConfig(lr=1e-3, warmup=0, final_lr=1.0)}
    return config_for(data, **{**settings, "validate_windows": 5, **changes})


def words(config, run, *more) -> list[str]:
    """The command that trains a config into a run folder."""
    run.parent.mkdir(exist_ok=True)
    path = run.with_suffix(".yaml")
    path.write_text(to_yaml(config))
    return ["train", "--config", str(path), "--run", str(run), *more]


def weights_of(run, step):
    return load_file(run / f"checkpoints/step-{step:08d}/model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "sequence"])
def test_a_run_in_two_processes_equals_the_run_in_one(data, tmp_path, strategy):
    """Also where batches of validation do not divide evenly: no process waits in vain."""
    batch = 4 if strategy == "sequence" else 2
    config = short_config(data, batch=batch, parallel=PARALLEL[strategy], steps=3)
    two = tmp_path / "two"
    first, second = Pair(tmp_path / "logs", command, *words(config, two)).finish()
    assert (first.code, second.code) == (0, 0), first.said + second.said
    assert "Model in" in first.said
    assert second.said == ""
    one = tmp_path / "one"
    train(replace(config, batch=4, parallel=ParallelConfig()), one)
    for kind in ("train", "valid"):
        for found, expected in zip(records(two, kind), records(one, kind), strict=True):
            assert found.keys() == expected.keys()
            for key in ("loss", "losses", "nrmse", "persistence", "gradient_norm"):
                # Rounding of float32 that three steps of AdamW have made larger.
                if key in expected and (kind, key) != ("valid", "loss"):
                    assert found[key] == pytest.approx(expected[key], rel=1e-4), (kind, key)
            for key in ("windows", "tokens"):
                assert found.get(key) == expected.get(key)
    assert records(two, "start")[0]["processes"] == 2
    field = matey.open(data.systems[0].paths[0])[0]
    predicted = [matey.from_pretrained(run).rollout(field, 1).values for run in (two, one)]
    torch.testing.assert_close(*predicted, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_resume_on_one_process_from_two_has_exact_weights_and_on_two_equals_to_the_bit(
    data, tmp_path, strategy
):
    model = replace(MODEL, drop_path=0.2)
    config = short_config(data, model=model, parallel=PARALLEL[strategy], steps=3)
    longer = replace(config, steps=5)
    Pair(tmp_path / "1", command, *words(longer, tmp_path / "whole")).finish()
    Pair(tmp_path / "2", command, *words(config, tmp_path / "broken")).finish()
    saved = weights_of(tmp_path / "broken", 3)
    alone = train(config, tmp_path / "broken", resume=True)
    assert all(torch.equal(saved[name], value) for name, value in alone.state_dict().items())
    resumed = words(longer, tmp_path / "broken", "--resume", "auto")
    for ended in Pair(tmp_path / "3", command, *resumed).finish():
        assert ended.code == 0, ended.said
    for file in ("model.safetensors", "optimizer.safetensors"):
        last = f"checkpoints/step-00000005/{file}"
        found = [load_file(tmp_path / run / last) for run in ("whole", "broken")]
        assert found[0].keys() == found[1].keys()
        for name, value in found[0].items():
            assert torch.equal(value, found[1][name]), name


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_averages_in_two_processes_are_scored_and_saved_and_disturb_no_step(
    data, tmp_path, strategy
):
    """Validations with averages for weights come between the steps of one run, not of the other.

    The rate is so high that some of them are worse than the one before: no model is saved then.
    """
    optim = OptimConfig(lr=0.1, warmup=0, final_lr=1.0, ema=0.9)
    config = short_config(data, parallel=PARALLEL[strategy], steps=4, optim=optim)
    for name, every in (("often", 1), ("seldom", 0)):
        run = words(replace(config, validate_every=every), tmp_path / name)
        for ended in Pair(tmp_path / f"logs-{name}", command, *run).finish():
            assert ended.code == 0, ended.said
    scores = [record["nrmse"] for record in records(tmp_path / "often", "valid")]
    means = [sum(errors.values()) for errors in scores]
    assert any(mean > min(means[:i]) for i, mean in enumerate(means[:-1]) if i > 0)
    last = "checkpoints/step-00000004"
    for name in ("model.safetensors", "optimizer.safetensors", "average.safetensors"):
        often, seldom = ((tmp_path / run / last / name).read_bytes() for run in ("often", "seldom"))
        assert often == seldom, name
    averages = load_file(tmp_path / "often" / last / "average.safetensors")
    shipped = load_file(tmp_path / "often/model/model.safetensors")
    assert averages.keys() == shipped.keys()
    assert all(torch.equal(shipped[name], average) for name, average in averages.items())
    alone = Team(ParallelConfig(), torch.device("cpu"))
    model = matey.from_pretrained(tmp_path / "often")
    again = validate(model, open_systems(config.data), config, Stop(), alone)
    # Rounding: two processes add the rows of a batch up in another order.
    assert scores[-1] == pytest.approx(again["nrmse"], rel=1e-5)


@pytest.fixture
def fail(data, tmp_path):
    """Starts a run of which the second process fails in a given way in its third batch."""

    def start(fault: str, timeout: float = 20) -> Pair:
        config = short_config(data, checkpoint_every=1, parallel=ParallelConfig(timeout=timeout))
        return Pair(tmp_path / "logs", faulty, fault, *words(config, tmp_path / "run"))

    yield start
    checkpoints = sorted((tmp_path / "run/checkpoints").glob("step-*"))
    assert [folder.name for folder in checkpoints] == ["step-00000001"]
    assert all(bool(w.isfinite().all()) for w in weights_of(tmp_path / "run", 1).values())


@pytest.mark.slow
def test_sigkill_of_one_process_in_a_step_ends_the_other_which_says_so(fail):
    first, second = fail("killed").finish(seconds=40)
    assert second.code == -signal.SIGKILL
    assert first.code == 2
    assert "Process 1 of 2 does not answer" in one_line(first.said)


@pytest.mark.slow
def test_sigstop_of_one_process_is_a_timeout_and_no_hang(fail):
    pair = fail("stopped", timeout=5)
    pair.wait_for(1, "stopping")
    first, _ = pair.finish(seconds=40, awaited=1)
    assert first.code == 2
    assert "Process 1 of 2 does not answer" in one_line(first.said)
    assert "warning: Process 1 has not been heard of for" in first.said


@pytest.mark.slow
def test_processes_that_do_not_meet_in_time_are_told_where_each_is(fail):
    first, _ = fail("late", timeout=5).finish(seconds=40, awaited=1)
    assert first.code == 2
    assert "did not meet within parallel.timeout = 5 s" in one_line(first.said)
    assert "process 1 at train/loop.py" in one_line(first.said)


@pytest.mark.slow
def test_an_exception_in_one_process_stops_all_and_the_original_traceback_is_shown(fail):
    first, second = fail("raised").finish(seconds=40)
    assert second.code == 1
    assert "Traceback" in second.said
    assert "ZeroDivisionError: in one process only" in second.said
    assert first.code == 2
    expected = "Process 1 of 2 failed: ZeroDivisionError: in one process only"
    assert expected in one_line(first.said)


@pytest.mark.slow
def test_nan_in_one_process_is_the_same_decision_in_both_and_names_the_batch(fail):
    both = fail("nan").finish(seconds=40)
    lines = [one_line(ended.said).partition(": The ") for ended in both]
    assert [ended.code for ended in both] == [2, 2]
    assert lines[0][2] == lines[1][2]
    assert lines[0][2].startswith("loss is nan at step 2, system ")
    assert "from 2D_" in lines[0][2]
    assert [line[0] for line in lines] == [f"matey: error (process {rank})" for rank in (0, 1)]


@pytest.mark.slow
def test_a_signal_to_one_process_ends_both_after_the_same_step_with_all_saved(data, tmp_path):
    config = short_config(data, parallel=PARALLEL["fsdp"])
    both = Pair(tmp_path / "logs", faulty, "signalled", *words(config, tmp_path / "run")).finish()
    assert [ended.code for ended in both] == [128 + signal.SIGTERM] * 2, both
    assert all("SIGTERM: stopped after step 2 of 6" in ended.said for ended in both)
    assert weights_of(tmp_path / "run", 2)


def test_a_port_in_use_is_a_clear_error(data, tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ranks = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        with pytest.MonkeyPatch.context() as patch:
            for key, value in ranks.items():
                patch.setenv(key, value)
            with pytest.raises(
                ConfigError, match=rf"Port 127.0.0.1:{port} is in use.*--standalone"
            ):
                train(short_config(data), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_shared_sequences_need_processes_and_heads(data):
    with pytest.raises(ConfigError, match=r"parallel.sequence is 2, which does not divide the 1"):
        Team(ParallelConfig(sequence=2), torch.device("cpu"))
    with pytest.raises(
        ConfigError, match=r"parallel.sequence is 3, expected at most .* = 1 × 2\. .*ring 3"
    ):
        short_config(data, parallel=ParallelConfig(sequence=3))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "sequence"])
def test_adapters_train_in_two_processes_as_in_one_and_the_best_model_is_kept(
    data, tmp_path, strategy
):
    base = tmp_path / "base"
    train(short_config(data, steps=2), base)
    batch = 4 if strategy == "sequence" else 2
    settings = {"mode": "lora", "rank": 2, "steps": 3, "patience": 2, "validate_every": 1}
    config = short_config(data, batch=batch, parallel=PARALLEL[strategy], **settings)
    two = tmp_path / "two"
    _, *rest = words(config, two)
    for ended in Pair(tmp_path / "logs", command, "finetune", str(base), *rest).finish():
        assert ended.code == 0, ended.said
    finetune(base, replace(config, batch=4, parallel=ParallelConfig()), tmp_path / "one")
    scores = records(two, "valid"), records(tmp_path / "one", "valid")
    for found, expected in zip(*scores, strict=True):
        # Rounding of float32 that three steps of AdamW have made larger.
        assert found["nrmse"] == pytest.approx(expected["nrmse"], rel=1e-4)
    kept, best = ((two / name / "adapter.safetensors").read_bytes() for name in ("model", "best"))
    assert kept == best
    field = matey.open(data.systems[0].paths[0])[0]
    runs = two, tmp_path / "one"
    predicted = [matey.from_pretrained(run).rollout(field, 1).values for run in runs]
    torch.testing.assert_close(*predicted, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_torchrun_trains_and_finetunes_from_the_command_line(data, tmp_path):
    config = short_config(data, parallel=PARALLEL["ddp"], steps=2, workers=1)
    run = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    tune = [
        *("finetune", str(run), "--config", str(run.with_suffix(".yaml"))),
        *("--run", str(tmp_path / "tuned"), "--parallel.strategy", "fsdp"),
    ]
    for command_words in (words(config, run), tune):
        ended = subprocess.run(
            [*torchrun, "--nproc-per-node", "2", "-m", "matey", "--", *command_words],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.count("Model in") == 1
        assert ended.stderr.count("step 2/2") == 1
    assert json.loads((tmp_path / "tuned/provenance.json").read_text())["parent"] == "run"
    assert matey.from_pretrained(tmp_path / "tuned").specs.keys() == {
        "shallow_water",
        "compressible",
    }
