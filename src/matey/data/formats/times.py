"""Times as files hold them: numbers, dates as text, or dates of NumPy.

Numbers stay in the units of the file; dates become seconds since 1970.
"""

import re
from typing import Any

import numpy as np

from matey.data.formats import files
from matey.data.formats.container import Container
from matey.data.formats.encoding import text
from matey.data.formats.files import shown
from matey.errors import DataError

DATES = "seconds since 1970-01-01"
DATE = re.compile(r"(\d{4}-\d\d-\d\d)[ _T]?(\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?Z?")


def are_dates(array: Any) -> bool:
    """Whether an array holds dates, as text or as NumPy's."""
    return array.dtype.kind in "SUOTMm"


def read(file: Container, name: str) -> np.ndarray:
    """Times as float64 numbers, in the shape of the file. Raises DataError where they are none."""
    array = file.array(name)
    if not are_dates(array):
        units = text(file.attributes(name).get("units", ""))
        if "%Y" in units:
            raise DataError(
                f"{shown(file.path)}: {name} holds dates as numbers ({shown(units)[:40]!r}), whose "
                "differences are no times. Store times since a date, as `cdo -r copy` does, or "
                "leave `time` out of the `layout` of a data config and give its `dt`."
            )
        return files.read_coordinate(array, file.path, name)
    try:
        stored = np.asarray(array[:])
    except files.DAMAGE as error:
        raise DataError(f"{shown(file.path)}: {name} cannot be read: {error}.") from error
    if array.dtype.kind in "Mm":
        return seconds(stored)
    if stored.dtype.kind == "S" and stored.dtype.itemsize == 1 and stored.ndim > 1:
        stored = np.array([b"".join(row) for row in stored.reshape(-1, stored.shape[-1])])
    moments = []
    for entry in stored.reshape(-1):
        words = DATE.fullmatch(text(entry).strip("\0 "))
        if words is None:
            raise DataError(
                f"{shown(file.path)}: {name} holds {shown(text(entry))[:40]!r}, expected a time: a "
                "number, or a date as 2020-07-01_06:00:00."
            )
        moments.append(f"{words[1]}T{words[2] or '00:00'}")
    try:
        return seconds(np.array(moments, "datetime64[ms]"))
    except ValueError as error:
        raise DataError(f"{shown(file.path)}: {name} is no list of dates: {error}.") from error


def seconds(dates: np.ndarray) -> np.ndarray:
    """Dates of NumPy as seconds since 1970."""
    return dates.astype(f"{dates.dtype.kind}8[ms]").astype(np.float64) / 1000
