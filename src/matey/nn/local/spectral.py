"""What travels far within one step: the lowest Fourier modes of a few channels.

Sound that crosses half the domain between two frames is a linear map of its low modes, and many
convolutions otherwise. A few channels of the features are taken apart into waves, each wave has a
complex matrix of its own, and what they add up to is added to the features.

Along a periodic axis waves are whole ones; along any other the fields go on as in a mirror, and
waves are half as many. Each sample has the waves of its own sides.

Axes: B samples, K channels of features, L of waves, N pieces along an axis, M modes along it,
pieces those of the grid of pieces, modes those of all axes; D width of the case.
"""

import math
from collections.abc import Sequence
from itertools import starmap

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn

from matey.nn.embed import case_map
from matey.nn.local.sides import CONVOLUTION
from matey.nn.operations import Cost
from matey.tokens.regions import joined, spans, strip

CHANNELS = 16  # of waves


class Spectral(nn.Module):
    """The mean, and waves of fewer than `waves` periods, or half-periods, along each axis:
    features in, features out.

    Of the `width` channels of features it takes `CHANNELS` mixtures. It is told of the case, as
    `Mix` is. Half of the modes need not be kept: fields are real.
    """

    def __init__(self, ndim: int, width: int, case: int, factor: float, waves: int) -> None:
        super().__init__()
        self.ndim, self.number, few = ndim, waves, CHANNELS
        ones = (1,) * ndim
        self.inputs = nn.Parameter(torch.randn(few, width, *ones) / math.sqrt(width))
        self.outputs = nn.Parameter(torch.randn(width, few, *ones) * 0.3 / math.sqrt(few))
        kept = (2 * waves - 1,) * (ndim - 1) + (waves,)
        # Real and imaginary parts, so that optimizers and files have real numbers only.
        self.matrices = nn.Parameter(torch.randn(*kept, few, few, 2) * 0.3 / math.sqrt(few))
        self.case = case_map(case, few, factor)

    def forward(
        self,
        values: Float[Tensor, "B K *pieces"],
        case: Float[Tensor, "B D"],
        wraps: Bool[Tensor, "B axes"],
    ) -> Float[Tensor, "B K *pieces"]:
        told = 1 + self.case(case).view(len(values), -1, *(1,) * self.ndim)
        convolve, rows = CONVOLUTION[self.ndim], values.shape[2]
        # Few channels beside the features: there as a whole, also by regions.
        each = (convolve(strip(values, 2, some), self.inputs) * told for some in spans(rows))
        low = joined(each, rows, axis=2)
        with torch.autocast(values.device.type, enabled=False):  # waves in single precision
            far = self.far(low.float(), wraps)

        def added(first: int, last: int) -> Tensor:
            """Some rows of features, with the waves."""
            here = strip(far, 2, (first, last)).to(values)
            return strip(values, 2, (first, last)) + convolve(here, self.outputs)

        return joined(starmap(added, spans(rows)), rows, axis=2)

    def far(
        self, low: Float[Tensor, "B L *pieces"], wraps: Bool[Tensor, "B axes"]
    ) -> Float[Tensor, "B L *pieces"]:
        """The sum of the waves, each times its matrix."""
        waves = [self.waves(axis, low, wraps) for axis in range(self.ndim)]
        (apart, together), *others = waves
        parts = []
        for rows in spans(low.shape[2]):
            modes = along(strip(low, 2, rows).to(torch.complex64), strip(apart, 1, rows), 2)
            for axis, (matrix, _) in enumerate(others, start=3):
                modes = along(modes, matrix, axis)
            parts.append(modes)
        modes = parts[0] if len(parts) == 1 else torch.stack(parts).sum(dim=0)
        matrices = torch.view_as_complex(self.matrices.float())
        modes = (modes.movedim(1, -1)[..., None, :] @ matrices)[..., 0, :].movedim(-1, 1)

        def put_together(first: int, last: int) -> Tensor:
            """Some rows of the sum."""
            sums = along(modes, strip(together, 2, (first, last)), 2)
            for axis, (_, matrix) in enumerate(others, start=3):
                sums = along(sums, matrix, axis)
            return sums.real

        return joined(starmap(put_together, spans(low.shape[2])), low.shape[2], axis=2)

    def waves(
        self, axis: int, low: Float[Tensor, "B L *pieces"], wraps: Bool[Tensor, "B axes"]
    ) -> tuple[Complex[Tensor, "B N M"], Complex[Tensor, "B M N"]]:
        """What takes each sample apart into waves along an axis, and what puts it together.

        Waves that so few pieces do not resolve are left out. Of the last axis the waves that run
        the other way are complex conjugates, and count by doubling the rest.
        """
        count, last = low.shape[2 + axis], axis == self.ndim - 1
        first = 0 if last else 1 - self.number
        number = torch.arange(first, self.number, device=low.device)
        middle = (torch.arange(count, device=low.device) + 0.5) / count
        turns = middle[:, None] * number  # [N M], of whole waves
        whole = torch.polar(torch.ones_like(turns), -2 * math.pi * turns)
        mirrored = torch.cos(math.pi * turns).to(whole.dtype)
        half = torch.polar(torch.ones_like(turns), math.pi * turns)
        wrap = wraps[:, axis, None, None]
        resolved = torch.where(wrap, 2 * number.abs() < count, number.abs() < count)
        apart = torch.where(wrap, whole, mirrored) * resolved / count
        together = torch.where(wrap, whole.conj(), half)
        if last:
            together = together * torch.where(number > 0, 2.0, 1.0)
        return apart, together.mT

    def count(self, cost: Cost, samples: int, pieces: Sequence[int]) -> None:
        """So many pieces of each sample along each axis. A complex product counts as four."""
        width, few = self.inputs.shape[:2][::-1]
        rows = samples * math.prod(pieces)
        cost.product("local", rows, width, few)
        cost.product("local", rows, few, width)
        cost.map("local", samples, self.case)
        kept = self.matrices.shape[: self.ndim]
        for before, after in ((pieces, kept), (kept, pieces)):  # apart, and together
            sizes = list(before)
            for axis, size in enumerate(after):
                rest = samples * few * math.prod(sizes) // sizes[axis]
                cost.product("local", 4 * rest, sizes[axis], size, trains=False)
                sizes[axis] = size
        cost.product("local", 4 * samples * math.prod(kept), few, few)


def along(
    values: Complex[Tensor, "B L *before"], matrix: Complex[Tensor, "B N M"], axis: int
) -> Complex[Tensor, "B L *after"]:
    """A matrix of each sample, applied along an axis."""
    moved = values.movedim(axis, -1)
    return (moved.flatten(1, -2) @ matrix).unflatten(1, moved.shape[1:-1]).movedim(-1, axis)
