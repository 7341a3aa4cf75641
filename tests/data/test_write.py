"""What is written is read back as it was, or is not there at all."""

import json
import weakref
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
import xarray
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import matey
from matey.data import write
from matey.data.formats.encoding import text
from matey.data.formats.files import close_files
from matey.data.reader import open_reader
from matey.data.write import write_field, write_steps, write_well
from matey.errors import DataError, ShapeError
from matey.fields import PERIODIC_SIDES, Boundary, Ensemble, Field, Grid, SystemSpec, Variable

NAMES = {1: ("x",), 2: ("z", "x"), 3: ("z", "y", "x")}


def vector(stem, ndim, **options):
    axes = "xyz"[:ndim]
    return [Variable(f"{stem}_{a}", axes=(a,), alias=f"{stem}{a}", **options) for a in axes]


@st.composite
def trajectories(draw):
    """One to three fields of one system: any dimension, grid, boundaries and variables."""
    ndim = draw(st.integers(1, 3))
    shape = tuple([1] * (3 - ndim) + [draw(st.integers(2, 4)) for _ in range(ndim)])
    pad = [1.0] * (3 - ndim)
    step = st.floats(0.01, 1e4)
    spacing = tuple(pad + [draw(step) for _ in range(ndim)])
    origin = tuple([0.0] * (3 - ndim) + [draw(st.floats(-1e3, 1e3)) for _ in range(ndim)])
    side = st.sampled_from(Boundary)
    active = [(draw(side), draw(side)) for _ in range(ndim)]
    boundaries = tuple([PERIODIC_SIDES] * (3 - ndim) + active)
    choices = [
        [Variable("pressure", "Pa", alias="p ö")],
        [Variable("mask", static=True)],
        [Variable("shear", pseudo=draw(st.sampled_from([None, False, True])))],
        vector("velocity", ndim, units="m s-1"),
        vector("force", ndim, static=True),
        [Variable("vorticity_z", axes=("z",))],  # one component of a vector alone
        [Variable(f"stress_{a}{b}", axes=(a, b)) for a in "xyz"[:ndim] for b in "xyz"[:ndim]],
    ]
    picked = [v for group in choices if draw(st.booleans()) for v in group]
    variables = tuple(draw(st.permutations([Variable("density"), *picked])))
    spec = SystemSpec("any", ndim, variables, ("Re", "dt"), draw(st.floats(1e-6, 1e6)))
    frames = draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    fields = []
    for n in range(draw(st.integers(1, 3))):
        values = torch.randn((frames, len(variables), *shape), generator=generator)
        for i, variable in enumerate(variables):
            if variable.static:
                values[:, i] = values[:1, i]
        times = spec.dt * (torch.arange(frames, dtype=torch.float64) + n * draw(st.booleans()))
        parameters = {"Re": draw(st.floats(0, 1e3)), "dt": 3.0}
        grid = Grid(NAMES[ndim], shape, origin, spacing)
        fields.append(Field(values, times, grid, boundaries, parameters, spec))
    return fields


@pytest.mark.parametrize("name", ["p.nc", "p.zarr"])
def test_netcdf_and_zarr_read_back_as_they_were_written(tmp_path, name):
    @settings(max_examples=8, deadline=None)
    @given(fields=trajectories(), lead=st.sampled_from([1.0, 2.0]))
    def check(fields, lead):
        close_files()
        field = replace(fields[0], times=fields[0].times * lead)
        write_field(field, tmp_path / name, provenance={"model": "runs/a"})
        (again,) = matey.open(tmp_path / name)
        same(again, field, dt=lead if len(field) > 1 else 1.0)
        same(Field.from_xarray(field.to_xarray()), field)

    check()


def same(again, field, dt=1.0):
    """Everything of a field; its dt to the six digits to which it is read from times."""
    assert torch.equal(again.values, field.values)
    assert torch.equal(again.times, field.times)
    expected = field.spec.dt * dt
    assert again.spec.dt == pytest.approx(expected, rel=1e-3 if dt == 1 else 1e-5)
    assert replace(again.spec, dt=1.0) == replace(field.spec, dt=1.0)
    assert [v.alias for v in again.spec.variables] == [v.alias for v in field.spec.variables]
    assert again.grid == field.grid
    assert again.boundaries == field.boundaries
    assert again.parameters == field.parameters


def test_files_without_a_word_of_mirrors_say_what_names_do(tmp_path):
    """As they were written before `pseudo`: unknown, but for canonical names."""
    variables = (Variable("vorticity", pseudo=False), Variable("shear", pseudo=True))
    field = replace(still(), spec=replace(still().spec, variables=variables))
    well = write_well([field], tmp_path, name="old")
    write_field(field, tmp_path / "old.nc")
    for path in (well, tmp_path / "old.nc"):
        assert matey.open(path).spec.variables == variables
    close_files()
    with h5py.File(well, "r+") as file:
        for dataset in file["t0_fields"].values():
            del dataset.attrs["pseudo"]
    with h5py.File(tmp_path / "old.nc", "r+") as file:
        said = json.loads(text(file.attrs["matey_field"]))
        for variable in said["system"]["variables"]:
            del variable["pseudo"]
        file.attrs["matey_field"] = json.dumps(said)
    for path in (well, tmp_path / "old.nc"):
        assert [v.pseudo for v in matey.open(path).spec.variables] == [True, None]


def test_a_prediction_of_one_frame_keeps_its_dt_and_its_format_is_checked(tmp_path):
    field = still(frames=1)
    field = replace(field, spec=replace(field.spec, dt=0.25))
    write_field(field, tmp_path / "p.nc")
    (again,) = matey.open(tmp_path / "p.nc")
    assert again.spec.dt == 0.25
    close_files()
    with h5py.File(tmp_path / "p.nc", "r+") as file:
        newer = text(file.attrs["matey_field"]).replace('"format": 1', '"format": 9')
        file.attrs["matey_field"] = newer
    with pytest.raises(DataError, match=r"p\.nc: its matey_field has format 9"):
        matey.open(tmp_path / "p.nc")
    close_files()
    with h5py.File(tmp_path / "p.nc", "r+") as file:
        file.attrs["matey_field"] = '{"format": 1, "system": []}'
    with pytest.raises(DataError, match=r"p\.nc: its attribute matey_field is damaged"):
        matey.open(tmp_path / "p.nc")


def test_a_dataset_of_somebody_else_says_how_it_can_be_read():
    with pytest.raises(DataError, match=r"no attribute matey_field.*matey\.open"):
        Field.from_xarray(xarray.Dataset())


def test_a_dataset_that_was_changed_is_a_field_of_what_it_holds_now():
    field = still(frames=3)
    dataset = field.to_xarray()
    changed = Field.from_xarray((dataset.isel(time=slice(1, 3)) * 2).assign_attrs(dataset.attrs))
    assert torch.equal(changed.values, 2 * field.values[1:])
    assert torch.equal(changed.times, field.times[1:])
    with pytest.raises(DataError, match="height is missing"):
        Field.from_xarray(dataset.drop_vars("height"))


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(fields=trajectories(), split=st.sampled_from([None, "train", "valid", "test"]))
def test_write_then_read_is_the_identity(tmp_path, fields, split):
    reader = open_reader(write_well(fields, tmp_path, name="a", split=split))
    assert len(reader.trajectories) == len(fields)
    for n, field in enumerate(fields):
        again = reader.read(n)
        assert torch.equal(again.values, field.values)
        assert torch.equal(again.times, field.times)
        assert again.spec == field.spec
        assert [v.alias for v in again.spec.variables] == [v.alias for v in field.spec.variables]
        assert again.grid == field.grid
        assert again.boundaries == field.boundaries
        assert again.parameters == field.parameters
        assert reader.trajectories[n].split == split


def still(frames=2, static=False):
    """A field of two scalars on 3 x 4 points."""
    spec = SystemSpec("s", 2, (Variable("height"), Variable("bed", static=static)), ("g",), 0.5)
    return Field(
        torch.rand(frames, 2, 1, 3, 4) if not static else torch.ones(frames, 2, 1, 3, 4),
        0.5 * torch.arange(frames, dtype=torch.float64),
        Grid(("y", "x"), (1, 3, 4), (0.0, 0.5, 0.5), (1.0, 1.0, 1.0)),
        (PERIODIC_SIDES, PERIODIC_SIDES, (Boundary.WALL, Boundary.OPEN)),
        {"g": 1.0},
        spec,
    )


def test_a_file_has_every_part_that_the_published_package_reads(tmp_path):
    path = write_well([still(), still()], tmp_path / "s", name="a", split="test")
    assert path == tmp_path / "s" / "data" / "test" / "a.hdf5"
    with h5py.File(path) as file:
        assert file.attrs["grid_type"] == "cartesian"
        assert (file.attrs["n_spatial_dims"], file.attrs["n_trajectories"]) == (2, 2)
        assert list(file.attrs["simulation_parameters"]) == ["g"]
        assert (file.attrs["dataset_name"], file.attrs["g"]) == ("s", 1.0)
        assert list(file["dimensions"].attrs["spatial_dims"]) == ["x", "y"]
        assert file["dimensions/time"].attrs["time_varying"]
        assert list(file["scalars"].attrs["field_names"]) == ["g"]
        assert list(file["t0_fields"].attrs["field_names"]) == ["bed", "height"]
        assert list(file["t1_fields"].attrs["field_names"]) == []
        assert list(file["t2_fields"].attrs["field_names"]) == []
        height = file["t0_fields/height"]
        assert (height.shape, height.chunks) == ((2, 2, 4, 3), (1, 2, 4, 3))
        assert height.attrs["dim_varying"].tolist() == [True, True]
        wall = file["boundary_conditions/x_wall"]
        assert (wall.attrs["bc_type"], list(wall.attrs["associated_dims"])) == ("WALL", ["x"])
        assert wall["mask"][()].tolist() == [True, False, False, False]
        assert set(file["boundary_conditions"]) == {"x_wall", "x_open", "y_periodic"}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = write_well([still()], tmp_path, name="a")
    before = path.read_bytes()
    with pytest.raises(ShapeError, match="Field 1 has 3 frames"):
        write_well([still(), still(frames=3)], tmp_path, name="a")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_static_variable_that_varies_is_refused(tmp_path):
    field = still(static=True)
    field.values[1, 1, 0, 2, 3] = 5.0
    with pytest.raises(DataError, match="bed is static, but varies"):
        write_well([field], tmp_path, name="a")


@pytest.mark.parametrize("name", ["../a", "/a", "", "..", "a/b", "a\0b"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="not a plain name"):
        write_well([still()], tmp_path, name=name)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"p\.nc cannot be written"):
        write_field(still(), tmp_path / "file" / "p.nc")


def test_netcdf_has_names_units_boundaries_and_provenance(tmp_path):
    field = replace(still(), provenance={"model": "runs/a"})
    write_field(field, tmp_path / "p.nc", provenance={"initial": "a.nc"})
    with xarray.open_dataset(tmp_path / "p.nc", decode_times=False) as dataset:
        np.testing.assert_array_equal(dataset["height"], field.values[:, 0, 0])
        assert dataset["height"].dims == ("time", "y", "x")
        about = dict(dataset.attrs)
        assert about.pop("matey_field").startswith('{"format": 1')
        assert about == {
            "system": "s",
            "g": 1.0,
            "boundary_y": "PERIODIC PERIODIC",
            "boundary_x": "WALL OPEN",
            "model": "runs/a",
            "initial": "a.nc",
            "matey_version": matey.__version__,
        }


@pytest.mark.parametrize("static", [False, True])
def test_pieces_of_a_trajectory_make_the_same_file_as_the_whole(tmp_path, monkeypatch, static):
    field = still(frames=7, static=static)
    whole = open_reader(write_well([field], tmp_path, name="whole"))
    reads = []
    read = write.InMemory.read

    def counted(self, trajectory, frames):
        reads.append(len(range(7)[frames]))
        return read(self, trajectory, frames)

    monkeypatch.setattr(write.InMemory, "read", counted)
    monkeypatch.setattr(write, "BLOCK", 2 * 4 * 2 * 12)  # two frames of two variables
    pieces = open_reader(write_well([field], tmp_path, name="pieces"))
    assert reads == [2, 2, 2, 1]
    assert torch.equal(pieces.read(0).values, whole.read(0).values)
    if static:
        field.values[6, 1, 0, 2, 3] = 5.0
        with pytest.raises(DataError, match="bed is static, but varies"):
            write_well([field], tmp_path, name="pieces")
    # Memory: a chunk of the file stays near 64 KiB, whole frames of one trajectory.
    assert h5py.File(pieces.path)["t0_fields/height"].chunks == (1, 7, 4, 3)


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    def interrupted():
        with write.making_folder(tmp_path / "a") as temporary:
            write_well([still()], temporary, name="a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()
    with write.making_folder(tmp_path / "a") as temporary:
        write_well([still()], temporary, name="a")
    assert [path.name for path in tmp_path.rglob("*.hdf5")] == ["a.hdf5"]
    with (
        pytest.raises(DataError, match="is there already"),
        write.making_folder(tmp_path / "a"),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
@pytest.mark.parametrize("members", [0, 2])
def test_frames_that_come_one_by_one_make_the_file_of_the_whole(tmp_path, suffix, members):
    """And are let go: what is held is that of one or two frames, however many there are."""
    if suffix == "zarr":
        pytest.importorskip("zarr", reason="needs zarr: pip install 'matey-pde[zarr]'")
    spec = SystemSpec("any", 2, (Variable("a"), Variable("mask", static=True, mask=True)))
    grid = Grid(("y", "x"), (1, 3, 4), (0.0,) * 3, (1.0,) * 3, falling=("y",))
    values = torch.arange(5 * 2 * 12.0).reshape(5, 2, 1, 3, 4)
    values[:, 1] = torch.arange(12.0).reshape(1, 3, 4) > 2
    field = Field(values, torch.arange(5.0), grid, (PERIODIC_SIDES,) * 3, {}, spec, {"model": "m"})

    def stretch(first, last):
        times, part = field.times[first:last], field.values[first:last]
        fields = [replace(field, values=part + k * (1 - part[:, 1:2]), times=times) for k in (0, 1)]
        return Ensemble(tuple(fields)) if members else fields[0]

    alive = []

    def frames():
        for t in range(5):
            made = stretch(t, t + 1)
            alive.append(weakref.ref(made))
            assert sum(one() is not None for one in alive) <= 2
            yield made

    whole = write_field(stretch(0, 5), tmp_path / f"a.{suffix}", provenance={"seed": "1"})
    parts = write_steps(frames(), tmp_path / f"b.{suffix}", told=lambda: {"seed": "1"})
    assert len(alive) == 5
    engine = {"nc": "netcdf4", "zarr": "zarr"}[suffix]
    first, second = (xarray.open_dataset(path, engine=engine) for path in (whole, parts))
    assert first.identical(second)
    assert first.attrs["seed"] == "1"
    held = matey.open(parts)
    assert torch.equal(held[0].values[:, 0, :, 1:], field.values[:, 0, :, 1:])
    assert len(held) == max(1, members)


def test_a_parameter_that_is_called_as_what_is_noted_is_refused_at_the_first_frame(tmp_path):
    field, made = still(), []
    spec = replace(field.spec, parameters=("seed",))
    field = replace(field, spec=spec, parameters={"seed": 3.0})

    def frames():
        for _ in range(3):
            made.append(field)
            yield field

    with pytest.raises(DataError, match=r"p\.nc: seed of the field .* Rename it"):
        write_steps(frames(), tmp_path / "p.nc", told=lambda: {"seed": "0"})
    assert len(made) == 1


def test_an_interrupted_prediction_leaves_the_old_file_and_nothing_else(tmp_path):
    field = still()
    for suffix in ("nc", "zarr"):
        path = write_field(field, tmp_path / f"p.{suffix}")

        def frames(field=field):
            yield field
            raise KeyboardInterrupt

        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(KeyboardInterrupt):
            write_steps(frames(), path)
        assert sorted(tmp_path.rglob("*")) == before
        assert torch.equal(matey.open(path)[0].values, field.values)
        close_files()
    with pytest.raises(DataError, match="No frame to write"):
        write_steps([], tmp_path / "none.nc")
