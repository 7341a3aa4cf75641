"""Cost of a training step against tokens, 256 to 65,536, and the exponents that fit it.

    python benchmarks/scaling.py --plot docs/scaling.svg
    python benchmarks/scaling.py --device cuda --size S

Operations and memory are counted for every point; time is measured where a step is expected to
take less than `--seconds` and fits into memory, and left empty beyond.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from common import Peak, interleaved, options, report, rough_inputs, sized, spec_of, timed

from matey.config import RefineConfig
from matey.cost.count import step_cost
from matey.cost.machine import free_memory
from matey.cost.memory import step_memory
from matey.nn.make import outline_model
from matey.nn.transformer import Matey
from matey.tokens.pack import PACKINGS
from matey.train.loss import squared_nrmse

TIMES, VARIABLES = 4, 4
# Points along a side, for 256 to 65,536 tokens of 8² and for about as many, a quarter of 32²
# cells cut into 8² ones.
MODES = {
    "uniform": ((8,), (64, 128, 256, 512, 1024)),
    "adap_mix": ((32, 8), (128, 256, 512, 1024, 2048)),
}
SLOWEST = 0.25  # of the peak's rate: what is expected of a step before it is measured
LONG = 4.0  # seconds from which on a step is timed once, not `--repeats` times


def main() -> None:
    """Measure, fit, report and plot."""
    parser = options(__doc__, "benchmarks/results/scaling.json")
    parser.add_argument("--size", default="Ti")
    parser.add_argument("--schemes", nargs="+", default=["vit", "svit", "avit"])
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    parser.add_argument("--tokens", type=int, default=80_000, help="leave out larger points")
    parser.add_argument("--seconds", type=float, default=60, help="longest step to measure")
    parser.add_argument("--plot", help="an SVG or PNG file to draw")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    peak = Peak(args.device)
    series = [(scheme, mode) for scheme in args.schemes for mode in args.modes]
    rows = [
        row
        for scheme, mode in series
        for points in MODES[mode][1]
        if (row := measure(scheme, mode, points, args, peak)) is not None
    ]
    fits = [
        {"scheme": scheme, "mode": mode}
        | {what: exponent(of_series(rows, scheme, mode), what) for what in ("GFLOP", "s", "MB")}
        for scheme, mode in series
    ]
    settings = {name: value for name, value in vars(args).items() if name not in ("out", "plot")}
    report(rows, args.out, args.device, settings=settings, exponents=fits)
    print("\nexponents over the largest factor of 16 in tokens (s: of what was measured):")
    for fit in fits:
        print("  ", ", ".join(f"{key} {value}" for key, value in fit.items()))
    if args.plot:
        plot(rows, series, Path(args.plot))


def measure(
    scheme: str, mode: str, points: int, args: argparse.Namespace, peak: Peak
) -> dict | None:
    """One row of the table; None where it has more tokens than asked for."""
    patches, _ = MODES[mode]
    spec = spec_of(VARIABLES)
    config = sized(args.size, scheme=scheme, mode=mode, patches=patches)
    config = replace(config, refine=RefineConfig(fraction=0.25))
    cells = (points // patches[0]) ** 2
    inputs = rough_inputs(spec, TIMES, points, patches[0], [cells // 4])
    outline = outline_model(config, [spec], TIMES)  # the full one need not fit
    plan = outline.plan_inputs(inputs)
    tokens = len(PACKINGS[mode](plan).cell) * TIMES
    if tokens > args.tokens:
        return None
    cost, memory = step_cost(outline, spec, plan), step_memory(outline, spec, plan)
    row = {
        "scheme": scheme,
        "mode": mode,
        "tokens": tokens,
        "GFLOP": cost.operations / 1e9,
        "MB": memory.total / 1e6,
        "s": None,
        "step / peak": None,
    }
    expected = cost.operations / (SLOWEST * peak.measure())
    free = free_memory(args.device)
    # Freed blocks stay in the heap: room for twice what is counted.
    if expected > args.seconds or (free is not None and 2 * memory.total > free):
        return row
    inputs = inputs.to(torch.device(args.device))
    model = Matey(config, [spec], TIMES).to(args.device).train()
    target = torch.randn_like(inputs.values[:, 0])

    def step() -> None:
        model.zero_grad(set_to_none=True)
        squared_nrmse(model(inputs).normalised, target).backward()

    if expected > LONG:
        rate, seconds = peak.measure(), timed(step, args.device)
        found = {"seconds": seconds, "of_peak": cost.operations / seconds / rate}
    else:
        found = interleaved(step, cost.operations, peak, args.repeats)
    return row | {"s": found["seconds"], "step / peak": found["of_peak"]}


def of_series(rows: Sequence[dict], scheme: str, mode: str) -> list[dict]:
    """The rows of one line of the plot."""
    return [row for row in rows if (row["scheme"], row["mode"]) == (scheme, mode)]


def exponent(rows: Sequence[dict], what: str) -> float | None:
    """The power of the number of tokens that fits the last three points best."""
    last = [(math.log(r["tokens"]), math.log(r[what])) for r in rows if r[what] is not None][-3:]
    if len(last) < 2:
        return None
    x, y = (sum(values) / len(last) for values in zip(*last, strict=True))
    slope = sum((a - x) * (b - y) for a, b in last) / sum((a - x) ** 2 for a, _ in last)
    return round(slope, 3)


def plot(rows: Sequence[dict], series: Sequence[tuple[str, str]], path: Path) -> None:
    """Operations, time and memory against tokens; adaptive tokens dashed."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "matey"  # the same figures, the same file
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter

    colours = dict(zip(("vit", "svit", "avit"), ("#b3541e", "#0f766e", "#4c5aa8"), strict=True))
    names = {"vit": "ViT", "svit": "SViT", "avit": "AViT"}
    figure, axes = pyplot.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
    titles = {"GFLOP": "operations, GFLOP", "s": "time, s (measured)", "MB": "memory, MB"}
    for axis, (what, title) in zip(axes, titles.items(), strict=True):
        for scheme, mode in series:
            drawn = [row for row in of_series(rows, scheme, mode) if row[what] is not None]
            axis.plot(
                [row["tokens"] for row in drawn],
                [row[what] for row in drawn],
                color=colours[scheme],
                linestyle="-" if mode == "uniform" else "--",
                marker="o",
                markersize=3,
                label=f"{names[scheme]}, {mode}",
            )
        axis.set(xscale="log", yscale="log", xlabel="tokens of a sample", title=title)
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize="small", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    print(f"drawn in {path}")


if __name__ == "__main__":
    main()
