"""How fast a run goes, beside what its device could do, and how long it will still take."""

import time
from functools import cache

import torch

from matey.config import RunConfig

# Of the matrices: large enough for the full rate, small enough to take milliseconds.
SIZES = {"cpu": 1024, "cuda": 8192}
# Of the peak in that precision, a step's typical rate on a CPU (docs/performance.md). Not measured
# on a GPU.
TYPICAL = {"float32": 0.6, "bfloat16": 0.4}
PATIENCE = 0.2  # seconds that measuring the peak may take, after a first product


def measure_peak(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """Operations per second of a large matrix product, with the threads that this process has.

    It is the best of a few, measured once for each number of threads.
    What a step achieves is given as a fraction of it. A processor that is busy or hot when
    this is measured shows a lower one.
    """
    return peak_with(torch.get_num_threads(), device, dtype)


@cache
def peak_with(threads: int, device: torch.device, dtype: torch.dtype) -> float:
    """The same with so many threads."""
    torch.set_num_threads(threads)
    size = SIZES[device.type]
    # A generator of its own: what is drawn here must not be missing from the run's numbers.
    own = torch.Generator(device).manual_seed(0)
    first, second = torch.randn(2, size, size, device=device, dtype=dtype, generator=own)

    def product() -> float:
        began = time.perf_counter()
        torch.mm(first, second)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    product()  # the first one loads the library
    best, until = product(), time.perf_counter() + PATIENCE
    for _ in range(9):
        if time.perf_counter() > until:
            break
        best = min(best, product())
    return 2 * size**3 / best


class Speedometer:
    """The rate of a run from one logged line to the next, and the time that is left.

    `peak` is in operations per second, in the precision of the run, of all its processes;
    `first` is the number of steps done before.
    """

    def __init__(
        self, device: torch.device, config: RunConfig, first: int, processes: int = 1
    ) -> None:
        self.peak = processes * measure_peak(device, getattr(torch, config.precision))
        self.first, self.steps = first, config.steps
        self.began = time.perf_counter()

    def record(
        self, done: int, seconds: float, windows: int, tokens: int, operations: int
    ) -> dict[str, float]:
        """Rates of what was done in so many seconds of steps.

        Time left is that of the steps to come at the mean pace so far: there, unlike in the
        rates, validation and checkpoints count.
        """
        pace = (time.perf_counter() - self.began) / (done - self.first)
        return {
            "windows_per_second": windows / seconds,
            "tokens_per_second": tokens / seconds,
            "flop_per_second": operations / seconds,
            "of_peak": operations / seconds / self.peak,
            "seconds_left": pace * (self.steps - done),
        }
