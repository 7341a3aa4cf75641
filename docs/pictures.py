"""Draws the pictures of docs/tokens.md and docs/systems.md: simulated fields, and plans of them.

    python docs/pictures.py --out docs/pictures
    python docs/pictures.py --out docs/pictures --systems burgers \\
        --stills src/matey/simulate/stills.txt

`--systems` draws stills of these instead, of all if none is named; with `--stills` also those in
letters, which `matey simulate --list` shows. No model is trained for them:
which cells are refined follows from the fields alone.
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from matey.cli.simulate import LEVELS
from matey.config import RefineConfig
from matey.fields import Field
from matey.nn.schemes import segment
from matey.output import write_text
from matey.report.figures import field_scale
from matey.simulate import SYSTEMS as ALL
from matey.simulate import find_system, simulate
from matey.tokens.lattice import patch_shape
from matey.tokens.normalise import measure
from matey.tokens.pack import TokenSequence, locate, pack_local, pack_mixed
from matey.tokens.refine import RefinementPlan, plan_refinement

HISTORY = 4
INK, PAPER = "#20303a", "#ffffff"
SYSTEMS = {
    "shallow_water": ("Shallow water", 0),
    "diffusion_reaction": ("Diffusion-reaction", 0),
    "incompressible": ("Incompressible (tracer)", 2),
    "compressible": ("Compressible (density)", 0),
}
# The variable of a still, where it is not the first, and the frame of 21.
STILLS = {
    "incompressible": ("tracer", 12),
    "thermals": ("potential_temperature", 16),
    "mhd_cavity": ("magnetic_y", 20),
    "gray_scott": ("B", 20),
    "taylor_green": ("velocity_x", 16),
    "convection": ("temperature", 10),
    "fracture": ("damage", 12),
}
POINTS = 576  # of a still in letters
STAGES = {
    "vit": ("ViT",),
    "svit": ("SViT: over time", "SViT: over space"),
    "avit": ("AViT: over time", "AViT: along the axes"),
}


def history(system: str, resolution: int, frame: int = 12) -> Field:
    """The frames before and at one of 21 of the first trajectory of a system."""
    sizes = {"resolution": resolution, "steps": 21, "frames": frame + 1}
    field = simulate(system, trajectories=1, seed=0, **sizes)[0]
    kept = slice(frame + 1 - HISTORY, frame + 1)
    return Field(
        field.values[kept],
        field.times[kept],
        field.grid,
        field.boundaries,
        field.parameters,
        field.spec,
    )


def plan_of(field: Field, patches: Sequence[int], refine: RefineConfig) -> RefinementPlan:
    """The cells that the tool cuts a field into."""
    values = field.values[None]
    normalised = measure(values).normalise(values)
    sizes = [patch_shape(field.spec.ndim, patch) for patch in patches]
    return plan_refinement(normalised, torch.tensor([field.boundaries]), sizes, refine)


def boxes(plan: RefinementPlan, cells: Tensor) -> list[Rectangle]:
    """Cells of a plane, x to the right and y up, in grid points."""
    corner, size = plan.corner[cells].tolist(), plan.size[cells].tolist()
    return [Rectangle((x, y), dx, dy) for (_, y, x), (_, dy, dx) in zip(corner, size, strict=True)]


def draw_field(axes: Any, field: Field, variable: int, title: str, layer: int = 0) -> None:
    """The last frame of a variable, a layer of it."""
    values = field.values[-1, variable, layer].numpy()
    scale = field_scale(values)
    axes.imshow(
        values,
        origin="lower",
        extent=(0, values.shape[1], 0, values.shape[0]),
        cmap=scale.colours,
        vmin=scale.low,
        vmax=scale.high,
        interpolation="nearest",
    )
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.set_axis_off()


def draw_leaves(axes: Any, plan: RefinementPlan) -> None:
    """The outlines of the cells in use."""
    draw_cells(axes, plan, plan.leaves)


def draw_cells(axes: Any, plan: RefinementPlan, cells: Tensor) -> None:
    """The outlines of some cells."""
    for colour, width in (("#00000090", 1.4), ("#ffffff", 0.6)):
        axes.add_collection(
            PatchCollection(boxes(plan, cells), facecolor="none", edgecolor=colour, linewidth=width)
        )


def panels(columns: int, rows: int = 1, side: float = 3.0) -> tuple[Figure, Any]:
    """A figure of square panels with titles; `side` in inches."""
    size = (side * columns, (side + 0.2) * rows)
    figure = Figure(figsize=size, facecolor=PAPER, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG of few colours, so that it stays small."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = io.BytesIO()
    figure.savefig(raw, dpi=130, format="png", facecolor=PAPER)
    image = Image.open(raw).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    image.save(path, optimize=True)


def draw_thresholds(out: Path, resolution: int) -> None:
    """One field, and its cells at several thresholds."""
    field = history("compressible", resolution)
    figure, axes = panels(2, 2)
    for place, threshold in zip(axes.flat, (0.1, 0.3, 0.6, 1.0), strict=True):
        plan = plan_of(field, (16, 8), RefineConfig(threshold=threshold))
        draw_field(place, field, 0, f"γ = {threshold:g}: {len(plan.leaves)} tokens")
        draw_leaves(place, plan)
    save(figure, out / "thresholds.png")


def draw_systems(out: Path, resolution: int) -> None:
    """Several systems at one threshold, with three levels of cells."""
    figure, axes = panels(2, 2)
    for place, (system, (title, variable)) in zip(axes.flat, SYSTEMS.items(), strict=True):
        field = history(system, resolution)
        plan = plan_of(field, (16, 8, 4), RefineConfig(threshold=0.3))
        draw_field(place, field, variable, f"{title}: {len(plan.leaves)} tokens")
        draw_leaves(place, plan)
    save(figure, out / "systems.png")


def together(tokens: TokenSequence, scheme: str, stage: int, token: int) -> set[int]:
    """The tokens that one token attends to in a stage of a scheme."""
    cells, times = len(tokens.sequence), len(tokens.time)
    reached: set[int] = set()
    for segments in segment(scheme, tokens, folded=False)[stage]:
        for table in segments.tables(cells, times, tokens.sequence.device):
            rows = table[(table == token).any(dim=1)]
            reached |= set(rows.flatten().tolist())
    return reached


def draw_schemes(out: Path, resolution: int) -> None:
    """For one token of the last frame, which tokens of two frames it attends to."""
    field = history("shallow_water", resolution)
    plan = plan_of(field, (16, 8), RefineConfig(threshold=0.3))
    packing, times = pack_mixed(plan), 2
    tokens = locate(packing, times)
    corner, fine = plan.corner[packing.cell], plan.level[packing.cell] == 1
    away = (corner - corner[fine].float().mean(dim=0)).square().sum(dim=1)
    token = int(away.where(fine, torch.inf).argmin()) * times + times - 1
    columns = [(scheme, stage) for scheme in STAGES for stage in range(len(STAGES[scheme]))]
    figure, axes = panels(len(columns), times, 1.9)
    for column, (scheme, stage) in enumerate(columns):
        reached = together(tokens, scheme, stage, token)
        for time in range(times):
            place = axes[time, column]
            for cell, box in enumerate(boxes(plan, packing.cell)):
                here = cell * times + time
                colour = "#ffffff"
                if here in reached:
                    colour = "#f0862d" if here == token else "#8fc7bf"
                box.set(facecolor=colour, edgecolor="#5b6b73", linewidth=0.6)
                place.add_patch(box)
            place.set(xlim=(0, resolution), ylim=(0, resolution), aspect="equal")
            place.set_axis_off()
            if time == 0:
                place.set_title(STAGES[scheme][stage], fontsize=10, color=INK, loc="left")
    save(figure, out / "schemes.png")


def draw_modes(out: Path, resolution: int) -> None:
    """The sequences of tokens in the two adaptive modes, a colour each."""
    field = history("shallow_water", resolution)
    plan = plan_of(field, (16, 8), RefineConfig(threshold=0.3))
    mixed, local = pack_mixed(plan), pack_local(plan)
    coarse = local.sequence == 0
    titles = (
        (mixed, mixed.cell >= 0, "Adap_Mix: the leaves"),
        (local, coarse, "Adap_Mul: all coarse cells"),
        (local, ~coarse, "and inside refined ones"),
    )
    colours = ("#8fc7bf", "#f0b27a", "#b7a6d9", "#9cc5e8", "#e6a4b4", "#c8cf7c")
    figure, axes = panels(len(titles), side=2.3)
    for place, (packing, chosen, title) in zip(axes[0], titles, strict=True):
        cells, sequence = packing.cell[chosen], packing.sequence[chosen].tolist()
        for box, number in zip(boxes(plan, cells), sequence, strict=True):
            box.set(facecolor=colours[number % len(colours)], edgecolor=INK, linewidth=0.6)
            place.add_patch(box)
        place.set(xlim=(0, resolution), ylim=(0, resolution), aspect="equal")
        place.set_title(title, fontsize=10, color=INK, loc="left")
        place.set_axis_off()
    save(figure, out / "modes.png")


def draw_stills(out: Path, names: Sequence[str], resolution: int, stills: Path | None) -> None:
    """A frame of each system with its cells; in 3D the middle slice, of fewer points."""
    lines = {}
    if stills is not None and stills.exists():
        lines = dict(line.split(" ", 1) for line in stills.read_text().splitlines())
    for name in names:
        variable, frame = STILLS.get(name, ("", 12))
        in_space = find_system(name).spec(1.0).ndim == 3
        field = history(name, max(8, resolution // 4) if in_space else resolution, frame)
        shown = [v.name for v in field.spec.variables].index(variable) if variable else 0
        plan = plan_of(field, (8, 4) if in_space else (16, 8, 4), RefineConfig(threshold=0.3))
        middle = field.grid.shape[0] // 2
        draw_still(out / f"system-{name}.png", field, shown, plan, middle)
        lines[name] = letters(field.values[-1, shown, middle])
    if stills is not None:
        ordered = [name for name in ALL if name in lines]
        write_text(stills, "".join(f"{name} {lines[name]}\n" for name in ordered))


def draw_still(path: Path, field: Field, shown: int, plan: RefinementPlan, middle: int) -> None:
    """One variable of the last frame, and the cells that a slice cuts."""
    rows, columns = field.grid.shape[1:]
    figure = Figure(figsize=(3 * columns / rows, 3), facecolor=PAPER, layout="constrained")
    axes = figure.subplots()
    draw_field(axes, field, shown, "", middle)
    low, size = plan.corner[plan.leaves, 0], plan.size[plan.leaves, 0]
    draw_cells(axes, plan, plan.leaves[(low <= middle) & (middle < low + size)])
    save(figure, path)


def letters(values: Tensor) -> str:
    """A plane in letters, some hundreds of points from the upper left one on, after the number of
    points in a row."""
    rows, columns = values.shape
    width = round((POINTS * columns / rows) ** 0.5 / 2) * 2
    height = round(POINTS / width / 2) * 2
    scale = field_scale(values.numpy())
    small = adaptive_avg_pool2d(values[None].flip(1), (height, width)).flatten()
    levels = ((small - scale.low) / (scale.high - scale.low)).clamp(0, 1).mul(63).round()
    return f"{width} " + "".join(LEVELS[int(level)] for level in levels)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"), help="folder")
    parser.add_argument("--resolution", type=int, default=128, help="grid points along a side")
    parser.add_argument(
        "--systems", nargs="*", help="draw stills of these; of all if none is named"
    )
    parser.add_argument("--stills", type=Path, help="file for the stills in letters")
    options = parser.parse_args(arguments)
    if options.systems is not None:
        names = options.systems or list(ALL)
        draw_stills(options.out, names, options.resolution, options.stills)
        return
    for draw in (draw_thresholds, draw_systems, draw_schemes, draw_modes):
        draw(options.out, options.resolution)


if __name__ == "__main__":
    main()
