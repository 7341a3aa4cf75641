"""One process at a time on a run folder."""

import json
import os
import signal
import time

import pytest

from matey.errors import ConfigError
from matey.train import lock
from matey.train.lock import locked


def hold_and_die(run) -> int:
    """A process that holds a run and is killed there; its number."""
    pid = os.fork()
    if pid == 0:
        try:
            with locked(run):
                time.sleep(60)
        finally:
            os._exit(1)
    while not (run / ".lock").is_file() or not (run / ".lock").read_text():
        time.sleep(0.005)
    return pid


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_two_processes_on_one_run_folder_the_second_is_refused_with_the_first_ones_pid(tmp_path):
    run = tmp_path / "run"
    pid = hold_and_die(run)
    try:
        with pytest.raises(ConfigError, match=rf"run is in use by process {pid} on "), locked(run):
            pass
        assert json.loads((run / ".lock").read_text())["pid"] == pid
    finally:
        end(pid)


def test_stale_lock_of_a_dead_pid_is_recovered_with_a_warning(tmp_path, caplog):
    run = tmp_path / "run"
    pid = hold_and_die(run)
    end(pid)
    with locked(run):
        assert json.loads((run / ".lock").read_text())["pid"] == os.getpid()
    assert f"was left by process {pid}" in caplog.text
    assert "dead: taken over" in caplog.text
    assert not (run / ".lock").exists()


def test_one_process_does_not_hold_a_folder_twice(tmp_path):
    run = tmp_path / "run"
    with locked(run):
        with pytest.raises(ConfigError, match=f"in use by process {os.getpid()}"), locked(run):
            pass
        assert (run / ".lock").is_file()


def holder(**changes) -> str:
    return json.dumps({**lock.myself(), **changes})


@pytest.mark.parametrize(
    ("system_locks", "changes", "is_taken"),
    [
        (True, {"host": "elsewhere"}, True),  # the system says that nobody holds it
        (None, {"host": "elsewhere"}, False),  # nobody can tell
        (True, {"began": "1"}, True),  # the number was used again
        (None, {"began": "1"}, True),
        (None, {}, False),
        (True, {"pid": "text"}, True),
    ],
)
def test_a_lock_left_behind_is_taken_over_only_where_its_holder_is_surely_dead(
    tmp_path, monkeypatch, caplog, system_locks, changes, is_taken
):
    """Also on file systems without locks, where the holder's number on its host decides."""
    (tmp_path / ".lock").write_text(holder(**changes))
    monkeypatch.setattr(lock, "try_lock", lambda file: system_locks)
    if is_taken:
        with locked(tmp_path):
            pass
        assert "taken over" in caplog.text
    else:
        with pytest.raises(ConfigError, match="in use by process"), locked(tmp_path):
            pass


def test_a_lock_of_half_a_line_is_taken(tmp_path):
    (tmp_path / ".lock").write_text('{"pid": 1')
    with locked(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_a_new_folder_that_stays_empty_is_removed_and_one_in_use_stays(tmp_path):
    with locked(tmp_path / "runs/empty"):
        pass
    assert not (tmp_path / "runs").exists()
    with locked(tmp_path / "used"):
        (tmp_path / "used/config.yaml").write_text("a: 1")
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["config.yaml"]


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "outside").write_text("mine")
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").symlink_to(tmp_path / "outside")
    with pytest.raises(ConfigError, match="cannot be written"), locked(run):
        pass
    assert (tmp_path / "outside").read_text() == "mine"


def test_run_folder_with_a_file_in_its_place_or_above_it_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for run in (tmp_path / "file", tmp_path / "file/run"):
        with pytest.raises(ConfigError, match="cannot be written"), locked(run):
            pass


def test_run_name_with_nul_is_refused():
    from pathlib import Path

    with pytest.raises(ConfigError, match="NUL"), locked(Path("runs/a\0b")):
        pass
