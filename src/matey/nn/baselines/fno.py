"""A Fourier neural operator, made by the `neuraloperator` package (`matey-pde[fno]`).

Layers that multiply the lowest Fourier modes by learned matrices. All its weights are held here
as real numbers, a pair for a complex one, so that the optimizer, checkpoints and model folders
are those of any model. Axes that are not periodic in every sample are continued by zeros over
a quarter of their points, as the paper does.

Axes: B samples, K channels, and one to three axes of grid points.
Source: Li et al. (2021), arXiv:2010.08895.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from matey.errors import ConfigError, ShapeError
from matey.nn.operations import Cost

LAYERS = 4


class FNO(nn.Module):
    """Channels in, channels out, on any grid of `ndim` axes that are even but for the last.

    `width` channels in each of the layers, `modes` along each axis. With `absolute_position` it
    is given the coordinates too. Raises ConfigError where `neuraloperator` is not installed.
    """

    def __init__(
        self,
        ndim: int,
        inputs: int,
        outputs: int,
        width: int,
        modes: int,
        absolute_position: bool,
    ) -> None:
        super().__init__()
        self.width, self.modes = width, [modes] * (ndim - 1) + [modes // 2 + 1]
        network = make_network(
            n_modes=(modes,) * ndim,
            in_channels=inputs,
            out_channels=outputs,
            hidden_channels=width,
            n_layers=LAYERS,
            positional_embedding="grid" if absolute_position else None,
        )
        self.weights = nn.ParameterDict()
        self.names: dict[str, str] = {}
        for name, weight in network.named_parameters():
            own = name.removesuffix(".tensor").replace(".", "_")
            real = torch.view_as_real(weight.data) if weight.is_complex() else weight.data
            self.weights[own] = nn.Parameter(real.clone())
            self.names[own] = name
        self.complex = {n for n, weight in network.named_parameters() if weight.is_complex()}
        # It computes with the weights above, has none of its own, and is no part of this module.
        self.network = (network.to("meta"),)

    def forward(
        self, fields: Float[Tensor, "B K *points"], wraps: Bool[Tensor, "B axes"]
    ) -> Float[Tensor, "B P *points"]:
        """`wraps` says which axes of a sample are periodic. Raises ShapeError for an odd axis."""
        points = fields.shape[2:]
        check_even(points)
        for axis, periodic in enumerate(wraps.all(dim=0).tolist(), start=2):
            if not periodic:
                fields = nn.functional.pad(fields, after(axis, fields.ndim, more(points[axis - 2])))
        weights = {
            name: torch.view_as_complex(self.weights[own])
            if name in self.complex
            else self.weights[own]
            for own, name in self.names.items()
        }
        # Fourier transforms have single precision or more.
        with torch.autocast(fields.device.type, enabled=False):
            found: Tensor = torch.func.functional_call(
                self.network[0], weights, (fields.float(),), strict=True
            )
        for axis, count in enumerate(points, start=2):
            found = found.narrow(axis, 0, count)
        return found

    def count(self, cost: Cost, samples: int, points: Sequence[int]) -> None:
        """Add the operations of a step on so many grid points, without what continues axes.

        A complex multiply-add counts as four real ones, where torch's counter takes it for one;
        a transform of N points as 2.5 N log2 N operations, which torch does not count at all.
        """
        rows = samples * math.prod(points)
        for name, weight in self.weights.items():
            # Maps of each point's channels; those of modes have more axes, gates are no products.
            if name.endswith("weight") and weight.ndim == 3 and "mlp_skips" not in name:
                cost.product("pointwise", rows, weight.shape[1], weight.shape[0])
        sizes = [*points[:-1], points[-1] // 2 + 1]
        kept = math.prod(min(size, mode) for size, mode in zip(sizes, self.modes, strict=True))
        for _ in range(LAYERS):
            cost.product("spectral", 4 * samples * kept, self.width, self.width)
        transforms = 2 * LAYERS * self.width
        work = int(transforms * 2.5 * rows * math.log2(math.prod(points)))
        cost.add("fourier", work, work)


def make_network(**settings: Any) -> nn.Module:
    """neuraloperator's FNO. Raises ConfigError where it cannot be imported."""
    try:
        with warnings.catch_warnings():  # what it imports sets filters of its own
            warnings.simplefilter("ignore")
            import neuralop.models as neural
    except ImportError as error:
        raise ConfigError(
            f"An FNO needs neuraloperator ({error}). Install it: pip install 'matey-pde[fno]', or "
            "take the U-Net: --baseline unet."
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network: nn.Module = neural.FNO(**settings)
    return network


def check_even(points: Sequence[int], name: str = "the fields") -> None:
    """Raise ShapeError for an odd axis but the last: neuraloperator would mistake its modes."""
    for axis, count in zip("ZYX"[3 - len(points) : 2], points, strict=False):
        if count > 1 and count % 2:
            raise ShapeError(
                f"Axis {axis} of {name} has {count} grid points, and an FNO takes even numbers "
                f"along all axes but X. Crop it to {count - 1}, or take --baseline unet."
            )


def more(points: int) -> int:
    """By how many zeros an axis is continued: a quarter, and an even number in all."""
    return points // 4 + (points + points // 4) % 2


def after(axis: int, ndim: int, count: int) -> list[int]:
    """torch's list of pads with so many at the end of one axis."""
    pads = [0] * (2 * (ndim - axis))
    pads[-1] = count
    return pads
