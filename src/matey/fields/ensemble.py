"""An ensemble of fields: what may come, each member as likely as the others.

Axes: M members, T times, C variables, (Z, Y, X) grid points.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from matey.errors import DataError
from matey.fields.field import Field

if TYPE_CHECKING:
    import xarray

MEMBER = "member"  # the axis in datasets and files
COUNT = "members"  # the attribute that says how many there are


@dataclass(frozen=True)
class Ensemble:
    """Fields that differ in their values alone. Raises DataError for fewer than two, or others."""

    members: tuple[Field, ...]

    def __post_init__(self) -> None:
        if len(self.members) < 2:
            raise DataError(f"An ensemble of {len(self.members)}: it has two members or more.")
        first = self.members[0]
        for member in self.members[1:]:
            same = member.description == first.description
            if not same or not torch.equal(member.times, first.times):
                raise DataError("The members of an ensemble differ in more than their values.")

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, member: int) -> Field:
        return self.members[member]

    def __iter__(self) -> Iterator[Field]:
        return iter(self.members)

    @property
    def values(self) -> Tensor:
        """The values of all members, [M T C Z Y X]."""
        return torch.stack([member.values for member in self.members])

    @property
    def mean(self) -> Field:
        """The mean of the members."""
        return replace(self.members[0], values=self.values.mean(dim=0))

    @property
    def spread(self) -> Field:
        """The standard deviation between members at each point, which divides by M - 1."""
        return replace(self.members[0], values=self.values.std(dim=0))

    def quantile(self, q: float) -> Field:
        """The value that a fraction `q` of the members lies below, at each point."""
        return replace(self.members[0], values=self.values.quantile(q, dim=0))

    def to_xarray(self) -> "xarray.Dataset":
        """A dataset as `Field.to_xarray` makes it, in which what is predicted has the axis `member`
        before the others. `isel(member=k)` is the dataset of a member."""
        datasets = [member.to_xarray() for member in self.members]
        made, spec = datasets[0].copy(), self.members[0].spec
        for variable in (spec.variables[i] for i in spec.predicted):
            name = variable.alias or variable.name
            values = np.stack([one[name].values for one in datasets])
            made[name] = datasets[0][name].expand_dims({MEMBER: len(self)}).copy(data=values)
        return made.assign_coords({MEMBER: range(len(self))}).assign_attrs({COUNT: len(self)})
