"""Which process of a run has failed, ended or hangs, when the others cannot go on.

A thread in each process writes once a second to the store that all share that the process lives,
and where its work is. Failures are written there, too.
"""

import itertools
import logging
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

import matey
from matey.errors import MateyError, ProcessError

log = logging.getLogger("matey")

INTERVAL = 1.0  # seconds between beats
PATIENCE = 3  # beats missed before a process counts as silent
PACKAGE = str(Path(matey.__file__).parent)


class Heartbeat:
    """Beats while it is entered, and tells the others of an error that leaves it.

    `store` is shared by all `size` processes, which wait for each other for `timeout` seconds.
    Raises ProcessError, naming the other process, in place of torch's error when one is gone.
    """

    def __init__(self, store: dist.Store, rank: int, size: int, timeout: float) -> None:
        self.store, self.rank, self.size, self.timeout = store, rank, size, timeout
        self.main = threading.get_ident()
        self.over = threading.Event()
        # A client of its own: the main thread may be waiting for an answer.
        client = store.clone()  # type: ignore[attr-defined]
        self.thread = threading.Thread(target=self.beat, args=(client,), daemon=True)

    def __enter__(self) -> "Heartbeat":
        self.store.set(f"beat/{self.rank}", "0 start")
        self.thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        explained = self.explain(error) if isinstance(error, RuntimeError) else None
        if error is not None:
            self.tell(explained or error)
        self.over.set()
        self.thread.join(INTERVAL)
        if explained is not None:
            raise explained from error

    def tell(self, error: BaseException) -> None:
        """Tell the others why this process ends."""
        what = str(error) if isinstance(error, MateyError) else f"{type(error).__name__}: {error}"
        try:
            self.store.set(f"failed/{self.rank}", " ".join(what.split()))
        except RuntimeError:  # the store went with the process that kept it
            log.debug("The store is gone: the other processes are not told.")

    def beat(self, store: dist.Store) -> None:
        """Report that this process lives, and watch the next one."""
        store.set_timeout(timedelta(seconds=10 * INTERVAL))
        following = (self.rank + 1) % self.size
        heard, since, warned = "", time.monotonic(), False
        for count in itertools.count(1):
            if self.over.wait(INTERVAL):
                return
            try:
                store.set(f"beat/{self.rank}", f"{count} {whereabouts(self.main)}")
                now = look(store, f"beat/{following}")
            except RuntimeError:
                return
            if now != heard:
                heard, since, warned = now, time.monotonic(), False
            elif not warned and time.monotonic() - since > self.timeout / 2:
                warned = True
                silent, place = time.monotonic() - since, heard.partition(" ")[2]
                message = "Process %d has not been heard of for %.0f s; it was at %s."
                log.warning(message, following, silent, place)

    def explain(self, error: RuntimeError) -> ProcessError | None:
        """What happened to another process, if that caused the error here."""
        others = [rank for rank in range(self.size) if rank != self.rank]
        try:
            self.store.set_timeout(timedelta(seconds=10 * INTERVAL))
            before = {rank: look(self.store, f"beat/{rank}") for rank in others}
            for _ in range(PATIENCE):
                for rank in others:
                    failure = look(self.store, f"failed/{rank}")
                    if failure:
                        return ProcessError(f"Process {rank} of {self.size} failed: {failure}")
                time.sleep(INTERVAL)
            after = {rank: look(self.store, f"beat/{rank}") for rank in others}
        except RuntimeError:
            return ProcessError(
                f"Process 0 of {self.size}, or torchrun, has ended: the others cannot meet. Look "
                "for its last message, and go on with --resume auto."
            )
        silent = [rank for rank in others if after[rank] == before[rank]]
        if silent:
            last = "; ".join(f"process {r} was at {after[r].partition(' ')[2]}" for r in silent)
            return ProcessError(
                f"Process {', '.join(map(str, silent))} of {self.size} does not answer: it was "
                f"killed or stopped, or its machine is gone ({last}). Nothing was updated since. "
                "Is memory short? Go on with --resume auto."
            )
        if isinstance(error, dist.DistError) or "imed out" in str(error):
            places = "; ".join(f"process {r} at {after[r].partition(' ')[2]}" for r in others)
            return ProcessError(
                f"The processes did not meet within parallel.timeout = {self.timeout:g} s: "
                f"process {self.rank} waited, {places}. If that takes long for a reason, raise it."
            )
        return None


def look(store: dist.Store, key: str) -> str:
    """The value of a key in the store; empty without one."""
    return store.get(key).decode() if store.check([key]) else ""


def whereabouts(thread: int) -> str:
    """The innermost place of a thread in this package: `data/reader.py:30 read`."""
    frame = sys._current_frames().get(thread)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(PACKAGE):
            return f"{path[len(PACKAGE) + 1 :]}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return "its end"
