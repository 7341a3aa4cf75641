"""Room in memory for large chunks of HDF5 datasets, so that none is decompressed for every frame.

HDF5 keeps some megabytes of chunks for each open dataset, and no chunk at all that is larger. One
that holds several frames or trajectories would be read and decompressed again for each of them.

Source: https://docs.hdfgroup.org/hdf5/v1_14/group___d_a_p_l.html (H5Pset_chunk_cache)
"""

from collections import OrderedDict
from collections.abc import MutableMapping
from math import ceil, prod
from typing import Any

import h5py

# Bytes of chunks that HDF5 keeps by itself: 1 MiB, 8 MiB from version 2.
KEPT = int(h5py.h5p.create(h5py.h5p.FILE_ACCESS).get_cache()[2])
MOST = 2**27  # bytes of chunks that all datasets of a process keep
SLOTS = 10007  # places in its table of chunks: a prime number, well above the number of them

Arrays = MutableMapping[str, Any]
_large: "OrderedDict[tuple[int, str], tuple[Arrays, int]]" = OrderedDict()  # used last comes last


def row_size(dataset: h5py.Dataset) -> int:
    """Bytes of the chunks in a row across the first axis, which trajectories or frames in it share;
    0 where HDF5 keeps enough by itself or chunks are single frames of a trajectory."""
    chunk = dataset.chunks
    if chunk is None or max(chunk[:2]) == 1:
        return 0
    across = prod(ceil(n / c) for n, c in zip(dataset.shape[1:], chunk[1:], strict=True))
    one = prod(chunk) * dataset.dtype.itemsize
    size = min(across, MOST // one) * one
    return size if size > KEPT else 0


def with_room(dataset: h5py.Dataset, size: int) -> h5py.Dataset:
    """The same dataset with room for so many bytes of chunks. Nobody else may hold it open: HDF5
    takes the room of who opens it first."""
    file, name = dataset.file, dataset.name
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_chunk_cache(SLOTS, size, 0.75)
    dataset.id.close()
    return h5py.Dataset(h5py.h5d.open(file.id, name.encode(), access))


def keep(arrays: Arrays, name: str, size: int) -> None:
    """A dataset that keeps so many bytes is opened. Those used longest ago are taken out of the
    open `arrays` of their files, as long as all together keep too much."""
    _large[id(arrays), name] = (arrays, size)
    while sum(kept for _, kept in _large.values()) > MOST:
        (_, oldest), (owner, _) = _large.popitem(last=False)
        owner.pop(oldest, None)


def touch(arrays: Arrays, name: str) -> None:
    """A dataset is used."""
    if (id(arrays), name) in _large:
        _large.move_to_end((id(arrays), name))


def forget(arrays: Arrays, name: str) -> None:
    """A dataset is no longer open."""
    _large.pop((id(arrays), name), None)
