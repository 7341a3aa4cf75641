"""miniWeather: the background, its choice, and z along Y."""

import netCDF4
import numpy as np
import pytest
import torch

from matey import open as open_fields
from matey.config import SourceConfig
from matey.data.formats.netcdf3 import expected_size
from matey.data.layouts.miniweather import hydrostatic
from matey.data.reader import open_reader
from matey.data.trajectories import open_source
from matey.data.write import write_field
from matey.errors import DataError, ShapeError
from matey.fields import Boundary


@pytest.fixture
def run(tmp_path):
    """A run as upstream writes it: CDF-1, float64, no background."""
    path = tmp_path / "output.nc"
    random = np.random.default_rng(0)
    with netCDF4.Dataset(path, "w", format="NETCDF3_CLASSIC") as file:
        file.createDimension("t", None)
        file.createDimension("x", 8)
        file.createDimension("z", 6)
        file.createVariable("t", "f8", ("t",))[:] = [0.0, 20.31, 40.10, 60.2]
        for name in ("dens", "uwnd", "wwnd", "theta"):
            file.createVariable(name, "f8", ("t", "z", "x"))[:] = random.normal(size=(4, 6, 8))
    return path


def source(path, thermodynamics):
    return open_source(SourceConfig("thermals", (str(path),), thermodynamics=thermodynamics))


def test_the_background_is_in_hydrostatic_balance():
    """dp/dz = -g rho, with p from rho and theta by the equation of state. Second-order
    differences at 1000 cells leave 1e-6."""
    column = hydrostatic(1000)
    pressure = 27.5629410929725921 * (column.density * 300) ** 1.40027894002789401
    gradient = (pressure[2:] - pressure[:-2]) / (2 * 10.0)
    np.testing.assert_allclose(gradient, -9.8 * column.density[1:-1], rtol=2e-6)


def test_the_computed_background_is_that_of_the_file(shared):
    """To the rounding of float64."""
    for name in ("raw/output_with_hy_64x32.nc", "thermals/thermals_000.nc"):
        with netCDF4.Dataset(shared / "miniweather" / name) as file:
            stored = file["hy_dens"][:].data
            np.testing.assert_allclose(hydrostatic(len(stored)).density, stored, rtol=1e-13)
            np.testing.assert_allclose(file["hy_theta"][:], 300, rtol=1e-13)


def test_fields_are_full_by_default_and_perturbations_on_request(run):
    with netCDF4.Dataset(run) as file:
        dens, wwnd = file["dens"][:].data, file["wwnd"][:].data
    full, part = source(run, "full")[0], source(run, "perturbation")[0]
    expected = (dens + hydrostatic(6).density[:, None]).astype(np.float32)
    np.testing.assert_array_equal(full.values[:, 0, 0].numpy(), expected)
    np.testing.assert_array_equal(part.values[:, 0, 0].numpy(), dens.astype(np.float32))
    np.testing.assert_array_equal(full.values[:, 2, 0].numpy(), wwnd.astype(np.float32))
    assert [v.name for v in full.spec.variables] == [
        "density",
        "velocity_x",
        "velocity_y",
        "potential_temperature",
    ]
    assert part.spec.variables[0].name == "density_perturbation"


def test_the_grid_is_a_vertical_section_between_ground_and_lid(run):
    field = open_fields(run)[0]
    assert field.grid.axes == ("z", "x")
    assert field.grid.spacing == (1.0, pytest.approx(10_000 / 6), 2500.0)
    assert field.boundaries[1] == (Boundary.WALL, Boundary.WALL)
    assert field.boundaries[2] == (Boundary.PERIODIC, Boundary.PERIODIC)
    assert field.spec.dt == pytest.approx(20.1)  # steps 20.31, 19.79, 20.1


@pytest.mark.parametrize("written", ["full", "perturbation"])
@pytest.mark.parametrize("asked", ["full", "perturbation"])
def test_a_written_prediction_is_not_given_its_background_twice(run, tmp_path, written, asked):
    """To float32 rounding of 300 K."""
    write_field(source(run, written)[0], tmp_path / "p.nc", provenance={"checkpoint": "a"})
    again, expected = source(tmp_path / "p.nc", asked)[0], source(run, asked)[0]
    torch.testing.assert_close(again.values, expected.values, rtol=0, atol=4e-5)
    assert again.spec == expected.spec
    assert again.grid.spacing == pytest.approx(expected.grid.spacing, rel=1e-12)
    with netCDF4.Dataset(tmp_path / "p.nc") as file:
        assert (file["theta"].units, file.checkpoint) == ("K", "a")


def test_real_thermals_are_warm_where_they_rise(shared):
    """Air 1 K above the background moves up on average, which only holds with z upward."""
    field = open_fields(shared / "miniweather" / "thermals")[0]
    rising, warmth = field.values[4:8, 2], field.values[4:8, 3] - 300
    assert rising[warmth > 1].mean() > 1.0
    assert rising[warmth < -1].mean() < -1.0


def test_files_with_and_without_background_are_equal(shared):
    fields = open_fields(shared / "miniweather" / "raw")
    torch.testing.assert_close(fields[0].values, fields[1].values, rtol=1e-7, atol=0)


def test_a_truncated_run_is_named_with_both_sizes(run):
    content = run.read_bytes()
    run.write_bytes(content[:-1])
    with pytest.raises(DataError, match=rf"{len(content) - 1} bytes, expected {len(content)}"):
        open_reader(run)
    run.write_bytes(content[:100])
    with pytest.raises(DataError, match=r"output\.nc \(100 bytes\) is damaged NetCDF"):
        open_reader(run)


@pytest.mark.parametrize(
    "version", ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"]
)
@pytest.mark.parametrize("records", [1, 3])
@pytest.mark.parametrize("types", [("f8",), ("i2", "f8"), ("i1", "i2", "f4")])
def test_the_expected_size_is_that_of_a_whole_file(tmp_path, version, records, types):
    """A library may pad the last variable to 4 bytes, no more."""
    path = tmp_path / "a.nc"
    with netCDF4.Dataset(path, "w", format=version) as file:
        file.title = "odd"
        file.createDimension("t", None)
        file.createDimension("x", 3)
        file.createVariable("fixed", "i2", ("x",))[:] = 1
        for kind in types:
            variable = file.createVariable(f"v_{kind}", kind, ("t", "x"))
            variable.units = "m"
            variable[:] = np.ones((records, 3))
    with path.open("rb") as file:
        assert 0 <= path.stat().st_size - expected_size(file) < 4


def test_a_missing_variable_and_swapped_axes_are_named(tmp_path):
    for name, dims, variables in (
        ("missing.nc", ("t", "z", "x"), ("dens", "uwnd", "theta")),
        ("swapped.nc", ("t", "x", "z"), ("dens", "uwnd", "wwnd", "theta")),
    ):
        with netCDF4.Dataset(tmp_path / name, "w") as file:
            for dim, size in (("t", 3), ("z", 4), ("x", 5)):
                file.createDimension(dim, size)
            file.createVariable("t", "f8", ("t",))[:] = [0.0, 1.0, 2.0]
            for variable in variables:
                file.createVariable(variable, "f4", dims)[:] = 0
    with pytest.raises(DataError, match=r"wwnd missing. Required: t, dens"):
        open_reader(tmp_path / "missing.nc")
    with pytest.raises(ShapeError, match=r"expected \(t, z, x\)"):
        open_reader(tmp_path / "swapped.nc")


def test_a_value_never_written_is_refused(run):
    with netCDF4.Dataset(run, "a") as file:
        file["theta"][2, 1, 3] = np.ma.masked
    with pytest.raises(DataError, match=r"theta .* is nan at time 40\.1, index \(0, 1, 3\)"):
        open_reader(run).read(0)
