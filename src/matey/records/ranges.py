"""The ranges of what a model was trained on, and by how far an input lies outside of them.

A range is a low and a high end. Ranges are kept by quantity and name, as in
`{"value": {"height": (0.8, 2.1)}, "dt": {"": (0.01, 0.01)}}`:

    value       of a variable, all but the lowest and the highest 0.1 % of a frame's points
    extreme     the same of all points
    gradient    of a variable, how steep the steepest 0.1 % of a frame are along any axis
    dt          from one frame of a history to the next
    spacing     from one grid point to the next, by axis
    parameter   of the equations
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

Range = tuple[float, float]
Ranges = dict[str, dict[str, Range]]

KEY = "ranges"  # of what a model folder says of its training
WIDTHS = 0.1  # of a range that measured fields may lie beyond it: other samples of the same differ
ROUNDING = {"value": 1e-6, "extreme": 1e-6, "gradient": 1e-6}  # of an end, in float32
SAME = 1e-6  # of an end, by which the ends of a single value differ at most: times are rounded
SETTING = 0.01  # of an end that dt, spacing and parameters may lie beyond it
BEFORE = {  # the name, in a sentence
    "value": "",
    "extreme": "a point of ",
    "gradient": "the gradient of ",
    "dt": "dt",
    "spacing": "the spacing along ",
    "parameter": "parameter ",
}


@dataclass(frozen=True)
class Outside:
    """What of an input lies outside the range `low` to `high` of training: its `value`, farthest
    from it. `name` is the variable, the axis or the parameter; empty for dt. Of several inputs,
    `inputs` lie outside."""

    quantity: str
    name: str
    value: float
    low: float
    high: float
    units: str = ""
    inputs: int = 1

    @property
    def distance(self) -> float:
        """How far it lies beyond the nearer end."""
        return max(self.low - self.value, self.value - self.high)

    @property
    def widths(self) -> float | None:
        """The same over the width of the range; None where that is a single value."""
        width = self.high - self.low
        single = width <= SAME * max(abs(self.low), abs(self.high))
        return None if single else self.distance / width

    def __str__(self) -> str:
        what = BEFORE.get(self.quantity, f"{self.quantity} ") + self.name
        unit = f" {self.units}" if self.units else ""
        seen = f"{self.low:.4g}"
        seen += unit if self.widths is None else f" to {self.high:.4g}{unit}"
        share = "" if self.widths is None else f", {self.widths:.0%} of that range"
        steps = ". The model's steps are as long as in training" if self.quantity == "dt" else ""
        return (
            f"{what} is {self.value:.4g}{unit}; training had {seen}: outside by "
            f"{self.distance:.4g}{share}{steps}"
        )


def joined(parts: Iterable[Ranges]) -> Ranges:
    """The ranges that reach over all parts."""
    whole: Ranges = {}
    for part in parts:
        for quantity, ranges in part.items():
            known = whole.setdefault(quantity, {})
            for name, (low, high) in ranges.items():
                least, most = known.get(name, (low, high))
                known[name] = min(low, least), max(high, most)
    return whole


def compare(here: Ranges, seen: Ranges, units: Mapping[str, str]) -> list[Outside]:
    """What of an input lies outside the ranges `seen` in training, one for each quantity and name;
    nothing of those that are not known. `units` are those of variables.

    Fields measured may lie a tenth of the range's width beyond it. A point counts only where the
    values of its variable do not lie outside anyhow.
    """
    found: dict[tuple[str, str], Outside] = {}
    for quantity, ranges in here.items():
        for name, (lowest, highest) in ranges.items():
            if name not in seen.get(quantity, {}):
                continue
            low, high = seen[quantity][name]
            measured = quantity in ROUNDING
            slack = WIDTHS * (high - low) if measured else 0.0
            rounding = ROUNDING.get(quantity, SETTING)
            value = highest if highest - high > low - lowest else lowest
            end = high if value > high else low
            unit = "" if quantity == "gradient" else units.get(name, "") if measured else ""
            one = Outside(quantity, name, value, low, high, unit)
            if one.distance > slack + rounding * abs(end):
                found[quantity, name] = one
    return [
        one
        for (quantity, name), one in found.items()
        if quantity != "extreme" or ("value", name) not in found
    ]


def gathered(inputs: Iterable[Iterable[Outside]]) -> list[Outside]:
    """Of many inputs, the farthest outside of each quantity and name, and how many lie outside."""
    farthest: dict[tuple[str, str], Outside] = {}
    for found in inputs:
        for one in found:
            key = one.quantity, one.name
            before = farthest.get(key)
            worse = one if before is None or one.distance > before.distance else before
            farthest[key] = replace(worse, inputs=1 if before is None else before.inputs + 1)
    return list(farthest.values())
