"""Reading in several threads: those that torch may use, and only where there is much to read.

The operating system reads, and NumPy copies, while other threads run. Workers that load data have
one thread each, and read as they always do.
"""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch

LEAST = 2**20  # bytes that are worth a thread


def spread(work: Callable[[Any], object], items: Sequence[Any], size: int) -> None:
    """`work` on the items, which have so many bytes in all: in parts, one for each thread."""
    parts = shares(items, size)
    if len(parts) == 1:
        work(items)
    else:
        list(pool().map(work, parts))


def is_finite_sum(values: np.ndarray) -> bool:
    """Whether the sum of values [B ...] is finite.

    With a value that is not finite it is not, and one pass is all it takes; nor may it be with
    very large values, which only a look at each tells apart.
    """
    parts = shares(values, values.nbytes)
    if len(parts) == 1:
        return math.isfinite(torch.from_numpy(values).sum())
    # Torch's own threads would go on at full speed for a while, in the way of these.
    return all(map(math.isfinite, pool().map(total, parts)))


def total(values: np.ndarray) -> float:
    """The sum of all values, whatever becomes of it."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(values.sum())


def shares(items: Any, size: int) -> list[Any]:
    """Items of so many bytes, in as many parts as there are threads worth it."""
    count = max(1, min(torch.get_num_threads(), len(items), size // LEAST))
    return [items[first::count] for first in range(count)]


@cache
def pool() -> ThreadPoolExecutor:
    """The threads of this process."""
    return ThreadPoolExecutor(torch.get_num_threads(), "matey-read")


if hasattr(os, "register_at_fork"):  # a child has none of its parent's threads
    os.register_at_fork(after_in_child=pool.cache_clear)
