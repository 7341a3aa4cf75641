"""Memory for decompressed chunks, so that none is decompressed for every frame.

A chunk that holds several frames or trajectories would be read again for each of them: HDF5 keeps
some megabytes of chunks for each open dataset, and no chunk at all that is larger; zarr keeps none.
What all datasets of a process keep is limited together.

Source: https://docs.hdfgroup.org/hdf5/v1_14/group___d_a_p_l.html (H5Pset_chunk_cache)
"""

from collections import OrderedDict
from collections.abc import Hashable, MutableMapping
from math import ceil, prod
from typing import Any

import h5py

# Bytes of chunks that HDF5 keeps by itself: 1 MiB, 8 MiB from version 2.
KEPT = int(h5py.h5p.create(h5py.h5p.FILE_ACCESS).get_cache()[2])
MOST = 2**27  # bytes of chunks that all datasets of a process keep
SLOTS = 10007  # places in its table of chunks: a prime number, well above the number of them

Owner = MutableMapping[Any, Any]  # what keeps: open datasets by name, or chunks by place


class ChunkCache:
    """The chunks that this process keeps and their bytes, the one used last at the end."""

    def __init__(self) -> None:
        self.kept: OrderedDict[tuple[int, Hashable], tuple[Owner, int]] = OrderedDict()
        self._bytes = 0

    def keep(self, owner: Owner, name: Hashable, size: int) -> None:
        """Count a dataset that keeps so many bytes, or a chunk of them. Those used longest ago are
        taken out of their owners, as long as all together keep too much."""
        self.kept[id(owner), name] = (owner, size)
        self._bytes += size
        while self._bytes > MOST:
            (_, oldest), (holder, _) = next(iter(self.kept.items()))
            self.drop(holder, oldest)

    def touch(self, owner: Owner, name: Hashable) -> None:
        """Note that it is used now."""
        if (id(owner), name) in self.kept:
            self.kept.move_to_end((id(owner), name))

    def drop(self, owner: Owner, name: Hashable) -> None:
        """Take it out of its owner."""
        self._bytes -= self.kept.pop((id(owner), name), (owner, 0))[1]
        owner.pop(name, None)


shared = ChunkCache()


def row_size(dataset: h5py.Dataset) -> int:
    """Bytes of a row of chunks across all axes but the first, which its trajectories and frames
    share; 0 where HDF5 keeps enough by itself or chunks are single frames of a trajectory."""
    chunk = dataset.chunks
    if chunk is None or max(chunk[:2]) == 1:
        return 0
    across = prod(ceil(n / c) for n, c in zip(dataset.shape[1:], chunk[1:], strict=True))
    one = prod(chunk) * dataset.dtype.itemsize
    size = min(across, MOST // one) * one
    return size if size > KEPT else 0


def with_cache(dataset: h5py.Dataset, size: int) -> h5py.Dataset:
    """Open the dataset anew with a cache of so many bytes of chunks. Nobody else may hold it open:
    HDF5 takes the cache of who opens it first."""
    file, name = dataset.file, dataset.name
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_chunk_cache(SLOTS, size, 0.75)
    dataset.id.close()
    return h5py.Dataset(h5py.h5d.open(file.id, name.encode(), access))
