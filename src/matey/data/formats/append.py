"""Writes datasets that come a stretch of time after the other: as NetCDF4, or as a zarr store."""

from collections.abc import Mapping
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any, Protocol

import netCDF4

from matey.data.formats.files import shown
from matey.errors import DataError

CHUNK = 2**16  # bytes of a chunk: whole frames, one at least


class Sink(Protocol):
    """Where datasets go. All are alike but for their times; `time` is what that axis is called."""

    def add(self, dataset: Any) -> None:
        """Write the next stretch."""

    def close(self, attributes: Mapping[str, str]) -> None:
        """Write what the file says of itself in the end."""

    def abandon(self) -> None:
        """Let go of a file that will not be completed."""


class NetCDF:
    """A NetCDF4 file whose axis of time can grow, compressed."""

    def __init__(self, path: Path, time: str) -> None:
        self._path, self._time = path, time
        self._file: Any = None

    def add(self, dataset: Any) -> None:
        if self._file is None:
            compressed = {"zlib": True, "complevel": 1}
            chunks = chunks_of(dataset, self._time)
            encoding = {
                name: compressed | ({"chunksizes": chunks[name]} if name in chunks else {})
                for name in dataset.data_vars
            }
            dataset.to_netcdf(
                self._path,
                engine="netcdf4",
                format="NETCDF4",
                encoding=encoding,
                unlimited_dims=[self._time],  # `add` is not told how many times will follow
            )
            self._file = netCDF4.Dataset(str(self._path), "a")
            self._file.set_auto_maskandscale(False)
            return
        first = len(self._file.dimensions[self._time])
        stretch = slice(first, first + dataset.sizes[self._time])
        for name, array in dataset.variables.items():
            if self._time in array.dims:
                place = [stretch if dim == self._time else slice(None) for dim in array.dims]
                self._file.variables[name][tuple(place)] = array.values

    def close(self, attributes: Mapping[str, str]) -> None:
        self._file.setncatts(dict(attributes))
        self.abandon()

    def abandon(self) -> None:
        """Close the file as it is."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Zarr:
    """A zarr store of version 2, which also older programs read. Raises DataError where the package
    is not installed; `name` is what the store will be called."""

    def __init__(self, path: Path, time: str, name: Path) -> None:
        try:
            self._zarr = import_module("zarr")
        except ImportError as error:
            raise DataError(
                f"{shown(name)} is to be a zarr store, which needs a package that is not installed:"
                " pip install 'matey-pde[zarr]'. Or name a NetCDF file."
            ) from error
        self._path, self._time, self._begun = path, time, False

    def add(self, dataset: Any) -> None:
        if not self._begun:
            chunks = {
                name: {"chunks": sizes} for name, sizes in chunks_of(dataset, self._time).items()
            }
            dataset.to_zarr(
                self._path, mode="w", zarr_format=2, consolidated=False, encoding=chunks
            )
            self._begun = True
            return
        still = [name for name, array in dataset.variables.items() if self._time not in array.dims]
        more = dataset.drop_vars(still)
        more.to_zarr(self._path, append_dim=self._time, zarr_format=2, consolidated=False)

    def close(self, attributes: Mapping[str, str]) -> None:
        self._zarr.open_group(str(self._path), mode="r+", zarr_format=2).attrs.update(attributes)
        self._zarr.consolidate_metadata(str(self._path), zarr_format=2)

    def abandon(self) -> None:
        """Nothing is open."""


def chunks_of(dataset: Any, time: str) -> dict[str, tuple[int, ...]]:
    """The chunks of arrays whose frames are small: several of them together."""
    chunks = {}
    for name, array in dataset.data_vars.items():
        if time in array.dims:
            sizes = [1 if dim == time else array.sizes[dim] for dim in array.dims]
            together = CHUNK // (array.dtype.itemsize * prod(sizes))
            if together > 1:
                sizes[array.dims.index(time)] = together
                chunks[name] = tuple(sizes)
    return chunks
