"""The published `the_well` package opens what we write and returns the same numbers.

It asks for an old fsspec, so that it lives in an environment of its own, whose Python
MATEY_WELL_PYTHON names: `pip install the_well matplotlib` there is enough.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

import matey
from matey.cli import main
from matey.fields import Boundary
from tests.files import write_compressible, write_shallow_water

SCRIPT = """
import sys
import numpy as np
from the_well.data import WellDataset

dataset = WellDataset(path=sys.argv[1], n_steps_input=2, n_steps_output=1)
names = dataset.metadata.field_names
found = {"names": [name for order in range(3) for name in names[order]]}
constant = dataset.metadata.constant_field_names
found["constant_names"] = [name for order in range(3) for name in constant[order]]
found["scalar_names"] = dataset.metadata.constant_scalar_names
found["length"] = len(dataset)
for index in (0, len(dataset) - 1):
    for key, value in dataset[index].items():
        found[f"{index}/{key}"] = value.numpy()
np.savez(sys.argv[2], **found)
"""
# The package's own codes.
CODES = {Boundary.WALL: 0, Boundary.OPEN: 1, Boundary.PERIODIC: 2}


@pytest.fixture
def published(well_python):
    def read(folder, result):
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        command = [well_python, "-W", "ignore", "-c", SCRIPT, str(folder), str(result)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return np.load(result, allow_pickle=False)

    return read


def check(found, fields):
    """First and last window, every variable, as (time, x, y[, z])."""
    ndim, frames = fields.spec.ndim, len(fields.trajectories[0].times)
    assert int(found["length"]) == len(fields) * (frames - 2)
    order = {variable.name: i for i, variable in enumerate(fields.spec.variables)}
    spatial = [*reversed(fields.trajectories[0].grid.axes)]

    def ours(name):
        """Our variable of the package's name: a vector's components end in the file's axes."""
        stem, _, ending = name.rpartition("_")
        if not stem or not set(ending) <= set(spatial):
            return order[name]
        return order[f"{stem}_{''.join('xyz'[spatial.index(letter)] for letter in ending)}"]

    for index, trajectory, start in ((0, 0, 0), (int(found["length"]) - 1, -1, frames - 3)):
        field = fields[trajectory]
        values = field.values.reshape(frames, len(order), *field.grid.shape[3 - ndim :])
        values = values.permute(0, *range(ndim + 1, 1, -1), 1).numpy()
        chosen = [ours(str(name)) for name in found["names"]]
        dynamic = values[start : start + 3][..., chosen]
        np.testing.assert_array_equal(found[f"{index}/input_fields"], dynamic[:2])
        np.testing.assert_array_equal(found[f"{index}/output_fields"], dynamic[2:])
        if len(found["constant_names"]):
            chosen = [ours(str(name)) for name in found["constant_names"]]
            np.testing.assert_array_equal(
                found[f"{index}/constant_fields"], values[start][..., chosen]
            )
        assert len(chosen) > 0
        parameters = [field.parameters[str(name)] for name in found["scalar_names"]]
        if parameters:
            np.testing.assert_array_equal(found[f"{index}/constant_scalars"], parameters)
        sides = [[CODES[side] for side in pair] for pair in reversed(field.boundaries[3 - ndim :])]
        np.testing.assert_array_equal(found[f"{index}/boundary_conditions"], sides)
        times = field.times.numpy()[start : start + 3]
        np.testing.assert_array_equal(found[f"{index}/input_time_grid"], times[:2] - times[0])
        points = [field.grid.coordinate(2 - axis).numpy() for axis in range(ndim)]
        mesh = np.stack(np.meshgrid(*points, indexing="ij"), axis=-1)
        np.testing.assert_array_equal(found[f"{index}/space_grid"], mesh)


@pytest.mark.slow
@pytest.mark.parametrize("system", ["shallow_water", "diffusion_reaction", "thermals"])
def test_it_reads_what_simulate_writes(tmp_path, published, system):
    arguments = ["--trajectories", "2", "--resolution", "16", "--steps", "5"]
    assert main(["simulate", system, "--out", str(tmp_path / "s"), *arguments]) == 0
    (file,) = (tmp_path / "s").rglob("*.hdf5")
    check(published(file.parent, tmp_path / "found.npz"), matey.open(tmp_path / "s"))


@pytest.mark.slow
@pytest.mark.parametrize("make", [write_shallow_water, write_compressible])
def test_it_reads_what_convert_writes(tmp_path, published, make):
    name = "2D_rdb.h5" if make is write_shallow_water else "2D_CFD_M0.1.hdf5"
    make(tmp_path / name, 3)
    assert main(["data", "convert", str(tmp_path / name), str(tmp_path / "new")]) == 0
    found = published(tmp_path / "new/data/all", tmp_path / "found.npz")
    check(found, matey.open(tmp_path / "new"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "folder",
    ["pdebench/swe", "pdebench/diffre2d", "pdebench/incompNS", "pdebench/compNS",
     "miniweather/thermals"],
)  # fmt: skip
def test_it_reads_real_files_converted(shared, tmp_path, published, folder):
    assert main(["data", "convert", str(shared / folder), str(tmp_path / "new")]) == 0
    found = published(tmp_path / "new/data/all", tmp_path / "found.npz")
    check(found, matey.open(Path(tmp_path / "new")))
    check(found, matey.open(shared / folder))


@pytest.mark.slow
def test_each_grid_of_a_converted_system_opens(tmp_path, published):
    """The package refuses a folder that holds grids of several shapes."""
    (tmp_path / "sources").mkdir()
    for name, points in (("a", 8), ("b", 12)):
        write_compressible(tmp_path / "sources" / f"2D_CFD_{name}.hdf5", points=points)
    assert main(["data", "convert", str(tmp_path / "sources"), str(tmp_path / "new")]) == 0
    for grid in ("8x8", "12x12"):
        folder = tmp_path / "new" / grid / "data" / "all"
        check(published(folder, tmp_path / f"{grid}.npz"), matey.open(folder))
