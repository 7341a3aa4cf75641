"""TensorBoard: `tensorboard/` in the run folder."""

from pathlib import Path
from typing import Any

from matey.train.trackers.records import Record, load, scalars


def package() -> Any:
    """What writes for it. Raises ConfigError where it is missing."""
    return load("torch.utils.tensorboard", "tensorboard", "TensorBoard")


class TensorBoard:
    """Writes every number of a record as a scalar, named by its kind and key."""

    def __init__(self, folder: Path, step: int) -> None:
        """Hide steps after `step` that an earlier process wrote. Raises ConfigError."""
        self.writer = package().SummaryWriter(str(folder), purge_step=step + 1)

    def __call__(self, record: Record) -> None:
        for name, value in scalars(record).items():
            self.writer.add_scalar(name, value, record["step"])
        self.writer.flush()  # for those who watch, and in case the process is killed
