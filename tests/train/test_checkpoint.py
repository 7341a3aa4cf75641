"""A checkpoint is whole, or the one before it is taken."""

import contextlib
import json
import logging
import os
import random
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch

from matey.errors import CheckpointError
from matey.train import checkpoint
from matey.train.checkpoint import Progress, State, newest, save

FILES = ("model.safetensors", "optimizer.safetensors", "random.safetensors", "state.json")


def state_at(step: int, size: int = 100) -> State:
    """A state whose every number is its step."""
    number = torch.full((size,), float(step))
    return State(
        Progress(step, best=1 / step),
        {"weight": number, "bias": number[:3]},
        {"exp_avg/weight": number, "step/weight": number[0]},
        [checkpoint.random_state()],
    )


def saved(run, *steps: int, keep: int = 9, size: int = 100):
    run.mkdir(exist_ok=True)
    return [save(run, state_at(step, size), keep) for step in steps]


def assert_is(found, step: int) -> None:
    """The checkpoint found is that of a step, with all its numbers."""
    folder, state = found
    assert folder.name == f"step-{step:08d}"
    assert state.progress == Progress(step, best=1 / step)
    numbers = [*state.weights.values(), *state.moments.values()]
    assert len(numbers) == 4
    assert all(bool((tensor == step).all()) for tensor in numbers)


def test_what_is_saved_is_read_again_to_the_bit(tmp_path):
    state = State(
        Progress(7, best=0.0, pending=True),
        {"a": torch.randn(3, 4), "b": torch.randn(5).bfloat16(), "c": torch.tensor(2)},
        {"exp_avg/a": torch.randn(3, 4).t(), "step/a": torch.tensor(7.0)},
        [checkpoint.random_state(), {"cpu": torch.arange(5, dtype=torch.uint8)}],
    )
    folder = save(tmp_path, state, keep=1)
    read = checkpoint.read(folder)
    assert read.progress == state.progress
    pairs = [(state.weights, read.weights), (state.moments, read.moments)]
    for before, after in [*pairs, *zip(state.random, read.random, strict=True)]:
        assert set(before) == set(after)
        for name, tensor in before.items():
            assert after[name].dtype == tensor.dtype
            assert torch.equal(after[name], tensor)


def in_child(work) -> int:
    """Do some work in a process of its own; its number."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def test_kill_at_any_point_of_a_save_leaves_the_previous_checkpoint(tmp_path):
    """The process kills itself at the n-th file operation of a save, for every n there is."""
    run = tmp_path / "run"
    saved(run, 1)

    def save_until(operations: int) -> None:
        left = operations

        def count(event: str, arguments: object) -> None:
            nonlocal left
            if event == "open" or event.startswith(("os.", "shutil.")):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        save(run, state_at(2), keep=1)

    for operations in range(1, 200):
        pid = in_child(lambda n=operations: save_until(n))
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        found = newest(run)
        if found[0].name == "step-00000001":
            assert_is(found, 1)
        else:  # killed in removing the old one
            assert_is(found, 2)
            saved(run, 1)
            for path in found[0].iterdir():
                path.unlink()
            found[0].rmdir()
    assert operations > 20
    assert_is(newest(run), 2)


def test_sigkill_at_20_random_points_of_a_save_and_the_run_continues(tmp_path, caplog):
    run = tmp_path / "run"
    saved(run, 1)
    # Large enough that most of the time goes into writing.
    began = time.perf_counter()
    save(run, state_at(1, 300_000), keep=2)
    took = time.perf_counter() - began
    rng, last = random.Random(0), 1

    def save_for_ever() -> None:
        step = last
        while True:
            step += 1
            save(run, state_at(step, 300_000), keep=2)

    for _ in range(20):
        pid = in_child(save_for_ever)
        time.sleep(rng.uniform(0.1, 4) * took)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        found = newest(run)
        step = found[1].progress.step
        assert step >= last
        assert_is(found, step)
        if step == last:  # a disk slower than it was: the next has more time
            took *= 1.5
        last = step
    assert last > 1
    assert all("incomplete" in record.message for record in caplog.records)


def test_sigkill_between_rename_and_completion_marker_is_skipped_and_reported(tmp_path, caplog):
    run = tmp_path / "run"
    _, last = saved(run, 1, 2)
    (last / "complete.json").unlink()
    assert_is(newest(run), 1)
    (record,) = caplog.records
    assert "step-00000002 is incomplete" in record.message
    assert "goes on from step-00000001" in record.message
    assert newest(run)[0].name == "step-00000001"
    assert len(caplog.records) == 1  # what was set aside is not reported again


def test_a_first_checkpoint_that_was_never_completed_means_a_beginning_with_a_warning(
    tmp_path, caplog
):
    (only,) = saved(tmp_path / "run", 1)
    (only / "complete.json").unlink()
    assert newest(tmp_path / "run") is None
    assert "incomplete" in caplog.text
    assert "goes on from its beginning" in caplog.text


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def lose(path):
    path.unlink()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncate, "bytes instead of"),
        (flip, "another checksum"),
        (empty, "has 0 bytes instead of"),
        (lose, "is missing"),
    ],
)
def test_newest_checkpoint_damaged_falls_back_with_a_warning_that_names_it(
    tmp_path, caplog, name, damage, said
):
    run = tmp_path / "run"
    _, last = saved(run, 1, 2)
    damage(last / name)
    assert_is(newest(run), 1)
    assert f"step-00000002/{name} " in caplog.text
    assert said in caplog.text
    assert (run / "checkpoints/damaged-step-00000002").is_dir()


def nest(path):
    """Brackets as deep as the stack."""
    path.write_text("[" * 100_000)


@pytest.mark.parametrize("damage", [truncate, flip, empty, nest])
def test_a_damaged_completion_marker_counts_as_damage(tmp_path, caplog, damage):
    """A flipped byte may hit what carries no meaning, as a space; then nothing is damaged."""
    run = tmp_path / "run"
    _, last = saved(run, 1, 2)
    damage(last / "complete.json")
    found = newest(run)
    if damage is flip and not caplog.records:
        assert_is(found, 2)
    else:
        assert_is(found, 1)
        assert "step-00000002" in caplog.text


def test_any_byte_flipped_anywhere_never_yields_other_numbers(tmp_path):
    run = tmp_path / "run"
    (folder,) = saved(run, 1, size=4)
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        for i in range(0, len(content), max(1, len(content) // 40)):
            path.write_bytes(content[:i] + bytes([content[i] ^ 4]) + content[i + 1 :])
            try:
                found = checkpoint.read(folder)
            except checkpoint.DamagedError:
                continue
            finally:
                path.write_bytes(content)
            assert_is((folder, found), 1)


def test_all_corrupt_is_an_error_listing_each_never_a_silent_fresh_start(tmp_path):
    run = tmp_path / "run"
    first, second = saved(run, 1, 2)
    flip(first / "model.safetensors")
    lose(second / "optimizer.safetensors")
    with pytest.raises(CheckpointError, match=r"No checkpoint of .* is whole") as stopped:
        newest(run)
    assert "step-00000001/model.safetensors has another checksum" in str(stopped.value)
    assert "step-00000002/optimizer.safetensors is missing" in str(stopped.value)
    assert first.is_dir()  # nothing was moved
    assert second.is_dir()


def test_several_incomplete_checkpoints_are_an_error_too(tmp_path):
    """A kill can leave one: more are a fault of something else."""
    for folder in saved(tmp_path / "run", 1, 2):
        lose(folder / "complete.json")
    with pytest.raises(CheckpointError, match=r"00000002 is incomplete.*00000001 is incomplete"):
        newest(tmp_path / "run")


@contextlib.contextmanager
def small_disk(place, size: int):
    """A file system of so many bytes at a place."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    try:
        made = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        made = False
    if not made:
        pytest.skip("needs the right to mount a small file system, as root has in a container")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_disk_full_during_a_save_tells_needed_and_free_bytes_and_keeps_the_old_one(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    with small_disk(run, 1 << 20):
        saved(run, 1)
        before = sorted(path for path in run.rglob("*") if path.is_file())
        free = os.statvfs(run).f_bavail * os.statvfs(run).f_frsize
        with pytest.raises(CheckpointError, match="No space left on device") as stopped:
            save(run, state_at(2, size=200_000), keep=1)
        needed = 4 * (2 * 200_000 + 3 + 1) + torch.get_rng_state().numel()
        assert f"takes {needed} bytes, and {free} are free" in str(stopped.value)
        assert sorted(path for path in run.rglob("*") if path.is_file()) == before
        assert_is(newest(run), 1)


def test_a_file_size_limit_during_a_save_keeps_the_old_one_too(tmp_path):
    run = tmp_path / "run"
    saved(run, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"step-00000002 cannot be written.*takes \d+ "):
            save(run, state_at(2, size=200_000), keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000001"]
    assert_is(newest(run), 1)


def test_a_marker_that_cannot_be_written_leaves_no_half_checkpoint(tmp_path, monkeypatch):
    run = tmp_path / "run"
    saved(run, 1)

    def full(path, text, error):
        raise error(f"{path} cannot be written: No space left on device.")

    monkeypatch.setattr(checkpoint, "write_text", full)
    with pytest.raises(CheckpointError, match=r"complete\.json cannot be written"):
        save(run, state_at(2), keep=1)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000001"]


def test_checkpoint_of_a_newer_format_version_is_a_version_error(tmp_path, monkeypatch):
    run = tmp_path / "run"
    saved(run, 1)
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    saved(run, 2)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="has format 2; this version of matey reads up to 1"):
        newest(run)


def test_keep_k_retention_never_deletes_the_last_valid_one(tmp_path):
    """Also where a damaged one has a higher step, or was not set aside."""
    run = tmp_path / "run"
    folders = saved(run, 1, 2, 9)
    flip(folders[-1] / "model.safetensors")
    save(run, state_at(3), keep=1)
    assert_is(newest(run), 3)
    saved(run, 4, 10, keep=1)
    assert sorted(f.name for f in checkpoint.folders(run)) == ["step-00000010"]
    assert_is(newest(run), 10)


def test_symlink_at_the_checkpoint_path_is_not_followed_outside(tmp_path, caplog):
    run, outside = tmp_path / "run", tmp_path / "outside"
    (elsewhere,) = saved(outside, 2)
    saved(run, 1)
    link = run / "checkpoints/step-00000002"
    link.symlink_to(elsewhere)
    assert_is(newest(run), 1)
    assert "step-00000002 is a link" in caplog.text
    link.symlink_to(elsewhere)
    saved(run, 2, 3, keep=1)  # takes the link's place, and not that of what it points to
    assert not link.is_symlink()
    assert_is(newest(outside), 2)


def test_a_file_of_a_checkpoint_that_is_a_link_is_not_followed(tmp_path, caplog):
    run = tmp_path / "run"
    first, last = saved(run, 1, 2)
    (last / "model.safetensors").unlink()
    (last / "model.safetensors").symlink_to(first / "model.safetensors")
    assert_is(newest(run), 1)
    assert "model.safetensors is a link" in caplog.text


def test_a_checkpoints_folder_that_is_a_link_is_refused(tmp_path):
    saved(tmp_path / "outside", 1)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/checkpoints").symlink_to(tmp_path / "outside/checkpoints")
    with pytest.raises(CheckpointError, match="checkpoints is a link"):
        newest(tmp_path / "run")


def test_a_state_of_two_processes_gives_one_process_exact_weights(tmp_path):
    """And its own generators; a process too many keeps those it has."""
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    model(torch.randn(4, 3)).square().sum().backward()
    optimizer.step()
    state = checkpoint.capture(model, optimizer, Progress(1))
    torch.rand(1)
    state = State(state.progress, state.weights, state.moments, [*state.random, {}])
    folder = save(tmp_path, state, keep=1)
    other = torch.nn.Linear(3, 2)
    again = torch.optim.AdamW(other.parameters(), fused=True)
    checkpoint.restore(checkpoint.read(folder), other, again, folder)
    assert torch.equal(torch.get_rng_state(), state.random[0]["cpu"])
    for before, after in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(before, after)
        for key, value in optimizer.state[before].items():
            assert torch.equal(again.state[after][key], value)
    torch.manual_seed(5)
    own = torch.get_rng_state()
    checkpoint.restore(checkpoint.read(folder), other, again, folder, rank=2)
    assert torch.equal(torch.get_rng_state(), own)


def test_a_state_of_another_model_is_refused_with_keys_and_shapes(tmp_path):
    model, other = torch.nn.Linear(3, 2), torch.nn.Linear(4, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    state = checkpoint.capture(model, optimizer, Progress(1))
    with pytest.raises(CheckpointError, match=r"weight \(2, 3\) instead of \(2, 4\)"):
        checkpoint.restore(state, other, torch.optim.AdamW(other.parameters()), tmp_path)


def header_of(length: int, header: dict, content: bytes = b"") -> bytes:
    return length.to_bytes(8, "little") + json.dumps(header).encode() + content


def overlapping() -> bytes:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    header = {"a": entry, "b": {**entry, "data_offsets": [4, 12]}}
    return header_of(len(json.dumps(header)), header, bytes(12))


@pytest.mark.parametrize(
    "content",
    [header_of(100_000_001, {}, bytes(100)), header_of(1 << 62, {}), overlapping()],
    ids=["over 100 MB", "absurd", "overlapping offsets"],
)
def test_a_safetensors_header_that_is_hostile_is_refused(tmp_path, content):
    """Also where the completion marker was made to agree with it."""
    run = tmp_path / "run"
    (folder,) = saved(run, 1)
    (folder / "model.safetensors").write_bytes(content)
    files = json.loads((folder / "complete.json").read_text())
    files["files"]["model.safetensors"] = {
        "bytes": len(content),
        "sha256": checkpoint.hashlib.sha256(content).hexdigest(),
    }
    (folder / "complete.json").write_text(json.dumps(files))
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        newest(run)


def test_a_pickle_in_place_of_weights_is_not_run(tmp_path):
    class Canary:
        def __reduce__(self):
            return (open, (str(tmp_path / "canary"), "w"))

    run = tmp_path / "run"
    (folder,) = saved(run, 1)
    torch.save({"weight": Canary()}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="bytes instead of"):
        newest(run)
    assert not (tmp_path / "canary").exists()


def test_warnings_are_the_packages_own(tmp_path, caplog):
    """They reach the user through the command line's notices, which listen to `matey`."""
    with caplog.at_level(logging.WARNING, logger="matey"):
        _, last = saved(tmp_path / "run", 1, 2)
        lose(last / "model.safetensors")
        newest(tmp_path / "run")
    assert {record.name.split(".")[0] for record in caplog.records} == {"matey"}
