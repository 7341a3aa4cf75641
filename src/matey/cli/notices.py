"""What the package has to say besides its results: each warning once, as one line on stderr."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from matey.cli import is_first


class Notices(logging.Handler):
    """Keeps each message once, in order; shows it if it is told to."""

    def __init__(self, level: int, show: bool) -> None:
        super().__init__(level)
        self.show = show
        self.messages: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        message = " ".join(record.getMessage().split())
        if message not in self.messages and self.show:
            print(f"matey: {record.levelname.lower()}: {message}", file=sys.stderr, flush=True)
        self.messages.setdefault(message)


@contextmanager
def notices(level: int = logging.WARNING, show: bool = True) -> Iterator[Notices]:
    """The package's log goes here, and nowhere else, while the block runs.

    Of several processes that torchrun started the first shows it.
    """
    logger = logging.getLogger("matey")
    before = logger.level, logger.propagate, logger.handlers
    handler = Notices(level, show and is_first())
    logger.setLevel(level)
    logger.propagate, logger.handlers = False, [handler]
    try:
        yield handler
    finally:
        logger.setLevel(before[0])
        logger.propagate, logger.handlers = before[1:]
