"""The metadata of a field, as one line of JSON that files hold beside its values."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from matey.errors import DataError, MateyError
from matey.fields.grid import Grid
from matey.fields.labels import Labels, check_order, read_labels
from matey.fields.system import Boundary, Sides, SystemSpec, Variable

KEY = "matey_field"  # the file attribute that holds it
FORMAT = 3  # without labels 2, without stretched or falling axes 1: older versions also read those


@dataclass(frozen=True)
class Description:
    """System, grid, boundaries and parameters of a field, and what its file calls its axes."""

    spec: SystemSpec
    grid: Grid
    boundaries: tuple[Sides, Sides, Sides]
    parameters: dict[str, float]
    labels: Labels | None = None

    def to_json(self) -> str:
        """One line of JSON, for `read_description`."""
        grid = {
            key: value
            for key, value in asdict(self.grid).items()
            if key not in ("positions", "falling") or any(value)
        }
        older = 2 if {"positions", "falling"} & set(grid) else 1
        labels = {"labels": self.labels.to_plain()} if self.labels else {}
        return json.dumps(
            {
                "format": FORMAT if labels else older,
                "system": {**asdict(self.spec), "variables": list(map(entry, self.spec.variables))},
                "grid": grid,
                "boundaries": [[Boundary(side).name for side in pair] for pair in self.boundaries],
                "parameters": self.parameters,
                **labels,
            }
        )


def entry(variable: Variable) -> dict[str, Any]:
    """A variable as it stands in a description, without what older versions do not know."""
    return {key: value for key, value in asdict(variable).items() if key != "mask" or value}


def read_description(
    text: str, where: str, attributes: Mapping[str, Mapping[str, Any]] | None = None
) -> Description:
    """Parse the description in a file or dataset, which errors call `where`; `attributes` are those
    of its arrays, and under "" its own.

    Raises DataError if it is damaged or of a newer format.
    """
    try:
        record = json.loads(text)
        if record["format"] > FORMAT:
            raise DataError(
                f"{where}: its {KEY} has format {record['format']}; this version of matey reads up "
                f"to {FORMAT}. Install a newer one."
            )
        low, mid, high = record["boundaries"]
        grid = read_grid(record["grid"])
        labels = None
        if "labels" in record:
            labels = read_labels(record["labels"], attributes or {})
            check_order(labels, grid.axes)
        return Description(
            read_spec(record["system"]),
            grid,
            (read_sides(low), read_sides(mid), read_sides(high)),
            {str(name): float(value) for name, value in record["parameters"].items()},
            labels,
        )
    except DataError:
        raise
    except (
        MateyError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise DataError(
            f"{where}: its attribute {KEY} is damaged: {type(error).__name__} {error}."
        ) from error


def read_spec(entry: Mapping[str, Any]) -> SystemSpec:
    """The system in a parsed description."""
    variables = tuple(
        Variable(**{**variable, "axes": tuple(variable["axes"])}) for variable in entry["variables"]
    )
    return SystemSpec(
        str(entry["name"]),
        int(entry["ndim"]),
        variables,
        tuple(entry["parameters"]),
        float(entry["dt"]),
    )


def read_grid(entry: Mapping[str, Any]) -> Grid:
    """The grid in a parsed description."""
    sizes = z, y, x = [int(points) for points in entry["shape"]]
    origin = [float(place) for place in entry["origin"]]
    spacing = [float(step) for step in entry["spacing"]]
    if not len(origin) == len(spacing) == len(sizes):
        raise ValueError(f"a grid of {sizes} points has the origin {origin}, spacing {spacing}")
    low, middle, high = (
        tuple(float(place) for place in points) for points in entry.get("positions", ((), (), ()))
    )
    return Grid(
        tuple(str(axis) for axis in entry["axes"]),
        (z, y, x),
        (origin[0], origin[1], origin[2]),
        (spacing[0], spacing[1], spacing[2]),
        (low, middle, high),
        tuple(str(axis) for axis in entry.get("falling", ())),
    )


def read_sides(names: Any) -> Sides:
    """The boundaries at the low and the high end of an axis."""
    low, high = names
    return Boundary[low], Boundary[high]
