"""How many threads a run has: measured without a trace, and kept when it goes on."""

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from matey.cli import running_elsewhere
from matey.config import ParallelConfig
from matey.errors import ConfigError
from matey.train import checkpoint, threads
from matey.train.checkpoint import Progress, State
from matey.train.loop import train
from matey.train.parallel.distributed import Team
from matey.train.threads import choose_threads, cpu_limit, fastest, numbers_to_try, usable_cores
from tests.train.test_loop import config_for, records

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """A machine of four cores and torch with four threads, whoever runs the tests."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "usable_cores", lambda: 4)
    with threads.threads_put_back():
        torch.set_num_threads(4)
        yield


@pytest.fixture
def clock(monkeypatch):
    """Steps take as long as `seconds` says of their number of threads; nothing really waits."""
    seconds = {1: 0.4, 2: 0.2, 3: 0.25, 4: 0.3}
    now = [0.0]
    monkeypatch.setattr(threads.time, "perf_counter", lambda: now[0])

    def step():
        now[0] += seconds[torch.get_num_threads()]

    return seconds, step


def choose(config, step=lambda: None, steps=1000, before=None):
    return choose_threads(config, Team(ParallelConfig(), CPU), step, steps, before)


def test_the_number_with_which_a_step_is_done_soonest_is_kept(clock, data):
    choice = choose(config_for(data), clock[1])
    assert (choice.number, choice.reason) == (2, "measured")
    assert choice.step_seconds == pytest.approx(clock[0])
    assert torch.get_num_threads() == 2


def test_one_disturbed_step_of_each_number_changes_nothing(clock):
    seconds, step = clock
    calls = dict.fromkeys(seconds, 0)

    def disturbed():
        number = torch.get_num_threads()
        calls[number] += 1
        for _ in range(10 if calls[number] == 3 else 1):
            step()

    assert fastest(disturbed, [1, 2, 3, 4]).number == 2


def test_more_threads_that_gain_nothing_are_left_alone(clock):
    seconds, step = clock
    seconds.update(dict.fromkeys(seconds, 0.2))
    assert fastest(step, [1, 2, 3, 4]).number == 1


def test_fewer_threads_are_not_tried_once_they_are_far_slower(clock):
    seconds, step = clock
    seconds.update({4: 0.1, 3: 0.16, 2: 0.2, 1: 100})
    assert set(fastest(step, [1, 2, 3, 4]).step_seconds) == {3, 4}


def test_a_short_run_is_not_measured_but_goes_by_the_load(data, monkeypatch):
    def step():
        raise AssertionError("measured")

    monkeypatch.setattr(threads.os, "cpu_count", lambda: 4)
    for load, number in ((0.0, 4), (2.1, 2), (9.0, 1)):
        monkeypatch.setattr(threads.os, "getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert choose(config_for(data), step, steps=100).number == number


def test_what_a_user_says_is_taken(clock, data, monkeypatch):
    assert choose(replace(config_for(data), threads=3), clock[1]).number == 3
    torch.set_num_threads(1)  # what a script set is the most
    assert choose(config_for(data), clock[1]).number == 1
    torch.set_num_threads(4)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert choose(config_for(data), clock[1]).number == 4
    with pytest.raises(ConfigError, match="threads is 0, expected 1 or more"):
        replace(config_for(data), threads=0)


def test_several_processes_share_the_cores(clock, data):
    team = Team(ParallelConfig(), CPU)
    team.size, team.neighbours = 2, 2
    assert choose_threads(config_for(data), team, clock[1], 1000, None).number == 2


def test_measuring_leaves_no_trace_in_a_run(data, tmp_path, monkeypatch):
    """Losses, weights and random numbers are those of the number given from the start."""
    torch.set_num_threads(2)
    config = config_for(data, steps=4)
    monkeypatch.setattr(threads, "SHARE", 1e9)
    monkeypatch.setattr(threads, "EVEN", 0.0)  # none is that much faster than one thread
    monkeypatch.setattr(threads, "FAR", float("inf"))
    train(config, tmp_path / "measured")
    train(replace(config, threads=1), tmp_path / "given")
    (record,) = records(tmp_path / "measured", "threads")
    assert (record["number"], record["reason"]) == (1, "measured")
    assert set(record["step_seconds"]) == {"1", "2"}
    assert torch.get_num_threads() == 2
    losses = [[r["loss"] for r in records(tmp_path / n, "train")] for n in ("measured", "given")]
    assert losses[0] == losses[1]
    for name in ("model.safetensors", "optimizer.safetensors", "random.safetensors"):
        files = [tmp_path / n / "checkpoints/step-00000004" / name for n in ("measured", "given")]
        assert files[0].read_bytes() == files[1].read_bytes(), name


def test_a_run_that_goes_on_keeps_its_number_and_its_bits(data, tmp_path, monkeypatch):
    torch.set_num_threads(2)
    monkeypatch.setattr(threads, "free_threads", lambda most: 2)
    config = config_for(data)
    train(config, tmp_path / "whole")

    class StopError(Exception):
        pass

    def stop(record):
        if record["kind"] == "train" and record["step"] == 4:
            raise StopError

    with pytest.raises(StopError):
        train(config, tmp_path / "broken", stop)
    monkeypatch.setattr(threads, "free_threads", lambda most: 1)  # busy by now
    train(config, tmp_path / "broken", resume=True)
    first, second = records(tmp_path / "broken", "threads")
    assert (first["number"], second["number"]) == (2, 2)
    assert second["reason"] == "as the run began"
    for name in ("model.safetensors", "optimizer.safetensors", "state.json"):
        folders = [tmp_path / run / "checkpoints/step-00000006" for run in ("whole", "broken")]
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name
    train(replace(config, steps=7, threads=1), tmp_path / "broken", resume=True)
    assert records(tmp_path / "broken", "threads")[-1]["number"] == 1


def test_a_checkpoint_of_an_older_version_says_nothing_of_threads(tmp_path):
    folder = checkpoint.save(tmp_path, State(Progress(3, threads=2), {}, {}, []), keep=1)
    assert checkpoint.read(folder).progress.threads == 2
    state = json.dumps({"format": 1, "step": 3, "best": None, "pending": False})
    (folder / checkpoint.STATE).write_text(state)
    complete = json.loads((folder / checkpoint.COMPLETE).read_text())
    checksum = hashlib.sha256(state.encode()).hexdigest()
    complete["files"][checkpoint.STATE] = {"bytes": len(state), "sha256": checksum}
    (folder / checkpoint.COMPLETE).write_text(json.dumps(complete))
    assert checkpoint.read(folder).progress == Progress(3)


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, float("inf")),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, float("inf")),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        (
            {
                "proc/self/cgroup": "0::/job/step\n",
                "sys/fs/cgroup/job/cpu.max": "50000 100000\n",
                "sys/fs/cgroup/job/step/cpu.max": "max 100000\n",
            },
            0.5,
        ),
        (
            {
                "proc/self/cgroup": "3:memory:/a\n2:cpu,cpuacct:/a\n",
                "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        (
            {
                "proc/self/cgroup": "2:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            float("inf"),
        ),
    ],
)
def test_a_limit_of_cpu_time_is_read_from_the_control_group(tmp_path, files, limit):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert cpu_limit(tmp_path) == limit
    assert 1 <= usable_cores(tmp_path) <= max(1, limit + 0.5)


def test_all_numbers_are_tried_on_few_cores_and_powers_of_two_on_many():
    assert numbers_to_try(1) == [1]
    assert numbers_to_try(4) == [1, 2, 3, 4]
    assert numbers_to_try(24) == [1, 2, 3, 4, 8, 16, 24]


WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.mark.parametrize(
    ("given", "running", "expected"),
    [
        ({}, 0, {"GOMP_SPINCOUNT": "10000"}),
        ({}, 99, {"OMP_WAIT_POLICY": "passive"}),
        ({"OMP_WAIT_POLICY": "active"}, 99, {"OMP_WAIT_POLICY": "active"}),
        ({"GOMP_SPINCOUNT": "9"}, 99, {"GOMP_SPINCOUNT": "9"}),
    ],
)
def test_threads_spin_briefly_or_sleep_by_load_before_torch_is_there(given, running, expected):
    code = (
        "import os, sys, matey.cli as cli; early = 'torch' in sys.modules;"
        f"cli.running_elsewhere = lambda: {running}; cli.main(['--version']);"
        f"print(early, {{k: os.environ[k] for k in {WAITING} if k in os.environ}})"
    )
    environment = {k: v for k, v in os.environ.items() if k not in WAITING} | given
    words = [sys.executable, "-c", code]
    output = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert output.stdout.split("\n")[1] == f"False {expected}"


def test_a_program_beside_is_seen():
    words = [sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(words) for _ in range(1 + (os.cpu_count() or 1))]
    try:
        time.sleep(0.5)
        assert running_elsewhere() >= 1
    finally:
        for process in busy:
            process.kill()
            process.wait()
