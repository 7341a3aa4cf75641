"""The batch script for a cluster: what it says, and that it works, with SLURM played by stubs."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from matey.cli import main
from matey.cli.launch import Job, seconds
from matey.errors import ConfigError

LAUNCH = ["launch", "slurm", "--nodes", "4", "--gpus-per-node", "8", "--time", "6h", "--dry-run"]
UGLY = ["my conf'ig.yaml", "runs/$(touch canary)", "a\nb", '"; touch canary; "', "-x *"]


def printed(capsys, *words: str) -> str:
    assert main([*LAUNCH, *words]) == 0
    return capsys.readouterr().out


def check_shell(script: str, folder: Path) -> None:
    """Bash can parse it; and shellcheck, where it is installed, finds nothing."""
    path = folder / "job.sh"
    path.write_text(script)
    subprocess.run(["bash", "-n", str(path)], check=True)
    if shutil.which("shellcheck"):
        # SC2317 and SC2329: the function is called by the shells that srun starts.
        subprocess.run(["shellcheck", "-e", "SC2317,SC2329", str(path)], check=True)


def test_a_dry_run_prints_the_script_and_submits_nothing(capsys, tmp_path, monkeypatch):
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f"#!/bin/sh\ntouch {tmp_path}/submitted\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    options = ["--partition", "gpu", "--account", "me", "--cpus-per-task", "64"]
    options += ["--sbatch=--constraint=a100", "--sbatch=--exclusive", "--output", "logs/%j.out"]
    script = printed(capsys, *options, "--", "train", "--config", "a.yaml", "--run", "runs/a")
    lines = script.splitlines()
    assert lines[0] == "#!/bin/bash"
    for option in (
        *("nodes=4", "ntasks-per-node=1", "gpus-per-node=8", "time=0-06:00:00", "requeue"),
        *("signal=B:USR1@120", "partition=gpu", "account=me", "cpus-per-task=64"),
        *("constraint=a100", "exclusive", "output=logs/%j.out"),
    ):
        assert f"#SBATCH --{option}" in lines
    assert "export OMP_NUM_THREADS=8" in lines
    assert "-m matey -- train --config a.yaml --run runs/a --resume auto" in script
    check_shell(script, tmp_path)
    assert not (tmp_path / "submitted").exists()


def test_every_word_of_the_command_reaches_it_as_it_was_typed(capsys, tmp_path):
    script = printed(capsys, "--partition", "a; touch canary", "--", "train", *UGLY)
    check_shell(script, tmp_path)
    work = work_of(script, tmp_path)
    words = ["-m", "matey", "--", "train", *UGLY, "--resume", "auto"]
    assert work.read_text().split("\0")[:-1] == words
    assert not (tmp_path / "canary").exists()


def work_of(script: str, folder: Path) -> Path:
    """Run a script with a torchrun that writes down what follows its own options."""
    bin_ = stubs(folder)
    (bin_ / "torchrun").write_text(
        f'#!/bin/bash\nshift 10\nprintf "%s\\0" "$@" > {shlex.quote(str(folder / "words"))}\n'
    )
    (bin_ / "torchrun").chmod(0o755)
    ours = f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:"
    assert ours in script
    subprocess.run(
        ["bash", "-c", script.replace(ours, f"export PATH={shlex.quote(str(bin_))}:")],
        env=environment(bin_),
        cwd=folder,
        check=True,
    )
    return folder / "words"


def stubs(folder: Path) -> Path:
    """SLURM of one node: srun runs its command, scontrol writes down what it is asked for."""
    bin_ = folder / "bin"
    bin_.mkdir()
    (bin_ / "srun").write_text(
        '#!/bin/bash\nwhile [[ $1 == -* ]]; do shift; done\nSLURM_NODEID=0 exec "$@"\n'
    )
    (bin_ / "scontrol").write_text(
        '#!/bin/bash\nif [ "$1" = show ]; then echo localhost; else '
        f'echo "$@" >> {shlex.quote(str(folder / "asked"))}; fi\n'
    )
    for stub in bin_.iterdir():
        stub.chmod(0o755)
    return bin_


def environment(bin_: Path, **more: str) -> dict[str, str]:
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "localhost", **more}
    return {**os.environ, "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}", **job}


WORKER = """\
import os, signal, sys, time
from pathlib import Path

def save(number, frame):
    Path(f"saved-{os.environ['RANK']}").touch()
    sys.exit(75)

signal.signal(signal.SIGUSR1, save)
Path(f"ready-{os.environ['RANK']}").write_text(os.environ["WORLD_SIZE"] + " ".join(sys.argv[1:]))
if "--fail" in sys.argv:
    sys.exit(3)
if "--short" not in sys.argv:
    time.sleep(60)
"""


@contextmanager
def started(tmp_path: Path, *words: str) -> Iterator[subprocess.Popen]:
    """The script of one node and two processes, under way, with a stand-in for training."""
    package = tmp_path / "stand-in" / "matey"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(WORKER)
    script = Job(command=["train", *words], time=3600, nodes=1, gpus_per_node=2).script()
    job = subprocess.Popen(
        ["bash", "-c", script],
        env=environment(stubs(tmp_path), PYTHONPATH=str(package.parent)),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield job
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGTERM)  # torchrun ends what it has started


def exit_code(job: subprocess.Popen) -> int:
    """How it ended; the log is shown where the test fails."""
    print(job.communicate(timeout=60)[0].decode())
    return job.returncode


def await_files(*paths: Path) -> None:
    until = time.monotonic() + 60
    while not all(path.exists() and path.stat().st_size for path in paths):
        assert time.monotonic() < until, f"{paths} did not appear"
        time.sleep(0.1)


def test_torchrun_starts_the_processes_and_usr1_makes_them_save_and_requeues_the_job(tmp_path):
    with started(tmp_path) as job:
        await_files(tmp_path / "ready-0", tmp_path / "ready-1")
        assert (tmp_path / "ready-1").read_text() == "2train --resume auto"
        job.send_signal(signal.SIGUSR1)
        assert exit_code(job) != 0
    assert (tmp_path / "saved-0").exists()
    assert (tmp_path / "saved-1").exists()
    assert (tmp_path / "asked").read_text() == f"requeue {os.getpid()}\n"


@pytest.mark.parametrize(("word", "code"), [("--short", 0), ("--fail", 1)])
def test_a_job_that_ends_or_fails_by_itself_is_not_requeued(tmp_path, word, code):
    with started(tmp_path, word) as job:
        assert exit_code(job) == code
    assert (tmp_path / "ready-0").exists()
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[("6h", 21600), ("90m", 5400), ("30min", 1800), ("1d12h", 129600), ("2h30m", 9000)],
        *[("1-12:00:00", 129600), ("06:30:05", 23405), ("1-12:00", 129600)],
    ],
)
def test_spans_of_time(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "6", "6 hours", "h", "-6h", "6h\n"])
def test_a_span_without_a_unit_is_refused(text):
    with pytest.raises(ConfigError, match="--time is"):
        seconds(text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--time", "6h"], "after two dashes"),
        (["--time", "6h", "--", "traim"], "Did you mean 'train'?"),
        (["--time", "6h", "--", "train", "--resume", "no"], "Leave --resume out"),
        (["--time", "2m", "--", "train"], "more than the 120 s"),
        (["--time", "6h", "--sbatch=x", "--", "train"], "--sbatch is 'x'"),
        (["--time", "6h", "--sbatch=--x\ntouch canary", "--", "train"], "--sbatch is"),
        (["--time", "6h", "--partition=a\nb", "--", "train"], "--partition is"),
        (["--time", "6h", "--nodes", "0", "--", "train"], "nodes"),
        (["--time", "6h", "--", "train", "--run", "a"], "sbatch was not found"),
        (["--time", "6h", "--", "train", "--run", "a", "--stepz", "3"], "Did you mean 'steps'?"),
    ],
)
def test_what_cannot_be_launched_is_refused_in_one_line(capsys, monkeypatch, words, said):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main(["launch", "slurm", *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line


def test_what_sbatch_says_is_passed_on(capsys, tmp_path, monkeypatch):
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f"#!/bin/sh\ncat > {tmp_path}/job.sh\necho Submitted batch job 7\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    words = ["launch", "slurm", "--time", "6h", "--", "train", "--run", "a"]
    assert main(words) == 0
    assert capsys.readouterr().out == "Submitted batch job 7\n"
    assert (tmp_path / "job.sh").read_text().startswith("#!/bin/bash\n#SBATCH")
    sbatch.write_text("#!/bin/sh\necho 'error: invalid partition' >&2\nexit 1\n")
    assert main(words) == 2
    assert "sbatch refused the job: error: invalid partition" in capsys.readouterr().err
