"""How many windows a second are read from files."""

import time
from dataclasses import dataclass
from itertools import count

from matey.config import WindowConfig
from matey.data.mixture import Mixture
from matey.data.reader import Fields
from matey.data.windows import Windows

HISTORY = 4  # frames of the windows that are timed, fewer in shorter trajectories
BATCH = 8


@dataclass(frozen=True)
class Rate:
    """Windows per second, and what they were: batches of one system at lead 1."""

    windows_per_second: float
    history: int


def read_rate(fields: Fields, seconds: float = 1.0) -> Rate | None:
    """Time random batches of a system's windows for so long, after one that opens the files.

    None where every trajectory is a single frame. What the operating system keeps of a file
    in memory is not read from disk again: compare files in the same state.
    """
    frames = max(len(trajectory.times) for trajectory in fields.trajectories)
    if frames < 2:
        return None
    config = WindowConfig(history=min(HISTORY, frames - 1))
    everything = Windows(fields, range(len(fields)), config)
    mixture = Mixture({fields.spec.name: everything}, BATCH, seed=0)
    mixture[0]
    began = time.perf_counter()
    for index in count(1):
        mixture[index]
        elapsed = time.perf_counter() - began
        if elapsed > seconds:
            return Rate(BATCH * index / elapsed, config.history)
    raise AssertionError("unreachable")
