"""The linear map of the points around that fits a system best, in closed form.

All variables and frames at the points around, to the increment of each predicted variable: what
a few seconds of least squares know of a system before any training. White noise on the inputs
(a ridge) is as little as keeps a step from enlarging any wave by more than `GROWTH`: without it
the fit is as good one step ahead, and a rollout of it explodes.

Axes: B samples, T times, C variables, P predicted variables, (Z, Y, X) grid points, S points
of the stencil, R rows of the fit, W waves.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from matey.fields import Batch, Boundary, SystemSpec
from matey.nn.cost import Cost
from matey.nn.normalise import measure
from matey.nn.sides import CONVOLUTION, beyond, channels_last

SIZES = {1: 25, 2: 13, 3: 5}  # points of the stencil along each axis, by dimensions
RIDGES = (1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # over the inputs' mean power
GROWTH = 1.6  # of the amplitude of a wave in one step
WAVES = {1: 64, 2: 16, 3: 8}  # along each axis, whose growth is looked at
STILL = 1e-3  # of the fields' scale: an increment that weighs no more if it is smaller
ROWS = 2**17  # of a fit, at most


class Stencils(nn.Module):
    """A stencil for each system that has been fitted; no other has one. None is trained."""

    def __init__(self, history: int) -> None:
        super().__init__()
        self.history = history
        self.weights = nn.ParameterDict()

    def add(self, spec: SystemSpec) -> None:
        """Make room for the weights of a system: zero, until they are fitted."""
        if spec.name not in self:
            size = SIZES[spec.ndim]
            shape = (len(spec.predicted), self.history * len(spec.variables), *(size,) * spec.ndim)
            self.weights[spec.name] = nn.Parameter(torch.zeros(shape), requires_grad=False)

    def find(self, spec: SystemSpec, systems: Mapping[str, SystemSpec]) -> str | None:
        """The name of the stencil of a system: its own, else that of one with its variables."""
        fits = [
            name
            for name, other in systems.items()
            if name in self
            and other.ndim == spec.ndim
            and {v.name for v in other.variables} == {v.name for v in spec.variables}
        ]
        return spec.name if spec.name in fits else next(iter(fits), None)

    def __contains__(self, name: str) -> bool:
        return name in self.weights

    def forward(
        self, fields: Float[Tensor, "B T C *points"], wraps: Bool[Tensor, "B axes"], name: str
    ) -> Float[Tensor, "B P *points"]:
        """The increments of normalised fields."""
        weight = self.weights[name]
        given = beyond(fields.flatten(1, 2), weight.shape[-1] // 2, wraps, "nearest")
        return CONVOLUTION[weight.ndim - 2](channels_last(given), weight)

    @torch.no_grad()
    def fit(self, spec: SystemSpec, batches: Iterable[Batch], seed: int = 0) -> None:
        """Fit the stencil of a system to the increments of its training windows."""
        size, generator = SIZES[spec.ndim], torch.Generator().manual_seed(seed)
        batches = list(batches)
        points = sum(batch.values[:, 0, 0].numel() for batch in batches)
        share = min(1.0, ROWS / points)
        square: Tensor | float = 0.0
        product: Tensor | float = 0.0
        for batch in batches:
            given, wanted = rows_of(batch, size, share, generator)
            square = square + given.T @ given
            product = product + given.T @ wanted
        assert isinstance(square, Tensor)
        power, unit = square.diagonal().mean(), torch.eye(len(square), dtype=square.dtype)
        for ridge in RIDGES:
            found = torch.linalg.solve(square + ridge * power * unit, product).T
            weight = found.reshape(self.weights[spec.name].shape)
            if growth(weight, spec.predicted, self.history) <= GROWTH:
                break
        self.weights[spec.name].copy_(weight)  # on its device, in single precision


def count_stencil(
    cost: Cost, history: int, variables: tuple[int, int], samples: int, points: Sequence[int]
) -> None:
    """Add the operations of a step: neither weights nor fields take a gradient."""
    inner = history * variables[0] * SIZES[len(points)] ** len(points)
    rows = samples * math.prod(points)
    cost.product("stencil", rows, inner, variables[1], first=True, trains=False)


def rows_of(
    batch: Batch, size: int, share: float, generator: torch.Generator
) -> tuple[Float[Tensor, "R CTS"], Float[Tensor, "R P"]]:
    """A share of the points of a batch: what is around each, and its increments."""
    spec, statistics = batch.spec, measure(batch.values)
    chosen, first = list(spec.predicted), 3 - spec.ndim
    fields = statistics.normalise(batch.values)
    target = statistics.normalise(batch.target)[:, chosen] - fields[:, -1, chosen]
    points = fields.shape[3 + first :]
    flat = fields.reshape(len(fields), -1, *points)
    wraps = (batch.boundaries == Boundary.PERIODIC).all(dim=2)[:, first:]
    around = beyond(flat, size // 2, wraps, "nearest")
    for axis in range(spec.ndim):
        around = around.unfold(axis + 2, size, 1)
    around = around.movedim(1, spec.ndim + 1).flatten(0, spec.ndim)  # [points, TC, S...]
    count = round(share * len(around))
    picked = torch.randperm(len(around), generator=generator)[:count]
    wanted = target.reshape(len(target), len(chosen), -1).movedim(1, 2)
    # A window that moves much, as a start that is no solution yet, would speak for all others.
    moved = wanted.square().mean(dim=(1, 2)).sqrt().clamp(min=STILL)
    weight = moved.rsqrt().repeat_interleave(wanted.shape[1])[picked, None].double()
    return weight * around[picked].flatten(1), weight * wanted.flatten(0, 1)[picked]


def growth(weight: Float[Tensor, "P TC *size"], predicted: Sequence[int], history: int) -> float:
    """The largest factor by which a step of a stencil enlarges a wave in an endless domain.

    The largest size of an eigenvalue of the map from `history` frames to the next as many, over
    all waves of a lattice; static variables stay at rest.
    """
    ndim, size, outputs = weight.ndim - 2, weight.shape[-1], len(predicted)
    offset = torch.arange(-(size // 2), size // 2 + 1, dtype=torch.float64)
    angle = torch.arange(WAVES[ndim], dtype=torch.float64) * (2 * math.pi / WAVES[ndim])
    wave = torch.exp(1j * angle[:, None] * offset)
    symbol = weight.to(torch.complex128)
    for _ in range(ndim):
        symbol = torch.tensordot(symbol, wave, dims=([2], [1]))
    symbol = symbol.reshape(outputs, history, -1, WAVES[ndim] ** ndim)[:, :, list(predicted)]
    step = symbol.new_zeros(symbol.shape[-1], history * outputs, history * outputs)
    step[:, :-outputs, outputs:] = torch.eye((history - 1) * outputs)
    step[:, -outputs:] = symbol.permute(3, 0, 1, 2).flatten(2)
    step[:, -outputs:, -outputs:] += torch.eye(outputs)
    return float(torch.linalg.eigvals(step).abs().max())
