"""Pictures of fields, and of the cells over them.

Axes: S steps of a rollout, M leaf cells, C variables, (Z, Y, X) grid points. Of a
three-dimensional field the middle z slice is drawn. y points up.
"""

import base64
import io
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from markupsafe import Markup
from PIL import Image

from matey.errors import DataError
from matey.report.example import Cells, load_example
from matey.words import plural

FIELD, SIGNED = "viridis", "RdBu_r"
MISSING = (128, 128, 128)  # where a prediction is not finite
LARGEST = 512  # grid points along a picture's side; finer grids are thinned
SHADES = 255
# A rule of the page's style would not reach the path where pictures use it.
OUTLINES = Markup('<path id="{}" d="{}" fill="none" vector-effect="non-scaling-stroke"/>')


@dataclass(frozen=True)
class Scale:
    """A colour map over values from low to high."""

    low: float
    high: float
    colours: str

    def shades(self, values: Float[np.ndarray, "Y X"]) -> UInt8[np.ndarray, "Y X"]:
        """Numbers of the palette's colours; the last one where a value is not finite."""
        with np.errstate(invalid="ignore", over="ignore"):
            share = (values.astype(np.float64) - self.low) / (self.high - self.low)
        finite = np.isfinite(share)
        shade = np.clip(np.where(finite, share, 0), 0, 1) * (SHADES - 1)
        return np.where(finite, np.round(shade), SHADES).astype(np.uint8)

    def palette(self) -> list[int]:
        """Red, green and blue of each shade."""
        import matplotlib

        colours = matplotlib.colormaps[self.colours](np.linspace(0, 1, SHADES), bytes=True)
        return [*colours[:, :3].flatten().tolist(), *MISSING]

    @property
    def gradient(self) -> str:
        """The colour map as the stops of a CSS gradient."""
        palette = self.palette()
        stops = np.linspace(0, SHADES - 1, 17).round().astype(int)
        return ", ".join("#{:02x}{:02x}{:02x}".format(*palette[3 * i : 3 * i + 3]) for i in stops)


def field_scale(values: Float[np.ndarray, "..."]) -> Scale:
    """The scale of a variable: symmetric about zero where it has both signs alike."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low < 0 < high and min(-low, high) > 0.25 * max(-low, high):
        return error_scale(values, share=1.0)
    return Scale(low, high if high > low else low + (abs(low) or 1.0), FIELD)


def error_scale(values: Float[np.ndarray, "..."], share: float = 0.995) -> Scale:
    """A scale symmetric about zero that holds this share of the values."""
    sizes = np.abs(values[np.isfinite(values)])
    most = float(np.quantile(sizes, share)) if sizes.size else 1.0
    return Scale(-(most or 1.0), most or 1.0, SIGNED)


def middle_slice(values: Float[np.ndarray, "Z Y X"]) -> Float[np.ndarray, "Y X"]:
    """The slice of a field that is drawn."""
    return values[values.shape[0] // 2]


def picture(values: Float[np.ndarray, "Y X"], scale: Scale, most: int = LARGEST) -> str:
    """A slice as the data of a PNG with one pixel per grid point, y up.

    Of a grid that is finer than `most` points along a side, every second, third ... is drawn.
    """
    thin = max(1, -(-max(values.shape) // most))
    image = Image.fromarray(scale.shades(values[::thin, ::thin][::-1]))
    image.putpalette(scale.palette())  # makes it an indexed image
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def cells_in_slice(
    cells: Cells, edges: Sequence[np.ndarray]
) -> list[tuple[float, float, float, float, int]]:
    """Leaf cells that the drawn slice cuts: x, y from above, width, height, level.

    `edges` are those of the grid points' cells along Z, Y and X, in points of the picture.
    """
    z, y, x = (one.tolist() for one in edges)
    middle, rows = z[-1] // 2, y[-1]
    each = zip(cells.corner.tolist(), cells.size.tolist(), cells.level.tolist(), strict=True)
    return [
        (x[i], rows - y[j + dj], x[i + di] - x[i], y[j + dj] - y[j], level)
        for (k, j, i), (dk, dj, di), level in each
        if z[k] <= middle < z[k + dk]
    ]


def cell_outlines(cells: Cells, edges: Sequence[np.ndarray], key: str) -> Markup:
    """The leaf cells of the drawn slice, y up, as an SVG path that pictures refer to.

    Left and upper edges only: leaves tile the plane, so that each line is drawn once. Edges
    that follow each other are one line: a plan of a page with many of them stays small.
    """
    upright: dict[float, list[tuple[float, float]]] = defaultdict(list)
    level: dict[float, list[tuple[float, float]]] = defaultdict(list)
    for left, top, width, height, _ in cells_in_slice(cells, edges):
        x, y = round(left, 2), round(top, 2)
        upright[x].append((y, round(top + height, 2)))
        level[y].append((x, round(left + width, 2)))
    lines = [f"M{x:g} {a:g}V{b:g}" for x in sorted(upright) for a, b in merged(upright[x])]
    lines += [f"M{a:g} {y:g}H{b:g}" for y in sorted(level) for a, b in merged(level[y])]
    return OUTLINES.format(key, "".join(lines))


def merged(pieces: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Pieces of one line, from and to, with those that touch as one.

    >>> merged([(4, 8), (0, 4), (12, 16)])
    [(0, 8), (12, 16)]
    """
    lines: list[tuple[float, float]] = []
    for start, end in sorted(pieces):
        if lines and lines[-1][1] == start:
            start = lines.pop()[0]
        lines.append((start, end))
    return lines


def token_map(
    example: Path, out: Path, variable: str | None = None, step: int | None = None
) -> None:
    """Draw a banner: what happened, what was predicted, and the cells of the plan.

    `example` is a file of `examples/` in a results folder; `step` is one of its steps, by
    default the last. Writes a PNG, 1800 points wide. Raises DataError for a name or a step
    that the example does not have, and for a one-dimensional field.
    """
    from matplotlib.figure import Figure

    loaded = load_example(example)
    if loaded.ndim == 1:
        raise DataError(f"{example} is one-dimensional: a token map needs a plane to draw.")
    c = place_of(
        loaded.variables[0] if variable is None else variable,
        loaded.variables,
        f"{example}: variable",
    )
    s = place_of(loaded.steps[-1] if step is None else step, loaded.steps, f"{example}: step")
    truth, prediction = middle_slice(loaded.truth[s, c]), middle_slice(loaded.prediction[s, c])
    last = middle_slice(loaded.last[c])
    scale = field_scale(np.stack([truth, last]))
    ahead = f"{plural(loaded.steps[s], 'step')} ahead"
    panels = [
        (last, f"Where the tokens go: {len(loaded.cells):,} cells"),
        (prediction, f"Predicted, {ahead}"),
        (truth, f"Simulated, {ahead}"),
    ]
    ink, paper = "#e6edf3", "#0d1b24"
    figure = Figure(figsize=(12, 12 / 3 / loaded.aspect * 0.94 + 0.62), facecolor=paper)
    grid = figure.add_gridspec(1, 3, left=0.015, right=0.985, bottom=0.03, top=0.885, wspace=0.04)
    for column, (values, title) in enumerate(panels):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(
            values[::-1],
            cmap=scale.colours,
            vmin=scale.low,
            vmax=scale.high,
            extent=(0, values.shape[1], values.shape[0], 0),
            interpolation="bilinear",
            aspect=truth.shape[1] / truth.shape[0] / loaded.aspect,
        )
        axes.set_title(title, color=ink, fontsize=13, loc="left", pad=9)
        axes.set_axis_off()
        if column == 0:
            draw_cells(axes, cells_in_slice(loaded.cells, loaded.edges))
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150, facecolor=paper, format="png")


def draw_cells(axes: Any, cells: Sequence[tuple[float, float, float, float, int]]) -> None:
    """The leaf cells of the drawn slice over a plot of it, coarse ones more faintly."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    finest = max((level for *_, level in cells), default=0)
    for level in range(finest + 1):
        boxes = [Rectangle((x, y), w, h) for x, y, w, h, at in cells if at == level]
        for colour, width in (("#0d1b2490", 2.0), ("#ffffff", 0.9)):
            strength = 1.0 if level == finest else 0.6
            patches = PatchCollection(boxes, facecolor="none", edgecolor=colour, linewidth=width)
            patches.set_alpha(strength)
            axes.add_collection(patches)


def place_of(name: Any, names: Sequence[Any], what: str) -> int:
    """The place of a name or a step among those that are there. Raises DataError."""
    if name not in names:
        raise DataError(f"{what} {name!r} is not there; found {', '.join(map(str, names))}.")
    return names.index(name)


def relative_error(truth: Float[np.ndarray, "..."], prediction: Float[np.ndarray, "..."]) -> float:
    """The NRMSE of one frame of one variable, over the points that hold one: masked ones are NaN.
    NaN for a field that is zero everywhere."""
    there = np.isfinite(truth)
    if not there.all():
        truth, prediction = truth[there], prediction[there]
    with np.errstate(invalid="ignore", over="ignore"):
        size = float(np.sqrt(np.mean(np.square(truth.astype(np.float64)))))
        error = float(np.sqrt(np.mean(np.square(prediction.astype(np.float64) - truth))))
    return error / size if size > 0 else math.nan
