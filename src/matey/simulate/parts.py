"""A simulation in parts: made by several processes, kept in files, gone on with after a stop.

A part is the frames of one group of trajectories, [T B C *points], in a file that appears when it
is whole. What a part holds follows from the simulation alone, so that the bits are the same
whichever process makes it, and when.
"""

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any

import torch

import matey
from matey.errors import ConfigError, DivergenceError, ProcessError
from matey.fields import Field
from matey.output import replacing, tidy, to_json, write_text
from matey.simulate.trajectories import Progress, Setting, Simulation

SETTINGS = "simulation.json"
LOOK = 0.1  # seconds between looks at what other processes do


@dataclass(frozen=True)
class Shared:
    """What the processes of a simulation share: which part is next, the frames that are made, and
    what went wrong."""

    next: Any
    frames: Any
    failures: Any

    @classmethod
    def of(cls, context: SpawnContext, frames: int) -> "Shared":
        """At the start: `frames` lie in the folder already."""
        return cls(context.Value("q", 0), context.Value("q", frames), context.SimpleQueue())


def claim(simulation: Simulation, folder: Path) -> int:
    """Make sure that the parts in a folder are of this simulation; how many trajectories are there.

    What a killed process was writing is removed: nobody else may be writing there. Raises
    ConfigError if the parts are those of another simulation.
    """
    tidy(folder)
    path, settings = folder / SETTINGS, settings_of(simulation)
    if not path.exists():
        write_text(path, to_json(settings, indent=1), ConfigError)
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        differ = [f"{name} {before[name]}" for name in settings if before[name] != settings[name]]
    except (OSError, ValueError, KeyError, TypeError):
        differ = ["settings that cannot be read"]
    if differ:
        raise ConfigError(
            f"{folder} holds an unfinished simulation with {', '.join(differ)}, unlike this one. "
            "Give that command again to go on with it, or remove the folder."
        )
    return sum(len(group) for group in simulation.groups if part(folder, group).exists())


def settings_of(simulation: Simulation) -> dict[str, Any]:
    """What decides the bits of a simulation."""
    return {
        "system": simulation.name,
        "ndim": simulation.system.spec(1.0).ndim,
        "trajectories": simulation.trajectories,
        "resolution": simulation.resolution,
        "steps": simulation.steps,
        "seed": simulation.seed,
        "vary": {name: [r.low, r.high, r.log] for name, r in simulation.ranges.items()},
        "set": {name: listed(value) for name, value in simulation.change.items()},
        "device": torch.device(simulation.device).type,
        "matey": matey.__version__,
        "torch": str(torch.__version__),
    }


def listed(value: Setting) -> float | list[float]:
    """A setting as JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value


def part(folder: Path, group: range) -> Path:
    """Where the frames of a group are."""
    return folder / f"{group[0]:06d}.part"


def make_parts(
    simulation: Simulation, folder: Path, jobs: int, progress: Progress | None = None
) -> list[Field]:
    """Make the parts that a folder lacks, in up to `jobs` processes, and give all trajectories.

    Their values stay on disk until they are used. This process makes parts, too: others take some
    seconds to begin. Raises DivergenceError where a solution stops being finite, ConfigError where
    a trajectory's parameters are out of range, ProcessError if another process was killed.
    """
    missing = [group for group in simulation.groups if not part(folder, group).exists()]
    total = simulation.trajectories * len(simulation.times)
    context = multiprocessing.get_context("spawn")
    shared = Shared.of(context, total - sum(map(len, missing)) * len(simulation.times))
    work = (simulation, folder, missing, shared)
    others = [
        context.Process(target=help_out, args=work, daemon=True)
        for _ in range(min(jobs, len(missing)) - 1)
    ]

    def watch() -> None:
        if progress:
            progress(shared.frames.value, total)

    try:
        for other in others:
            other.start()
        take_parts(*work, watch)
        wait_for([part(folder, group) for group in missing], others, shared, watch)
    finally:
        for other in others:
            other.kill()
            other.join()
    return [field for group in simulation.groups for field in read_part(simulation, folder, group)]


def take_parts(
    simulation: Simulation,
    folder: Path,
    missing: Sequence[range],
    shared: Shared,
    watch: Callable[[], None] = lambda: None,
) -> None:
    """Make one part after the other, as long as there are some that nobody has begun."""
    while True:
        with shared.next.get_lock():
            number = shared.next.value
            shared.next.value += 1
        if number >= len(missing):
            return
        group = missing[number]
        with replacing(part(folder, group)) as temporary, temporary.open("wb") as file:
            for frame in simulation.run(group):
                file.write(frame.contiguous().numpy().tobytes())
                with shared.frames.get_lock():
                    shared.frames.value += len(group)
                watch()


def help_out(
    simulation: Simulation, folder: Path, missing: Sequence[range], shared: Shared
) -> None:
    """What another process does: make parts. It ends with the one that started it, which alone
    heeds an interrupt."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        take_parts(simulation, folder, missing, shared)
    except (ConfigError, DivergenceError) as error:
        shared.next.value = len(missing)
        shared.failures.put((type(error), str(error)))


def end_with_parent() -> None:
    """Wait for the end of the process that started this one, and end at once."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def wait_for(
    paths: Sequence[Path],
    others: Sequence[SpawnProcess],
    shared: Shared,
    watch: Callable[[], None],
) -> None:
    """Wait until the other processes have made all of the files. Raises what they met with."""
    while not all(path.exists() for path in paths):
        if not shared.failures.empty():
            kind, text = shared.failures.get()
            raise kind(text)
        if any(other.exitcode for other in others):
            raise ProcessError(
                "A process of the simulation has ended before its time. Was it killed, or is "
                "memory short? Lower --jobs, and give the same command again to go on."
            )
        time.sleep(LOOK)
        watch()


def read_part(simulation: Simulation, folder: Path, group: range) -> list[Field]:
    """The trajectories of a group; values are read from its file when they are used."""
    system = simulation.system_of(group[0])
    spec, grid = system.spec(simulation.dt), system.grid(simulation.resolution)
    shape = (len(simulation.times), len(group), len(spec.variables), *grid.shape)
    size = torch.Size(shape).numel()
    path = str(part(folder, group))
    values = torch.from_file(path, shared=False, size=size, dtype=simulation.dtype).view(shape)
    return [simulation.field(number, values[:, i]) for i, number in enumerate(group)]
