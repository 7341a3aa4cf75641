"""Meshes of cells, put on one grid: linear functions, integrals, holes, times."""

import numpy as np
import pytest

import matey
from matey.data.resample.grid import target_of
from matey.data.resample.overlap import areas
from matey.data.resample.programs import program_of
from matey.data.resample.run import Choices, resample
from matey.errors import DataError
from tests.meshes import Mesh, plane, solid, write_cgns, write_exodus, write_vtk, write_vtu

HEAD = "# vtk DataFile Version 3.0\nsmall\nASCII\nDATASET UNSTRUCTURED_GRID\n"
ROUNDING = 1e-12  # of values near 1 in float64
# VTK looks for the place in a crooked quadrilateral by Newton's method, until a step is below 1e-4:
# the error left is about the square of that.
NEWTON = 1e-8
SINGLE = 1e-6  # VTK reads the positions of Exodus in single precision
vtk = pytest.importorskip("vtkmodules", reason="needs the extra mesh: VTK")


def linear(points):
    return 1 + 2 * points[..., 0] - 3 * points[..., 1] + 0.5 * points[..., 2]


def centres(target, z=0.3):
    y, x = np.meshgrid(*target.points, indexing="ij")
    return np.stack([x, y, np.full_like(x, z)], axis=-1)


def put(path, grid, domain=None):
    frame = program_of(path).frames(path)[0]
    target = target_of(frame, grid, domain)
    return frame, target, frame.onto(list(frame.units), target)


@pytest.mark.parametrize("write", [write_vtk, write_vtu])
@pytest.mark.parametrize(("quads", "error"), [(False, ROUNDING), (True, NEWTON)])
def test_a_linear_function_at_points_stays_what_it_is(write, quads, error, tmp_path):
    mesh = plane(quads=quads)
    path = write(tmp_path / "out_1.vtu", mesh, {"p": linear(mesh.points)})
    frame, target, values = put(path, (13, 7))
    assert (program_of(path).name, frame.axes) == ("VTK", ("y", "x"))
    np.testing.assert_allclose(values[0], linear(centres(target)), rtol=0, atol=error)


def test_a_linear_function_in_space_stays_what_it_is(tmp_path):
    mesh = solid()
    path = write_vtk(tmp_path / "out_1.vtk", mesh, {"p": linear(mesh.points)})
    frame, target, values = put(path, (4, 5, 6))
    z, y, x = np.meshgrid(*target.points, indexing="ij")
    assert frame.axes == ("z", "y", "x")
    np.testing.assert_allclose(
        values[0], linear(np.stack([x, y, z], axis=-1)), rtol=0, atol=ROUNDING
    )


@pytest.mark.parametrize("grid", [(8, 8), (5, 7), (40, 33), (1, 3)])
def test_integrals_of_what_plane_cells_hold_are_kept(grid, tmp_path):
    mesh = plane()
    stored = 1 + np.random.default_rng(0).random(len(mesh.cells))
    path = write_vtk(tmp_path / "out_1.vtk", mesh, cells={"rho": stored})
    _, target, values = put(path, grid)
    area = np.diff(target.edges[0])[:, None] * np.diff(target.edges[1])
    total = (values[0] * area).sum()
    assert total == pytest.approx((stored * mesh.areas).sum(), rel=ROUNDING)
    assert values.min() >= stored.min()
    assert values.max() <= stored.max()


def test_each_cell_of_the_grid_has_the_mean_of_what_lies_in_it(tmp_path):
    points = np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0], [2, 2, 0]], float)
    mesh = Mesh(points, [(0, 1, 2), (1, 3, 2)], [5, 5])  # cut along the falling diagonal
    path = write_vtk(tmp_path / "out_1.vtk", mesh, cells={"rho": np.array([1.0, 3.0])})
    _, _, values = put(path, (2, 2))
    np.testing.assert_allclose(values[0], [[1.0, 2.0], [2.0, 3.0]], rtol=ROUNDING)
    _, _, values = put(path, (1, 2))
    np.testing.assert_allclose(values[0], [[1.5, 2.5]], rtol=ROUNDING)


def test_areas_of_a_hollow_polygon_are_exact_too():
    arrow = np.array([[[0.0, 0.0], [2.0, 0.0], [1.0, 0.5], [1.0, 2.0]]])  # not convex
    _, boxes, shared = areas(arrow, np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 2.0]))
    # Below y = 1 left of x = 1 lies the triangle below y = 2 x, cut off at 1: 1/4 + 1/2.
    assert dict(zip(boxes.tolist(), shared.tolist(), strict=True)) == pytest.approx(
        {0: 0.75, 1: 0.25, 2: 0.25}
    )


def test_means_in_space_are_taken_over_points_in_each_cell(tmp_path):
    mesh = solid(3)
    stored = np.random.default_rng(0).random(len(mesh.cells))
    path = write_vtk(tmp_path / "out_1.vtk", mesh, cells={"rho": stored})
    _, _, values = put(path, (3, 3, 3))
    np.testing.assert_allclose(values[0].reshape(-1), stored, rtol=ROUNDING)
    _, _, values = put(path, (1, 1, 1))  # 27 points, one in each cell of the mesh
    assert values[0].item() == pytest.approx(stored.mean(), rel=ROUNDING)


def test_points_outside_the_mesh_are_masked(tmp_path):
    mesh = plane(hole=True)
    for n in (0, 1, 2):
        arrays = {"p": linear(mesh.points) + n, "U": np.tile([1.0, n, 0.0], (len(mesh.points), 1))}
        write_vtu(tmp_path / f"out_{n}.vtu", mesh, arrays)
    resample([tmp_path], tmp_path / "new", Choices((16, 16), dt=0.1))
    (field,) = matey.open(tmp_path / "new")
    hole = np.zeros((16, 16), bool)
    hole[4:8, 4:8] = True
    assert (field.held[0].numpy() == ~hole).all()
    assert field.times.tolist() == pytest.approx([0.0, 0.1, 0.2])
    told = [(v.name, v.static) for v in field.spec.variables]
    assert told == [
        ("pressure", False),
        ("velocity_x", True),  # the same at all times
        ("velocity_y", False),
        ("mask", True),  # and velocity_z, zero throughout, is left out
    ]
    assert (field.values[:, :, 0][:, :, hole] == 0).all()


def test_what_is_at_points_and_in_cells_is_taken_from_the_cells(tmp_path):
    mesh = plane()
    path = write_vtk(
        tmp_path / "out_1.vtk",
        mesh,
        {"p": np.zeros(len(mesh.points))},
        {"p": np.ones(len(mesh.cells))},
    )
    _, _, values = put(path, (4, 4))
    np.testing.assert_allclose(values, 1.0, rtol=ROUNDING)


def test_times_of_files_order_a_series(tmp_path):
    mesh = plane()
    for n, time in ((1, 0.3), (2, 0.2), (3, 0.1)):
        write_vtk(tmp_path / f"out_{n}.vtk", mesh, {"p": linear(mesh.points) + n}, time=time)
    resample([tmp_path], tmp_path / "new", Choices((4, 4)))
    (field,) = matey.open(tmp_path / "new")
    assert field.times.tolist() == [0.1, 0.2, 0.3]
    steps = (field.values[1:, 0] - field.values[:-1, 0]).numpy()
    np.testing.assert_allclose(steps, -1.0, atol=1e-5)  # float32


def test_a_collection_tells_the_times_of_its_files(tmp_path):
    mesh, rows = plane(), ""
    for n in (0, 1):
        write_vtu(tmp_path / f"out_{n}.vtu", mesh, {"p": linear(mesh.points) + n})
        rows += f'<DataSet timestep="{0.25 * n}" part="0" file="out_{n}.vtu"/>'
    text = f'<VTKFile type="Collection" version="0.1"><Collection>{rows}</Collection></VTKFile>'
    (tmp_path / "out.pvd").write_text(text)
    resample([tmp_path], tmp_path / "new", Choices((4, 4)))
    (field,) = matey.open(tmp_path / "new")
    assert field.times.tolist() == [0.0, 0.25]


def test_pieces_of_a_parallel_file_are_one_mesh(tmp_path):
    mesh = plane()
    for step in (0, 1):
        for piece in (0, 1):
            moved = Mesh(mesh.points + np.array([piece, 0.0, 0.0]), mesh.cells, mesh.types)
            arrays = {"p": linear(moved.points) + step}
            write_vtu(tmp_path / f"out_{step}_{piece}.vtu", moved, arrays)
        pieces = "".join(f'<Piece Source="out_{step}_{piece}.vtu"/>' for piece in (0, 1))
        (tmp_path / f"out_{step}.pvtu").write_text(
            '<VTKFile type="PUnstructuredGrid" version="1.0"><PUnstructuredGrid GhostLevel="0">'
            '<PPoints><PDataArray type="Float64" NumberOfComponents="3"/></PPoints>'
            f'<PPointData><PDataArray type="Float64" Name="p"/></PPointData>{pieces}'
            "</PUnstructuredGrid></VTKFile>"
        )
    (path,) = resample([tmp_path], tmp_path / "new", Choices((4, 8)))
    (field,) = matey.open(path)
    assert field.times.tolist() == [0.0, 1.0]
    assert field.spec.mask is None
    y, x = np.meshgrid(field.grid.coordinate(1), field.grid.coordinate(2), indexing="ij")
    exact = linear(np.stack([x, y, np.full_like(x, 0.3)], axis=-1)) + 1
    np.testing.assert_allclose(field.values[1, 0, 0].numpy(), exact, atol=1e-5)  # float32


@pytest.mark.parametrize("format", ["NETCDF4", "NETCDF3_64BIT_OFFSET"])
def test_exodus_is_read_with_all_its_times(format, tmp_path):
    mesh = plane(z=0.0)
    path = write_exodus(tmp_path / "out.exo", mesh, [0.0, 0.5, 1.0], format)
    program = program_of(path)
    assert program.name == "Exodus"
    frames = program.frames(path)
    assert [frame.time for frame in frames] == [0.0, 0.5, 1.0]
    assert sorted(frames[0].units) == ["number", "pressure"]
    target = target_of(frames[0], (6, 5), None)
    y, x = np.meshgrid(*target.points, indexing="ij")
    for frame in frames:
        (pressure,) = frame.onto(["pressure"], target)
        np.testing.assert_allclose(pressure, x + 2 * y + frame.time, rtol=0, atol=SINGLE)
    (number,) = frames[1].onto(["number"], target)
    area = np.diff(target.edges[0])[:, None] * np.diff(target.edges[1])
    total = ((np.arange(len(mesh.cells)) + 0.5) * mesh.areas).sum()
    assert (number * area).sum() == pytest.approx(total, rel=SINGLE)


def test_cgns_is_read(tmp_path):
    mesh = plane()
    path = write_cgns(tmp_path / "out.cgns", mesh, linear(mesh.points))
    assert program_of(path).name == "CGNS"
    frame, target, values = put(path, (6, 5))
    assert list(frame.units) == ["Density"]
    np.testing.assert_allclose(values[0], linear(centres(target)), rtol=0, atol=NEWTON)


def test_a_mesh_that_moves_out_of_the_grid_is_refused(tmp_path):
    mesh = plane()
    for n in (0, 1):
        moved = Mesh(mesh.points + np.array([0.2 * n, 0, 0]), mesh.cells, mesh.types)
        write_vtk(tmp_path / f"out_{n}.vtk", moved, {"p": linear(mesh.points)})
    with pytest.raises(DataError, match=r"out_1\.vtk: x extends over 0\.2 to 1\.2, .* --domain"):
        resample([tmp_path], tmp_path / "new", Choices((4, 4)))
    domain = [(0.0, 1.0), (0.0, 1.0)]
    with pytest.raises(DataError, match=r"out_1\.vtk: p is missing at points .* a mesh that moves"):
        resample([tmp_path], tmp_path / "new", Choices((4, 8), domain))
    domain = [(0.0, 1.0), (0.2, 1.0)]
    resample([tmp_path], tmp_path / "new", Choices((4, 4), domain))
    assert matey.open(tmp_path / "new")[0].spec.mask is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"{HEAD}POINTS 9 double\n1", "cut short"),
        (
            '<?xml version="1.0"?><VTKFile type="UnstructuredGrid"><Unstruc',
            r"read by VTK \(.*unclosed token\)",
        ),
        (HEAD, "holds no cells"),
    ],
)
def test_a_damaged_file_is_one_line(text, complaint, tmp_path, capfd):
    path = tmp_path / "out_1.vtu"
    path.write_text(text)
    with pytest.raises(DataError, match=complaint) as caught:
        put(path, (4, 4))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
