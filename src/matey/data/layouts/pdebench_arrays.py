"""Reads PDEBench's HDF5 files of whole arrays: advection, Burgers and reaction-diffusion in 1D,
compressible flow in 1D, 2D and 3D.

All trajectories share the grid and the times. Parameters are attributes, else they stand in the
file's name. Values are dimensionless; x comes before y before z.

Source: https://doi.org/10.18419/darus-2986 for the files, arXiv:2210.07182 for the systems.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from matey.config import SourceConfig
from matey.data.formats import files
from matey.data.formats.container import Container
from matey.data.formats.files import shown
from matey.data.layouts import base
from matey.data.layouts.base import Contents, Stored
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
COORDINATES = ("x-coordinate", "t-coordinate")  # a file with neither is somebody else's


class PDEBenchScalars:
    """Advection, Burgers and reaction-diffusion in a periodic line."""

    name = "pdebench"
    formats = ("hdf5",)
    expected = "PDEBench: tensor of [n, t, x] with x-coordinate and t-coordinate"

    def describe(self, file: Container, options: SourceConfig | None) -> Contents | None:
        names = file.names()
        refuse_steady(file)
        if "tensor" not in names or file.array("tensor").ndim != 3 or not {*COORDINATES} & {*names}:
            return None
        base.required(file.path, names, ("tensor", *COORDINATES))
        attributes = file.attributes()
        named = [s for s in SCALARS if s.hint in file.path.name.lower()]
        lower = {key.lower() for key in attributes}  # the files vary
        present = {name for name in ("beta", "Nu", "rho") if name.lower() in lower}
        fitting = [s for s in SCALARS if set(s.parameters) == present]
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


def refuse_steady(file: Container) -> None:
    """Raise DataError for solutions of Darcy flow: they have no time."""
    if not {"tensor", "nu", "x-coordinate", "y-coordinate"} <= {*file.names()}:
        return
    solutions, coefficients = (tuple(file.array(name).shape) for name in ("tensor", "nu"))
    if len(solutions) == 4 and solutions == (coefficients[0], 1, *coefficients[1:]):
        raise DataError(
            f"{shown(file.path)}: tensor of {solutions} holds {solutions[0]} steady solutions of "
            "Darcy flow, one for each nu, as in PDEBench: they have no axis of time, and no next "
            "frame to predict. Other sets of PDEBench are read."
        )


class PDEBenchCompressible:
    """Compressible flow in a box: one array per variable. Walls are periodic, or open where the
    file's name says `trans`."""

    name = "pdebench"
    formats = ("hdf5",)
    expected = "PDEBench: density, pressure, Vx[, Vy[, Vz]] of [n, t, x[, y[, z]]]"

    def describe(self, file: Container, options: SourceConfig | None) -> Contents | None:
        names = file.names()
        ndim = file.array("Vx").ndim - 2 if "Vx" in names else 0
        if ndim not in (1, 2, 3) or not {*COORDINATES} & {*names}:
            return None
        variables = [Variable(name, alias=name) for name in ("density", "pressure")]
        variables += [Variable(f"velocity_{a}", "", (a,), alias=f"V{a}") for a in "xyz"[:ndim]]
        base.required(file.path, names, [variable.alias for variable in variables])
        arrays = [Stored(v.alias, "nt" + "xyz"[:ndim], (v,)) for v in variables]
        values = read_parameters(file, ("eta", "zeta", "M"))
        boundary = Boundary.OPEN if "_trans_" in file.path.name.lower() else Boundary.PERIODIC
        return periodic_box(file, options, "compressible", arrays, values, boundary)


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
    base.required(path, file.names(), coordinates)
    sizes = base.same_sizes(file, arrays)
    t, *points = (files.read_coordinate(file.array(n), path, n) for n in coordinates)
    shape = [sizes[axis] for axis in axes]
    place = f"{shown(path)}: {arrays[0].name} [{', '.join(arrays[0].axes)}] of {sizes}"
    grid = base.make_grid(tuple(axes), points, shape, place)
    times = [base.make_times(t, sizes["t"], path, "t-coordinate")] * sizes["n"]
    sides = base.sides_of([(boundary, boundary)] * grid.ndim)
    trajectories = base.alike(path, times, grid, sides, values)
    base.notice_extra(path, file.names(), {*coordinates, *(stored.name for stored in arrays)})
    return base.make_contents(file, system, arrays, trajectories, options)


def read_parameters(file: Container, names: Sequence[str]) -> dict[str, float]:
    """Parameters by name: attributes, else from the file's name.

    Names write 1e-08 and 1.e-8 alike, as in `M0.1_Eta1e-08_Zeta1.e-8`.
    """
    attributes = {key.lower(): value for key, value in file.attributes().items()}
    values = {}
    for name in names:
        pattern = rf"_{name}(\d+\.?\d*(?:e[+-]?\d+)?)"
        in_name = re.search(pattern, file.path.name, re.IGNORECASE)
        if name.lower() in attributes:
            values[name] = base.number(attributes[name.lower()])
        elif in_name:
            values[name] = float(in_name[1])
    return values
