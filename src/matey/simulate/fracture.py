"""Dynamic fracture: cracks run, branch and meet in a brittle plate that is held under strain.

    ρ u_tt = ∇·(σ + τ C:ε(u_t)),  σ = ∂ψ/∂ε,  ε = (∇u + ∇uᵀ) / 2
    ψ = g(d) (K <tr ε>₊² / 2 + μ |dev ε|²) + K <tr ε>₋² / 2,  g = (1 - k) (1 - d)² + k
    d minimises ∫ ψ + G (d² / 2l + l |∇d|² / 2) among all damage not below what it was

u is the displacement [m], d the damage, 0 where the plate is whole and 1 in a crack, ρ the
density, K and μ the bulk and shear modulus [Pa], C their tensor, <a>₊ and <a>₋ the positive and
negative part of a, and G the toughness [J/m²]. Plane strain. Cracks carry neither shear nor
tension; closed, they resist pressure like a layer of fluid. Broken cells keep a trace of stiffness,
k. Two lengths are the method's and not the glass's, and vanish with the spacing h: l = `width` h,
over which a crack is smeared, and c τ = `viscosity` h, with c the speed of pressure waves, for a
Kelvin-Voigt viscosity that damps what a breaking cell radiates. So cracks are as sharp as the
grid allows.

The plate is stretched, cut and held until it is in balance; at time 0 its cracks are let go,
while the grips below and above pull on at a steady speed. They do not hold it sideways, and its
left and right sides are free. `overload` is Griffith's: the energy E' strain² height / 2 that a
long crack sets free over the energy G that it takes, with E' = E / (1 - ν²). Damage has no
threshold in this model (AT2): the plate starts with that of its strain, d = y / (1 + y) with
y = l E' strain² / G. At an overload of 3 that is 0.13 on 64 points, 0.04 on 256. Above y = 1/3 it
would break everywhere at once, and is refused. Fast cracks grow wide before they branch, which
takes a run of some 50 l: overloads of 3 to 4 branch on 200 points and more, not on 64.

Scheme: components of u stand on the faces they cross, damage and normal stresses at the centres,
shear stresses at the corners, where the stiffness is the harmonic mean of four cells: one row of
broken cells, straight or diagonal, is a crack that carries nothing. Displacement and velocity
take steps in turn (position Verlet), order 2; damage is found in the middle of each step by
projected over-relaxation, and never heals. Stable up to c dt = h / √2, less by 4 % with
viscosity; `courant` of that is used. A crack along an axis takes G √(1 + (h / 2l)²) on this
grid, which is divided out; at other angles it takes 4 % more to 3 % less. At 64² points 21 frames
take 1.2 s of one core, and 44 s at 256² points.

The material is the glass of Borden et al. Source: Bourdin, Larsen and Richardson, Int. J. Fract.
168 (2011) 133, and Borden et al., Comput. Methods Appl. Mech. Eng. 217-220 (2012) 77 (dynamics);
Amor, Marigo and Maurini, J. Mech. Phys. Solids 57 (2009) 1209 (pressure and tension); Virieux,
Geophysics 51 (1986) 889 (the grid); Moczo et al., Bull. Seismol. Soc. Am. 92 (2002) 3042 (means
at corners); Bourdin, Francfort and Marigo, J. Elasticity 91 (2008) 5 (toughness on a grid).
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
from torch.nn.functional import pad

from matey.config import require, require_fraction, require_positive
from matey.fields import PERIODIC_SIDES, Grid, Sides, SystemSpec, Variable
from matey.simulate.schemes.cracks import Crack, cells_of, corner_sums, least_energy, strains
from matey.simulate.schemes.stepper import OPEN_SIDES, WALL_SIDES, Range, Simulator, march

MICROMETRE = 1e-6
FOLDS = 6.0  # e-foldings of the slowest mode while a cut plate comes into balance
CONVERGED = 60  # sweeps from any damage; a step starts from the last, and needs few


@dataclass(frozen=True)
class Fracture(Simulator):
    """A plate with cracks. Stored: displacement [µm], velocity, damage.

    State: components of displacement and velocity along x on the faces between cells along x, those
    along y likewise, then damage at the centres; arrays of one more point than there are cells
    along both axes, 0 where there is nothing.

    Args:
        toughness: energy of a crack per area, G [J/m²].
        overload: energy that a long crack would set free at first, over `toughness`.
        pull: speed at which each grip moves on [m/s].
        young: Young's modulus [Pa].
        poisson: Poisson's ratio.
        density: [kg/m³].
        length: of the plate along x [m].
        height: of the plate along y, between the grips [m].
        span: time covered [s].
        cracks: smallest and largest number of cuts; the first begins at the left or right side.
        notch: range of the length of that one, over the plate's length.
        flaw: range of the length of the others.
        tilt: largest angles to the x axis of the first and of the others [rad].
        width: l over the spacing.
        residual: stiffness of a broken cell over that of a whole one, k.
        viscosity: τ over the time that a pressure wave takes across a cell.
        courant: fraction of the largest stable step.
        sweeps: of over-relaxation at each step.
    """

    boundaries: ClassVar[tuple[Sides, Sides, Sides]] = (PERIODIC_SIDES, WALL_SIDES, OPEN_SIDES)
    vary: ClassVar[Mapping[str, Range]] = {
        "toughness": Range(2.0, 5.0, log=True),
        "overload": Range(1.5, 4.0),
        "pull": Range(0.005, 0.03),
    }

    toughness: float = 3.0
    overload: float = 2.5
    pull: float = 0.02
    young: float = 32e9
    poisson: float = 0.2
    density: float = 2450.0
    length: float = 0.04
    height: float = 0.04
    span: float = 30e-6
    cracks: tuple[int, int] = (1, 4)
    notch: tuple[float, float] = (0.15, 0.3)
    flaw: tuple[float, float] = (0.08, 0.2)
    tilt: tuple[float, float] = (0.35, 1.05)
    width: float = 1.5
    residual: float = 1e-4
    viscosity: float = 0.03
    courant: float = 0.8
    sweeps: int = 6

    def __post_init__(self) -> None:
        require_positive(self, "", "toughness", "overload", "young", "density", "length", "height")
        require_positive(self, "", "span", "width", "residual", "courant", "sweeps")
        require_fraction(self, "", "residual", "courant")
        require(-1 < self.poisson < 0.5, "poisson", self.poisson, "more than -1 and less than 1/2")
        for name in ("pull", "viscosity"):
            value = getattr(self, name)
            require(0 <= value < math.inf, name, value, "a number of 0 or more")
        for name in ("cracks", "notch", "flaw"):
            low, high = getattr(self, name)
            require(0 <= low <= high, name, (low, high), "two numbers, the lower first")

    @property
    def shear(self) -> float:
        """Shear modulus μ [Pa]."""
        return self.young / (2 * (1 + self.poisson))

    @property
    def bulk(self) -> float:
        """Bulk modulus K [Pa]."""
        return self.young / (3 * (1 - 2 * self.poisson))

    @property
    def sound(self) -> float:
        """Speed of pressure waves [m/s]."""
        return math.sqrt((self.bulk + 4 / 3 * self.shear) / self.density)

    @property
    def stretched(self) -> float:
        """Modulus E' of a plate whose sides are free [Pa]."""
        return self.young / (1 - self.poisson**2)

    @property
    def strain(self) -> float:
        """Strain between the grips at time 0."""
        energy = self.overload * self.toughness / self.height
        return math.sqrt(2 * energy / self.stretched)

    @property
    def toughness_factor(self) -> float:
        """What a crack along an axis takes on the grid, over G."""
        return math.sqrt(1 + 1 / (2 * self.width) ** 2)

    def spec(self, dt: float) -> SystemSpec:
        variables = (
            Variable("displacement_x", "um", ("x",), pseudo=False),
            Variable("displacement_y", "um", ("y",), pseudo=False),
            Variable("velocity_x", "m/s", ("x",)),
            Variable("velocity_y", "m/s", ("y",)),
            Variable("damage", pseudo=False),
        )
        return SystemSpec("fracture", 2, variables, ("toughness", "overload", "pull"), dt)

    def grid(self, resolution: int) -> Grid:
        """`resolution` points along y, and along x as many as keep cells square.

        Raises ConfigError where the overload would break the whole plate at this resolution.
        """
        most = resolution / (6 * self.width * self.toughness_factor)  # y is a third
        bounds = f"less than {most:.3g} on {resolution} points"
        require(self.overload < most, "overload", self.overload, bounds)
        h = self.height / resolution
        shape = (1, resolution, max(1, round(self.length / h)))
        return Grid(("y", "x"), shape, (0.0, h / 2, h / 2), (1.0, h, h))

    def draw(self, random: np.random.Generator, resolution: int) -> Float[Tensor, "5 Y X"]:
        """A plate with a cut from the left or right side, and others inside."""
        length, height, uniform = self.length, self.height, random.uniform
        right = bool(random.integers(2))
        far, angle = uniform(*self.notch) * length, uniform(-1, 1) * self.tilt[0]
        side, y = right * length, uniform(0.2, 0.8) * height
        end = side + far * math.cos(angle) * (-1 if right else 1), y + far * math.sin(angle)
        cuts: list[Crack] = [((side, y), end)]
        for _ in range(random.integers(self.cracks[0], self.cracks[1] + 1) - 1):
            x, y = uniform(0.25, 0.75) * length, uniform(0.15, 0.85) * height
            half, angle = uniform(*self.flaw) * length / 2, uniform(-1, 1) * self.tilt[1]
            along, up = half * math.cos(angle), half * math.sin(angle)
            cuts.append(((x - along, y - up), (x + along, y + up)))
        return self.cut(cuts, resolution)

    def cut(self, cracks: Sequence[Crack], resolution: int) -> Float[Tensor, "5 Y X"]:
        """The strained plate with these cracks, in balance, as the grips begin to pull on."""
        grid = self.grid(resolution)
        h, (rows, columns) = grid.spacing[2], grid.shape[1:]
        state = torch.zeros(1, 5, rows + 1, columns + 1, dtype=torch.float64)
        along = torch.arange(columns + 1, dtype=torch.float64) * h - self.length / 2
        up = torch.arange(rows + 1, dtype=torch.float64)[:, None] * h - self.height / 2
        state[0, 0, :-1] = -self.poisson / (1 - self.poisson) * self.strain * along
        state[0, 1, :, :-1] = self.strain * up
        damage = state[:, 4, :-1, :-1]
        for row, column in cells_of(cracks, h):
            if 0 <= row < rows and 0 <= column < columns:
                damage[:, row, column] = 1
        energy = torch.full_like(damage, self.stretched * self.strain**2 / 2)
        damage.copy_(self.damage(damage, energy, h, CONVERGED))
        state[:, :2] = self.balance(state, h)
        state[:, 2:4] = state[:, :2] * (2 * self.pull / (self.strain * self.height))
        return state[0]

    def balance(self, state: Float[Tensor, "B 5 Y X"], h: float) -> Float[Tensor, "B 2 Y X"]:
        """Displacements at rest between the grips, with the damage as it is.

        The plate swings until it is at rest, damped as its slowest mode would be critically.
        """
        state = state.clone()
        displacement, momentum = state[:, :2], torch.zeros_like(state[:, :2])
        state[:, 2:4] = 0
        dt = self.longest_step(h)
        slowest = math.pi / (2 * max(self.length, self.height))
        rate = slowest * math.sqrt(self.shear / self.density)
        keep = math.exp(-2 * rate * dt)
        for _ in range(math.ceil(FOLDS / (rate * dt))):
            momentum.mul_(keep).add_(self.acceleration(state, h), alpha=dt)
            displacement.add_(momentum, alpha=dt)
        return displacement

    def longest_step(self, h: float) -> float:
        """Time step [s]: the fastest oscillation has the frequency 2 √2 c / h."""
        damping = math.sqrt(2) * self.viscosity
        stable = h / (math.sqrt(2) * self.sound) * (math.sqrt(1 + damping**2) - damping)
        return self.courant * stable

    def run(
        self, state: Float[Tensor, "B 5 Y X"], times: Sequence[float]
    ) -> Iterator[Float[Tensor, "B 5 Y X"]]:
        """The state at each of `times`; the first is the one given. Solved in double precision."""
        h = self.height / (state.shape[-2] - 1)
        step = partial(self.step, h=h)
        for now in march(state.double(), times, self.longest_step(h), step):
            yield now.to(state.dtype)

    def step(
        self, state: Float[Tensor, "B 5 Y X"], dt: float, number: int, h: float
    ) -> Float[Tensor, "B 5 Y X"]:
        """Half a step of displacement, damage, a step of velocity, half a step of displacement."""
        state = state.clone()
        displacement, velocity, damage = state[:, :2], state[:, 2:4], state[:, 4, :-1, :-1]
        displacement.add_(velocity, alpha=dt / 2)
        damage.copy_(self.damage(damage, self.driving(state, h), h, self.sweeps))
        velocity.add_(self.acceleration(state, h), alpha=dt)
        displacement.add_(velocity, alpha=dt / 2)
        return state

    def acceleration(self, state: Float[Tensor, "B 5 Y X"], h: float) -> Float[Tensor, "B 2 Y X"]:
        """Of both components on their faces [m/s²]; 0 at the grips, which move steadily.

        Faces on the free sides have half the mass of others, and no stress beyond them.
        """
        whole, corner = self.stiffness(state[:, 4, :-1, :-1])
        xx, yy, xy = strains(state[:, 0], state[:, 1], h)
        spread = xx + yy
        mean = torch.where(spread > 0, whole * spread, spread).mul_(self.bulk)
        mean.addcmul_(whole, spread, value=-2 / 3 * self.shear)
        whole = whole.mul_(2 * self.shear)
        xx, yy = xx.mul_(whole).add_(mean), yy.mul_(whole).add_(mean)
        xy = xy.mul_(corner).mul_(self.shear)

        rate_xx, rate_yy, rate_xy = strains(state[:, 2], state[:, 3], h)
        time = self.viscosity * h / self.sound
        mean = (rate_xx + rate_yy).mul_(time * (self.bulk - 2 / 3 * self.shear))
        xx.add_(rate_xx, alpha=2 * self.shear * time).add_(mean)
        yy.add_(rate_yy, alpha=2 * self.shear * time).add_(mean)
        xy.add_(rate_xy, alpha=self.shear * time)

        change = torch.zeros_like(state[:, :2])
        along, up = change[:, 0, :-1], change[:, 1, 1:-1, :-1]
        along.copy_(pad(xx, (1, 1)).diff(dim=-1))
        along[..., 0].mul_(2)
        along[..., -1].mul_(2)
        along[..., 1:-1].add_(pad(xy, (0, 0, 1, 1)).diff(dim=-2))
        up.copy_(yy.diff(dim=-2)).add_(pad(xy, (1, 1)).diff(dim=-1))
        return change.mul_(1 / (self.density * h))

    def stiffness(
        self, damage: Float[Tensor, "B Y X"]
    ) -> tuple[Float[Tensor, "B Y X"], Float[Tensor, "B y x"]]:
        """g at the centres, and the harmonic mean of four at the corners inside."""
        whole = (1 - damage).square_().mul_(1 - self.residual).add_(self.residual)
        return whole, corner_sums(1 / whole).reciprocal_().mul_(4)

    def driving(self, state: Float[Tensor, "B 5 Y X"], h: float) -> Float[Tensor, "B y x"]:
        """-∂ψ/∂g: the energy [J/m³] that damage sets free, at the centres.

        Of the energy of shear at a corner a cell has the share ∂(harmonic mean)/∂g.
        """
        whole, corner = self.stiffness(state[:, 4, :-1, :-1])
        xx, yy, xy = strains(state[:, 0], state[:, 1], h)
        spread = xx + yy
        shear = pad(xy.mul_(corner).square_(), (1, 1, 1, 1))
        energy = corner_sums(shear).div_(whole.square_()).mul_(self.shear / 8)
        energy.addcmul_(xx - yy, xx - yy, value=self.shear / 2)
        energy.addcmul_(spread, spread, value=self.shear / 6)
        spread.clamp_(min=0)
        return energy.addcmul_(spread, spread, value=self.bulk / 2)

    def damage(
        self,
        least: Float[Tensor, "B Y X"],
        driving: Float[Tensor, "B Y X"],
        h: float,
        sweeps: int,
    ) -> Float[Tensor, "B Y X"]:
        """The damage that has the least energy among all from `least` to 1.

        (1 + y) d - l² ∇²d = y wherever d is above `least`, with y = 2 l / G times `driving`.
        """
        toughness = self.toughness / self.toughness_factor
        drive = driving * (2 * (1 - self.residual) * self.width * h / toughness)
        return least_energy(least, drive, self.width, sweeps)

    def observe(self, state: Float[Tensor, "B 5 Y X"]) -> Float[Tensor, "B 5 y x"]:
        """Displacement and velocity at the centres: means of both faces."""
        x, y = state[:, 0:4:2, :-1], state[:, 1:4:2, :, :-1]
        x, y = (x[..., 1:] + x[..., :-1]) / 2, (y[..., 1:, :] + y[..., :-1, :]) / 2
        stored = torch.stack((x, y), dim=2).flatten(1, 2)
        stored[:, :2].div_(MICROMETRE)
        return torch.cat((stored, state[:, 4:, :-1, :-1]), dim=1)
