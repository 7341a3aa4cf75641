"""The same is read however a file is stored: mapped into memory, or by the library."""

from contextlib import closing
from dataclasses import replace

import h5py
import netCDF4
import numpy as np
import pytest
import torch

import matey
from matey.config import WindowConfig
from matey.data.formats import files
from matey.data.formats.container import open_container
from matey.data.formats.encoding import decoded
from matey.data.selection import every_nth
from matey.data.trajectories import Fields
from matey.data.windows import Choice, Windows
from matey.data.write import InMemory, copy_to_well
from matey.errors import DataError
from matey.fields import PERIODIC_SIDES, Field, Grid, SystemSpec, Variable

POINTS = {1: (1, 1, 6), 2: (1, 5, 6), 3: (4, 5, 6)}


def made(ndim, frames=9, count=3):
    """Trajectories of a scalar, a vector, and one of each that is static."""
    vector = tuple(Variable(f"velocity_{a}", axes=(a,)) for a in "xyz"[:ndim])
    force = tuple(Variable(f"force_{a}", axes=(a,), static=True) for a in "xyz"[:ndim])
    mask = Variable("mask", static=True)
    spec = SystemSpec("s", ndim, (*vector, Variable("density"), *force, mask))
    grid = Grid(("z", "y", "x")[3 - ndim :], POINTS[ndim], (0.0,) * 3, (1.0,) * 3)
    generator = torch.Generator().manual_seed(ndim)
    fields = []
    for _ in range(count):
        values = torch.randn(frames, len(spec.variables), *POINTS[ndim], generator=generator)
        values[:, ndim + 1 :] = values[0, ndim + 1 :]
        times = torch.arange(frames, dtype=torch.float64)
        fields.append(Field(values, times, grid, (PERIODIC_SIDES,) * 3, {}, spec))
    return fields


def written(folder, fields, compress=False):
    return copy_to_well(InMemory(fields), range(len(fields)), folder, name="a", compress=compress)


def array_of(reader, name):
    return files.handle(reader.path, files.stamp(reader.path), open_container).array(name)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_batches_are_equal_however_a_file_is_stored(tmp_path, ndim, stride):
    fields = made(ndim)
    stored = [matey.open(written(tmp_path / str(c), fields, c)) for c in (False, True)]
    config = WindowConfig(history=2, stride=stride)
    readers = [Windows(one, range(len(one)), config) for one in stored]
    last = len(readers[0]) - 1
    choices = [Choice(0), Choice(1), Choice(0), Choice(last), Choice(0, lead=2), Choice(2)]
    straight, library = (windows.batch(choices) for windows in readers)
    assert torch.equal(straight.values, library.values)
    assert torch.equal(straight.target, library.target)
    _, first = readers[0].place(0)
    assert torch.equal(straight.values[0], fields[0].values[first : first + 2 * stride : stride])
    assert isinstance(array_of(stored[0].readers[0], "t0_fields/density"), np.ndarray)
    assert isinstance(array_of(stored[1].readers[0], "t0_fields/density"), h5py.Dataset)


def test_a_batch_for_another_device_goes_there_as_it_lies_in_memory(tmp_path):
    fields = matey.open(written(tmp_path, made(2)))
    batch = Windows(fields, [0], WindowConfig(history=2)).batch([Choice(0), Choice(3)])
    moved = batch.to(torch.device("meta"))
    kept = batch.values.clone()
    assert moved.values.stride() == kept.stride()
    assert batch.to(torch.device("cpu")).values.data_ptr() == batch.values.data_ptr()


def test_values_whose_sum_overflows_are_read_and_infinite_ones_are_not(tmp_path):
    fields = made(2)
    for field in fields:
        field.values[:, 2] = 3e38
    path = written(tmp_path, fields)
    windows = Windows(matey.open(path), [0], WindowConfig(history=2))
    assert torch.equal(windows.batch([Choice(0)]).values[0], fields[0].values[:2])
    files.close_files()
    with h5py.File(path, "a") as file:
        file["t0_fields/density"][0, 1, 2] = [np.inf, -np.inf, 0, 0, 0]
    windows = Windows(matey.open(path), [0], WindowConfig(history=2))
    with pytest.raises(DataError, match=r"density of .*#0000 is inf at time 1, index \(0, 0, 2\)"):
        windows.batch([Choice(0)])


def test_every_nth_frame_makes_batches_too(tmp_path):
    fields = made(2)
    thinned = every_nth(matey.open(written(tmp_path, fields)), 3)
    batch = Windows(thinned, [1], WindowConfig(history=2)).batch([Choice(0)])
    assert torch.equal(batch.values[0], fields[1].values[0:6:3])
    assert torch.equal(batch.target[0], fields[1].values[6])


def test_files_of_other_axis_orders_share_a_batch(tmp_path):
    """One file has x slowest, the other fastest: memory has one order."""
    fields = made(2)
    paths = [written(tmp_path / name, fields) for name in "ab"]
    readers = [matey.open(path).readers[0] for path in paths]
    stored = readers[1].contents.arrays
    with h5py.File(paths[1], "a") as file:
        for array in stored:
            dataset = file[array.name]
            x, y = array.axes.index("x"), array.axes.index("y")
            values = dataset[...].swapaxes(x, y)
            del file[array.name]
            file.create_dataset(array.name, data=values)
    files.close_files()
    reader = readers[1]
    turned = [replace(a, axes=a.axes.replace("xy", "yx")) for a in stored]
    reader = type(reader)(paths[1], None, "any", replace(reader.contents, arrays=turned))
    assert (readers[0].x_first, reader.x_first) == (True, False)
    for order in ([readers[0], reader], [reader, readers[0]]):
        both = Fields(order)
        batch = Windows(both, range(6), WindowConfig(history=2)).batch([Choice(0), Choice(3 * 7)])
        for values in batch.values:
            assert torch.equal(values, fields[0].values[:2])


def test_a_user_block_before_the_file_is_counted(tmp_path):
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as file:
        file["a"] = values
    array = open_container(tmp_path / "a.h5").array("a")
    assert isinstance(array, np.ndarray)
    assert np.array_equal(array[1], values[1])


@pytest.mark.parametrize("kind", ["chunked", "float64", "big-endian", "integer", "unwritten"])
def test_what_is_stored_otherwise_is_left_to_the_library(tmp_path, kind):
    types = {"float64": "<f8", "big-endian": ">f4", "integer": "<i4"}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset(
            "a", (4, 4), types.get(kind, "<f4"), chunks=(2, 2) if kind == "chunked" else None
        )
        if kind != "unwritten":
            dataset[...] = 1
    assert isinstance(open_container(tmp_path / "a.h5").array("a"), h5py.Dataset)


PACKED = {"scale_factor": 0.01, "add_offset": 273.15}
NAN = np.nan


@pytest.mark.parametrize(
    ("stored", "attributes", "expected"),
    [
        (np.float32([-999, 1e20, 1]), {"missing_value": np.float32([-999, 1e20])}, [NAN, NAN, 1]),
        (np.float32([-999, 1e20, 1]), {"missing_value": "-999, 1e20"}, [NAN, NAN, 1]),
        (np.float32([-999, 1e20, 1]), {"missing_value": b"-999."}, [NAN, 1e20, 1]),
        (np.float32([np.inf, 1]), {"_FillValue": 1e300}, [np.inf, 1]),  # is not rounded to inf
        (np.int16([0, 1]), {"missing_value": 1e20}, [0, 1]),  # cast to int16 it would be 0
        (np.int16([0, 1]), {"missing_value": 0.5}, [0, 1]),
        (
            np.int64([-(2**63) + 2, -(2**63)]),
            {"_FillValue": np.int64(-(2**63) + 2)},
            [NAN, -(2.0**63)],
        ),
        (np.int8([-1, 1, -2]), {"_Unsigned": "true", "_FillValue": np.int8(-1)}, [NAN, 1, 254]),
        (
            np.int8([-1, 1, -2]),
            {"_Unsigned": "true", "valid_range": np.int8([0, -2])},
            [NAN, 1, 254],
        ),
        (  # valid as stored: of the type that is stored
            np.int16([-101, -100]),
            {**PACKED, "valid_min": np.int16(-100)},
            [NAN, 272.15],
        ),
        (  # valid as encoded: of the type of the scale; a bound that rounding misses is valid
            np.int16([-7316, -7315, 7685, 7686]),
            {**PACKED, "valid_min": 200.0, "valid_max": 350.0},
            [NAN, 200, 350, NAN],
        ),
        (
            np.int16([100, -100, -101]),
            {"scale_factor": -0.01, "valid_range": np.array([-1.0, 1.0])},
            [-1, 1, NAN],
        ),
    ],
)
def test_what_is_missing_or_not_valid_is_nan(stored, attributes, expected):
    values = decoded(stored, attributes, "u")[:]
    np.testing.assert_allclose(values, np.float64(expected).astype(values.dtype), rtol=1e-12)


def test_a_mark_of_missing_values_that_is_no_number_is_said(caplog):
    stored = np.float32([1, 2])
    assert decoded(stored, {"missing_value": "none"}, "a.nc: u") is stored
    assert "a.nc: u: its missing_value is no number, and left out of account: 'none'" in caplog.text


@pytest.mark.parametrize("format", ["NETCDF4", "NETCDF3_CLASSIC"])
def test_every_netcdf_is_decoded_alike(tmp_path, format):
    with netCDF4.Dataset(tmp_path / "a.nc", "w", format=format) as file:
        file.createDimension("x", 4)
        packed = file.createVariable("u", "i2", ("x",))
        packed.set_auto_maskandscale(False)
        packed[:3] = [-7316, 0, -999]  # the last is never written
        packed.setncatts({**PACKED, "valid_min": 200.0, "missing_value": [-999.0, 1e20]})
        marked = file.createVariable("v", "f4", ("x",))
        marked[:3] = [-1, 5, 2]
        marked.missing_value = "-1"
    with closing(open_container(tmp_path / "a.nc")) as file:
        np.testing.assert_allclose(file.array("u")[:], [NAN, 273.15, NAN, NAN])
        np.testing.assert_allclose(file.array("v")[:], [NAN, 5, 2, NAN])


def test_the_last_trajectory_and_bad_values_are_told_apart(tmp_path):
    fields = made(2)
    path = written(tmp_path, fields)
    assert torch.equal(matey.open(path).readers[0].read(-1).values, fields[-1].values)
    files.close_files()
    with h5py.File(path, "a") as file:
        file["t1_fields/velocity"][2, 4, 3, 1, 1] = np.nan
    windows = Windows(matey.open(path), [2], WindowConfig(history=2))
    windows.batch([Choice(0)])
    message = r"a\.hdf5: velocity_y of .*#0002 is nan at time 4, index \(0, 1, 3\)"
    for start in (2, 3):
        with pytest.raises(DataError, match=message):
            windows.batch([Choice(0), Choice(start)])
