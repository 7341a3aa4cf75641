"""What a file calls its axes and says of its arrays: names and attributes that predictions keep."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from matey.config import LayoutConfig
from matey.data.formats.container import Container
from matey.data.formats.times import DATES, are_dates
from matey.data.layouts.base import Stored
from matey.data.layouts.conventions import words
from matey.fields import Labels

# How numbers are stored, and links to arrays that are not written.
NOT_KEPT = words(
    "scale_factor add_offset missing_value valid_min valid_max valid_range actual_range "
    "coordinates bounds grid_mapping cell_measures ancillary_variables cell_methods stagger "
    "CLASS NAME DIMENSION_LIST REFERENCE_LIST c_grid_axis_shift canonical_name static pseudo "
    "chunksizes"
)
# What predictions say of themselves under these names, the file said before.
RENAMED = words("source model initial cells lead_time seed tokens_per_frame matey_version")


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
