"""Takes a model from a run whose learning rate is still high: a copy goes on, with a decay.

    python examples/pretrain-mini/decay.py runs/trunk runs/mini

The last fifth of all steps of the copy lowers the rate to a hundredth, and learns from rollouts of
up to four frames. The run itself stays as it is, and can go on. A decay that was stopped goes on
when the same command is given again.
"""

import argparse
import math
import shutil
import subprocess
import sys
from pathlib import Path

from matey.errors import ConfigError
from matey.output import replacing
from matey.train import checkpoint

SHARE = 0.2  # of all steps: windows.end_share of pretrain.yaml, too


def main() -> None:
    """Copy a run where it is, and train the copy to the end of its decay."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("trunk", type=Path)
    parser.add_argument("run", type=Path)
    options = parser.parse_args()
    if not options.run.exists():
        with replacing(options.run, ConfigError) as temporary:
            shutil.copytree(options.trunk, temporary, ignore=shutil.ignore_patterns(".lock"))
    steps = math.ceil(begun(options.trunk, options.run) / (1 - SHARE))
    change = f"--steps {steps} --optim.schedule wsd --optim.decay {SHARE} --validate_every 0"
    config = options.run / "config.yaml"
    command = f"train --config {config} --run {options.run} --resume auto {change}"
    subprocess.run([sys.executable, "-m", "matey", *command.split()], check=True)  # noqa: S603


def begun(trunk: Path, run: Path) -> int:
    """The step at which the copy left the run, kept beside its checkpoints."""
    note = run / "decay_from"
    if not note.exists():
        newest = checkpoint.newest(run)
        if newest is None:
            sys.exit(f"{trunk} has no checkpoint yet.")
        note.write_text(str(newest[1].progress.step))
    return int(note.read_text())


if __name__ == "__main__":
    main()
