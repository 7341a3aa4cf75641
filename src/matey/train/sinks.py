"""Where the records of a run go: any number of sinks, each a function of one record.

metrics.jsonl   always: one object per line
tensorboard/    with `tensorboard: true`, which needs the extra matey-pde[tensorboard]
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from matey.errors import CheckpointError, ConfigError
from matey.output import append_line, to_json

Record = dict[str, Any]
Sink = Callable[[Record], None]


class JsonLines:
    """Appends each record as a line, at once: a reader follows a run while it goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, record: Record) -> None:
        append_line(self.path, to_json(record), CheckpointError)


class TensorBoard:
    """Writes every number of a record as a scalar, named by its kind and key."""

    def __init__(self, folder: Path, step: int) -> None:
        """Steps after `step` that an earlier process wrote are hidden. Raises ConfigError."""
        self.writer = summary_writer()(str(folder), purge_step=step + 1)

    def __call__(self, record: Record) -> None:
        kind, step = record["kind"], record["step"]
        for name, value in numbers(record):
            if name != "step":
                self.writer.add_scalar(f"{kind}/{name}", value, step)
        self.writer.flush()  # who looks sees all, and a process that is killed loses nothing


def numbers(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in nested names, as `losses/shallow_water`."""
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + key, value


def summary_writer() -> Any:
    """TensorBoard's writer. Raises ConfigError, with the way out, where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            f"tensorboard is true, but TensorBoard cannot be imported ({error}). Install it: "
            "pip install 'matey-pde[tensorboard]', or leave tensorboard out: metrics.jsonl has "
            "the same numbers."
        ) from error
    return SummaryWriter
