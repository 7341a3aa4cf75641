"""Training goes on as if nothing had happened, whatever happened."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace

import pytest
import yaml

import matey
from matey.cli import main
from matey.config import OptimConfig, RunConfig
from matey.errors import CheckpointError, ConfigError, StoppedError
from matey.train import checkpoint, loop, signals, validate
from matey.train.finetune import parent_name
from matey.train.loop import train
from matey.train.run_folder import to_yaml
from tests.files import write_pair
from tests.train.test_checkpoint import flip, small_disk
from tests.train.tiny import tiny_run

pytestmark = pytest.mark.usefixtures("narrow_stencils")

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]


@pytest.fixture(scope="module", autouse=True)
def no_forecast():
    """What a run will cost is foretold before it starts, which takes longer than these runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "memory_bound", lambda *arguments: 0)
        yield


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> RunConfig:
    """Six steps with all that is random: drop path, jitter, leads, rolls, two systems."""
    water, gas = write_pair(tmp_path_factory.mktemp("data"))
    return tiny_run(
        {"water": water, "gas": gas},
        model={"drop_path": 0.3, "jitter": True},
        windows={"max_lead": 3, "roll": True},
        optim={"lr": 3e-3, "warmup": 2},
        steps=6,
        accumulate=2,
        validate_every=2,
        validate_windows=2,
        checkpoint_every=2,
        keep_checkpoints=3,
    )


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """The run that nothing disturbs."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    train(config, run)
    return run


def records(run, kind: str) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def assert_ended_alike(run, whole) -> None:
    """Weights, moments, random states, best score and logged losses are equal to the bit."""
    for path in sorted((whole / "checkpoints/step-00000006").iterdir()):
        other = run / "checkpoints/step-00000006" / path.name
        assert other.read_bytes() == path.read_bytes(), path.name
    for name in ("model/model.safetensors", "best/model.safetensors", "best/config.json"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    for kind, keys in (("train", ("loss", "losses", "lr")), ("valid", ("nrmse", "loss"))):
        # A step that was repeated stands twice: the later counts.
        last = {record["step"]: [record[key] for key in keys] for record in records(run, kind)}
        expected = {record["step"]: [record[k] for k in keys] for record in records(whole, kind)}
        assert last == expected


def kill_at_call(monkeypatch, where: object, name: str, call: int, *numbers: int) -> None:
    """Send signals to this very process when a function is called for the n-th time."""
    function, calls = getattr(where, name), iter(range(1, 1000))

    def counted(*arguments, **options):
        if next(calls) == call:
            for number in numbers:
                os.kill(os.getpid(), number)
        return function(*arguments, **options)

    monkeypatch.setattr(where, name, counted)


def assert_stops_and_goes_on(monkeypatch, config, run, number: int) -> int:
    """Train into a signal, and on from there; the step at which it stopped."""
    before = {n: signal.getsignal(n) for n in SIGNALS}
    with pytest.raises(StoppedError, match=signal.Signals(number).name) as stopped:
        train(config, run)
    assert stopped.value.signal == number
    assert {n: signal.getsignal(n) for n in SIGNALS} == before
    step = records(run, "stop")[0]["step"]
    assert checkpoint.folders(run)[-1].name == f"step-{step:08d}"
    assert not (run / ".lock").exists()
    monkeypatch.undo()
    train(config, run, resume=True)
    return step


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.slow) for n in SIGNALS[1:])],
)
def test_signal_in_training_finishes_the_step_saves_and_resumes_equal_to_the_bit(
    config, whole, tmp_path, monkeypatch, number
):
    """In the middle of an accumulation, of an epoch, and of the steps between checkpoints."""
    kill_at_call(monkeypatch, loop, "push_forward", 5, number)  # two calls to a step
    assert assert_stops_and_goes_on(monkeypatch, config, tmp_path / "run", number) == 3
    assert_ended_alike(tmp_path / "run", whole)


def test_sigterm_during_validation_saves_and_validates_when_the_run_goes_on(
    config, whole, tmp_path, monkeypatch
):
    kill_at_call(monkeypatch, validate, "nrmse", 3, signal.SIGTERM)
    run = tmp_path / "run"
    assert assert_stops_and_goes_on(monkeypatch, config, run, signal.SIGTERM) == 2
    assert [record["step"] for record in records(run, "valid")] == [2, 4, 6]
    assert_ended_alike(run, whole)


def test_a_second_sigterm_during_that_save_corrupts_nothing(config, whole, tmp_path, monkeypatch):
    kill_at_call(monkeypatch, checkpoint, "save_tensors", 1, signal.SIGTERM, signal.SIGTERM)
    kill_at_call(monkeypatch, checkpoint, "write_text", 1, signal.SIGINT, signal.SIGUSR1)
    run = tmp_path / "run"
    # The step that goes on beside the save may be done, too.
    assert assert_stops_and_goes_on(monkeypatch, config, run, signal.SIGTERM) in (2, 3)
    assert_ended_alike(run, whole)


def slowly(monkeypatch, until: threading.Event | None = None) -> list[tuple[str, str]]:
    """Let each checkpoint's writing wait for an event, or a while; what begins and ends of it."""
    write, heard = checkpoint.save, []

    def slow(run, state, keep):
        heard.append(("begins", f"{state.progress.step}"))
        assert threading.current_thread() is not threading.main_thread()
        (until or threading.Event()).wait(timeout=60 if until else 0.2)
        folder = write(run, state, keep)
        heard.append(("ends", f"{state.progress.step}"))
        return folder

    monkeypatch.setattr(checkpoint, "save", slow)
    return heard


def test_training_goes_on_while_a_checkpoint_is_written_of_the_step_it_is_of(
    config, whole, tmp_path, monkeypatch
):
    """The write of step 2 waits for step 3: it has what was there before that step."""
    run, done = tmp_path / "run", threading.Event()
    heard = slowly(monkeypatch, done)

    def watch(record):
        if record["kind"] == "train" and record["step"] == 3:
            assert heard == [("begins", "2")]
            done.set()

    train(config, run, watch)
    for step in (2, 4, 6):
        for name in ("model", "optimizer", "random"):
            path = f"checkpoints/step-{step:08d}/{name}.safetensors"
            assert (run / path).read_bytes() == (whole / path).read_bytes(), path
    assert_ended_alike(run, whole)


def test_one_checkpoint_is_written_at_a_time_and_the_end_waits_for_the_last(
    config, tmp_path, monkeypatch
):
    heard, run = slowly(monkeypatch), tmp_path / "run"
    ended = []

    def watch(record):
        if record["kind"] == "end":
            ended.extend(heard)

    train(replace(config, checkpoint_every=1), run, watch)
    steps = "123456"
    assert heard == [(what, step) for step in steps for what in ("begins", "ends")]
    assert ended == heard
    assert checkpoint.newest(run)[1].progress.step == 6


@pytest.mark.parametrize(("at", "seen"), [(2, (3, 4)), (6, (6,))])
def test_a_checkpoint_that_cannot_be_written_ends_the_run_at_the_next_step_or_the_end(
    config, tmp_path, monkeypatch, at, seen
):
    write, run, steps = checkpoint.save, tmp_path / "run", []

    def full(folder, state, keep):
        if state.progress.step == at:
            raise CheckpointError("No space left on device.")
        return write(folder, state, keep)

    def watch(record):
        if record["kind"] == "train":
            steps.append(record["step"])

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(CheckpointError, match=r"^No space left on device\.$"):
        train(config, run, watch)
    assert steps[-1] in seen
    assert not (run / "model").exists()
    assert not (run / ".lock").exists()
    before = checkpoint.newest(run)
    assert (before[1].progress.step if before else 0) == at - 2


def test_a_run_that_ends_with_another_error_finishes_its_checkpoint_first(
    config, whole, tmp_path, monkeypatch, caplog
):
    run = tmp_path / "run"
    heard = slowly(monkeypatch)
    with pytest.raises(StopHereError):
        train(config, run, crash_at(3))
    assert heard[-1] == ("ends", "2")
    assert caplog.text == ""
    train(config, run, resume=True)
    assert_ended_alike(run, whole)


def test_a_signal_before_the_first_step_leaves_nothing_and_ends_at_once(
    config, tmp_path, monkeypatch
):
    kill_at_call(monkeypatch, loop, "check_grids", 1, signal.SIGTERM)
    with pytest.raises(StoppedError, match="before the first step"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_signal_at_the_last_step_leaves_the_model_to_the_resumed_run(
    config, whole, tmp_path, monkeypatch
):
    run = tmp_path / "run"

    def watch(record):
        if record["kind"] == "train" and record["step"] == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StoppedError, match="after step 6 of 6"):
        train(config, run, watch)
    assert not (run / "model").exists()
    train(config, run, resume=True)
    assert [record["step"] for record in records(run, "valid")] == [2, 4, 6]
    # A validation that was pending is not in the last checkpoint, but in the model of the best.
    for name in ("model/model.safetensors", "best/model.safetensors", "best/config.json"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name


class StopHereError(Exception):
    """Ends a run as a crash would."""


def crash_at(step: int):
    def watch(record):
        if record["kind"] == "train" and record["step"] == step:
            raise StopHereError

    return watch


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_resume_mid_epoch_with_any_number_of_workers_equals_the_undisturbed_run(
    config, whole, tmp_path, workers
):
    """Adaptive tokens, random lead times, drop path above 0, two batches to a step."""
    run = tmp_path / "run"
    with pytest.raises(StopHereError):
        train(replace(config, workers=workers), run, crash_at(5))
    train(replace(config, workers=2 - workers), run, resume=True)
    assert_ended_alike(run, whole)


def test_the_best_metric_survives_a_resume(config, whole, tmp_path):
    """And stays the best where every validation after it is worse."""
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    _, state = checkpoint.newest(run)
    assert state.progress.best == pytest.approx(
        min(sum(r["nrmse"].values()) / 2 for r in records(run, "valid"))
    )
    best = (run / "best/config.json").read_bytes()
    worse = replace(config, steps=8, optim=OptimConfig(lr=1.0, warmup=0))
    train(worse, run, resume=True)
    _, later = checkpoint.newest(run)
    assert later.progress.step == 8
    assert later.progress.best == state.progress.best
    assert (run / "best/config.json").read_bytes() == best


def test_the_best_model_is_the_one_of_the_lowest_mean_score(whole):
    valid = records(whole, "valid")
    scores = {record["step"]: sum(record["nrmse"].values()) for record in valid}
    described = json.loads((whole / "best/config.json").read_text())["training"]
    assert described["steps"] == min(scores, key=scores.get)
    assert set(described["nrmse"]) == {"water", "gas"}
    assert matey.from_pretrained(whole / "best").specs.keys() == {"water", "gas"}


def test_newest_checkpoint_damaged_the_run_goes_on_from_the_one_before(
    config, whole, tmp_path, caplog
):
    run = tmp_path / "run"
    with pytest.raises(StopHereError):
        train(config, run, crash_at(5))
    flip(run / "checkpoints/step-00000004/optimizer.safetensors")
    train(config, run, resume=True)
    assert "step-00000004/optimizer.safetensors has another checksum" in caplog.text
    assert_ended_alike(run, whole)


def test_all_checkpoints_corrupt_is_an_error_never_a_silent_fresh_start(config, whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    for folder in checkpoint.folders(run):
        flip(folder / "model.safetensors")
    log = (run / "metrics.jsonl").read_text()
    with pytest.raises(CheckpointError, match=r"0006/.*checksum.*0004/.*checksum.*0002/.*checksum"):
        train(replace(config, steps=8), run, resume=True)
    assert (run / "metrics.jsonl").read_text() == log


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"embed_dim": 24}, r"embed_dim was 12 and is 24.*weights do not fit: .* instead of \("),
        ({"patches": (8, 2)}, r"patches was \[8, 4\] and is \[8, 2\].*weights do not fit"),
        ({"heads": 2}, r"heads was 1 and is 2"),
    ],
)
def test_resume_with_other_embed_dim_patch_or_heads_lists_keys_and_shapes(
    config, whole, tmp_path, changed, said
):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    other = replace(config, model=replace(config.model, **changed), steps=8)
    with pytest.raises(ConfigError, match=said):
        train(other, run, resume=True)


def test_run_folder_deleted_mid_run_is_a_clear_error(config, tmp_path):
    run = tmp_path / "run"

    def remove(record):
        if record["kind"] == "train" and record["step"] == 1:
            shutil.rmtree(run)

    for log_every in (1, 5):  # found missing in logging, or in saving
        shutil.rmtree(run, ignore_errors=True)
        remover = remove if log_every == 1 else remove_after_start(run)
        changed = replace(config, log_every=log_every, validate_every=0)
        with pytest.raises(CheckpointError, match=r"run is no longer there: it was removed"):
            train(changed, run, remover)
        assert not run.exists()


def remove_after_start(run):
    def remove(record):
        if record["kind"] == "start":
            shutil.rmtree(run)

    return remove


def test_disk_full_while_logging_stops_clearly_and_leaves_whole_lines(config, tmp_path):
    run = tmp_path / "run"
    run.mkdir()

    def fill(record):
        if record["kind"] == "train" and record["step"] == 3:
            with (run / "filling").open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(4096))

    with small_disk(run, 1 << 21):
        with pytest.raises(CheckpointError, match=r"metrics\.jsonl.*No space.* bytes, and 0 are"):
            train(replace(config, checkpoint_every=99, steps=99, validate_every=0), run, fill)
        steps = [record["step"] for record in records(run, "train")]
        assert steps == list(range(1, len(steps) + 1))


def test_run_folder_that_cannot_be_written_fails_before_step_1(config, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    with small_disk(run, 1 << 20):
        remount = ["mount", "-o", "remount,ro", str(run)]
        subprocess.run(remount, check=True, capture_output=True)
        steps = []
        with pytest.raises(ConfigError, match="run cannot be written: Read-only file system"):
            train(config, run, steps.append)
        assert steps == []


def test_a_file_in_place_of_the_run_folder_fails_before_step_1(config, tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(ConfigError, match="run cannot be written: File exists"):
        train(config, tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"


def test_a_second_run_in_the_same_folder_is_refused_and_disturbs_nothing(config, whole, tmp_path):
    run = tmp_path / "run"

    def second(record):
        if record["kind"] == "train" and record["step"] == 3:
            with pytest.raises(ConfigError, match="in use by process"):
                train(config, run, resume=True)

    train(config, run, second)
    assert_ended_alike(run, whole)


def test_a_name_that_a_checkpoint_gives_leads_nowhere_else(tmp_path):
    """`matey finetune` without --run writes runs/NAME-finetuned: NAME is that of a folder."""
    for place in ("model", "best", "up/../model", "."):
        folder = tmp_path / "a run" / place
        (tmp_path / "a run/up").mkdir(parents=True, exist_ok=True)
        folder.mkdir(exist_ok=True)
        for name in ("model.safetensors", "config.json"):
            (folder / name).write_text("")
        name = parent_name(folder)
        assert name == "a run"
        assert "/" not in name


def test_what_the_model_folder_carries_is_the_data_contract(whole):
    described = json.loads((whole / "model/config.json").read_text())
    systems = {system["name"]: system for system in described["systems"]}
    assert {v["name"] for v in systems["gas"]["variables"]} == {
        *("density", "pressure", "velocity_x", "velocity_y")
    }
    assert all("units" in v for system in systems.values() for v in system["variables"])
    assert systems["water"]["dt"] == pytest.approx(0.1)
    assert described["history"] == 2
    training = described["training"]
    for key in ("normalisation", "boundaries", "data_fingerprint", "windows", "versions", "seed"):
        assert training[key] or key == "seed"


def test_a_full_device_of_random_numbers_is_not_drawn_by_validation(config, tmp_path):
    """Validating more often changes no weight."""
    train(replace(config, validate_every=1), tmp_path / "often")
    train(replace(config, validate_every=0), tmp_path / "seldom")
    one, two = (tmp_path / name / "model/model.safetensors" for name in ("often", "seldom"))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("number", SIGNALS)
def test_the_command_s_exit_code_is_128_and_the_signal(
    config, tmp_path, monkeypatch, capsys, number
):
    kill_at_call(monkeypatch, loop, "check_finite", 1, number)
    (tmp_path / "run.yaml").write_text(to_yaml(config))
    words = ["train", "--config", str(tmp_path / "run.yaml"), "--run", str(tmp_path / "run")]
    assert main(words) == 128 + number
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"matey: {number.name}: stopped after step 1 of 6, saved in ")
    assert said.endswith("Go on with --resume auto.")


def test_signals_are_left_alone_outside_the_main_thread():
    import threading

    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work():
        with signals.heeding_signals() as stop:
            seen.append((stop.received, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(0, before)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_leaves_the_loader_workers_until_the_step_is_saved(
    config, tmp_path, number
):
    """As a terminal's Ctrl-C, or a batch system, sends it."""
    settings = yaml.safe_load(to_yaml(replace(config, workers=2, steps=100_000)))
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    run = tmp_path / "run"
    words = ["train", "--config", str(tmp_path / "run.yaml"), "--run", str(run)]
    process = subprocess.Popen(
        [sys.executable, "-m", "matey", *words],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not checkpoint.folders(run) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, number)
        _, said = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said
    step = records(run, "stop")[0]["step"]
    assert checkpoint.newest(run)[1].progress.step == step


@pytest.mark.slow
def test_sigkill_at_20_random_moments_ends_with_the_same_weights_bit_for_bit(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.train.drill", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == 20
    assert found["while_writing"] > 2
    assert found["ended_well"]
    assert found["different"] == []
    assert found["same_losses"]
    assert found["left_behind"] == []
    assert found["steps_at_kill"][-1] > 50  # it was killed on its way, not only at its beginning
