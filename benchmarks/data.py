"""Windows read per second: matey beside the library that reads the same frames, on one core.

    python benchmarks/data.py --data DATA

DATA is a folder with PDEBench, miniWeather and Well files in `pdebench/*`, `miniweather/*`
and `the_well/*`; beside them stand files of noise on common grids, as `matey simulate` writes
them. A window is four frames and a target of one trajectory, at random; matey reads batches of
eight of them, checks that every value is finite, and brings them to [B T C Z Y X] in float32.
The library (h5py, or netCDF4 for miniWeather) reads the same frames of the same datasets, keeps
its files and datasets open, and does nothing else. Each file is read as published, and after
`matey data convert`, uncompressed. Of the small files that HDF5 keeps in its cache of chunks
(1 MiB for each dataset) it decompresses nothing twice. One process, one thread, files in the
operating system's memory; the best of several runs in turn. Beside it: how many windows the
Ti model of `examples/pretrain-ti.yaml` takes in training on the same core. The aim is 0.4 of
h5py's rate on the converted file.
"""

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
import torch
from common import Peak, interleaved, options, report, rough_inputs, sized, spec_of

import matey
from matey.config import RefineConfig, WindowConfig
from matey.data.convert import convert
from matey.data.trajectories import Fields
from matey.data.windows import Choice, Windows
from matey.data.write import write_well
from matey.fields import PERIODIC_SIDES, Field, Grid, SystemSpec, Variable
from matey.nn.transformer import Matey
from matey.train.loss import squared_nrmse

HISTORY, BATCH = 4, 8


@dataclass(frozen=True)
class Plain:
    """A dataset, the index of one trajectory in it, and whether it varies in time."""

    dataset: Any
    index: tuple[int, ...]
    varies: bool


class Library:
    """The datasets of one system's files, open, and a plain read of a window's frames."""

    def __init__(self, fields: Fields) -> None:
        self.files: list[Any] = []
        self.trajectories: list[list[Plain]] = []
        for reader in fields.readers:
            netcdf = reader.path.suffix == ".nc"
            file = netCDF4.Dataset(reader.path) if netcdf else h5py.File(os.fsencode(reader.path))
            self.files.append(file)
            listed = netcdf_datasets if netcdf else hdf5_datasets
            self.trajectories += [listed(file, n) for n in range(len(reader.trajectories))]

    def read(self, trajectory: int, frames: slice) -> list[np.ndarray]:
        """The frames of every dataset as it is stored."""
        return [
            p.dataset[(*p.index, frames) if p.varies else p.index]
            for p in self.trajectories[trajectory]
        ]

    def close(self) -> None:
        """Close all files."""
        for file in self.files:
            file.close()


def netcdf_datasets(file: Any, _: int) -> list[Plain]:
    """miniWeather: one trajectory."""
    return [Plain(file.variables[name], (), True) for name in ("dens", "uwnd", "wwnd", "theta")]


def hdf5_datasets(file: h5py.File, n: int) -> list[Plain]:
    """The Well and PDEBench: what trajectory `n` consists of."""
    if "dimensions" in file:
        datasets = [d for order in range(3) for d in file[f"t{order}_fields"].values()]
        return [
            Plain(d, (n,) if d.attrs["sample_varying"] else (), bool(d.attrs["time_varying"]))
            for d in datasets
        ]
    groups = sorted(name for name in file if name.isdigit())
    if groups:
        return [Plain(file[groups[n]]["data"], (), True)]
    flow = ("velocity", "particles", "force", "density", "pressure", "Vx", "Vy", "Vz")
    return [Plain(file[name], (n,), name != "force") for name in flow if name in file]


def choose(windows: Windows) -> list[list[int]]:
    """All windows once, in random batches, the same for all who read."""
    order = np.random.default_rng(0).permutation(len(windows)).tolist()
    return [order[first : first + BATCH] for first in range(0, len(order), BATCH)]


def rate(
    read: Callable[[Sequence[int]], object], batches: list[list[int]], seconds: float
) -> float:
    """Windows per second of one run over the batches, again from the start where they end."""
    began, done = time.perf_counter(), 0
    for batch in itertools.cycle(batches):
        read(batch)
        done += len(batch)
        elapsed = time.perf_counter() - began
        if elapsed > seconds:
            return done / elapsed
    raise AssertionError("no windows")


def measure(fields: Fields, runs: int, seconds: float) -> dict[str, float]:
    """Windows per second of matey and of the library, on the same files."""
    windows = Windows(fields, range(len(fields)), WindowConfig(history=HISTORY))
    batches, library = choose(windows), Library(fields)

    def ours(batch: Sequence[int]) -> object:
        return windows.batch([Choice(i) for i in batch])

    def theirs(batch: Sequence[int]) -> object:
        places = [windows.place(i) for i in batch]
        return [library.read(t, slice(start, start + HISTORY + 1)) for t, start in places]

    readers: dict[str, Callable[[Sequence[int]], object]] = {"matey": ours, "library": theirs}
    best = dict.fromkeys(readers, 0.0)
    for _ in range(runs):
        for name, read in readers.items():
            read(batches[0])
            best[name] = max(best[name], rate(read, batches, seconds))
    library.close()
    return best


def sources(data: Path) -> list[tuple[str, str, Path]]:
    """Format, system and folder of what is there to read in two dimensions or three."""
    found = []
    for kind in ("pdebench", "miniweather", "the_well"):
        for folder in sorted((data / kind).iterdir()):
            try:
                fields = matey.open(folder)
            except matey.errors.MateyError:
                continue  # layouts that are not read, or several in one folder
            if max(len(t.times) for t in fields.trajectories) > HISTORY:
                found.append((kind, fields.spec.name, folder))
    return found


def noise(folder: Path, points: int, ndim: int, trajectories: int) -> Path:
    """A file of a flow's size: density, pressure, velocity, 21 frames of noise."""
    names = [Variable("density"), Variable("pressure")]
    names += [Variable(f"velocity_{a}", axes=(a,)) for a in "xyz"[:ndim]]
    spec = SystemSpec("noise", ndim, tuple(names))
    z, y, x = [1] * (3 - ndim) + [points] * ndim
    grid = Grid(("z", "y", "x")[3 - ndim :], (z, y, x), (0.0,) * 3, (1.0,) * 3)
    times = torch.arange(21, dtype=torch.float64)
    sides = (PERIODIC_SIDES, PERIODIC_SIDES, PERIODIC_SIDES)
    made = [
        Field(torch.randn(21, len(names), z, y, x), times, grid, sides, {}, spec)
        for _ in range(trajectories)
    ]
    return write_well(made, folder, name="noise")


def consumption(repeats: int) -> float:
    """Windows of 128², 4 frames and 4 variables that training Ti takes per second, in batches
    of 4; the optimizer's step is not counted."""
    spec = spec_of(4)
    inputs = rough_inputs(spec, HISTORY, 128, 32, [4] * 4)
    refine = RefineConfig(threshold=0.2)
    config = sized("Ti", scheme="svit", mode="adap_mix", patches=(32, 16), refine=refine)
    model, target = Matey(config, [spec], HISTORY).train(), torch.randn(4, 4, 1, 128, 128)

    def step() -> None:
        squared_nrmse(model(inputs).normalised, target).mean().backward()
        model.zero_grad()

    return 4 / interleaved(step, 0, Peak("cpu"), repeats)["seconds"]


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = options(__doc__.splitlines()[0], "benchmarks/results/data.json")
    parser.set_defaults(repeats=5, threads=1)
    parser.add_argument("--data", type=Path, default=os.environ.get("MATEY_SHARED_DATA"))
    parser.add_argument("--seconds", type=float, default=0.3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = sources(args.data) if args.data else []
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for points, ndim, trajectories in ((64, 2, 32), (128, 2, 16), (32, 3, 8), (64, 3, 2)):
            path = noise(Path(scratch) / f"noise{points}{ndim}", points, ndim, trajectories)
            found.append(("noise", f"{ndim}D flow", path))
        for kind, system, path in found:
            new = Path(scratch) / f"new{len(rows)}"
            convert([path], new, seconds=0.1)
            fields = matey.open(path)
            before = measure(fields, args.repeats, args.seconds)
            after = measure(matey.open(new), args.repeats, args.seconds)
            points = fields.trajectories[0].grid.shape
            rows.append(
                {
                    "format": kind,
                    "system": system,
                    "grid": " x ".join(str(n) for n in points if n > 1),
                    "matey": before["matey"],
                    "library": before["library"],
                    "converted: matey": after["matey"],
                    "converted: h5py": after["library"],
                    "matey / h5py": after["matey"] / after["library"],
                    "gain": after["matey"] / before["matey"],
                }
            )
    versions = {"h5py": h5py.__version__, "netCDF4": netCDF4.__version__, "numpy": np.__version__}
    taken = consumption(args.repeats)
    print(f"Ti takes {taken:.3g} windows per second in training (128², B = 4)\n")
    report(rows, args.out, "cpu", versions=versions, ti_windows_per_second=taken)


if __name__ == "__main__":
    main()
