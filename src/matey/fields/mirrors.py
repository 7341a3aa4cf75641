"""What a mirror does to fields.

A mirror across an axis turns the grid points round and swaps the two sides of the domain; of a
tensor, each component changes sign as often as it has that axis: velocity_x under a mirror across
x, stress_xy under one across x or y, stress_xx never. Pseudovectors (magnetic field, vorticity) are
curls of vectors and change sign once more: across x, magnetic_x stays and magnetic_y and magnetic_z
turn. So do pseudoscalars, as the vorticity is in two dimensions. `Variable.pseudo` says whether a
variable is one.

Axes: C variables, (Z, Y, X) grid points.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from matey.errors import ConfigError
from matey.fields.system import Variable

AXES = "zyx"  # along array axes 0, 1, 2 of a grid


def parity(variable: Variable, axis: str) -> int:
    """The sign that a variable's value gets in a mirror across an axis, 1 or -1.

    Raises ConfigError where nothing says it.
    """
    if variable.pseudo is None:
        raise ConfigError(f"What a mirror does to {variable.name} is unknown: set its `pseudo`.")
    return -1 if (variable.axes.count(axis) + variable.pseudo) % 2 else 1


def signs(
    values: Float[Tensor, "... C Z Y X"], axes: Sequence[int], variables: Sequence[Variable]
) -> Float[Tensor, "C 1 1 1"]:
    """The sign of each variable after a mirror across each of some axes, 0 to 2, as of `values`."""
    each = [[parity(variable, AXES[axis]) for variable in variables] for axis in axes]
    return values.new_tensor(each).prod(dim=0)[:, None, None, None]


def mirror(
    values: Float[Tensor, "... C Z Y X"], axes: Sequence[int], variables: Sequence[Variable]
) -> Float[Tensor, "... C Z Y X"]:
    """Values of some variables, mirrored across each of some axes, 0 to 2."""
    if not axes:
        return values
    return values.flip([axis - 3 for axis in axes]) * signs(values, axes, variables)
