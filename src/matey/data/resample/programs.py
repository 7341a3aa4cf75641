"""Which files hold blocks of several sizes or meshes of cells, and what reads them."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from matey.data.formats.files import DAMAGE, HDF5_SIGNATURE, UnknownLayoutError, guarded, shown
from matey.data.formats.hdf5 import open_hdf5
from matey.data.resample import chombo, flash, mesh, openpmd, parthenon, vtk_files
from matey.data.resample.frames import Frame
from matey.errors import DataError, MateyError

BLOCKS = {
    "FLASH": flash,
    "Chombo": chombo,
    "Parthenon (AthenaPK)": parthenon,
    "openPMD": openpmd,
}
MESHES = {
    "vtk": "VTK",
    "xml": "VTK",
    "pvd": "VTK",
    "vtkhdf": "VTK",
    "exodus": "Exodus",
    "cgns": "CGNS",
}


@dataclass(frozen=True)
class Program:
    """Who wrote a file, what it holds, and how to read its times."""

    name: str
    holds: str
    frames: Callable[[Path], list[Frame]]


def program_of(path: Path) -> Program | None:
    """The program that wrote a file; None where matey reads it as it is, or nothing does."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as opened:
            hdf5 = opened.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE
        if not hdf5:
            form = vtk_files.kind(path)
        else:
            with closing(open_hdf5(path)) as file:
                for name, reader in BLOCKS.items():
                    if reader.recognise(file):
                        return Program(name, "blocks of several sizes", guard(reader.frames))
                form = vtk_files.kind_of_hdf5(file)
    except (*DAMAGE, MateyError):
        return None  # damaged: those who read it say so
    if form is None:
        return None
    return Program(MESHES[form], "a mesh of cells", guard(partial(mesh.frames, form=form)))


def guard(frames: Callable[[Path], list[Frame]]) -> Callable[[Path], list[Frame]]:
    """The same, with errors of a damaged file told as ours."""

    def guarded_frames(path: Path) -> list[Frame]:
        with guarded(path):
            return frames(path)

    return guarded_frames


def set_aside(files: Iterable[Path]) -> dict[Path, DataError | None]:
    """Files that have to be put on one grid before they are fields.

    The first of those of a program in a folder has an error that names the command, the others
    have none.
    """
    groups = defaultdict[tuple[Path, str], list[Path]](list)
    told: dict[tuple[Path, str], Program] = {}
    for path in files:
        program = program_of(path)
        if program is not None:
            groups[path.parent, program.name].append(path)
            told[path.parent, program.name] = program
    errors: dict[Path, DataError | None] = {}
    for key, members in groups.items():
        more = f" and {len(members) - 1} more" if len(members) > 1 else ""
        place = members[0].parent if more else members[0]
        errors |= dict.fromkeys(members, None)
        errors[members[0]] = UnknownLayoutError(
            f"{shown(members[0])}{more}: {told[key].holds}, written by {told[key].name}. Put them "
            f"on one grid with `matey data resample {shown(place)} NEW --grid 128x256`, and take "
            "the folder NEW."
        )
    return errors
