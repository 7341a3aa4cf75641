"""How many regions a large field is predicted in, so that no more memory is taken than is given.

What a step takes is rehearsed without data (`cost.memory`) for several numbers of regions, on the
cells that the field is cut into at first; what the process has is asked of the system.
"""

import math
import re
from dataclasses import dataclass, replace

import torch

from matey.cost.forecast import giga
from matey.cost.machine import read, return_large_blocks
from matey.cost.memory import step_memory
from matey.errors import ConfigError
from matey.fields import Field, stack_fields
from matey.nn.surrogate import Surrogate
from matey.nn.transformer import Matey
from matey.tokens.regions import by_regions, slowest
from matey.words import plural

UNITS = {"MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}
NUMBERS = (1, 4, 16, 64)  # of regions that are tried
PAGE = 4096  # bytes
GAIN = 0.95  # of the step's bytes: more regions that leave more than this gain nothing
LIBRARIES = 64 * 10**6  # bytes of programs that the first step loads and makes
# What convolutions and products take for themselves, and pages of half-empty blocks.
MARGIN = 1.1


@dataclass(frozen=True)
class Need:
    """Bytes that a rollout takes by a number of `regions`: what the process has, what a step takes
    beside that, and the frames that are kept."""

    regions: int
    process: int
    step: int
    frames: int

    @property
    def total(self) -> int:
        """The most at one time: while a step is taken, or when the frames are put together."""
        return self.process + max(self.frames + self.step, 2 * self.frames)


def limit_memory(model: Surrogate, field: Field, limit: str | int, steps: int = 1) -> Need:
    """Set `model.regions` to the fewest with which `steps` frames after a field are predicted in
    `limit` bytes (`"8GB"`): all that the process takes on a CPU. From then on the process gives
    large blocks of memory back to the system at once.

    Raises ConfigError, with the least limit that works, where none does; for a network that takes
    fields whole; and where memory is not told, as on a GPU or by other systems than Linux.
    """
    wanted = limit if isinstance(limit, int) else bytes_of(limit)
    if not isinstance(model, Matey):
        raise ConfigError(
            f"memory is {limit}, but the model is a {model.config.baseline.kind}, which takes "
            "fields whole. Leave the limit out."
        )
    if model.device.type != "cpu" or not read("/proc/self/statm"):
        raise ConfigError(
            f"memory is {limit}, which can be kept on a CPU under Linux only. Leave the limit out, "
            "or set model.regions by hand."
        )
    return_large_blocks()
    needs = []
    for count in NUMBERS:
        needs.append(need_of(model, field, steps, count))
        if needs[-1].total <= wanted:
            model.regions = count
            return needs[-1]
        if len(needs) > 1 and needs[-1].step > GAIN * needs[-2].step:
            break  # what is left is there whole
    least = min(needs, key=lambda need: need.total)
    fewer = ", or ask for fewer steps" if steps > 1 else ""
    taken, step, frames = (giga(part) for part in (least.process, least.step, least.frames))
    raise ConfigError(
        f"memory is {giga(wanted)}, and {plural(steps, 'step')} on {field.grid.shape} points take "
        f"{giga(least.total)} at least, in {plural(least.regions, 'region')}: {taken} are taken "
        f"already, {step} go to a step and {frames} to the frames. Give "
        f"{math.ceil(least.total / 1e7) / 100:.2f}GB or more{fewer}."
    )


def need_of(model: Matey, field: Field, steps: int, count: int) -> Need:
    """The bytes of so many steps after a field, in so many regions."""
    recent = slice(len(field) - model.history, None)
    history = replace(field, values=field.values[recent], times=field.times[recent])
    rows = field.grid.shape[slowest(field.grid.shape)]
    with torch.no_grad(), by_regions(min(NUMBERS[-1], rows)):
        plan = model.plan_inputs(stack_fields([history], [1.0], [field.spec.name]))
    with by_regions(count):
        memory = step_memory(model, field.spec, plan, training=False)
    frame = history.values[0].nbytes
    resident = int(read("/proc/self/statm").split()[1]) * PAGE + LIBRARIES
    return Need(count, resident, int(MARGIN * (memory.batch + memory.peak)), steps * frame)


def bytes_of(text: str) -> int:
    """The bytes of `8GB`, `512MB` or `4GiB`. Raises ConfigError for anything else."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([MG]i?B)\s*", text)
    if found is None or float(found[1]) == 0:
        raise ConfigError(f"memory is {text!r}, expected a size as 8GB, 512MB or 4GiB.")
    return int(float(found[1]) * UNITS[found[2]])
