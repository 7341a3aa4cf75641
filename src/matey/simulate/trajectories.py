"""Trajectories of a system, from random initial states to fields."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from itertools import product

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import require
from matey.errors import ConfigError, DivergenceError, nearest
from matey.fields import PERIODIC_SIDES, Field
from matey.fields.field import HALF
from matey.simulate import SYSTEMS
from matey.simulate.schemes.stepper import Range, Simulator

SMALLEST = 8  # points along an axis: with fewer, stencils span the domain
CACHED = 2**16  # values of one variable that stay in a processor's cache
KEPT = 31 * 2**20  # bytes

Progress = Callable[[int, int], None]
Setting = float | tuple[float, float]  # of a simulator: a number, or a range to draw from


def find_system(name: str, ndim: int | None = None) -> Simulator:
    """The simulator of that name, of `ndim` dimensions where it exists in several.

    Raises ConfigError for a name that is unknown, naming the nearest one, or a number of
    dimensions that the system does not have.
    """
    if name not in SYSTEMS:
        raise ConfigError(f"Unknown system {name!r}. {nearest(name, SYSTEMS)}")
    system: Simulator = getattr(import_module(f"matey.simulate.{name}"), SYSTEMS[name])()
    if ndim is None:
        return system
    if system.dimensions:
        return system.of_dimension(ndim)
    only = system.spec(1.0).ndim
    require(ndim == only, "ndim", ndim, f"{only}, the only one of {name!r}")
    return system


def changed(system: Simulator, name: str, change: Mapping[str, Setting]) -> Simulator:
    """A simulator with other settings. Raises ConfigError for a name or kind that it lacks."""
    able = {
        known: value
        for known, value in vars(system).items()
        if known not in (*system.spec(1.0).parameters, "ndim") and not isinstance(value, bool)
    }
    new: dict[str, Setting] = {}
    for setting, value in change.items():
        if setting not in able:
            raise ConfigError(f"{name!r} has no setting {setting!r}. {nearest(setting, able)}")
        old = able[setting]
        pair = isinstance(old, tuple)
        whole = isinstance(old[0] if isinstance(old, tuple) else old, int)
        given = value if isinstance(value, tuple) else (value,)
        kind = ("whole " if whole else "") + ("numbers as LOW:HIGH" if pair else "number")
        fits = len(given) == (2 if pair else 1) and given[0] <= given[-1]
        fits = fits and all(math.isfinite(one) and (not whole or one == int(one)) for one in given)
        require(fits, setting, value, kind)
        numbers = tuple(int(one) if whole else float(one) for one in given)
        new[setting] = numbers if len(numbers) == 2 else numbers[0]
    return replace(system, **new) if new else system  # type: ignore[type-var]


@dataclass(frozen=True)
class Simulation:
    """What is to be simulated: plain data, of which everything follows, in any process.

    `steps` frames lie evenly over the system's time span; the first is the initial state.
    `resolution` is the number of grid points along the shortest axis, `ndim` chooses among the
    dimensions of systems that exist in several, `vary` names parameters to be drawn for each
    trajectory beside those that the system varies anyway, and `frames` makes only the first of the
    `steps`. `change` holds other settings of the simulator by name, as its span or the range that
    its radii are drawn from. Raises ConfigError for a name or number out of range.
    """

    name: str
    trajectories: int
    resolution: int
    steps: int
    seed: int
    ndim: int | None = None
    vary: Mapping[str, Range] = field(default_factory=dict)
    frames: int | None = None
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    change: Mapping[str, Setting] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.trajectories >= 1, "trajectories", self.trajectories, "1 or more")
        least = f"{SMALLEST} points or more"
        require(self.resolution >= SMALLEST, "resolution", self.resolution, least)
        require(self.steps >= 2, "steps", self.steps, "2 frames or more")
        some = self.frames is None or 1 <= self.frames <= self.steps
        require(some, "frames", self.frames, f"1 to steps, {self.steps}")
        require(self.seed >= 0, "seed", self.seed, "0 or more")
        check_ranges(self.system, self.name, self.ranges, self.resolution)

    @cached_property
    def system(self) -> Simulator:
        """The simulator, with its own parameters."""
        return changed(find_system(self.name, self.ndim), self.name, self.change)

    @property
    def ranges(self) -> dict[str, Range]:
        """What varies: the system's own parameters, and those asked for."""
        return {**self.system.vary, **self.vary}

    @property
    def dt(self) -> float:
        """Time between frames [s]."""
        return self.system.span / (self.steps - 1)

    @property
    def times(self) -> list[float]:
        """Times of the frames [s]."""
        return [self.dt * step for step in range(self.frames or self.steps)]

    @property
    def groups(self) -> list[range]:
        """Trajectories to run together: all on a GPU, as many as fit the cache on a CPU; each alone
        where parameters vary."""
        points = math.prod(self.system_of(0).grid(self.resolution).shape)
        on_cpu = torch.device(self.device).type == "cpu"
        size = max(1, CACHED // points) if on_cpu else self.trajectories
        size = 1 if self.ranges else size
        starts = range(0, self.trajectories, size)
        return [range(first, min(first + size, self.trajectories)) for first in starts]

    def system_of(self, trajectory: int) -> Simulator:
        """The system with the parameters of a trajectory.

        Each is drawn from (seed, trajectory) and its place in the spec alone, whatever else varies.
        """
        if not self.ranges:
            return self.system
        names = self.system.spec(1.0).parameters
        seeds = {name: [self.seed, trajectory, 1 + names.index(name)] for name in self.ranges}
        numbers = {
            name: its.draw(np.random.default_rng(seeds[name])) for name, its in self.ranges.items()
        }
        drawn: Simulator = replace(self.system, **numbers)  # type: ignore[type-var]
        return drawn

    def run(self, group: range) -> Iterator[Float[Tensor, "B C *points"]]:
        """The frames of a group of trajectories, on the CPU. Raises DivergenceError where a
        solution stops being finite."""
        system = self.system_of(group[0])
        mask = system.spec(self.dt).mask
        keep_memory()
        with one_thread():
            initial = system.initial(group, self.resolution, self.seed)
            states = system.run(initial.to(self.device, self.dtype), self.times)
            for time, state in zip(self.times, states, strict=True):
                frame = system.observe(state).cpu()
                if mask is not None:
                    frame = frame.where(frame[:, mask, None] > HALF, 0.0)
                check_finite(frame, self.name, time, group)
                yield frame

    def field(self, trajectory: int, values: Float[Tensor, "T C *points"]) -> Field:
        """The field of one trajectory. Axes of one point are called periodic."""
        system = self.system_of(trajectory)
        grid = system.grid(self.resolution)
        z, y, x = (PERIODIC_SIDES,) * (3 - grid.ndim) + system.boundaries[3 - grid.ndim :]
        return Field(
            values=values.reshape(*values.shape[:2], *grid.shape),
            times=torch.tensor(self.times, dtype=torch.float64),
            grid=grid,
            boundaries=(z, y, x),
            parameters=system.parameters | system.drawn(trajectory, self.seed),
            spec=system.spec(self.dt),
        )


def simulate(
    name: str,
    *,
    trajectories: int,
    resolution: int,
    steps: int,
    seed: int,
    ndim: int | None = None,
    vary: Mapping[str, Range] | None = None,
    frames: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    change: Mapping[str, Setting] | None = None,
    progress: Progress | None = None,
) -> list[Field]:
    """Trajectories of a system, each of `steps` frames evenly over the published time span.

    The first frame is the initial state, so `steps` = 21 of shallow water are 0.05 s apart.
    `resolution` is the number of grid points along the shortest axis, and `ndim` chooses among
    the dimensions of systems that exist in several. `vary` draws parameters of the equations for
    each trajectory, beside those that the system varies anyway; a range of one number holds a
    parameter there. `change` holds other settings of the simulator, by name. `frames` makes only
    the first of the `steps`.
    The same seed gives the same bits on one machine, and trajectory i the same initial state
    however many are made. `progress(frames made, frames in all)` is called after every frame.
    Fields are on the CPU. Raises ConfigError for a name or number out of range, DivergenceError
    where a solution stops being finite.
    """
    asked = (name, trajectories, resolution, steps, seed, ndim, vary or {}, frames, dtype)
    simulation = Simulation(*asked, device=str(device), change=change or {})
    fields: list[Field] = []
    made, total = 0, trajectories * len(simulation.times)
    for group in simulation.groups:
        observed: list[Tensor] = []
        for frame in simulation.run(group):
            observed.append(frame)
            made += len(group)
            if progress:
                progress(made, total)
        values = torch.stack(observed, dim=1)
        fields += map(simulation.field, group, values)
    return fields


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread per operation, on a CPU.

    Operations that take microseconds gain little from being split, and become a hundred
    times slower where other work shares the cores: each waits for the slowest thread.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def keep_memory() -> None:
    """Have the C library keep what is freed, for the arrays of the next step.

    By default glibc gives large blocks back, and the system maps and clears new ones for every
    array, which can take longer than computing it. Freeing a block that is just below its limit of
    32 MiB raises the size from which it does so (mallopt(3), M_MMAP_THRESHOLD).
    """
    torch.empty(KEPT, dtype=torch.uint8)


def check_ranges(
    system: Simulator, name: str, ranges: Mapping[str, Range], resolution: int
) -> None:
    """Raise ConfigError for a parameter that cannot be varied, and for ends of ranges that the
    system refuses together, or at this resolution."""
    numbers = {known: getattr(system, known, None) for known in system.spec(1.0).parameters}
    able = [known for known, number in numbers.items() if isinstance(number, float | int)]
    for parameter in ranges:
        if parameter not in able:
            which = f"only {', '.join(able)} can" if able else "this system has no such parameter"
            raise ConfigError(f"{parameter!r} of {name!r} cannot be varied: {which}.")
    for ends in product(*({its.low, its.high} for its in ranges.values())):
        extreme = dict(zip(ranges, ends, strict=True))
        replace(system, **extreme).grid(resolution)  # type: ignore[type-var]


def check_finite(values: Tensor, name: str, time: float, group: range) -> None:
    """Raise DivergenceError, with trajectory and time, if a value is not finite."""
    finite = values.isfinite().flatten(1).all(dim=1)
    if not finite.all():
        trajectory = group[int(finite.int().argmin())]
        raise DivergenceError(
            f"Trajectory {trajectory} of {name!r} stopped being finite before {time:g} s. "
            "It is too extreme for the time step: make that shorter (--set courant=0.3, or "
            "fraction), take more points, or vary parameters less."
        )
