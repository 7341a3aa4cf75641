"""Numbers that a file keeps in another form: scaled and shifted, or marked as missing.

Source: https://cfconventions.org, sections 2.5.1 and 8.1; of valid ranges the NetCDF users' guide,
https://docs.unidata.ucar.edu/nug/current/attribute_conventions.html
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from matey.data.formats.files import say_once, shown


@dataclass(frozen=True)
class Encoding:
    """How numbers are stored: scaled, shifted, marked where missing, valid between two bounds, or
    unsigned ones as signed. Marks and bounds are numbers as they are stored."""

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
            values = np.where(stored == mark, np.nan, values)
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


def decoded(array: Any, attributes: dict[str, Any], where: str) -> Any:
    """The array itself, or a Decoded view where its attributes ask for one; `where` names it in
    notices."""
    if array.dtype.kind not in "fiu":
        return array

    def listed(*keys: str) -> list[float]:
        return [number for key in keys for number in numbers(attributes.get(key), key, where)]

    unsigned = array.dtype.kind == "i" and text(attributes.get("_Unsigned", "")).lower() == "true"
    dtype = np.dtype(array.dtype.str.replace("i", "u")) if unsigned else array.dtype
    scale, offset = next(iter(listed("scale_factor")), 1.0), next(iter(listed("add_offset")), 0.0)
    marks = [as_stored(mark, dtype, unsigned) for mark in listed("_FillValue", "missing_value")]
    lows, highs = listed("valid_min"), listed("valid_max")
    ends = listed("valid_range")
    if len(ends) == 2:
        lows, highs = lows or ends[:1], highs or ends[1:]
    low, high = next(iter(lows), -math.inf), next(iter(highs), math.inf)
    if bounds_are_values(attributes, array.dtype):
        low, high = sorted((end - offset) / scale for end in (low, high))
        if dtype.kind in "iu":  # within half a step of what is stored
            low, high = (np.round(end).item() for end in (low, high))
    elif unsigned:
        low, high = (
            end + 256**dtype.itemsize if -math.inf < end < 0 else end for end in (low, high)
        )
    encoding = Encoding(
        scale, offset, tuple(mark for mark in marks if mark is not None), low, high, unsigned
    )
    return array if encoding == Encoding() else Decoded(array, encoding)


def as_stored(mark: float, dtype: np.dtype[Any], unsigned: bool) -> float | None:
    """What marks missing values, as the type that they are stored in (of signed numbers that are
    `unsigned` ones the latter) has it; None where no stored number can be equal to it."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            rounded = float(dtype.type(mark))
        return None if math.isnan(mark) or math.isinf(rounded) > math.isinf(mark) else rounded
    if not math.isfinite(mark) or mark != int(mark):
        return None
    most = 256**dtype.itemsize
    whole = int(mark) + most if unsigned and -most // 2 <= mark < 0 else int(mark)
    return whole if np.iinfo(dtype).min <= whole <= np.iinfo(dtype).max else None


def bounds_are_values(attributes: dict[str, Any], dtype: np.dtype[Any]) -> bool:
    """Whether valid bounds are those of the numbers that were encoded, and not of the stored ones:
    where their type is that of the scale or offset, and wider than that of what is stored."""
    bounds, packing = (
        {np.asarray(attributes[key]).dtype.newbyteorder("=") for key in keys if key in attributes}
        for keys in (("valid_min", "valid_max", "valid_range"), ("scale_factor", "add_offset"))
    )
    wide = {t for t in bounds & packing if t.kind == "f" and t.itemsize > dtype.itemsize}
    return bool(wide) and wide == bounds


def numbers(value: Any, key: str, where: str) -> list[float]:
    """The numbers that an attribute lists, integers as such; those in it where it is a text. Says
    which text is none."""
    found: list[float] = []
    for entry in [] if value is None else np.asarray(value, dtype=object).reshape(-1).tolist():
        item = entry.item() if isinstance(entry, np.generic) else entry
        if isinstance(item, int | float):
            found.append(item)
            continue
        try:
            words = (
                text(item).replace(",", " ").split() if isinstance(item, str | bytes) else [item]
            )
            found += [float(word) for word in words]
        except (TypeError, ValueError):
            said = shown(text(item))[:40]
            say_once(f"{where}: its {key} is no number, and left out of account: {said!r}.")
    return found


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
