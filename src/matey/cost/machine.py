"""What this machine has: free memory, how much of it a process holds beyond what it needs, and
how fast a run goes beside what the device could do.

Torch is imported where it is needed: `matey doctor` asks too, where it may be missing.
"""

import ctypes
import re
import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from matey.config import RunConfig

if TYPE_CHECKING:
    import torch

# On a CPU a process holds more than its tensors: the C library's heap keeps what is freed in
# pieces that fit no other tensor. 1.14 to 1.55 times was measured with glibc 2.36, over schemes,
# modes and sizes (`tests/cost/test_memory.py`).
HEAP = 1.35
M_MMAP_THRESHOLD = -3  # of glibc's mallopt
# Of the matrices: large enough for the full rate, small enough to take milliseconds.
SIZES = {"cpu": 1024, "cuda": 8192}
# Of the peak in that precision, a step's typical rate on a CPU (docs/performance.md). Not measured
# on a GPU.
TYPICAL = {"float32": 0.6, "bfloat16": 0.4}
PATIENCE = 0.2  # seconds that measuring the peak may take, after a first product


def heap_share(device: str, returned: bool) -> float:
    """The memory of a process over that of its tensors, on a device; `returned` where large blocks
    go back to the system at once (`return_large_blocks`)."""
    return 1.0 if returned or not device.startswith("cpu") else HEAP


def return_large_blocks() -> None:
    """Give each freed block of a megabyte or more back to the system, where the C library can.

    A step then takes what it needs and no more, but up to half as long again, since fresh
    memory has to be mapped each time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1_000_000)


def free_memory(device: str = "cpu", processes: int = 1) -> int | None:
    """Bytes free now for each of the processes; None where the system does not say.

    On a CPU: of the machine, or within the limit of the control group, cached files included.
    """
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    available = re.search(r"^MemAvailable:\s*(\d+) kB", read("/proc/meminfo"), re.MULTILINE)
    if available is None:
        return None
    free = int(available[1]) * 1024
    group = Path("/sys/fs/cgroup")
    for folder, limit, used in (
        (group, "memory.max", "memory.current"),
        (group / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        most, now = read(folder / limit).strip(), read(folder / used).strip()
        if most.isdigit() and now.isdigit():
            statistics = read(folder / "memory.stat")
            cached = re.search(r"^(?:total_)?inactive_file (\d+)", statistics, re.MULTILINE)
            free = min(free, int(most) - int(now) + (int(cached[1]) if cached else 0))
    return max(free, 0) // processes


def read(path: str | Path) -> str:
    """The text of a file that not every system has."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def measure_peak(device: "torch.device", precision: str = "float32") -> float:
    """Operations per second of a large matrix product, with the threads that this process has.

    The best of a few, measured once for each number of threads; lower where the processor is busy
    or hot.
    """
    import torch

    return peak_with(torch.get_num_threads(), device, precision)


@cache
def peak_with(threads: int, device: "torch.device", precision: str) -> float:
    """`measure_peak` for the number of threads in use."""
    import torch

    size, dtype = SIZES[device.type], getattr(torch, precision)
    # A generator of its own: what is drawn here must not be missing from the run's numbers.
    generator = torch.Generator(device).manual_seed(0)
    first, second = torch.randn(2, size, size, device=device, dtype=dtype, generator=generator)

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
        self, device: "torch.device", config: RunConfig, first: int, processes: int = 1
    ) -> None:
        self.peak = processes * measure_peak(device, config.precision)
        self.first, self.steps = first, config.steps
        self.began = time.perf_counter()

    def record(
        self, done: int, seconds: float, windows: int, tokens: int, operations: int
    ) -> dict[str, float]:
        """Rates over some seconds of steps, and the time left at the mean pace so far, in which
        validation and checkpoints count, too."""
        pace = (time.perf_counter() - self.began) / (done - self.first)
        return {
            "windows_per_second": windows / seconds,
            "tokens_per_second": tokens / seconds,
            "flop_per_second": operations / seconds,
            "of_peak": operations / seconds / self.peak,
            "seconds_left": pace * (self.steps - done),
        }
