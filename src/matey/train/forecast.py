"""What a run will cost, and whether it fits, before anything is allocated for its model.

Tokens are counted on some windows of each system, scattered over those it trains on.
Memory is that of a batch in which every sample has as many tokens as the largest among them:
a bound in practice, where all cells refined would be several times too high a one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from matey.config import ModelConfig, RefineConfig, RunConfig
from matey.data.systems import System
from matey.data.windows import Windows
from matey.errors import ConfigError, ShapeError
from matey.fields import Inputs, SystemSpec, stack_fields
from matey.fields.grid import join_points
from matey.nn.baselines import check_spacing
from matey.nn.cost import Cost, count_parameters, step_cost
from matey.nn.make import make_model
from matey.nn.memory import Memory, step_memory
from matey.nn.normalise import measure
from matey.nn.pretrained import choose_device
from matey.tokens.lattice import Triple, patch_shape
from matey.tokens.pack import PACKINGS, Packing
from matey.tokens.refine import RefinementPlan, check_budget, plan_refinement
from matey.train.distributed import Team
from matey.train.room import HEAP, free_memory, heap_share

# Windows of each system that are looked at: as many as this, or as fit into so many bytes.
WINDOWS, FEWEST, ROOM = 64, 8, 1 << 26
# Of a bound on memory: values per token and block over embed_dim (at most 32 were measured), the
# stem and the decoder as so many blocks, and copies of each field.
KEPT, ENDS, COPIES = 64, 4, 16
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


@dataclass(frozen=True)
class Forecast:
    """What one system costs in a run.

    `grid` is the largest of its grids, `windows` how many windows were looked at. `tokens`
    are per frame: the mean and the largest of the refinement chosen, and all cells fine;
    `at_threshold` the mean for other thresholds. `cost` is of a batch of those windows,
    `step` of one in which all have the largest number of tokens, `inference` of one sample.
    """

    system: str
    grid: Triple
    windows: int
    tokens: dict[str, float]
    at_threshold: dict[float, float]
    cost: Cost
    parameters: dict[str, int]
    step: Memory
    inference: Memory

    def record(self) -> dict:
        """Plain data, totals included."""
        record = asdict(self)
        record["cost"]["operations"] = self.cost.operations
        record["step"]["total"] = self.step.total
        record["inference"]["total"] = self.inference.total
        return record


def forecast_run(
    config: RunConfig,
    systems: Mapping[str, System],
    known: Sequence[SystemSpec] = (),
    thresholds: Sequence[float] = THRESHOLDS,
) -> list[Forecast]:
    """What each system costs. `known` are systems that the model has weights for already.

    Raises ConfigError for a baseline, whose costs are not forecast.
    """
    if config.model.is_baseline:
        raise ConfigError(
            f"model.kind is {config.model.kind!r}, whose costs are not forecast: only the "
            "transformer's are. A run logs those that it has."
        )
    specs = [*known, *(system.spec for system in systems.values())]
    return [
        forecast_system(name, config, system.spec, inputs, specs, thresholds)
        for name, system in systems.items()
        if (inputs := look(system.windows("train", config.windows)))
    ]


def look(windows: Windows) -> list[Inputs]:
    """Some windows of a system, on its largest grid, scattered over trajectories and times: fewer
    where they are large.
    """
    if not windows.groups:
        return []
    values = max(map(math.prod, windows.groups)) * len(windows.spec.variables)
    room = ROOM // (4 * values * windows.config.history)
    most = min(max(room, FEWEST), WINDOWS)
    histories = [window.history for window in windows.read(windows.scattered(most))]
    return [stack_fields([history], [1.0], [history.spec.name]) for history in histories]


def mean_operations(config: RunConfig, spec: SystemSpec, inputs: Sequence[Inputs]) -> float:
    """Operations of a training step on a batch like these windows, by the mean of their cells.

    Those of a baseline do not depend on what is in a window, and are counted on one.
    """
    if config.model.is_baseline:
        model = make_model(config.model, [spec], config.windows.history)
        with torch.no_grad():
            cost = model.cost(inputs[0], model(inputs[0]))
        return float(cost.operations * config.batch)
    plan = plan_of(config.model, together(inputs), config.model.refine)
    cost = step_cost(
        config.model,
        spec,
        PACKINGS[config.model.mode](plan),
        config.windows.history,
        trains_blocks=config.trains_blocks,
    )
    return cost.operations * config.batch / len(inputs)


def together(inputs: Sequence[Inputs]) -> Inputs:
    """Histories that were looked at one by one, as a batch."""
    z, y, x = inputs[0].values.shape[-3:]
    names = ("values", "lead_time", "boundaries", "parameters")
    stacked: dict[str, Any] = {n: torch.cat([getattr(i, n) for i in inputs]) for n in names}
    return replace(
        inputs[0],
        **stacked,
        sources=tuple(name for one in inputs for name in one.sources),
        points=join_points([one.points for one in inputs], (z, y, x)),
    )


def forecast_system(
    name: str,
    config: RunConfig,
    spec: SystemSpec,
    inputs: Sequence[Inputs],
    specs: Sequence[SystemSpec],
    thresholds: Sequence[float],
) -> Forecast:
    """What one system costs, from some of its windows."""
    model, history = config.model, config.windows.history
    every = together(inputs)
    tokens = tokens_of(model, every, model.refine)
    largest = plan_of(model, inputs[tokens.index(max(tokens))], model.refine)
    plans = [plan_of(model, one, model.refine) for one in inputs[: config.batch]]
    batch = [plans[i % len(plans)] for i in range(config.batch)]
    fine = 1
    for points, size in zip(largest.grid, largest.sizes[-1], strict=True):
        fine *= points // size
    return Forecast(
        system=name,
        grid=largest.grid,
        windows=len(inputs),
        tokens={"mean": sum(tokens) / len(tokens), "largest": max(tokens), "fine": fine},
        at_threshold={
            threshold: sum(tokens_of(model, every, RefineConfig(model.refine.criterion, threshold)))
            / len(inputs)
            for threshold in (thresholds if len(model.patches) > 1 else ())
        },
        cost=step_cost(
            model, spec, packed(model, batch), history, trains_blocks=config.trains_blocks
        ),
        parameters=count_parameters(model, specs),
        step=training_memory(config, spec, largest, specs),
        inference=step_memory(
            model,
            specs,
            packed(model, [largest]),
            spec,
            history,
            training=False,
            heap=heap_share(choose_device(config.device).type, returned=False),
        ),
    )


def largest_batch(
    config: RunConfig,
    systems: Mapping[str, System],
    free: int | None,
    known: Sequence[SystemSpec] = (),
) -> int:
    """The largest power of two of windows per batch that fits into free memory, on every system.

    No more than the windows of the system that has fewest; 0 where not even one window fits.
    """
    specs = [*known, *(system.spec for system in systems.values())]
    best = 2**30
    for system in systems.values():
        windows = system.windows("train", config.windows)
        inputs = look(windows)
        if not inputs:
            continue
        tokens = tokens_of(config.model, together(inputs), config.model.refine)
        largest = plan_of(config.model, inputs[tokens.index(max(tokens))], config.model.refine)
        fits, tried = 0, 1
        while tried <= min(best, len(windows)):
            one = replace(config, batch=tried)
            if free is not None and training_memory(one, system.spec, largest, specs).total > free:
                break
            fits, tried = tried, 2 * tried
        best = fits
    return best


def training_memory(
    config: RunConfig, spec: SystemSpec, plan: RefinementPlan, specs: Sequence[SystemSpec]
) -> Memory:
    """The memory of a training step in which every sample has the cells of one plan."""
    return step_memory(
        config.model,
        specs,
        packed(config.model, [plan] * config.batch),
        spec,
        config.windows.history,
        precision=config.precision,
        activation_checkpointing=config.activation_checkpointing,
        accumulate=config.accumulate,
        trains_blocks=config.trains_blocks,
        heap=heap_share(choose_device(config.device).type, config.activation_checkpointing),
    )


def plan_of(model: ModelConfig, inputs: Inputs, refine: RefineConfig) -> RefinementPlan:
    """The cells that histories are cut into."""
    fields = measure(inputs.values, inputs.points).normalise(inputs.values)
    sizes = [patch_shape(inputs.spec.ndim, patch) for patch in model.patches]
    return plan_refinement(fields, inputs.boundaries, sizes, refine, inputs.points)


def tokens_of(model: ModelConfig, inputs: Inputs, refine: RefineConfig) -> list[int]:
    """Tokens of each history, per frame."""
    found: list[int] = PACKINGS[model.mode](plan_of(model, inputs, refine)).tokens.tolist()
    return found


def packed(model: ModelConfig, plans: Sequence[RefinementPlan]) -> Packing:
    """The packed cells of a batch of samples that were planned one by one."""
    return PACKINGS[model.mode](join(plans))


def join(plans: Sequence[RefinementPlan]) -> RefinementPlan:
    """Plans of one sample each, on one grid, as the plan of a batch."""
    sample = torch.arange(len(plans)).repeat_interleave(
        torch.tensor([len(plan.level) for plan in plans])
    )
    level = torch.cat([plan.level for plan in plans])
    order = torch.argsort(level * len(plans) + sample, stable=True)
    place = torch.argsort(order)  # where each cell comes to stand
    firsts = [sum(len(plan.level) for plan in plans[:i]) for i in range(len(plans))]
    parents = [plan.parent + first for plan, first in zip(plans, firsts, strict=True)]
    parent = torch.where(torch.cat([p.parent for p in plans]) < 0, -1, place[torch.cat(parents)])
    return replace(
        plans[0],
        samples=len(plans),
        sample=sample[order],
        level=level[order],
        corner=torch.cat([plan.corner for plan in plans])[order],
        parent=parent[order],
        refined=torch.cat([plan.refined for plan in plans])[order],
    )


def check_memory(
    config: RunConfig,
    systems: Mapping[str, System],
    team: Team,
    known: Sequence[SystemSpec] = (),
) -> None:
    """Raise ConfigError, with the numbers and the way out, for a run that will not fit."""
    device = team.device
    free = free_memory(str(device))
    if free is None or config.model.is_baseline:  # whose memory is not forecast
        return
    if device.type == "cpu":  # the processes of a machine share what it has
        free //= team.neighbours
    if at_most(config, systems, known) <= free:  # most runs: seconds are saved
        return
    found = forecast_run(config, systems, known, thresholds=())
    if not found or max(share_of(one.step, team) for one in found) <= free:
        return
    worst = max(found, key=lambda one: one.step.total)
    ways = [f"Lower batch (now {config.batch})"]
    if config.model.mode == "uniform":
        ways.append(f"choose larger model.patches (now {config.model.patches[0]})")
    else:
        ways.append("spend fewer tokens (model.refine.token_budget)")
    if not config.activation_checkpointing:
        ways.append("set activation_checkpointing")
    raise ConfigError(
        f"A step on system {worst.system!r} takes about {giga(worst.step.total)} of memory, and "
        f"{giga(free)} are free on {device.type}: {config.batch} samples of "
        f"{worst.tokens['largest']:.0f} tokens in each of {config.windows.history} frames keep "
        f"{giga(sum(worst.step.kept.values()))} for the backward pass. {', or '.join(ways)}."
    )


def at_most(
    config: RunConfig, systems: Mapping[str, System], known: Sequence[SystemSpec] = ()
) -> int:
    """Bytes that no step of a run exceeds: a bound found at once, several times too high.

    As if every cell of every level were in use, and each value of a token were kept many times.
    """
    model, frames = config.model, config.windows.history
    specs = [*known, *(system.spec for system in systems.values())]
    most = 0
    for system in systems.values():
        for shape in {trajectory.grid.shape for trajectory in system.fields.trajectories}:
            cells = sum(
                math.prod(shape) // math.prod(patch_shape(system.spec.ndim, patch))
                for patch in model.patches
            )
            values = math.prod(shape) * (frames + 1) * len(system.spec.variables)
            tokens = cells * frames * model.embed_dim * (model.depth + ENDS)
            most = max(most, config.batch * (KEPT * tokens + COPIES * values))
    numbers = 4 * sum(count_parameters(model, specs).values())  # with gradients and two moments
    return int(4 * HEAP * (numbers + most))


def share_of(memory: Memory, team: Team) -> int:
    """Bytes that one process of a team takes of a step's memory, at most."""
    weights = memory.parameters + memory.moments
    blocks = memory.kept.get("blocks", 0)
    if team.size > 1 and team.config.strategy == "fsdp":
        weights //= team.size
    least = weights + memory.batch + memory.transient + sum(memory.kept.values()) - blocks
    total = memory.total - memory.parameters - memory.moments + weights
    return max(least, total - blocks + blocks // team.config.sequence)


def check_grids(config: ModelConfig, systems: Mapping[str, System]) -> None:
    """Raise ShapeError or ConfigError, before any step, for a grid that the patches do not tile
    or that has more coarse patches than the token budget. A baseline has no patches, but an FNO
    needs points that are evenly apart.
    """
    for system in systems.values():
        patch = patch_shape(system.spec.ndim, config.patches[0])
        for trajectory in system.fields.trajectories:
            try:
                if config.is_baseline:
                    check_spacing(config, not trajectory.grid.stretched)
                else:
                    check_budget(trajectory.grid.shape, patch, config.refine)
            except (ShapeError, ConfigError) as error:
                raise type(error)(f"{trajectory.name}: {error}") from error


def giga(size: float) -> str:
    """Bytes for a reader: `1.23 GB`."""
    return f"{size / 1e9:.3g} GB"
