"""A trajectory or a part of one, in physical units.

Axes: T times, C variables, (Z, Y, X) grid points.
"""

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from matey.errors import DataError, ShapeError
from matey.fields.description import KEY, Description, read_description
from matey.fields.grid import Grid
from matey.fields.labels import Labels, plain_labels
from matey.fields.system import Boundary, Sides, SystemSpec

HALF = 0.5  # a mask is 1 or 0

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class Field:
    """Values of a system's variables over times and a grid, in physical units.

    `values` is [T C Z Y X], `times` [T] increasing, `boundaries` a (low, high) pair per
    axis Z, Y, X (periodic on inactive axes), `parameters` a number by name. `provenance` says
    in words where the field comes from: a file, or a model and its input; `labels` what its file
    calls its axes. What variables hold where the system's mask is 0 counts nowhere; datasets and
    files have NaN there.
    Raises ShapeError or DataError where these do not fit together.
    """

    values: Float[Tensor, "T C Z Y X"]
    times: Float[Tensor, " T"]
    grid: Grid
    boundaries: tuple[Sides, Sides, Sides]
    parameters: dict[str, float]
    spec: SystemSpec
    provenance: dict[str, str] = field(default_factory=dict)
    labels: Labels | None = None

    def __post_init__(self) -> None:
        steps, variables, *points = self.values.shape
        if tuple(points) != self.grid.shape:
            raise ShapeError(f"Values on {tuple(points)} points do not fit grid {self.grid.shape}.")
        if variables != len(self.spec.variables):
            raise ShapeError(
                f"{variables} variables found, but system {self.spec.name!r} has "
                f"{[variable.name for variable in self.spec.variables]}."
            )
        if steps != len(self.times):
            raise ShapeError(f"{steps} frames do not fit {len(self.times)} times.")
        times = self.times.tolist()  # for a few frames faster than with tensors
        if any(later <= earlier for earlier, later in itertools.pairwise(times)):
            raise DataError(f"Times of system {self.spec.name!r} do not increase.")
        if self.grid.ndim != self.spec.ndim:
            raise ShapeError(
                f"A {self.grid.ndim}-dimensional grid does not fit system {self.spec.name!r} "
                f"of {self.spec.ndim} dimensions."
            )
        if set(self.parameters) != set(self.spec.parameters):
            raise DataError(
                f"Parameters {sorted(self.parameters)} do not fit those of system "
                f"{self.spec.name!r}: {sorted(self.spec.parameters)}."
            )

    def __len__(self) -> int:
        return len(self.times)

    @property
    def held(self) -> Bool[Tensor, "Z Y X"]:
        """Which grid points hold a field: all of them where there is no mask."""
        if self.spec.mask is None:
            return torch.ones(self.grid.shape, dtype=torch.bool, device=self.values.device)
        return self.values[-1, self.spec.mask] > HALF

    @property
    def description(self) -> Description:
        """Everything but the values and times."""
        return Description(self.spec, self.grid, self.boundaries, self.parameters, self.labels)

    def to_xarray(self) -> "xarray.Dataset":
        """This field as an xarray dataset, one array (time, axes of the file) per variable.

        Arrays are called as in the file, if it has a name of its own, and their attribute
        `canonical_name` as in matey. Axes, their names and directions, times with their units and
        calendar, and attributes are those of the file. Attributes hold parameters and boundaries
        too; from `matey_field`, `from_xarray` and `matey.open` restore the field.
        """
        import xarray

        labels, active = self.labels or plain_labels(self.grid), range(3 - self.grid.ndim, 3)
        dims = tuple(labels.dim(axis) for axis in ("time", *self.grid.axes))
        coords = {
            labels.coordinate(name): (
                labels.dim(name),
                self.grid.coordinate(axis).numpy(),
                labels.of(labels.coordinate(name)),
            )
            for name, axis in zip(self.grid.axes, active, strict=True)
            if labels.coordinate(name)
        }
        times = self.times.cpu().numpy()
        coords[labels.time] = (labels.dim("time"), times, labels.of(labels.time))
        arrays, masked = {}, ~self.held if self.spec.mask is not None else None
        for i, variable in enumerate(self.spec.variables):
            values = self.values[:, i]
            if masked is not None and not variable.mask:  # missing, as other programs know it
                values = values.masked_fill(masked, torch.nan)
            values = values.reshape(len(self), *self.grid.shape[3 - self.grid.ndim :])
            alias = variable.alias or variable.name
            attributes = {
                **labels.of(alias),
                "units": variable.units,
                "canonical_name": variable.name,
                "static": int(variable.static),
            }
            if variable.pseudo is not None:
                attributes["pseudo"] = int(variable.pseudo)
            array = values.cpu().numpy()
            still = alias in labels.still
            arrays[alias] = (dims[1:], array[0], attributes) if still else (dims, array, attributes)
        sides = {
            f"boundary_{name}": " ".join(Boundary(side).name for side in self.boundaries[axis])
            for name, axis in zip(self.grid.axes, active, strict=True)
        }
        about = {
            **labels.of(""),
            "system": self.spec.name,
            **self.parameters,
            **sides,
            KEY: self.description.to_json(),
        }
        dataset = xarray.Dataset(arrays, coords=coords, attrs=about)
        turned = {labels.dim(name): slice(None, None, -1) for name in self.grid.falling}
        return dataset.isel(turned).transpose(*labels.dims)

    @classmethod
    def from_xarray(cls, dataset: "xarray.Dataset") -> "Field":
        """The field in a dataset made by `to_xarray`, with the dataset's present values and times.

        Raises DataError for any other dataset, and if an array or an axis is missing.
        """
        if KEY not in dataset.attrs:
            raise DataError(
                f"The dataset has no attribute {KEY}, by which `Field.to_xarray` says what it is. "
                "Write it to a file (`dataset.to_netcdf`), and open that with `matey.open`."
            )
        attributes = {str(name): array.attrs for name, array in dataset.variables.items()}
        description = read_description(
            str(dataset.attrs[KEY]), "The dataset", {**attributes, "": dataset.attrs}
        )
        grid, spec = description.grid, description.spec
        labels = description.labels or plain_labels(grid)
        dims, layers = tuple(labels.dim(axis) for axis in ("time", *grid.axes)), []
        turned = [labels.dim(axis) for axis in grid.axes if falls(dataset, axis, grid, labels)]
        dataset = dataset.isel({name: slice(None, None, -1) for name in turned})
        for variable in spec.variables:
            name = variable.alias or variable.name
            its = dims[1:] if name in labels.still else dims
            if name not in dataset or set(dataset[name].dims) != set(its):
                has = dataset[name].dims if name in dataset else "missing"
                raise DataError(f"The dataset's {name} is {has}, expected the axes {its}.")
            layer = torch.from_numpy(dataset[name].transpose(*its).values.astype(np.float32).copy())
            layers.append(layer.expand(dataset.sizes[dims[0]], *layer.shape[-grid.ndim :]))
        values = torch.stack(layers, dim=1)
        if spec.mask is not None:
            values = values.nan_to_num(nan=0.0)
        lead = (1,) * (3 - grid.ndim)
        return cls(
            values.reshape(*values.shape[:2], *lead, *values.shape[2:]),
            torch.tensor(times_in(dataset, labels.time), dtype=torch.float64),
            grid,
            description.boundaries,
            description.parameters,
            spec,
            labels=description.labels,
        )


def times_in(dataset: "xarray.Dataset", name: str) -> np.ndarray:
    """The times of a dataset as numbers in the units of its file, also where xarray made dates."""
    from xarray.conventions import encode_cf_variable

    variable = dataset[name].variable
    dates = variable.dtype.kind in "MmO"
    return np.asarray((encode_cf_variable(variable, name=name) if dates else variable).values)


def falls(dataset: "xarray.Dataset", axis: str, grid: Grid, labels: Labels) -> bool:
    """Whether an axis of a dataset runs from high to low."""
    name = labels.coordinate(axis)
    if name in dataset.coords and dataset.sizes[labels.dim(axis)] > 1:
        return bool(dataset[name][0] > dataset[name][-1])
    return axis in grid.falling
