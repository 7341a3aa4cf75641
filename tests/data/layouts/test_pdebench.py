"""PDEBench's files: canonical variables, and x along X."""

import h5py
import numpy as np
import pytest
import torch

from matey import open as open_fields
from matey.config import SourceConfig
from matey.data.reader import open_reader
from matey.data.trajectories import open_source
from matey.errors import DataError
from matey.fields import Boundary, Variable


def slope(values, axis):
    """Central difference along Z, Y or X over two points."""
    return torch.roll(values, -1, axis - 3) - torch.roll(values, 1, axis - 3)


def test_compressible_values_are_transposed_to_y_x(tmp_path, make_compressible):
    path = make_compressible(tmp_path / "a.hdf5")
    field = open_fields(path)[1]
    with h5py.File(path) as file:
        for channel, name in enumerate(("density", "pressure", "Vx", "Vy")):
            stored = file[name][1].swapaxes(1, 2)
            np.testing.assert_array_equal(field.values[:, channel, 0].numpy(), stored)
    assert field.grid.shape == (1, 3, 4)
    assert field.parameters == {"eta": 0.01, "zeta": 0.02, "M": 0.1}
    assert len(field) == 6  # of 7 entries of t-coordinate
    assert field.spec.dt == 0.05


def test_steady_solutions_are_refused_and_not_taken_for_frames(tmp_path):
    with h5py.File(tmp_path / "2D_DarcyFlow_beta1.0_Train.hdf5", "w") as file:
        file["tensor"], file["nu"] = np.zeros((5, 1, 8, 8)), np.ones((5, 8, 8))
        file["x-coordinate"] = file["y-coordinate"] = np.arange(8.0)
    with pytest.raises(DataError, match="holds 5 steady solutions of Darcy flow"):
        open_reader(tmp_path / "2D_DarcyFlow_beta1.0_Train.hdf5")


def test_shallow_water_is_transposed_and_open(tmp_path, make_shallow):
    path = make_shallow(tmp_path / "renamed.h5")
    field = open_fields(path)[1]
    with h5py.File(path) as file:
        stored = file["0001/data"][..., 0].swapaxes(1, 2)
        np.testing.assert_array_equal(field.values[:, 0, 0].numpy(), stored)
    assert field.spec.name == "shallow_water"
    assert field.spec.variables == (Variable("height"),)
    assert field.parameters == {"gravity": 1.0}
    assert field.boundaries[1] == field.boundaries[2] == (Boundary.OPEN, Boundary.OPEN)


def test_parameters_come_from_the_name_where_attributes_are_missing(tmp_path, make_compressible):
    path = tmp_path / "2D_CFD_Rand_M0.1_Eta1e-08_Zeta1.e-8_periodic_128_Train.hdf5"
    with h5py.File(make_compressible(path), "a") as file:
        for name in ("eta", "zeta", "M"):
            del file.attrs[name]
    reader = open_reader(path)
    assert reader.trajectories[0].parameters == {"eta": 1e-8, "zeta": 1e-8, "M": 0.1}


def test_steps_beyond_a_tenth_are_refused_unless_allowed(tmp_path, make_compressible, caplog):
    caplog.set_level("INFO")
    path = make_compressible(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file["t-coordinate"][-2:] = [0.254, 0.3]
    assert open_reader(path).spec.dt == 0.05
    assert "vary by up to 8.0%; counted as uniform" in caplog.text
    with h5py.File(path, "a") as file:
        file["t-coordinate"][-2:] = [0.29, 0.3]
    with pytest.raises(DataError, match=r"by up to 80%. Set `uneven: allow`"):
        open_reader(path)
    allowed = SourceConfig("flow", (str(path),), uneven="allow")
    assert open_source(allowed)[0].times[-1].item() == pytest.approx(0.29)


def test_times_that_do_not_increase_are_refused(tmp_path, make_compressible):
    path = make_compressible(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file["t-coordinate"][3] = 0.1
    with pytest.raises(DataError, match=r"times do not increase.*drop_duplicates"):
        open_reader(path)


def test_frames_that_were_never_written_are_left_out(tmp_path, caplog):
    with h5py.File(tmp_path / "ns.h5", "w") as file:
        file["velocity"] = np.zeros((1, 5, 4, 4, 2), np.float32)
        file["particles"] = np.zeros((1, 5, 4, 4, 1), np.float32)
        file["force"] = np.zeros((1, 4, 4, 2), np.float32)
        file["t"] = np.array([[0, 1, 2, 0, 0]], np.float32)
        file.attrs["latestIndex"] = 2
        file.attrs["config"] = "NU: 0.01\nseed: 7"
    reader = open_reader(tmp_path / "ns.h5")
    assert reader.read(0).values.shape == (3, 5, 1, 4, 4)
    assert reader.trajectories[0].parameters == {"NU": 0.01}
    assert "only 3 of 5 frames" in caplog.text


@pytest.mark.parametrize(
    ("folder", "system", "variables", "parameters", "count", "points", "dt"),
    [
        ("diffre2d", "diffusion_reaction", 2, {"Du", "Dv", "k"}, 18, 64, 0.2),
        ("swe", "shallow_water", 1, {"gravity"}, 36, 128, 0.04),
        ("incompNS", "incompressible", 5, {"NU"}, 12, 64, 0.05),
        ("compNS", "compressible", 4, {"eta", "zeta", "M"}, 18, 64, 0.05),
    ],
)
def test_real_files_are_what_their_readme_says(
    shared, folder, system, variables, parameters, count, points, dt
):
    fields = open_fields(shared / "pdebench" / folder)
    assert (fields.spec.name, len(fields), fields.spec.dt) == (system, count, dt)
    assert set(fields.spec.parameters) == parameters
    part = fields.read(count - 1, slice(2, 4))
    assert part.values.shape == (2, variables, 1, points, points)


def test_a_real_incompressible_flow_has_no_divergence_as_read(shared):
    """Divergence by central differences is a truncation error; with x and y exchanged it is
    of the size of the velocity gradient itself."""
    fields = open_fields(shared / "pdebench" / "incompNS")
    velocity = fields.read(0, slice(10, 20)).values[..., 2:-2, 2:-2]
    vx, vy = velocity[:, 0], velocity[:, 1]
    inside = (..., slice(1, -1), slice(1, -1))
    right = (slope(vx, 2) + slope(vy, 1))[inside].square().mean()
    swapped = (slope(vx, 1) + slope(vy, 2))[inside].square().mean()
    assert right < 0.05 * swapped


def test_a_real_compressible_flow_conserves_mass_as_read(shared):
    """∂ρ/∂t + ∇·(ρv) is small beside its terms only with x along X."""
    fields = open_fields(shared / "pdebench" / "compNS")
    field = fields.read(0, slice(0, 21))
    density, vx, vy = (field.values[:, i] for i in (0, 2, 3))
    spacing = 2 * field.grid.spacing[2]
    change = (density[2:] - density[:-2]) / (2 * field.spec.dt)

    def residual(along_x, along_y):
        flux = (slope(density * along_x, 2) + slope(density * along_y, 1)) / spacing
        return (change + flux[1:-1]).square().mean()

    assert residual(vx, vy) < 0.5 * residual(vy, vx)
    total = density.mean((1, 2, 3))
    torch.testing.assert_close(total, total[:1].expand_as(total), rtol=1e-4, atol=0)


def line(path, name, attributes, axes=(3, 6, 8)):
    """A file of one-dimensional arrays [n, t, x] with a time more than frames."""
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes)
        for i, dataset in enumerate(name):
            file[dataset] = random.random(axes).astype("f4") + i
        file["x-coordinate"] = (np.arange(axes[2]) + 0.5).astype("f4") / axes[2]
        file["t-coordinate"] = np.arange(axes[1] + 1, dtype="f4") * np.float32(0.01)
    return path


@pytest.mark.parametrize(
    ("name", "attributes", "system", "variable", "parameters"),
    [
        ("1D_Advection_Sols_beta0.4.hdf5", {}, "advection", "tracer", {"beta": 0.4}),
        ("renamed.hdf5", {"beta": 0.1}, "advection", "tracer", {"beta": 0.1}),
        ("1D_Burgers_Sols_Nu0.001.hdf5", {"Nu": 0.001}, "burgers", "velocity_x", {"Nu": 0.001}),
        (
            "ReacDiff_Nu0.5_Rho1.0.hdf5",
            {},
            "reaction_diffusion",
            "concentration",
            {"Nu": 0.5, "rho": 1.0},
        ),
    ],
)
def test_equations_in_one_dimension_are_told_by_attributes_or_name(
    tmp_path, name, attributes, system, variable, parameters
):
    path = line(tmp_path / name, ["tensor"], attributes)
    field = open_fields(path)[1]
    assert (field.spec.name, field.spec.variables[0].name) == (system, variable)
    assert field.parameters == parameters
    assert field.grid.axes == ("x",)
    assert field.boundaries[2] == (Boundary.PERIODIC, Boundary.PERIODIC)
    assert field.spec.dt == 0.01
    with h5py.File(path) as file:
        np.testing.assert_array_equal(field.values[:, 0, 0, 0].numpy(), file["tensor"][1])


def test_an_equation_that_nothing_tells_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"Add the attribute beta \(advection\), Nu \(Burgers\)"):
        open_reader(line(tmp_path / "a.hdf5", ["tensor"], {}))


@pytest.mark.parametrize(
    ("name", "boundary"),
    [
        ("1D_CFD_Rand_Eta1.e-8_Zeta1e-08_periodic_Train.hdf5", Boundary.PERIODIC),
        ("1D_CFD_Shock_Eta1.e-8_Zeta1.e-8_trans_Train.hdf5", Boundary.OPEN),
    ],
)
def test_compressible_flow_in_one_dimension(tmp_path, name, boundary):
    path = line(tmp_path / name, ["density", "pressure", "Vx"], {})
    field = open_fields(path)[2]
    assert [v.name for v in field.spec.variables] == ["density", "pressure", "velocity_x"]
    assert field.parameters == {"eta": 1e-8, "zeta": 1e-8}
    assert field.boundaries[2] == (boundary, boundary)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(field.values[:, 2, 0, 0].numpy(), file["Vx"][2])


def test_diffusion_sorption_is_a_group_per_trajectory(tmp_path):
    with h5py.File(tmp_path / "1D_diff-sorp_NA_NA.h5", "w") as file:
        for key in ("0000", "0001"):
            file[f"{key}/data"] = np.random.default_rng(int(key)).random((5, 8, 1), np.float32)
            file[f"{key}/grid/x"], file[f"{key}/grid/t"] = np.arange(8.0), np.arange(5.0)
        stored = file["0001/data"][..., 0]
    field = open_fields(tmp_path / "1D_diff-sorp_NA_NA.h5")[1]
    assert field.spec.name == "diffusion_sorption"
    np.testing.assert_array_equal(field.values[:, 0, 0, 0].numpy(), stored)


def test_a_real_line_is_advected_to_the_right_at_its_speed(shared):
    """u(x, t) = u(x - beta t): after 5 time units of 1 / beta / 256 the same, shifted by points."""
    folder = shared / "pdebench" / "format_fixtures"
    field = open_fields(folder / "1D_Advection_Sols_beta0.4.hdf5")[0]
    values, speed = field.values[:, 0, 0, 0].double(), field.parameters["beta"]
    length = field.grid.spacing[2] * field.grid.shape[2]
    wave = torch.fft.rfft(values[0])
    number = torch.arange(len(wave)) * 2 * torch.pi / length
    for frame in (1, 20, 40):
        moved = torch.fft.irfft(wave * torch.exp(-1j * number * speed * field.times[frame]), n=256)
        torch.testing.assert_close(values[frame], moved, rtol=0, atol=1e-4)  # float32 x and t


def test_a_real_vortex_in_three_dimensions_has_x_along_x(shared):
    """It drifts with 0.5 along x and 0.25 along y, so that momentum balances: the density moves
    less in a frame that moves with it than in one that moves the other way round."""
    folder = shared / "pdebench" / "format_fixtures"
    name = "3D_CFD_ExactVortex_M1.0_Eta1e-08_Zeta1e-08_periodic_Train.hdf5"
    field = open_fields(folder / name)[0]
    assert field.grid.shape == (16, 16, 16)
    density, spacing = field.values[:, 0].double(), field.grid.spacing[2]
    spectrum = torch.fft.fftn(density[0])
    number = torch.fft.fftfreq(16, spacing, dtype=torch.float64) * 2 * torch.pi

    def error(along_x, along_y):
        phase = along_x * number[None, None, :] + along_y * number[None, :, None]
        moved = torch.fft.ifftn(spectrum * torch.exp(-1j * phase * field.times[-1])).real
        return (moved - density[-1]).square().mean()

    assert error(0.5, 0.25) < 0.05 * error(0.25, 0.5)
