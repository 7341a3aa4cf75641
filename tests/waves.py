"""A wave that moves to the right, and files of it, for tests of how files are joined."""

import numpy as np
import xarray

NY, NX, STEPS = 6, 8, 12
Y, X = (np.arange(NY) + 0.5) / NY, (np.arange(NX) + 0.5) / NX
TIMES = 0.1 * np.arange(STEPS)


def wave(run=0, frames=STEPS):
    """[t, y, x]; no two frames or runs are alike."""
    t = 0.1 * np.arange(frames)[:, None, None]
    return (np.sin(2 * np.pi * (X - 0.3 * t + 0.1 * run)) * Y[:, None] + run).astype("f4")


def written(path, dataset, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.to_netcdf(path, **options)


def stretch(path, first, last, run=0, shift=0.0, name="u", x=X):
    """Frames first to last of a run of 40."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = wave(run, 40)[first:last] + np.float32(shift)
    coords = {"time": 0.1 * np.arange(first, last), "y": Y, "x": x}
    written(path, xarray.Dataset({name: (("time", "y", "x"), values)}, coords))
