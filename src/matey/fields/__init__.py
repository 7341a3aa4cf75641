"""The domain types: a field of physics, its grid and its system.

Axes: B batch, T times, C variables, (Z, Y, X) grid points. One- and two-dimensional
fields have leading axes of one point, so that only readers deal with the number of
dimensions. X is x; in a vertical section z lies along Y.
"""

from matey.fields.ensemble import Ensemble
from matey.fields.field import Field, Window
from matey.fields.grid import Grid, Points, join_points, locate_points, stack_points
from matey.fields.inputs import Batch, Inputs, dense, stack, stack_fields
from matey.fields.labels import Labels
from matey.fields.system import PERIODIC_SIDES, Boundary, Sides, SystemSpec, Variable

__all__ = [
    "PERIODIC_SIDES",
    "Batch",
    "Boundary",
    "Ensemble",
    "Field",
    "Grid",
    "Inputs",
    "Labels",
    "Points",
    "Sides",
    "SystemSpec",
    "Variable",
    "Window",
    "dense",
    "join_points",
    "locate_points",
    "stack",
    "stack_fields",
    "stack_points",
]
