"""Numbers that a file keeps in another form: scaled and shifted, or marked as missing.

Source: https://cfconventions.org, section 8.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Encoding:
    """How numbers are stored: scaled, shifted, marked where missing, valid between two bounds (both
    as they are stored), or unsigned ones as signed."""

    scale: float = 1.0
    offset: float = 0.0
    missing: tuple[float, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    unsigned: bool = False

    def undo(self, stored: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        """The numbers that were encoded, NaN where they are missing or not valid."""
        if self.unsigned:
            stored = stored.view(stored.dtype.str.replace("i", "u"))
        values = stored.astype(dtype)
        if (self.scale, self.offset) != (1, 0):
            values = values * self.scale + self.offset
        for mark in self.missing:
            marked = np.asarray(mark).astype(stored.dtype)  # a negative mark of unsigned ones wraps
            values = np.where(stored == marked, np.nan, values)
        if self.low > -math.inf or self.high < math.inf:
            values = np.where((stored < self.low) | (stored > self.high), np.nan, values)
        return values


class Decoded:
    """An array that undoes its encoding as it is read. `stored` is its type in the file."""

    def __init__(self, array: Any, encoding: Encoding) -> None:
        self._array, self._encoding = array, encoding
        self.shape, self.ndim, self.stored = array.shape, array.ndim, array.dtype
        encoded = (encoding.scale, encoding.offset) != (1, 0) or array.dtype.kind != "f"
        self.dtype = np.dtype(np.float64) if encoded else array.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        return self._encoding.undo(np.asarray(self._array[index]), self.dtype)


def decoded(array: Any, attributes: dict[str, Any]) -> Any:
    """The array itself, or a Decoded view where its attributes ask for one."""
    if array.dtype.kind not in "fiu":
        return array
    scale, offset = (number(attributes.get(key)) for key in ("scale_factor", "add_offset"))
    marks = [number(attributes.get(key)) for key in ("_FillValue", "missing_value")]
    low, high = valid_range(attributes)
    encoding = Encoding(
        1.0 if scale is None else scale,
        offset or 0.0,
        tuple(mark for mark in marks if mark is not None and np.isfinite(mark)),
        low,
        high,
        array.dtype.kind == "i" and text(attributes.get("_Unsigned", "")).lower() == "true",
    )
    return array if encoding == Encoding() else Decoded(array, encoding)


def valid_range(attributes: dict[str, Any]) -> tuple[float, float]:
    """The least and the largest number that count, as they are stored."""
    pair = np.asarray(attributes.get("valid_range", ())).reshape(-1)
    ends = pair if pair.size == 2 and pair.dtype.kind in "fiu" else (None, None)
    low, high = (
        number(attributes.get(name, end))
        for name, end in zip(("valid_min", "valid_max"), ends, strict=True)
    )
    return -math.inf if low is None else low, math.inf if high is None else high


def text(value: Any) -> str:
    """An attribute as text."""
    return next(iter(texts(value)), "")


def texts(value: Any) -> list[str]:
    """An attribute as a list of texts: formats differ in whether they give bytes."""
    items = np.asarray(value, dtype=object).reshape(-1).tolist()
    return [i.decode("utf-8", "replace") if isinstance(i, bytes) else str(i) for i in items]


def number(value: Any) -> float | None:
    """The number that an attribute is, or None."""
    try:
        items = np.asarray(value).reshape(-1)
        return float(items[0]) if items.size == 1 and items.dtype.kind in "fiub" else None
    except (TypeError, ValueError):
        return None
