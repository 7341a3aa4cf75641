"""Histories stacked into the inputs of a model, and the frame it learns to predict.

Axes: B samples, T times, C variables, P parameters, W numbers of noise, (Z, Y, X) grid points.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from matey.errors import ShapeError
from matey.fields.crop import Crop, away_from_cuts
from matey.fields.field import HALF, Field
from matey.fields.grid import Points, even_points, stack_points, stack_spacing
from matey.fields.mirrors import mirror
from matey.fields.system import Boundary, SystemSpec, Variable

Stacked = TypeVar("Stacked", bound="Inputs")


@dataclass(frozen=True)
class Inputs:
    """The inputs of a model: stacked histories of one system on one grid shape.

    `lead_time` is in units of the system's dt; `boundaries` holds `Boundary` codes per
    sample, axis and side; `parameters` are in the order of `spec.parameters`; `sources`
    names each sample's file for error messages. `points` are the positions of the grid points,
    None if all grids are even. `spacing` is the mean step along Z, Y and X; None if it is unknown.
    `noise` are numbers that tell the members of an ensemble apart; None for a single prediction.
    `crop` tells where samples lie that are a part of their domain; None of whole ones. Sides that
    were cut are `CUT` in `boundaries`.
    """

    values: Float[Tensor, "B T C Z Y X"]
    lead_time: Float[Tensor, " B"]
    boundaries: Int[Tensor, "B 3 2"]
    parameters: Float[Tensor, "B P"]
    spec: SystemSpec
    sources: tuple[str, ...]
    points: Points | None = field(default=None, kw_only=True)
    spacing: Float[Tensor, "B 3"] | None = field(default=None, kw_only=True)
    noise: Float[Tensor, "B W"] | None = field(default=None, kw_only=True)
    crop: Crop | None = field(default=None, kw_only=True)

    @cached_property
    def mask(self) -> Bool[Tensor, "B 1 Z Y X"] | None:
        """Where there is a field; None where it is everywhere."""
        at = self.spec.mask
        return None if at is None else self.values[:, -1, at : at + 1] > HALF

    @cached_property
    def space(self) -> Points | None:
        """The points, with the mask: what means over space are taken by. None where all points
        count alike."""
        if self.mask is None:
            return self.points
        z, y, x = self.values.shape[-3:]
        points = self.points or even_points(len(self.values), (z, y, x), self.values.device)
        return replace(points, mask=self.mask)

    @cached_property
    def judged(self) -> Points | None:
        """What a loss takes means by: the same, without the margins of crops."""
        if self.crop is None:
            return self.space
        z, y, x = self.values.shape[-3:]
        steps = self.crop.steps + self.lead_time.round().clamp(min=1).long()
        mask = away_from_cuts(self.boundaries, (z, y, x), self.crop.margin * steps)
        points = self.space or even_points(len(self.values), (z, y, x), self.values.device)
        return replace(points, mask=mask if points.mask is None else mask & points.mask)

    @property
    def sides(self) -> Int[Tensor, "B 3 2"]:
        """What lies at the sides of each sample: of a whole axis the `boundaries`, of a part of one
        those of the domain that it reaches, also the seam of a periodic axis."""
        return self.boundaries if self.crop is None else self.crop.sides(self.values.shape[-3:])

    def shifted_space(self, shift: Sequence[int]) -> Points | None:
        """The same for fields that are shifted by so many points along Z, Y and X."""
        return self.space.rolled(shift) if self.space and any(shift) else self.space

    def held(self, values: Float[Tensor, "B *axes Z Y X"]) -> Float[Tensor, "B *axes Z Y X"]:
        """The same values, zero where there is no field."""
        if self.mask is None:
            return values
        mask = self.mask if values.ndim == 5 else self.mask[:, None]
        return torch.where(mask, values, 0)

    def mirrored(self: Stacked, axes: Sequence[int], variables: Sequence[Variable]) -> Stacked:
        """The same mirrored across some axes, 0 to 2: histories, of so many `variables`, sides,
        positions, and where a crop lies."""
        if not axes:
            return self
        each, boundaries, crop = [axes] * len(self.values), self.boundaries.clone(), self.crop
        for axis in axes:
            boundaries[:, axis] = self.boundaries[:, axis].flip(1)
        if crop is not None:
            crop = crop.moved(each, torch.zeros_like(crop.first), self.values.shape[-3:])
        return replace(
            self,
            values=mirror(self.values, axes, variables),
            boundaries=boundaries,
            points=self.points and self.points.mirrored(each),
            crop=crop,
        )

    def repeated(self: Stacked, times: int) -> Stacked:
        """Each sample so many times, one after the other."""
        if times == 1:
            return self
        each = torch.arange(len(self.values), device=self.values.device).repeat_interleave(times)
        tensors: dict[str, Any] = {
            one.name: value[each]
            for one in fields(self)
            if isinstance(value := getattr(self, one.name), Tensor)
        }
        sources = tuple(self.sources[i] for i in each.tolist())
        points = self.points.take(each) if self.points else None
        crop = self.crop.take(each) if self.crop else None
        return replace(self, **tensors, sources=sources, points=points, crop=crop)

    def to(self: Stacked, device: torch.device) -> Stacked:
        """The same on another device."""
        moved: dict[str, Any] = {
            one.name: dense(value, device).to(device, non_blocking=True)
            for one in fields(self)
            if isinstance(value := getattr(self, one.name), Tensor)
        }
        points = self.points.to(device) if self.points else None
        crop = self.crop.to(device) if self.crop else None
        return replace(self, **moved, points=points, crop=crop)


@dataclass(frozen=True)
class Batch(Inputs):
    """Inputs, and the frame to predict: `pushes` steps of lead 1 and then `lead_time` later.

    `between` are the frames of those steps, where they are learned from, too.
    """

    target: Float[Tensor, "B C Z Y X"]
    pushes: int = 0
    between: Float[Tensor, "B pushes C Z Y X"] | None = None


def periodic(boundaries: Int[Tensor, "B axes 2"]) -> Bool[Tensor, "B axes"]:
    """Which axes of each sample go on across their sides."""
    return (boundaries == Boundary.PERIODIC).all(dim=2)


def dense(values: Tensor, device: torch.device) -> Tensor:
    """Values that copy to the device in one piece, in their memory order. Part of a larger tensor
    is cloned first: torch would reorder its axes before and after the copy."""
    part = values.untyped_storage().nbytes() > values.nbytes
    return values.clone() if part and values.device.type != device.type else values


def stack(values: Sequence[Float[Tensor, "... Z Y X"]]) -> Float[Tensor, "B ... Z Y X"]:
    """Stack values of several samples. If x is the slowest axis in memory, as in some files, it
    stays so: reordering the axes takes longer than reading the file."""
    if values[0].stride(-1) > values[0].stride(-2):
        return torch.stack([one.transpose(-3, -1) for one in values]).transpose(-3, -1)
    return torch.stack(list(values))


def stack_fields(
    fields: Sequence[Field], lead_times: Sequence[float], sources: Sequence[str]
) -> Inputs:
    """Stack histories of one system. Raises ShapeError if grids or lengths differ."""
    spec = fields[0].spec
    shapes = {tuple(history.values.shape) for history in fields}
    if len(shapes) > 1:
        raise ShapeError(f"Fields of shapes {sorted(shapes)} do not stack into one batch.")
    parameters = [[history.parameters[name] for name in spec.parameters] for history in fields]
    return Inputs(
        values=stack([history.values for history in fields]),
        lead_time=torch.tensor(lead_times, dtype=torch.float32),
        boundaries=torch.tensor([history.boundaries for history in fields]),
        parameters=torch.tensor(parameters, dtype=torch.float32).reshape(len(fields), -1),
        spec=spec,
        sources=tuple(sources),
        points=stack_points([history.grid for history in fields]),
        spacing=stack_spacing([history.grid for history in fields]),
    )
