"""How much memory is free here. Imports nothing heavy: `matey doctor` asks too."""

import re
from pathlib import Path


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
