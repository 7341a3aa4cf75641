"""Records as trackers take them: numbers under flat names; and what all trackers share."""

import logging
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

from matey.errors import ConfigError

Record = dict[str, Any]
Sink = Callable[[Record], None]

LAST = ("end", "stop")  # kinds of the records that a process ends with
log = logging.getLogger("matey")


def leaves(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """What stands in nested names, as `losses/shallow_water`."""
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}/")
        else:
            yield prefix + key, value


def numbers(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers among them."""
    for name, value in leaves(record):
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value


def scalars(record: Record) -> dict[str, float]:
    """The numbers of a record by its kind and their names, as `train/loss`; not its step."""
    kind = record["kind"]
    return {f"{kind}/{name}": value for name, value in numbers(record) if name != "step"}


def load(module: str, setting: str, called: str) -> Any:
    """A tracker's package. Raises ConfigError, with the way out, where it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{setting} is true, but {called} cannot be imported ({error}). Install it: "
            f"pip install 'matey-pde[{setting}]', or leave {setting} out: metrics.jsonl has "
            "the same numbers."
        ) from error


def shortly(error: Exception) -> str:
    """An error on one line."""
    return " ".join(f"{type(error).__name__} {error}".split())[:200]


class Optional:
    """A tracker that a run does not depend on: once it fails, a warning says so, and the run goes
    on without it."""

    def __init__(self, called: str, sink: Sink) -> None:
        self.called, self.sink = called, sink

    def __call__(self, record: Record) -> None:
        try:
            self.sink(record)
        except Exception as error:  # its server, its disk, its rules for names
            log.warning(
                f"{self.called} took no record of step {record['step']}, and gets no more: "
                f"{shortly(error)}. metrics.jsonl has all of them."
            )
            self.sink = lambda record: None
