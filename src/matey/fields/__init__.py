"""The domain types: a field of physics, its grid and its system.

Axes: B batch, T times, C variables, (Z, Y, X) grid points. One- and two-dimensional
fields have leading axes of one point, so that only readers deal with the number of
dimensions. X is x; in a vertical section z lies along Y.
"""

from matey.fields.crop import (
    CUT,
    Crop,
    away_from_cuts,
    join_crops,
    place_box,
    stack_crops,
)
from matey.fields.ensemble import Ensemble
from matey.fields.field import Field
from matey.fields.grid import Grid, Points, join_points, locate_points, stack_points
from matey.fields.inputs import Batch, Inputs, dense, stack, stack_fields
from matey.fields.labels import Labels
from matey.fields.system import PERIODIC_SIDES, Boundary, Sides, SystemSpec, Variable

__all__ = [
    "CUT",
    "PERIODIC_SIDES",
    "Batch",
    "Boundary",
    "Crop",
    "Ensemble",
    "Field",
    "Grid",
    "Inputs",
    "Labels",
    "Points",
    "Sides",
    "SystemSpec",
    "Variable",
    "away_from_cuts",
    "dense",
    "join_crops",
    "join_points",
    "locate_points",
    "place_box",
    "stack",
    "stack_crops",
    "stack_fields",
    "stack_points",
]
