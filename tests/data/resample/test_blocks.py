"""Outputs of AMR programs, put on one grid: values, integrals, times, sides."""

import h5py
import numpy as np
import pytest
import torch

import matey
from matey.data.resample.blocks import average
from matey.data.resample.frames import Target
from matey.data.resample.grid import parse_grid, target_of
from matey.data.resample.programs import program_of
from matey.data.resample.run import Choices, resample
from matey.errors import DataError
from matey.fields import Boundary
from tests.refined import RUBBISH, WRITERS, finest, leaves, means, write_flash, write_parthenon

ROUNDING = 1e-13  # of a mean: sums of hundreds of terms near 1 in float64
PROGRAMS = list(WRITERS)
GRIDS = [(8, 16), (4, 8), (5, 7), (16, 40), (1, 3)]


def put(path, grid, domain=None):
    """All variables of a file's first frame on a grid [C ...], and the grid."""
    frame = program_of(path).frames(path)[0]
    target = target_of(frame, grid, domain)
    return frame, target, frame.onto(list(frame.units), target)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("grid", GRIDS)
def test_each_cell_has_the_mean_of_what_lies_in_it(program, grid, tmp_path):
    path = WRITERS[program](tmp_path / "out_0001")
    frame, target, values = put(path, grid)
    assert program_of(path).name == program
    assert frame.axes == ("y", "x")
    exact = means(finest(leaves(2)), list(target.edges))
    np.testing.assert_allclose(values, exact, rtol=ROUNDING)


@pytest.mark.parametrize("program", PROGRAMS)
def test_integrals_are_kept(program, tmp_path):
    _, target, values = put(WRITERS[program](tmp_path / "out_0001"), (5, 7))
    area = np.diff(target.edges[0])[:, None] * np.diff(target.edges[1])
    stored = finest(leaves(2)).sum(axis=(1, 2)) / 64  # cells of an eighth along each axis
    np.testing.assert_allclose((values * area).sum(axis=(1, 2)), stored, rtol=ROUNDING)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(("ndim", "grid"), [(1, (7,)), (3, (3, 5, 7)), (3, (1, 8, 16))])
def test_one_and_three_dimensions_are_read_too(program, ndim, grid, tmp_path):
    frame, target, values = put(WRITERS[program](tmp_path / "out_0001", ndim), grid)
    assert frame.axes == ("z", "y", "x")[3 - ndim :]
    exact = means(finest(leaves(ndim)), list(target.edges))
    np.testing.assert_allclose(values, exact, rtol=ROUNDING)


def test_ghost_cells_are_left_out(tmp_path):
    _, target, values = put(write_parthenon(tmp_path / "a.phdf", ghosts=2), (8, 16))
    np.testing.assert_allclose(values, means(finest(leaves(2)), list(target.edges)), rtol=ROUNDING)


def test_older_files_of_parthenon_have_components_last(tmp_path):
    path = write_parthenon(tmp_path / "a.phdf")
    with h5py.File(path, "r+") as file:
        values = np.moveaxis(file["prim"][()], 1, -1)
        del file["prim"]
        file["prim"] = values
        file["Info"].attrs["OutputFormatVersion"] = 2
    _, target, values = put(path, (8, 16))
    np.testing.assert_allclose(values, means(finest(leaves(2)), list(target.edges)), rtol=ROUNDING)


def test_cells_of_chombo_may_be_longer_along_one_axis(tmp_path):
    path = WRITERS["Chombo"](tmp_path / "a.hdf5")
    with h5py.File(path, "r+") as file:
        for n in (0, 1):
            about = file[f"level_{n}"].attrs
            size = (about["dx"], 3 * about["dx"])
            about["vec_dx"] = np.array(size, [("x", "f8"), ("y", "f8")])
    frame, target, values = put(path, (5, 7))
    assert frame.extent == ((0.0, 3.0), (0.0, 2.0))
    exact = means(finest(leaves(2)), [target.edges[0] / 3, target.edges[1]])
    np.testing.assert_allclose(values, exact, rtol=ROUNDING)


def test_a_part_of_the_domain_may_be_taken(tmp_path):
    path = write_flash(tmp_path / "a_hdf5_plt_cnt_0001")
    _, target, values = put(path, (4, 6), [(0.25, 0.75), (0.3, 1.7)])
    assert target.edges[0][[0, -1]].tolist() == [0.25, 0.75]
    np.testing.assert_allclose(values, means(finest(leaves(2)), list(target.edges)), rtol=ROUNDING)


def test_where_no_block_is_there_is_no_field(tmp_path):
    _, _, values = put(write_flash(tmp_path / "a"), (4, 8), [(0.0, 1.0), (1.0, 3.0)])
    assert np.isfinite(values[:, :, :4]).all()
    assert np.isnan(values[:, :, 4:]).all()
    assert np.isnan(average([], 2, Target((np.zeros(1),), (np.array([0.0, 1.0]),)))).all()


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_series_becomes_a_trajectory_in_order_of_time(program, tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    for n in (9, 7, 10, 8):
        WRITERS[program](runs / f"out_{n}.h5", time=0.5 * n, seed=n)
    (file,) = resample([runs], tmp_path / "new", Choices((4, 8)))
    assert file == tmp_path / "new/data/all/out.hdf5"
    (field,) = matey.open(
        tmp_path / "new",
    )
    assert field.times.tolist() == [3.5, 4.0, 4.5, 5.0]
    assert [v.name for v in field.spec.variables] == ["density", "velocity_x", "velocity_y"]
    edges = [np.linspace(0, 1, 5), np.linspace(0, 2, 9)]
    for frame, seed in zip(field.values, (7, 8, 9, 10), strict=True):
        exact = means(finest(leaves(2, seed)), edges)
        np.testing.assert_allclose(frame[:, 0].numpy(), exact, rtol=1e-6)  # stored in float32
    assert torch.equal(field.grid.coordinate(2), torch.arange(8, dtype=torch.float64) / 4 + 0.125)


@pytest.mark.parametrize("program", ["FLASH", "Parthenon (AthenaPK)"])
def test_sides_and_parameters_are_those_of_the_file(program, tmp_path):
    WRITERS[program](tmp_path / "out_1.h5", time=1.0)
    WRITERS[program](tmp_path / "out_2.h5", time=2.0, seed=1)
    name = "gamma" if program == "FLASH" else "hydro/gamma"
    choices = Choices((4, 8), parameters=[name])
    resample([tmp_path / "out_*.h5"], tmp_path / "new", choices)
    (field,) = matey.open(tmp_path / "new")
    assert field.boundaries[1] == (Boundary.WALL, Boundary.OPEN)
    assert field.boundaries[2] == (Boundary.PERIODIC, Boundary.PERIODIC)
    assert field.parameters == {name: 1.4}


def test_units_and_names_of_openpmd_are_kept(tmp_path):
    for n in (1, 2):
        WRITERS["openPMD"](tmp_path / f"out_{n}.h5", time=n, seed=n)
    resample([tmp_path / "out_*.h5"], tmp_path / "new", Choices((4, 8)))
    (field,) = matey.open(tmp_path / "new")
    told = [(v.name, v.alias, v.units) for v in field.spec.variables]
    assert told == [
        ("density", "rho", "m-3 kg"),
        ("velocity_x", "v_x", "m s-1"),
        ("velocity_y", "v_y", "m s-1"),
    ]


def test_a_finer_level_whose_gaps_cannot_be_told_is_refused(tmp_path):
    path = WRITERS["openPMD"](tmp_path / "out_1.h5")
    with h5py.File(path, "r+") as file:
        meshes = file["data/10/meshes"]
        about = dict(meshes["rho_lvl1_0"].attrs)
        for n in range(4):
            del meshes[f"rho_lvl1_{n}"]
        level = meshes.create_dataset("rho_lvl1", (8, 16), "f8", fillvalue=0.0)
        level[:4, :4] = 3.0
        level.attrs.update({**about, "gridGlobalOffset": [0.0, 0.0]})
    with pytest.raises(DataError, match=r"rho of level 1 is 0\.0 .* as a mesh of its own"):
        put(path, (4, 8))


def test_a_finer_level_in_chunks_counts_where_these_were_written(tmp_path):
    path = WRITERS["openPMD"](tmp_path / "out_1.h5")
    blocks = leaves(2)
    with h5py.File(path, "r+") as file:
        meshes = file["data/10/meshes"]
        about = dict(meshes["rho_lvl1_0"].attrs)
        for n in range(4):
            del meshes[f"rho_lvl1_{n}"]
        level = meshes.create_dataset("rho_lvl1", (8, 16), "f8", chunks=(4, 4))
        for block in blocks[:4]:
            y, x = (round(at * 8) for at in block.low)
            level[y : y + 4, x : x + 4] = block.values[0] / 2
        level.attrs.update({**about, "gridGlobalOffset": [0.0, 0.0]})
    _, target, values = put(path, (8, 16))
    np.testing.assert_allclose(values, means(finest(blocks), list(target.edges)), rtol=ROUNDING)


def test_a_grid_may_be_that_of_another_file(tmp_path):
    import xarray

    x = np.array([0.1, 0.2, 0.5, 1.0, 1.6])
    dataset = xarray.Dataset(
        {"u": (("time", "y", "x"), np.random.default_rng(0).random((3, 4, 5), np.float32))},
        {"time": [0.0, 1.0, 2.0], "y": [0.1, 0.3, 0.5, 0.7], "x": x},
    )
    dataset.to_netcdf(tmp_path / "stretched.nc")
    for n in (1, 2):
        write_flash(tmp_path / f"out_{n}", time=n, seed=n)
    grid = parse_grid(str(tmp_path / "stretched.nc"))
    resample([tmp_path / "out_?"], tmp_path / "new", Choices(grid))
    (field,) = matey.open(tmp_path / "new")
    assert field.grid.coordinate(2).tolist() == x.tolist()
    edges = [grid.cell_edges(axis).numpy() for axis in (1, 2)]
    exact = means(finest(leaves(2, 1)), edges)
    np.testing.assert_allclose(field.values[0, :, 0].numpy(), exact, rtol=1e-6)  # float32


def test_runs_in_folders_of_their_own_are_trajectories_of_one_system(tmp_path):
    for run in (1, 2):
        folder = tmp_path / f"runs/run{run}"
        folder.mkdir(parents=True)
        for n in (0, 1):
            write_flash(folder / f"sod_hdf5_plt_cnt_000{n}", time=n, seed=10 * run + n)
    resample([tmp_path / "runs"], tmp_path / "new", Choices((4, 8)))
    fields = matey.open(tmp_path / "new")
    assert len(fields) == 2
    edges = [np.linspace(0, 1, 5), np.linspace(0, 2, 9)]
    for field, seed in zip(fields, (11, 21), strict=True):
        exact = means(finest(leaves(2, seed)), edges)
        np.testing.assert_allclose(field.values[1, :, 0].numpy(), exact, rtol=1e-6)  # float32


def test_an_axis_of_one_point_is_left_out(tmp_path):
    for n in (1, 2):
        write_flash(tmp_path / f"out_{n}", 3, time=n, seed=n)
    resample([tmp_path / "out_?"], tmp_path / "new", Choices((4, 1, 8)))
    (field,) = matey.open(tmp_path / "new")
    assert field.grid.axes == ("z", "x")
    assert [(v.name, v.alias) for v in field.spec.variables] == [
        ("density", "dens"),
        ("velocity_x", "velx"),
        ("velocity_z", "vely"),  # across the section, whose vertical component is velocity_y
    ]


@pytest.mark.parametrize(
    ("change", "words", "complaint"),
    [
        ("", {"grid": (4, 8, 8)}, r"has the axes y, x: the grid takes 2 numbers of points"),
        ("", {"variables": ["denz"]}, r"no variable 'denz'\. Did you mean 'dens'\?"),
        ("", {"parameters": ["gama"]}, r"tells no parameter 'gama'\. Did you mean 'gamma'\?"),
        ("", {"domain": [(5.0, 6.0), (5.0, 6.0)]}, r"no point of the grid holds a value"),
        ("time", {}, r"out_1 and .*out_2 are both at time 1"),
        ("box", {}, r"out_2: x extends over 0 to 3, in .*out_1 over 0 to 2\. Say .* --domain"),
        ("name", {}, r"out_2 lacks velx of .*out_1\. Choose"),
        ("data", {}, r"out_2: dens is infinite"),
        ("leaf", {}, r"out_2.*holds no leaf block"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(change, words, complaint, tmp_path):
    for n in (1, 2):
        write_flash(tmp_path / f"out_{n}", time=n, seed=n)
    with h5py.File(tmp_path / "out_2", "r+") as file:
        if change == "time":
            scalars = file["real scalars"][()]
            scalars["value"][0] = 1.0
            file["real scalars"][()] = scalars
        elif change == "box":
            file["bounding box"][-1, 0, 1] = 3.0
        elif change == "name":
            file["unknown names"][1] = b"magx"
            file["magx"] = file["velx"][()]
        elif change == "data":
            file["dens"][-1] = 1e300
        elif change == "leaf":
            file["node type"][:] = 2
    with pytest.raises(DataError, match=complaint) as caught:
        resample([tmp_path / "out_?"], tmp_path / "new", Choices(**{"grid": (4, 8)} | words))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_file_that_is_cut_short_is_called_that(tmp_path):
    path = write_flash(tmp_path / "out_1")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match="out_1 is cut short"):
        resample([path], tmp_path / "new", Choices((4, 8)))


def test_what_is_on_one_grid_already_is_told_apart(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 4)))
    with pytest.raises(DataError, match="holds no blocks of several sizes"):
        resample([tmp_path / "a.npy"], tmp_path / "new", Choices((4, 8)))
    assert program_of(tmp_path / "a.npy") is None
    assert RUBBISH > 1
