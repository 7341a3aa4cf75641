"""The recipe of the pretrained model, at a size of minutes: same bits, also after kills."""

import json
import os
import random
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from matey.cli import main
from matey.train.checkpoint import folders

RECIPE = Path(__file__).parents[1] / "examples" / "pretrain-mini"
STEPS = 18
SETS = ["shallow_water", "bubbles"]
SMALL = [
    *("--model.embed_dim", "16", "--model.heads", "2", "--model.depth", "1"),
    *("--model.local", "8", "--batch", "2", "--mixture.batch", "{}", "--mixture.shares", "{}"),
]
TRIAL = ["--share", "0.01", "--points", "16", "--sets", *SETS]
SHORT = [
    *("--steps", str(STEPS), "--checkpoint_every", "3"),
    *("--validate_every", "0", "--log_every", "1"),
]


def play(command: list[str], ask=subprocess.run, **options):
    """`python -m matey ...` by this process, which has imported torch; other programs as ever."""
    if command[:3] != [sys.executable, "-m", "matey"]:
        return ask(command, **options)
    assert main(command[3:]) == 0
    return None


def run(script: str, *words: str) -> None:
    """Run a script of the recipe in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *words])
        patch.setattr(subprocess, "run", play)
        runpy.run_path(str(RECIPE / script), run_name="__main__")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mini") / "corpus"
    words = [sys.executable, str(RECIPE / "corpus.py"), str(folder), *TRIAL, "--jobs", "2"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "6 trajectories, about" in done.stdout.split("Wrote")[0]
    return folder


def training(corpus: Path, folder: Path) -> list[str]:
    config, mix = str(RECIPE / "pretrain.yaml"), str(corpus / "mix.yaml")
    words = ["train", "--config", config, "--data", mix, "--run", str(folder)]
    return [*words, *SMALL, *SHORT, "--resume", "auto"]


def bits(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_the_corpus_is_the_same_whatever_the_number_of_processes(corpus, tmp_path):
    words = [*TRIAL, "--jobs", "1"]
    run("corpus.py", str(tmp_path / "again"), *words)
    one, other = bits(corpus), bits(tmp_path / "again")
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*.hdf5")}
    run("corpus.py", str(corpus), *words)  # nothing is made again
    assert before == {path: path.stat().st_mtime_ns for path in corpus.rglob("*.hdf5")}


@pytest.mark.slow
def test_killed_pretraining_ends_with_the_same_bits(corpus, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(training(corpus, whole)) == 0
    rng = random.Random(0)
    for target in (rng.randint(1, 7), rng.randint(8, 16)):
        life = subprocess.Popen(
            [sys.executable, "-m", "matey", *training(corpus, killed)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while steps_of(killed) < target and life.poll() is None:
            time.sleep(0.01)
        assert life.poll() is None
        life.send_signal(signal.SIGKILL)
        life.wait()
    assert 0 < int(folders(killed)[-1].name.removeprefix("step-")) < STEPS
    assert main(training(corpus, killed)) == 0
    last = Path(f"checkpoints/step-{STEPS:08d}")
    assert bits(whole / last) == bits(killed / last)
    for name in ("model.safetensors", "config.json"):
        assert (whole / "model" / name).read_bytes() == (killed / "model" / name).read_bytes()

    # A decay leaves the run as it is, and is the same whichever it left.
    before = bits(whole)
    for trunk in (whole, killed):
        run("decay.py", str(trunk), str(trunk.with_name(f"{trunk.name}-decayed")))
    assert bits(whole) == before
    name = "model/model.safetensors"
    decayed = (tmp_path / "whole-decayed" / name).read_bytes()
    assert decayed == (tmp_path / "killed-decayed" / name).read_bytes()
    assert decayed != (whole / name).read_bytes()


def steps_of(folder: Path) -> int:
    """The last step that a run has logged."""
    try:
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    except (OSError, ValueError):
        return 0
    return max((record["step"] for record in records), default=0)
