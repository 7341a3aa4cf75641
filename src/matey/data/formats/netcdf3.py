"""Reads classic NetCDF.

The NetCDF library reads zeros beyond the end of a file that was cut short, so the header is
asked how long the file must be.

Source: https://docs.unidata.ucar.edu/netcdf-c/current/file_format_specifications.html
"""

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import netCDF4

from matey.data.formats import files
from matey.data.formats.encoding import decoded
from matey.data.formats.files import shown
from matey.errors import DataError

ITEM_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
STREAMING = 0xFFFFFFFF  # number of records not known when the header was written
DAMAGED = (OSError, RuntimeError, struct.error, LookupError, ValueError, OverflowError)


class NetCDF3Container:
    """Classic NetCDF: CDF-1, CDF-2 and CDF-5."""

    def __init__(self, path: Path) -> None:
        self.path, size = path, files.stamp(path)[0]
        try:
            with path.open("rb") as content:
                expected = expected_size(content)
            if size < expected:
                raise DataError(
                    f"{shown(path)} is cut short: {size} bytes, expected {expected}. "
                    "Copy or download it again."
                )
            self.file = netCDF4.Dataset(str(path), "r")
        except DAMAGED as error:
            raise DataError(f"{shown(path)} ({size} bytes) is damaged NetCDF: {error}.") from error
        self.file.set_auto_maskandscale(False)
        self._arrays: dict[str, Any] = {}

    def names(self) -> list[str]:
        return list(self.file.variables)

    def _variable(self, name: str) -> Any:
        if name not in self.file.variables:
            raise DataError(
                f"{shown(self.path)}: {name} is missing. Found: {', '.join(self.names())}."
            )
        return self.file.variables[name]

    def array(self, name: str) -> Any:
        if name not in self._arrays:
            variable, attributes = self._variable(name), self.attributes(name)
            if variable.dtype.itemsize > 1:  # of bytes any may be meant
                fill = netCDF4.default_fillvals.get(variable.dtype.str[1:])
                attributes.setdefault("_FillValue", fill)  # of what was not written
            where = f"{shown(self.path)}: {shown(name)}"
            self._arrays[name] = decoded(variable, attributes, where)
        return self._arrays[name]

    def dims(self, name: str) -> tuple[str, ...]:
        return tuple(self._variable(name).dimensions)

    def attributes(self, name: str = "") -> dict[str, Any]:
        owner = self._variable(name) if name else self.file
        return {key: owner.getncattr(key) for key in owner.ncattrs()}

    def close(self) -> None:
        self.file.close()


@dataclass(frozen=True)
class _Header:
    """Numbers of a header, in the width that the format's version gives them."""

    file: BinaryIO
    version: int

    def number(self, wide: bool) -> int:
        size = 8 if wide else 4
        content = self.file.read(size)
        return int(struct.unpack(">Q" if wide else ">I", content)[0])

    def count(self) -> int:
        return self.number(self.version == 5)

    def offset(self) -> int:
        return self.number(self.version >= 2)

    def skip(self, size: int) -> None:
        self.file.seek(padded(size), 1)

    def skip_attributes(self) -> None:
        self.number(False)  # the list's tag
        for _ in range(self.count()):
            self.skip(self.count())  # name
            item = ITEM_SIZES[self.number(False)]
            self.skip(item * self.count())


def padded(size: int) -> int:
    """The size rounded up to 4 bytes."""
    return size + -size % 4


def expected_size(file: BinaryIO) -> int:
    """Bytes from the start of the file to its last value.

    Raises struct.error or KeyError where the header itself is cut short or damaged.
    """
    file.seek(3)
    header = _Header(file, file.read(1)[0])
    records = header.count()
    header.number(False)
    lengths = []
    for _ in range(header.count()):
        header.skip(header.count())
        lengths.append(header.count())
    header.skip_attributes()
    header.number(False)
    ends, parts = [file.tell()], []
    for _ in range(header.count()):
        header.skip(header.count())
        shape = [lengths[header.count()] for _ in range(header.count())]
        header.skip_attributes()
        item = ITEM_SIZES[header.number(False)]
        header.count()  # the size again
        begin = header.offset()
        if shape and shape[0] == 0:
            parts.append((begin, item * prod(shape[1:])))
        else:
            ends.append(begin + item * prod(shape))
    record = sum(padded(size) for _, size in parts) if len(parts) > 1 else sum(s for _, s in parts)
    if 0 < records < STREAMING:
        ends += [begin + (records - 1) * record + size for begin, size in parts]
    return max(ends)
