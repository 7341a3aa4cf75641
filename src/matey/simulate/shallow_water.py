"""Shallow water: a round column of water collapses and spreads over a plane.

    h_t + (hu)_x + (hv)_y = 0
    (hu)_t + (hu² + g h²/2)_x + (huv)_y = 0
    (hv)_t + (huv)_x + (hv² + g h²/2)_y = 0

h is the height of the water [m], (u, v) its velocity [m/s], g gravity [m/s²]. The water
starts at rest, higher inside a circle. Sides are open: ghost cells copy the last cell.
This is the radial dam break of PDEBench (arXiv:2210.07182), which stores only h.

Scheme: finite volumes, wave propagation with Roe's solver, the monotonised central limiter
and Harten and Hyman's entropy fix, a sweep along x and then one along y in every step.
Second order where the flow is smooth and one-dimensional, first order at shocks; stable for
Courant numbers up to 1. Source: LeVeque, Finite Volume Methods for Hyperbolic Problems
(2002): sections 15.3 (Roe, entropy fix), 6.12 (limiter), 6.15 (limited flux), 19.5 (sweeps).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import require, require_positive
from matey.fields import PERIODIC_SIDES, Grid, Sides, SystemSpec, Variable
from matey.simulate.schemes.stepper import OPEN_SIDES, Simulator, march, plane_grid


@dataclass(frozen=True)
class ShallowWater(Simulator):
    """The radial dam break. State: h, hu, hv. Stored: h.

    Args:
        gravity: [m/s²].
        inner_height: water inside the circle at the start [m].
        outer_height: water outside [m].
        radius: range that the circle's radius is drawn from [m].
        samples: points per axis in each cell to measure how much of it lies in the circle. With
            one, as in the published fields, many radii make the same coarse circle.
        half_width: the domain is [-half_width, half_width]² [m].
        span: time covered [s].
        courant: largest Courant number, of waves as fast as those of a plane dam break. In the
            published fields it is 0.47 at 128² points.
    """

    boundaries: ClassVar[tuple[Sides, Sides, Sides]] = (PERIODIC_SIDES, OPEN_SIDES, OPEN_SIDES)

    gravity: float = 1.0
    inner_height: float = 2.0
    outer_height: float = 1.0
    radius: tuple[float, float] = (0.3, 0.7)
    samples: int = 16
    half_width: float = 2.5
    span: float = 1.0
    courant: float = 0.5

    def __post_init__(self) -> None:
        require_positive(self, "", "gravity", "inner_height", "outer_height")
        require_positive(self, "", "samples", "half_width", "span", "courant")
        require(self.courant <= 1, "courant", self.courant, "at most 1, the limit of stability")

    def spec(self, dt: float) -> SystemSpec:
        return SystemSpec("shallow_water", 2, (Variable("height", "m"),), ("gravity",), dt)

    def grid(self, resolution: int) -> Grid:
        return plane_grid(-self.half_width, self.half_width, resolution)

    def draw(self, random: np.random.Generator, resolution: int) -> Float[Tensor, "3 Y X"]:
        """Water at rest; the height of a cell is the mean over its samples."""
        radius = random.uniform(*self.radius)
        x = self.grid(resolution * self.samples).coordinate(2)
        distance = (x[:, None] ** 2 + x**2).sqrt()
        inside = (distance <= radius).double()
        inside = torch.nn.functional.avg_pool2d(inside[None], self.samples)[0]
        state = torch.zeros(3, resolution, resolution, dtype=torch.float64)
        state[0] = self.outer_height + (self.inner_height - self.outer_height) * inside
        return state

    def fastest(self) -> float:
        """The largest |u| + sqrt(gh) of a plane dam break [m/s]: 2 c_inner - c_outer.

        In the rarefaction u + 2c stays at 2 c_inner, and c falls no lower than outside.
        """
        low, high = sorted((self.inner_height, self.outer_height))
        return self.gravity**0.5 * (2 * high**0.5 - low**0.5)

    def run(
        self, state: Float[Tensor, "B 3 Y X"], times: Sequence[float]
    ) -> Iterator[Float[Tensor, "B 3 Y X"]]:
        """The state at each of `times`; the first is the one given."""
        spacing = 2 * self.half_width / state.shape[-1]

        def step(state: Tensor, dt: float, number: int) -> Tensor:
            for axis in (-1, -2):
                state = sweep(state, axis, dt / spacing, self.gravity)
            return state

        return march(state, times, self.courant * spacing / self.fastest(), step)

    def observe(self, state: Float[Tensor, "B 3 Y X"]) -> Float[Tensor, "B 1 Y X"]:
        return state[:, :1]


def sweep(
    state: Float[Tensor, "B 3 Y X"], axis: int, ratio: float, gravity: float
) -> Float[Tensor, "B 3 Y X"]:
    """The state after one step along `axis`, -1 or -2; `ratio` is dt / spacing.

    At every face Roe's solver splits the jump into two gravity waves, of speeds U ± c and
    vectors (1, U ± c, V), and a shear wave of speed U and vector (0, 0, 1). The flux is the
    mean of both sides less half of every wave times its `damping`.
    """
    along, across = (1, 2) if axis == -1 else (2, 1)
    q = extended(state, axis)
    h, m, n = q[:, 0], q[:, along], q[:, across]
    u, v, root = m / h, n / h, h.sqrt()
    faces = h.shape[axis] - 1

    def left(values: Tensor) -> Tensor:
        return values.narrow(axis, 0, faces)

    def right(values: Tensor) -> Tensor:
        return values.narrow(axis, 1, faces)

    # Roe's averages at the faces, and the speeds of the gravity waves.
    total = left(root) + right(root)
    U = (left(root) * left(u)).addcmul_(right(root), right(u)).div_(total)
    V = (left(root) * left(v)).addcmul_(right(root), right(v)).div_(total)
    c = (left(h) + right(h)).mul_(gravity / 2).sqrt_()
    slow, fast = U - c, U + c

    # Strengths of the waves, from the jumps; and the water between the gravity waves.
    jump, twice = right(h) - left(h), 2 * c
    jump_m, jump_n = right(m) - left(m), right(n) - left(n)
    first = (fast * jump).sub_(jump_m).div_(twice)
    third = jump_m.addcmul(slow, jump, value=-1).div_(twice)
    shear = jump_n.addcmul(V, jump, value=-1)
    middle = (left(h) + first).clamp_(min=torch.finfo(h.dtype).tiny)
    middle_u = left(m).addcmul(first, slow).div_(middle)
    middle_c, celerity = (gravity * middle).sqrt_(), root * gravity**0.5
    slow_size = spread(slow, left(u) - left(celerity), middle_u - middle_c)
    fast_size = spread(fast, middle_u + middle_c, right(u) + right(celerity))

    first = damping(first, slow, slow_size, (slow, V), axis, ratio)
    third = damping(third, fast, fast_size, (fast, V), axis, ratio)
    shear = damping(shear, U, U.abs(), (), axis, ratio)
    # The outermost faces are needed by the limiter only.
    slow, fast, V = (values.narrow(axis, 1, faces - 2) for values in (slow, fast, V))
    both = first + third
    flux = torch.empty_like(q.narrow(axis, 1, faces - 2))
    flux[:, 0] = mean(m, axis).sub_(both, alpha=0.5)
    flux[:, along] = mean((m * u).addcmul_(h, h, value=gravity / 2), axis).sub_(
        (first * slow).addcmul_(third, fast), alpha=0.5
    )
    flux[:, across] = mean(m * v, axis).sub_(both.mul_(V).add_(shear), alpha=0.5)
    return state.sub(flux.diff(dim=axis), alpha=ratio)


def extended(values: Tensor, axis: int) -> Tensor:
    """Add two ghost cells at either end of `axis` that copy the last cell: open sides."""
    low, high = values.narrow(axis, 0, 1), values.narrow(axis, -1, 1)
    return torch.cat([low, low, values, high, high], dim=axis)


def mean(values: Tensor, axis: int) -> Tensor:
    """Mean of both sides of every face but the outermost two."""
    count = values.shape[axis] - 3
    return values.narrow(axis, 1, count).add(values.narrow(axis, 2, count)).mul_(0.5)


def spread(speed: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """|speed| of a wave, widened in a rarefaction that spans speed 0 (LeVeque 15.49).

    `left` and `right` are its speeds on either side. Otherwise a jump that violates
    entropy would stand still.
    """
    width = right - left
    wide = (left + right).mul_(speed).addcmul_(left, right, value=-2).div_(width)
    return torch.where((left < 0) & (right > 0), wide, speed.abs())


def damping(
    strength: Tensor,
    speed: Tensor,
    size: Tensor,
    parts: tuple[Tensor, ...],
    axis: int,
    ratio: float,
) -> Tensor:
    """(size - |s| (1 - ratio |s|) phi) strength, of one wave at every face but the outermost.

    Upwind where the limiter phi is 0, Lax and Wendroff's where it is 1. phi compares the
    wave with the same wave at the next face upwind, projected on it; the wave's vector has
    the components 1 and `parts`.
    """
    faces = strength.shape[axis] - 2
    here, below, above = (axis, 1, faces), (axis, 0, faces + 1), (axis, 1, faces + 1)
    product = strength.narrow(*below) * strength.narrow(*above)
    if parts:
        vectors = torch.ones_like(product)
        for part in parts:
            vectors.addcmul_(part.narrow(*below), part.narrow(*above))
        product.mul_(vectors)
    strength, speed = strength.narrow(*here), speed.narrow(*here)
    norm = strength * strength
    if parts:
        squares = torch.ones_like(norm)
        for part in parts:
            squares.addcmul_(part.narrow(*here), part.narrow(*here))
        norm.mul_(squares)
    upwind = torch.where(speed > 0, product.narrow(axis, 0, faces), product.narrow(*here))
    # Still water has waves of strength 0: any finite ratio serves.
    theta = upwind.div_(norm.clamp_(min=torch.finfo(norm.dtype).tiny))
    phi = torch.minimum((theta + 1).mul_(0.5), theta.mul_(2)).clamp_(min=0, max=2)
    absolute = speed.abs()
    correction = absolute.mul(-ratio).add_(1).mul_(absolute).mul_(phi)
    return size.narrow(*here).sub(correction).mul_(strength)
