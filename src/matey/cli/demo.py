"""`matey demo`: the whole tool in one go, as the commands a user would type.

It measures the machine first. Where all of it would not end in the minutes that it may take, it
takes fewer steps, of a few choices, so that there are only a few outcomes; before each training
it chooses again, by a new measurement or by the time that the training before it took.
"""

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from matey.cli import Command, dispatch


@dataclass(frozen=True)
class Scale:
    """How much the demo does.

    `trajectories` and `frames` are of each system to pretrain on, `thermals` and
    `thermals_frames` of the thermals; `pretrain` and `finetune` are optimizer steps, `rollout`
    the steps scored from `windows` starts per system.
    """

    trajectories: int
    thermals: int
    resolution: int
    frames: int
    thermals_frames: int
    pretrain: int
    finetune: int
    rollout: int
    windows: int


SCALES = {
    "full": Scale(32, 8, 64, 21, 251, 450, 1000, 10, 96),
    "smoke": Scale(4, 4, 32, 8, 8, 6, 4, 2, 4),
}

# What is done where the full demo would take too long, most first.
FULL = SCALES["full"]
CHOICES = (
    FULL,
    replace(FULL, pretrain=250, finetune=700, windows=64),
    replace(FULL, pretrain=100, finetune=300, windows=32),
)
MARGIN = 0.85  # of the minutes: what may be planned for
PROBE_SECONDS = 0.25  # of the simulation that is timed first, on a quiet core of that machine

PRETRAIN = """\
model:
  embed_dim: 96
  heads: 3
  depth: 4
  scheme: svit
  mode: adap_mix
  patches: [16, 8]
  refine: {threshold: 0.3}
  local: 32
  levels: 3
  stencil: true
windows:
  history: 2
  flip: [x, y]
  learn_rollout: true
  pushforward_end: 4
loss: {of: log}
optim:
  lr: 2e-3
  warmup: 30
batch: 4
"""

FINETUNE = """\
model: {waves: 0}
windows:
  roll: true
  flip: [x]
  pushforward: 1
loss: {of: log}
optim:
  lr: 2e-3
  warmup: 20
  rates: {ends: 1}
  ema: 0
batch: 2
validate_every: 200
patience: 0
"""

MIX = """\
systems:
- name: shallow_water
  paths: [data/shallow_water]
- name: diffusion_reaction
  paths: [data/diffusion_reaction]
"""

THERMALS = """\
systems:
- name: thermals
  paths: [data/thermals]
split:
  test: 0.5
"""

FILES = {"pretrain": PRETRAIN, "finetune": FINETUNE, "mix": MIX, "thermals": THERMALS}


def add_arguments(parser: Any) -> None:
    from matey.cli.options import add_device

    parser.add_argument("--scale", type=Literal["full", "smoke"], default="full", help="how much")
    parser.add_argument("--out", default="demo", help="the folder to write")
    parser.add_argument(
        "--again", action="store_true", help="replace the folder, if a demo wrote it"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=10.0,
        help="in which to end, with fewer steps where the machine is slow",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the data and the training")
    add_device(parser)


def run(options: Any) -> int:
    """Simulate two systems and the thermals, pretrain, fine-tune on one trajectory, score."""
    from matey.errors import ConfigError
    from matey.output import write_text

    out = Path(options.out)
    if options.again:
        clear(out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"{out} is not empty. Remove it, or choose another with --out.")
    for name, text in FILES.items():
        write_text(out / f"{name}.yaml", text, ConfigError)
    began = time.monotonic()
    until = began + 60 * options.minutes * MARGIN
    common = f"--seed {options.seed} --device {options.device}"
    scale, pace, planned = SCALES[options.scale], 1.0, options.scale == "full"
    if planned:
        pace = measure_pace()
        scale = plan(pace, until - time.monotonic(), "simulate")
        say(forecast(scale, pace))
    for stage in STAGES:
        if stage in ("train", "finetune") and planned:
            if stage == "train":
                pace = measure_pace()
            scale = replan(scale, pace, until - time.monotonic(), stage)
        before = time.monotonic()
        made = commands(scale, shlex.quote(str(out)), common)[stage]
        for code in run_stage(stage, made, several=planned):
            if code:
                say(f"The demo stops here: `matey {made[0].split()[0]}` gave {code}.")
                return code
        if stage == "train":
            pace = (time.monotonic() - before) / reference(scale)["train"]
    if planned and scale != FULL:
        say("Fewer steps were done than for the README's table: the scores are not those.")
    say(f"All done in {time.monotonic() - began:.0f} s. Open {out}/report.html in a browser.")
    return 0


def say(text: str) -> None:
    """Print a paragraph."""
    from matey.cli import console

    console.say(f"\n{text}")


def measure_pace() -> float:
    """Time a small simulation, relative to the README's machine: 2 is twice as slow."""
    from statistics import median

    from matey.simulate import simulate

    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        simulate("shallow_water", trajectories=8, resolution=64, steps=21, frames=9, seed=0)
        seconds.append(time.perf_counter() - began)
    return median(seconds[1:]) / PROBE_SECONDS


def reference(scale: Scale) -> dict[str, float]:
    """Seconds of each stage on one quiet core of the README's machine."""
    return {
        "simulate": 7.0,
        "inspect": 2.0,
        "train": 6.0 + 0.11 * scale.pretrain,
        "simulate thermals": 14.0,
        "finetune": 6.0 + 0.11 * scale.finetune,
        "evaluate": 0.33 * scale.windows,
        "report": 8.0,
    }


def seconds_from(stage: str, scale: Scale) -> float:
    """Seconds of a stage and all that follow, on the same core."""
    return sum(reference(scale)[name] for name in STAGES[STAGES.index(stage) :])


def plan(pace: float, left: float, stage: str) -> Scale:
    """The largest choice that ends in the seconds left, from a stage on; else the smallest."""
    fitting = (choice for choice in CHOICES if pace * seconds_from(stage, choice) <= left)
    return next(fitting, CHOICES[-1])


def replan(scale: Scale, pace: float, left: float, stage: str) -> Scale:
    """Choose again before a training, and say so if the choice changes."""
    new = plan(pace, left, stage)
    if stage == "finetune":
        new = replace(new, pretrain=scale.pretrain)  # which is done
    if new != scale:
        say(
            f"Planned again: {new.pretrain} steps of pretraining, {new.finetune} of fine-tuning; "
            f"about {minutes(pace * seconds_from(stage, new))} more."
        )
    return new


def forecast(scale: Scale, pace: float) -> str:
    """Sentences on the speed of this machine and the time the demo will take."""
    text = (
        f"This machine takes {pace:.1f} times as long as a quiet core of the README's machine: the "
        f"demo takes about {minutes(pace * seconds_from('simulate', scale))}."
    )
    if scale == FULL:
        return text
    return (
        f"{text} For that it does {scale.pretrain} steps of pretraining and {scale.finetune} of "
        f"fine-tuning instead of {FULL.pretrain} and {FULL.finetune}: the scores differ from the "
        "README's. For all steps give it longer: matey demo --minutes 60."
    )


def minutes(seconds: float) -> str:
    """A time in minutes, rounded up."""
    whole = max(1, -int(-seconds // 60))
    return f"{whole} minute{'s' if whole > 1 else ''}"


def run_stage(stage: str, made: Sequence[str], several: bool) -> list[int]:
    """Run the commands of a stage up to the first that fails, and return its exit code.

    The two simulations run as two processes where there are `several` cores to use.
    """
    from matey.cli.console import console
    from matey.train.threads import usable_cores

    beside = several and stage == "simulate" and usable_cores() > 1
    for command in made:
        console.print(f"\n$ matey {command}", style="bold", highlight=False, soft_wrap=True)
        if not beside and (code := dispatch(shlex.split(command))):
            return [code]
    return side_by_side(made) if beside else []


def side_by_side(made: Sequence[str]) -> list[int]:
    """Run commands at the same time, one process each, and return their exit codes."""
    started = [
        subprocess.Popen([sys.executable, "-m", "matey", *shlex.split(command)])  # noqa: S603
        for command in made
    ]
    try:
        return [process.wait() for process in started]
    finally:
        for process in started:
            process.terminate()


def clear(out: Path) -> None:
    """Remove what an earlier demo wrote, and nothing else.

    Raises ConfigError for a folder that holds something of another origin.
    """
    import shutil

    from matey.errors import ConfigError

    if not out.is_dir() or not any(out.iterdir()):
        return
    ours = {*(f"{name}.yaml" for name in FILES), "data", "pretrained", "finetuned", "results"}
    other = sorted(path.name for path in out.iterdir() if path.name not in {*ours, "report.html"})
    if other or not all((out / f"{name}.yaml").is_file() for name in FILES):
        raise ConfigError(
            f"{out} holds {', '.join(other) or 'no demo'}, which no demo wrote: it is left as it "
            "is. Remove it, or choose another with --out."
        )
    shutil.rmtree(out)


STAGES = ("simulate", "inspect", "train", "simulate thermals", "finetune", "evaluate", "report")


def commands(scale: Scale, out: str, common: str) -> dict[str, list[str]]:
    """The commands of the demo by stage, in order."""

    def simulation(name: str, count: int, frames: int) -> str:
        return (
            f"simulate {name} --out {out}/data/{name} --trajectories {count} --steps {frames}"
            f" --resolution {scale.resolution} {common}"
        )

    rollouts = f"--rollout {scale.rollout} --windows {scale.windows}"
    return {
        # Seconds of work, in which other processes would hardly have begun.
        "simulate": [
            simulation(name, scale.trajectories, scale.frames) + " --jobs 1"
            for name in ("shallow_water", "diffusion_reaction")
        ],
        "inspect": [f"data inspect {out}/data"],
        "train": [
            f"train --config {out}/pretrain.yaml --data {out}/mix.yaml --run {out}/pretrained"
            f" --steps {scale.pretrain} {common}"
        ],
        "simulate thermals": [simulation("thermals", scale.thermals, scale.thermals_frames)],
        "finetune": [
            f"finetune {out}/pretrained --config {out}/finetune.yaml --data {out}/thermals.yaml"
            f" --trajectories 1 --run {out}/finetuned --steps {scale.finetune} {common}"
        ],
        "evaluate": [
            f"evaluate {out}/pretrained --data {out}/mix.yaml {rollouts}"
            f" --out {out}/results/pretrained {common}",
            f"evaluate {out}/finetuned --data {out}/thermals.yaml {rollouts}"
            f" --out {out}/results/finetuned {common}",
        ],
        "report": [
            f"report {out}/pretrained {out}/finetuned {out}/results/pretrained"
            f" {out}/results/finetuned --out {out}/report.html"
        ],
    }


COMMANDS = {
    "": Command(
        "simulate, pretrain, fine-tune, score and report: everything, in minutes",
        "matey demo --out demo",
        add_arguments,
        run,
    )
}
