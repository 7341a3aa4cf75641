"""The one reader: frames of arrays in a file of any known layout, as fields on (T, C, Z, Y, X).

A file is recognised by its content first and its name second. What a layout finds in a file says
where the values lie (`Stored`); reading them is the same for every layout and every format.
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from matey.config import Join, SourceConfig
from matey.data.formats import files
from matey.data.formats.container import Container, open_container
from matey.data.formats.files import UnknownLayoutError, shown
from matey.data.formats.joined import JoinedContainer, Run
from matey.data.layouts.base import Contents, Layout, Trajectory
from matey.data.layouts.cavity import Cavity
from matey.data.layouts.described import Described
from matey.data.layouts.miniweather import MiniWeather
from matey.data.layouts.pdebench import PDEBenchIncompressible, PDEBenchTrees
from matey.data.layouts.pdebench_arrays import PDEBenchCompressible, PDEBenchScalars
from matey.data.layouts.prediction import MateyFile
from matey.data.layouts.stored import (
    Corner,
    Piece,
    allocate,
    copy_frames,
    places,
    read_stored,
    x_first,
)
from matey.data.layouts.the_well import TheWell
from matey.data.masks import MISSING, Mask, mask_of, with_mask
from matey.errors import DataError, nearest
from matey.fields import Field

# Every layout, in the order in which a file is tried. A new reader is a line here.
LAYOUTS: list[Layout] = [
    TheWell(),
    MateyFile(),
    PDEBenchTrees(),
    PDEBenchIncompressible(),
    PDEBenchCompressible(),
    PDEBenchScalars(),
    MiniWeather(),
    Cavity(),
    Described(),
]


MASKS = 64  # that a reader keeps


class Reader:
    """Trajectories stored as arrays in one file. Keeps no handle itself.

    `x_first` says that x is the slowest axis in the file, as in the Well.
    """

    def __init__(
        self, source: Path | Run, options: SourceConfig | None, layout: str, contents: Contents
    ) -> None:
        self.source = source
        self.path = source.path if isinstance(source, Run) else source
        self.layout = layout
        self.contents = contents
        self.spec = contents.spec
        self.trajectories: Sequence[Trajectory] = contents.trajectories
        self.x_first = x_first(contents.arrays)
        order = {variable.name: i for i, variable in enumerate(self.spec.variables)}
        self._channels = [
            places([order[variable.name] for variable in stored.variables])
            for stored in contents.arrays
        ]
        self._options = options
        self._stamp = source.stamp if isinstance(source, Run) else files.stamp(source)
        self._masks: dict[int, Mask] = {}

    def __reduce__(self) -> Any:
        """Pickle as the path alone: a spawned worker opens the file itself."""

        return open_reader, (self.source, self._options)

    def with_contents(self, contents: Contents) -> "Reader":
        """A reader of the same file that says something else of it."""
        return Reader(self.source, self._options, self.layout, contents)

    @property
    def files(self) -> tuple[Path, ...]:
        """The file, or those of a run that lies in several."""
        return self.source.files if isinstance(self.source, Run) else (self.path,)

    def lie_in(self, frames: range) -> list[tuple[Path, int, int]]:
        """The files that frames of a trajectory lie in, with the first there and the one after
        the last."""
        if isinstance(self.source, Run):
            return self.source.lie_in(frames)
        return [(self.path, frames.start, frames.stop)]

    @property
    def join(self) -> tuple[Join, ...]:
        """How its files are joined, as a data config says it."""
        return self.source.join if isinstance(self.source, Run) else ()

    @property
    def dropped(self) -> bool:
        """Whether frames stood twice in its files, of which one is left out."""
        return isinstance(self.source, Run) and self.source.dropped

    def open(self) -> Container:
        """The file, or the run, as a container; to be closed by who asks for it."""
        return open_source(self.source)

    def read(self, index: int, frames: slice = slice(None)) -> Field:
        """The given frames as a Field of float32 values; no others are read.

        Raises DataError on values that are damaged, complex or not finite, on a file that
        changed since it was opened, and on more bytes than memory holds.
        """
        trajectory = self.trajectories[index]
        whole = range(len(trajectory.times))[frames]
        if whole.step < 1 or not whole:
            raise DataError(
                f"{trajectory.name}: frames {frames} of {len(trajectory.times)} select nothing in "
                "order of time."
            )
        times = trajectory.times[frames]
        shape = (len(times), len(self.spec.variables), *trajectory.grid.shape)
        files.check_size(4 * prod(shape), self.path, f"reading {len(times)} frames")
        values = allocate(shape, self.x_first)
        self.read_into([Piece(range(len(self.trajectories))[index], whole, values)])
        return Field(
            torch.from_numpy(values),
            times,
            trajectory.grid,
            trajectory.boundaries,
            dict(trajectory.parameters),
            self.spec,
            {"source": trajectory.name},
            self.contents.labels,
        )

    def read_into(self, pieces: Sequence[Piece]) -> None:
        """Read frames of the file into the array of each piece. Every frame is read once, in order
        of time, however many of the pieces hold it.

        Raises DataError on values that are damaged, complex or not finite, or a file that changed.
        """
        if not isinstance(self.source, Run):  # each part of a run is checked as it is opened
            files.check_unchanged(self.path, self._stamp)
        pieces = [self._as_stored(piece) for piece in pieces]
        self._copy(pieces)
        if self.spec.mask is not None:
            self._put_masks_on(pieces)
        self._check_finite(pieces)

    def _copy(self, pieces: Sequence[Piece]) -> None:
        """Copy what the file has of the frames into the array of each piece."""
        keys = self.contents.keys
        # Values beyond float32 become infinite, which `_check_finite` reports.
        with files.guarded(self.path), np.errstate(over="ignore", invalid="ignore"):
            file = files.handle(self.path, self._stamp, lambda _: self.open())
            groups = defaultdict[int, list[Piece]](list)
            for piece in pieces:
                groups[piece.trajectory].append(piece)
            parts = list(groups.values())
            # Trajectories lie in the same arrays, or each in those of its own group.
            for alike in [[group] for group in parts] if keys else [parts]:
                for stored, channels in zip(self.contents.arrays, self._channels, strict=True):
                    key = keys[alike[0][0].trajectory] if keys else ""
                    name = stored.name.format(key=key) if keys else stored.name
                    for group in alike:
                        copy_frames(file, stored, name, group, channels)

    def _put_masks_on(self, pieces: Sequence[Piece]) -> None:
        """Write masks, and fill the points without a field. Raises DataError that names the first
        value that is missing at some times only."""
        fill = self._options.fill if self._options else SourceConfig.fill
        for piece in pieces:
            index, frames, values, corner = piece
            mask, name = self._mask(index).within(piece.box), shown(self.trajectories[index].name)
            place = mask.put_on(values, self.spec, fill)
            if place is None:
                continue
            t, c, *at = place
            point = moved(at, corner)
            variable = self.spec.variables[c]
            raise DataError(
                f"{shown(self.path)}: {variable.alias or variable.name} of trajectory {name} is "
                f"{values[place]} at time {float(self.trajectories[index].times[frames[t]]):.6g}, "
                f"index {point} (z, y, x), but not so at the first time. Points can only be "
                "masked that lack values at all times: fill the others in the file, or leave the "
                "variable out."
            )

    def _mask(self, index: int) -> Mask:
        """The mask of a trajectory, as the file's axes run; of a few trajectories it is kept."""
        if index not in self._masks:
            trajectory = self.trajectories[index]
            shape = (1, len(self.spec.variables), *trajectory.grid.shape)
            first = np.zeros(shape, np.float32)
            self._copy([self._as_stored(Piece(index, (0,), first))])
            turned = self._as_stored(Piece(index, (0,), first)).values[0]
            where = f"{shown(self.path)}: {shown(trajectory.name)}"
            while len(self._masks) >= MASKS:
                self._masks.pop(next(iter(self._masks)))
            self._masks[index] = mask_of(turned, self.spec, self.contents.mask, where)
        return self._masks[index]

    def _as_stored(self, piece: Piece) -> Piece:
        """The piece with its array turned round along the axes that fall in the file."""
        grid = self.trajectories[piece.trajectory].grid
        if not grid.turned:
            return piece
        corner = list(piece.corner)
        for axis in grid.turned:
            corner[axis] = grid.shape[axis] - corner[axis] - piece.values.shape[axis - 3]
        values = np.flip(piece.values, tuple(axis - 3 for axis in grid.turned))
        return piece._replace(values=values, corner=(corner[0], corner[1], corner[2]))

    def _check_finite(self, pieces: Sequence[Piece]) -> None:
        """Raise DataError that names the first value of what was read that is not finite."""
        for index, frames, values, corner in pieces:
            # A sum is finite only if all it adds up is, and is faster than a look at each value.
            if np.isfinite(np.einsum("i->", values.ravel(order="K"))) or np.isfinite(values).all():
                continue
            trajectory = self.trajectories[index]
            t, c, *at = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
            variable, point = self.spec.variables[c], moved(at, corner)
            raise DataError(
                f"{shown(self.path)}: {variable.alias or variable.name} of trajectory "
                f"{shown(trajectory.name)} is {values[t, c][tuple(at)]} at time "
                f"{float(trajectory.times[frames[t]]):.6g}, index {point} (z, y, x). Values "
                "that are not finite in float32 are never trained on: remove the trajectory or "
                "mend the file. Points that lack values at all times, as land, are left out with "
                "`mask: missing` in the data config."
            )


def moved(point: Sequence[int], corner: Corner) -> tuple[int, ...]:
    """The place in the grid of a point of a box that begins at a corner."""
    return tuple(place + first for place, first in zip(point, corner, strict=True))


def open_source(source: Path | Run) -> Container:
    """A file, or a run in several, open for reading."""
    return JoinedContainer(source) if isinstance(source, Run) else open_container(source)


def open_reader(source: Path | Run, options: SourceConfig | None = None) -> Reader:
    """The reader that fits the content of a file, or of a run in several.

    Raises DataError if the file is missing, damaged or none of the known layouts.
    """
    if isinstance(source, Run):
        layouts: list[Layout] = [Described()]
    else:
        source = Path(os.path.abspath(source))  # a later change of folder must not matter
        layouts = layouts_of(source, options)
    reader = recognise(source, layouts, options)
    if reader is None:
        path = source.path if isinstance(source, Run) else source
        raise UnknownLayoutError(
            f"{shown(path)} has a layout that no reader knows. Looked for "
            f"{'; '.join(layout.expected for layout in layouts)}."
        )
    return reader


def layouts_of(path: Path, options: SourceConfig | None) -> list[Layout]:
    """The layouts that a file may have. Raises DataError if it is of no known format."""
    kind = files.kind(path)
    if options is not None and options.layout is not None:
        return [Described()]  # the user's word stands
    return [layout for layout in LAYOUTS if kind in layout.formats]


def recognise(
    source: Path | Run, layouts: Sequence[Layout], options: SourceConfig | None
) -> Reader | None:
    """A reader by the first of the layouts that fits; None if none does."""
    path = source.path if isinstance(source, Run) else source
    with files.guarded(path), closing(open_source(source)) as file:
        for layout in layouts:
            contents = layout.describe(file, options)
            if contents is not None:
                if isinstance(source, Run):
                    contents = with_notes(contents, source)
                contents = declared(contents, options, path)
                contents = with_mask(contents, asked_mask(file, contents, options), path)
                return Reader(source, options, layout.name, contents)
    return None


def with_notes(contents: Contents, run: Run) -> Contents:
    """The contents of a run, with what was assumed and is in doubt about its files."""
    layout = contents.described
    if layout is None:
        return contents  # a data config describes it
    doubts = (*layout.doubts, *run.doubts)
    assumptions = (*run.assumptions, *contents.assumptions)
    for text in run.assumptions:
        files.log.warning(f"{shown(run.path)}: {text}.")
    return replace(
        contents,
        described=replace(layout, doubts=doubts),
        assumptions=assumptions,
        doubts=doubts,
    )


def asked_mask(file: Container, contents: Contents, options: SourceConfig | None) -> str:
    """The mask that a data config asks for; where it says nothing and the layout was drafted,
    missing values of the first frame ask for one."""
    if options is not None and options.mask:
        return options.mask
    if contents.described is None:
        return ""
    key = contents.keys[0] if contents.keys else ""
    for stored in contents.arrays:
        name = stored.name.format(key=key) if contents.keys else stored.name
        if not np.isfinite(read_stored(file, stored, name, 0, slice(0, 1))).all():
            return MISSING
    return ""


def declared(contents: Contents, options: SourceConfig | None, path: Path) -> Contents:
    """The contents with what the data config says of mirrors. Raises DataError for a variable
    that the file has not."""
    pseudo, spec = options.pseudo if options else {}, contents.spec
    names = [variable.name for variable in spec.variables]
    for name in pseudo:
        if name not in names:
            raise DataError(
                f"{shown(path)}: `pseudo` of the data config names {name!r}, which the file has "
                f"not. {nearest(name, names)}"
            )
    variables = tuple(replace(v, pseudo=pseudo.get(v.name, v.pseudo)) for v in spec.variables)
    return replace(contents, spec=replace(spec, variables=variables)) if pseudo else contents
