"""How much memory is free here, and how much of it a process holds beyond what it needs.

Imports nothing heavy: `matey doctor` asks too.
"""

import ctypes
import re
import sys
from pathlib import Path

# On a CPU a process holds more than its tensors: the C library's heap keeps what is freed in
# pieces that fit no other tensor. 1.14 to 1.55 times was measured with glibc 2.36, over schemes,
# modes and sizes (`tests/nn/test_memory.py`).
HEAP = 1.35
M_MMAP_THRESHOLD = -3  # of glibc's mallopt


def heap_share(device: str, returned: bool) -> float:
    """How much more than its tensors a process holds on a device, as a factor.

    `returned`: whether large blocks go back to the system at once (`return_large_blocks`).
    """
    return 1.0 if returned or not device.startswith("cpu") else HEAP


def return_large_blocks() -> None:
    """Give each freed block of a megabyte or more back to the system, where the C library can.

    A step then takes what it needs and no more, but up to half as long again, since fresh
    memory has to be mapped each time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1_000_000)


def free_memory(device: str = "cpu") -> int | None:
    """Bytes that could be used now on a device; None where the system does not say.

    On a CPU what the machine has left, and no more than the control group's limit, of which
    cached files are not counted as used.
    """
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    available = re.search(r"^MemAvailable:\s*(\d+) kB", read("/proc/meminfo"), re.MULTILINE)
    if available is None:
        return None
    free = int(available[1]) * 1024
    group = Path("/sys/fs/cgroup")
    for limit, used, cache in (
        (group / "memory.max", group / "memory.current", group / "memory.stat"),
        (
            group / "memory/memory.limit_in_bytes",
            group / "memory/memory.usage_in_bytes",
            group / "memory/memory.stat",
        ),
    ):
        most, now = read(limit).strip(), read(used).strip()
        if most.isdigit() and now.isdigit():
            cached = re.search(r"^(?:total_)?inactive_file (\d+)", read(cache), re.MULTILINE)
            free = min(free, int(most) - int(now) + (int(cached[1]) if cached else 0))
    return max(free, 0)


def read(path: str | Path) -> str:
    """The text of a file that not every system has."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
