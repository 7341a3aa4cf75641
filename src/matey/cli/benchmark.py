"""`matey benchmark`: what a run will cost, before it is started, here and on many GPUs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matey.cli import Command

if TYPE_CHECKING:
    from rich.table import Table

    from matey.cost.benefit import Refined
    from matey.cost.forecast import Forecast
    from matey.cost.scaling import Step, Work
    from matey.tokens.lattice import Triple

HOLD = (
    "Refined cells hold so much of what changes over the next step (squared increments). Fine "
    "tokens can pay where that is far more than their share of the cells."
)
# Parts of the operations, as columns: what is small stands together.
OPERATIONS = {
    "encode": ("encode",),
    "project": ("attention projections",),
    "attend": ("attention",),
    "mlp": ("mlp",),
    "decode": ("decode",),
    "rest": ("position", "conditioning"),
}


def add_cost_arguments(parser: Any) -> None:
    from matey.config import RunConfig

    parser.add_argument("--config", action="config", help="a YAML file with any of these options")
    parser.add_argument("--json", action="store_true", help="print for a program, not a person")
    parser.add_class_arguments(RunConfig)


def run_cost(options: Any) -> None:
    """Forecast a run, and print tables or JSON."""
    import json

    from matey.cli.options import run_config
    from matey.cost.forecast import check_grids, forecast
    from matey.cost.machine import free_memory
    from matey.data.systems import open_systems
    from matey.device import choose_device
    from matey.nn.make import outline_model

    config = run_config(options)
    systems = open_systems(config.data)
    check_grids(config.model, systems)
    windows = {name: system.windows("train", config.windows) for name, system in systems.items()}
    specs = [group.spec for group in windows.values()]
    model = outline_model(config.model, specs, config.windows.history, config.mode, config.rank)
    forecasts = forecast(model, config, windows)
    free = free_memory(choose_device(config.device).type)
    if options.json:
        record = {"free_memory": free, "systems": [one.record() for one in forecasts]}
        print(json.dumps(record, indent=2))
    else:
        show(forecasts, config, free)


def show(forecasts: "Sequence[Forecast]", config: Any, free: int | None) -> None:
    """Print the forecast in 80 columns."""
    from matey.cli.console import console

    model = forecasts[0].step
    average = f", the weights' average {model.average / 1e6:,.0f}" if model.average else ""
    console.print(
        f"{sum(forecasts[0].parameters.values()) / 1e6:.2f} M parameters: weights "
        f"{model.parameters / 1e6:,.0f} MB, gradients {model.gradients / 1e6:,.0f}, "
        f"AdamW's moments {model.moments / 1e6:,.0f}{average}.\nBatch {said_batch(config)}, "
        f"history {config.windows.history}, {config.precision}. Tokens are those of a few windows.",
        highlight=False,
    )
    console.print(token_table(forecasts))
    if any(one.at_threshold for one in forecasts):
        for title, rules in (
            ("threshold γ", [(one.system, one.at_threshold) for one in forecasts]),
            ("bulk", [(one.system, one.at_bulk) for one in forecasts]),
        ):
            console.print(rule_table(f"Tokens per frame at refinement {title}", rules))
    console.print(operation_table(forecasts))
    if config.windows.longest:
        console.print(rollout_line(forecasts, config), highlight=False)
    console.print(memory_table(forecasts, config))
    if free is not None:
        console.print(f"{fit(forecasts, free)}.", highlight=False)


def said_batch(config: Any) -> str:
    """Windows per batch: of all systems, and of those that have another number."""
    others = ", ".join(f"{number} of {name}" for name, number in config.mixture.batch.items())
    return f"{config.batch} ({others})" if others else str(config.batch)


def fit(forecasts: "Sequence[Forecast]", free: int) -> str:
    """Whether the largest step fits into the free memory."""
    fits = max(one.step.total for one in forecasts) <= free
    return f"{free / 1e9:.3g} GB are free here: a step {'fits' if fits else 'does not fit'}"


def token_table(forecasts: "Sequence[Forecast]") -> "Table":
    """Tokens per frame of the refinement that the config asks for, and what they hold."""
    adaptive = any(one.refined for one in forecasts)
    headings = ["grid", "windows", "mean", "largest", "all fine", "of fine"]
    table = system_table("Tokens per frame", headings + ["refined", "hold"] * adaptive, gap=0)
    for one in forecasts:
        tokens = one.tokens
        row = [
            one.system,
            " × ".join(str(points) for points in one.grid if points > 1),
            str(one.windows),
            f"{tokens['mean']:,.0f}",
            f"{tokens['largest']:,.0f}",
            f"{tokens['fine']:,.0f}",
            f"{tokens['mean'] / tokens['fine']:.0%}",
        ]
        if one.refined:
            row += [f"{one.refined.cells:.0%}", share(one.refined.holds)]
        table.add_row(*row)
    if adaptive:
        table.caption, table.caption_justify = HOLD, "left"
    return table


def rule_table(title: str, rules: "Sequence[tuple[str, dict[float, Refined]]]") -> "Table":
    """Mean tokens per frame by other rules of refinement, and what refined cells hold."""
    table = system_table(title, [f"{value:g}" for value in rules[0][1]])
    for system, by_value in rules:
        table.add_row(system, *(f"{one.tokens:,.0f}" for one in by_value.values()))
        table.add_row("  hold", *(share(one.holds) for one in by_value.values()))
    return table


def share(part: float | None) -> str:
    """A share in percent; a dash where nothing changes."""
    return "-" if part is None else f"{part:.0%}"


def operation_table(forecasts: "Sequence[Forecast]") -> "Table":
    """Operations of a step, forward and backward, by part of the model."""
    table = system_table("GFLOP of a step, forward and backward", [*OPERATIONS, "total"])
    for one in forecasts:
        sides = (one.cost.forward, one.cost.backward)
        both = [
            sum(side.get(part, 0) for side in sides for part in parts)
            for parts in OPERATIONS.values()
        ]
        table.add_row(one.system, *(short(n / 1e9) for n in (*both, one.cost.operations)))
    return table


def rollout_line(forecasts: "Sequence[Forecast]", config: Any) -> str:
    """Operations of a batch with the steps of its rollout."""
    windows = config.windows
    kind = "learned from, too" if windows.learn_rollout else "forward only"
    each = ", ".join(f"{one.system} {short(one.operations / 1e9)}" for one in forecasts)
    many = f"{windows.mean_pushes:.3g} steps before it on average (at most {windows.longest})"
    return f"With {many}, {kind}, GFLOP a batch: {each}."


def memory_table(forecasts: "Sequence[Forecast]", config: Any) -> "Table":
    """Memory of a training step, and of the inference of one sample.

    `kept` is for the backward pass, `besides` the most that any part needs meanwhile; `step`
    is all at its highest, weights, moments and gradients included, and what the heap of a
    process on a CPU keeps of freed memory.
    """
    title = f"Memory in MB: a step of {said_batch(config)} samples, inference of one"
    table = system_table(title, ["batch", "kept", "besides", "step", "inference"])
    for one in forecasts:
        kept = sum(one.step.kept.values())
        sizes = [one.step.batch, kept, one.step.transient, one.step.total, one.inference.total]
        table.add_row(one.system, *(short(size / 1e6) for size in sizes))
    return table


def short(number: float) -> str:
    """A number to three digits."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def system_table(title: str, headings: Sequence[str], gap: int = 1) -> "Table":
    """An empty table of numbers by system."""
    from matey.cli.console import make_table

    return make_table(title, ["system"], headings, gap)


def add_scaling_arguments(parser: Any) -> None:
    from jsonargparse.typing import NonNegativeInt, PositiveInt

    from matey.config import RunConfig
    from matey.cost.scaling import Machine

    parser.add_argument("--config", action="config", help="a YAML file with any of these options")
    parser.add_argument("--json", action="store_true", help="print for a program, not a person")
    parser.add_argument(
        "--gpus", type=PositiveInt, nargs="+", default=[8, 64, 1024], help="how many there are"
    )
    parser.add_argument(
        "--size", nargs="+", default=[], help="Ti, S, B or L (default: the model of the config)"
    )
    parser.add_argument(
        "--grid", nargs="+", default=["256x256"], help="points along each axis, as 256x256"
    )
    parser.add_argument("--variables", type=PositiveInt, default=4, help="of a field")
    parser.add_argument(
        "--refined", type=float, default=0.1, help="share of the coarse cells that is refined"
    )
    parser.add_argument(
        "--sharing",
        type=NonNegativeInt,
        default=8,
        help="GPUs that share the tokens of a sample, in rows of that name; 0 leaves them out",
    )
    parser.add_class_arguments(Machine, "machine")
    parser.add_class_arguments(RunConfig)


def run_scaling(options: Any) -> None:
    """Model steps on many GPUs, and print tables or JSON."""
    import json
    from dataclasses import asdict

    from matey.cli.options import run_config
    from matey.config import require
    from matey.cost.scaling import on_many, resized, work_of

    config = run_config(options)
    require(0 <= options.refined <= 1, "refined", options.refined, "a number in [0, 1]")
    configs = {size: resized(config, size) for size in options.size} or {"model": config}
    grids = [grid_of(text) for text in options.grid]
    found = []
    for size, its in configs.items():
        for grid in grids:
            work = work_of(its, grid, options.variables, options.refined)
            steps = on_many(work, options.machine, its.model, options.gpus, options.sharing)
            found.append((size, grid, work, steps))
    if options.json:
        records = [
            {"size": size, "grid": grid, "tokens": work.tokens, "windows": work.windows}
            | {"operations": work.operations, "steps": [step.record() for step in steps]}
            for size, grid, work, steps in found
        ]
        print(json.dumps({"machine": asdict(options.machine), "works": records}, indent=2))
        return
    show_scaling(found, options)


def grid_of(text: str) -> "Triple":
    """The points along Z, Y and X of a grid as it is written: `256x256`, slowest axis first.

    Raises ConfigError for anything else.
    """
    from matey.config import require

    points = [int(part) if part.isdecimal() else 0 for part in text.split("x")]
    fits = 0 < len(points) <= 3 and all(points)
    require(fits, "grid", text, "points along one to three axes, as 256x256")
    z, y, x = [1] * (3 - len(points)) + points
    return z, y, x


def show_scaling(found: "Sequence[tuple[str, Triple, Work, Sequence[Step]]]", options: Any) -> None:
    """Print modelled steps in 80 columns."""
    from matey.cli.console import console, make_table

    machine = options.machine
    console.print(
        f"Modelled, not measured: {machine.achieved:.0%} of {machine.rate / 1e12:,.0f} TFLOP/s a "
        f"GPU, {machine.inside / 1e9:,.0f} GB/s to GPUs of its node ({machine.per_node}), "
        f"{machine.between / 1e9:,.0f} GB/s to others; {machine.overlap:.0%} of computation can "
        f"hide gradients and gathers. {options.refined:.0%} of the cells refined. Milliseconds.",
        highlight=False,
    )
    headings = ["compute", "sums", "gathers", "exchange", "step", "GB", "useful", "limit"]
    for size, grid, work, steps in found:
        points = " × ".join(str(n) for n in grid if n > 1)
        title = (
            f"{size}, {points}: {work.tokens:,} tokens a frame, "
            f"{work.operations / 1e12:,.3g} TFLOP for {work.windows} windows"
        )
        table = make_table(title, ["GPUs", "how"], headings, 0)
        for step in steps:
            sums, gathers, exchange, ring = step.seconds.values()
            times = [step.compute, sums, gathers, exchange + ring, step.time]
            table.add_row(
                f"{step.processes:,}",
                way(step),
                *(short(1e3 * time) if time else "" for time in times),
                short(step.memory / 1e9),
                f"{step.efficiency:.0%}",
                step.limit,
            )
        console.print(table)


def way(step: "Step") -> str:
    """How processes share the work, in a word or two."""
    parts, ring = step.parallel.sequence, step.parallel.ring
    if ring > 1:
        return f"ring {ring}×{parts // ring}"
    return step.parallel.strategy if parts == 1 else f"seq. {parts}"


COMMANDS = {
    "cost": Command(
        "tokens, operations, parameters and memory of a run, before anything is allocated",
        "matey benchmark cost --config examples/pretrain-ti.yaml --data mix.yaml",
        add_cost_arguments,
        run_cost,
    ),
    "scaling": Command(
        "a modelled training step on many GPUs: bytes, seconds, memory, and what limits it",
        "matey benchmark scaling --size B L --gpus 8 64 1024 --grid 256x256 1024x1024",
        add_scaling_arguments,
        run_scaling,
    ),
}
