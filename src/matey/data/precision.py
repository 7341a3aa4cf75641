"""What float32, in which everything here computes, loses of the numbers in a file."""

from collections.abc import Sequence
from contextlib import closing

import numpy as np

from matey.data import files
from matey.data.arrays import read_stored
from matey.data.containers import Container, open_container
from matey.data.layout import Stored
from matey.data.packing import Unpacked
from matey.data.reader import Fields, Reader
from matey.data.tally import Statistics

RESOLVED = 1e-6  # of its mean a variable varies by more; numbers of float32 are up to 1.2e-7 apart


def wider_types(readers: Sequence[Reader]) -> dict[str, str]:
    """Variables whose numbers float32 does not hold to the last digit, and their type in the
    first file where they have one."""
    found: dict[str, str] = {}
    for reader in readers:
        with files.guarded(reader.path), closing(open_container(reader.path)) as file:
            for stored in reader.contents.arrays:
                array = file.array(name_in(reader, stored))
                dtype = array.stored if isinstance(array, Unpacked) else array.dtype
                if not np.can_cast(dtype, np.float32):
                    for variable in stored.variables:
                        found.setdefault(variable.name, dtype.name)
    return found


def unresolved(fields: Fields, statistics: Sequence[Statistics]) -> list[str]:
    """Variables that vary in the file, but in float32 hardly or not at all: their variation is
    below about a millionth of their mean."""
    nearly = [
        variable.name
        for variable, found in zip(fields.spec.variables, statistics, strict=bool(statistics))
        if found.std < RESOLVED * abs(found.mean)
    ]
    reader = fields.readers[0]
    if not nearly or not set(nearly) & set(wider_types([reader])):
        return []
    with files.guarded(reader.path), closing(open_container(reader.path)) as file:
        varying: set[str] = set()
        for stored in reader.contents.arrays:
            frames = first_frames(file, reader, stored)
            pairs = zip(stored.variables, frames, strict=True)
            varying |= {variable.name for variable, values in pairs if np.ptp(values) > 0}
    return [name for name in nearly if name in varying]


def first_frames(file: Container, reader: Reader, stored: Stored) -> np.ndarray:
    """Two frames of an array in the file's own type, variables first [C T Z Y X]."""
    frames = slice(0, min(2, len(reader.trajectories[0].times)))
    return read_stored(file, stored, name_in(reader, stored), 0, frames).swapaxes(0, 1)


def name_in(reader: Reader, stored: Stored) -> str:
    """What the array is called in the file, in the group of the first trajectory."""
    keys = reader.contents.keys
    return stored.name.format(key=keys[0]) if keys else stored.name
