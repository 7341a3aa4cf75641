"""Which grid points hold a field: the sea beside land, the flow around an obstacle.

A mask is a static variable, 1 where there is a field and 0 where there is none. It is one of the
file's variables, or it is made of where values are missing at the first time of a trajectory.

Axes: T times, C variables, (Z, Y, X) grid points.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from matey.data.formats.files import shown
from matey.data.layouts.base import Contents
from matey.errors import DataError, nearest
from matey.fields import SystemSpec, Variable
from matey.fields.field import HALF

MISSING, NONE = "missing", "none"
NAME = "mask"  # of the variable that is made


@dataclass(frozen=True)
class Mask:
    """Which points hold a field; and which values are there, if that is what tells it."""

    held: Bool[np.ndarray, "Z Y X"]
    there: Bool[np.ndarray, "C Z Y X"] | None

    def within(self, box: Mapping[str, slice]) -> "Mask":
        """What of it lies in a box."""
        part = box["z"], box["y"], box["x"]
        return Mask(self.held[part], None if self.there is None else self.there[:, *part])

    def put_on(
        self, values: Float[np.ndarray, "T C Z Y X"], spec: SystemSpec, fill: float
    ) -> tuple[int, ...] | None:
        """Write the mask, and fill the points without a field. Where a value is missing at one time
        and not at another, the place (t, c, z, y, x) of the first one."""
        if self.there is not None:
            differs = np.isfinite(values) != self.there
            differs[:, spec.mask] = False
            if differs.any():
                return tuple(int(i) for i in np.argwhere(differs)[0])
        values[:, :, ~self.held] = fill
        values[:, spec.mask] = self.held
        return None


def with_mask(contents: Contents, how: str, path: Path) -> Contents:
    """The contents with the mask that a data config asks for. Raises DataError for a variable that
    is not there or changes in time."""
    spec = contents.spec
    names = [variable.name for variable in spec.variables]
    if how in ("", NONE):  # what the file itself says of its variables stands
        written = names[spec.mask] if spec.mask is not None else ""
        return replace(contents, mask=written)
    if how == MISSING:
        name = "missing_mask" if NAME in names else NAME
        made = Variable(name, static=True, alias=name, pseudo=False, mask=True)
        variables = *(replace(v, mask=False) for v in spec.variables), made
        return replace(contents, spec=replace(spec, variables=variables), mask=MISSING)
    name = how.removeprefix("!")
    static = [v for v in spec.variables if v.static]
    chosen = next((v for v in static if name in (v.name, v.alias)), None)
    if chosen is None:
        hint = nearest(name, [v.alias or v.name for v in static]) if static else "There is none."
        raise DataError(
            f"{shown(path)}: `mask` of the data config names {name!r}, which is no variable of the "
            f"file that stays the same in time. {hint} `mask: missing` takes where values are."
        )
    variables = tuple(
        replace(v, mask=v is chosen, pseudo=False if v is chosen else v.pseudo)
        for v in spec.variables
    )
    return replace(contents, spec=replace(spec, variables=variables), mask=how)


def mask_of(frame: Float[np.ndarray, "C Z Y X"], spec: SystemSpec, how: str, where: str) -> Mask:
    """The mask of a trajectory, by its first frame. Raises DataError where no point is left."""
    there = np.isfinite(frame) if how == MISSING else None
    if there is not None:
        there[spec.mask] = True
        held = there.all(axis=0)
    else:
        held = (frame[spec.mask] > HALF) != how.startswith("!")
    if held.any():
        return Mask(held, there)
    if there is None:
        other = how[1:] if how.startswith("!") else f"!{how}"
        raise DataError(
            f"{where}: by `mask: {how}` no grid point holds a field. Is it the other way round? "
            f"Then say `mask: '{other}'`."
        )
    pairs = zip(spec.variables, there, strict=True)
    empty = [variable.alias or variable.name for variable, some in pairs if not some.any()]
    which = "no grid point has a value of every variable"
    if empty:
        which = f"{', '.join(empty)} has no value anywhere"
    raise DataError(f"{where}: at the first time {which}. Leave out that variable, or that frame.")
