"""Opens files of meshes with VTK, an optional package: VTK's own formats, Exodus and CGNS.

Source: https://docs.vtk.org; a time in a file of VTK is `TimeValue` (ParaView) or `TIME` (VisIt) of
its field data; PVD files: https://www.paraview.org/Wiki/ParaView/Data_formats.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from matey.data.formats.files import shown
from matey.errors import DataError

TIMES = ("TimeValue", "TIME", "TIME_VALUE", "time")
# Arrays that readers add, or that number points and cells.
NUMBERS = re.compile(r"vtk|Global(Node|Element)Id|Pedigree|Object[Ii]d|ImplicitElementId|file_id")
FLAT = 1e-9  # of its largest extent: a mesh that is no thicker along an axis is plane
DUPLICATE = 1  # bit of vtkGhostType
DOUBLE = 1  # vtkAlgorithm::DOUBLE_PRECISION
HEAD = 2**16  # bytes that tell what a file is
COMPONENTS = {2: "x y", 3: "x y z", 9: "xx xy xz yx yy yz zx zy zz"}
Extent = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Mesh:
    """A mesh of cells of one dimension, as VTK holds it; its arrays by name, each at points or in
    cells; and the single numbers that come with it."""

    grid: Any
    points: dict[str, np.ndarray]
    cells: dict[str, np.ndarray]
    numbers: dict[str, float]

    @property
    def names(self) -> list[str]:
        return list(self.points | self.cells)

    @property
    def time(self) -> float | None:
        """The time that a file of VTK tells."""
        return next((self.numbers[name] for name in TIMES if name in self.numbers), None)

    @property
    def extent(self) -> Extent:
        """The (low, high) of x, y and z; both the same where the mesh is flat."""
        bounds = np.array(self.grid.GetBounds()).reshape(3, 2)
        sizes = bounds[:, 1] - bounds[:, 0]
        bounds[sizes <= FLAT * sizes.max(), 1] = bounds[sizes <= FLAT * sizes.max(), 0]
        return tuple((float(low), float(high)) for low, high in bounds)


def vtk(module: str) -> Any:
    """A module of VTK. Raises DataError where it is not installed."""
    try:
        return import_module(f"vtkmodules.{module}")
    except ImportError as error:
        raise DataError(
            "Meshes are read by a package that is not installed: pip install 'matey-pde[mesh]'."
        ) from error


def kind(path: Path) -> str | None:
    """`vtk`, `xml` or `pvd` by the first bytes of a file of VTK, `exodus` in classic NetCDF; None
    for any other. HDF5 is told by `kind_of_hdf5`."""
    with path.open("rb") as file:
        start = file.read(HEAD)
    if start.startswith(b"# vtk DataFile"):
        return "vtk"
    if start.startswith(b"CDF"):
        return "exodus" if b"num_el_blk" in start and b"num_nodes" in start else None
    if b"<VTKFile" in start[:1024]:
        return "pvd" if re.search(rb"type\s*=\s*[\"']Collection", start) else "xml"
    return None


def kind_of_hdf5(file: h5py.File) -> str | None:
    """`exodus`, `cgns` or `vtkhdf` for a mesh in HDF5; None for any other file."""
    if "VTKHDF" in file:
        return "vtkhdf"
    if "CGNSLibraryVersion" in file:
        return "cgns"
    return "exodus" if "eb_prop1" in file and {"coord", "coordx"} & set(file) else None


def named_by(path: Path) -> list[tuple[Path, float | None]]:
    """The files that a file of VTK names, as one of pieces or of times does, and their times."""
    content = path.read_bytes().decode("utf-8", "replace")
    found = []
    for tag in re.findall(r"<(?:DataSet|Piece)\s[^>]*>", content):
        words = dict(re.findall(r"(\w+)\s*=\s*[\"']([^\"']*)[\"']", tag))
        name = words.get("file", words.get("Source"))
        if name:
            time = words.get("timestep")
            try:
                moment = None if time is None else float(time)
            except ValueError as error:
                raise DataError(
                    f"{shown(path)}: the timestep of {shown(name)} is {time!r}, which is no number."
                ) from error
            found.append((path.parent / name, moment))
    return found


def steps(path: Path, form: str) -> list[float]:
    """The times in a file that may hold several."""
    with reader(path, form) as reading:
        reading.UpdateInformation()
        about = reading.GetOutputInformation(0)
        key = vtk("vtkCommonExecutionModel").vtkStreamingDemandDrivenPipeline.TIME_STEPS()
        return [about.Get(key, n) for n in range(about.Length(key))] if about.Has(key) else []


def read(path: Path, form: str, time: float | None) -> Mesh:
    """The mesh of a file, of the given time where it holds several. Raises DataError where VTK
    cannot read it, or it holds no cells."""
    with reader(path, form) as reading:
        if time is None:
            reading.Update()
        else:
            reading.UpdateTimeStep(time)
        output = reading.GetOutputDataObject(0)
    parts = list(leaves(output))
    if not parts:
        raise DataError(
            f"{shown(path)} holds no cells: it is no mesh with values on it, or it is cut short."
        )
    joining = vtk("vtkFiltersCore").vtkAppendFilter()
    joining.SetOutputPointsPrecision(DOUBLE)
    for part in parts:
        joining.AddInputData(part)
    joining.Update()
    grid = whole_cells(joining.GetOutput())
    numbers = [field_numbers(each.GetFieldData()) for each in (*parts, output)]
    return Mesh(
        grid,
        arrays(grid.GetPointData()),
        arrays(grid.GetCellData()),
        {name: value for each in numbers for name, value in each.items()},
    )


def leaves(output: Any) -> Iterator[Any]:
    """The data sets with cells that a reader gave, of how many blocks ever."""
    if output is None or output.IsA("vtkDataSet"):
        if output is not None and output.GetNumberOfCells():
            yield output
    elif output.IsA("vtkCompositeDataSet"):
        walk = output.NewIterator()
        walk.InitTraversal()
        while not walk.IsDoneWithTraversal():
            yield from leaves(walk.GetCurrentDataObject())
            walk.GoToNextItem()


def whole_cells(grid: Any) -> Any:
    """The cells of the highest dimension, without those that another piece holds too."""
    support = vtk("util.numpy_support")
    types = cell_arrays(grid)[2]
    model = vtk("vtkCommonDataModel")
    make = model.vtkGenericCell.InstantiateCell
    sizes = {t: make(int(t)).GetCellDimension() for t in np.unique(types)}
    keep = np.array([sizes[t] for t in types]) == max(sizes.values())
    ghosts = grid.GetCellData().GetArray("vtkGhostType")
    if ghosts is not None:
        keep &= (support.vtk_to_numpy(ghosts) & DUPLICATE) == 0
    if keep.all():
        return grid
    chosen = vtk("vtkCommonCore").vtkIdList()
    for number in np.flatnonzero(keep):
        chosen.InsertNextId(int(number))
    extracting = vtk("vtkFiltersCore").vtkExtractCells()
    extracting.SetInputData(grid)
    extracting.SetCellList(chosen)
    extracting.Update()
    return extracting.GetOutput()


def cell_arrays(grid: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the points of each cell begin, the numbers of these points, and the types of cells."""
    core, cells = vtk("vtkCommonCore"), grid.GetCells()
    every = (cells.GetOffsetsArray(), cells.GetConnectivityArray(), grid.GetCellTypes())
    found = []
    for array in every:  # which may be a formula
        copied = core.vtkIdTypeArray()
        copied.DeepCopy(array)
        found.append(vtk("util.numpy_support").vtk_to_numpy(copied))
    return found[0], found[1], found[2]


def arrays(data: Any) -> dict[str, np.ndarray]:
    """Arrays of numbers at points or in cells; of vectors and tensors one for each component."""
    support = vtk("util.numpy_support")
    found: dict[str, np.ndarray] = {}
    for n in range(data.GetNumberOfArrays()):
        array, name = data.GetArray(n), data.GetArrayName(n)
        if array is None or not name or NUMBERS.match(name):
            continue
        name, values = name.rstrip("_"), support.vtk_to_numpy(array)  # Exodus: `vel_`
        if values.ndim == 1:
            found[name] = values
            continue
        count = values.shape[1]
        for c, ending in enumerate(COMPONENTS.get(count, " ".join(map(str, range(count)))).split()):
            found[f"{name}_{ending}"] = values[:, c]
    return found


def field_numbers(data: Any) -> dict[str, float]:
    """The single numbers that come with a mesh."""
    every = [(data.GetArrayName(n), data.GetArray(n)) for n in range(data.GetNumberOfArrays())]
    return {
        name: float(array.GetTuple1(0))
        for name, array in every
        if name and array is not None and array.GetNumberOfValues() == 1
    }


@contextmanager
def reader(path: Path, form: str) -> Iterator[Any]:
    """VTK's reader of a file, set to read all that is there. Raises DataError with what VTK says
    when something fails while the block runs."""
    made: dict[str, tuple[str, str]] = {
        "vtk": ("vtkIOLegacy", "vtkGenericDataObjectReader"),
        "xml": ("vtkIOXML", "vtkXMLGenericDataObjectReader"),
        "vtkhdf": ("vtkIOHDF", "vtkHDFReader"),
        "exodus": ("vtkIOExodus", "vtkExodusIIReader"),
        "cgns": ("vtkIOCGNSReader", "vtkCGNSReader"),
    }
    module, name = made[form]
    reading = getattr(vtk(module), name)()
    reading.SetFileName(str(path))
    core = vtk("vtkCommonCore")
    before, heard = core.vtkOutputWindow.GetInstance(), core.vtkStringOutputWindow()
    core.vtkOutputWindow.SetInstance(heard)
    core.vtkLogger.SetStderrVerbosity(core.vtkLogger.VERBOSITY_OFF)  # it is told below
    try:
        if form == "vtk":
            for what in ("Scalars", "Vectors", "Normals", "Tensors", "Fields", "TCoords"):
                getattr(reading, f"ReadAll{what}On")()
        elif form == "cgns":
            for what in ("BaseStatus", "FamilyStatus"):
                getattr(reading, f"EnableAll{what}", lambda: None)()
            reading.UpdateInformation()
            reading.EnableAllBases()
            reading.EnableAllPointArrays()
            reading.EnableAllCellArrays()
        elif form == "exodus":
            reading.SetApplyDisplacements(0)
            reading.UpdateInformation()
            for what in (reading.NODAL, reading.ELEM_BLOCK):
                reading.SetAllArrayStatus(what, 1)
        yield reading
    finally:
        core.vtkOutputWindow.SetInstance(before)
    said = heard.GetOutput().split("ERROR:")
    if len(said) > 1:
        reason = " ".join(said[1].split()).rpartition("): ")[2].rstrip(".")
        raise DataError(
            f"{shown(path)} cannot be read by VTK ({shown(reason[:200])}). Copy or write it again."
        )
