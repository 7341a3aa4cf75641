"""Files of a user's own: described in a data config, or drafted by looking at them."""

import tracemalloc

import h5py
import numpy as np
import pytest
import torch
import xarray

from matey import open as open_fields
from matey.cli import main
from matey.cli.options import load_yaml
from matey.config import ArrayConfig, LayoutConfig, SourceConfig
from matey.data.formats import files, numpy
from matey.data.formats.container import open_container
from matey.data.formats.numpy import NpzContainer
from matey.data.reader import open_reader
from matey.data.trajectories import open_source
from matey.data.write import write_field
from matey.errors import ConfigError, DataError, ShapeError
from matey.fields import Boundary
from tests.files import write_shallow_water

SAMPLES, FRAMES, NY, NX = 4, 7, 8, 16
TIMES, Y, X = np.arange(FRAMES) * 0.5, np.arange(NY) * 2.0, np.arange(NX) * 1.0


def waves():
    """[n, t, y, x], each trajectory with a phase of its own."""
    n, t = np.arange(SAMPLES)[:, None, None, None], TIMES[:, None, None]
    return np.sin(0.4 * X + 0.2 * Y[:, None] - t + n).astype(np.float32)


def write_npz(folder):
    np.savez_compressed(folder / "a.npz", u=waves(), v=2 * waves(), time=TIMES, y=Y, x=X)


def write_hdf5(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        file["flow/u"], file["flow/v"] = waves(), 2 * waves()
        file["t"], file["grid/y"], file["grid/x"] = TIMES, Y, X


def write_groups(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        for n, values in enumerate(waves()):
            group = file.create_group(f"run_{n}")
            group["u"], group["v"] = values, 2 * values
            group["t"], group["y"], group["x"] = TIMES, Y, X


def datasets():
    axes = ("time", "lat", "lon")
    coords = {"time": TIMES, "lat": Y, "lon": X}
    for values in waves():
        yield xarray.Dataset({"u": (axes, values), "v": (axes, 2 * values)}, coords)


def write_nc(folder):
    for n, dataset in enumerate(datasets()):
        dataset.to_netcdf(folder / f"run_{n}.nc")


def write_classic(folder):
    for n, dataset in enumerate(datasets()):
        dataset.to_netcdf(folder / f"run_{n}.nc", format="NETCDF3_64BIT")


def write_zarr(folder, version):
    pytest.importorskip("zarr", reason="needs zarr: pip install 'matey-pde[zarr]'")
    for n, dataset in enumerate(datasets()):
        dataset.to_zarr(folder / f"run_{n}.zarr", zarr_format=version, consolidated=False)


def write_zarr_2(folder):
    write_zarr(folder, 2)


def write_zarr_3(folder):
    write_zarr(folder, 3)


WRITERS = [
    write_npz,
    write_hdf5,
    write_groups,
    write_nc,
    write_classic,
    write_zarr_2,
    write_zarr_3,
]


@pytest.mark.parametrize("write", WRITERS)
def test_any_format_is_drafted_and_read_alike(tmp_path, write):
    write(tmp_path)
    fields = open_fields(tmp_path)
    assert len(fields) == SAMPLES
    assert [v.name for v in fields.spec.variables] == ["velocity_x", "velocity_y"]
    assert fields.spec.variables[0].axes == ("x",)
    assert fields.spec.dt == 0.5
    field = fields[2]
    assert field.grid.shape == (1, NY, NX)
    assert field.grid.spacing == (1.0, 2.0, 1.0)
    np.testing.assert_array_equal(field.values[:, 0, 0].numpy(), waves()[2])
    np.testing.assert_array_equal(
        fields.read(1, slice(2, 6, 2)).values[:, 1, 0], 2 * waves()[1, 2:6:2]
    )


@pytest.mark.parametrize("write", [write_npz, write_groups, write_nc, write_zarr_3])
def test_the_drafted_config_trains(tmp_path, write):
    """And the run's own config reproduces the same weights."""
    data = tmp_path / "own"
    data.mkdir()
    write(data)
    mix, run, again = (str(tmp_path / name) for name in ("mix.yaml", "run", "again"))
    assert main(["data", "inspect", str(data), "--write", mix]) == 0
    drafted = load_yaml((tmp_path / "mix.yaml").read_text())["systems"][0]
    assert drafted["paths"] == ["own"]
    assert drafted["layout"]["boundaries"] == {"y": "open", "x": "open"}
    small = ["--model.embed_dim", "12", "--model.heads", "1", "--model.depth", "1"]
    small += ["--model.patches", "[8,4]"]
    small += ["--windows.history", "2", "--steps", "1", "--batch", "2", "--device", "cpu"]
    assert main(["train", "--data", mix, "--run", run, *small]) == 0
    assert main(["train", "--config", f"{run}/config.yaml", "--run", again]) == 0
    weights = [tmp_path / name / "model/model.safetensors" for name in ("run", "again")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def own(path, **settings):
    """The fields of a file as a description says."""
    return open_source(SourceConfig("mine", (str(path),), layout=LayoutConfig(**settings)))


def test_a_description_says_what_the_file_does_not(tmp_path):
    """Axes in an order of their own, several variables in one array, no coordinates."""
    stored = np.random.default_rng(0).random((NX, NY, SAMPLES, FRAMES, 2))
    static = np.random.default_rng(1).random((NX, NY))
    np.savez(tmp_path / "a.npz", state=stored, mask=static, Re=np.arange(4.0), Pr=7.0)
    fields = own(
        tmp_path / "a.npz",
        axes=("x", "y", "sample", "time", "component"),
        arrays=(
            ArrayConfig("state", ("density", "tracer"), ("kg m-3", "1")),
            ArrayConfig("mask", ("mask",), axes=("x", "y")),
        ),
        dt=0.1,
        boundaries={"x": "periodic", "y": "wall open"},
        parameters={"Re": "Re", "Pr": "Pr", "g": 9.8},
        split={"test": ("*#0003",), "valid": ("*#0002",)},
    )
    field = fields[3]
    expected = stored[:, :, 3].transpose(2, 3, 1, 0).astype(np.float32)
    np.testing.assert_array_equal(field.values[:, :2, 0].numpy(), expected)
    np.testing.assert_array_equal(field.values[4, 2, 0].numpy(), static.T.astype(np.float32))
    assert [v.units for v in field.spec.variables] == ["kg m-3", "1", ""]
    assert [v.static for v in field.spec.variables] == [False, False, True]
    assert field.spec.dt == pytest.approx(0.1)
    assert field.parameters == {"Re": 3.0, "Pr": 7.0, "g": 9.8}
    assert field.boundaries[1:] == (
        (Boundary.WALL, Boundary.OPEN),
        (Boundary.PERIODIC, Boundary.PERIODIC),
    )
    assert [t.split for t in fields.trajectories] == ["train", "train", "valid", "test"]


@pytest.mark.parametrize("ndim", [1, 3])
def test_one_and_three_dimensions_are_drafted_too(tmp_path, ndim):
    points = {"z": 4, "y": 6, "x": 8}
    axes = list(points)[3 - ndim :]
    shape = [FRAMES, *(points[axis] for axis in axes)]
    stored = np.random.default_rng(0).random(shape).astype(np.float32)
    coordinates = {axis: np.arange(points[axis]) * 1.0 for axis in axes}
    np.savez(tmp_path / "a.npz", rho=stored, t=TIMES, **coordinates)
    field = open_fields(tmp_path / "a.npz")[0]
    assert field.grid.ndim == ndim
    assert field.spec.variables[0].name == "density"
    np.testing.assert_array_equal(field.values.numpy().reshape(shape), stored)


def test_a_vertical_section_has_z_along_y(tmp_path):
    axes = ("time", "z", "x")
    arrays = {"u": (axes, waves()[0]), "w": (axes, waves()[1])}
    xarray.Dataset(arrays, {"time": TIMES, "z": Y, "x": X}).to_netcdf(tmp_path / "a.nc")
    field = open_fields(tmp_path / "a.nc")[0]
    assert field.grid.axes == ("z", "x")
    assert [v.name for v in field.spec.variables] == ["velocity_x", "velocity_y"]


def test_what_a_model_predicts_is_read_back(tmp_path):
    """NetCDF as `matey predict` writes it: canonical names, units, boundaries, parameters."""
    written = open_fields(write_shallow_water(tmp_path / "2D_rdb_NA_NA.h5"))[1]
    write_field(written, tmp_path / "p.nc", provenance={"checkpoint": "a"})
    read = open_fields(tmp_path / "p.nc")[0]
    torch.testing.assert_close(read.values, written.values, rtol=0, atol=0)
    assert read.spec.name == written.spec.name
    assert read.spec.variables == written.spec.variables
    assert read.parameters == written.parameters
    assert read.boundaries == written.boundaries


def test_missing_and_packed_values_are_undone(tmp_path):
    axes = ("time", "y", "x")
    dataset = xarray.Dataset({"u": (axes, waves()[0])}, {"time": TIMES, "y": Y, "x": X})
    for name, format in (("new.nc", "NETCDF4"), ("old.nc", "NETCDF3_CLASSIC")):
        packing = {"dtype": "i2", "scale_factor": 0.001, "add_offset": 1.0, "_FillValue": -9999}
        dataset.to_netcdf(tmp_path / name, format=format, encoding={"u": packing})
        values = open_fields(tmp_path / name)[0].values[:, 0, 0].numpy()
        np.testing.assert_allclose(values, waves()[0], atol=0.0006)  # half of scale_factor
        missing = dataset.where(dataset["x"] != 3)
        missing.to_netcdf(tmp_path / f"missing_{name}", format=format, encoding={"u": packing})
        masked = open_fields(tmp_path / f"missing_{name}")[0]  # at all times: a mask
        assert (~masked.held).nonzero()[:, 2].unique().tolist() == [3]
        missing = dataset.where((dataset["x"] != 3) | (dataset["time"] != TIMES[1]))
        missing.to_netcdf(tmp_path / f"once_{name}", format=format, encoding={"u": packing})
        with pytest.raises(DataError, match=r"u of .* is nan at time .*index \(0, 0, 3\)"):
            open_fields(tmp_path / f"once_{name}")[0]


def test_what_was_assumed_is_said_once_per_file(tmp_path, caplog):
    np.savez(tmp_path / "a.npz", u=waves(), t=TIMES, y=Y, x=X)
    open_fields(tmp_path / "a.npz")
    assert "axes of u (4, 7, 8, 16) are taken for sample, time, y, x" in caplog.text
    assert "sides along y, x are taken for open" in caplog.text


def test_square_grids_are_told_apart_by_the_names_of_their_axes(tmp_path):
    square = np.random.default_rng(0).random((FRAMES, NX, NX))
    coords = {"time": TIMES, "x": X, "y": 3 * X}
    xarray.Dataset({"u": (("time", "x", "y"), square)}, coords).to_netcdf(tmp_path / "a.nc")
    field = open_fields(tmp_path / "a.nc")[0]
    assert field.grid.spacing == (1.0, 3.0, 1.0)
    np.testing.assert_array_equal(field.values[0, 0, 0].T, square[0].astype(np.float32))
    with pytest.raises(ShapeError, match=r"axis 1 of u is x .* Are the axes swapped\?"):
        own(
            tmp_path / "a.nc",
            axes=("time", "y", "x"),
            arrays=(ArrayConfig("u", ("velocity_x",)),),
            time="time",
            coordinates={"x": "x", "y": "y"},
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"arrays": (ArrayConfig("vv", ("v",)),)},
            "vv missing. Required: vv; found: u, v",
        ),
        ({"time": "t"}, "t missing. Required: t; found: u, v"),
        ({"axes": ("time", "y", "x")}, r"u \[t, y, x\] has shape \(4, 7, 8, 16\)"),
        ({"axes": ("sample", "time", "x", "y")}, "axis y has 16 points, but its coordinate"),
        ({"axes": ("sample", "component", "y", "x")}, "expected 1 components"),
        ({"parameters": {"Re": "Re"}}, "parameter Re is neither an attribute"),
        ({"arrays": (ArrayConfig("*/u", ("u",)),)}, "no group holds u"),
    ],
)
def test_a_description_that_does_not_fit_the_file_is_refused_by_name(tmp_path, settings, message):
    write_npz(tmp_path)
    usual = {
        "axes": ("sample", "time", "y", "x"),
        "arrays": (ArrayConfig("u", ("velocity_x",)),),
        "coordinates": {"y": "y", "x": "x"},
    }
    with pytest.raises((DataError, ShapeError), match=message):
        own(tmp_path / "a.npz", **(usual | settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"boundaries": {"y": "soft"}}, "layout.boundaries is {'y': 'soft'}"),
        ({"boundaries": {"q": "wall"}}, "layout.boundaries is {'q': 'wall'}"),
        ({"boundaries": {"y": "wall periodic"}}, "layout.boundaries"),
        ({"dt": 0.0}, "layout.dt is 0.0"),
        ({"axes": ("time", "x", "x")}, "each axis once"),
        ({"split": {"exam": ("a",)}}, "layout.split is 'exam'"),
        ({"arrays": ()}, "layout.arrays"),
    ],
)
def test_a_description_that_makes_no_sense_names_the_key(settings, message):
    usual = {"axes": ("time", "x"), "arrays": (ArrayConfig("u", ("u",)),)}
    with pytest.raises(ConfigError, match=message):
        LayoutConfig(**(usual | settings))


def test_a_misspelt_key_of_a_layout_is_one_line(tmp_path, capsys):
    write_npz(tmp_path)
    text = (
        "systems:\n- name: a\n  paths: [a.npz]\n  layout:\n    axis: [sample, time, y, x]\n"
        "    arrays:\n    - {array: u, variables: [u]}\n"
    )
    (tmp_path / "mix.yaml").write_text(text)
    assert main(["train", "--data", str(tmp_path / "mix.yaml"), "--run", str(tmp_path / "r")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "axis" in lines[0]


def test_an_object_array_is_refused_and_not_unpickled(tmp_path, caplog):
    class Canary:
        def __reduce__(self):
            return (open, (str(tmp_path / "canary"), "w"))

    bad = np.array([Canary()], dtype=object)
    np.save(tmp_path / "a.npy", bad, allow_pickle=True)
    np.savez(tmp_path / "b.npz", u=bad, allow_pickle=True)
    for name in ("a.npy", "b.npz"):
        with pytest.raises(DataError, match="Python objects, which are refused"):
            open_reader(tmp_path / name)
    np.savez(tmp_path / "c.npz", u=waves(), t=TIMES, y=Y, x=X, params=bad)
    assert len(open_fields(tmp_path / "c.npz")) == SAMPLES
    assert "c.npz: params holds Python objects" in caplog.text
    assert not (tmp_path / "canary").exists()


def test_dates_as_numbers_are_refused_by_their_units(tmp_path):
    dataset = next(datasets())
    dataset["time"] = ("time", 20200128.0 + np.arange(FRAMES), {"units": "day as %Y%m%d.%f"})
    dataset.to_netcdf(tmp_path / "a.nc")
    with pytest.raises(DataError, match=r"time holds dates as numbers .*cdo -r copy"):
        open_reader(tmp_path / "a.nc")


def test_a_zip_bomb_is_streamed_or_refused_before_it_is_allocated(tmp_path, monkeypatch):
    """64 MiB of zeros are 64 kB in an archive; with a limit of 1 MiB only one frame is read."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, u=np.zeros((64, 512, 512), np.float32))
    assert path.stat().st_size < 2**20
    reader = open_reader(path)
    monkeypatch.setattr(files, "memory_limit", lambda: 2**21)
    assert reader.read(0, slice(60, 61)).values.shape == (1, 1, 1, 512, 512)
    with pytest.raises(DataError, match="more than the"):
        reader.read(0)


def test_a_truncated_npy_names_both_sizes(tmp_path):
    np.save(tmp_path / "a.npy", waves())
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:-1])
    sizes = rf"{len(content) - 1} bytes, expected {len(content)}"
    with pytest.raises(DataError, match=sizes):
        open_reader(tmp_path / "a.npy")


def test_a_member_that_claims_another_size_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", u=waves())
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content.replace(b"(4, 7, 8, 16)", b"(4, 7, 8, 99)"))
    with pytest.raises(DataError, match="archive is damaged"):
        open_reader(tmp_path / "a.npz")


def test_frames_of_an_archive_are_those_of_the_array_in_any_order(tmp_path):
    for name, values in (("c", waves()), ("f", np.asfortranarray(waves()))):
        axes = {axis: np.arange(float(n)) for axis, n in (("t", 7), ("y", 8), ("x", 16))}
        np.savez_compressed(tmp_path / f"{name}.npz", u=values, **axes)
        fields = open_fields(tmp_path / f"{name}.npz")
        for n, frames in ((3, slice(5, 7)), (0, slice(0, 2)), (3, slice(1, 6, 2))):
            expected = waves()[n, frames]
            np.testing.assert_array_equal(fields.read(n, frames).values[:, 0, 0], expected)


def test_a_codec_of_zarr_that_could_run_code_is_refused(tmp_path):
    """Numcodecs has one that unpickles."""
    write_zarr(tmp_path, 2)
    metadata = tmp_path / "run_0.zarr" / "u" / ".zarray"
    text = metadata.read_text().replace('"filters": null', '"filters": [{"id": "pickle"}]')
    assert "pickle" in text
    metadata.write_text(text)
    with pytest.raises(DataError, match="codec 'pickle', which is refused"):
        open_reader(tmp_path / "run_0.zarr")


@pytest.mark.parametrize("version", [2, 3])
def test_a_zarr_store_may_be_one_array(tmp_path, version):
    zarr = pytest.importorskip("zarr", reason="needs zarr: pip install 'matey-pde[zarr]'")
    values = np.random.default_rng(0).normal(size=(6, 16, 16)).astype(np.float32)
    zarr.save_array(tmp_path / "a.zarr", values, zarr_format=version)
    assert np.array_equal(open_container(tmp_path / "a.zarr").array("data")[:], values)
    with pytest.raises(DataError, match=r"a.zarr: data of shape .* may be \[time, y, x\]"):
        open_fields(tmp_path)


def test_rounded_values_of_zarr_are_read(tmp_path):
    pytest.importorskip("zarr", reason="needs zarr: pip install 'matey-pde[zarr]'")
    from numcodecs import BitRound

    rounded = {"u": {"filters": [BitRound(keepbits=10)]}}
    field = next(datasets())[["u"]].astype("f4")
    field.to_zarr(tmp_path / "a.zarr", zarr_format=2, encoding=rounded)
    values = open_container(tmp_path / "a.zarr").array("u")[:]
    np.testing.assert_allclose(values, field["u"], rtol=2**-10)
    assert not np.array_equal(values, field["u"])


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("packing", [{}, {"dtype": "i2", "scale_factor": 0.001}])
def test_missing_values_of_zarr_are_marked_as_xarray_marks_them(tmp_path, version, packing):
    pytest.importorskip("zarr", reason="needs zarr: pip install 'matey-pde[zarr]'")
    missing = next(datasets())[["u"]] + 2
    missing = missing.where(missing["lon"] != 3)
    for mark in (0, -30_000):
        encoding = {"u": {**packing, "_FillValue": np.float32(mark) if not packing else mark}}
        store = tmp_path / f"{mark}.zarr"
        missing.to_zarr(store, zarr_format=version, consolidated=False, encoding=encoding)
        values = open_container(store).array("u")[:]
        # A zero of unpacked numbers of version 2 is what zarr itself writes: data.
        marked = mark or packing or version == 3
        assert np.isnan(values[..., 3]).all() if marked else (values[..., 3] == 0).all()
        np.testing.assert_allclose(values[..., 4], waves()[0, ..., 4] + 2, atol=0.0006)


@pytest.mark.parametrize("named", [True, False])
def test_zeros_are_data_where_zarr_fills_with_them(tmp_path, named):
    zarr = pytest.importorskip("zarr", reason="needs zarr: pip install 'matey-pde[zarr]'")
    for dtype in ("f4", "i4"):
        group = zarr.open_group(str(tmp_path / f"{dtype}.zarr"), mode="w", zarr_format=2)
        array = group.create_array("u", shape=(2, 3), dtype=dtype, fill_value=0)
        array.attrs.update({"_ARRAY_DIMENSIONS": ["y", "x"]} if named else {})
        assert (open_container(tmp_path / f"{dtype}.zarr").array("u")[:] == 0).all()


@pytest.mark.parametrize("version", [2, 3])
def test_texts_in_a_zarr_store_are_left_out(tmp_path, version, caplog):
    pytest.importorskip("zarr", reason="needs zarr: pip install 'matey-pde[zarr]'")
    names = xarray.Dataset(coords={"run": np.array(["a", "bc"], dtype=object)})
    names.to_zarr(tmp_path / "names.zarr", zarr_format=version, consolidated=False)
    with pytest.raises(DataError, match=r"run holds texts of any length .* refused"):
        open_reader(tmp_path / "names.zarr")
    both = xarray.merge([next(datasets()), names])
    both.to_zarr(tmp_path / "a.zarr", zarr_format=version, consolidated=False)
    assert [v.alias for v in open_fields(tmp_path / "a.zarr").spec.variables] == ["u", "v"]
    assert "run holds texts of any length" in caplog.text


def test_a_link_out_of_a_zarr_store_is_refused(tmp_path):
    write_zarr(tmp_path, 3)
    (tmp_path / "run_0.zarr" / "w").symlink_to(tmp_path / "run_1.zarr" / "u")
    with pytest.raises(DataError, match="link out of its zarr store"):
        open_reader(tmp_path / "run_0.zarr")


def test_zarr_without_its_package_is_a_one_line_error(tmp_path, monkeypatch):
    store = tmp_path / "a.zarr"
    store.mkdir()
    (store / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    with pytest.raises(DataError, match=r"pip install 'matey-pde\[zarr\]'"):
        open_fields(store)


def netcdf(path, sizes, coords=(), name="q"):
    """A NetCDF file of one variable on the named dimensions; its values count up."""
    values = np.arange(np.prod(list(sizes.values())), dtype=np.float32).reshape(*sizes.values())
    places = {dim: np.arange(float(sizes[dim])) for dim in coords}
    xarray.Dataset({name: (tuple(sizes), values)}, places).to_netcdf(path)
    return values


@pytest.mark.parametrize(
    ("dims", "axes"),
    [
        ("Time bottom_top south_north west_east", "time z y x"),
        ("time isobaric lat lon", "time z y x"),
        ("TIME plev row col", "time z y x"),
        ("time height latitude longitude", "time z y x"),
        ("time channel height width", "time component y x"),
        ("time component rows columns", "time component y x"),
        ("who time y x", "sample time y x"),
        ("when what y x", "sample time y x"),
        ("time what when", "time y x"),
    ],
)
def test_axes_are_told_by_the_names_that_files_give_them(tmp_path, dims, axes):
    """No other axis becomes time where one is called so, whatever their lengths."""
    sizes = dict(zip(dims.split(), (6, 5, 8, 9), strict=False))
    netcdf(tmp_path / "a.nc", sizes)
    assert " ".join(open_reader(tmp_path / "a.nc").contents.described.axes) == axes


def test_an_axis_of_one_level_is_none_of_space(tmp_path):
    values = netcdf(tmp_path / "a.nc", {"time": 6, "level": 1, "lat": 4, "lon": 5}, ["level"])
    reader = open_reader(tmp_path / "a.nc")
    assert reader.contents.described.axes == ("time", "single", "y", "x")
    np.testing.assert_array_equal(reader.read(0).values[:, 0], values)


def test_an_axis_that_fits_two_readings_is_asked_for(tmp_path):
    netcdf(tmp_path / "a.nc", {"time": 6, "what": 5, "lat": 4, "lon": 7}, name="T")
    both = r"T of shape \(6, 5, 4, 7\) may be \[time, component, y, x\] or \[time, z, y, x\]:"
    with pytest.raises(DataError, match=both):
        open_fields(tmp_path / "a.nc")


def test_axes_that_cannot_be_told_are_named_with_their_array(tmp_path):
    netcdf(tmp_path / "a.nc", {"lat": 6, "what": 5, "lon": 4, "who": 7}, name="T")
    with pytest.raises(DataError, match=r"T of \(6, 5, 4, 7\) \(lat, what, lon, who\)"):
        open_reader(tmp_path / "a.nc")


@pytest.mark.parametrize(
    ("name", "dim", "labels", "variables"),
    [
        ("data", "variable", ["t2m", "msl"], "t2m msl"),
        ("data", "variable", ["u", "v", "T"], "velocity_x velocity_y t"),
        ("data", "variable", ["t2m"], "t2m"),
        ("data", "variable", None, "data_0 data_1"),
        ("data", "variable", ["3", "7"], "data_0 data_1"),
        ("velocity", "variable", None, "velocity_x velocity_y"),
        ("velocity", "component", ["x", "y"], "velocity_x velocity_y"),
        ("state", "component", None, "state_x state_y"),
    ],
)
def test_channels_are_called_as_the_file_labels_them(tmp_path, name, dim, labels, variables):
    """Without labels they are components of a vector where a name says so, and where nothing does
    that is said."""
    values = np.stack([waves()[0] + n for n in range(len(labels or "xy"))], axis=1)
    coords = {"time": TIMES, "lat": Y, "lon": X} | ({dim: labels} if labels else {})
    dataset = xarray.Dataset({name: (("time", dim, "lat", "lon"), values)}, coords)
    dataset.to_netcdf(tmp_path / "a.nc")
    reader = open_reader(tmp_path / "a.nc")
    assert " ".join(variable.name for variable in reader.spec.variables) == variables
    said = any("components of a vector" in text for text in reader.contents.assumptions)
    assert said == (name == "state")


def test_labels_beside_an_array_without_names_of_axes_name_its_variables(tmp_path):
    values = np.stack([waves()[0], 2 * waves()[0]], axis=1)
    np.savez(tmp_path / "a.npz", data=values, channels=["rho", "dye"], t=TIMES, y=Y, x=X)
    names = [variable.name for variable in open_reader(tmp_path / "a.npz").spec.variables]
    assert names == ["density", "dye"]
    both = {"data": values, "more": values + 1}
    np.savez(tmp_path / "b.npz", **both, channels=["rho", "dye"], t=TIMES, y=Y, x=X)
    names = [variable.name for variable in open_reader(tmp_path / "b.npz").spec.variables]
    assert names == ["data_density", "data_dye", "more_density", "more_dye"]


@pytest.mark.parametrize("others", ["q t z", "t z", "z"])
@pytest.mark.parametrize("suffix", ["nc", "h5"])
def test_a_temperature_called_t_is_no_time(tmp_path, others, suffix):
    """Whatever stands beside it, and in whatever order."""
    profile = waves()[0, :, 0]
    arrays = {"T": profile, "q": 2 * profile, "t": TIMES, "z": X}
    arrays = {name: arrays[name] for name in ("T", *others.split())}
    if suffix == "nc":
        axes = {"T": ("time", "z"), "q": ("time", "z"), "t": ("time",), "z": ("z",)}
        dataset = xarray.Dataset({n: (axes[n], values) for n, values in arrays.items()})
        dataset.to_netcdf(tmp_path / "a.nc")
    else:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            for name, values in arrays.items():
                file[name] = values
    field = open_fields(tmp_path / f"a.{suffix}")[0]
    assert [v.alias for v in field.spec.variables] == (["T", "q"] if "q" in others else ["T"])
    assert field.spec.dt == (0.5 if "t" in others else 1.0)
    np.testing.assert_array_equal(field.values[:, 0].squeeze(), profile)


def test_groups_called_after_splits_are_these(tmp_path):
    """And several samples in each are refused, which says what to write instead."""
    with h5py.File(tmp_path / "a.h5", "w") as file, h5py.File(tmp_path / "b.h5", "w") as several:
        for name, values in zip(("Train", "val", "test"), waves(), strict=False):
            file[f"{name}/u"], several[f"{name}/u"] = values, waves()
            for each in (file, several):
                each[f"{name}/t"], each[f"{name}/y"], each[f"{name}/x"] = TIMES, Y, X
    trajectories = open_fields(tmp_path / "a.h5").trajectories
    assert {t.name: t.split for t in trajectories} == {
        "a.h5#Train": "train",
        "a.h5#val": "valid",
        "a.h5#test": "test",
    }
    with pytest.raises(DataError, match=r"Train/u has 4 samples.* Write a file for each group"):
        open_reader(tmp_path / "b.h5")


@pytest.mark.parametrize(
    ("dim", "places", "refused"),
    [
        ("ncells", "clat clon", True),
        ("values", "latitude longitude", True),
        ("nCells", "", True),
        ("cell", "x", False),
        ("x", "lat lon", False),
    ],
)
def test_a_mesh_is_refused_and_no_line(tmp_path, dim, places, refused):
    """Though a section along x may have latitudes and longitudes, too."""
    coords = {"time": TIMES, **dict.fromkeys(places.split(), (dim, X))}
    if dim == "x":
        coords["x"] = X
    dataset = xarray.Dataset({"q": (("time", dim), waves()[0, :, 0])}, coords)
    dataset.to_netcdf(tmp_path / "a.nc")
    if refused:
        with pytest.raises(DataError, match=rf"q of .* lies on a mesh.* {dim} .* grid first"):
            open_reader(tmp_path / "a.nc")
    else:
        assert open_reader(tmp_path / "a.nc").contents.described.axes == ("time", "x")


def positions_on_a_grid(path, names, dims, shear):
    """A field over two axes, and positions along them of (y, x), each moved by the other's."""
    y, x = np.meshgrid(0.5 * np.arange(6), 3.0 * np.arange(8), indexing="ij")
    places = zip(names, (y + shear * x, x + shear * y), strict=True)
    field = xarray.DataArray(np.random.default_rng(0).normal(size=(4, 6, 8)), dims=("time", *dims))
    grids = {name: (dims, grid) for name, grid in places}
    xarray.Dataset({"u": field, **grids}, {"time": 0.1 * np.arange(4)}).to_netcdf(path)


@pytest.mark.parametrize(
    ("names", "dims", "coordinates"),
    [
        (("y", "x"), ("j", "i"), True),
        (("lat", "lon"), ("y", "x"), True),
        (("TLAT", "TLON"), ("nj", "ni"), False),  # of curved grids, whatever they are in the file
        (("XLAT", "XLONG"), ("south_north", "west_east"), False),
    ],
)
def test_positions_on_a_grid_with_named_axes(tmp_path, names, dims, coordinates, caplog):
    positions_on_a_grid(tmp_path / "a.nc", names, dims, 0.0)
    positions_on_a_grid(tmp_path / "b.nc", names, dims, 0.1)
    for file, straight in (("a.nc", coordinates), ("b.nc", False)):
        caplog.clear()
        fields = open_fields(tmp_path / file)
        stored = [variable.alias or variable.name for variable in fields.spec.variables]
        assert stored == (["u"] if straight else ["u", *names])
        assert fields[0].grid.spacing == ((1.0, 0.5, 3.0) if straight else (1.0, 1.0, 1.0))
        said = f"{', '.join(names)} stand at every point, as on a curved grid" in caplog.text
        assert said is not straight


def test_a_coordinate_that_goes_up_and_down_is_refused_with_the_way_out(tmp_path):
    axes, places = ("time", "y", "x"), {"time": TIMES, "y": np.abs(Y - 5), "x": X}
    xarray.Dataset({"u": (axes, waves()[0])}, places).to_netcdf(tmp_path / "a.nc")
    settings = {"axes": axes, "arrays": (ArrayConfig("u", ("u",)),)}
    with pytest.raises(ShapeError, match=r"y neither rises nor falls .* out of `coordinates`"):
        own(tmp_path / "a.nc", **settings, coordinates={"y": "y"})
    own(tmp_path / "a.nc", **settings)


def test_parameters_of_each_group_are_drafted(tmp_path):
    """But not those that some groups lack."""
    write_groups(tmp_path)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        for n in range(SAMPLES):
            file[f"run_{n}"].attrs["Re"] = 100.0 * n
        file["run_1"].attrs["Du"] = 1.0
    fields = open_fields(tmp_path / "a.h5")
    assert [t.parameters for t in fields.trajectories] == [{"Re": 100.0 * n} for n in range(4)]


@pytest.mark.parametrize("write", ["npz", "h5", "groups"])
def test_numbers_beside_fields_are_their_step_and_parameters(tmp_path, write):
    """And those that are neither by their names are said to be unused."""
    numbers = {"dt": 0.25, "Re": 100.0, "seed": 3, "gain": 0.5}
    path = tmp_path / ("a.npz" if write == "npz" else "a.h5")
    if write == "npz":
        np.savez(path, u=waves()[0], y=Y, x=X, **numbers)
    else:
        with h5py.File(path, "w") as file:
            for group in ("a", "b") if write == "groups" else ("",):
                for name, values in {"u": waves()[0], "y": Y, "x": X, **numbers}.items():
                    file[f"{group}/{name}"] = values
    fields = open_fields(path)
    assert fields.spec.dt == 0.25
    assert fields[0].parameters == {"Re": 100.0}
    said = " ".join(fields.readers[0].contents.assumptions)
    assert "frames are taken to be 0.25 apart" in said
    assert sorted(said.split("the numbers ")[1].split(" are not")[0].split(", ")) == [
        "gain",
        "seed",
    ]


def test_coordinates_of_one_number_are_no_parameters(tmp_path):
    coords = {"time": TIMES, "y": Y, "x": X, "height": ((), 2.0, {"units": "m"}), "number": 0}
    dataset = xarray.Dataset({"u": (("time", "y", "x"), waves()[0])}, coords)
    dataset.assign(dt=0.01).to_netcdf(tmp_path / "a.nc")
    reader = open_reader(tmp_path / "a.nc")
    assert (reader.spec.dt, reader.spec.parameters) == (0.5, ())
    assert not any("number" in text for text in reader.contents.assumptions)


def test_complex_arrays_beside_real_ones_are_said_to_be_left_out(tmp_path):
    np.savez(tmp_path / "a.npz", u=waves(), psi=waves() + 1j, t=TIMES, y=Y, x=X)
    said = open_reader(tmp_path / "a.npz").contents.assumptions
    assert any(a.startswith("psi of complex numbers left out") for a in said)
    np.savez(tmp_path / "b.npz", psi=waves() + 1j)
    with pytest.raises(DataError, match="psi of complex numbers left out"):
        open_reader(tmp_path / "b.npz")


@pytest.mark.parametrize("block", [1, 2000, 2**22])
def test_an_index_of_an_archive_is_that_of_the_array(tmp_path, monkeypatch, block):
    """Read entry by entry, in blocks and at once; in both orders of memory."""
    monkeypatch.setattr(numpy, "BLOCK", block)
    for name, values in (("c", waves()), ("f", np.asfortranarray(waves()))):
        np.savez_compressed(tmp_path / f"{name}.npz", u=values)
        array = NpzContainer(tmp_path / f"{name}.npz").array("u")
        whole = slice(None)
        for index in (
            (whole, whole, whole, 3),
            (whole, slice(1, 6, 2), whole, whole),
            (slice(0, 4, 3), 2, whole, slice(4, 9)),
            (1, slice(2, 2), whole, whole),
            (whole, whole, slice(1, 2), slice(0, 16, 5)),
            (1, 2, 3, 4),
            (),
        ):
            np.testing.assert_array_equal(array[index], waves()[index])


@pytest.mark.parametrize("order", ["time last", "fortran"])
def test_memory_for_an_archive_does_not_grow_where_time_is_not_the_slowest_axis(
    tmp_path, monkeypatch, order
):
    """Frames of 16 kB, of arrays of 6 and 25 MiB: less than a tenth of what one has more."""
    monkeypatch.setattr(numpy, "BLOCK", 2**18)
    peaks = []
    for frames in (400, 1600):
        values = np.random.default_rng(0).random((64, 64, frames)).astype(np.float32)
        values = np.asfortranarray(values.T) if order == "fortran" else values
        np.savez(tmp_path / f"{frames}.npz", u=values)
        axes = ("time", "x", "y") if order == "fortran" else ("x", "y", "time")
        fields = own(tmp_path / f"{frames}.npz", axes=axes, arrays=(ArrayConfig("u", ("u",)),))
        fields.read(0, slice(0, 1))
        tracemalloc.start()
        found = fields.read(0, slice(7, 9)).values
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        expected = values[7:9].swapaxes(1, 2) if order == "fortran" else values.T[7:9]
        np.testing.assert_array_equal(found[:, 0, 0].numpy(), expected)
    assert peaks[1] - peaks[0] < 1.8 * 2**20
