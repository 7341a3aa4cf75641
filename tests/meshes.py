"""Small meshes of cells, written as programs write them: as text, or with h5py and netCDF4."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import netCDF4
import numpy as np

TRIANGLE, QUAD, HEXAHEDRON = 5, 9, 12


@dataclass(frozen=True)
class Mesh:
    """Points [n 3], the points of each cell, and the types of the cells in VTK."""

    points: np.ndarray
    cells: list[tuple[int, ...]]
    types: list[int]

    @property
    def centres(self) -> np.ndarray:
        return np.array([self.points[list(cell)].mean(axis=0) for cell in self.cells])

    @property
    def areas(self) -> np.ndarray:
        """By the shoelace formula, in the plane of x and y."""
        every = []
        for cell in self.cells:
            x, y = self.points[list(cell)][:, :2].T
            every.append(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)
        return np.array(every)


def plane(n: int = 8, hole: bool = False, quads: bool = True, z: float = 0.3) -> Mesh:
    """The square from 0 to 1, of triangles and, unless not asked for, crooked quads; with a
    hole if asked for, from a quarter to a half along both axes."""
    at = np.arange(n + 1) / n
    y, x = np.meshgrid(at, at, indexing="ij")
    inner = (x > 0) & (x < 1) & (y > 0) & (y < 1)
    inner &= ~np.isin(x, [0.25, 0.5]) & ~np.isin(y, [0.25, 0.5])
    move = np.random.default_rng(0).uniform(-0.25, 0.25, (2, n + 1, n + 1)) / n * inner
    points = np.stack([x + move[0], y + move[1], np.full_like(x, z)], axis=-1).reshape(-1, 3)
    cells: list[tuple[int, ...]] = []
    types = []
    for j in range(n):
        for i in range(n):
            a, b, c, d = (j * (n + 1) + i + k for k in (0, 1, n + 2, n + 1))
            if hole and n // 4 <= i < n // 2 and n // 4 <= j < n // 2:
                continue
            if (i + j) % 2 and quads:
                cells.append((a, b, c, d))
                types.append(QUAD)
            else:
                cells += [(a, b, c), (a, c, d)]
                types += [TRIANGLE, TRIANGLE]
    return Mesh(points, cells, types)


def solid(n: int = 3) -> Mesh:
    """The cube from 0 to 1, of hexahedra."""
    at = np.arange(n + 1) / n
    z, y, x = np.meshgrid(at, at, at, indexing="ij")
    points = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    m = n + 1
    corners = (0, 1, m + 1, m, m * m, m * m + 1, m * m + m + 1, m * m + m)
    starts = [(k * m + j) * m + i for k in range(n) for j in range(n) for i in range(n)]
    cells = [tuple(start + corner for corner in corners) for start in starts]
    return Mesh(points, cells, [HEXAHEDRON] * len(cells))


def lines(rows: np.ndarray) -> str:
    return "\n".join(" ".join(repr(float(v)) for v in np.ravel(row)) for row in rows)


def write_vtk(
    path: Path, mesh: Mesh, points: dict | None = None, cells: dict | None = None, time=None
) -> Path:
    """VTK's legacy format, as text; a time as VisIt writes it."""
    text = "# vtk DataFile Version 3.0\nsmall\nASCII\nDATASET UNSTRUCTURED_GRID\n"
    if time is not None:
        text += f"FIELD FieldData 1\nTIME 1 1 double\n{time}\n"
    size = sum(len(cell) + 1 for cell in mesh.cells)
    text += f"POINTS {len(mesh.points)} double\n{lines(mesh.points)}\n"
    text += f"CELLS {len(mesh.cells)} {size}\n"
    text += "\n".join(f"{len(cell)} {' '.join(map(str, cell))}" for cell in mesh.cells)
    text += f"\nCELL_TYPES {len(mesh.types)}\n" + "\n".join(map(str, mesh.types)) + "\n"
    for word, count, arrays in (
        ("POINT_DATA", len(mesh.points), points or {}),
        ("CELL_DATA", len(mesh.cells), cells or {}),
    ):
        text += f"{word} {count}\n" if arrays else ""
        for name, values in arrays.items():
            vector = np.ndim(values) == 2
            text += f"VECTORS {name} double\n" if vector else f"SCALARS {name} double 1\n"
            text += "" if vector else "LOOKUP_TABLE default\n"
            text += lines(values) + "\n"
    path.write_text(text)
    return path


def write_vtu(
    path: Path, mesh: Mesh, points: dict | None = None, cells: dict | None = None
) -> Path:
    """VTK's XML format, as text."""

    def array(name: str, values: np.ndarray, kind: str = "Float64") -> str:
        shape = np.shape(values)
        wide = f' NumberOfComponents="{shape[1]}"' if len(shape) == 2 else ""
        words = " ".join(repr(v) for v in np.ravel(values).tolist())
        return f'<DataArray type="{kind}" Name="{name}"{wide} format="ascii">{words}</DataArray>'

    ends = np.cumsum([len(cell) for cell in mesh.cells])
    joined = [n for cell in mesh.cells for n in cell]
    parts = {
        "PointData": [array(n, v) for n, v in (points or {}).items()],
        "CellData": [array(n, v) for n, v in (cells or {}).items()],
        "Points": [array("Points", mesh.points)],
        "Cells": [
            array("connectivity", joined, "Int64"),
            array("offsets", ends, "Int64"),
            array("types", mesh.types, "UInt8"),
        ],
    }
    inside = "".join(f"<{tag}>{''.join(each)}</{tag}>" for tag, each in parts.items())
    path.write_text(
        '<?xml version="1.0"?><VTKFile type="UnstructuredGrid" version="1.0" '
        'byte_order="LittleEndian" header_type="UInt64"><UnstructuredGrid>'
        f'<Piece NumberOfPoints="{len(mesh.points)}" NumberOfCells="{len(mesh.cells)}">'
        f"{inside}</Piece></UnstructuredGrid></VTKFile>"
    )
    return path


def write_exodus(path: Path, mesh: Mesh, times: list[float], format: str = "NETCDF4") -> Path:
    """Exodus II, with a nodal variable x + 2 y + t, and one of elements, their number + t.

    Source: Exodus II, SAND92-2137, appendix on the NetCDF implementation.
    """
    kinds = {TRIANGLE: "TRI3", QUAD: "QUAD4", HEXAHEDRON: "HEX8"}
    x, y, z = mesh.points.T
    with netCDF4.Dataset(path, "w", format=format) as file:
        file.setncatts(
            {
                "api_version": np.float32(5.1),
                "version": np.float32(5.1),
                "floating_point_word_size": np.int32(8),
                "file_size": np.int32(1),
                "title": "small",
            }
        )
        used = sorted(set(mesh.types))
        sizes = {"len_string": 33, "len_line": 81, "four": 4, "len_name": 33}
        sizes |= {"num_dim": 3, "num_nodes": len(x), "num_elem": len(mesh.cells)}
        sizes |= {"num_el_blk": len(used), "num_nod_var": 1, "num_elem_var": 1}
        for name, size in sizes.items():
            file.createDimension(name, size)
        file.createDimension("time_step", None)
        file.createVariable("time_whole", "f8", ("time_step",))[:] = times
        for name, values in (("coordx", x), ("coordy", y), ("coordz", z)):
            file.createVariable(name, "f8", ("num_nodes",))[:] = values
        for name in ("eb_status", "eb_prop1"):
            stored = file.createVariable(name, "i4", ("num_el_blk",))
            stored[:] = 1 if name == "eb_status" else np.arange(1, len(used) + 1)
        file["eb_prop1"].setncattr("name", "ID")
        for name, word in (("nod", "pressure"), ("elem", "number")):
            stored = file.createVariable(f"name_{name}_var", "S1", (f"num_{name}_var", "len_name"))
            stored[0] = np.array(list(word.ljust(33, "\0")), "S1")
        stored = file.createVariable("vals_nod_var1", "f8", ("time_step", "num_nodes"))
        for t, time in enumerate(times):
            stored[t] = x + 2 * y + time
        for n, kind in enumerate(used, start=1):
            chosen = [i for i, each in enumerate(mesh.types) if each == kind]
            file.createDimension(f"num_el_in_blk{n}", len(chosen))
            file.createDimension(f"num_nod_per_el{n}", len(mesh.cells[chosen[0]]))
            dims = (f"num_el_in_blk{n}", f"num_nod_per_el{n}")
            stored = file.createVariable(f"connect{n}", "i4", dims)
            stored.setncattr("elem_type", kinds[kind])
            stored[:] = np.array([mesh.cells[i] for i in chosen]) + 1
            stored = file.createVariable(f"vals_elem_var1eb{n}", "f8", ("time_step", dims[0]))
            for t, time in enumerate(times):
                stored[t] = np.array(chosen) + time
    return path


def write_cgns(path: Path, mesh: Mesh, values: np.ndarray) -> Path:
    """CGNS in HDF5: one zone of triangles or quadrilaterals, with `Density` at its points.

    Source: CGNS, SIDS-to-HDF5 file mapping, https://cgns.org/standard/FMM/hdf5.html
    """
    kinds = {"C1": "S1", "I4": "i4", "R8": "f8"}
    words = {TRIANGLE: 5, QUAD: 7}

    def node(parent, name: str, label: str, kind: str = "MT", data=None):
        group = parent.create_group(name, track_order=True)
        for key, text, size in (("name", name, 33), ("label", label, 33), ("type", kind, 3)):
            group.attrs.create(key, np.bytes_(text), dtype=h5py.string_dtype("ascii", size))
        group.attrs["flags"] = np.array([1], "i4")
        if data is not None:
            stored = np.frombuffer(data.encode(), "i1") if kind == "C1" else np.asarray(data)
            group[" data"] = stored if kind == "C1" else stored.astype(kinds[kind])
        return group

    with h5py.File(path, "w", track_order=True) as file:
        for key, text, size in (
            ("name", "HDF5 MotherNode", 33),
            ("label", "Root Node of HDF5 File", 33),
            ("type", "MT", 3),
        ):
            file.attrs.create(key, np.bytes_(text), dtype=h5py.string_dtype("ascii", size))
        for name, text in ((" format", "IEEE_LITTLE_32"), (" hdf5version", "HDF5 Version 1.10")):
            file[name] = np.frombuffer(text.ljust(33, "\0").encode(), "i1")
        node(file, "CGNSLibraryVersion", "CGNSLibraryVersion_t", "R4", None)[" data"] = np.array(
            [3.4], "f4"
        )
        base = node(file, "Base", "CGNSBase_t", "I4", [2, 3])
        zone = node(base, "Zone", "Zone_t", "I4", [[len(mesh.points)], [len(mesh.cells)], [0]])
        node(zone, "ZoneType", "ZoneType_t", "C1", "Unstructured")
        places = node(zone, "GridCoordinates", "GridCoordinates_t")
        for axis, letter in enumerate("XYZ"):
            name = f"Coordinate{letter}"
            node(places, name, "DataArray_t", "R8", mesh.points[:, axis])
        begin = 1
        for kind in sorted(set(mesh.types)):
            chosen = [c for c, t in zip(mesh.cells, mesh.types, strict=True) if t == kind]
            section = node(zone, f"Cells{kind}", "Elements_t", "I4", [words[kind], 0])
            ends = [begin, begin + len(chosen) - 1]
            node(section, "ElementRange", "IndexRange_t", "I4", ends)
            joined = np.array(chosen).reshape(-1) + 1
            node(section, "ElementConnectivity", "DataArray_t", "I4", joined)
            begin += len(chosen)
        solution = node(zone, "Solution", "FlowSolution_t")
        node(solution, "GridLocation", "GridLocation_t", "C1", "Vertex")
        node(solution, "Density", "DataArray_t", "R8", values)
    return path
