"""Two processes or more that meet as those of torchrun do, each running the same function."""

import faulthandler
import multiprocessing
import os
import re
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

# Torch is imported once, in a process without threads that the others are forked from.
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.train.works", "tests.train.parallel.many"])


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (negative: a signal), and what it printed."""

    code: int | None
    said: str


class Pair:
    """Processes that run `work(*args)`, started when made."""

    def __init__(self, folder: Path, work: Callable, *args, size: int = 2) -> None:
        folder.mkdir(exist_ok=True)
        self.logs = [folder / f"rank{rank}.txt" for rank in range(size)]
        port = free_port()
        self.processes: list[BaseProcess] = [
            context.Process(target=run_rank, args=(rank, size, port, log, work, args))
            for rank, log in enumerate(self.logs)
        ]
        for process in self.processes:
            process.start()

    def wait_for(self, rank: int, text: str, seconds: float = 60) -> None:
        """Until a process has printed a text."""
        end = time.monotonic() + seconds
        while not (self.logs[rank].exists() and text in self.logs[rank].read_text()):
            assert time.monotonic() < end, f"process {rank} never said {text!r}: {self.said()}"
            assert self.processes[rank].is_alive(), self.said()
            time.sleep(0.05)

    def said(self) -> list[str]:
        return [log.read_text() if log.exists() else "" for log in self.logs]

    def finish(self, seconds: float = 120, awaited: int = 2) -> list[Ended]:
        """How they end. The first `awaited` may take so long; then all are killed."""
        end = time.monotonic() + seconds
        for process in self.processes[:awaited]:
            process.join(max(0.0, end - time.monotonic()))
        codes = [process.exitcode for process in self.processes]
        for process in self.processes:
            process.kill()
            process.join()
        said = self.said()
        return [Ended(code, text) for code, text in zip(codes, said, strict=True)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_rank(rank: int, size: int, port: int, log: Path, work: Callable, args: tuple) -> None:
    output = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    faulthandler.enable(2)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    os.environ |= {key: str(value) for key, value in (places | ranks).items()}
    import torch

    torch.set_num_threads(1)
    try:
        code = work(*args)
    except Exception:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    os._exit(code or 0)


def one_line(said: str) -> str:
    """The error that a command ended with."""
    found = re.findall(r"^matey: error.*$", said, re.MULTILINE)
    assert len(found) == 1, said
    return found[0]
