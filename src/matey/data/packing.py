"""Numbers that a file keeps in another form: packed by scale and offset, or marked as missing.

Source: https://cfconventions.org, section 8.
"""

from typing import Any

import numpy as np


class Unpacked:
    """An array with marks for missing values, or packed by scale and offset."""

    def __init__(self, array: Any, missing: list[float], scale: float, offset: float) -> None:
        self._array = array
        self._missing, self._scale, self._offset = missing, scale, offset
        self.shape, self.ndim = array.shape, array.ndim
        packed = (scale, offset) != (1, 0) or array.dtype.kind != "f"
        self.dtype = np.dtype(np.float64) if packed else array.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        stored = np.asarray(self._array[index])
        values = stored.astype(self.dtype)
        if (self._scale, self._offset) != (1, 0):
            values = values * self._scale + self._offset
        for mark in self._missing:
            values = np.where(stored == stored.dtype.type(mark), np.nan, values)
        return values


def unpacked(array: Any, attributes: dict[str, Any]) -> Any:
    """The array itself, or an Unpacked view where its attributes ask for one."""
    if array.dtype.kind not in "fiu":
        return array
    kinds = {key: number(attributes.get(key)) for key in ("scale_factor", "add_offset")}
    marks = [number(attributes.get(key)) for key in ("_FillValue", "missing_value")]
    missing = [mark for mark in marks if mark is not None and np.isfinite(mark)]
    scale = 1.0 if kinds["scale_factor"] is None else kinds["scale_factor"]
    offset = 0.0 if kinds["add_offset"] is None else kinds["add_offset"]
    if not missing and (scale, offset) == (1, 0):
        return array
    return Unpacked(array, missing, scale, offset)


def number(value: Any) -> float | None:
    """The number that an attribute is, or None."""
    try:
        found = np.asarray(value).reshape(-1)
        return float(found[0]) if found.size == 1 and found.dtype.kind in "fiub" else None
    except (TypeError, ValueError):
        return None
