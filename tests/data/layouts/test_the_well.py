"""The Well's layout as others write it."""

import h5py
import numpy as np
import pytest

from matey import open as open_fields
from matey.data.inspect import inspect
from matey.data.reader import open_reader
from matey.errors import DataError, ShapeError
from matey.fields import Boundary

SAMPLES, FRAMES, NX, NY = 2, 4, 5, 3


def flags(dataset, dims=(True, True), sample=True, time=True):
    dataset.attrs.update({"dim_varying": dims, "sample_varying": sample, "time_varying": time})


@pytest.fixture
def well(tmp_path):
    """Two dimensions, every kind of variation, and a boundary that differs by side."""
    path = tmp_path / "flow" / "data" / "valid" / "a.hdf5"
    path.parent.mkdir(parents=True)
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.attrs.update({"dataset_name": "flow", "grid_type": "cartesian", "n_spatial_dims": 2})
        file.attrs.update({"n_trajectories": SAMPLES, "Re": 100.0, "kind": "jet"})
        file.attrs["simulation_parameters"] = ["Re", "Pr", "kind"]
        dims = file.create_group("dimensions")
        dims.attrs["spatial_dims"] = ["x", "y"]
        dims["time"] = np.arange(FRAMES) * 0.5
        dims["x"], dims["y"] = np.arange(NX) * 1.0, np.arange(NY) * 2.0
        scalars = file.create_group("scalars")
        scalars.attrs["field_names"] = ["Pr", "energy"]
        scalars["Pr"] = [0.7, 7.0]
        scalars["energy"] = np.ones(FRAMES)
        scalars["Pr"].attrs["time_varying"], scalars["energy"].attrs["time_varying"] = False, True
        for order in range(3):
            file.create_group(f"t{order}_fields")
        file["t0_fields"].attrs["field_names"] = ["Speed of sound", "mask", "shear"]
        file["t0_fields/Speed of sound"] = random.random((SAMPLES, FRAMES, NX, NY))
        flags(file["t0_fields/Speed of sound"])
        file["t0_fields/mask"] = random.random((NX, NY))
        flags(file["t0_fields/mask"], sample=False, time=False)
        file["t0_fields/shear"] = random.random((SAMPLES, FRAMES, 1, NY))
        flags(file["t0_fields/shear"], dims=(False, True))
        file["t1_fields"].attrs["field_names"] = ["velocity", "wind"]
        file["t1_fields/velocity"] = random.random((SAMPLES, FRAMES, NX, NY, 2))
        flags(file["t1_fields/velocity"])
        file["t1_fields/wind"] = random.random((FRAMES, NX, 2))
        flags(file["t1_fields/wind"], dims=(True, False), sample=False)
        file["t2_fields"].attrs["field_names"] = ["stress"]
        file["t2_fields/stress"] = random.random((SAMPLES, FRAMES, NX, NY, 2, 2))
        flags(file["t2_fields/stress"])
        for name, axis, kind, mask in (
            ("x", "x", "periodic", [1] * NX),
            ("low", "y", "Wall", [1, 0, 0]),
        ):
            condition = file.create_group(f"boundary_conditions/{name}")
            condition.attrs.update({"bc_type": kind, "associated_dims": [axis]})
            condition["mask"] = np.array(mask, bool)
    return path


def channel(field, name):
    names = [variable.name for variable in field.spec.variables]
    return field.values[:, names.index(name), 0].numpy()


def test_every_kind_of_variation_is_read_to_y_x(well):
    field = open_fields(well)[1]
    with h5py.File(well) as file:
        stored = {n: file[n][()].astype(np.float32) for n in ("t0_fields/Speed of sound",)}
        stored |= {f"t0_fields/{n}": file[f"t0_fields/{n}"][()] for n in ("mask", "shear")}
        stored |= {f"t1_fields/{n}": file[f"t1_fields/{n}"][()] for n in ("velocity", "wind")}
        stress = file["t2_fields/stress"][()].astype(np.float32)
    stored = {name: values.astype(np.float32) for name, values in stored.items()}
    equal = np.testing.assert_array_equal
    everywhere = (FRAMES, NY, NX)
    equal(channel(field, "speed_of_sound"), stored["t0_fields/Speed of sound"][1].swapaxes(1, 2))
    equal(channel(field, "mask"), np.broadcast_to(stored["t0_fields/mask"].T, everywhere))
    shear = stored["t0_fields/shear"][1].swapaxes(1, 2)
    equal(channel(field, "shear"), np.broadcast_to(shear, everywhere))
    equal(channel(field, "velocity_y"), stored["t1_fields/velocity"][1, ..., 1].swapaxes(1, 2))
    wind = stored["t1_fields/wind"][:, None, :, 0]
    equal(channel(field, "wind_x"), np.broadcast_to(wind, everywhere))
    equal(channel(field, "stress_xy"), stress[1, ..., 0, 1].swapaxes(1, 2))
    static = [variable.name for variable in field.spec.variables if variable.static]
    assert static == ["mask"]


def test_parameters_are_numbers_by_sample(well, caplog):
    fields = open_fields(well)
    assert [t.parameters for t in fields.trajectories] == [
        {"Re": 100.0, "Pr": 0.7},
        {"Re": 100.0, "Pr": 7.0},
    ]
    assert "kind is not a constant number" in caplog.text


def test_the_mask_says_which_side_a_boundary_is_at(well):
    known = open_fields(well).trajectories[0]
    assert known.boundaries[1] == (Boundary.WALL, Boundary.OPEN)
    assert known.boundaries[2] == (Boundary.PERIODIC, Boundary.PERIODIC)


def test_the_split_is_that_of_the_folder(well):
    trajectory = open_fields(well).trajectories[1]
    assert (trajectory.split, trajectory.name) == ("valid", "valid/a.hdf5#0001")


def test_swapped_axes_name_the_field(well):
    with h5py.File(well, "a") as file:
        file.move("t1_fields/velocity", "old")
        file["t1_fields/velocity"] = file["old"][()].swapaxes(2, 3)
        flags(file["t1_fields/velocity"])
    with pytest.raises(ShapeError, match=r"velocity has shape \(2, 4, 3, 5, 2\), expected"):
        open_reader(well)


def test_an_unknown_boundary_and_a_missing_attribute_are_named(well):
    with h5py.File(well, "a") as file:
        file["boundary_conditions/low"].attrs["bc_type"] = "sponge"
    with pytest.raises(DataError, match=r"low has bc_type SPONGE, expected PERIODIC, WALL, OPEN"):
        open_reader(well)
    with h5py.File(well, "a") as file:
        del file["t0_fields/mask"].attrs["time_varying"]
    with pytest.raises(DataError, match="mask lacks attribute time_varying"):
        open_reader(well)


def test_real_files_are_the_abc_flow(shared):
    """The flow decays as exp(-nu t) and is an eigenfunction of the curl, so it satisfies
    Δu = -u: six-point differences at 16 points leave the factor 2 (1 - cos h) / h²."""
    fields = open_fields(shared / "the_well")
    assert [t.split for t in fields.trajectories] == ["test", "train", "train", "valid"]
    assert fields.spec.ndim == 3
    velocity = fields[1].values[0, 1:]
    spacing = fields.trajectories[1].grid.spacing[0]
    laplacian = sum(velocity.roll(s, a) for s in (-1, 1) for a in (1, 2, 3)) - 6 * velocity
    factor = 2 * (1 - np.cos(spacing))
    np.testing.assert_allclose(laplacian, -factor * velocity, atol=1e-4)
    # u = A sin z + C cos y: the first component does not vary along x.
    assert velocity[0].diff(dim=2).abs().max() < 1e-5


def test_an_obstacle_is_a_static_variable(well):
    with h5py.File(well, "a") as file:
        condition = file.create_group("boundary_conditions/Maze wall")
        condition.attrs.update({"bc_type": "WALL", "associated_dims": ["x", "y"]})
        condition["mask"] = np.arange(NX * NY).reshape(NX, NY) % 2 == 0
        stored = condition["mask"][()]
    field = open_fields(well)[0]
    variable = field.spec.variables[-1]
    assert (variable.name, variable.static) == ("maze_wall_mask", True)
    np.testing.assert_array_equal(channel(field, "maze_wall_mask")[2], stored.T)


def test_statistics_beside_the_data_are_compared_with_it(well):
    """Uniform random numbers have mean 1/2 and standard deviation 0.29."""
    stats = well.parents[2] / "stats.yaml"
    stats.write_text(
        "mean: {mask: 0.5, velocity: [0.5, 0.5], shear: 99.0}\n"
        "std: {mask: 0.3, velocity: [0.3, 30.0], shear: 0.3}\n"
    )
    notices = [n for n in inspect([well]).systems[0].notices if "stats.yaml" in n]
    assert [notice.split()[0] for notice in notices] == ["shear", "velocity_y"]
    stats.write_text("mean: [!!python/object:os.system {}]")
    assert not [n for n in inspect([well]).systems[0].notices if "stats.yaml states" in n]


def test_a_real_set_in_three_dimensions_fits_its_stated_statistics(shared):
    system = inspect([shared / "the_well"]).systems[0]
    assert not [notice for notice in system.notices if "stats.yaml" in notice]


def test_what_of_a_file_is_not_read_is_said(well, caplog):
    """Scalars that are no parameters, positions of other samples, a mask away from the sides, and
    one that is of some fields."""
    with h5py.File(well, "a") as file:
        del file["dimensions/x"]
        file["dimensions/x"] = np.arange(NX) + np.arange(SAMPLES)[:, None]
        file["boundary_conditions/low/mask"][1] = True
        file["boundary_conditions/low"].attrs["associated_fields"] = ["velocity"]
    caplog.set_level("INFO", "matey")
    open_reader(well)
    assert "scalars energy are no simulation_parameters; left out" in caplog.text
    assert "dimensions/x differs between samples" in caplog.text
    assert "boundary condition low is kept only at the ends of its axis" in caplog.text
    assert "condition low is kept for all variables, and not for velocity alone" in caplog.text
    assert caplog.text.count("for all variables") == 1
