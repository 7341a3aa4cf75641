"""Draws the plots of docs/results.md: errors over a cost, as `matey study` found them.

python docs/study_plots.py studies/tokens --x "seconds per step" --out docs/pictures/tokens.png
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pictures import INK, PAPER, save

from matey.report.charts import log_ticks, short

COLOURS = ("#20303a", "#d9742b", "#2f8f83", "#7a5fb0", "#4a86c5", "#c04a6a", "#8a8f2a")
STYLES = ("-", "--", ":")  # once all colours are taken
COLUMNS = 3
ALONE = (6.4, 4.0)  # inches of a plot without others
FEW = 4  # values on the horizontal axis that each have a tick
LINE = 60  # letters of a legend that fit into one line


def draw(axes: Axes, plot: Mapping[str, Any]) -> None:
    """One plot: a point for each operating point, a bar for its interval."""
    looks = [(colour, style) for style in STYLES for colour in COLOURS]
    assert len(plot["groups"]) <= len(looks), "more groups than there are colours and lines"
    for group, (colour, style) in zip(plot["groups"], looks, strict=False):
        there = (spot for spot in group["spots"] if spot["y"] is not None)  # None: it diverged
        spots = sorted(there, key=lambda spot: spot["x"])
        x, y = ([spot[key] for spot in spots] for key in ("x", "y"))
        bars = [[bar(spot, end) for spot in spots] for end in ("low", "high")]
        axes.errorbar(
            x,
            y,
            yerr=bars,
            fmt=f"o{style}" if group["joined"] else "o",
            color=colour,
            markersize=3.5,
            linewidth=1,
            elinewidth=0.7,
            label=group["name"],
        )
    axes.set(xscale="log", yscale="log")
    axes.set_title(plot["title"].partition(":")[0], fontsize=9, color=INK, loc="left")
    at = {spot["x"] for group in plot["groups"] for spot in group["spots"]}
    for axis in (axes.xaxis, axes.yaxis):
        few = axis is axes.xaxis and len(at) <= FEW
        ticks = sorted(at) if few else log_ticks(*axis.get_view_interval())
        axis.set_ticks(ticks, [short(tick) for tick in ticks], fontsize=7)
        axis.set_ticks([], minor=True)


def bar(spot: Mapping[str, Any], end: str) -> float:
    """How far an interval reaches from its point; 0 where it has no such end."""
    return 0.0 if spot[end] is None else abs(spot[end] - spot["y"])


def figure_of(plots: Sequence[Mapping[str, Any]]) -> Figure:
    """The plots beside each other, with one legend."""
    columns = COLUMNS if len(plots) > 1 else 1
    rows = -(-len(plots) // columns)
    size = (3.1 * columns, 2.5 * rows + 0.5) if len(plots) > 1 else ALONE
    figure = Figure(figsize=size, facecolor=PAPER)
    figure.set_layout_engine("constrained")
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for plot, axes in zip(plots, places, strict=False):
        draw(axes, plot)
    for axes in places[len(plots) :]:
        axes.set_axis_off()
    known = {}
    for axes in figure.axes:
        handles, names = axes.get_legend_handles_labels()
        known |= dict(zip(names, handles, strict=True))
    figure.legend(
        list(known.values()),
        list(known),
        loc="outside upper center",
        ncols=len(known) if len("".join(known)) < LINE else COLUMNS,
        fontsize=8,
        frameon=False,
    )
    figure.supxlabel(plots[0]["x"], fontsize=8, color=INK)
    figure.supylabel(plots[0]["y"], fontsize=8, color=INK)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the plots of a study that have one cost on their horizontal axis."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="folder of a study")
    parser.add_argument("--x", required=True, help="the horizontal axis, as the page names it")
    parser.add_argument("--out", type=Path, required=True, help="PNG file")
    options = parser.parse_args(arguments)
    plots = json.loads((options.study / "study.json").read_text(encoding="utf-8"))["plots"]
    chosen = [plot for plot in plots if plot["x"] == options.x]
    if not chosen:
        names = ", ".join(sorted({plot["x"] for plot in plots}))
        parser.error(f"{options.study} has no plot over {options.x!r}, but over {names}")
    save(figure_of(chosen), options.out)


if __name__ == "__main__":
    main()
