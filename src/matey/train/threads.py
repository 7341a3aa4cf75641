"""The number of threads that a run computes with on a CPU: measured on real steps, then kept.

Where other work shares the cores, more threads can be slower: each operation ends with its slowest
thread. Results do not depend on their number beyond rounding.
"""

import math
import os
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from matey.config import RunConfig
from matey.cost.machine import read
from matey.train.parallel.distributed import Team

TURNS = 3  # timed steps with each number of threads, after one that is not timed
SHARE = 0.03  # of the steps of a run, that measuring may add
FAR = 1.5  # times the fastest step: where a step takes longer, still fewer threads are not tried
EVEN = 0.95  # of the seconds with fewer threads, that more threads may take at most


@dataclass(frozen=True)
class Threads:
    """A number of threads, the reason, and the seconds of a step by number where measured."""

    number: int
    reason: str
    step_seconds: dict[int, float] = field(default_factory=dict)


@contextmanager
def threads_put_back() -> Iterator[None]:
    """Leave torch with as many threads as it had before the block."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def stay_within_cores() -> None:
    """Use no more threads than cores: torch does not heed a limit of CPU time."""
    torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))


def choose_threads(
    config: RunConfig, team: Team, step: Callable[[], object], steps: int, before: int | None
) -> Threads | None:
    """Choose the number of threads for the `steps` to come, and set it; None on a GPU.

    `step` does one step of training without updating anything. A run that goes on keeps the number
    `before`, so that its results are the same to the bit.
    """
    if team.device.type != "cpu":
        return None
    most = min(torch.get_num_threads(), usable_cores())
    if config.threads != "auto":
        choice = Threads(config.threads, "as asked for")
    elif team.size > 1:
        choice = Threads(max(1, usable_cores() // team.neighbours), "a share of the cores")
    elif before is not None:
        choice = Threads(before, "as the run began")
    elif "OMP_NUM_THREADS" in os.environ:
        choice = Threads(torch.get_num_threads(), "by OMP_NUM_THREADS")
    elif most == 1:
        choice = Threads(1, "there is one to use")
    elif config.compile or steps * SHARE < len(numbers_to_try(most)) * (1 + TURNS):
        choice = Threads(free_threads(most), "by the load of the machine")
    else:
        choice = fastest(step, numbers_to_try(most))
    torch.set_num_threads(choice.number)
    return choice


def fastest(step: Callable[[], object], numbers: Sequence[int]) -> Threads:
    """The number of threads with the fastest step, by the median of a few that are timed in turns,
    so that what disturbs the machine disturbs all numbers."""
    seconds: dict[int, list[float]] = {}
    for number in sorted(numbers, reverse=True):
        timed(step, number)  # the first one makes the threads
        seconds[number] = [timed(step, number)]
        if seconds[number][0] > FAR * min(first for first, *_ in seconds.values()):
            break
    for turn in range(1, TURNS):
        for number in sorted(seconds, reverse=turn % 2 == 0):
            seconds[number].append(timed(step, number))
    medians = {number: statistics.median(seconds[number]) for number in sorted(seconds)}
    best = min(medians)
    for number, median in medians.items():
        if median < EVEN * medians[best]:
            best = number
    return Threads(best, "measured", medians)


def timed(step: Callable[[], object], number: int) -> float:
    """Seconds of a step with a number of threads."""
    torch.set_num_threads(number)
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def numbers_to_try(most: int) -> list[int]:
    """All numbers of threads up to four, then powers of two, and the largest."""
    powers = [2**k for k in range(most.bit_length()) if 2**k > 4]
    return sorted({*range(1, min(most, 4) + 1), *powers, most})


def free_threads(most: int) -> int:
    """As many threads as the load of the last minute leaves idle."""
    busy = os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else 0.0
    return max(1, round(most * (1 - busy)))


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that this process may use at once: those it is bound to, within the CPU time of its
    control group."""
    bound = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if bound else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, cpu_limit(root))))


def cpu_limit(root: Path) -> float:
    """Seconds of CPU time per second that the control groups of this process allow, or infinity."""
    limit = math.inf
    groups = read(root / "proc/self/cgroup")
    for controllers, path in re.findall(r"^\d+:([^:]*):/?(.*)$", groups, re.MULTILINE):
        tree = root / "sys/fs/cgroup" / (controllers and "cpu")
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Within a container the path may be that of the host: a missing file sets no limit.
        for group in (tree / path, *(tree / path).parents):
            if not group.is_relative_to(tree):
                break
            quota = read(group / "cpu.max").split() or [
                read(group / "cpu.cfs_quota_us").strip(),
                read(group / "cpu.cfs_period_us").strip(),
            ]
            if all(number.isdigit() and int(number) for number in quota):
                limit = min(limit, int(quota[0]) / int(quota[1]))
    return limit
