"""When the frames of a file are: an array of times, a scalar, or an attribute."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from matey.data.formats import files
from matey.data.formats import times as moments
from matey.data.formats.container import Container
from matey.data.formats.encoding import number, text
from matey.data.formats.joined import TIME
from matey.data.layouts.conventions import axis_of, words
from matey.errors import DataError

# What attributes of a file, group or dataset call its time, in small letters.
CLOCKS = words(
    "time t sim_time simtime simulation_time current_time currenttime physical_time phys_time "
    "model_time time_value timevalue solution_time solutiontime tn"
)
TABLE = 10_000  # rows of a table of names and values, at most


@dataclass(frozen=True)
class Clock:
    """Times of a file's frames, what they are called there, and their units and calendar."""

    name: str
    times: np.ndarray
    units: str = ""
    calendar: str = ""

    @property
    def attributes(self) -> dict[str, Any]:
        """Units and calendar as attributes of an array of times."""
        pairs = {"units": self.units, "calendar": self.calendar}
        return {key: value for key, value in pairs.items() if value}


def clock_of(file: Container, coordinate: str | None) -> Clock | None:
    """The times in a file: of its `coordinate`, of a scalar called time, else of an attribute."""
    scalars = [
        name
        for name in file.names()
        if "/" not in name and np.prod(file.array(name).shape) == 1 and is_clock(name)
    ]
    dates = [n for n in file.names() if is_clock(n) and moments.are_dates(file.array(n))]
    for name in [coordinate] if coordinate else [*scalars, *dates]:
        array = file.array(name)
        if array.dtype.kind not in "fiuMmSOUT":
            continue
        times = moments.read(file, name).reshape(-1)
        attributes = file.attributes(name)
        units, calendar = (text(attributes.get(key, "")) for key in ("units", "calendar"))
        return Clock(name, times, moments.DATES if moments.are_dates(array) else units, calendar)
    moment = time_among(file.attributes())
    if moment is None:
        moment = time_in_table(file)
    return None if moment is None else Clock(TIME, np.array([moment]))


def time_in_table(file: Container) -> float | None:
    """The time in a table of names and values, as FLASH writes its `real scalars`; None where there
    is none."""
    for name in file.names():
        array = file.array(name)
        if array.dtype.names is None or len(array.dtype.names) != 2 or len(array.shape) != 1:
            continue
        if array.shape[0] > TABLE:
            continue
        key, value = array.dtype.names
        if array.dtype[key].kind == "S" and array.dtype[value].kind == "f":
            with files.guarded(file.path):
                rows = np.asarray(array[()])
            moment = time_among({text(row[key]).strip("\0 "): row[value] for row in rows})
            if moment is not None:
                return moment
    return None


def is_clock(name: str) -> bool:
    """Whether an array is called as times are."""
    word = name.split("/")[-1]
    return axis_of(word) == "time" and not re.search(r"step|frame|snap", word.lower())


def time_among(attributes: Mapping[str, Any]) -> float | None:
    """The time that attributes give, if one does."""
    moments = {key.lower(): number(value) for key, value in attributes.items()}
    stated = (moments.get(key) for key in sorted(CLOCKS, key=len, reverse=True))
    moment = next((value for value in stated if value is not None), None)
    unit = moments.get("timeunitsi") or 1.0  # of openPMD
    return None if moment is None or not np.isfinite(moment) else moment * unit


def on_one_clock(clocks: Sequence[Clock]) -> list[np.ndarray]:
    """The times of several files in the units of the first: each may count from its own beginning.

    Raises DataError where units cannot be compared.
    """
    first = clocks[0]
    times = []
    for clock in clocks:
        if (clock.units, clock.calendar) == (first.units, first.calendar):
            times.append(clock.times)
            continue
        try:
            cftime = import_module("cftime")
            calendar = clock.calendar or "standard"
            if calendar != (first.calendar or "standard"):
                raise ValueError(f"calendars {calendar} and {first.calendar or 'standard'}")
            dates = cftime.num2date(clock.times, clock.units, calendar)
            times.append(np.asarray(cftime.date2num(dates, first.units, calendar), np.float64))
        except (ImportError, ValueError, TypeError, OverflowError, AttributeError) as error:
            raise DataError(
                f"times in {clock.units or 'no units'!r} and {first.units or 'no units'!r} cannot "
                f"be put in one order ({error})"
            ) from error
    return times
