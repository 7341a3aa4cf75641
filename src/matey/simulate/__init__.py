"""Solvers that generate fields: one file per system, one time-stepper for all.

Each solves many trajectories at once, on a CPU or GPU, in single or double precision.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matey.simulate.trajectories import find_system, simulate

__all__ = ["SYSTEMS", "find_system", "simulate"]

# The class of each system, in the module of the system's name. Loaded on demand: they need torch,
# which takes seconds to import, and the command line lists the names.
SYSTEMS = {
    "shallow_water": "ShallowWater",
    "diffusion_reaction": "DiffusionReaction",
    "excitable": "Excitable",
    "incompressible": "Incompressible",
    "compressible": "Compressible",
    "blast": "Blast",
    "reacting": "Reacting",
    "thermals": "Thermals",
    "mhd": "MHD",
    "mhd_cavity": "MHDCavity",
    "burgers": "Burgers",
    "kuramoto_sivashinsky": "KuramotoSivashinsky",
    "gray_scott": "GrayScott",
    "two_phase": "TwoPhase",
    "fracture": "Fracture",
    "obstacle": "Obstacle",
    "taylor_green": "TaylorGreen",
    "convection": "Convection",
}


def __getattr__(name: str) -> Any:
    """Import `find_system` or `simulate` when it is first used."""
    if name not in ("find_system", "simulate"):
        raise AttributeError(f"module 'matey.simulate' has no attribute {name!r}")
    return getattr(import_module("matey.simulate.trajectories"), name)
