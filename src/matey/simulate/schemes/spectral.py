"""Periodic boxes of one to three dimensions: Fourier modes, and their steps in time.

    û_t = L û + N(û)

û are the Fourier modes of the state, L the linear part of the equation, a number per mode,
and N the transform of the nonlinear part, which is evaluated at the grid points.

Scheme: Fourier collocation, which for smooth fields converges faster than any power of the
spacing. Modes beyond two thirds of the highest are kept at zero, so that products of two fields
are free of aliasing (Canuto, Hussaini, Quarteroni and Zang, Spectral Methods: Fundamentals
in Single Domains (2006), section 3.4). Exponential time differencing of order 4: L is
exact, for any step; N limits the step as it limits that of a Runge-Kutta method, to about 2.8
over its largest rate.
Source: Cox and Matthews, J. Comput. Phys. 176 (2002) 430, equations 26 to 29; Kassam and
Trefethen, SIAM J. Sci. Comput. 26 (2005) 1214 (its coefficients, as means over a circle).

Axes: B trajectories, S state variables, then `ndim` of points or modes.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from matey.fields import PERIODIC_SIDES, Grid, Sides
from matey.simulate.schemes.stepper import Simulator, box_grid, march, require_dimension

CIRCLE = 32  # points on a circle, on which means are then exact to rounding
Nonlinear = Callable[[Tensor], Tensor]


class Box:
    """A periodic box of equal sides: its points, its Fourier modes and the transforms.

    Args:
        points: grid points along each axis.
        side: length of a side.
        like: a tensor of the type and on the device to work in.
    """

    def __init__(self, points: tuple[int, ...], side: float, like: Tensor) -> None:
        self.points = points
        self.axes = tuple(range(-len(points), 0))
        self.mean: tuple[Any, ...] = (..., *[0] * len(points))  # where the mode of the mean is
        numbers = [torch.fft.fftfreq(n, 1 / n, dtype=torch.float64) for n in points[:-1]]
        numbers.append(torch.fft.rfftfreq(points[-1], 1 / points[-1], dtype=torch.float64))
        grids = torch.meshgrid(numbers, indexing="ij")
        kept = [grid.abs() <= (n - 1) // 3 for grid, n in zip(grids, points, strict=True)]
        self.kept = torch.stack(kept).all(dim=0).to(like.device)
        wavenumbers = 2 * torch.pi / side * torch.stack(grids)
        self.wavenumbers = wavenumbers.to(like)
        self.square = wavenumbers.square().sum(dim=0).to(like.device)  # float64, for L
        # Index of each wave's opposite, along axes that hold both.
        self.opposite = [-torch.arange(n, device=like.device) % n for n in points[:-1]]
        self.largest = 2 * torch.pi / side * ((max(points) - 1) // 3)

    def modes(self, values: Float[Tensor, "B S *points"]) -> Complex[Tensor, "B S *modes"]:
        """The modes of values at the points; those beyond two thirds are zero."""
        return torch.fft.rfftn(values, dim=self.axes).mul_(self.kept)

    def values(self, modes: Complex[Tensor, "B S *modes"]) -> Float[Tensor, "B S *points"]:
        """The values at the points of modes."""
        return torch.fft.irfftn(modes, s=self.points, dim=self.axes)

    def as_real(self, modes: Complex[Tensor, "B S *modes"]) -> Complex[Tensor, "B S *modes"]:
        """Project modes onto those of a real field.

        Waves that do not vary along the last axis are stored with their opposites, which are
        conjugate for a real field. Rounding breaks this, `values` does not see it, and in a
        system whose long waves grow the difference would grow for ever.
        """
        plane = modes[..., 0]
        opposite = plane.conj()
        for axis, indices in enumerate(self.opposite, start=2):
            opposite = opposite.index_select(axis, indices)
        modes[..., 0] = (plane + opposite) * 0.5
        return modes

    def gradient(self, modes: Complex[Tensor, "B 1 *modes"]) -> Complex[Tensor, "B D *modes"]:
        """The derivatives along the D axes, slowest first."""
        return modes * (1j * self.wavenumbers)


class ETDRK4:
    """Steps of û_t = L û + N(û); the coefficients for each length of step are kept.

    Args:
        linear: L, real or complex, a number for each variable and mode.
        nonlinear: N(û) of a state's modes.
    """

    def __init__(self, linear: Tensor, nonlinear: Nonlinear) -> None:
        self.linear = linear
        self.nonlinear = nonlinear
        self.computed: dict[str, list[Tensor]] = {}

    def __call__(self, modes: Tensor, dt: float) -> Tensor:
        """The modes one step of dt later."""
        half, whole, stage, first, middle, last = self.coefficients(dt, modes)
        rest = self.nonlinear
        start, base = rest(modes), modes * half
        a = torch.addcmul(base, stage, start)
        at_a = rest(a)
        b = torch.addcmul(base, stage, at_a)
        at_b = rest(b)
        c = (a * half).addcmul_(stage, at_b.mul(2).sub_(start))
        total = (modes * whole).addcmul_(first, start).addcmul_(last, rest(c))
        return total.addcmul_(middle, at_a.add_(at_b))

    def coefficients(self, dt: float, like: Tensor) -> list[Tensor]:
        """exp(L dt / 2), exp(L dt), and the weights of N: one for a half step, three (first,
        middle, last) for a whole step.

        Their terms cancel where L dt is small. As analytic functions they are equal to their
        means on a circle around L dt, which do not suffer from this.
        """
        key = f"{dt:.12g}"  # steps that differ by rounding count as one
        if key not in self.computed:
            step = self.linear.to(torch.complex128) * dt
            weights = [torch.zeros_like(step) for _ in range(4)]
            angles = 2 * torch.pi * (torch.arange(CIRCLE, dtype=torch.float64) + 0.5) / CIRCLE
            for offset in torch.polar(torch.ones_like(angles), angles).tolist():
                z = step + offset
                wave, cube = z.exp(), z**3
                weights[0] += ((z / 2).exp() - 1) / z
                weights[1] += (-4 - z + wave * (4 - 3 * z + z**2)) / cube
                weights[2] += 2 * (2 + z + wave * (z - 2)) / cube
                weights[3] += (-4 - 3 * z - z**2 + wave * (4 - z)) / cube
            exact = [(step / 2).exp(), step.exp(), *(w * (dt / CIRCLE) for w in weights)]
            if not self.linear.is_complex():
                exact = [values.real for values in exact]
                like = like.real
            self.computed[key] = [values.to(like) for values in exact]
        return self.computed[key]


@dataclass(frozen=True)
class PeriodicSystem(Simulator):
    """A system in a periodic box, solved by ETDRK4. It stores its state.

    Args:
        ndim: dimensions of the box, one of `dimensions`.
    """

    boundaries: ClassVar[tuple[Sides, Sides, Sides]] = (PERIODIC_SIDES,) * 3
    dimensions: ClassVar[tuple[int, ...]] = (1, 2, 3)

    ndim: int = 2

    def __post_init__(self) -> None:
        require_dimension(self.ndim, self.dimensions)

    @property
    @abstractmethod
    def side(self) -> float:
        """Length of the box's sides."""

    @abstractmethod
    def linear(self, box: Box) -> Tensor:
        """L, float64, [S *modes]."""

    @abstractmethod
    def nonlinear(self, modes: Tensor, box: Box) -> Tensor:
        """N of modes [B S *modes]."""

    @abstractmethod
    def longest_step(self, box: Box) -> float:
        """The longest step to take."""

    def grid(self, resolution: int) -> Grid:
        """A box of `resolution` cells a side, from 0 on; points are their centres."""
        return box_grid(0.0, self.side, resolution, self.ndim)

    def run(
        self, state: Float[Tensor, "B S *points"], times: Sequence[float]
    ) -> Iterator[Float[Tensor, "B S *points"]]:
        """The state at each of `times`; the first is the one given."""
        box = Box(tuple(state.shape[2:]), self.side, state)
        stepper = ETDRK4(self.linear(box), lambda modes: self.nonlinear(modes, box))

        def step(modes: Tensor, dt: float, number: int) -> Tensor:
            return box.as_real(stepper(modes, dt))

        frames = march(box.modes(state), times, self.longest_step(box), step)
        next(frames)
        yield state
        for modes in frames:
            yield box.values(modes)


def random_waves(
    random: np.random.Generator,
    components: int,
    ndim: int,
    points: int,
    highest: int,
    at: Sequence[float] = (0.5, 0.5, 0.5),
) -> Float[Tensor, "components *points"]:
    """Smooth fields of mean 0 and mean square 1 in a periodic box.

    A sum of all waves of up to `highest` periods along a side, with random phases and with
    amplitudes that on average fall as one over the wavenumber. The same draws make the same
    field on any number of points. These lie in each cell `at` these shares of its sides, slowest
    axis first: by default at its centre.
    """
    number = np.arange(-highest, highest + 1)
    size = np.sqrt(sum(n**2 for n in np.meshgrid(*[number] * ndim, indexing="ij")))
    weight = np.where((size > 0) & (size <= highest), 1 / np.maximum(size, 1), 0)
    real, imaginary = random.standard_normal((2, components, *weight.shape))
    amplitude = weight * (real + 1j * imaginary)
    # Real fields: opposite waves have conjugate amplitudes.
    amplitude = amplitude + np.flip(amplitude, axis=tuple(range(1, ndim + 1))).conj()
    amplitude /= np.sqrt(
        (np.abs(amplitude) ** 2).sum(axis=tuple(range(1, ndim + 1)), keepdims=True)
    )
    for _, share in zip(range(ndim), at, strict=False):
        places = (np.arange(points) + share) / points
        waves = np.exp(2j * np.pi * places[:, None] * number)
        amplitude = np.tensordot(amplitude, waves, axes=(1, 1))
    return torch.from_numpy(amplitude.real.copy())
