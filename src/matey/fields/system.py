"""A physical system: its variables, boundaries, parameters and time step."""

import enum
import re
from dataclasses import dataclass, field

from matey.errors import DataError, ShapeError
from matey.fields.quantities import PSEUDO

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")


class Boundary(enum.IntEnum):
    """What happens at one side of the domain."""

    PERIODIC = 0
    WALL = 1
    OPEN = 2


Sides = tuple[Boundary, Boundary]
PERIODIC_SIDES: Sides = (Boundary.PERIODIC, Boundary.PERIODIC)


@dataclass(frozen=True)
class Variable:
    """One physical quantity of a system.

    `axes` is `()` for a scalar, `("x",)` for a vector's component, `("x", "y")` for a
    tensor's. A `static` variable (a force, a mask) does not change in time: it is an input
    only, never predicted or scored. `alias` is the name that the file uses.

    `pseudo` says whether a mirror changes its sign beyond reversing components: False for a true
    scalar, vector or tensor; True for a pseudo one (a magnetic field, the vorticity); None if
    that is unknown. By default the canonical name decides (`matey.fields.quantities`).

    A static variable that is a `mask` is 1 at grid points where there is a field and 0 where there
    is none, as on land or inside an obstacle: what the others hold there counts nowhere.
    """

    name: str
    units: str = ""
    axes: tuple[str, ...] = ()
    static: bool = False
    alias: str = field(default="", compare=False)
    pseudo: bool | None = None
    mask: bool = False

    def __post_init__(self) -> None:
        if not NAME.match(self.name):
            raise DataError(
                f"Variable name {self.name!r} is not letters, digits and underscores. "
                "Give the variable a canonical name, and keep the file's as its alias."
            )
        if self.pseudo not in (None, False, True):
            raise DataError(
                f"Variable {self.name} has pseudo = {self.pseudo!r}, expected true, false or null."
            )
        if self.mask and not self.static:
            raise DataError(f"Variable {self.name} is a mask, which has to be static.")
        if self.pseudo is None:
            object.__setattr__(self, "pseudo", PSEUDO.get(self.name))


@dataclass(frozen=True)
class SystemSpec:
    """A system: one set of variables, dimension, parameters and output step `dt`.

    Grids and parameter values may differ between trajectories of one system.
    """

    name: str
    ndim: int
    variables: tuple[Variable, ...]
    parameters: tuple[str, ...] = ()
    dt: float = 1.0

    def __post_init__(self) -> None:
        if self.ndim not in (1, 2, 3):
            raise ShapeError(f"System {self.name!r} has {self.ndim} dimensions, not 1, 2 or 3.")
        names = [variable.name for variable in self.variables]
        if not names or len(set(names)) != len(names):
            raise DataError(f"System {self.name!r} needs distinct variables, found {names}.")
        if all(variable.static for variable in self.variables):
            raise DataError(f"System {self.name!r} has only static variables: nothing to predict.")
        masks = [variable.name for variable in self.variables if variable.mask]
        if len(masks) > 1:
            raise DataError(f"System {self.name!r} has more than one mask: {', '.join(masks)}.")
        if not self.dt > 0:
            raise DataError(f"System {self.name!r} has dt = {self.dt}, which is not positive.")

    @property
    def predicted(self) -> tuple[int, ...]:
        """Indices of the variables that change in time: what is predicted and scored."""
        return tuple(i for i, variable in enumerate(self.variables) if not variable.static)

    @property
    def mask(self) -> int | None:
        """Index of the variable that says where there is a field; None where it is everywhere."""
        return next((i for i, variable in enumerate(self.variables) if variable.mask), None)
