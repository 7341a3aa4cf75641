"""Small outputs of programs with blocks of several sizes, all of the same field.

The domain is 2 long along x and 1 along y and z: two root blocks of 4 cells along each axis, of
which the first is cut into blocks of half the size. Where a program stores coarse cells under fine
ones too, and ghost cells, they hold rubbish.
"""

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import h5py
import numpy as np

CELLS, RUBBISH = 4, 1e6
VARIABLES = 3  # density, and velocity along x and y


@dataclass(frozen=True)
class Leaf:
    """A block: its low corner and size, slowest axis first, and its values [C ...]."""

    low: tuple[float, ...]
    size: float
    values: np.ndarray


def leaves(ndim: int, seed: int = 0) -> list[Leaf]:
    random = np.random.default_rng(seed)
    corners = [(*corner, 0.5) for corner in product((0.0, 0.5), repeat=ndim)]
    places = [*corners, (*(0.0,) * (ndim - 1), 1.0, 1.0)]
    shape = (VARIABLES, *(CELLS,) * ndim)
    return [Leaf(tuple(p[:-1]), p[-1], 1 + random.random(shape)) for p in places]


def finest(blocks: list[Leaf]) -> np.ndarray:
    """The field [C ...] on cells of the finest size."""
    ndim = len(blocks[0].low)
    field = np.full((VARIABLES, *(2 * CELLS,) * (ndim - 1), 4 * CELLS), np.nan)
    for block in blocks:
        times = round(block.size / 0.5)
        values = block.values
        for axis in range(1, ndim + 1):
            values = values.repeat(times, axis)
        where = [slice(round(at * 8), round(at * 8) + CELLS * times) for at in block.low]
        field[(slice(None), *where)] = values
    return field


def means(field: np.ndarray, edges: list[np.ndarray]) -> np.ndarray:
    """Exact means of cells of the finest size over other ones: differences of the integral from the
    corner of the domain, which is linear in a cell along each axis."""
    for axis, ends in enumerate(edges, start=1):
        size = field.shape[axis]
        fine = np.linspace(0, 2 if axis == len(edges) else 1, size + 1)
        step = np.diff(fine)[0]
        rows = np.moveaxis(field, axis, -1)
        whole = np.cumsum(rows, axis=-1) * step
        whole = np.concatenate([np.zeros((*whole.shape[:-1], 1)), whole], axis=-1)
        at = np.apply_along_axis(lambda row, f=fine, e=ends: np.interp(e, f, row), -1, whole)
        field = np.moveaxis(np.diff(at, axis=-1) / np.diff(ends), -1, axis)
    return field


def write_flash(path: Path, ndim: int = 2, time: float = 0.0, seed: int = 0) -> Path:
    """FLASH: the tree with its root block, which is no leaf."""
    blocks = leaves(ndim, seed)
    parent = Leaf((0.0,) * ndim, 1.0, np.full_like(blocks[0].values, RUBBISH))
    every = [parent, *blocks]
    names = ["dens", "velx", "vely"]
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["unknown names"] = np.array([[name.encode()] for name in names], "S4")
        file["node type"] = np.array([2] + [1] * len(blocks), "i4")
        file["refine level"] = np.array([1] + [2] * (len(blocks) - 1) + [1], "i4")
        box = np.zeros((len(every), 3, 2))
        for n, block in enumerate(every):
            box[n, :ndim, 0] = block.low[::-1]
            box[n, :ndim, 1] = np.add(block.low, block.size)[::-1]
        file["bounding box"] = box
        for c, name in enumerate(names):
            values = np.stack([block.values[c] for block in every])
            file[name] = values.reshape(len(every), *(1,) * (3 - ndim), *values.shape[1:])
        kinds = {
            "real scalars": [("time", time), ("dt", 0.1)],
            "integer scalars": [("dimensionality", ndim), ("nxb", CELLS)],
            "real runtime parameters": [("gamma", 1.4), ("xmin", 0.0)],
        }
        for name, pairs in kinds.items():
            dtype = [("name", "S80"), ("value", "i4" if "integer" in name else "f8")]
            file[name] = np.array([(key.ljust(80).encode(), v) for key, v in pairs], dtype)
        words = [("geometry", "cartesian")]
        words += [(f"x{side}_boundary_type", "periodic") for side in "lr"]
        words += [("yl_boundary_type", "reflect"), ("yr_boundary_type", "outflow")]
        words += [(f"z{side}_boundary_type", "periodic") for side in "lr"]
        dtype = [("name", "S80"), ("value", "S80")]
        rows = [(a.ljust(80).encode(), b.ljust(80).encode()) for a, b in words]
        file["string runtime parameters"] = np.array(rows, dtype)
    return path


def write_parthenon(
    path: Path, ndim: int = 2, time: float = 0.0, seed: int = 0, ghosts: int = 0
) -> Path:
    """AthenaPK: one dataset of components, blocks with ghost cells if asked for."""
    blocks = leaves(ndim, seed)
    sizes = [CELLS + 2 * ghosts] * ndim
    with h5py.File(path, "w") as file:
        info = file.create_group("Info")
        info.attrs.update(
            {
                "OutputFormatVersion": 4,
                "Time": time,
                "NumDims": ndim,
                "IncludesGhost": int(ghosts > 0),
                "NGhost": 2,
                "Coordinates": "UniformCartesian",
                "MeshBlockSize": [*sizes, *[1] * (3 - ndim)],
                "RootGridDomain": [0.0, 2.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0],
                "OutputDatasetNames": ["prim"],
                "NumComponents": np.array([VARIABLES], "u8"),
                "ComponentNames": ["prim_density", "prim_velocity_1", "prim_velocity_2"],
                "BoundaryConditions": ["periodic"] * 2
                + ["reflecting", "outflow"]
                + ["periodic"] * 2,
            }
        )
        file.create_group("Input").attrs["File"] = "<hydro>\ngamma = 1.4  # ratio\neos = ideal\n"
        file["LogicalLocations"] = np.zeros((len(blocks), 3), "i8")
        file["Levels"] = np.array([1] * (len(blocks) - 1) + [0])
        for axis, letter in enumerate("xyz"):
            if axis >= ndim:
                file[f"Locations/{letter}"] = np.tile([0.0, 1.0], (len(blocks), 1))
                continue
            file[f"Locations/{letter}"] = [
                block.low[-1 - axis] + block.size / CELLS * np.arange(-ghosts, CELLS + ghosts + 1)
                for block in blocks
            ]
        values = np.full((len(blocks), VARIABLES, *sizes), RUBBISH)
        inside = (slice(ghosts, ghosts + CELLS),) * ndim
        for n, block in enumerate(blocks):
            values[(n, slice(None), *inside)] = block.values
        file["prim"] = values.reshape(*values.shape[:2], *(1,) * (3 - ndim), *sizes)
    return path


def write_chombo(path: Path, ndim: int = 2, time: float = 0.0, seed: int = 0) -> Path:
    """Chombo: a coarse level of two boxes, all rubbish below the fine one, with a ghost cell."""
    blocks = leaves(ndim, seed)
    under = Leaf((0.0,) * ndim, 1.0, np.full_like(blocks[0].values, RUBBISH))
    levels = [[under, blocks[-1]], blocks[:-1]]
    corner = [(f"{side}_{letter}", "i4") for side in ("lo", "hi") for letter in "ijk"[:ndim]]
    with h5py.File(path, "w") as file:
        file.attrs.update({"num_levels": 2, "num_components": VARIABLES, "time": time, "Re": 100.0})
        for n, name in enumerate(("density", "x-velocity", "y-velocity")):
            file.attrs[f"component_{n}"] = np.bytes_(name)
        file.create_group("Chombo_global").attrs["SpaceDim"] = ndim
        for n, members in enumerate(levels):
            dx = 0.25 / 2**n
            group = file.create_group(f"level_{n}")
            last = [round(end / dx) - 1 for end in (2.0, 1.0, 1.0)[:ndim]]
            domain = np.array(tuple([0] * ndim + last), corner)
            group.attrs.update({"dx": dx, "ref_ratio": 2, "prob_domain": domain})
            for axis in range(ndim):
                group.attrs[f"is_periodic_{axis}"] = int(axis != 1)
            boxes, data = [], []
            for block in members:
                low = [round(at / dx) for at in block.low[::-1]]
                boxes.append((*low, *(at + CELLS - 1 for at in low)))
                padding = [(0, 0)] + [(1, 1)] * ndim
                data.append(np.pad(block.values, padding, constant_values=RUBBISH).reshape(-1))
            group["boxes"] = np.array(boxes, corner)
            group["data:datatype=0"] = np.concatenate(data)
            group["data:offsets=0"] = np.cumsum([0] + [len(each) for each in data])
            ghost = [(f"intvect{letter}", "i4") for letter in "ijk"[:ndim]]
            about = group.create_group("data_attributes")
            about.attrs["outputGhost"] = np.array((1,) * ndim, ghost)
    return path


def write_openpmd(path: Path, ndim: int = 2, time: float = 0.0, seed: int = 0) -> Path:
    """openPMD: rho and the vector v, a patch of level 1 for each fine block; in units of 2 kg/m3
    and of centimetres per second, and times in milliseconds."""
    blocks = leaves(ndim, seed)
    with h5py.File(path, "w") as file:
        file.attrs.update({"openPMD": "1.1.0", "basePath": "/data/%T/", "meshesPath": "meshes/"})
        group = file.create_group("data/10")
        group.attrs.update({"time": 1000 * time, "timeUnitSI": 1e-3, "dt": 1.0})
        coarse = np.full((VARIABLES, *(CELLS,) * (ndim - 1), 2 * CELLS), RUBBISH)
        coarse[..., CELLS:] = blocks[-1].values
        every = [("", (0.0,) * ndim, 0.25, coarse)]
        every += [(f"_lvl1_{n}", b.low, 0.125, b.values) for n, b in enumerate(blocks[:-1])]
        for ending, low, step, values in every:
            for name, units in (("rho", [-3, 1, 0]), ("v", [1, 0, -1])):
                about = {
                    "geometry": "cartesian",
                    "dataOrder": "C",
                    "axisLabels": ["z", "y", "x"][3 - ndim :],
                    "gridSpacing": [step] * ndim,
                    "gridGlobalOffset": low,
                    "gridUnitSI": 1.0,
                    "unitDimension": [*map(float, units), 0.0, 0.0, 0.0, 0.0],
                }
                one = {"position": [0.5] * ndim, "unitSI": 2.0 if name == "rho" else 0.01}
                if name == "rho":
                    array = group.create_dataset(f"meshes/rho{ending}", data=values[0] / 2)
                    array.attrs.update({**about, **one})
                    continue
                mesh = group.create_group(f"meshes/v{ending}")
                mesh.attrs.update(about)
                for letter, component in (("x", values[1]), ("y", values[2])):
                    mesh.create_dataset(letter, data=component * 100).attrs.update(one)
    return path


WRITERS = {
    "FLASH": write_flash,
    "Parthenon (AthenaPK)": write_parthenon,
    "Chombo": write_chombo,
    "openPMD": write_openpmd,
}
