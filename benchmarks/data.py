"""Windows read per second: matey beside the library that reads the same chunks.

    python benchmarks/data.py --data DATA --out benchmarks/data.json

DATA is a folder with PDEBench, miniWeather and Well files in `pdebench/*`, `miniweather/*`
and `the_well/*`. A window is four frames and a target of one trajectory, at random; matey
reads batches of eight of them, checks that every value is finite, and brings them to
[B T C Z Y X] in float32. The library (h5py, or netCDF4 for miniWeather) reads the same frames
of the same datasets, keeps its files and datasets open, and does nothing else; under
`in order` h5py also brings them to [B T C Y X]. Each file is read as published, and after
`matey data convert`. Of the small files that HDF5 keeps in its cache of chunks (1 MiB for
each dataset) it decompresses nothing twice. One process, one thread, files in the
operating system's memory; the best of several runs in turn.
"""

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
from rich.console import Console
from rich.table import Table

import matey
from matey.config import WindowConfig
from matey.data.convert import convert
from matey.data.reader import Fields
from matey.data.windows import Choice, Windows

HISTORY, BATCH = 4, 8
VERSIONS = ("h5py", "netCDF4", "numpy", "torch")


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

    def read_in_order(self, places: Sequence[tuple[int, int]], ndim: int) -> np.ndarray:
        """Windows of the Well as one array: x last, components among the variables."""
        batch = []
        for trajectory, start in places:
            variables = []
            for array, plain in zip(
                self.read(trajectory, slice(start, start + HISTORY + 1)),
                self.trajectories[trajectory],
                strict=True,
            ):
                frames = array if plain.varies else np.stack([array] * (HISTORY + 1))
                order = frames.ndim - 1 - ndim
                components = range(ndim + 1, ndim + 1 + order)
                moved = frames.transpose(0, *components, *range(ndim, 0, -1))
                variables.append(moved.reshape(HISTORY + 1, -1, *moved.shape[1 + order :]))
            batch.append(np.concatenate(variables, axis=1))
        return np.stack(batch)

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

    def in_order(batch: Sequence[int]) -> object:
        return library.read_in_order([windows.place(i) for i in batch], fields.spec.ndim)

    readers: dict[str, Callable[[Sequence[int]], object]] = {"matey": ours, "library": theirs}
    if fields.readers[0].layout == "the_well":
        readers["in_order"] = in_order
    best = dict.fromkeys(readers, 0.0)
    for _ in range(runs):
        for name, read in readers.items():
            read(batches[0])
            best[name] = max(best[name], rate(read, batches, seconds))
    library.close()
    return {**best, "ratio": best["matey"] / best["library"]}


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


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("MATEY_SHARED_DATA"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/data.json"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5)
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the folder of files with --data or MATEY_SHARED_DATA")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for kind, system, folder in sources(options.data):
            new = Path(scratch) / folder.name
            convert([folder], new, seconds=0.1)
            fields = matey.open(folder)
            row = {
                "format": kind,
                "system": system,
                "grid": list(fields.trajectories[0].grid.shape),
            }
            row["source"] = measure(fields, options.runs, options.seconds)
            row["converted"] = measure(matey.open(new), options.runs, options.seconds)
            rows.append(row)
    table = Table(title=f"windows per second, {HISTORY} frames and a target")
    for heading in ("format", "system", "grid", "matey", "library", "ratio"):
        table.add_column(heading, justify="left" if heading in ("format", "system") else "right")
    for heading in ("converted: matey", "h5py", "ratio", "in order", "gain"):
        table.add_column(heading, justify="right")
    for row in rows:
        before, after = row["source"], row["converted"]
        table.add_row(
            row["format"],
            row["system"],
            "x".join(str(points) for points in row["grid"] if points > 1),
            *(f"{before[name]:.0f}" for name in ("matey", "library")),
            f"{before['ratio']:.0%}",
            *(f"{after[name]:.0f}" for name in ("matey", "library")),
            f"{after['ratio']:.0%}",
            f"{after['in_order']:.0f}",
            f"x {after['matey'] / before['matey']:.2f}",
        )
    Console(width=120).print(table)
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
        },
        "versions": {
            "matey": matey.__version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in VERSIONS},
        },
        "history": HISTORY,
        "batch": BATCH,
        "windows_per_second": rows,
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
