"""Reads files of lid-driven cavity flow of a conducting fluid in a magnetic field.

One trajectory per file, [t, z, x, 4]: velocity along x and z, induced magnetic field along x and
z, dimensionless, on [-0.5, 0.5]² between solid walls, points on the walls included. z lies along
Y and points up: the moving lid is the last row. The files hold no times; `matey simulate
mhd_cavity`, which solves the same equations, agrees where frames are 0.4 apart. The name gives the
parameters: `numpy_Bx_X.XX_Re_YYY.npy`, where Re is the magnetic Reynolds number; the Reynolds
number is 200.
"""

import re

import numpy as np
import torch

from matey.config import SourceConfig
from matey.data.formats.container import Container
from matey.data.formats.files import shown
from matey.data.layouts import base
from matey.data.layouts.base import Contents, Stored
from matey.errors import ShapeError
from matey.fields import Boundary, Variable

REYNOLDS = 200.0
STEP = 0.4  # between frames, in widths of the lid over its speed
NAME = re.compile(r"Bx_(\d+\.?\d*)_Re_(\d+\.?\d*)\.npy\Z")
VARIABLES = (
    Variable("velocity_x", axes=("x",), alias="velocity_x"),
    Variable("velocity_y", axes=("y",), alias="velocity_z"),
    Variable("magnetic_x", axes=("x",), alias="magnetic_x"),
    Variable("magnetic_y", axes=("y",), alias="magnetic_z"),
)


class Cavity:
    """A run of the cavity, which is one trajectory."""

    name = "mhd_cavity"
    formats = ("npy",)
    expected = "lid-driven cavity: [t, z, x, 4] in a file named ...Bx_X.XX_Re_YYY.npy"

    def describe(self, file: Container, options: SourceConfig | None) -> Contents | None:
        shape, written = file.array("data").shape, NAME.search(file.path.name)
        if not written:
            return None
        if len(shape) != 4 or shape[-1] != len(VARIABLES):
            raise ShapeError(
                f"{shown(file.path)} has shape {shape}, expected [t, z, x, 4]: velocity and "
                "induced magnetic field along x and z. Are the axes swapped?"
            )
        steps, nz, nx, _ = shape
        points = [np.linspace(-0.5, 0.5, n) for n in (nz, nx)]
        grid = base.make_grid(("z", "x"), points, (nz, nx), shown(file.path))
        values = {"Re": REYNOLDS, "Rem": float(written[2]), "Bx": float(written[1])}
        times = STEP * torch.arange(steps, dtype=torch.float64)
        sides = base.sides_of([(Boundary.WALL, Boundary.WALL)] * 2)
        trajectories = base.alike(file.path, [times], grid, sides, values)
        arrays = (Stored("data", "tyxc", VARIABLES),)
        return base.make_contents(file, "mhd_cavity", arrays, trajectories, options)
