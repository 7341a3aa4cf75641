"""The kill drill: a run that is killed at random moments ends as the one that was left alone.

    python -m tests.train.drill FOLDER

trains 200 steps undisturbed, and 200 steps in processes of which 20 are ended by SIGKILL at
random moments, and compares what both leave behind, bit for bit. Prints one line of JSON.
Processes are forked from one that has imported torch, so that a life takes no seconds to begin.
Checkpoints are written slowly, so that many kills come while one is being written beside a step.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from matey.config import RunConfig
from matey.train import checkpoint, loop
from matey.train.checkpoint import folders, is_complete
from tests.files import write_shallow_water
from tests.train.tiny import tiny_run

STEPS, KILLS, EVERY = 200, 20, 3
PAUSE = 0.5  # of a step, after each of a checkpoint's three files of tensors


def config_in(folder: Path) -> RunConfig:
    """A run of tiny steps with all that is random in it."""
    path = folder / "2D_rdb_NA_NA.h5"
    if not path.exists():
        write_shallow_water(path)
    return tiny_run(
        {"water": path},
        model={"drop_path": 0.2},
        windows={"max_lead": 2},
        optim={"warmup": 5},
        steps=STEPS,
        batch=1,
        accumulate=2,
        validate_every=7,
        validate_windows=2,
        checkpoint_every=EVERY,
    )


def begin(config: RunConfig, run: Path, pause: float = 0.0) -> int:
    """A process that trains, and writes checkpoints with pauses of so many seconds; its number."""
    pid = os.fork()
    if pid == 0:
        code, save_tensors = 1, checkpoint.save_tensors

        def save_slowly(*arguments: Any) -> str:
            digest = save_tensors(*arguments)
            time.sleep(pause)
            return digest

        try:
            checkpoint.save_tensors = save_slowly
            # The forecast of a run's cost would take longer than this run.
            loop.memory_bound = lambda *arguments: 0
            loop.train(config, run, resume=True)
            code = 0
        finally:
            os._exit(code)
    return pid


def done(run: Path) -> int:
    """Steps in the newest checkpoint."""
    found = folders(run)
    return int(found[-1].name.removeprefix("step-")) if found else 0


def is_writing(run: Path) -> bool:
    """Whether a process that was killed was writing a checkpoint."""
    parts = list((run / "checkpoints").glob(".step-*.part"))
    return bool(parts) or any(not is_complete(folder) for folder in folders(run))


def logged(run: Path, pid: int) -> int:
    """The last step that a process has logged; 0 before it began."""
    try:
        lines = (run / "metrics.jsonl").read_text().splitlines()
        holder = json.loads((run / ".lock").read_text())["pid"]
        records = [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return 0
    if holder != pid:
        return 0
    last = max((i for i, r in enumerate(records) if r["kind"] == "start"), default=0)
    return max((r["step"] for r in records[last:]), default=0)


def is_running(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def drill(folder: Path, seed: int = 0) -> dict[str, object]:
    """Train with and without kills; how often the run was killed, and which files differ."""
    config, rng = config_in(folder), random.Random(seed)
    whole, killed = folder / "whole", folder / "killed"
    began = time.perf_counter()
    os.waitpid(begin(config, whole), 0)
    per_step = (time.perf_counter() - began) / STEPS

    kills, steps_at_kill, while_writing = 0, [], 0
    while kills < KILLS:
        pid, first = begin(config, killed, PAUSE * per_step), done(killed)
        # A quarter of them while it prepares, the others within its share of what is left.
        share = (STEPS - first) / (KILLS - kills + 1)
        target = first + rng.uniform(0, 1.5 * share) if rng.random() < 0.75 else -1
        while logged(killed, pid) < target and is_running(pid):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, per_step if target > 0 else 0.3))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            break
        kills += 1
        while_writing += is_writing(killed)
        steps_at_kill.append(done(killed))
    _, status = os.waitpid(begin(config, killed), 0)

    last = Path(f"checkpoints/step-{STEPS:08d}")
    files = [*(last / path.name for path in (whole / last).iterdir())]
    files += [Path(f"{kind}/{name}") for kind in ("model", "best") for name in MODEL]
    return {
        "kills": kills,
        "while_writing": while_writing,
        "steps_at_kill": steps_at_kill,
        "ended_well": os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0,
        "different": [str(f) for f in files if not same(whole / f, killed / f)],
        "left_behind": [
            p.name for folder in (killed, (killed / last).parent) for p in folder.glob(".*")
        ],
        "same_losses": losses(whole) == losses(killed),
    }


MODEL = ("model.safetensors", "config.json")


def same(one: Path, other: Path) -> bool:
    return other.is_file() and one.read_bytes() == other.read_bytes()


def losses(run: Path) -> dict[tuple[str, int], object]:
    """What was logged last of each step: steps after a checkpoint stand twice after a kill."""
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {(r["kind"], r["step"]): r["losses"] for r in records if r["kind"] == "train"}


if __name__ == "__main__":
    print(json.dumps(drill(Path(sys.argv[1]))))
