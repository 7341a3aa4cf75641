"""Flow past obstacles: wakes shed vortices, which meet other obstacles.

    u_t + (u·∇)u = -∇p + ν ∇²u,   ∇·u = 0 in the fluid,   u = 0 on and in the obstacles

u is the velocity [m/s], p the pressure over the density [m²/s²] and ν the kinematic viscosity `NU`
[m²/s]. Fluid comes in on the left with the speed `inflow` and leaves on the right, where it
is carried out with that speed; periodic along y. Obstacles are discs, ellipses and squares, two to
five of them, and stand still. They are made of whole cells: `mask` is 1 in cells of fluid and 0 in
the others, and so tells all of their shape. Frames begin when the wakes are there: `spin_up` after
the fluid, in potential flow, has met the obstacles.

Scheme: a staggered grid, with velocities on the faces of cells, as in `channel`. Advection is of
order 3, upwind, in the form of fluxes; diffusion is of order 2, with walls at the faces of cells,
also for the flow along them. Steps are three Runge-Kutta stages. Their rate is projected onto the
flows that have no divergence in any cell and do not cross the surface of an obstacle, to rounding,
in double precision; in the first stage the push of pressure of the step before does instead.
Order 2 in time, and in space along flat walls; 1 for round shapes. Stable up to about
1.6 h / (|u| + |v|) for advection and 2.5 h² / (8 ν) for diffusion, with h the spacing; each
trajectory takes `courant` of what both allow. One of 64 points by 128 takes 3 to 5 s of one
core, and one of 128 by 256 some 20 s.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from matey.config import require, require_fraction, require_positive
from matey.fields import PERIODIC_SIDES, Grid, Sides, SystemSpec, Variable
from matey.simulate.schemes.channel import Channel
from matey.simulate.schemes.stepper import OPEN_SIDES, Range, Simulator, march_apart

TRIES = 1000  # places to try for an obstacle


@dataclass(frozen=True)
class Obstacle(Simulator):
    """Flow past obstacles. Stored: velocity and mask, in the centres of cells.

    State: velocity along x on each cell's right face and along y on its upper face; mask.

    Args:
        NU: kinematic viscosity [m²/s].
        inflow: speed of what comes in [m/s].
        count: range of the number of obstacles.
        radius: range of the radius of the circle around each [m].
        aspect: range of the shorter over the longer axis of an ellipse.
        gap: least distance between those circles [m].
        place: range of the centres along x [m].
        height: of the domain [m], which is twice as long.
        spin_up: time before the first frame [s].
        span: time covered [s].
        courant: step over the longest stable one.
    """

    boundaries: ClassVar[tuple[Sides, Sides, Sides]] = (PERIODIC_SIDES, PERIODIC_SIDES, OPEN_SIDES)
    vary: ClassVar[Mapping[str, Range]] = {
        "NU": Range(8e-4, 3e-3, log=True),
        "inflow": Range(0.7, 1.3),
    }

    NU: float = 0.0015
    inflow: float = 1.0
    count: tuple[int, int] = (2, 5)
    radius: tuple[float, float] = (0.06, 0.11)
    aspect: tuple[float, float] = (0.4, 0.8)
    gap: float = 0.06
    place: tuple[float, float] = (0.3, 1.2)
    height: float = 1.0
    spin_up: float = 2.0
    span: float = 3.0
    courant: float = 0.9

    def __post_init__(self) -> None:
        require_positive(self, "", "NU", "inflow", "height", "span", "courant")
        require_fraction(self, "", "courant")
        require(self.spin_up >= 0, "spin_up", self.spin_up, "0 or more")
        low, high = self.count
        require(0 <= low <= high, "count", self.count, "0 or more, the least first")
        margin, length = max(self.radius), 2 * self.height
        inside = margin < min(self.place) and max(self.place) < length - margin
        require(
            inside, "place", self.place, f"centres {margin:g} from the sides of [0, {length:g}]"
        )

    def spec(self, dt: float) -> SystemSpec:
        variables = (
            Variable("velocity_x", "m/s", ("x",)),
            Variable("velocity_y", "m/s", ("y",)),
            Variable("mask", static=True, pseudo=False, mask=True),
        )
        return SystemSpec("obstacle", 2, variables, ("NU", "inflow"), dt)

    def grid(self, resolution: int) -> Grid:
        """`resolution` points along y, and twice as many along x."""
        h = self.height / resolution
        shape = (1, resolution, 2 * resolution)
        return Grid(("y", "x"), shape, (0.0, h / 2, h / 2), (1.0, h, h))

    def draw(self, random: np.random.Generator, resolution: int) -> Float[Tensor, "3 Y X"]:
        """Fluid at the speed of the inflow everywhere, and random obstacles in it."""
        mask = torch.from_numpy(~self.solid(random, self.grid(resolution))).double()
        uniform = torch.full_like(mask, self.inflow)
        return torch.stack((uniform, torch.zeros_like(mask), mask))

    def solid(self, random: np.random.Generator, grid: Grid) -> Bool[np.ndarray, "Y X"]:
        """Which cells have their centre in a random obstacle, or the centre of one in them."""
        y, x = grid.coordinate(1).numpy()[:, None], grid.coordinate(2).numpy()
        solid = np.zeros(grid.shape[1:], bool)
        placed: list[tuple[float, float, float]] = []
        for _ in range(random.integers(self.count[0], self.count[1] + 1)):
            radius, angle = random.uniform(*self.radius), random.uniform(0, np.pi)
            kind, aspect = random.integers(3), random.uniform(*self.aspect)
            for _ in range(TRIES):
                x0, y0 = random.uniform(*self.place), random.uniform(0, self.height)
                if all(
                    math.hypot(x0 - x1, self.nearest(y0 - y1)) > radius + its + self.gap
                    for x1, y1, its in placed
                ):
                    break
            else:
                continue  # no room is left
            placed.append((x0, y0, radius))
            across, up = x - x0, self.nearest(y - y0)
            along = (math.cos(angle) * across + math.sin(angle) * up) / radius
            aside = (math.cos(angle) * up - math.sin(angle) * across) / radius
            if kind == 2:  # a square, with its corners on the circle
                solid |= np.maximum(abs(along), abs(aside)) < math.sqrt(0.5)
            else:
                solid |= along**2 + (aside / (aspect if kind else 1.0)) ** 2 < 1
            solid[int(y0 / grid.spacing[1]), int(x0 / grid.spacing[2])] = True
        return solid

    def nearest(self, distance: Any) -> Any:
        """A distance along y to the nearest of all periodic images."""
        return (distance + self.height / 2) % self.height - self.height / 2

    def initial(
        self, trajectories: Sequence[int], resolution: int, seed: int
    ) -> Float[Tensor, "B 3 Y X"]:
        """Flow past random obstacles, `spin_up` after it has met them."""
        state = super().initial(trajectories, resolution, seed)
        for one in state:
            one[:2] = self.channel(one[2]).project(one[:2])
        if not self.spin_up:
            return state
        *_, developed = self.run(state, [0.0, self.spin_up])
        return developed

    def run(
        self, state: Float[Tensor, "B 3 Y X"], times: Sequence[float]
    ) -> Iterator[Float[Tensor, "B 3 Y X"]]:
        """The state at each of `times`; the first is the one given. Computed in float64, each
        trajectory by itself, as their obstacles differ."""
        yield state
        flows = [self.run_one(one.double(), times) for one in state]
        for velocities in zip(*flows, strict=True):
            yield torch.cat((torch.stack(velocities).to(state.dtype), state[:, 2:]), dim=1)

    def run_one(
        self, state: Float[Tensor, "3 Y X"], times: Sequence[float]
    ) -> Iterator[Float[Tensor, "2 Y X"]]:
        """The velocity at each of `times` but the first."""
        channel = self.channel(state[2])
        push = channel.push(state[:2])

        def step(velocity: Tensor, dt: Tensor) -> Tensor:
            nonlocal push
            after, push = channel.step(velocity[0], push, float(dt))
            return after[None]

        longest = partial(self.longest_step, h=channel.h)
        frames = march_apart(state[None, :2], times, longest, step)
        next(frames)
        for velocity in frames:
            yield velocity[0]

    def channel(self, mask: Float[Tensor, "Y X"]) -> Channel:
        """What flows past these obstacles: found once for all that is asked of one set of them."""
        obstacles = (mask.shape, mask.device, mask.cpu().numpy().tobytes())
        if obstacles not in self.channels:
            self.channels.clear()
            self.channels[obstacles] = Channel(mask, self.height, self.inflow, self.NU)
        return self.channels[obstacles]

    @cached_property
    def channels(self) -> dict[Any, Channel]:
        """The last of them."""
        return {}

    def longest_step(self, velocity: Float[Tensor, "1 2 Y X"], h: float) -> Float[Tensor, " 1"]:
        """Time step [s]."""
        u, v = velocity.abs().unbind(1)
        speed = (u + torch.maximum(v, v.roll(1, -2))).amax(dim=(1, 2))
        return self.courant / (speed / (1.6 * h) + 8 * self.NU / (2.5 * h**2))

    def observe(self, state: Float[Tensor, "B 3 Y X"]) -> Float[Tensor, "B 3 Y X"]:
        u, v, mask = state.unbind(1)
        left = torch.cat((torch.full_like(u[..., :1], self.inflow), u[..., :-1]), dim=-1)
        return torch.stack(((u + left) / 2, (v + v.roll(1, -2)) / 2, mask), dim=1)
