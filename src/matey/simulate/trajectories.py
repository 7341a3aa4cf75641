"""Trajectories of a system, from random initial states to fields."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import require
from matey.errors import ConfigError, DivergenceError, nearest
from matey.fields import Field
from matey.simulate import SYSTEMS
from matey.simulate.spectral import PeriodicSystem
from matey.simulate.stepper import Range, Simulator

SMALLEST = 8  # points along an axis: with fewer, stencils span the domain
HALF = 0.5  # a mask is 1 or 0
CACHED = 2**16  # values of one variable that stay in a processor's cache

Progress = Callable[[int, int], None]


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
    if isinstance(system, PeriodicSystem):
        return replace(system, ndim=ndim)
    only = system.spec(1.0).ndim
    require(ndim == only, "ndim", ndim, f"{only}, the only one of {name!r}")
    return system


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
    progress: Progress | None = None,
) -> list[Field]:
    """Trajectories of a system, each of `steps` frames evenly over the published time span.

    The first frame is the initial state, so `steps` = 21 of shallow water are 0.05 s apart.
    `resolution` is the number of grid points along the shortest axis, and `ndim` chooses among
    the dimensions of systems that exist in several. `vary` draws parameters of the equations for
    each trajectory, beside those that the system varies anyway; a range of one number holds a
    parameter there. `frames` makes only the first of the `steps`.
    The same seed gives the same bits on one machine, and trajectory i the same initial state
    however many are made. `progress(frames made, frames in all)` is called after every frame.
    Fields are on the CPU. Raises ConfigError for a name or number out of range, DivergenceError
    where a solution stops being finite.
    """
    system = find_system(name, ndim)
    ranges = ranges_of(system, name, vary or {})
    require(trajectories >= 1, "trajectories", trajectories, "1 or more")
    require(resolution >= SMALLEST, "resolution", resolution, f"{SMALLEST} points or more")
    require(steps >= 2, "steps", steps, "2 frames or more")
    require(frames is None or 1 <= frames <= steps, "frames", frames, f"1 to steps, {steps}")
    require(seed >= 0, "seed", seed, "0 or more")
    device = torch.device(device)
    dt = system.span / (steps - 1)
    times = [dt * step for step in range(frames or steps)]
    fields: list[Field] = []
    with one_thread():
        for one, group in groups(system, ranges, trajectories, resolution, seed, device):
            initial = one.initial(group, resolution, seed).to(device, dtype)
            observed: list[Tensor] = []
            for state in one.run(initial, times):
                observed.append(one.observe(state).cpu())
                check_finite(observed[-1], name, times[len(observed) - 1], group)
                if progress:
                    made = len(fields) * len(times) + len(observed) * len(group)
                    progress(made, trajectories * len(times))
            values = torch.stack(observed, dim=1)
            for trajectory, solution in zip(group, values, strict=True):
                parameters = one.parameters | one.drawn(trajectory, seed)
                fields.append(make_field(one, solution, times, resolution, dt, parameters))
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


def ranges_of(system: Simulator, name: str, vary: Mapping[str, Range]) -> dict[str, Range]:
    """The parameters that vary and their ranges: the system's own, and those asked for.

    Raises ConfigError for one that cannot be varied, and for a range with an end that the system
    refuses.
    """
    numbers = {known: getattr(system, known, None) for known in system.spec(1.0).parameters}
    able = [known for known, number in numbers.items() if isinstance(number, float | int)]
    ranges = {**system.vary, **vary}
    for parameter, its in ranges.items():
        if parameter not in able:
            which = f"only {', '.join(able)} can" if able else "this system has no such parameter"
            raise ConfigError(f"{parameter!r} of {name!r} cannot be varied: {which}.")
        for end in (its.low, its.high):
            replace(system, **{parameter: end})  # type: ignore[type-var]
    return ranges


def with_parameters(
    system: Simulator, ranges: Mapping[str, Range], trajectory: int, seed: int
) -> Simulator:
    """The system with parameters drawn for a trajectory.

    Each is drawn from (seed, trajectory) and its place in the spec alone, whatever else varies.
    """
    places = {name: place for place, name in enumerate(system.spec(1.0).parameters, start=1)}
    randoms = {name: np.random.default_rng([seed, trajectory, places[name]]) for name in ranges}
    values = {name: ranges[name].draw(random) for name, random in randoms.items()}
    drawn: Simulator = replace(system, **values)  # type: ignore[type-var]
    return drawn


def groups(
    system: Simulator,
    ranges: Mapping[str, Range],
    trajectories: int,
    resolution: int,
    seed: int,
    device: torch.device,
) -> Iterator[tuple[Simulator, range]]:
    """Trajectories to run together, and the system to run them with.

    All on a GPU, as many as fit the cache on a CPU; each alone where parameters vary.
    """
    points = math.prod(system.grid(resolution).shape)
    size = max(1, CACHED // points) if device.type == "cpu" else trajectories
    for first in range(0, trajectories, 1 if ranges else size):
        group = range(first, min(first + (1 if ranges else size), trajectories))
        yield with_parameters(system, ranges, first, seed) if ranges else system, group


def check_finite(values: Tensor, name: str, time: float, group: range) -> None:
    """Raise DivergenceError, with trajectory and time, if a value is not finite."""
    finite = values.isfinite().flatten(1).all(dim=1)
    if not finite.all():
        trajectory = group[int(finite.int().argmin())]
        raise DivergenceError(
            f"Trajectory {trajectory} of {name!r} stopped being finite before {time:g} s. "
            "Its initial state is too extreme for the time step: lower courant or fraction."
        )


def make_field(
    system: Simulator,
    values: Float[Tensor, "T C *points"],
    times: list[float],
    resolution: int,
    dt: float,
    parameters: dict[str, float],
) -> Field:
    """The field of one trajectory; 0 where its mask holds none."""
    grid, spec = system.grid(resolution), system.spec(dt)
    values = values.reshape(*values.shape[:2], *grid.shape).contiguous()
    if spec.mask is not None:
        values = values.where(values[:, spec.mask, None] > HALF, 0.0)
    return Field(
        values=values,
        times=torch.tensor(times, dtype=torch.float64),
        grid=grid,
        boundaries=system.boundaries,
        parameters=parameters,
        spec=spec,
    )
