"""The pictures of a page: for each system its example, variable by variable."""

from dataclasses import dataclass

from markupsafe import Markup

from matey.report.charts import Band, Chart, Line, line_chart
from matey.report.example import Example
from matey.report.figures import (
    Scale,
    cell_outlines,
    error_scale,
    field_scale,
    middle_slice,
    picture,
    relative_error,
)
from matey.report.scores import Results, SystemScores

DENSE = 36  # finest cells along half the page, from which on their outlines are faint


@dataclass(frozen=True)
class Frame:
    """One step of a rollout as pictures; `errors` is the scale of its error."""

    step: int
    truth: str
    prediction: str
    error: str
    errors: Scale
    nrmse: float


@dataclass(frozen=True)
class Panel:
    """One variable of an example: its frames, the colour scale, the frame before them.

    Of a one-dimensional field there are charts instead of pictures.
    """

    variable: str
    last: str
    frames: tuple[Frame, ...]
    values: Scale
    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class Gallery:
    """The example of one system by one model."""

    key: str
    title: str
    system: SystemScores
    example: Example
    cells: Markup
    levels: tuple[tuple[int, str], ...]
    panels: tuple[Panel, ...]

    @property
    def width(self) -> int:
        return int(self.example.last.shape[3])

    @property
    def dense(self) -> bool:
        """Whether the finest cells are so small on the page that strong lines would hide them."""
        fits = DENSE * (2 if self.wide else 1)
        return bool(self.example.size[:, 2].min(initial=self.width) * fits < self.width)

    @property
    def wide(self) -> bool:
        """Whether its pictures take the width of the page."""
        return self.width > 2 * self.height

    @property
    def height(self) -> int:
        return int(self.example.last.shape[2])


def gallery(
    key: str, result: Results, system: SystemScores, example: Example, several: bool
) -> Gallery:
    """The pictures of one system."""
    panel = line_panel if example.ndim == 1 else picture_panel
    counts = {level: int((example.level == level).sum()) for level in sorted(set(example.level))}
    sizes = {level: tuple(example.size[example.level == level][0]) for level in counts}
    active = [axis for axis in range(3) if example.last.shape[1 + axis] > 1] or [2]
    return Gallery(
        key=key,
        title=f"{system.name}, {result.name}" if several else system.name,
        system=system,
        example=example,
        cells=cell_outlines(example, key) if example.ndim > 1 else Markup(),
        levels=tuple(
            (count, " × ".join(str(sizes[level][axis]) for axis in active))
            for level, count in counts.items()
        ),
        panels=tuple(panel(example, c) for c in by_change(example)),
    )


def by_change(example: Example) -> list[int]:
    """Variables, first the one that changes most: what there was to predict."""
    changes = [
        relative_error(true, last)
        for true, last in zip(example.truth[-1], example.last, strict=True)
    ]
    return sorted(range(len(changes)), key=lambda c: -changes[c] if changes[c] > 0 else 0.0)


def picture_panel(example: Example, c: int) -> Panel:
    """One variable in the plane."""
    truth, prediction = example.truth[:, c], example.prediction[:, c]
    values = field_scale(truth)
    # A scale of its own for each step: errors grow, and the first would be white on the last's.
    scales = [error_scale(error) for error in prediction - truth]
    return Panel(
        variable=example.variables[c],
        last=picture(middle_slice(example.last[c]), values),
        frames=tuple(
            Frame(
                step=step,
                truth=picture(middle_slice(true), values),
                prediction=picture(middle_slice(predicted), values),
                error=picture(middle_slice(predicted - true), errors),
                errors=errors,
                nrmse=relative_error(true, predicted),
            )
            for step, true, predicted, errors in zip(
                example.steps, truth, prediction, scales, strict=True
            )
        ),
        values=values,
        charts=(),
    )


def line_panel(example: Example, c: int) -> Panel:
    """One variable along a line."""
    axis = max(range(3), key=lambda a: example.last.shape[1 + a])
    points = list(range(example.last.shape[1 + axis]))
    finest = example.level.max(initial=0)
    cells = [
        Band(float(low), float(low + size))
        for low, size, level in zip(
            example.corner[:, axis], example.size[:, axis], example.level, strict=True
        )
        if level == finest
    ]
    charts = []
    for step, true, predicted in zip(
        example.steps, example.truth[:, c], example.prediction[:, c], strict=True
    ):
        lines = [
            Line("last frame given", points, example.last[c].ravel().tolist(), "still"),
            Line("truth", points, true.ravel().tolist(), "truth"),
            Line("prediction", points, predicted.ravel().tolist(), "s0"),
        ]
        name = f"{step} step{'s' if step > 1 else ''} ahead"
        charts.append(
            line_chart(name, lines, "grid point", example.variables[c], zero=False, bands=cells)
        )
    scale = field_scale(example.truth[:, c])
    return Panel(example.variables[c], "", (), scale, tuple(charts))
