"""Small data files in PDEBench's layouts, for tests of what reads them."""

from pathlib import Path

import h5py
import numpy as np


def write_shallow_water(
    path: Path, trajectories: int = 6, frames: int = 8, points: int = 16
) -> Path:
    """A hump that travels to the right and spreads: smooth, moving, different each time."""
    path.parent.mkdir(exist_ok=True)
    x = (np.arange(points) + 0.5) / points * 5 - 2.5
    with h5py.File(path, "w") as file:
        for i in range(trajectories):
            group = file.create_group(f"{i:04d}")
            group.attrs["config"] = f"name: 2d_rdb\nsim:\n  gravity: 1.0\n  seed: {i}\n"
            t = np.arange(frames) * 0.1
            centre = -1.0 + 0.3 * i + t[:, None, None]
            height = 1 + np.exp(-((x[:, None] - centre) ** 2 + x**2) * (1 + 0.1 * i))
            group["data"] = height[..., None].astype(np.float32)  # t, x, y, c
            group["grid/x"], group["grid/y"] = x.astype("f4"), x.astype("f4")
            group["grid/t"] = t.astype("f4")
    return path


def write_pair(folder: Path) -> tuple[Path, Path]:
    """Shallow water and compressible flow, under names as PDEBench has them."""
    gas = folder / "2D_CFD_Rand_M0.1_Eta0.01_Zeta0.01_periodic_16_Train.hdf5"
    return write_shallow_water(folder / "2D_rdb_NA_NA.h5"), write_compressible(gas)


def write_compressible(
    path: Path, trajectories: int = 4, frames: int = 8, points: int = 16
) -> Path:
    """Sound-like waves of density, pressure and velocity, in the layout of 2D CFD files."""
    x = (np.arange(points) + 0.5) / points
    phase = np.random.default_rng(0).random((trajectories, 1, 1, 1)) * 6
    t = np.arange(frames + 1) * 0.05
    wave = np.sin(2 * np.pi * (x[:, None] + 2 * x - t[:frames, None, None]) + phase)
    with h5py.File(path, "w") as file:
        file.attrs.update(eta=0.01, zeta=0.01, M=0.1)
        names = {"density": (1, 0.1), "pressure": (2, 0.2), "Vx": (0, 1), "Vy": (0, 0.5)}
        for name, (mean, size) in names.items():
            file[name] = (mean + size * wave).astype("f4")
        file["x-coordinate"] = file["y-coordinate"] = x.astype("f4")
        file["t-coordinate"] = t.astype("f4")
    return path
