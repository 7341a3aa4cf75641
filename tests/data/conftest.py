"""Tiny files in the published layouts, to be damaged by tests."""

from pathlib import Path

import h5py
import numpy as np
import pytest

CONFIG = "sim:\n  gravity: 1.0\n  dam_radius: 0.5\n  seed: 3\n  x_left: 0.0\n  x_right: 2.0\n"


def compressible(path: Path, frames: int = 6, nx: int = 4, ny: int = 3, samples: int = 2) -> Path:
    """PDEBench's compressible layout [n, t, x, y]; each value tells its own place."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"eta": 0.01, "zeta": 0.02, "M": 0.1})
        place = np.arange(samples * frames * nx * ny, dtype=np.float32)
        place = place.reshape(samples, frames, nx, ny)
        for i, name in enumerate(("density", "pressure", "Vx", "Vy")):
            file.create_dataset(name, data=place + 1000 * i, chunks=(1, 1, nx, ny))
        file["x-coordinate"] = (np.arange(nx, dtype=np.float32) + 0.5) / nx
        file["y-coordinate"] = (np.arange(ny, dtype=np.float32) + 0.5) / ny
        file["t-coordinate"] = np.arange(frames + 1, dtype=np.float32) * np.float32(0.05)
    return path


def shallow(path: Path, frames: int = 6, nx: int = 4, ny: int = 3, config: str = CONFIG) -> Path:
    """PDEBench's group layout [t, x, y, c] of one variable."""
    with h5py.File(path, "w") as file:
        for key in ("0000", "0001"):
            group = file.create_group(key)
            group.attrs["config"] = config
            data = np.random.default_rng(int(key)).random((frames, nx, ny, 1))
            group["data"] = data.astype(np.float32)
            group["grid/x"] = (np.arange(nx, dtype=np.float32) + 0.5) * 2 / nx
            group["grid/y"] = (np.arange(ny, dtype=np.float32) + 0.5) / ny
            group["grid/t"] = np.arange(frames, dtype=np.float32) * np.float32(0.1)
    return path


@pytest.fixture
def make_compressible():
    return compressible


@pytest.fixture
def make_shallow():
    return shallow
