"""`matey data resample`, and what other commands say of such files."""

import numpy as np
import pytest
import xarray

import matey
from matey.cli import main
from matey.config import ArrayConfig, LayoutConfig, SourceConfig
from matey.data.inspect import inspect
from matey.data.resample import vtk_files
from matey.data.resample.grid import parse_domain, parse_grid, parse_sides
from matey.data.resample.names import variables
from matey.data.resample.run import find_runs
from matey.data.resample.series import series_of
from matey.data.trajectories import open_source
from matey.errors import ConfigError, DataError
from matey.fields import Boundary
from tests.meshes import plane, write_exodus, write_vtk
from tests.refined import WRITERS, write_flash

DESCRIBED = LayoutConfig(("time", "y", "x"), (ArrayConfig("T", ("temperature",)),))


def test_a_run_of_outputs_is_put_on_a_grid_and_read_by_every_command(tmp_path, capsys):
    for n in range(6):
        write_flash(tmp_path / f"out/sod_hdf5_plt_cnt_000{n}", time=0.1 * n, seed=n)
    words = f"data resample {tmp_path}/out {tmp_path}/new --grid 8x16 --parameters gamma --sides"
    assert main([*words.split(), "wall-open,periodic", "--variables", "dens", "velocity_x"]) == 0
    said = capsys.readouterr().out
    assert f"Wrote {tmp_path}/new/data/all/sod_hdf5_plt_cnt.hdf5" in said
    assert f"Next: matey data inspect {tmp_path}/new --write mix.yaml" in said
    (field,) = matey.open(tmp_path / "new")
    assert field.boundaries[1] == (Boundary.WALL, Boundary.OPEN)
    assert [v.name for v in field.spec.variables] == ["density", "velocity_x"]
    assert field.spec.name == "new"
    system = inspect([tmp_path / "new"]).systems[0]
    assert system.frames == {6: 1}
    assert system.shapes == {(8, 16): 1}
    assert system.parameters == {"gamma": (1.4, 1.4)}


@pytest.mark.parametrize("program", list(WRITERS))
def test_inspect_names_the_command(program, tmp_path, capsys):
    for n in (1, 2, 3):
        WRITERS[program](tmp_path / f"out_{n}.h5", time=n)
    assert main(["data", "inspect", str(tmp_path)]) == 1
    (refused,) = [s for s in capsys.readouterr().out.splitlines() if s.startswith("refused")]
    assert f"out_1.h5 and 2 more: blocks of several sizes, written by {program}." in refused
    assert f"`matey data resample {tmp_path} NEW --grid 128x256`" in refused


@pytest.mark.parametrize("kind", ["VTK", "Exodus"])
def test_inspect_names_the_command_for_meshes(kind, tmp_path, capsys):
    path = tmp_path / ("out.vtk" if kind == "VTK" else "out.exo")
    if kind == "VTK":
        write_vtk(path, plane(), {"p": np.zeros(81)})
    else:
        write_exodus(path, plane(), [0.0, 1.0])
    for named in (path, tmp_path):
        assert main(["data", "inspect", str(named)]) == 1
        (refused,) = [s for s in capsys.readouterr().out.splitlines() if s.startswith("refused")]
        assert f"a mesh of cells, written by {kind}. Put them on one grid with" in refused
    with pytest.raises(DataError, match="matey data resample"):
        matey.open(path)


def write_image(path):
    """VTK's XML format of an even grid, without arrays."""
    path.write_text(
        '<?xml version="1.0"?><VTKFile type="ImageData"><ImageData WholeExtent="0 8 0 4 0 0" '
        'Origin="0 0 0" Spacing="1 1 1"></ImageData></VTKFile>'
    )


@pytest.mark.parametrize("layout", [None, DESCRIBED])
def test_a_folder_of_images_names_the_command(layout, tmp_path):
    """Also where a data config describes the files: none can describe VTK's."""
    for n in range(3):
        write_image(tmp_path / f"out_{n}.vti")
    with pytest.raises(DataError, match=r"out_0\.vti and 2 more: .* `matey data resample .* NEW"):
        open_source(SourceConfig("a", (str(tmp_path),), layout=layout))


def test_pieces_are_no_runs_however_many_there_are(tmp_path):
    names = [f"piece_of_a_run_on_many_processes_{n:04d}.vti" for n in range(1000)]
    for name in (names[0], names[-1]):
        write_image(tmp_path / name)
    pieces = "".join(f'<Piece Extent="0 8 0 4 0 0" Source="{name}"/>' for name in names)
    text = f'<VTKFile type="PImageData"><PImageData>{pieces}</PImageData></VTKFile>'
    assert len(text) > vtk_files.HEAD
    (tmp_path / "out.pvti").write_text(text)
    ((run, _),) = find_runs([tmp_path])
    assert [path.name for path, _ in run.files] == ["out.pvti"]


def test_a_collection_without_a_time_is_one_line(tmp_path, capsys):
    write_image(tmp_path / "out_0.vti")
    row = '<DataSet timestep="" part="0" file="out_0.vti"/>'
    text = f'<VTKFile type="Collection"><Collection>{row}</Collection></VTKFile>'
    (tmp_path / "out.pvd").write_text(text)
    assert main(["data", "resample", str(tmp_path), str(tmp_path / "new"), "--grid", "4x4"]) == 2
    error = capsys.readouterr().err
    assert "out.pvd: the timestep of out_0.vti is '', which is no number." in error
    assert error.count("\n") == 1


def test_meshes_beside_fields_are_left_out_with_a_notice(tmp_path, caplog):
    values = np.random.default_rng(0).random((4, 3, 5), np.float32)
    dataset = xarray.Dataset({"u": (("time", "y", "x"), values)}, {"time": np.arange(4.0)})
    dataset.to_netcdf(tmp_path / "run.nc")
    write_vtk(tmp_path / "a.vtk", plane(), {"p": np.zeros(81)})
    assert len(matey.open(tmp_path)) == 1
    assert "Left out: " in caplog.text
    assert "matey data resample" in caplog.text


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, capsys):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(vtk_files, "import_module", missing)
    path = write_vtk(tmp_path / "a.vtk", plane(), {"p": np.zeros(81)})
    assert main(["data", "resample", str(path), str(tmp_path / "new"), "--grid", "4x4"]) == 2
    error = capsys.readouterr().err
    assert "pip install 'matey-pde[mesh]'" in error
    assert error.count("\n") == 1


def test_grids_domains_and_sides_are_read_slowest_axis_first(tmp_path):
    assert parse_grid("128x256") == (128, 256)
    assert parse_domain("-1:1x0:2.5e1") == [(-1.0, 1.0), (0.0, 25.0)]
    assert parse_sides("periodic,wall-open") == [
        (Boundary.PERIODIC, Boundary.PERIODIC),
        (Boundary.WALL, Boundary.OPEN),
    ]


@pytest.mark.parametrize(
    ("parse", "words"),
    [
        (parse_grid, "128y256"),
        (parse_grid, "0x4"),
        (parse_grid, "1x1"),
        (parse_domain, "0:1:2x3:4"),
        (parse_domain, "1:0"),
        (parse_domain, "0x1"),
        (parse_sides, "periodic-wall"),
        (parse_sides, "shut"),
    ],
)
def test_what_makes_no_sense_is_refused(parse, words):
    with pytest.raises(ConfigError, match=words):
        parse(words)


def test_components_are_named_as_fields_have_their_axes():
    names = ["velx", "vely", "velz", "magy", "z-velocity", "prim_velocity_2", "E_z", "eint"]
    flat = [variables([n], [""], axes)[0].name for axes in ("zyx", "zx") for n in names]
    assert flat[:8] == [
        *("velocity_x", "velocity_y", "velocity_z", "magnetic_y"),
        *("velocity_z", "velocity_y", "e_z", "eint"),
    ]
    assert flat[8:] == [
        *("velocity_x", "velocity_z", "velocity_y", "magnetic_z"),
        *("velocity_y", "velocity_z", "e_y", "eint"),
    ]


def test_files_called_alike_but_for_a_number_are_one_run(tmp_path):
    runs = ["run1/plt_0001", "run1/plt_0002", "run2/plt_0001", "run2/plt_0002", "run2/chk_0001"]
    made = series_of([tmp_path / name for name in runs])
    assert [(s.name, [n for _, n in s.files]) for s in made] == [
        ("run1_plt", [1.0, 2.0]),
        ("run2_plt", [1.0, 2.0]),
        ("run2_chk_0001", [None]),
    ]
    folders = [tmp_path / f"{time}/out.vtu" for time in ("0.1", "0.2")]
    (series,) = series_of(folders)
    assert [n for _, n in series.files] == [0.1, 0.2]
