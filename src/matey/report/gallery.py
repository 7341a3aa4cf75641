"""The pictures of a page: for each system its example, variable by variable, step by step.

Axes: S steps of a rollout, C variables, (Z, Y, X) grid points.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from markupsafe import Markup

from matey.report.charts import Chart, Line, line_chart
from matey.report.example import Cells, Example
from matey.report.figures import (
    LARGEST,
    Scale,
    cell_outlines,
    error_scale,
    field_scale,
    middle_slice,
    picture,
    relative_error,
)
from matey.report.load import Results
from matey.words import plural

DENSE = 36  # finest cells along half the page, from which on their outlines are faint
KEYS = 3  # frames that are printed, and seen without a script
MOVING = 256  # grid points along a side of a picture that moves
PICTURED = 6_000_000  # grid points in all pictures that move: about as many bytes of the page


@dataclass(frozen=True)
class Frame:
    """One step of a rollout: pictures by name, or of a one-dimensional field a chart.

    `errors` is the scale of its error. `key` frames are printed. `cells` is the name of the
    outlines over it and `count` how many they are: of the cells that the frame is cut into for
    the next step, where the file tells; else of those of the last frame given, without a count.
    """

    step: int
    key: bool
    nrmse: float
    errors: Scale
    cells: str = ""
    count: int | None = None
    pictures: tuple[tuple[str, str], ...] = ()
    chart: Chart | None = None

    @property
    def ahead(self) -> str:
        return f"{plural(self.step, 'step')} ahead"


@dataclass(frozen=True)
class Panel:
    """One variable of an example: its frames, the colour scale, the frame before them, and its
    error by step."""

    variable: str
    last: str
    frames: tuple[Frame, ...]
    values: Scale
    curve: Chart | None


@dataclass(frozen=True)
class Gallery:
    """The example of one system by one model."""

    key: str
    title: str
    model: str
    example: Example
    cells: tuple[Markup, ...]
    levels: tuple[tuple[int, str], ...]
    panels: tuple[Panel, ...]

    @property
    def aspect(self) -> str:
        """Width over height of its pictures, for a style sheet."""
        if self.example.extent is None:
            return f"{self.width} / {self.height}"
        return f"{self.example.aspect:.3g}"

    @property
    def width(self) -> int:
        return int(self.example.last.shape[3])

    @property
    def dense(self) -> bool:
        """Whether strong lines would hide the finest cells, small as they are on the page."""
        fits = DENSE * (2 if self.wide else 1)
        return bool(self.example.cells.size[:, 2].min(initial=self.width) * fits < self.width)

    @property
    def wide(self) -> bool:
        """Whether its pictures take the width of the page."""
        return self.example.aspect > 2

    @property
    def height(self) -> int:
        return int(self.example.last.shape[2])


def galleries(results: Sequence[Results]) -> list[Gallery]:
    """The pictures of every example, with as many frames as keep the page small."""
    examples = [
        (f"g{i}-{j}", result.name, system.name, result.examples[system.name])
        for i, result in enumerate(results)
        for j, system in enumerate(result.systems)
        if system.name in result.examples
    ]
    share = PICTURED // max(1, sum(len(example.variables) for *_, example in examples))
    return [
        gallery(key, model, f"{system}, {model}" if len(results) > 1 else system, example, share)
        for key, model, system, example in examples
    ]


def gallery(key: str, model: str, title: str, example: Example, share: int) -> Gallery:
    """The pictures of one system; `share` is how many grid points to picture per variable."""
    cells = example.cells
    counts = {level: int((cells.level == level).sum()) for level in sorted(set(cells.level))}
    sizes = {level: tuple(cells.size[cells.level == level][0]) for level in counts}
    active = [axis for axis in range(3) if example.last.shape[1 + axis] > 1] or [2]
    points = 3 * prod(min(size, MOVING) for size in example.last.shape[2:])
    most = len(example.steps) if example.ndim == 1 else max(KEYS, share // points)
    moving = evenly(len(example.steps), most)
    return Gallery(
        key=key,
        title=title,
        model=model,
        example=example,
        cells=tuple(outlines(example, key, moving)) if example.ndim > 1 and counts else (),
        levels=tuple(
            (count, " × ".join(str(sizes[level][axis]) for axis in active))
            for level, count in counts.items()
        ),
        panels=tuple(panel(example, c, key, moving) for c in by_change(example)),
    )


def outlines(example: Example, key: str, moving: Sequence[int]) -> Iterator[Markup]:
    """The cells of the last frame given, and of each frame that moves where they are known."""
    yield cell_outlines(example.cells, example.edges, key)
    if example.later is not None:
        for s in moving:
            yield cell_outlines(example.later[s], example.edges, f"{key}-{s}")


def by_change(example: Example) -> list[int]:
    """Variables sorted by how much they change, largest first."""
    changes = [
        relative_error(true, last)
        for true, last in zip(example.truth[-1], example.last, strict=True)
    ]
    return sorted(range(len(changes)), key=lambda c: -changes[c] if changes[c] > 0 else 0.0)


def evenly(count: int, most: int) -> list[int]:
    """At most so many of the numbers below `count`, spread evenly from first to last.

    >>> evenly(10, 4)
    [0, 3, 6, 9]
    """
    kept = min(count, most)
    return [i * (count - 1) // max(1, kept - 1) for i in range(kept)]


def panel(example: Example, c: int, key: str, moving: Sequence[int]) -> Panel:
    """One variable; the outlines of its gallery are called by `key`."""
    flat = example.ndim == 1
    keys = {moving[i] for i in evenly(len(moving), KEYS)}
    values = field_scale(example.truth[:, c])
    drawn = line_frame if flat else picture_frame
    return Panel(
        variable=example.variables[c],
        last="" if flat else picture(middle_slice(example.last[c]), values),
        frames=tuple(
            with_cells(drawn(example, c, s, values, s in keys), example, s, key) for s in moving
        ),
        values=values,
        curve=error_curve(example, c, moving),
    )


def with_cells(frame: Frame, example: Example, s: int, key: str) -> Frame:
    """The frame with its cells, or with those of the last frame given; without any of a model
    that has none."""
    if not len(example.cells):
        return frame
    if example.later is None:
        return replace(frame, cells=key)
    return replace(frame, cells=f"{key}-{s}", count=len(example.later[s]))


def error_curve(example: Example, c: int, moving: Sequence[int]) -> Chart | None:
    """The error of a rollout and of persistence at the steps drawn."""
    if len(moving) < 2:
        return None
    steps = [example.steps[s] for s in moving]
    ours, still = (
        [relative_error(example.truth[s, c], side(s)) for s in moving]
        for side in (lambda s: example.prediction[s, c], lambda _: example.last[c])
    )
    lines = [Line("this rollout", steps, ours, "s0"), Line("persistence", steps, still, "still")]
    return line_chart("Error by step", lines, "steps ahead", "NRMSE")


def picture_frame(example: Example, c: int, s: int, values: Scale, key: bool) -> Frame:
    """A step of one variable in the plane."""
    truth, prediction = example.truth[s, c], example.prediction[s, c]
    error = prediction - truth
    # A scale of its own for each step: errors grow, and the first would be white on the last's.
    errors = error_scale(error)
    sides = (("Truth", truth, values), ("Prediction", prediction, values), ("Error", error, errors))
    return Frame(
        step=example.steps[s],
        key=key,
        nrmse=relative_error(truth, prediction),
        errors=errors,
        pictures=tuple((name, picture(middle_slice(v), at, MOVING)) for name, v, at in sides),
    )


def line_frame(example: Example, c: int, s: int, values: Scale, key: bool) -> Frame:
    """A step of one variable along a line, on an axis that holds the truth of all steps."""
    axis = max(range(3), key=lambda a: example.last.shape[1 + a])
    count = example.last.shape[1 + axis]
    every = -(-count // LARGEST)
    points, edges, along = list(range(0, count, every)), example.edges[axis], "grid point"
    if example.extent is not None:
        low, high = example.extent[axis]
        points = [low + (point + 0.5) * (high - low) / count for point in points]
        edges, along = low + edges * (high - low) / count, "zyx"[axis]
    cells = example.cells if example.later is None else example.later[s]
    bands = fine_cells(cells, axis, int(example.cells.level.max(initial=0)), edges)
    truth, prediction = example.truth[s, c], example.prediction[s, c]
    sides = (
        ("last frame given", example.last[c], "still"),
        ("truth", truth, "truth"),
        ("prediction", prediction, "s0"),
    )
    lines = [Line(name, points, v.ravel()[::every].tolist(), style) for name, v, style in sides]
    frame = Frame(example.steps[s], key, relative_error(truth, prediction), values)
    labels, within = (along, example.variables[c]), (values.low, values.high)
    chart = line_chart(frame.ahead, lines, *labels, zero=False, bands=bands, within=within)
    return replace(frame, chart=chart)


def fine_cells(
    cells: Cells, axis: int, finest: int, edges: np.ndarray
) -> list[tuple[float, float]]:
    """Where the finest cells lie along an axis, by the edges of its points."""
    fine = cells.level == finest
    each = zip(cells.corner[fine, axis], cells.size[fine, axis], strict=True)
    return [(float(edges[low]), float(edges[low + size])) for low, size in each]
