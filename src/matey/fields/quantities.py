"""Canonical names of physical quantities, and whether they are true or pseudo quantities.

A mirror reverses the components of vectors and tensors along its axis, and the sign of pseudo
quantities once more: of curls, and of quantities with one curl as a factor. In two dimensions
the vorticity is a pseudoscalar. The names mean the same in every file.
"""

TRUE_SCALARS = (
    "activator concentration density density_perturbation height inhibitor magnetic_energy "
    "magnetic_pressure potential_temperature potential_temperature_perturbation pressure "
    "temperature tracer"
)
TRUE_VECTORS = "force momentum velocity"
PSEUDOSCALARS = "helicity potential_vorticity relative_vorticity stream_function vorticity"
PSEUDOVECTORS = "angular_velocity magnetic vorticity"


def names(scalars: str, vectors: str) -> set[str]:
    """The names of scalars, and of the components of vectors."""
    components = (f"{vector}_{axis}" for vector in vectors.split() for axis in "xyz")
    return {*scalars.split(), *components}


PSEUDO = dict.fromkeys(names(TRUE_SCALARS, TRUE_VECTORS), False)
PSEUDO |= dict.fromkeys(names(PSEUDOSCALARS, PSEUDOVECTORS), True)
