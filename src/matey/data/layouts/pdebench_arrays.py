"""Reads PDEBench's HDF5 files of whole arrays: advection, Burgers and reaction-diffusion in 1D,
compressible flow in 1D, 2D and 3D.

All trajectories share the grid and the times. Parameters are attributes, else they stand in the
file's name. Values are dimensionless; x comes before y before z.

Source: https://doi.org/10.18419/darus-2986 for the files, arXiv:2210.07182 for the systems.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from matey.config import SourceConfig
from matey.data.formats import files
from matey.data.formats.container import Container
from matey.data.formats.files import shown
from matey.data.layouts.base import (
    Contents,
    Stored,
    Trajectory,
    all_sides,
    make_grid,
    make_spec,
    make_times,
    notice_extra,
    number,
    required,
    same_sizes,
)
from matey.errors import DataError
from matey.fields import Boundary, Variable


@dataclass(frozen=True)
class Scalar:
    """A one-dimensional equation for one unknown, stored as `tensor`.

    It is told by the parameters that it has, or by `hint` in the file's name.
    """

    system: str
    variable: Variable
    parameters: tuple[str, ...]
    hint: str


SCALARS = (
    Scalar("advection", Variable("tracer", alias="tensor"), ("beta",), "advection"),
    Scalar("burgers", Variable("velocity_x", "", ("x",), alias="tensor"), ("Nu",), "burgers"),
    Scalar(
        "reaction_diffusion", Variable("concentration", alias="tensor"), ("Nu", "rho"), "reacdiff"
    ),
)
VELOCITIES = ("Vx", "Vy", "Vz")
COORDINATES = {"x-coordinate", "t-coordinate"}  # one of them at least stands beside the arrays


class PDEBenchScalars:
    """Advection, Burgers and reaction-diffusion in a periodic line."""

    name = "pdebench"
    formats = ("hdf5",)
    expected = "PDEBench: tensor of [n, t, x] with x-coordinate and t-coordinate"

    def describe(self, file: Container, options: SourceConfig | None) -> Contents | None:
        names = file.names()
        if "tensor" not in names or file.array("tensor").ndim != 3:
            return None
        if not COORDINATES & set(names):
            return None  # somebody else's tensor
        required(file.path, names, ("tensor", "x-coordinate", "t-coordinate"))
        attributes = file.attributes()
        named = [s for s in SCALARS if s.hint in file.path.name.lower()]
        given = present(attributes, ("beta", "Nu", "rho"))
        fitting = [s for s in SCALARS if set(s.parameters) == given]
        if not named and not fitting:
            raise DataError(
                f"{shown(file.path)}: tensor of [n, t, x] as in PDEBench, but neither attributes "
                f"({', '.join(attributes) or 'none'}) nor the file's name tell the system. Add the "
                "attribute beta (advection), Nu (Burgers), or Nu and rho (reaction-diffusion)."
            )
        system = (named or fitting)[0]
        arrays = (Stored("tensor", "ntx", (system.variable,)),)
        values = read_parameters(file, system.parameters)
        return periodic_box(file, options, system.system, arrays, values)


class PDEBenchCompressible:
    """Compressible flow in a box: one array per variable. Walls are periodic, or open where the
    file's name says `trans`."""

    name = "pdebench"
    formats = ("hdf5",)
    expected = "PDEBench: density, pressure, Vx[, Vy[, Vz]] of [n, t, x[, y[, z]]]"

    def describe(self, file: Container, options: SourceConfig | None) -> Contents | None:
        names = file.names()
        if "Vx" not in names or file.array("Vx").ndim not in (3, 4, 5):
            return None
        if not COORDINATES & set(names):
            return None  # somebody else's Vx
        ndim = file.array("Vx").ndim - 2
        velocities = VELOCITIES[:ndim]
        required(file.path, names, ("density", "pressure", *velocities))
        variables = [Variable(name, alias=name) for name in ("density", "pressure")]
        variables += [
            Variable(f"velocity_{axis}", "", (axis,), alias=name)
            for axis, name in zip("xyz", velocities, strict=False)
        ]
        arrays = [Stored(v.alias, "nt" + "xyz"[:ndim], (v,)) for v in variables]
        values = read_parameters(file, ("eta", "zeta", "M"))
        boundary = Boundary.OPEN if "_trans_" in file.path.name.lower() else Boundary.PERIODIC
        return periodic_box(file, options, "compressible", arrays, values, boundary)


def present(attributes: Collection[str], names: Sequence[str]) -> set[str]:
    """Which of the names there is an attribute of, in whatever case: the files vary."""
    return {name for name in names if name.lower() in {key.lower() for key in attributes}}


def periodic_box(
    file: Container,
    options: SourceConfig | None,
    system: str,
    arrays: Sequence[Stored],
    values: dict[str, float],
    boundary: Boundary = Boundary.PERIODIC,
) -> Contents:
    """The contents of arrays that share a grid and times."""
    path, axes = file.path, arrays[0].axes[:1:-1]
    coordinates = ["t-coordinate", *(f"{axis}-coordinate" for axis in axes)]
    required(path, file.names(), coordinates)
    sizes = same_sizes(file, arrays)
    t, *points = (files.read_coordinate(file.array(n), path, n) for n in coordinates)
    shape = [sizes[axis] for axis in axes]
    place = f"{shown(path)}: {arrays[0].name} [{', '.join(arrays[0].axes)}] of {sizes}"
    grid = make_grid(tuple(axes), points, shape, place)
    times = make_times(t, sizes["t"], path, "t-coordinate")
    sides = all_sides(grid.ndim, boundary)
    trajectories = [
        Trajectory(f"{path.name}#{n:04d}", times, grid, sides, values) for n in range(sizes["n"])
    ]
    variables = [variable for stored in arrays for variable in stored.variables]
    notice_extra(path, file.names(), {*coordinates, *(stored.name for stored in arrays)})
    return Contents(make_spec(system, variables, trajectories, path, options), trajectories, arrays)


def read_parameters(file: Container, names: Sequence[str]) -> dict[str, float]:
    """Parameters by name: attributes, else from the file's name.

    Names write 1e-08 and 1.e-8 alike, as in `M0.1_Eta1e-08_Zeta1.e-8`.
    """
    attributes = {key.lower(): value for key, value in file.attributes().items()}
    values = {}
    for name in names:
        written = named_value(file.path, name)
        if name.lower() in attributes:
            values[name] = number(attributes[name.lower()])
        elif written is not None:
            values[name] = written
    return values


def named_value(path: Path, name: str) -> float | None:
    """The number after `name` in the file's name, as in `_beta0.4.hdf5`."""
    match = re.search(rf"_{name}(\d+\.?\d*(?:e[+-]?\d+)?)", path.name, re.IGNORECASE)
    return float(match[1]) if match else None
