"""Reads the NetCDF files and zarr stores that `matey.data.write` makes of one trajectory, or of the
members of an ensemble, which are trajectories then.

Each carries a description of its field, so that nothing has to be guessed, and what the file that
it goes on from calls its axes and says of its arrays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from matey.config import LayoutConfig, SourceConfig
from matey.data.formats.container import Container
from matey.data.formats.encoding import text
from matey.data.formats.files import log, read_coordinate, shown
from matey.data.formats.times import DATES, are_dates
from matey.data.layouts import base
from matey.data.layouts.base import ROUNDING, UNIFORM, Contents, Stored
from matey.data.layouts.conventions import words
from matey.data.layouts.miniweather import as_asked
from matey.errors import ShapeError
from matey.fields import Grid, Labels
from matey.fields.description import KEY, read_description
from matey.fields.ensemble import COUNT
from matey.fields.labels import plain_labels

# How numbers are stored, and links to arrays that are not written.
NOT_KEPT = words(
    "scale_factor add_offset missing_value valid_min valid_max valid_range actual_range "
    "coordinates bounds grid_mapping cell_measures ancillary_variables cell_methods stagger "
    "CLASS NAME DIMENSION_LIST REFERENCE_LIST c_grid_axis_shift canonical_name static pseudo "
    "chunksizes"
)
# What predictions say of themselves under these names, the file said before.
RENAMED = words("source model initial cells lead_time seed tokens_per_frame members matey_version")


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
        members = "n" if COUNT in file.attributes() else ""
        arrays = [
            Stored(name, axes.replace("t", "") if name in labels.still else own + axes, (v,))
            for v in spec.variables
            for name, own in [(v.alias or v.name, "" if v.static else members)]
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
        trajectories = base.alike(path, [times] * sizes.get("n", 1), grid, sides, parameters)
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


def labels_of(
    file: Container, layout: LayoutConfig, arrays: Sequence[Stored], letters: Mapping[str, str]
) -> Labels | None:
    """The names of the axes of the first array over time; None where the file does not name them
    all."""
    letter_of = {"t": "time"} | {letter: axis for axis, letter in letters.items()}
    for stored in arrays:
        dims = file.dims(stored.name)
        named = len(dims) == len(stored.axes) and not stored.staggered
        if not named or "t" not in stored.axes or set(letters.values()) - set(stored.axes):
            continue
        pairs = [
            (letter_of[a], dim) for a, dim in zip(stored.axes, dims, strict=True) if a in letter_of
        ]
        if not all(dim for _, dim in pairs):
            continue
        order, names = zip(*pairs, strict=True)
        dates = bool(layout.time) and are_dates(file.array(layout.time))
        time = "" if dates else layout.time
        coordinates = {"time": time, **{axis: layout.coordinates.get(axis, "") for axis in letters}}
        known = {axis: name.split("/")[-1] for axis, name in coordinates.items()}
        said = {axis: attributes_of(file, name) for axis, name in coordinates.items() if name}
        attributes = {known[axis]: about for axis, about in said.items()}
        if dates:
            attributes[dict(pairs)["time"]] = {"units": DATES}
        for each in (array for array in arrays if len(array.variables) == 1):
            attributes[each.variables[0].alias] = attributes_of(file, each.name)
        attributes[""] = {
            f"original_{name}" if name in RENAMED else name: value
            for name, value in attributes_of(file, "").items()
        }
        still = [s.variables[0].alias for s in arrays if "t" not in s.axes]
        return Labels(order, names, tuple(known[axis] for axis in order), tuple(still), attributes)
    return None


def attributes_of(file: Container, name: str) -> dict[str, Any]:
    """The attributes of an array, or of the file, as plain texts and numbers."""
    return {
        key: plain
        for key, value in file.attributes(name).items()
        if key not in NOT_KEPT
        and not key.startswith("_")
        and (plain := as_plain(value)) is not None
    }


def as_plain(value: Any) -> Any:
    """An attribute as a text, a number, or a list of them; None of anything else."""
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list):
        items = [as_plain(item) for item in value]
        kinds = {type(item) for item in items}
        return items if len(kinds) == 1 and kinds <= {str, int, float} else None
    value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else None
