"""Meshes of cells onto a grid.

What is stored at points is interpolated with the shape functions of the cell that a grid point lies
in, so that linear functions stay what they are. What is stored in cells is averaged over the cells
of the grid: by exact areas where the mesh is plane, which keeps integrals, else over some points in
each.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from matey.data.formats.files import shown
from matey.data.resample.blocks import HALF
from matey.data.resample.frames import Frame, Target, Values
from matey.data.resample.overlap import areas
from matey.data.resample.vtk_files import (
    Extent,
    Mesh,
    cell_arrays,
    kind,
    named_by,
    read,
    steps,
    vtk,
)
from matey.errors import DataError

PER_AXIS = 3  # points in a cell of the grid along each axis, where cells are averaged over points
# Corners of plane cells by their type in VTK; a quadratic one lists its corners first.
TRIANGLES, QUADS, PIXEL, POLYGON = (5, 22, 34, 69, 76), (9, 23, 28, 30, 70, 77), 8, 7
PIXEL_ORDER = [0, 1, 3, 2]
LETTERS = ("x", "y", "z")


@dataclass(frozen=True)
class Overlap:
    """The shares that cells of a mesh have in those of a grid (x fastest), and which part of each
    of these is covered."""

    cells: Int64[np.ndarray, " m"]
    boxes: Int64[np.ndarray, " m"]
    shares: Float64[np.ndarray, " m"]
    covered: Float64[np.ndarray, " n"]


def frames(path: Path, form: str) -> list[Frame]:
    """The times of a file, or of those that it names."""
    if form == "pvd":
        return [frame_of(each, kind(each) or "", time=time) for each, time in named_by(path)]
    if form in ("vtk", "xml"):
        return [frame_of(path, form)]
    times = steps(path, form)
    return [frame_of(path, form, time, time) for time in times] or [frame_of(path, form)]


def frame_of(path: Path, form: str, step: float | None = None, time: float | None = None) -> Frame:
    """One time of a file: that of `step`, where it holds several."""
    if not form:
        raise DataError(f"{shown(path)} is named by a .pvd file, but is no file of VTK.")
    mesh = read(path, form, step)
    if not mesh.names:
        raise DataError(
            f"{shown(path)} holds a mesh, but no numbers at its points or in its cells."
        )
    axes = active(mesh.extent)
    return Frame(
        path,
        mesh.time if time is None else time,
        tuple(LETTERS[axis] for axis in axes),
        tuple(mesh.extent[axis] for axis in axes),
        dict.fromkeys(mesh.names, ""),
        partial(onto, path, form, step),
        settings=mesh.numbers,
    )


def active(extent: Extent) -> list[int]:
    """The axes along which a mesh extends, z first."""
    return [axis for axis in (2, 1, 0) if extent[axis][1] > extent[axis][0]]


def onto(path: Path, form: str, step: float | None, names: Sequence[str], target: Target) -> Values:
    """Variables on a grid [C ...]; what a file has both at points and in cells is taken from the
    cells, where a finite-volume program keeps it."""
    mesh = read(path, form, step)
    at_points = {name: mesh.points[name] for name in names if name not in mesh.cells}
    places = positions(target.points, mesh.extent)
    values = probe(mesh, places, at_points, "point") if at_points else {}
    if len(at_points) < len(names):
        shared = overlap_of(mesh, target)
        values |= {n: averaged(mesh.cells[n], shared) for n in names if n in mesh.cells}
    return np.stack([values[name].reshape(target.shape) for name in names])


def averaged(values: Float64[np.ndarray, " cells"], shared: Overlap) -> Float64[np.ndarray, " n"]:
    """Means over the cells of a grid of what those of a mesh hold, NaN where these cover less than
    half of one."""
    size = len(shared.covered)
    sums = np.bincount(shared.boxes, shared.shares * values[shared.cells], size)
    volume = np.bincount(shared.boxes, shared.shares, size)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(shared.covered > HALF, sums / volume, np.nan)


def overlap_of(mesh: Mesh, target: Target) -> Overlap:
    """What the cells of a mesh and of a grid have in common; worked out anew where the mesh is not
    the one before."""
    places = mesh.grid.GetPoints().GetData()
    points = vtk("util.numpy_support").vtk_to_numpy(places).astype(np.float64)
    offsets, connections, types = cell_arrays(mesh.grid)
    digest = hashlib.sha256()
    for each in (points, offsets, connections, types):
        digest.update(np.ascontiguousarray(each).tobytes())
    key = digest.hexdigest()
    if key not in target.kept:
        target.kept.clear()
        plane = len(active(mesh.extent)) == 2 and set(types) <= {*TRIANGLES, *QUADS, PIXEL, POLYGON}
        if plane:
            corners = corners_of(offsets, connections, types)
            axes = active(mesh.extent)[::-1]
            target.kept[key] = exact(points[corners][..., axes], target)
        else:
            target.kept[key] = sampled(mesh, target)
    kept: Overlap = target.kept[key]
    return kept


def exact(polygons: Float64[np.ndarray, "n k 2"], target: Target) -> Overlap:
    """By areas, of a plane mesh."""
    y, x = target.edges
    cells, boxes, shares = areas(polygons, x, y)
    sizes = (np.diff(y)[:, None] * np.diff(x)).reshape(-1)
    return Overlap(cells, boxes, shares, np.bincount(boxes, shares, len(sizes)) / sizes)


def sampled(mesh: Mesh, target: Target) -> Overlap:
    """By some points in each cell of the grid: the mesh cells that they lie in."""
    within, rank = (np.arange(PER_AXIS) + 0.5) / PER_AXIS, len(target.shape)
    fine = [(e[:-1, None] + np.diff(e)[:, None] * within).reshape(-1) for e in target.edges]
    count = np.arange(mesh.grid.GetNumberOfCells(), dtype=np.float64)
    found = probe(mesh, positions(fine, mesh.extent), {"number": count}, "cell")["number"]
    rows = found.reshape([n for size in target.shape for n in (size, PER_AXIS)])
    rows = rows.transpose([*range(0, 2 * rank, 2), *range(1, 2 * rank, 2)])
    rows = rows.reshape(-1, PER_AXIS**rank)
    boxes, places = np.nonzero(np.isfinite(rows))
    shares = np.full(len(boxes), 1 / rows.shape[1])
    cells = rows[boxes, places].astype(np.int64)
    return Overlap(cells, boxes, shares, np.bincount(boxes, shares, len(rows)))


def corners_of(
    offsets: np.ndarray, connections: np.ndarray, types: np.ndarray
) -> Int64[np.ndarray, "n k"]:
    """The points at the corners of plane cells in order, the last repeated where there are
    fewer."""
    corners = np.where(
        np.isin(types, TRIANGLES), 3, np.where(types == POLYGON, np.diff(offsets), 4)
    )
    places = np.minimum(np.arange(corners.max()), corners[:, None] - 1)
    pixels = types == PIXEL
    if pixels.any():
        places[pixels] = np.pad(PIXEL_ORDER, (0, places.shape[1] - len(PIXEL_ORDER)), "edge")
    return connections[offsets[:-1, None] + places].astype(np.int64)


def positions(along: Sequence[np.ndarray], extent: Extent) -> Float64[np.ndarray, "n 3"]:
    """The points of a grid in the plane of the mesh, x fastest."""
    grids = np.meshgrid(*along, indexing="ij")
    points = np.empty((grids[0].size, 3))
    points[:] = [low for low, _ in extent]
    for axis, grid in zip(active(extent), grids, strict=True):
        points[:, axis] = grid.reshape(-1)
    return points


def probe(
    mesh: Mesh, points: Float64[np.ndarray, "n 3"], arrays: dict[str, np.ndarray], where: str
) -> dict[str, np.ndarray]:
    """Arrays at the points or in the cells of a mesh, at other points; NaN outside it."""
    model, support = vtk("vtkCommonDataModel"), vtk("util.numpy_support")
    bare = model.vtkUnstructuredGrid()
    bare.CopyStructure(mesh.grid)
    data = bare.GetPointData() if where == "point" else bare.GetCellData()
    for name, values in arrays.items():
        array = support.numpy_to_vtk(np.ascontiguousarray(values, np.float64), deep=True)
        array.SetName(name)
        data.AddArray(array)
    places, cloud = vtk("vtkCommonCore").vtkPoints(), model.vtkPolyData()
    places.SetData(support.numpy_to_vtk(points, deep=True))
    cloud.SetPoints(places)
    probing = vtk("vtkFiltersCore").vtkProbeFilter()
    probing.SetCellLocator(model.vtkStaticCellLocator())
    probing.SetInputData(cloud)
    probing.SetSourceData(bare)
    probing.Update()
    found = probing.GetOutput().GetPointData()
    inside = support.vtk_to_numpy(found.GetArray("vtkValidPointMask")) > 0
    return {n: np.where(inside, support.vtk_to_numpy(found.GetArray(n)), np.nan) for n in arrays}
