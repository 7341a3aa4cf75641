"""SIGTERM, SIGINT and SIGUSR1: a run ends in good order, and the exit code says by which.

Before the first step a signal ends the run at once: there is nothing to lose. After that the step
is finished and saved, and a validation left for when the run goes on. Further signals do nothing.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from matey.errors import StoppedError

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Stop:
    """Whether a signal asked the run to end: `received` is its number, 0 if none did.

    Once `deferred`, signals are only noted.
    """

    def __init__(self) -> None:
        self.received = 0
        self.deferred = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note a signal, or end the run at once."""
        self.received = self.received or number
        if not self.deferred:
            raise stopped(number, "before the first step. Nothing was lost")


def stopped(number: int, where: str) -> StoppedError:
    """The error that ends a run."""
    return StoppedError(
        f"{signal.Signals(number).name}: stopped {where}. Go on with --resume auto.", number
    )


@contextmanager
def heeding_signals() -> Iterator[Stop]:
    """Heed signals while the block runs, in the main thread only: Python allows no other."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.handle) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
