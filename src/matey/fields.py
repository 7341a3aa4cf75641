"""The domain types: what a field of physics is, on which grid, of which system.

Axes: B batch, T times, C variables, (Z, Y, X) grid points. One- and two-dimensional
fields carry leading axes of one point, so no code after reading asks for the number of
dimensions. X is x; in a vertical section z lies along Y.
"""

import enum
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from matey.errors import DataError, ShapeError

if TYPE_CHECKING:
    import xarray

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
Stacked = TypeVar("Stacked", bound="Inputs")


class Boundary(enum.IntEnum):
    """What happens at one side of the domain."""

    PERIODIC = 0
    WALL = 1
    OPEN = 2


Sides = tuple[Boundary, Boundary]
PERIODIC_SIDES: Sides = (Boundary.PERIODIC, Boundary.PERIODIC)


@dataclass(frozen=True)
class Variable:
    """One physical quantity of a system.

    `axes` is `()` for a scalar, `("x",)` for a vector's component, `("x", "y")` for a
    tensor's. A `static` variable (a force, a mask) does not change in time: it is an input
    only, never predicted or scored. `alias` is the name that the file uses.
    """

    name: str
    units: str = ""
    axes: tuple[str, ...] = ()
    static: bool = False
    alias: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not NAME.match(self.name):
            raise DataError(
                f"Variable name {self.name!r} is not letters, digits and underscores. "
                "Give the variable a canonical name, and keep the file's as its alias."
            )


@dataclass(frozen=True)
class Grid:
    """Where the grid points are. Cell centres, uniform spacing.

    `axes` names the active axes as the file does, slowest first: `("y", "x")`, or
    `("z", "x")` for a vertical section. `shape`, `origin` (first point) and `spacing` are
    always (Z, Y, X); an inactive axis has one point.
    """

    axes: tuple[str, ...]
    shape: tuple[int, int, int]
    origin: tuple[float, float, float]
    spacing: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not 1 <= len(self.axes) <= 3:
            raise ShapeError(f"A grid has 1 to 3 axes, not {len(self.axes)}: {self.axes}.")
        if any(points < 1 for points in self.shape):
            raise ShapeError(f"Grid shape {self.shape} has an axis without points.")
        if any(points != 1 for points in self.shape[: 3 - len(self.axes)]):
            raise ShapeError(f"Grid of shape {self.shape} has more than the axes {self.axes}.")
        if any(not step > 0 for step in self.spacing):
            raise ShapeError(f"Grid spacing {self.spacing} is not positive on every axis.")

    @property
    def ndim(self) -> int:
        return len(self.axes)

    def coordinate(self, axis: int) -> Float[Tensor, " points"]:
        """Positions of the grid points along array axis 0 (Z), 1 (Y) or 2 (X)."""
        points = torch.arange(self.shape[axis], dtype=torch.float64)
        return self.origin[axis] + self.spacing[axis] * points


@dataclass(frozen=True)
class SystemSpec:
    """A system: one set of variables, dimension, parameters and output step `dt`.

    Grids and parameter values may differ between trajectories of one system.
    """

    name: str
    ndim: int
    variables: tuple[Variable, ...]
    parameters: tuple[str, ...] = ()
    dt: float = 1.0

    def __post_init__(self) -> None:
        if self.ndim not in (1, 2, 3):
            raise ShapeError(f"System {self.name!r} has {self.ndim} dimensions, not 1, 2 or 3.")
        names = [variable.name for variable in self.variables]
        if not names or len(set(names)) != len(names):
            raise DataError(f"System {self.name!r} needs distinct variables, found {names}.")
        if all(variable.static for variable in self.variables):
            raise DataError(f"System {self.name!r} has only static variables: nothing to predict.")
        if not self.dt > 0:
            raise DataError(f"System {self.name!r} has dt = {self.dt}, which is not positive.")

    @property
    def predicted(self) -> tuple[int, ...]:
        """Indices of the variables that change in time: what is predicted and scored."""
        return tuple(i for i, variable in enumerate(self.variables) if not variable.static)


@dataclass(frozen=True)
class Field:
    """Values of a system's variables over times and a grid, in physical units.

    `values` is [T C Z Y X], `times` [T] increasing, `boundaries` a (low, high) pair per
    axis Z, Y, X (periodic on inactive axes), `parameters` a number by name.
    Raises ShapeError where these do not fit each other.
    """

    values: Float[Tensor, "T C Z Y X"]
    times: Float[Tensor, " T"]
    grid: Grid
    boundaries: tuple[Sides, Sides, Sides]
    parameters: dict[str, float]
    spec: SystemSpec

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
        times = self.times.tolist()  # of the few frames of a window, faster than with tensors
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

    def to_xarray(self) -> "xarray.Dataset":
        """The same as an xarray dataset, one array (time, axes of the file) per variable.

        Arrays have the file's own names where known; attribute `canonical_name` has ours.
        Attributes hold parameters and boundaries, and `matey_field` what `from_xarray` and
        `matey.open` need to give back the same field.
        """
        import xarray

        from matey.description import KEY, describe

        dims, active = ("time", *self.grid.axes), range(3 - self.grid.ndim, 3)
        coords = {
            name: self.grid.coordinate(axis).numpy()
            for name, axis in zip(self.grid.axes, active, strict=True)
        }
        arrays = {}
        for i, variable in enumerate(self.spec.variables):
            values = self.values[:, i].reshape(len(self), *self.grid.shape[3 - self.grid.ndim :])
            attributes = {
                "units": variable.units,
                "canonical_name": variable.name,
                "static": int(variable.static),
            }
            arrays[variable.alias or variable.name] = (dims, values.cpu().numpy(), attributes)
        sides = {
            f"boundary_{name}": " ".join(Boundary(side).name for side in self.boundaries[axis])
            for name, axis in zip(self.grid.axes, active, strict=True)
        }
        about = {"system": self.spec.name, **self.parameters, **sides, KEY: describe(self)}
        times = {"time": self.times.cpu().numpy()}
        return xarray.Dataset(arrays, coords=times | coords, attrs=about)

    @classmethod
    def from_xarray(cls, dataset: "xarray.Dataset") -> "Field":
        """The field that `to_xarray` made a dataset of, with the values and times it has now.

        Raises DataError for any other dataset, and where an array or an axis is missing.
        """
        from matey.description import KEY, read_description

        if KEY not in dataset.attrs:
            raise DataError(
                f"The dataset has no attribute {KEY}, by which `Field.to_xarray` says what it is. "
                "Write it to a file (`dataset.to_netcdf`), and open that with `matey.open`."
            )
        found = read_description(str(dataset.attrs[KEY]), "The dataset")
        dims, layers = ("time", *found.grid.axes), []
        for variable in found.spec.variables:
            name = variable.alias or variable.name
            if name not in dataset or set(dataset[name].dims) != set(dims):
                has = dataset[name].dims if name in dataset else "missing"
                raise DataError(f"The dataset's {name} is {has}, expected the axes {dims}.")
            layers.append(torch.tensor(dataset[name].transpose(*dims).values, dtype=torch.float32))
        values = torch.stack(layers, dim=1)
        lead = (1,) * (3 - found.grid.ndim)
        return cls(
            values.reshape(*values.shape[:2], *lead, *values.shape[2:]),
            torch.tensor(dataset["time"].values, dtype=torch.float64),
            found.grid,
            found.boundaries,
            found.parameters,
            found.spec,
        )


@dataclass(frozen=True)
class Window:
    """A piece of a trajectory to learn from: history, and the frame `lead_time` later.

    `target` is [C Z Y X]; `lead_time` is elapsed time / dt; `source` names file and frame.
    """

    history: Field
    target: Float[Tensor, "C Z Y X"]
    lead_time: float
    source: str = ""

    def __post_init__(self) -> None:
        if self.target.shape != self.history.values.shape[1:]:
            raise ShapeError(
                f"Target {tuple(self.target.shape)} does not fit a history of frames "
                f"{tuple(self.history.values.shape[1:])}."
            )
        if not self.lead_time > 0:
            raise DataError(f"Lead time {self.lead_time} of {self.source} is not positive.")


@dataclass(frozen=True)
class Inputs:
    """What the model is given: histories of one system on one grid shape, stacked.

    `lead_time` is in units of the system's dt; `boundaries` holds `Boundary` codes per
    sample, axis and side; `parameters` are in the order of `spec.parameters`; `sources`
    names each sample's file for error messages.
    """

    values: Float[Tensor, "B T C Z Y X"]
    lead_time: Float[Tensor, " B"]
    boundaries: Int[Tensor, "B 3 2"]
    parameters: Float[Tensor, "B P"]
    spec: SystemSpec
    sources: tuple[str, ...]

    def to(self: Stacked, device: torch.device) -> Stacked:
        """The same on another device."""
        moved: dict[str, Any] = {
            name: dense(value, device).to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)


@dataclass(frozen=True)
class Batch(Inputs):
    """Inputs, and the frame to learn from. Systems mix between batches.

    The target lies `pushes` steps of lead 1 and then `lead_time` after the inputs; `between` are
    the frames of these steps, where they are asked for.
    """

    target: Float[Tensor, "B C Z Y X"]
    pushes: int = 0
    between: Float[Tensor, "B pushes C Z Y X"] | None = None


def dense(values: Tensor, device: torch.device) -> Tensor:
    """Values that can go to the device in one piece, in the order that they have in memory: for
    a part of a larger tensor, torch would turn the axes on both sides of the way."""
    part = values.untyped_storage().nbytes() > values.nbytes
    return values.clone() if part and values.device.type != device.type else values


def stack(values: Sequence[Float[Tensor, "... Z Y X"]]) -> Float[Tensor, "B ... Z Y X"]:
    """Values of several samples as one tensor. Where x is the slowest axis in memory, as some
    files have it, it stays so: to turn the axes takes longer than to read a file."""
    if values[0].stride(-1) > values[0].stride(-2):
        return torch.stack([one.transpose(-3, -1) for one in values]).transpose(-3, -1)
    return torch.stack(list(values))


def stack_fields(
    fields: Sequence[Field], lead_times: Sequence[float], sources: Sequence[str]
) -> Inputs:
    """Histories of one system as inputs. Raises ShapeError where grids or lengths differ."""
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
    )
