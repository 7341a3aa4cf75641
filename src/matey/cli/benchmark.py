"""`matey benchmark`: what a run will cost, before it is started."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from matey.cli import Command

if TYPE_CHECKING:
    from rich.table import Table

    from matey.cost.forecast import Forecast

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
    """Count, and show."""
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
    model = outline_model(config.model, specs, config.windows.history, config.trains_blocks)
    found = forecast(model, config, windows)
    free = free_memory(choose_device(config.device).type)
    if options.json:
        record = {"free_memory": free, "systems": [one.record() for one in found]}
        print(json.dumps(record, indent=2))
    else:
        show(found, config, free)


def show(found: "Sequence[Forecast]", config: Any, free: int | None) -> None:
    """Print everything, in 80 columns."""
    from matey.cli.console import console

    model = found[0].step
    console.print(
        f"{sum(found[0].parameters.values()) / 1e6:.2f} M parameters: weights "
        f"{model.parameters / 1e6:,.0f} MB, gradients {model.gradients / 1e6:,.0f}, "
        f"AdamW's moments {model.moments / 1e6:,.0f}.\nBatch {config.batch}, history "
        f"{config.windows.history}, {config.precision}. Tokens are those of a few windows.",
        highlight=False,
    )
    console.print(token_table(found))
    if any(forecast.at_threshold for forecast in found):
        console.print(threshold_table(found))
    console.print(operation_table(found))
    console.print(memory_table(found, config))
    if free is not None:
        most = max(forecast.step.total for forecast in found)
        fits = "fits" if most <= free else "does not fit"
        console.print(f"{free / 1e9:.3g} GB are free here: a step {fits}.", highlight=False)


def token_table(found: "Iterable[Forecast]") -> "Table":
    """Tokens per frame of the refinement chosen."""
    table = make_table(
        "Tokens per frame", "system", "grid", "windows", "mean", "largest", "all fine", "of fine"
    )
    for one in found:
        tokens = one.tokens
        table.add_row(
            one.system,
            " × ".join(str(points) for points in one.grid if points > 1),
            str(one.windows),
            f"{tokens['mean']:,.0f}",
            f"{tokens['largest']:,.0f}",
            f"{tokens['fine']:,.0f}",
            f"{tokens['mean'] / tokens['fine']:.0%}",
        )
    return table


def threshold_table(found: "Iterable[Forecast]") -> "Table":
    """Mean tokens per frame at other thresholds."""
    found = list(found)
    thresholds = list(found[0].at_threshold)
    title = "Tokens per frame at refinement threshold γ"
    table = make_table(title, "system", *(f"{threshold:g}" for threshold in thresholds))
    for one in found:
        table.add_row(one.system, *(f"{tokens:,.0f}" for tokens in one.at_threshold.values()))
    return table


def operation_table(found: "Iterable[Forecast]") -> "Table":
    """Operations of a step, forward and backward, by part of the model."""
    title = "GFLOP of a step, forward and backward"
    table = make_table(title, "system", *OPERATIONS, "total")
    for one in found:
        both = [
            sum(
                side.get(part, 0)
                for side in (one.cost.forward, one.cost.backward)
                for part in parts
            )
            for parts in OPERATIONS.values()
        ]
        table.add_row(one.system, *(short(n / 1e9) for n in (*both, one.cost.operations)))
    return table


def memory_table(found: "Iterable[Forecast]", config: Any) -> "Table":
    """Memory of a training step, and of the inference of one sample.

    `kept` is for the backward pass, `besides` the most that any part needs meanwhile; `step`
    is all at its highest, weights, moments and gradients included, and what the heap of a
    process on a CPU keeps of freed memory.
    """
    title = f"Memory in MB: a step of {config.batch} samples, inference of one"
    table = make_table(title, "system", "batch", "kept", "besides", "step", "inference")
    for one in found:
        kept = sum(one.step.kept.values())
        sizes = [one.step.batch, kept, one.step.transient, one.step.total, one.inference.total]
        table.add_row(one.system, *(short(size / 1e6) for size in sizes))
    return table


def short(number: float) -> str:
    """A number in three digits, or more before the point."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def make_table(title: str, *headings: str) -> "Table":
    """An empty table: a name, then numbers."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, title=title)
    for heading in headings:
        name = heading == "system"
        table.add_column(
            heading, justify="left" if name else "right", overflow="fold", no_wrap=not name
        )
    return table


COMMANDS = {
    "cost": Command(
        "tokens, operations, parameters and memory of a run, before anything is allocated",
        "matey benchmark cost --config examples/pretrain-ti.yaml --data mix.yaml",
        add_cost_arguments,
        run_cost,
    )
}
