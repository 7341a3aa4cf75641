"""Named errors for everything a user can get wrong.

Each message is one line: what was found, what was expected, and the way out.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class MateyError(Exception):
    """Base of every error that a user can cause and fix."""


class ConfigError(MateyError):
    """A setting is unknown, of the wrong type, or out of range."""


class ShapeError(MateyError):
    """An array's shape does not fit what it is used for."""


class DataError(MateyError):
    """A file cannot be read, or its data must not be trained on."""


class CheckpointError(MateyError):
    """A checkpoint or model folder is missing, damaged or does not fit."""


class ProcessError(MateyError):
    """Another process of the run has failed, ended, or does not answer."""


class DivergenceError(MateyError):
    """A loss, a gradient or a prediction stopped being finite."""


class StoppedError(MateyError):
    """A signal stopped a command in good order. A run resumes as if it had never stopped."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


def nearest(name: str, valid: Iterable[str]) -> str:
    """The end of an error about an unknown name: the closest valid one, or all of them."""
    names = sorted(valid)
    close = closest(name, names)
    if close:
        return f"Did you mean {close!r}?"
    return f"Known: {', '.join(names)}."


def closest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name of which `name` is probably a misspelling, if any."""
    return next(iter(get_close_matches(name, sorted(valid), n=1, cutoff=0.6)), None)
