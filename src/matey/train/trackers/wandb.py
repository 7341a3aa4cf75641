"""Weights & Biases: `wandb/` in the run folder, offline unless the environment says otherwise."""

import os
from pathlib import Path
from typing import Any

from matey.errors import ConfigError
from matey.train.trackers.records import LAST, Record, load, scalars, shortly


def package() -> Any:
    """Its package. Raises ConfigError where it is missing."""
    return load("wandb", "wandb", "Weights & Biases")


class WandB:
    """Logs the numbers of records, named by their kind and key.

    Each process that goes on with a run is a run of its own there, in a group of the folder's name:
    offline ones cannot be resumed. Raises ConfigError where none can be begun.
    """

    def __init__(self, run: Path, settings: Record, step: int) -> None:
        wandb, name = package(), run.resolve().name
        try:
            self.run = wandb.init(
                dir=str(run),
                mode=os.environ.get("WANDB_MODE", "offline"),  # nothing is sent unasked
                project=os.environ.get("WANDB_PROJECT", "matey"),
                group=name,
                name=f"{name} from step {step}" if step else name,
                config=settings,
                reinit="create_new",
                settings=wandb.Settings(console="off", silent=True),
            )
        except Exception as error:
            raise ConfigError(
                f"wandb is true, but Weights & Biases cannot begin a run: {shortly(error)}. Set "
                "WANDB_MODE=offline, or leave wandb out."
            ) from error

    def __call__(self, record: Record) -> None:
        self.run.log(scalars(record), step=record["step"])
        if record["kind"] in LAST:
            self.run.finish()
