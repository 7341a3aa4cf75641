"""Datasets whose numbers lie in the file as they lie in memory, one after the other.

HDF5 calls that layout contiguous. To have its library select and copy them takes several times
longer than to ask the operating system for that stretch of the file, straight to where the
numbers are wanted.
"""

import math
import os
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

from matey.errors import DataError

MAX_ROOMS = 1024  # arrays that the operating system fills in one call
MAX_KEPT = 2**20  # bytes of a dataset that is kept in memory: as many as HDF5 keeps of chunks


class Contiguous:
    """A contiguous dataset of float32: it is indexed like any other, and read in stretches."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset
        self.shape, self.ndim, self.dtype = dataset.shape, dataset.ndim, dataset.dtype
        self._start, self._size = dataset.id.get_offset(), dataset.dtype.itemsize
        self._descriptor = dataset.file.id.get_vfd_handle()
        self._is_small = math.prod(self.shape) * self._size <= MAX_KEPT
        self._kept: np.ndarray | None = None

    def __getitem__(self, index: Any) -> Any:
        return self._dataset[index]

    def kept(self, parts: int) -> np.ndarray | None:
        """All numbers of a small dataset with its `parts` components apart [K N], read at the
        first call; None if it is not small."""
        if self._kept is None and self._is_small:
            mixed = np.empty((math.prod(self.shape) // parts, parts), np.float32)
            self.read_into(0, [mixed])
            self._kept = np.ascontiguousarray(mixed.T)
        return self._kept

    def read_into(self, first: int, rooms: Sequence[Any]) -> None:
        """The numbers from the `first` on (as in the flattened dataset), into C-contiguous
        arrays one after the other. Raises DataError where the file ends before.
        """
        offset = self._start + first * self._size
        while rooms:
            count = os.preadv(self._descriptor, rooms[:MAX_ROOMS], offset)
            if not count:
                raise DataError(
                    f"dataset {self._dataset.name} cannot be read, the file ends at byte {offset}. "
                    "Copy or download it again."
                )
            offset += count
            rooms = left(rooms, count)


def left(rooms: Sequence[Any], count: int) -> Sequence[Any]:
    """What is still to be filled after so many bytes: a call may do less than it is asked."""
    for i, room in enumerate(rooms):
        if count < room.nbytes:
            return [memoryview(room).cast("B")[count:], *rooms[i + 1 :]] if count else rooms[i:]
        count -= room.nbytes
    return ()


def contiguous(dataset: h5py.Dataset) -> Any:
    """The dataset as Contiguous if it is: of native float32, written, and in a plain file."""
    plain = (
        hasattr(os, "preadv")
        and dataset.file.driver == "sec2"
        and dataset.id.get_type().equal(h5py.h5t.NATIVE_FLOAT)
        and dataset.id.get_offset() is not None
    )
    return Contiguous(dataset) if plain else dataset
