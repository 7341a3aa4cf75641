"""Excitable medium, as heart muscle is: waves of excitation that break and curl into spirals.

    u_t = ∇²u + u (1 - u) (u - (v + b) / a) / ε
    v_t = D ∇²v + u - v

u is the excitation and v the recovery, both dimensionless, as are lengths and times: diffusion of u
takes unit time over unit length, and v follows u within unit time. Excitation spreads where
u exceeds the threshold (v + b) / a: a makes waves last longer, b makes tissue harder to excite,
ε is the time of a front over that of recovery, D (`Dv`) the diffusivity of v over that of u.
Nothing flows through the walls. This is Barkley's model; `vary` stays where spirals live.

A front into tissue at rest with v held at 0 has u = 1 / (1 + exp((x - ct) / √(2ε))) and
c = (1 - 2b/a) / √(2ε), exactly. Waves are slower by O(ε), and slower where the last has just
passed; with the defaults fronts move at 4, and a spiral turns once in some 3.5, its arms 10 apart.

The initial state gives tissue a phase in the cycle of rest, front, excitation and recovery: the sum
of the angles around random points, where waves are broken, and of a random plane wave. Each
such point becomes the tip of a spiral that turns left or right.

Scheme: central differences of order 4 in space, as fluxes through faces, and the classical
Runge-Kutta method of order 4 in time. Stable up to a step of 2.78 / (32/3 / h² + 1/ε), with h the
spacing; `fraction` of that is used. A front is some 4 √(2ε) wide: 64 points a side put two of
them into it, and waves are 2 % slower than with 256 a side; with fewer than 48 they stick to the
points. A trajectory takes 0.4, 2 and 30 s of one core with 64, 128 and 256 points a side, and 16
times as much for each doubling beyond, as h² then bounds the step.

Source: Barkley, Physica D 49 (1991) 61; the regimes of a and b: Barkley, Phys. Rev. Lett. 72
(1994) 164.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import require, require_fraction, require_positive
from matey.fields import PERIODIC_SIDES, Grid, Sides, SystemSpec, Variable
from matey.simulate.schemes.stepper import WALL_SIDES, Range, Simulator, march_by_rk4, plane_grid

CELLS = 3  # tips start in different cells of a lattice of this many a side


@dataclass(frozen=True)
class Excitable(Simulator):
    """The medium. State and stored: excitation, recovery.

    Args:
        a: threshold's scale: larger is more excitable.
        b: threshold at rest times a: smaller is more excitable.
        eps: time of a front over that of recovery.
        Dv: diffusivity of the recovery over that of the excitation.
        tips: least and largest number of broken waves at the start.
        waves: largest number of plane waves across the domain at the start.
        side: length of the domain's sides.
        span: time covered, three turns of a spiral.
        fraction: time step over the largest stable one.
    """

    boundaries: ClassVar[tuple[Sides, Sides, Sides]] = (PERIODIC_SIDES, WALL_SIDES, WALL_SIDES)
    vary: ClassVar[Mapping[str, Range]] = {
        "a": Range(0.65, 0.85),
        "b": Range(0.01, 0.05),
        "eps": Range(0.02, 0.03),
    }

    a: float = 0.75
    b: float = 0.03
    eps: float = 0.025
    Dv: float = 0.01
    tips: tuple[int, int] = (1, 5)
    waves: float = 1.5
    side: float = 32.0
    span: float = 10.0
    fraction: float = 0.9

    def __post_init__(self) -> None:
        require_positive(self, "", "a", "eps", "side", "span", "fraction")
        require_fraction(self, "", "fraction")
        require(0 <= self.b < self.a / 2, "b", self.b, "from 0 to less than a/2: fronts advance")
        for name in ("Dv", "waves"):
            value = getattr(self, name)
            require(0 <= value < math.inf, name, value, "a number of 0 or more")
        require(self.Dv <= 1, "Dv", self.Dv, "1 or less: the step is that of the excitation")
        low, high = self.tips
        require(0 <= low <= high <= CELLS**2, "tips", self.tips, f"two numbers, 0 to {CELLS**2}")

    def spec(self, dt: float) -> SystemSpec:
        variables = (Variable("excitation", pseudo=False), Variable("recovery", pseudo=False))
        return SystemSpec("excitable", 2, variables, ("a", "b", "eps", "Dv"), dt)

    def grid(self, resolution: int) -> Grid:
        return plane_grid(0.0, self.side, resolution)

    def draw(self, random: np.random.Generator, resolution: int) -> Float[Tensor, "2 Y X"]:
        """Broken waves at random places, on a random plane wave."""
        count = random.integers(*self.tips, endpoint=True)
        cells = np.stack(np.divmod(random.permutation(CELLS**2)[:count], CELLS))
        places = (cells + 0.5 + random.uniform(-0.3, 0.3, cells.shape)) * self.side / CELLS
        turns = random.choice([-1, 1], count)
        angle, waves = random.uniform(0, 2 * np.pi), random.uniform(0, self.waves)
        wave = 2 * np.pi * waves / self.side * np.array([np.sin(angle), np.cos(angle)])
        x = self.grid(resolution).coordinate(2).numpy()
        y = x[:, None]
        phase = random.uniform(0, 2 * np.pi) + wave[0] * y + wave[1] * x
        slope_y, slope_x = np.full_like(phase, wave[0]), np.full_like(phase, wave[1])
        for (at_y, at_x), turn in zip(places.T, turns, strict=True):
            up, across = y - at_y, x - at_x
            square = up**2 + across**2 + 1e-12  # a point may be a tip
            phase += turn * np.arctan2(up, across)
            slope_y += turn * across / square
            slope_x -= turn * up / square
        return torch.from_numpy(self.at_phase(phase, np.hypot(slope_y, slope_x)))

    def at_phase(self, phase: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """Excitation and recovery [2 *points] at a phase of the cycle, 2π long; fronts are at 0.

        As in a train of waves: v rises from 0.04 a to 0.6 a while u is 1 and falls back while u
        is 0. `slope`, the change of the phase per length, gives fronts the width they are to have.
        """
        lowest, highest = 0.04 * self.a, 0.6 * self.a
        rise = math.log((1 - lowest) / (1 - highest))
        time = np.mod(phase / (2 * np.pi), 1) * (rise + math.log(highest / lowest))
        recovery = np.where(
            time < rise,
            1 - (1 - lowest) * np.exp(-time),
            highest * np.exp(rise - time),
        )
        back = 2 * np.pi * rise / (rise + math.log(highest / lowest))
        width = math.sqrt(2 * self.eps) * slope
        excitation = sum(
            # The distance to the nearest front, less that to the nearest back of a wave.
            sign * 0.5 * np.tanh((np.mod(phase - at + np.pi, 2 * np.pi) - np.pi) / (2 * width))
            for sign, at in ((1, 0.0), (-1, back))
        )
        return np.stack((np.clip(excitation, 0, 1), recovery))

    def run(
        self, state: Float[Tensor, "B 2 Y X"], times: Sequence[float]
    ) -> Iterator[Float[Tensor, "B 2 Y X"]]:
        """The state at each of `times`; the first is the one given.

        Computed in double precision: where much tissue is excited at once, the wave ends when a
        departure of u from 1 has grown that single precision would round away.
        """
        spacing = self.side / state.shape[-1]
        stable = 2.78 / (32 / 3 / spacing**2 + 1 / self.eps)
        rate = partial(self.rate, spacing=spacing)
        for frame in march_by_rk4(state.double(), times, self.fraction * stable, rate):
            yield frame.to(state.dtype)

    def rate(self, state: Float[Tensor, "B 2 Y X"], spacing: float) -> Float[Tensor, "B 2 Y X"]:
        """The time derivative of the state."""
        total = exchange(state).mul_(spacing**-2)
        u, v = state[:, 0], state[:, 1]
        above = u.sub(v, alpha=1 / self.a).sub_(self.b / self.a)
        growth = u.sub(u * u).mul_(above)
        total[:, 0].add_(growth, alpha=1 / self.eps)
        total[:, 1].mul_(self.Dv).add_(u).sub_(v)
        return total


def exchange(values: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B C Y X"]:
    """What flows into each cell: the Laplacian times the spacing², of order 4.

    Fluxes are (14 d - d₋ - d₊) / 12, with d the difference across a face and d∓ those across
    the faces before and behind it. None is there at a wall, in a field that goes on as its image.
    """
    total = torch.zeros_like(values)
    for axis in (-1, -2):
        cells = values.shape[axis]
        difference = values.diff(dim=axis)
        flux = difference * (14 / 12)
        if cells > 2:
            flux.narrow(axis, 1, cells - 2).sub_(
                difference.narrow(axis, 0, cells - 2), alpha=1 / 12
            )
            flux.narrow(axis, 0, cells - 2).sub_(
                difference.narrow(axis, 1, cells - 2), alpha=1 / 12
            )
        total.narrow(axis, 0, cells - 1).add_(flux)
        total.narrow(axis, 1, cells - 1).sub_(flux)
    return total
