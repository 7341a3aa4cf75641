"""Reads miniWeather's NetCDF files: thermals rising and falling in a vertical section.

The files hold density and potential temperature as perturbations of an atmosphere at rest,
of constant potential temperature and in hydrostatic balance. Full fields are perturbation
plus background; the background is computed where the file lacks it. z lies along Y.

Source: https://github.com/mrnorman/miniWeather for the files. Balance: with the Exner
function π = 1 − g z / (cp θ0), pressure is p0 π^(cp/R), and p = C0 (ρθ)^γ gives the density.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from matey.config import SourceConfig
from matey.data.formats import files
from matey.data.formats.container import Container
from matey.data.formats.encoding import text
from matey.data.formats.files import shown
from matey.data.layouts import base
from matey.data.layouts.base import Contents, Stored
from matey.errors import ShapeError
from matey.fields import PERIODIC_SIDES, Boundary, Variable

LENGTH = {"x": 20_000.0, "z": 10_000.0}  # m
THETA = 300.0  # K, potential temperature of the background
GRAVITY = 9.8  # m / s2
HEAT_CAPACITY = 1004.0  # J / kg / K, dry air at constant pressure
GAS_CONSTANT = 287.0  # J / kg / K, dry air
GAMMA = 1.40027894002789401
C0 = 27.5629410929725921
PRESSURE = 1e5  # Pa, at the ground

FULL = {
    "dens": Variable("density", "kg m-3", alias="dens"),
    "uwnd": Variable("velocity_x", "m s-1", ("x",), alias="uwnd"),
    "wwnd": Variable("velocity_y", "m s-1", ("y",), alias="wwnd"),
    "theta": Variable("potential_temperature", "K", alias="theta"),
}
# A name of their own: a model of full fields must not take perturbations for them.
PERTURBATION = {
    **FULL,
    "dens": Variable("density_perturbation", "kg m-3", alias="dens"),
    "theta": Variable("potential_temperature_perturbation", "K", alias="theta"),
}
BACKGROUND = {"dens": "hy_dens", "theta": "hy_theta"}
SIDES = (PERIODIC_SIDES, (Boundary.WALL, Boundary.WALL), PERIODIC_SIDES)


@dataclass(frozen=True)
class Column:
    """The atmosphere at rest at the cell centres, [z] in float64."""

    density: np.ndarray
    potential_temperature: np.ndarray


def hydrostatic(cells: int, height: float = LENGTH["z"]) -> Column:
    """The background at the centres of `cells` equal cells up to `height` m.

    The centre's value, not the cell's average (which is 5e-6 kg/m3 more at 64 cells): the
    code's quadrature takes all its points at the centre, and its perturbations are of that.
    At 64 cells the lowest has 1.15407866 kg/m3.
    """
    return at_rest((np.arange(cells) + 0.5) * (height / cells))


def at_rest(z: np.ndarray) -> Column:
    """The background at heights z in m."""
    exner = 1 - GRAVITY * z / (HEAT_CAPACITY * THETA)
    pressure = PRESSURE * exner ** (HEAT_CAPACITY / GAS_CONSTANT)
    return Column((pressure / C0) ** (1 / GAMMA) / THETA, np.full(len(z), THETA))


class MiniWeather:
    """One run of miniWeather, which is one trajectory."""

    name = "miniweather"
    formats = ("netcdf3", "hdf5")
    expected = "miniWeather: dens, uwnd, wwnd, theta of [t, z, x]"

    def describe(self, file: Container, options: SourceConfig | None) -> Contents | None:
        path, names = file.path, file.names()
        if len(set(FULL) & set(names)) < 3:
            return None
        time = "t" if "t" in names or "time" not in names else "time"
        base.required(path, names, (time, *FULL))
        base.notice_extra(path, names, {time, *FULL, *BACKGROUND.values(), "x", "z"})
        sizes = file.array("dens").shape
        for name in FULL:
            shape, dims = file.array(name).shape, file.dims(name)
            if dims != (time, "z", "x") or shape != sizes:
                raise ShapeError(
                    f"{shown(path)}: {name} is {dims} of shape {shape}, expected "
                    f"({time}, z, x) of shape {sizes}."
                )
        steps, nz, nx = sizes
        times = base.make_times(
            files.read_coordinate(file.array(time), path, time), steps, path, time
        )
        centres = [coordinate(file, axis, points) for axis, points in (("z", nz), ("x", nx))]
        grid = base.make_grid(("z", "x"), centres, (nz, nx), shown(path))
        perturbation = options is not None and options.thermodynamics == "perturbation"
        variables = PERTURBATION if perturbation else FULL
        even = not grid.falling and not grid.positions[1]
        added = to_add(file, hydrostatic(nz) if even else at_rest(centres[0]), perturbation)
        arrays = [Stored(name, "tyx", (v,), added.get(name)) for name, v in variables.items()]
        trajectories = base.alike(path, [times], grid, SIDES, {})
        return base.make_contents(file, "thermals", arrays, trajectories, options)


def as_asked(variables: Sequence[Variable], options: SourceConfig | None) -> bool:
    """Whether variables that have a background are full or perturbations, as the options ask."""
    if options is None:
        return True
    unlike = FULL if options.thermodynamics == "perturbation" else PERTURBATION
    return not any(v.alias in BACKGROUND and v.name == unlike[v.alias].name for v in variables)


def coordinate(file: Container, axis: str, points: int) -> np.ndarray:
    """Positions along x or z: the file's, or cell centres of the standard domain."""
    if axis in file.names():
        return files.read_coordinate(file.array(axis), file.path, axis)
    return (np.arange(points) + 0.5) * (LENGTH[axis] / points)


def to_add(file: Container, computed: Column, perturbation: bool) -> dict[str, np.ndarray]:
    """What to add to stored values for full fields or perturbations, by the file's names [z, 1].

    Our own files say by `canonical_name` whether the background is in; others hold
    perturbations.
    """
    nz = len(computed.density)
    columns = {"dens": computed.density, "theta": computed.potential_temperature}
    amounts = {}
    for name, background in BACKGROUND.items():
        column = columns[name]
        if background in file.names():
            column = files.read_coordinate(file.array(background), file.path, background)
        if column.shape != (nz,):
            raise ShapeError(
                f"{shown(file.path)}: {background} has shape {column.shape}, expected ({nz},)."
            )
        written = file.attributes(name).get("canonical_name", PERTURBATION[name].name)
        included = text(written) == FULL[name].name
        amounts[name] = column[:, None] * (int(not perturbation) - int(included))
    return amounts
