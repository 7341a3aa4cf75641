"""Damaged, hostile and unusual files: refused by name, or converted as promised."""

from contextlib import closing

import h5py
import netCDF4
import numpy as np
import pytest

from matey.data.formats import files
from matey.data.formats.container import open_container
from matey.data.reader import open_reader
from matey.errors import DataError, MateyError, ShapeError, StoppedError


def change(path, name, values, **options):
    """Replace one dataset of an HDF5 file."""
    with h5py.File(path, "a") as file:
        del file[name]
        file.create_dataset(name, data=values, **options)
    return path


def test_a_truncated_file_is_named_with_both_sizes(tmp_path, make_compressible):
    path = make_compressible(tmp_path / "a.hdf5")
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size - 100])
    with pytest.raises(DataError, match=rf"a\.hdf5 is cut short: {size - 100} bytes, .* {size}"):
        open_reader(path)


def test_what_is_not_hdf5_is_said_to_be_neither(tmp_path):
    (tmp_path / "a.h5").write_text("<html>404</html>")
    with pytest.raises(
        DataError, match="neither HDF5, NetCDF nor NumPy: it starts with b'<html>40'"
    ):
        open_reader(tmp_path / "a.h5")


def test_an_unknown_layout_lists_what_was_looked_for(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["something"] = np.zeros(3)
    with pytest.raises(DataError, match=r"Looked for the Well.*PDEBench.*miniWeather"):
        open_reader(tmp_path / "a.h5")


def test_a_corrupt_chunk_names_file_and_dataset(tmp_path, make_compressible):
    path = make_compressible(tmp_path / "a.hdf5", nx=32, ny=32)
    noise = np.random.default_rng(0).random((2, 6, 32, 32), dtype=np.float32)
    change(path, "pressure", noise, chunks=(1, 1, 32, 32), compression="gzip", fletcher32=True)
    with h5py.File(path) as file:
        place = file["pressure"].id.get_chunk_info(3)
    content = bytearray(path.read_bytes())
    content[place.byte_offset + 100 : place.byte_offset + 200] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.hdf5: dataset pressure cannot be read"):
        open_reader(path).read(0)


def test_a_missing_variable_lists_required_and_found(tmp_path, make_compressible):
    path = make_compressible(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        del file["pressure"]
    with pytest.raises(DataError, match=r"pressure missing. Required: density, .*found: Vx, Vy"):
        open_reader(path)


def test_an_extra_variable_is_ignored_with_a_notice(tmp_path, make_compressible, caplog):
    path = make_compressible(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file["entropy"] = np.zeros(3)
    assert len(open_reader(path).spec.variables) == 4
    assert "entropy ignored" in caplog.text


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named_with_its_place(tmp_path, make_compressible, bad):
    path = make_compressible(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file["Vx"][1, 3, 2, 1] = bad
    reader = open_reader(path)
    reader.read(0)
    reader.read(1, slice(0, 3))
    with pytest.raises(DataError, match=r"Vx .*#0001 is .* at time 0.15, index \(0, 1, 2\)"):
        reader.read(1)


@pytest.mark.parametrize("dtype", [">f4", ">f8", "<f8", "<f2", "<i4", ">i2", "u1"])
def test_real_numbers_of_any_type_become_float32(tmp_path, make_compressible, dtype):
    path = make_compressible(tmp_path / "a.hdf5")
    values = (np.arange(2 * 6 * 4 * 3).reshape(2, 6, 4, 3) % 200).astype(dtype)
    field = open_reader(change(path, "density", values)).read(0)
    np.testing.assert_array_equal(field.values[:, 0, 0].numpy(), values[0].swapaxes(1, 2))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((2, 6, 4, 3), 1j), "density holds complex128"),
        (np.full((2, 6, 4, 3), 1e39), "not finite in float32"),
        (np.full((2, 6, 4, 3), b"no"), "expected real numbers"),
    ],
)
def test_complex_overflowing_and_text_values_are_refused(
    tmp_path, make_compressible, values, message
):
    path = change(make_compressible(tmp_path / "a.hdf5"), "density", values)
    with pytest.raises(DataError, match=message):
        open_reader(path).read(0)


def test_swapped_axes_are_refused(tmp_path, make_compressible, make_shallow):
    path = make_compressible(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        for name in ("density", "pressure", "Vx", "Vy"):
            values = file[name][()].swapaxes(2, 3)
            del file[name]
            file[name] = values
    with pytest.raises(ShapeError, match=r"axis y has 4 points.*axes swapped"):
        open_reader(path)
    path = make_shallow(tmp_path / "b.h5")
    with h5py.File(path, "a") as file:
        values = file["0001/data"][()].swapaxes(1, 2)
        del file["0001/data"]
        file["0001/data"] = values
    with pytest.raises(ShapeError, match=r"0001/data \[t, x, y, c\] of shape \(6, 3, 4, 1\)"):
        open_reader(path)


def test_swapped_coordinates_of_a_square_grid_are_refused(tmp_path, make_shallow):
    """Domain [0, 2] x [0, 1] by the config, coordinates the other way round."""
    path = make_shallow(tmp_path / "a.h5", nx=8, ny=8)
    with h5py.File(path, "a") as file:
        x, y = file["0000/grid/x"][()], file["0000/grid/y"][()]
        file["0000/grid/x"][...], file["0000/grid/y"][...] = y, x
    with pytest.raises(ShapeError, match=r"coordinate x runs .* x_right 2"):
        open_reader(path)


def test_one_array_of_another_shape_is_named(tmp_path, make_compressible):
    path = make_compressible(tmp_path / "a.hdf5")
    with pytest.raises(ShapeError, match=r"Vy .*shape \(2, 5, 4, 3\)"):
        open_reader(change(path, "Vy", np.zeros((2, 5, 4, 3))))


def test_a_huge_coordinate_or_count_is_refused(tmp_path, make_compressible):
    path = make_compressible(tmp_path / "a.hdf5")
    change(path, "t-coordinate", None, shape=(10**12,), dtype="f4", chunks=(1024,))
    with pytest.raises(DataError, match="t-coordinate declares"):
        open_reader(path)
    path = make_compressible(tmp_path / "b.hdf5")
    for name in ("density", "pressure", "Vx", "Vy"):
        change(path, name, None, shape=(10**12, 6, 4, 3), dtype="f4", chunks=(1, 1, 4, 3))
    with pytest.raises(DataError, match="declares 1000000000000 trajectories"):
        open_reader(path)


@pytest.mark.parametrize("how", ["link", "virtual", "raw", "group"])
def test_data_outside_the_file_is_refused(tmp_path, make_compressible, make_shallow, how):
    secret = make_compressible(tmp_path / "secret.hdf5")
    path = make_compressible(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        del file["Vx"]
        if how == "link":
            file["Vx"] = h5py.ExternalLink(str(secret), "Vx")
        if how == "virtual":
            view = h5py.VirtualLayout((2, 6, 4, 3), "f4")
            view[:] = h5py.VirtualSource(str(secret), "Vx", (2, 6, 4, 3))
            file.create_virtual_dataset("Vx", view)
        if how == "raw":
            outside = [(str(secret), 0, 4 * 2 * 6 * 4 * 3)]
            file.create_dataset("Vx", (2, 6, 4, 3), "f4", external=outside)
    if how == "group":
        path = make_shallow(tmp_path / "b.h5")
        with h5py.File(path, "a") as file:
            file["0002"] = h5py.ExternalLink(str(make_shallow(tmp_path / "c.h5")), "0000")
    with pytest.raises(DataError, match="refused: data must lie in the file itself"):
        open_reader(path)


def test_a_link_within_the_file_is_left_out_and_said(tmp_path, make_compressible, caplog):
    path = make_compressible(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file["latest"] = h5py.SoftLink("/pressure")
        file["later/lost"] = h5py.SoftLink("/nowhere")
    names = [variable.name for variable in open_reader(path).spec.variables]
    assert names == ["density", "pressure", "velocity_x", "velocity_y"]
    assert "latest is a link to '/pressure' in the same file, and left out" in caplog.text


def test_a_variable_of_netcdf_may_be_called_like_a_dimension(tmp_path):
    """The library stores such a one under another name, or as the scale of that dimension."""
    y, x = np.meshgrid(2.0 * np.arange(4), np.arange(5.0), indexing="ij")
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as file:
        for name, size in (("time", 3), ("y", 4), ("x", 5)):
            file.createDimension(name, size)
        for name, values in (("x", x), ("y", y)):
            file.createVariable(name, "f8", ("y", "x"))[:] = values
        file.createVariable("u", "f4", ("time", "y", "x"))[:] = 1
    with closing(open_container(tmp_path / "a.nc")) as file:
        assert sorted(file.names()) == ["u", "x", "y"]
        assert {name: file.dims(name) for name in "xy"} == dict.fromkeys("xy", ("y", "x"))
        np.testing.assert_array_equal(file.array("x")[:], x)
        np.testing.assert_array_equal(file.array("y")[:], y)
    assert len(open_reader(tmp_path / "a.nc").trajectories[0].times) == 3


def test_a_netcdf_file_with_a_link_is_refused_before_the_library_follows_it(tmp_path):
    path = tmp_path / "a.nc"
    with netCDF4.Dataset(path, "w") as file:
        for name, size in (("t", 3), ("z", 4), ("x", 5)):
            file.createDimension(name, size)
        for name in ("dens", "uwnd", "wwnd", "theta"):
            file.createVariable(name, "f4", ("t", "z", "x"))[:] = 0
    with h5py.File(path, "a") as file:
        file["theta2"] = h5py.ExternalLink("/etc/passwd", "x")
    with pytest.raises(DataError, match="theta2 is a link to '/etc/passwd'"):
        open_reader(path)


@pytest.mark.parametrize(
    "config",
    ["!!python/object/apply:os.system ['touch canary']", "sim: [", "{" * 5000, "3"],
)
def test_a_malformed_config_is_never_evaluated(tmp_path, make_shallow, config, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"nor the file's name tells the system"):
        open_reader(make_shallow(tmp_path / "a.h5", config=config))
    assert open_reader(make_shallow(tmp_path / "2D_rdb.h5", config=config)).spec.parameters == ()
    assert not (tmp_path / "canary").exists()


def test_the_memory_limit_is_that_of_the_machine_or_container():
    assert 2**28 < files.memory_limit() < 2**50


def one_byte_changed(content, random):
    """Somewhere, more often near the start, where headers are."""
    damaged = bytearray(content)
    place = random.integers(len(damaged) if random.random() < 0.3 else min(1000, len(damaged)))
    damaged[place] = random.integers(256)
    return bytes(damaged)


def cut_short(content, random):
    return content[: random.integers(len(content))]


@pytest.mark.parametrize("damage", [one_byte_changed, cut_short])
@pytest.mark.parametrize("name", ["flow.hdf5", "2D_rdb.h5", "a.nc", "b.nc", "a.npy", "a.npz"])
def test_a_damaged_header_is_an_error_of_one_line(
    tmp_path, make_compressible, make_shallow, name, damage
):
    """Either the file is still read, or it is refused by name: no other error gets out."""
    path = tmp_path / name
    if name == "flow.hdf5":
        make_compressible(path)
    elif name == "2D_rdb.h5":
        make_shallow(path)
    elif name.endswith(".nc"):
        style = "NETCDF3_CLASSIC" if name == "a.nc" else "NETCDF4"
        with netCDF4.Dataset(path, "w", format=style) as file:
            for axis, size in (("t", 3), ("z", 4), ("x", 5)):
                file.createDimension(axis, size)
            file.createVariable("t", "f8", ("t",))[:] = np.arange(3)
            for variable in ("dens", "uwnd", "wwnd", "theta"):
                file.createVariable(variable, "f8", ("t", "z", "x"))[:] = 1
    elif name == "a.npy":
        np.save(path, np.ones((3, 4, 5)))
    else:
        np.savez_compressed(path, u=np.ones((3, 4, 5)), t=np.arange(3.0))
    open_reader(path).read(0)
    content, random, said = path.read_bytes(), np.random.default_rng(0), []
    for i in range(60):
        damaged = tmp_path / f"{i}_{name}"
        damaged.write_bytes(damage(content, random))
        try:
            reader = open_reader(damaged)
            for trajectory in range(len(reader.trajectories)):
                reader.read(trajectory)
        except MateyError as error:
            said.append((damaged.name, str(error)))
        files.close_files()
    assert said
    assert all(known in message and "\n" not in message for known, message in said)


@pytest.mark.parametrize("told_as", [SystemError, DataError])
def test_a_signal_while_a_library_reads_is_no_damage(tmp_path, told_as):
    def read():
        try:
            raise StoppedError("SIGTERM: stopped.", 15)
        except StoppedError as stop:
            raise told_as("the library returned an error") from stop

    with pytest.raises(StoppedError, match="SIGTERM"), files.guarded(tmp_path / "a.h5"):
        read()


def test_a_file_that_vanishes_while_it_is_opened_is_not_called_damaged(tmp_path):
    path = tmp_path / "a.h5"
    missing = pytest.raises(DataError, match=r"a\.h5 cannot be opened: No such file")
    with missing, files.guarded(path):
        h5py.File(path)
