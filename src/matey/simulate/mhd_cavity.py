"""Lid-driven cavity of a conducting fluid: the lid drives it round, across a magnetic field.

    u_t + (u·∇)u = -∇p + ∇²u / Re + j × B,  ∇·u = 0
    A_t + (u·∇)A = ∇²A / Rem,  B = (A_y, -A_x),  j = -∇²A

u is the velocity (u, v) in units of the lid's speed, lengths are in units of the side of the
cavity [-0.5, 0.5]² and times in those of side over speed; B is the magnetic field in Alfvén
units (as a velocity), A its potential and j the current, both along z. Re and Rem are the
Reynolds and the magnetic Reynolds number, and Bx the strength of a uniform background
along x, the induced field being B - (Bx, 0). The fluid starts at rest, without an
induced field, when the lid at y = 0.5 starts to move at speed 1 along x. The fluid does not slip
at the walls, which conduct perfectly: A stays Bx y there, so that no induced field crosses them,
and the current there is zero.

Scheme: the stream function ψ, u = (ψ_y, -ψ_x), and A stand at the corners of the cells, u and B
at the faces, so that both are free of divergence to rounding. Advection is that of Harlow and
Welch (Phys. Fluids 8 (1965) 2182). The curl of the momentum equation, which has no pressure,
gives ψ_t by a Poisson equation that is solved in the eigenvectors of the Laplacian. Vorticity at
the walls is Thom's. Central differences are of order 2 in space; without diffusion or a lid only
the time step changes kinetic plus magnetic energy. Order 4 in time (classical Runge-Kutta).
Stable up to the lesser of 2.78 h² / (8 max(1/Re, 1/Rem)) for diffusion and 2.83 h / c for waves
of speed c, with h the spacing; `fraction` of that is used.
Source: Ghia, Ghia and Shin, J. Comput. Phys. 48 (1982) 387 (the cavity); Davidson,
Introduction to Magnetohydrodynamics (2016), chapter 2 (the equations).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from matey.config import require, require_fraction, require_positive
from matey.fields import PERIODIC_SIDES, Grid, Sides, SystemSpec, Variable
from matey.simulate.schemes.stepper import WALL_SIDES, Simulator, march_by_rk4, plane_grid


@dataclass(frozen=True)
class MHDCavity(Simulator):
    """The cavity. State: ψ, A at the corners of the cells. Stored: velocity, induced field.

    Args:
        Re: Reynolds number.
        Rem: magnetic Reynolds number.
        Bx: range that the background field is drawn from.
        lid: speed of the lid.
        span: time covered, twelve intervals of 0.4 in the published files.
        fraction: time step over the largest stable one.
    """

    boundaries: ClassVar[tuple[Sides, Sides, Sides]] = (PERIODIC_SIDES, WALL_SIDES, WALL_SIDES)

    Re: float = 200.0
    Rem: float = 100.0
    Bx: tuple[float, float] = (0.05, 0.5)
    lid: float = 1.0
    span: float = 4.8
    fraction: float = 0.8

    def __post_init__(self) -> None:
        require_positive(self, "", "Re", "Rem", "span", "fraction")
        require_fraction(self, "", "fraction")
        require(self.Bx[0] <= self.Bx[1], "Bx", self.Bx, "the lower end first")

    def spec(self, dt: float) -> SystemSpec:
        variables = [
            Variable(f"{name}_{axis}", axes=(axis,))
            for name in ("velocity", "magnetic")
            for axis in ("x", "y")
        ]
        return SystemSpec("mhd_cavity", 2, tuple(variables), ("Re", "Rem", "Bx"), dt)

    def grid(self, resolution: int) -> Grid:
        return plane_grid(-0.5, 0.5, resolution)

    def drawn(self, trajectory: int, seed: int) -> dict[str, float]:
        """The background field."""
        return {"Bx": np.random.default_rng([seed, trajectory]).uniform(*self.Bx)}

    def draw(self, random: np.random.Generator, resolution: int) -> Float[Tensor, "2 Y X"]:
        """Fluid at rest in the background field, for a square of `resolution`² cells."""
        y = torch.linspace(-0.5, 0.5, resolution + 1, dtype=torch.float64)
        state = torch.zeros(2, len(y), len(y), dtype=torch.float64)
        state[1] = random.uniform(*self.Bx) * y[:, None]
        return state

    def run(
        self, state: Float[Tensor, "B 2 Y X"], times: Sequence[float]
    ) -> Iterator[Float[Tensor, "B 2 Y X"]]:
        """The state at each of `times`; the first is the one given."""
        spacing = 1 / (state.shape[-1] - 1)
        diffusion = 2.78 * spacing**2 / 8 * min(self.Re, self.Rem)
        # Alfvén waves, in a field that may become twice as strong as the background, on a
        # fluid that moves no faster than the lid along either axis.
        waves = 2.83 * spacing / (1.5 * abs(self.lid) + 2 * max(map(abs, self.Bx)))
        rate = partial(self.rate, spacing=spacing)
        return march_by_rk4(state, times, self.fraction * min(diffusion, waves), rate)

    def rate(self, state: Float[Tensor, "B 2 Y X"], spacing: float) -> Float[Tensor, "B 2 Y X"]:
        """The time derivative of the state.

        The curl of the momentum equation, u_t = -∇·(uu) + j × B - ∇ × ω / Re, with ω the
        vorticity, and the induction equation, at the corners inside.
        """
        fields = self.widen(state)
        stream, potential = fields[:, 0], fields[:, 1]
        half = 0.5 / spacing
        u, v = across(stream, -2).mul_(half), across(stream, -1).mul_(-half)
        bx, by = across(potential, -2).mul_(half), across(potential, -1).mul_(-half)
        vorticity, current = five_point(fields).mul_(-(spacing**-2)).unbind(1)

        corners = self.enclose(torch.stack((u * v, current * bx, current * by, vorticity), 1))
        self.set_wall_vorticity(corners[:, 3], stream, spacing)
        stress, push_x, push_y, vorticity = corners.unbind(1)
        curl = centre_stress(stream).mul_(0.25 * spacing**-2).diff(dim=-1).diff(dim=-2)
        curl += (
            second(stress, -2)
            .sub_(second(stress, -1))
            .add_(five_point(vorticity), alpha=1 / self.Re)
        )
        curl.mul_(spacing**-2).add_(across(push_x, -1).add_(across(push_y, -2)), alpha=half)

        induction = u.mul_(by).sub_(v.mul_(bx)).sub_(current, alpha=1 / self.Rem)
        return self.assemble(curl, induction, corners, spacing)

    def widen(self, corners: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B C Y2 X"]:
        """The corners that differences at the inner ones need: all, up to the walls."""
        return corners

    def enclose(self, inner: Float[Tensor, "B C y x"]) -> Float[Tensor, "B C Y X"]:
        """Add zeros on the walls to values at the inner corners.

        Neither fluid nor induced field crosses the walls, and the fluid moves with them: u v is
        0, and so is j, as there is no electric field in a moving conductor.
        """
        return pad(inner, (1, 1, 1, 1))

    def set_wall_vorticity(
        self, vorticity: Float[Tensor, "B Y X"], stream: Float[Tensor, "B Y X"], spacing: float
    ) -> None:
        """Fill in ω on the walls: the change of speed over the half cell beside them."""
        scale = -2 / spacing**2
        vorticity[:, :, 0], vorticity[:, :, -1] = scale * stream[:, :, 1], scale * stream[:, :, -2]
        vorticity[:, 0], vorticity[:, -1] = scale * stream[:, 1], scale * stream[:, -2]
        vorticity[:, -1] -= 2 * self.lid / spacing

    def assemble(
        self,
        curl: Float[Tensor, "B y x"],
        induction: Float[Tensor, "B y x"],
        corners: Float[Tensor, "B 4 Y X"],
        spacing: float,
    ) -> Float[Tensor, "B 2 Y X"]:
        """The rates of ψ and A from the inner ones of vorticity and A; 0 on the walls."""
        return self.enclose(torch.stack((solve_poisson(curl), induction), dim=1))

    def observe(self, state: Float[Tensor, "B 2 Y X"]) -> Float[Tensor, "B 4 y x"]:
        """Velocity and induced field at the centres: means of both faces."""
        cells = state.shape[-1] - 1
        # On the side walls the potential is the background's.
        induced = torch.cat((state[:, :1], state[:, 1:] - state[:, 1:, :, :1]), dim=1)
        x, y = along_faces(induced)
        stored = torch.stack((mean(x, -1), mean(y, -2)), dim=2) * cells
        return stored.flatten(1, 2)


def along_faces(potential: Float[Tensor, "*B Y X"]) -> tuple[Tensor, Tensor]:
    """(∂/∂y, -∂/∂x) times the spacing: components at the faces they cross, of shapes
    [*B Y-1 X] and [*B Y X-1]. Without divergence, whatever the potential."""
    return potential.diff(dim=-2), potential.diff(dim=-1).neg()


def centre_stress(stream: Float[Tensor, "B Y X"]) -> Float[Tensor, "B y x"]:
    """u² - v² at the centres, times 4 spacing²: (u - v) (u + v)."""
    u, v = along_faces(stream)
    u, v = u[..., :-1] + u[..., 1:], v[..., :-1, :] + v[..., 1:, :]
    return (u - v).mul_(u.add_(v))


def inner(values: Tensor, axis: int) -> Tensor:
    """Values without the first and the last along an axis."""
    return values.narrow(axis, 1, values.shape[axis] - 2)


def across(values: Tensor, axis: int) -> Tensor:
    """Next less previous along `axis`, at the corners inside."""
    count = values.shape[axis] - 2
    difference = values.narrow(axis, 2, count) - values.narrow(axis, 0, count)
    return inner(difference, -3 - axis)


def second(values: Tensor, axis: int) -> Tensor:
    """Next less twice this plus previous along `axis`, at the corners inside."""
    return inner(values.diff(dim=axis).diff(dim=axis), -3 - axis)


def five_point(values: Tensor) -> Tensor:
    """The Laplacian times the spacing², at the corners inside."""
    return second(values, -1).add_(second(values, -2))


def mean(values: Tensor, axis: int) -> Tensor:
    """Mean of neighbours along an axis."""
    count = values.shape[axis] - 1
    return values.narrow(axis, 0, count).add(values.narrow(axis, 1, count)).mul_(0.5)


@lru_cache(maxsize=8)
def eigenvectors(cells: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Eigenvectors of -∇² in a square of `cells`² with zeros on its sides: sines along one
    axis, and one over the eigenvalues of their products."""
    number = torch.arange(1, cells, dtype=torch.float64)
    vectors = (2 / cells) ** 0.5 * (torch.pi / cells * number[:, None] * number).sin()
    values = 4 * cells**2 * (torch.pi / (2 * cells) * number).sin() ** 2
    inverse = 1 / (values[:, None] + values)
    return vectors.to(device, dtype), inverse.to(device, dtype)


def solve_poisson(source: Float[Tensor, "B y x"]) -> Float[Tensor, "B y x"]:
    """Solve -∇²f = source inside the square, with f = 0 on its sides; exact to rounding.

    Source: Lynch, Rice and Thomas, Numer. Math. 6 (1964) 185 (fast diagonalisation).
    """
    vectors, inverse = eigenvectors(source.shape[-1] + 1, source.dtype, source.device)
    spectrum = (vectors @ source @ vectors).mul_(inverse)
    return vectors @ spectrum @ vectors
