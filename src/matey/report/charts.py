"""Line charts as inline SVG: sharp at every size, coloured by the page's style sheet.

A chart's classes `s0` to `s7` are the series colours and dashes, `still` is persistence and `fit`
the least-squares stencil.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup

from matey.records.study import Plot, Spot

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 64, 10, 10, 36
COLOURS = 8

# Markup.format escapes what it is given.
SVG = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
GRID = Markup('<line class="{}" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>')
TICK = Markup('<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
ACROSS = Markup('<text class="label" x="{:.0f}" y="{}" text-anchor="middle">{}</text>')
UP = Markup(
    '<text class="label" transform="translate(11 {:.0f}) rotate(-90)" text-anchor="middle">'
    "{}</text>"
)
NAME = Markup('<text class="name" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
SERIES = Markup('<g class="{}"><path d="{}"/>{}</g>')
DOT = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3" data-x="{}"><title>{}</title></circle>')
CELL = Markup('<rect class="cell" x="{:.1f}" y="{}" width="{:.1f}" height="6"/>')
NOTHING = Markup('<p class="note">No finite value to draw.</p>')

MARKED = 24  # points up to which each has a dot with its value


@dataclass(frozen=True)
class Line:
    """One series; points that are not finite interrupt it."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: str


@dataclass(frozen=True)
class Chart:
    """A drawn chart with its legend."""

    title: str
    svg: Markup
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic axis, from values to places between `start` and `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        ticks = log_ticks(self.low, self.high) if self.log else []
        # A short logarithmic axis holds none of its round values.
        return ticks if len(ticks) > 1 else nice_ticks(self.low, self.high)


def series(index: int) -> str:
    """The class of the series with this number."""
    return f"s{index % COLOURS}"


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """About that many round values inside [low, high].

    >>> nice_ticks(0, 0.93)
    [0.0, 0.2, 0.4, 0.6, 0.8]
    """
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten inside [low, high], with 2 and 5 between where they are few, and round values
    where these are few too."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if math.log10(high / low) < 2.5 else (1,)
    ticks = [factor * 10.0**power for power in decades for factor in factors]
    inside = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
    return inside[:: max(1, len(inside) // 6)] if len(inside) > 2 else nice_ticks(low, high, 4)


def spread(values: Iterable[float]) -> float:
    """Largest over smallest of the positive values: whether a linear axis would hide some."""
    positive = [value for value in values if value > 0 and math.isfinite(value)]
    return max(positive) / min(positive) if positive else 1.0


def line_chart(
    title: str,
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    log: bool = False,
    zero: bool = True,
    bands: Sequence[tuple[float, float]] = (),
    log_x: bool = False,
    within: Sequence[float] = (),
) -> Chart:
    """Lines over a common x axis; `zero` keeps 0 on a linear y axis, `within` are values that it
    holds too, `bands` stretches of the x axis that are marked along the bottom. A logarithmic
    x axis takes positive x only."""
    xs = [x for line in lines for x in line.x]
    ys = [y for line in lines for y in line.y if math.isfinite(y) and (y > 0 or not log)]
    if not ys:
        return Chart(title, NOTHING, tuple(lines))
    ends = widened(min(xs), max(xs), 0)
    if log_x:
        ends = min(xs), max(xs) * (1 + (min(xs) == max(xs)))
    across = Axis(*ends, LEFT, WIDTH - RIGHT, log=log_x)
    low, high = min([*ys, *within]), max([*ys, *within])
    if log:
        up = Axis(low / 1.15, high * 1.15, HEIGHT - BOTTOM, TOP, log=True)
    else:
        low = min(low, 0.0) if zero else low
        up = Axis(*widened(low, high, 0.06, fixed=zero and low == 0), HEIGHT - BOTTOM, TOP)
    whole = all(x == int(x) for x in xs)
    parts = [frame(across, up, x_label, y_label, whole)]
    for low, high in (map(across.place, band) for band in bands):
        parts.append(CELL.format(low, HEIGHT - BOTTOM - 7, max(high - low - 1, 0.5)))
    parts += [drawn(line, across, up) for line in lines]
    return Chart(title, drawing(title, x_label, y_label, parts), tuple(lines))


def fan_chart(
    title: str,
    steps: Sequence[float],
    quantiles: Sequence[Sequence[float]],
    truth: Sequence[float],
    y_label: str,
) -> Chart:
    """What members say over the steps ahead, and the truth: an odd number of quantiles, lowest
    first, of which each pair about the middle one is a band."""
    middle = len(quantiles) // 2
    lines = [Line("median", steps, quantiles[middle], "s0"), Line("truth", steps, truth, "truth")]
    ys = [y for row in (*quantiles, truth) for y in row if math.isfinite(y)]
    if not ys:
        return Chart(title, NOTHING, tuple(lines))
    across = Axis(*widened(min(steps), max(steps), 0), LEFT, WIDTH - RIGHT)
    up = Axis(*widened(min(ys), max(ys), 0.06), HEIGHT - BOTTOM, TOP)
    parts = [frame(across, up, "steps ahead", y_label, whole=True)]
    for low, high in zip(quantiles[:middle], quantiles[:middle:-1], strict=True):
        there = [
            (x, a, b)
            for x, a, b in zip(steps, low, high, strict=True)
            if math.isfinite(a) and math.isfinite(b)
        ]
        edge = [(x, b) for x, _, b in there] + [(x, a) for x, a, _ in reversed(there)]
        places = [f"{across.place(x):.1f} {up.place(y):.1f}" for x, y in edge]
        parts.append(SERIES.format("s0 fan", "M" + "L".join(places) + "Z" if places else "", ""))
    parts += [drawn(line, across, up) for line in lines]
    return Chart(title, drawing(title, "steps ahead", y_label, parts), tuple(lines))


def scatter_chart(title: str, points: Sequence[Line], x_label: str, y_label: str) -> Chart:
    """Single points with their names beside them; both axes are linear, the y axis from 0."""
    points = [point for point in points if math.isfinite(point.y[0])]
    if not points:
        return Chart(title, NOTHING, ())
    xs, ys = [point.x[0] for point in points], [point.y[0] for point in points]
    across = Axis(*widened(min(xs), max(xs), 0.08), LEFT, WIDTH - RIGHT)
    up = Axis(*widened(min(0.0, *ys), max(ys), 0.1, fixed=min(ys) >= 0), HEIGHT - BOTTOM, TOP)
    parts = [frame(across, up, x_label, y_label, whole=False)]
    parts += [drawn(point, across, up) for point in points]
    for point in points:
        x, y = across.place(point.x[0]), up.place(point.y[0])
        at, anchor = (x - 7, "end") if x > (LEFT + WIDTH) / 2 else (x + 7, "start")
        parts.append(NAME.format(at, y - 5, anchor, point.name))
    return Chart(title, drawing(title, x_label, y_label, parts), ())


def cloud_chart(plot: Plot) -> Chart:
    """Points with intervals, and the lines of a claim; each point says its name and value when
    pointed at.

    Only points of finite place are drawn, positive ones on logarithmic axes; an interval is cut at
    the edges.
    """
    lines = tuple(Line(group.name, (), (), series(i)) for i, group in enumerate(plot.groups))
    spots = [spot for group in plot.groups for spot in group.spots]
    placed = [spot for spot in spots if has_place(spot, plot.linear)]
    if not placed:
        return Chart(plot.title, NOTHING, ())
    across, up = cloud_axes(plot, placed)
    parts = [frame(across, up, plot.x, plot.y, whole=False)]
    if plot.goal_y is not None:
        parts.append(GRID.format("goal", LEFT, WIDTH - RIGHT, *[up.place(plot.goal_y)] * 2))
    if plot.goal_x is not None:
        x = across.place(plot.goal_x)
        parts.append(GRID.format("goal", x, x, TOP, HEIGHT - BOTTOM))
    for i, group in enumerate(plot.groups):
        places, inner = [], []
        for spot in (one for one in group.spots if one in placed):
            x, y = across.place(spot.x), up.place(spot.y)
            places.append(f"{x:.1f} {y:.1f}")
            text = f"{spot.name}: {short(spot.y)} at {short(spot.x)}"
            inner.append(DOT.format(x, y, spot.x, text))
            if not math.isnan(spot.low + spot.high):
                ends = [min(max(end, up.low), up.high) for end in (spot.low, spot.high)]
                inner.append(GRID.format("whisker", x, x, *map(up.place, ends)))
        path = "M" + "L".join(places) if group.joined and places else ""
        parts.append(SERIES.format(series(i), path, Markup().join(inner)))
    return Chart(plot.title, drawing(plot.title, plot.x, plot.y, parts), lines)


def cloud_axes(plot: Plot, spots: Sequence[Spot]) -> tuple[Axis, Axis]:
    """The axes that hold some points, the lines of the claim, and what of the intervals is not far
    beyond."""
    goals = [[] if goal is None else [goal] for goal in (plot.goal_x, plot.goal_y)]
    xs = [*(spot.x for spot in spots), *goals[0]]
    ys = [*(spot.y for spot in spots), *goals[1]]
    ends = [end for spot in spots for end in (spot.low, spot.high)]
    if plot.linear:
        reach = max(ys) - min(ys)
        ys += [end for end in ends if min(ys) - reach < end < max(ys) + reach]
        return (
            Axis(*widened(min(xs), max(xs), 0.08), LEFT, WIDTH - RIGHT),
            Axis(*widened(min(ys), max(ys), 0.06), HEIGHT - BOTTOM, TOP),
        )
    ys += [end for end in ends if min(ys) / 2 < end < max(ys) * 2]
    return (
        Axis(min(xs) / 1.15, max(xs) * 1.15, LEFT, WIDTH - RIGHT, log=True),
        Axis(min(ys) / 1.08, max(ys) * 1.08, HEIGHT - BOTTOM, TOP, log=True),
    )


def has_place(spot: Spot, linear: bool) -> bool:
    """Whether a point can be drawn."""
    if linear:
        return math.isfinite(spot.x) and math.isfinite(spot.y)
    return 0 < spot.x < math.inf and 0 < spot.y < math.inf


def drawing(title: str, x_label: str, y_label: str, parts: Iterable[Markup]) -> Markup:
    """A whole chart of its parts."""
    return SVG.format(WIDTH, HEIGHT, f"{title}: {y_label} over {x_label}", Markup().join(parts))


def widened(low: float, high: float, margin: float, fixed: bool = False) -> tuple[float, float]:
    """An interval of positive length with a margin; `fixed` leaves its low end."""
    length = high - low or abs(high) or 1.0
    grown = low if fixed or (high > low and not margin) else low - (margin or 0.5) * length
    return grown, high + (margin if high > low else margin or 0.5) * length


def frame(across: Axis, up: Axis, x_label: str, y_label: str, whole: bool) -> Markup:
    """Grid lines, ticks and labels; `whole` labels the x axis at whole numbers only."""
    base = HEIGHT - BOTTOM
    parts = []
    for tick in up.ticks():
        y = up.place(tick)
        parts.append(GRID.format("grid", LEFT, WIDTH - RIGHT, y, y))
        parts.append(TICK.format(LEFT - 7, y + 4, "end", short(tick)))
    for tick in across.ticks():
        if whole and tick != int(tick):
            continue
        x = across.place(tick)
        anchor = "end" if x > WIDTH - RIGHT - 12 else "middle"
        parts.append(TICK.format(x, base + 16, anchor, short(tick)))
    parts.append(GRID.format("axis", LEFT, WIDTH - RIGHT, base, base))
    parts.append(ACROSS.format((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 3, x_label))
    parts.append(UP.format((TOP + base) / 2, y_label))
    return Markup().join(parts)


def drawn(line: Line, across: Axis, up: Axis) -> Markup:
    """One series as a path, with a dot and its value at each point where they are few."""
    path: list[str] = []
    dots: list[Markup] = []
    pen = "M"
    for x, y in zip(line.x, line.y, strict=True):
        if not math.isfinite(y) or (up.log and y <= 0):
            pen = "M"
            continue
        at_x, at_y = across.place(x), up.place(y)
        path.append(f"{pen}{at_x:.1f} {at_y:.1f}")
        pen = "L"
        if len(line.x) <= MARKED:
            dots.append(DOT.format(at_x, at_y, x, f"{line.name}: {short(y)} at {short(x)}"))
    return SERIES.format(line.style, "".join(path), Markup().join(dots))


def short(value: float) -> str:
    """A number for a tick: three significant digits, thousands set apart."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    size = abs(value)
    if size >= 1e6 or size < 1e-3:
        mantissa, exponent = f"{size:.1e}".split("e")
        text = f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    elif size >= 1000:
        text = f"{size:,.0f}".replace(",", "\u2009")
    else:
        text = f"{size:.3g}"
    return ("−" if value < 0 else "") + text


def thinned(
    x: Sequence[float], y: Sequence[float], most: int = 300
) -> tuple[list[float], list[float]]:
    """A long series as means over at most `most` equal stretches."""
    size = -(-len(x) // most)
    if size <= 1:
        return list(x), list(y)
    starts = range(0, len(x), size)
    xs, ys = ([fmean(values[i : i + size]) for i in starts] for values in (x, y))
    return xs, ys
