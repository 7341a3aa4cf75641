"""Reads the NetCDF files and zarr stores that `matey.data.write` makes of one trajectory.

Each carries a description of its field, so that nothing has to be guessed.
"""

from dataclasses import replace

from torch import Tensor

from matey.config import SourceConfig
from matey.data.formats.container import Container
from matey.data.formats.encoding import text
from matey.data.formats.files import log, read_coordinate, shown
from matey.data.layouts import base
from matey.data.layouts.base import ROUNDING, UNIFORM, Contents, Stored
from matey.data.layouts.labelled import attributes_of
from matey.data.layouts.miniweather import as_asked
from matey.errors import ShapeError
from matey.fields import Grid, Labels
from matey.fields.description import KEY, read_description
from matey.fields.labels import plain_labels


class MateyFile:
    """One trajectory, as predictions are."""

    name = "matey"
    formats = ("hdf5", "zarr")
    expected = f"a field that matey wrote (attribute {KEY})"

    def describe(self, file: Container, options: SourceConfig | None) -> Contents | None:
        written = text(file.attributes().get(KEY, ""))
        if not written:
            return None
        path = file.path
        said = {name: attributes_of(file, name) for name in ["", *file.names()]}
        description = read_description(written, shown(path), said)
        spec, grid = description.spec, description.grid
        if not as_asked(spec.variables, options):
            return None  # the reader of such files knows the background
        labels = description.labels or plain_labels(grid)
        letters = {"time": "t"} | dict(zip(grid.axes, "zyx"[3 - grid.ndim :], strict=True))
        axes = "".join(letters[axis] for axis in labels.order)
        arrays = [
            Stored(name, axes.replace("t", "") if name in labels.still else axes, (v,))
            for v in spec.variables
            for name in [v.alias or v.name]
        ]
        base.required(path, file.names(), [labels.time, *(array.name for array in arrays)])
        sizes = base.same_sizes(file, arrays)
        points = tuple(sizes.get(letter, 1) for letter in "zyx")
        if points != grid.shape:
            raise ShapeError(
                f"{shown(path)}: {arrays[0].name} has {points} grid points (z, y, x), but its "
                f"attribute {KEY} says {grid.shape}."
            )
        stored = read_coordinate(file.array(labels.time), path, labels.time)
        times = base.make_times(stored, sizes["t"], path, labels.time)
        grid = replace(grid, falling=falling_in(file, grid, labels))
        sides, parameters = description.boundaries, description.parameters
        spec = replace(spec, dt=step_between(times, spec.dt, shown(path)))
        trajectories = base.alike(path, [times], grid, sides, parameters)
        return Contents(spec, trajectories, arrays, labels=description.labels)


def falling_in(file: Container, grid: Grid, labels: Labels) -> tuple[str, ...]:
    """The axes that fall in the file: another program may have turned them since."""

    def falls(axis: str) -> bool:
        name = labels.coordinate(axis)
        if name not in file.names():
            return axis in grid.falling
        points = read_coordinate(file.array(name), file.path, name)
        return points.ndim == 1 and bool(points[0] > points[-1])

    return tuple(name for name in grid.axes if falls(name))


def step_between(times: Tensor, dt: float, where: str) -> float:
    """The dt of frames at these times [T]: the system's own, or theirs where they are evenly apart
    by another, as predictions of a longer lead time are."""
    steps = times.diff()
    if not len(steps):
        return dt
    median = float(steps.median())
    if float((steps - median).abs().max()) > UNIFORM * median:
        log.info(f"{where}: its frames are unevenly apart, in steps of a dt of {dt:g}.")
        return dt
    return dt if abs(median - dt) <= ROUNDING * dt else float(f"{median:.6g}")
