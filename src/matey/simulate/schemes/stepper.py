"""The interface of simulators, and their steps in time.

Axes: B trajectories, S state variables, C stored variables, then one to three of grid points,
slowest first. A state is what the solver conserves, at its own points; the stored variables are
what a file holds.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import require
from matey.errors import ConfigError
from matey.fields import Boundary, Grid, Sides, SystemSpec

WALL_SIDES: Sides = (Boundary.WALL, Boundary.WALL)
OPEN_SIDES: Sides = (Boundary.OPEN, Boundary.OPEN)


@dataclass(frozen=True)
class Range:
    """The numbers that a parameter is drawn from: evenly, or (`log`) evenly in its logarithm.

    Raises ConfigError for ends that are not finite or in the wrong order, and for a logarithm of
    what is not positive.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        ends = (self.low, self.high)
        finite = math.isfinite(self.low) and math.isfinite(self.high)
        require(finite and self.low <= self.high, "range", ends, "two numbers, the lower first")
        require(self.low > 0 or not self.log, "range", ends, "ends above 0, to draw by logarithm")

    def draw(self, random: np.random.Generator) -> float:
        """A number of the range."""
        if not self.log:
            return float(random.uniform(self.low, self.high))
        number = math.exp(random.uniform(math.log(self.low), math.log(self.high)))
        return min(max(number, self.low), self.high)  # against rounding


class Simulator(ABC):
    """A system that can be simulated: all trajectories at once, in any type, on any device.

    `span` is the time [s] that a trajectory covers, as in the published set. `vary` are the
    parameters that differ from trajectory to trajectory, by name: numbers of the dataclass that
    are parameters of the spec. Each trajectory is then run by itself, by a copy of the system with
    numbers of its own, so that `run` never sees more than one value. `dimensions` are those that
    `ndim` of the dataclass may choose from, empty where it has no such choice.

    What is static, as a force or a mask, rides in the state: `draw` puts it there, `run` hands it
    on, `observe` gives it. What a mask does not hold is stored as 0.
    """

    span: float
    boundaries: ClassVar[tuple[Sides, Sides, Sides]]
    vary: ClassVar[Mapping[str, Range]] = {}
    dimensions: ClassVar[tuple[int, ...]] = ()

    @abstractmethod
    def spec(self, dt: float) -> SystemSpec:
        """The system, stored every `dt` seconds."""

    @abstractmethod
    def grid(self, resolution: int) -> Grid:
        """The grid with `resolution` points along its shortest axis."""

    @abstractmethod
    def draw(self, random: np.random.Generator, resolution: int) -> Float[Tensor, "S ..."]:
        """A random state at time 0, float64."""

    @abstractmethod
    def run(
        self, state: Float[Tensor, "B S *points"], times: Sequence[float]
    ) -> Iterator[Float[Tensor, "B S *points"]]:
        """The state at each of `times`; the first is the one given."""

    def observe(self, state: Float[Tensor, "B S *points"]) -> Float[Tensor, "B C *points"]:
        """The stored variables of a state; by default the state itself."""
        return state

    def of_dimension(self, ndim: int) -> "Simulator":
        """The same system in so many dimensions, of one that exists in several. Raises ConfigError
        for a number that is not one of `dimensions`."""
        several: Simulator = replace(self, ndim=ndim)  # type: ignore[type-var]
        return several

    @property
    def parameters(self) -> dict[str, float]:
        """Parameters of the equations that all trajectories share, by their names in the spec."""
        numbers = {name: getattr(self, name) for name in self.spec(1.0).parameters}
        return {name: number for name, number in numbers.items() if not isinstance(number, tuple)}

    def drawn(self, trajectory: int, seed: int) -> dict[str, float]:
        """Parameters drawn for one trajectory, from (seed, trajectory) alone."""
        return {}

    def initial(
        self, trajectories: Sequence[int], resolution: int, seed: int
    ) -> Float[Tensor, "B S *points"]:
        """States at time 0, float64, of the trajectories with these numbers.

        Trajectory i is drawn from (seed, i) alone.
        """
        randoms = [np.random.default_rng([seed, number]) for number in trajectories]
        return torch.stack([self.draw(random, resolution) for random in randoms])


SHORTEST = 1e-6  # step over the time between frames: a solution that needs less has diverged

Rate = Callable[[Tensor], Tensor]
Step = Callable[[Tensor, float, int], Tensor]
Stage = Callable[[Tensor, Tensor, float], Tensor]


def march(state: Tensor, times: Sequence[float], longest: float, step: Step) -> Iterator[Tensor]:
    """Yield the state at each of `times`, the first of which is now.

    Every interval is cut into equal steps of at most `longest`, so that output times are
    hit exactly and the steps do not depend on which trajectories run together.
    `step(state, dt, number)` makes one step; `number` counts them from 0. Raises ConfigError
    unless the times increase.
    """
    check_times(times)
    number = 0
    yield state
    for start, end in pairwise(times):
        # An interval of a whole number of longest steps must not get one more by rounding.
        count = max(1, math.ceil((end - start) / longest * (1 - 1e-9)))
        for _ in range(count):
            state = step(state, (end - start) / count, number)
            number += 1
        yield state


def march_by_rk4(
    state: Tensor, times: Sequence[float], longest: float, rate: Rate
) -> Iterator[Tensor]:
    """`march` with the classical Runge-Kutta method for d state / dt = rate(state)."""
    return march(state, times, longest, lambda state, dt, number: rk4(rate, state, dt))


def march_apart(
    state: Tensor,
    times: Sequence[float],
    longest: Callable[[Tensor], Tensor],
    step: Callable[[Tensor, Tensor], Tensor],
) -> Iterator[Tensor]:
    """Yield the state at each of `times`, where each trajectory takes steps of its own length.

    `longest(state)` are the steps [B] that are stable now, `step(state, dt)` makes a step of
    dt [B]; the last before an output time is cut short. Trajectories that have arrived wait.
    One whose stable step is not a number, or too short ever to arrive, has diverged: its
    state becomes NaN. Raises ConfigError unless the times increase.
    """
    check_times(times)
    yield state
    for start, end in pairwise(times):
        left = torch.full((len(state),), end - start, dtype=torch.float64, device=state.device)
        while (moving := left > 0).any():
            part = state if moving.all() else state[moving]
            stable = longest(part).double()
            arrives = stable > SHORTEST * (end - start)
            dt = torch.minimum(stable, left[moving]).where(arrives, torch.nan)
            part = step(part, dt.to(state.dtype))
            state = part if moving.all() else state.index_put((moving,), part)
            left[moving] = (left[moving] - dt).where(arrives, 0.0)
        yield state


def check_times(times: Sequence[float]) -> None:
    """Raise ConfigError unless the times increase."""
    if not times or any(end <= start for start, end in pairwise(times)):
        raise ConfigError(f"Output times must increase, found {list(times)[:5]}.")


def rk4(rate: Rate, state: Tensor, dt: float) -> Tensor:
    """One step of the classical Runge-Kutta method: order 4, real stability limit 2.78.

    Source: Hairer, Nørsett and Wanner, Solving Ordinary Differential Equations I, II.1.
    """
    first = rate(state)
    second = rate(state.add(first, alpha=dt / 2))
    third = rate(state.add(second, alpha=dt / 2))
    fourth = rate(state.add(third, alpha=dt))
    total = first.add_(fourth).add_(second, alpha=2).add_(third, alpha=2)
    return state.add(total, alpha=dt / 6)


def wicker_skamarock(advance: Stage, state: Tensor, dt: float) -> Tensor:
    """One step in three stages of dt/3, dt/2, dt, each from the start of the step.

    `advance(base, at, dt)` is base + dt * rate(at). Order 3 for linear rates, else 2.
    Source: Wicker and Skamarock, Mon. Wea. Rev. 130 (2002) 2088.
    """
    stage = advance(state, state, dt / 3)
    stage = advance(state, stage, dt / 2)
    return advance(state, stage, dt)


def require_dimension(ndim: int, dimensions: Sequence[int]) -> None:
    """Raise ConfigError unless `ndim` is one of the dimensions."""
    require(ndim in dimensions, "ndim", ndim, f"one of {', '.join(map(str, dimensions))}")


def plane_grid(low: float, high: float, resolution: int) -> Grid:
    """A square of resolution² cells with sides at `low` and `high` [m]; points are centres."""
    return box_grid(low, high, resolution, 2)


def box_grid(low: float, high: float, resolution: int, ndim: int) -> Grid:
    """A box of `resolution` cells along each of `ndim` axes, from `low` to `high` [m]."""
    spacing = (high - low) / resolution
    z, y, x = [False] * (3 - ndim) + [True] * ndim
    points, first, step = (1, resolution), (0.0, low + spacing / 2), (1.0, spacing)
    return Grid(
        ("z", "y", "x")[3 - ndim :],
        (points[z], points[y], points[x]),
        (first[z], first[y], first[x]),
        (step[z], step[y], step[x]),
    )
