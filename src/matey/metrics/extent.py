"""How far the values of fields extend, how steep they are, and how they are sampled.

Axes: T times, (Z, Y, X) grid points, N points that hold a field.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from matey.fields import Field, Grid
from matey.records.ranges import Range, Ranges

TAIL = 1e-3  # share of a frame's points that may be odd


def extents(field: Field) -> Ranges:
    """The ranges of the values and gradients of a field's variables, over all its frames.

    Points that hold no field, and the mask that says so, are left out.
    """
    masked = field.spec.mask is not None
    held = field.held if masked else None
    found: Ranges = {"value": {}, "extreme": {}, "gradient": {}}
    for c, variable in enumerate(field.spec.variables):
        if variable.mask:
            continue
        frames = field.values[:, c]
        points = frames.flatten(1) if held is None else frames[:, held]
        if not points.numel():
            continue
        found["value"][variable.name] = float(nth(-points).neg().min()), float(nth(points).max())
        found["extreme"][variable.name] = float(points.min()), float(points.max())
        steep = steepness(frames, field.grid, held)
        found["gradient"][variable.name] = float(steep.min()), float(steep.max())
    return found


def nth(values: Float[Tensor, "T N"]) -> Float[Tensor, " T"]:
    """The value of each frame that 0.1 % of its points lie above."""
    return values.topk(1 + int(TAIL * values.shape[1]), dim=1).values[:, -1]


def steepness(
    frames: Float[Tensor, "T Z Y X"], grid: Grid, held: Bool[Tensor, "Z Y X"] | None
) -> Float[Tensor, " T"]:
    """How large the difference of neighbouring points over their distance is in each frame, along
    its steepest axis, but for 0.1 % of the points."""
    steepest = frames.new_zeros(len(frames))
    for axis in range(3):
        count = frames.shape[axis + 1]
        if count < 2:
            continue
        distance = grid.coordinate(axis).diff().to(frames)
        shape = [-1 if other == axis else 1 for other in range(3)]
        slopes = frames.diff(dim=axis + 1).abs() / distance.view(shape)
        flat = slopes.flatten(1)
        if held is not None:
            both = held.narrow(axis, 0, count - 1) & held.narrow(axis, 1, count - 1)
            flat = slopes[:, both]
        if flat.numel():
            steepest = torch.maximum(steepest, nth(flat))
    return steepest


def sampling(
    times: Float[Tensor, " T"], dt: float, grid: Grid, parameters: Mapping[str, float]
) -> Ranges:
    """The ranges of time step, grid spacing and parameters of one trajectory; a single time has
    the step `dt` of its system."""
    steps = times.diff() if len(times) > 1 else times.new_tensor([dt])
    spacing: dict[str, Range] = {}
    for place, axis in enumerate(grid.axes, start=3 - grid.ndim):
        apart = grid.coordinate(place).diff()
        if len(apart):
            spacing[axis] = float(apart.min()), float(apart.max())
    return {
        "dt": {"": (float(steps.min()), float(steps.max()))},
        "spacing": spacing,
        "parameter": {name: (value, value) for name, value in parameters.items()},
    }
