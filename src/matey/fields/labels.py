"""What a file calls the axes, times and quantities of a field, and what else it says of them.

Axes: T times, (Z, Y, X) grid points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matey.fields.grid import Grid


@dataclass(frozen=True)
class Labels:
    """The names of a field's axes in its file, and attributes.

    `order` are `time` and the axes of the grid as arrays are stored, slowest first; `dims` is what
    the file calls them, and `coordinates` which array holds the positions along each (empty where
    none does). Static variables called `still` have no axis of time. `attributes` are those of
    arrays by their names, and under "" those of the file.
    """

    order: tuple[str, ...]
    dims: tuple[str, ...]
    coordinates: tuple[str, ...]
    still: tuple[str, ...] = ()
    attributes: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def dim(self, axis: str) -> str:
        """What the file calls an axis."""
        return self.dims[self.order.index(axis)]

    def coordinate(self, axis: str) -> str:
        """The array of positions along an axis; empty where the file has none."""
        return self.coordinates[self.order.index(axis)]

    @property
    def time(self) -> str:
        """The array of times: of a file without one, called after its axis."""
        return self.coordinate("time") or self.dim("time")

    def of(self, name: str) -> dict[str, Any]:
        """The attributes of an array, or of the file."""
        return dict(self.attributes.get(name, {}))

    def to_plain(self) -> dict[str, Any]:
        """As plain data, with the names of the file's attributes in place of them all: files and
        datasets hold those."""
        return {
            "order": list(self.order),
            "dims": list(self.dims),
            "coordinates": list(self.coordinates),
            "still": list(self.still),
            "attributes": sorted(self.of("")),
        }


def plain_labels(grid: Grid) -> Labels:
    """The labels of a field whose file has no names of its own."""
    axes = ("time", *grid.axes)
    return Labels(axes, axes, axes)


def read_labels(entry: Mapping[str, Any], attributes: Mapping[str, Mapping[str, Any]]) -> Labels:
    """The labels in a parsed description, with the attributes of arrays and file that stand beside
    it. Raises KeyError, TypeError or ValueError where they are damaged."""
    order, dims, coordinates, still, kept = (
        tuple(str(word) for word in entry[key])
        for key in ("order", "dims", "coordinates", "still", "attributes")
    )
    if not len(order) == len(dims) == len(coordinates) or "time" not in order:
        raise ValueError(f"labels of the axes {order} are {dims} and {coordinates}")
    whole = attributes.get("", {})
    here = {"": {name: whole[name] for name in kept if name in whole}}
    return Labels(order, dims, coordinates, still, {**attributes, **here})


def check_order(labels: Labels, axes: Sequence[str]) -> None:
    """Raise ValueError unless labels are of time and these axes."""
    if sorted(labels.order) != sorted(("time", *axes)):
        raise ValueError(f"labels of {labels.order} do not fit a grid of {tuple(axes)}")
