"""`matey demo`: the whole tool in one go, as the commands a user would type."""

import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from matey.cli import Command, dispatch

if TYPE_CHECKING:
    from pathlib import Path


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
    "full": Scale(32, 8, 64, 21, 251, 1000, 2000, 10, 96),
    "smoke": Scale(4, 4, 32, 8, 8, 6, 4, 2, 4),
}

PRETRAIN = """\
model:
  embed_dim: 96
  heads: 3
  depth: 4
  scheme: svit
  mode: adap_mix
  patches: [8, 4]
  refine:
    threshold: 0.3
  latent_channels: 8
windows:
  history: 2
optim:
  lr: 3e-3
  warmup: 30
batch: 4
"""

FINETUNE = """\
windows:
  roll: true
  pushforward: 1
optim:
  lr: 4e-3
  warmup: 20
batch: 2
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
    parser.add_argument("--scale", type=Literal["full", "smoke"], default="full", help="how much")
    parser.add_argument("--out", default="demo", help="the folder to write")
    parser.add_argument(
        "--again", action="store_true", help="replace the folder, if a demo wrote it"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the data and the training")
    parser.add_argument(
        "--device", type=Literal["auto", "cpu", "cuda"], default="auto", help="where to compute"
    )


def run(options: Any) -> int:
    """Simulate two systems and the thermals, pretrain, fine-tune on one trajectory, score."""
    from pathlib import Path

    from matey.cli.console import console
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
    common = f"--seed {options.seed} --device {options.device}"
    for command in commands(SCALES[options.scale], shlex.quote(str(out)), common):
        console.print(f"\n$ matey {command}", style="bold", highlight=False, soft_wrap=True)
        code = dispatch(shlex.split(command))
        if code:
            console.print(f"\nThe demo stops here: `matey {command.split()[0]}` gave {code}.")
            return code
    seconds = time.monotonic() - began
    console.print(f"\nAll done in {seconds:.0f} s. Open {out}/report.html in a browser.")
    return 0


def clear(out: "Path") -> None:
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


def commands(scale: Scale, out: str, common: str) -> list[str]:
    """The commands of the demo, in order."""
    made = {
        "shallow_water": (scale.trajectories, scale.frames),
        "diffusion_reaction": (scale.trajectories, scale.frames),
        "thermals": (scale.thermals, scale.thermals_frames),
    }
    rollouts = f"--rollout {scale.rollout} --windows {scale.windows}"
    return [
        *(
            f"simulate {name} --out {out}/data/{name} --trajectories {count} --steps {frames}"
            f" --resolution {scale.resolution} {common}"
            for name, (count, frames) in made.items()
        ),
        f"data inspect {out}/data",
        f"train --config {out}/pretrain.yaml --data {out}/mix.yaml --run {out}/pretrained"
        f" --steps {scale.pretrain} {common}",
        f"finetune {out}/pretrained --config {out}/finetune.yaml --data {out}/thermals.yaml"
        f" --trajectories 1 --run {out}/finetuned --steps {scale.finetune} {common}",
        f"evaluate {out}/pretrained --data {out}/mix.yaml {rollouts}"
        f" --out {out}/results/pretrained {common}",
        f"evaluate {out}/finetuned --data {out}/thermals.yaml {rollouts}"
        f" --out {out}/results/finetuned {common}",
        f"report {out}/pretrained {out}/finetuned {out}/results/pretrained"
        f" {out}/results/finetuned --out {out}/report.html",
    ]


COMMANDS = {
    "": Command(
        "simulate, pretrain, fine-tune, score and report: everything, in minutes",
        "matey demo --out demo",
        add_arguments,
        run,
    )
}
