"""Reads miniWeather's NetCDF files: thermals rising and falling in a vertical section.

The files hold density and potential temperature as perturbations of an atmosphere at rest,
of constant potential temperature and in hydrostatic balance. Full fields are perturbation
plus background; the background is computed where the file lacks it. z lies along Y.

Source: https://github.com/mrnorman/miniWeather for the files. Balance: with the Exner
function π = 1 − g z / (cp θ0), pressure is p0 π^(cp/R), and p = C0 (ρθ)^γ gives the density.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import torch

from matey.config import SourceConfig
from matey.data import files
from matey.data.files import log, shown
from matey.data.layout import (
    Trajectory,
    check_finite,
    make_grid,
    make_times,
    time_step,
    whole_slice,
)
from matey.data.netcdf3 import expected_size
from matey.errors import DataError, ShapeError
from matey.fields import PERIODIC_SIDES, Boundary, Field, SystemSpec, Variable

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
EXPECTED = "miniWeather: dens, uwnd, wwnd, theta of [t, z, x]"


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
    z = (np.arange(cells) + 0.5) * (height / cells)
    exner = 1 - GRAVITY * z / (HEAT_CAPACITY * THETA)
    pressure = PRESSURE * exner ** (HEAT_CAPACITY / GAS_CONSTANT)
    return Column((pressure / C0) ** (1 / GAMMA) / THETA, np.full(cells, THETA))


def open_netcdf(path: Path) -> Any:
    """Open for reading, with missing values masked. Raises DataError on a damaged file."""
    size = files.stamp(path)[0]
    try:
        if files.kind(path) == "netcdf3":
            with path.open("rb") as content:
                expected = expected_size(content)
            if size < expected:
                raise DataError(
                    f"{shown(path)} is cut short: {size} bytes, expected {expected}. "
                    "Copy or download it again."
                )
        return netCDF4.Dataset(str(path), "r")
    except (OSError, RuntimeError, struct.error, LookupError) as error:
        raise DataError(f"{shown(path)} ({size} bytes) is damaged NetCDF: {error}.") from error


class MiniWeatherReader:
    """One run of miniWeather, which is one trajectory. Keeps no handle itself."""

    def __init__(
        self,
        path: Path,
        options: SourceConfig | None,
        spec: SystemSpec,
        trajectory: Trajectory,
        background: dict[str, np.ndarray],
    ) -> None:
        self.layout = "miniweather"
        self.path = path
        self.spec = spec
        self.trajectories: Sequence[Trajectory] = [trajectory]
        self._options = options
        self._background = background
        self._stamp = files.stamp(path)

    def __reduce__(self) -> Any:
        """Pickle as the path alone: a spawned worker opens the file itself."""
        from matey.data.reader import open_reader

        return open_reader, (self.path, self._options)

    def read(self, trajectory: int, frames: slice = slice(None)) -> Field:
        """The given frames as a Field. The background is added in float64, then rounded."""
        files.check_unchanged(self.path, self._stamp)
        file = files.handle(self.path, self._stamp, open_netcdf)
        known = self.trajectories[trajectory]
        frames = whole_slice(frames, len(known.times), known.name)
        times = known.times[frames]
        shape = (len(times), len(self.spec.variables), *known.grid.shape)
        files.check_size(8 * prod(shape), self.path, f"reading {len(times)} frames")
        values = np.empty(shape, np.float32)
        for i, variable in enumerate(self.spec.variables):
            name = variable.alias
            stored = files.read_array(file.variables[name], frames, self.path, name)
            full = stored.astype(np.float64) + self._background.get(name, np.zeros(1))[:, None]
            with np.errstate(over="ignore"):  # a float64 beyond float32 is reported below
                values[:, i, 0] = full
        check_finite(values, times, self.spec, self.path, known.name)
        return Field(torch.from_numpy(values), times, known.grid, known.boundaries, {}, self.spec)


def open_miniweather(path: Path, options: SourceConfig | None = None) -> MiniWeatherReader | None:
    """A reader of the file, or None if it is not one of miniWeather's.

    Raises DataError on a missing variable, ShapeError where axes are not [t, z, x].
    """
    if files.kind(path) == "hdf5" and not is_plain(path):
        return None
    file = open_netcdf(path)
    try:
        found = list(file.variables)
        if len(set(FULL) & set(found)) < 2:
            return None
        time = "t" if "t" in found or "time" not in found else "time"
        missing = [name for name in (time, *FULL) if name not in found]
        if missing:
            raise DataError(
                f"{shown(path)}: {', '.join(missing)} missing. Required: "
                f"{', '.join((time, *FULL))}; found: {', '.join(found)}."
            )
        extra = set(found) - {time, *FULL, *BACKGROUND.values(), "x", "z"}
        if extra:
            log.warning(f"{shown(path)}: {', '.join(sorted(extra))} ignored: not of this layout.")
        return describe(file, path, options, time)
    finally:
        file.close()


def is_plain(path: Path) -> bool:
    """Whether an HDF5 file may be NetCDF: no groups. Refuses links out of the file, which
    the NetCDF library would follow on opening."""
    with files.open_hdf5(path) as file:
        if not {"dens", "uwnd", "wwnd", "theta"} & set(files.names(file)):
            return False
        return all(hasattr(files.member(file, name), "shape") for name in files.names(file))


def describe(file: Any, path: Path, options: SourceConfig | None, time: str) -> MiniWeatherReader:
    """Everything but the values."""
    sizes = file.variables["dens"].shape
    for name in FULL:
        stored = file.variables[name]
        if stored.dimensions != (time, "z", "x") or stored.shape != sizes:
            raise ShapeError(
                f"{shown(path)}: {name} is {stored.dimensions} of shape {stored.shape}, expected "
                f"({time}, z, x) of shape {sizes}."
            )
    steps, nz, nx = sizes
    times = make_times(files.read_coordinate(file.variables[time], path, time), steps, path, time)
    centres = [coordinate(file, path, axis, n) for axis, n in (("z", nz), ("x", nx))]
    grid = make_grid(("z", "x"), centres, (nz, nx), shown(path))
    perturbation = options is not None and options.thermodynamics == "perturbation"
    variables = tuple((PERTURBATION if perturbation else FULL).values())
    dt = time_step(times, options, path.name)
    return MiniWeatherReader(
        path,
        options,
        SystemSpec("thermals", 2, variables, (), dt),
        Trajectory(f"{path.name}#0000", times, grid, SIDES, {}),
        to_add(file, path, nz, perturbation),
    )


def coordinate(file: Any, path: Path, axis: str, points: int) -> np.ndarray:
    """Positions along x or z: the file's, or cell centres of the standard domain."""
    if axis in file.variables:
        return files.read_coordinate(file.variables[axis], path, axis)
    return (np.arange(points) + 0.5) * (LENGTH[axis] / points)


def to_add(file: Any, path: Path, nz: int, perturbation: bool) -> dict[str, np.ndarray]:
    """What makes the stored values those asked for, by the file's names, [z].

    Our own files say by `canonical_name` whether the background is in; others hold
    perturbations.
    """
    computed = hydrostatic(nz)
    columns = {"dens": computed.density, "theta": computed.potential_temperature}
    amounts = {}
    for name, background in BACKGROUND.items():
        column = columns[name]
        if background in file.variables:
            column = files.read_coordinate(file.variables[background], path, background)
        if column.shape != (nz,):
            raise ShapeError(
                f"{shown(path)}: {background} has shape {column.shape}, expected ({nz},)."
            )
        written = getattr(file.variables[name], "canonical_name", PERTURBATION[name].name)
        included = written == FULL[name].name
        amounts[name] = column * (int(not perturbation) - int(included))
    return amounts
