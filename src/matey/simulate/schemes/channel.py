"""Flow in a channel past obstacles that are made of whole cells, without divergence.

A staggered grid, with velocities on the faces of cells: Harlow and Welch, Phys. Fluids 8 (1965)
2182. Fluid comes in on the left with one speed and leaves on the right; periodic along y.

Pressure is solved for in cosines along x and waves along y, by fast transforms, as if nothing were
there, and then once more with the forces on the surface of obstacles that stop the flow through
it. These solve a dense symmetric system, found once for each set of obstacles (the capacitance
matrix: Buzbee, Dorr, George and Golub, SIAM J. Numer. Anal. 8 (1971) 722). Cosines: Makhoul, IEEE
Trans. Acoust. Speech Signal Process. 28 (1980) 27.

Axes: velocities are [2 Y X], along x on the right and along y on the upper faces of cells.
"""

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.nn.functional import pad

from matey.fields.field import HALF

AT_ONCE = 32  # columns of the capacitance matrix
ROUNDING = 1e-10  # of its eigenvalues, which lie in [0, 1]


class Poisson:
    """Solves ∇²q = d by differences of order 2, times the spacing's square: q has no slope at
    either end of x and is periodic along y.

    Both are handed over in the order of `order`: even columns, then odd ones backwards. Waves W of
    a row in this order give its cosines, Re exp(-iπk / 2X) W[k], and the other way round: divided
    by their eigenvalues, they are A W[k] + B W[X - k].

    Args:
        like: an array [Y X] on the grid.
    """

    def __init__(self, like: Float[Tensor, "Y X"]) -> None:
        rows, columns = like.shape
        half = columns // 2 + 1
        number = torch.arange(columns + 1, dtype=torch.float64)
        along_x = 2 - 2 * torch.cos(torch.pi / columns * number)
        waves = torch.arange(rows, dtype=torch.float64)
        along_y = 2 - 2 * torch.cos(2 * torch.pi / rows * waves)
        eigenvalue = along_y[:, None] + along_x
        eigenvalue[0, 0] = torch.inf
        here, there = 0.5 / eigenvalue[:, :half], 0.5 / eigenvalue.flip(1)[:, :half]
        turn = torch.exp(1j * torch.pi / columns * number[:half])
        kind = torch.promote_types(like.dtype, torch.complex32)
        self.kept = -(here + there).to(like)
        self.mixed = ((there - here) * turn).to(like.device, kind)
        self.opposite = (-torch.arange(rows, device=like.device)) % rows
        self.shape = (rows, columns)

    def solve(self, divergence: Float[Tensor, "*B Y X"]) -> Float[Tensor, "*B Y X"]:
        """The potential, of mean 0. The waves of X - k are the conjugate ones of k and -y."""
        waves = torch.fft.rfft2(divergence)
        others = waves.index_select(-2, self.opposite).conj_physical_().mul_(self.mixed)
        return torch.fft.irfft2(waves.mul_(self.kept).add_(others), s=self.shape)

    def order(self, values: Num[Tensor, "*B Y X"]) -> Num[Tensor, "*B Y X"]:
        """Even columns, then odd ones backwards."""
        return torch.cat((values[..., ::2], values[..., 1::2].flip(-1)), dim=-1)

    def restore(self, values: Float[Tensor, "*B Y X"]) -> Float[Tensor, "*B Y X"]:
        """The inverse of `order`."""
        even = (self.shape[1] + 1) // 2
        restored = torch.empty_like(values)
        restored[..., ::2] = values[..., :even]
        restored[..., 1::2] = values[..., even:].flip(-1)
        return restored


class Channel:
    """What flows past one set of obstacles: its rate, without divergence.

    Args:
        mask: 1 in cells of fluid, 0 in obstacles.
        height: of the domain [m].
        inflow: speed of what comes in [m/s].
        nu: kinematic viscosity [m²/s].
    """

    def __init__(self, mask: Float[Tensor, "Y X"], height: float, inflow: float, nu: float) -> None:
        rows, columns = mask.shape
        self.h, self.inflow, self.nu = height / rows, inflow, nu
        self.poisson = Poisson(mask)

        solid = mask < HALF
        right = torch.cat((solid[:, 1:], solid[:, -1:]), dim=1)  # the cell beyond is alike
        pairs = torch.stack((solid, solid)), torch.stack((right, solid.roll(-1, 0)))
        self.open = (~(pairs[0] | pairs[1])).to(mask)
        across = pairs[0] ^ pairs[1]
        self.surface = across.flatten().nonzero()[:, 0]
        self.counts = across.flatten(1).sum(dim=1).tolist()  # of faces across x, and across y
        # The cells on both sides of each face of the surface, by their places in a solution.
        place = torch.arange(rows * columns, device=mask.device).view(rows, columns)
        place = self.poisson.order(place).flatten().argsort().view(rows, columns)
        ahead = torch.stack((place.roll(-1, 1), place.roll(-1, 0)))
        self.behind = torch.stack((place, place)).flatten()[self.surface]
        self.ahead = ahead.flatten()[self.surface]
        # Beyond a wall along a face the flow is the opposite: once more the face's own is lost for
        # each neighbour in an obstacle, whose velocity is 0.
        within = (pairs[0] & pairs[1]).to(mask)
        self.walls = torch.stack(
            (
                within[0].roll(1, 0) + within[0].roll(-1, 0),
                pad(within[1, :, 1:], (0, 1)) + pad(within[1, :, :-1], (1, 0)),
            )
        )
        self.capacitance = torch.linalg.pinv(self.response(), hermitian=True, rtol=ROUNDING)

    def response(self) -> Float[Tensor, "S S"]:
        """What is left of unit forces on the faces of the surface after projection, there."""
        matrix = torch.eye(len(self.surface), dtype=self.open.dtype, device=self.open.device)
        for first in range(0, len(matrix), AT_ONCE):
            some = matrix[first : first + AT_ONCE]
            some.sub_(self.rise(self.poisson.solve(self.spread(some))))
        return (matrix + matrix.mT) / 2

    def rise(self, potential: Float[Tensor, "*B Y X"]) -> Float[Tensor, "*B S"]:
        """How much a solution rises across each face of the surface."""
        cells = potential.flatten(-2)
        return cells[..., self.ahead] - cells[..., self.behind]

    def spread(self, forces: Float[Tensor, "*B S"]) -> Float[Tensor, "*B Y X"]:
        """The divergence of forces on the faces of the surface, for `Poisson.solve`."""
        cells = forces.new_zeros(*forces.shape[:-1], self.open[0].numel())
        parts = (part.split(self.counts, -1) for part in (forces, self.behind, self.ahead))
        for some, behind, ahead in zip(*parts, strict=True):  # cells of each are different ones
            cells.index_add_(-1, behind, some).index_add_(-1, ahead, some, alpha=-1)
        return cells.view(*forces.shape[:-1], *self.open.shape[1:])

    def project(self, velocity: Float[Tensor, "2 Y X"]) -> Float[Tensor, "2 Y X"]:
        """The nearest flow without divergence that does not cross the surface of obstacles.

        What comes in and goes out stays. What comes in is taken to be uniform, and as much as goes
        out, so that rates and velocities are treated alike.
        """
        flow = velocity * self.open
        potential = self.potential(flow)
        flow[0, :, :-1].sub_(potential.diff(dim=1))
        flow[1, :-1].sub_(potential.diff(dim=0))
        flow[1, -1].sub_(potential[0] - potential[-1])
        return flow.mul_(self.open)

    def potential(self, flow: Float[Tensor, "2 Y X"]) -> Float[Tensor, "Y X"]:
        """What has the gradient, times h, to take from a flow that is 0 on closed faces."""
        u, v = flow
        divergence = u + v
        divergence[:, 1:].sub_(u[:, :-1])
        divergence[:, 0].sub_(u[:, -1].mean())
        divergence[1:].sub_(v[:-1])
        divergence[0].sub_(v[-1])
        solution = self.poisson.solve(self.poisson.order(divergence))
        through = flow.flatten()[self.surface] - self.rise(solution)
        forces = -(self.capacitance @ through)
        return self.poisson.restore(solution.add_(self.poisson.solve(self.spread(forces))))

    def step(
        self, velocity: Float[Tensor, "2 Y X"], push: Float[Tensor, "2 Y X"], dt: float
    ) -> tuple[Float[Tensor, "2 Y X"], Float[Tensor, "2 Y X"]]:
        """One step in three stages of dt/3, dt/2, dt, each from the start of the step, as
        `wicker_skamarock`, and the push of pressure in it.

        The first stage is not projected, but takes the `push` of the step before: that this is
        late by half a step changes the end in order dt⁴ alone. Both others are.
        """
        stage = velocity.add(self.free_rate(velocity).sub_(push), alpha=dt / 3)
        stage = velocity.add(self.rate(stage), alpha=dt / 2)
        free = self.free_rate(stage)
        rate = self.project(free)
        return velocity.add(rate, alpha=dt), free.sub_(rate)

    def push(self, velocity: Float[Tensor, "2 Y X"]) -> Float[Tensor, "2 Y X"]:
        """What pressure takes from the rate of the velocity."""
        free = self.free_rate(velocity)
        return free - self.project(free)

    def rate(self, velocity: Float[Tensor, "2 Y X"]) -> Float[Tensor, "2 Y X"]:
        """The time derivative of the velocity."""
        return self.project(self.free_rate(velocity))

    def free_rate(self, velocity: Float[Tensor, "2 Y X"]) -> Float[Tensor, "2 Y X"]:
        """The time derivative of the velocity on open faces, without pressure."""
        drag = self.nu / self.h**2
        rate = self.tendency(velocity).addcmul_(self.walls, velocity, value=-drag)
        return rate.mul_(self.open)

    def tendency(self, velocity: Float[Tensor, "2 Y X"]) -> Float[Tensor, "2 Y X"]:
        """Advection and diffusion on all faces, with what obstacles hold being at rest.

        What goes out is carried by the speed of the inflow, and its mean stays.
        """
        u, v = velocity
        wide = pad(velocity, (2, 2))  # two more on the left and on the right
        wide[0, :, :2] = self.inflow
        torch.neg(v[:, :2].flip(1), out=wide[1, :, :2])
        wide[..., -2:] = velocity[..., -1:]
        tall = torch.cat((velocity[:, -2:], velocity, velocity[:, :2]), dim=1)

        # Twice the speed between the second and the third of four values, at all of them.
        sideways = torch.empty_like(wide[..., 1:-2])
        torch.add(wide[0, :, 1:-2], wide[0, :, 2:-1], out=sideways[0])
        torch.add(tall[0, 2:-2], tall[0, 3:-1], out=sideways[1, :, 1:])
        sideways[1, :, 0] = 2 * self.inflow
        upwards = torch.empty_like(tall[:, 1:-2])
        torch.add(tall[1, 1:-2, :-1], tall[1, 1:-2, 1:], out=upwards[0, :, :-1])
        torch.mul(tall[1, 1:-2, -1], 2, out=upwards[0, :, -1])
        torch.add(tall[1, 1:-2], tall[1, 2:-1], out=upwards[1])

        rate = torch.zeros_like(velocity)
        self.add_transport(rate, wide, sideways, -1)
        self.add_transport(rate, tall, upwards, -2)
        leaving = u[:, -2] - u[:, -1]
        rate[0, :, -1] = self.inflow / self.h * (leaving - leaving.mean())
        return rate

    def add_transport(self, rate: Tensor, values: Tensor, speed: Tensor, axis: int) -> None:
        """Add advection and diffusion along an axis, of values with two more at both ends.

        Advection with half of `speed` is of order 3, upwind: a value at a face is the mean of both
        sides, less a sixth of the second difference on the side that the flow comes from.
        """
        count = rate.shape[axis]
        first = values.diff(dim=axis)
        second = first.diff(dim=axis)
        both = values.narrow(axis, 1, count + 1) + values.narrow(axis, 2, count + 1)
        flux = both.mul_(speed)  # four times as much
        flux.addcmul_(speed.clamp(min=0), second.narrow(axis, 0, count + 1), value=-1 / 3)
        flux.addcmul_(speed.clamp_(max=0), second.narrow(axis, 1, count + 1), value=-1 / 3)
        rate.add_(flux.narrow(axis, 0, count), alpha=0.25 / self.h)
        rate.sub_(flux.narrow(axis, 1, count), alpha=0.25 / self.h)
        rate.add_(second.narrow(axis, 1, count), alpha=self.nu / self.h**2)
