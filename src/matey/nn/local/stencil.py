"""The linear map of the points around that fits a system best, in closed form.

All variables and frames at the points around, to the increment of each variable that changes in
time: any explicit finite-difference scheme of its width is among what it can become. The inputs
are taken to be as noisy as keeps a step from enlarging any wave by more than `GROWTH` (a ridge):
without that, the fit is as good one step ahead and a rollout of it may explode.

Axes: B samples, T times, C variables, P of them that change in time, (Z, Y, X) grid points, S
points of the stencil, R rows of the fit, K columns. Variables are sorted by name in all weights.
"""

import math
from collections.abc import Iterable, Mapping
from itertools import starmap

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.functional import pad
from torch.nn.grad import conv2d_input, conv3d_input

from matey.errors import DataError
from matey.fields import Batch, SystemSpec, away_from_cuts
from matey.fields.inputs import periodic
from matey.nn.local.sides import CONVOLUTION, Rows, beyond, channels_last
from matey.nn.operations import Cost
from matey.tokens.normalise import normalised
from matey.tokens.regions import joined, spans

WIDTHS = {1: 25, 2: 13, 3: 5}  # points along each axis, by dimensions
RIDGES = tuple(10.0**power for power in range(-10, 5))  # over the mean power of the inputs
GROWTH = 1.6  # of the amplitude of a wave in one step
WAVES = {1: 64, 2: 16, 3: 8}  # along each axis, whose growth is looked at
ROWS = 2**17  # of a fit, at most
LANES = 16  # numbers in a register of a processor
GRADIENT = {2: conv2d_input, 3: conv3d_input}


class Stencils(nn.Module):
    """A stencil for each system: zero until it is fitted. `width` is by dimensions, unless given.

    No gradient flows into the weights.
    """

    def __init__(self, history: int, width: int | None = None) -> None:
        super().__init__()
        self.history, self.width = history, width
        self.weights = nn.ParameterDict()

    def add(self, spec: SystemSpec, before: SystemSpec | None = None) -> None:
        """Make room for the weights of a system that has none yet, or had other variables `before`:
        those are to be fitted anew."""
        if spec.name not in self or (before is not None and layout(before) != layout(spec)):
            width = self.width or WIDTHS[spec.ndim]
            shape = (len(spec.predicted), self.history * len(spec.variables), *(width,) * spec.ndim)
            self.weights[key(spec.name)] = nn.Parameter(torch.zeros(shape), requires_grad=False)

    def __contains__(self, name: str) -> bool:
        return key(name) in self.weights

    def weight(self, name: str) -> Float[Tensor, "P TC *S"]:
        """The stencil of a system."""
        return self.weights[key(name)]

    @torch.no_grad()
    def take(self, name: str, other: "Stencils") -> None:
        """Take over the stencil of a system."""
        self.weight(name).copy_(other.weight(name))

    @torch.no_grad()
    def drop(self, name: str) -> None:
        """Do without the stencil of a system from now on: persistence.

        The sign of its zeros tells it from one that is not fitted yet, wherever weights go.
        """
        self.weight(name).fill_(-0.0)

    def dropped(self, name: str) -> bool:
        """Whether a system's stencil was judged, and is done without."""
        return not self.fitted(name) and bool(self.weight(name).signbit().all())

    def fitted(self, name: str) -> bool:
        """Whether a system's stencil is more than zero, as one is taken to be whose weights are
        only rehearsed with."""
        weight = self.weight(name)
        return weight.is_meta or isinstance(weight, FakeTensor) or bool(weight.any())

    def forward(
        self,
        fields: Float[Tensor, "B T C Z Y X"],
        boundaries: Int[Tensor, "B 3 2"],
        spec: SystemSpec,
        name: str,
    ) -> Float[Tensor, "B P Z Y X"] | float:
        """The increments of normalised fields of a system, by the stencil of that name; 0 by one
        that is not fitted."""
        if not self.fitted(name):
            return 0.0
        weight, grid = self.weight(name), fields.shape[3:]

        def step(first: int, last: int) -> Tensor:
            """The increments in some rows of points."""
            given = around(fields, boundaries, spec, weight.shape[-1], (first, last))
            return convolved(given.float(), weight)

        rows = grid[3 - spec.ndim]
        with torch.autocast(fields.device.type, enabled=False):
            change = joined(starmap(step, spans(rows)), rows, axis=2)
        moving = by_name(spec, spec.predicted)
        back = [moving.index(i) for i in spec.predicted]
        return change[:, back].reshape(len(fields), len(moving), *grid)

    def count(self, cost: Cost, spec: SystemSpec, name: str, points: int) -> None:
        """Add the operations of a step on so many points, of all samples together."""
        if not self.fitted(name):
            return
        weight = self.weight(name)
        inner = math.prod(weight.shape[1:])
        cost.product("stencil", points, inner, len(weight), trains=False, fields=True)

    @torch.no_grad()
    def fit(self, spec: SystemSpec, batches: Iterable[Batch], rows: int, seed: int) -> int:
        """Fit the stencil of a system to the increments over one step, at `rows` points of each
        window that `seed` draws; the floating-point operations that it took."""
        weight, generator = self.weight(spec.name), torch.Generator().manual_seed(seed)
        columns, operations = math.prod(weight.shape[1:]), 0
        square = torch.zeros(columns, columns, dtype=torch.float64)
        product = torch.zeros(columns, len(weight), dtype=torch.float64)
        for batch in batches:
            given, wanted = rows_of(batch, weight.shape[-1], rows, generator)
            square += given.T @ given
            product += given.T @ wanted
            operations += 2 * len(given) * columns * (columns + len(weight))
        power = square.diagonal().mean()
        if 0 < power < math.inf:
            best, tries = smallest_ridge(square / power, product / power, spec, self.history)
            weight.copy_(best.T.reshape(weight.shape))
            operations += tries * columns**3 // 3
        return operations


def convolved(
    values: Float[Tensor, "B TC *more"], weight: Float[Tensor, "P TC *S"]
) -> Float[Tensor, "B P *points"]:
    """The convolution, by the way that is fastest for a few outputs. No gradient flows into the
    weights."""
    if values.device.type == "cpu" and weight.ndim > 3 and len(weight) <= LANES // 2:
        made: Tensor = Convolved.apply(values, weight)
        return made
    return CONVOLUTION[weight.ndim - 2](channels_last(values), weight)


class Convolved(torch.autograd.Function):
    """A convolution with few outputs on a CPU, and so few in the backward pass."""

    @staticmethod
    def forward(ctx, values, weight):  # type: ignore[no-untyped-def]  # noqa: ANN001
        """`[B TC *more]` to `[B P *points]`."""
        ctx.save_for_backward(weight)
        ctx.shape = values.shape
        return side_by_side(values, weight)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]  # noqa: ANN001
        """The convolution of the gradient with the mirrored weights, where it has few outputs."""
        (weight,) = ctx.saved_tensors
        axes, inputs = range(2, weight.ndim), weight.shape[1]
        if inputs > LANES // 2:
            return GRADIENT[len(axes)](ctx.shape, weight, gradient), None
        around = [weight.shape[axis] - 1 for axis in reversed(axes) for _ in range(2)]
        return side_by_side(pad(gradient, around), weight.flip(*axes).transpose(0, 1)), None


def side_by_side(values: Tensor, weight: Tensor) -> Tensor:
    """The convolution, in which several points along the last axis are as many channels: a
    processor computes `LANES` channels at a time, however few are asked for."""
    outputs, width, convolve = len(weight), weight.shape[-1], CONVOLUTION[weight.ndim - 2]
    count = values.shape[-1] - width + 1
    each = min(LANES // outputs, count)
    if each < 2:
        return convolve(channels_last(values), weight)
    # Copies of the weights, each a point further on.
    length = width + each
    wide = pad(weight, (0, each))[..., None, :].expand(*weight.shape[:-1], each, length)
    wide = wide.flatten(-2)[..., : each * (length - 1)].unflatten(-1, (each, length - 1))
    wide = wide.movedim(-2, 0).flatten(0, 1)
    stride = (*(1,) * (weight.ndim - 3), each)
    made = convolve(channels_last(pad(values, (0, -count % each))), wide, stride=stride)
    return made.unflatten(1, (each, outputs)).movedim(1, -1).flatten(-2)[..., :count]


def smallest_ridge(
    square: Float[Tensor, "K K"], product: Float[Tensor, "K P"], spec: SystemSpec, history: int
) -> tuple[Float[Tensor, "K P"], int]:
    """The weights with the smallest ridge that lets no wave grow by more than `GROWTH`, and how
    many ridges were tried. The largest leaves next to nothing of them, and nothing that grows."""
    unit = torch.eye(len(square), dtype=square.dtype)
    tries = 0
    for ridge in RIDGES:
        tries += 1
        factor, failed = torch.linalg.cholesky_ex(square + ridge * unit)
        if failed:  # columns that rounding does not tell apart
            continue
        weights = torch.cholesky_solve(product, factor)
        if growth(weights, spec, history) <= GROWTH:
            break
    return weights, tries


def growth(weights: Float[Tensor, "K P"], spec: SystemSpec, history: int) -> float:
    """The largest factor by which a step of a stencil enlarges a wave in an endless domain.

    The largest size of an eigenvalue of the map from `history` frames to the next as many, over
    all waves of a lattice; static variables stay at rest.
    """
    ndim, outputs = spec.ndim, weights.shape[1]
    moving = [i for i, place in enumerate(by_name(spec)) if place in spec.predicted]
    width = round((len(weights) / history / len(spec.variables)) ** (1 / ndim))
    offset = torch.arange(-(width // 2), width // 2 + 1, dtype=torch.float64)
    angle = torch.arange(WAVES[ndim], dtype=torch.float64) * (2 * math.pi / WAVES[ndim])
    wave = torch.exp(1j * angle[:, None] * offset)
    symbol = weights.T.reshape(outputs, -1, *(width,) * ndim).to(torch.complex128)
    for _ in range(ndim):
        symbol = torch.tensordot(symbol, wave, dims=([2], [1]))
    symbol = symbol.reshape(outputs, history, -1, WAVES[ndim] ** ndim)[:, :, moving]
    step = symbol.new_zeros(symbol.shape[-1], history * outputs, history * outputs)
    step[:, :-outputs, outputs:] = torch.eye((history - 1) * outputs)
    step[:, -outputs:] = symbol.permute(3, 0, 1, 2).flatten(2)
    step[:, -outputs:, -outputs:] += torch.eye(outputs)
    return float(torch.linalg.eigvals(step).abs().max())


def rows_of(
    batch: Batch, width: int, rows: int, generator: torch.Generator
) -> tuple[Float[Tensor, "R K"], Float[Tensor, "R P"]]:
    """What is around some points of each window of a batch, and the increments there."""
    spec, (statistics, fields) = batch.spec, normalised(batch)
    change = batch.held(statistics.normalise(batch.target) - fields[:, -1])
    change = change[:, by_name(spec, spec.predicted)].flatten(2)
    given = around(fields, batch.boundaries, spec, width)
    points = batch.values.shape[6 - spec.ndim :]
    places = torch.arange(math.prod(given.shape[2:])).view(given.shape[2:])
    corner = places[tuple(slice(0, count) for count in points)].flatten()
    offset = places[(slice(0, width),) * spec.ndim].flatten()
    found = []
    near = torch.full_like(batch.lead_time, width // 2).long()
    held = away_from_cuts(batch.boundaries, batch.values.shape[-3:], near)[:, 0]
    held = held if batch.mask is None else held & batch.mask[:, 0]
    each = zip(given.flatten(2), change, held.flatten(1), strict=True)
    for sample, wanted, there in each:
        allowed = there.nonzero().squeeze(1)
        chosen = allowed[torch.randperm(len(allowed), generator=generator)[:rows]]
        seen = sample[:, corner[chosen, None] + offset]  # [TC, R, S]
        found.append((seen.movedim(0, 1).flatten(1), wanted[:, chosen].T))
    seen_rows, changes = zip(*found, strict=True)
    return torch.cat(seen_rows).double(), torch.cat(changes).double()


def around(
    fields: Float[Tensor, "B T C Z Y X"],
    boundaries: Int[Tensor, "B 3 2"],
    spec: SystemSpec,
    width: int,
    rows: Rows | None = None,
) -> Float[Tensor, "B TC *more"]:
    """All frames of all variables, sorted by name, with half a stencil more at each side; of some
    `rows` of the first axis alone, if given."""
    first, order = 3 - spec.ndim, by_name(spec)
    flat = fields.flatten(1, 2)
    flat = flat.reshape(*flat.shape[:2], *fields.shape[3 + first :])
    flat = beyond(flat, width // 2, periodic(boundaries)[:, first:], "nearest", rows)
    if order == sorted(order):
        return flat
    return flat.unflatten(1, fields.shape[1:3])[:, :, order].flatten(1, 2)


def by_name(spec: SystemSpec, places: Iterable[int] | None = None) -> list[int]:
    """Places of variables, all of them if none are given, in the order of their names."""
    chosen = range(len(spec.variables)) if places is None else places
    return sorted(chosen, key=lambda place: spec.variables[place].name)


def stand_in(spec: SystemSpec, specs: Mapping[str, SystemSpec]) -> str | None:
    """Whose stencil serves a system: its own, or that of the one system with the same variables.

    None where there is no such system, or more than one.
    """
    alike = [name for name, other in specs.items() if layout(other) == layout(spec)]
    if spec.name in alike:
        return spec.name
    return alike[0] if len(alike) == 1 and spec.name not in specs else None


def stencil_of(spec: SystemSpec, specs: Mapping[str, SystemSpec]) -> str:
    """The name of the system whose stencil serves another. Raises DataError where none does."""
    name = stand_in(spec, specs)
    if name is None:
        alike = [name for name, other in specs.items() if layout(other) == layout(spec)]
        found = (
            f"{', '.join(alike)} have its variables. Say which one it is, as its `name` in a data "
            "config (--data), or in the attribute `system` of the file"
            if alike
            else f"none of {', '.join(specs)} has its variables and dimensions. Train on it"
        )
        raise DataError(f"No stencil was fitted to system {spec.name!r}: {found}.")
    return name


def layout(spec: SystemSpec) -> tuple[int, frozenset[tuple[str, bool]]]:
    """What two systems of one stencil have in common: the order of variables does not matter."""
    return spec.ndim, frozenset((variable.name, variable.static) for variable in spec.variables)


def key(name: str) -> str:
    """The name of a system among weights, where a point would part two modules."""
    return f"{name.replace('.', ':')}_"
