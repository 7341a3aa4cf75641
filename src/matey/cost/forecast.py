"""What a run will cost, and whether it fits, before anything is allocated for its model.

Tokens are counted on some windows of each system, scattered over those it trains on.
Memory is that of a batch in which every sample has as many tokens as the largest among them:
a bound in practice, where all cells refined would be several times too high a one.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from matey.config import ModelConfig, ParallelConfig, RefineConfig, RunConfig
from matey.cost.benefit import BULKS, THRESHOLDS, Refined, change_in_cells, refined_by
from matey.cost.count import batch_operations, count_parameters, step_cost
from matey.cost.machine import HEAP, heap_share
from matey.cost.memory import Memory, step_memory
from matey.data.systems import System
from matey.data.windows import Windows
from matey.device import choose_device
from matey.errors import ConfigError, ShapeError
from matey.fields import Batch, Inputs, SystemSpec, join_crops
from matey.fields.grid import join_points
from matey.fields.inputs import Stacked
from matey.nn.baselines.base import Baseline, check_spacing
from matey.nn.baselines.stencil import StencilModel
from matey.nn.make import outline_model
from matey.nn.operations import Cost, count
from matey.nn.surrogate import Surrogate
from matey.nn.transformer import Matey
from matey.tokens.keep import check_kept
from matey.tokens.lattice import Triple, patch_shape
from matey.tokens.pack import PACKINGS
from matey.tokens.refine import RefinementPlan, check_budget, join_plans, plan_refinement
from matey.tokens.shift import most_before
from matey.words import patch_size

# Windows of each system that are looked at: as many as this, or as fit into so many bytes.
WINDOWS, FEWEST, ROOM = 64, 8, 1 << 26
# Values between the products, and gradients, for each value that a product reads or makes.
BETWEEN = 3


@dataclass(frozen=True)
class Forecast:
    """What one system costs in a run, by a number of `windows` on its largest `grid`.

    `tokens` per frame: the mean, the largest, and with all cells fine. `refined` says what the rule
    of refinement comes to, `at_threshold` and `at_bulk` what others of its criterion would; None
    and empty of uniform patches. `cost` is of a step of the model on a batch of those windows,
    `operations` those of the batch with the steps of its rollout before. `step` is of a batch in
    which all have the largest number of tokens, `inference` of one sample: a whole one, where
    training is on crops.
    """

    system: str
    grid: Triple
    windows: int
    tokens: dict[str, float]
    refined: Refined | None
    at_threshold: dict[float, Refined]
    at_bulk: dict[float, Refined]
    cost: Cost
    operations: float
    parameters: dict[str, int]
    step: Memory
    inference: Memory

    def record(self) -> dict:
        """Plain data, totals included: of each rule of refinement tokens, and the share held."""
        record = asdict(self)
        del record["refined"]
        record["holds"] = self.refined.holds if self.refined else None
        for name, rules in (("threshold", self.at_threshold), ("bulk", self.at_bulk)):
            record[f"at_{name}"] = {value: one.tokens for value, one in rules.items()}
            record[f"holds_at_{name}"] = {value: one.holds for value, one in rules.items()}
        for name in ("values", "to_fields", "exchanged", "exchanges"):
            del record["cost"][name]
        record["cost"]["operations"] = self.cost.operations
        record["step"]["total"] = self.step.total
        record["inference"]["total"] = self.inference.total
        return record


def forecast(
    model: Surrogate,
    config: RunConfig,
    windows: Mapping[str, Windows],
    thresholds: Sequence[float] = THRESHOLDS,
) -> list[Forecast]:
    """What each system costs that the outline of a model is trained on; what other thresholds and
    bulks would come to, unless no thresholds are given.

    Raises ConfigError for a baseline, whose costs are not forecast.
    """
    if not isinstance(model, Matey):
        raise ConfigError(
            f"The model is a {config.model.baseline.kind}, whose costs are not forecast: only the "
            "transformer's are. A run logs those that it has."
        )
    return [
        forecast_system(name, model, of_system(config, name), inputs, thresholds, uncropped(group))
        for name, group in windows.items()
        if (inputs := look(group))
    ]


def of_system(config: RunConfig, name: str) -> RunConfig:
    """The settings of a run with the batch of one of its systems, all members counted."""
    return replace(config, batch=config.samples_of(name))


def look(windows: Windows) -> list[Batch]:
    """Read windows on a system's largest grid, scattered over trajectories and times: fewer where
    they are large."""
    if not windows.groups:
        return []
    values = max(map(math.prod, windows.groups)) * len(windows.spec.variables)
    room = ROOM // (4 * values * windows.config.history)
    most = min(max(room, FEWEST), WINDOWS)
    return [windows.batch([choice]) for choice in windows.scattered(most)]


def uncropped(windows: Windows) -> list[Batch]:
    """A whole window on a system's largest grid, where training is on crops."""
    if windows.config.crop is None:
        return []
    config = replace(windows.config, crop=None)
    whole = Windows(windows.fields, windows.trajectories, config)
    return [whole.batch(whole.scattered(1))]


def mean_operations(config: RunConfig, spec: SystemSpec, inputs: Sequence[Inputs]) -> float:
    """Operations of training on a batch like these windows, by the mean of their cells."""
    history = config.windows.history
    model = outline_model(config.model, [spec], history, config.mode, config.rank)
    batch = config.samples_of(spec.name)
    if isinstance(model, Baseline | StencilModel):
        return batch_operations(model.count(inputs[0]), config.windows) * batch
    assert isinstance(model, Matey)
    cost = step_cost(model, spec, model.plan_inputs(together(inputs), widest=True))
    return batch_operations(cost, config.windows) * batch / len(inputs)


def together(inputs: Sequence[Stacked]) -> Stacked:
    """Histories that were looked at one by one, as a batch."""
    z, y, x = inputs[0].values.shape[-3:]
    names = ["values", "lead_time", "boundaries", "parameters"]
    names += ["target"] * isinstance(inputs[0], Batch)
    names += ["spacing"] * (inputs[0].spacing is not None)
    stacked: dict[str, Any] = {n: torch.cat([getattr(i, n) for i in inputs]) for n in names}
    return replace(
        inputs[0],
        **stacked,
        sources=tuple(name for one in inputs for name in one.sources),
        points=join_points([one.points for one in inputs], (z, y, x)),
        crop=join_crops([one.crop for one in inputs]),
    )


def forecast_system(
    name: str,
    model: Matey,
    config: RunConfig,
    inputs: Sequence[Batch],
    thresholds: Sequence[float],
    whole: Sequence[Batch],
) -> Forecast:
    """What one system costs, from some of its windows, and a whole one if these are crops."""
    spec, every, adaptive = inputs[0].spec, together(inputs), model.config.is_adaptive
    change = change_in_cells(every, model.patches(spec.ndim)[0])
    tokens = tokens_of(model, every)

    def come_to(rule: RefineConfig) -> Refined:
        """What a rule of refinement comes to."""
        other = copy(model)
        other.refine = rule
        return refined_by(other.plan_inputs(every), tokens_of(other, every), change)

    criterion, bulks = model.refine.criterion, BULKS if thresholds else ()
    largest = model.plan_inputs(inputs[tokens.index(max(tokens))], widest=True)
    domain = model.plan_inputs(whole[0], widest=True) if whole else largest
    plans = [model.plan_inputs(one, widest=True) for one in inputs[: config.batch]]
    batch = join_plans([plans[i % len(plans)] for i in range(config.batch)])
    fine = math.prod(
        points // size for points, size in zip(largest.grid, largest.sizes[-1], strict=True)
    )
    heap = heap_share(choose_device(config.device).type, returned=False)
    cost = step_cost(model, spec, batch)
    return Forecast(
        system=name,
        grid=largest.domain,
        windows=len(inputs),
        tokens={"mean": sum(tokens) / len(tokens), "largest": max(tokens), "fine": fine},
        refined=come_to(model.refine) if adaptive else None,
        at_threshold={t: come_to(RefineConfig(criterion, t)) for t in thresholds if adaptive},
        at_bulk={b: come_to(RefineConfig(criterion, bulk=b)) for b in bulks if adaptive},
        cost=cost,
        operations=batch_operations(cost, config.windows),
        parameters=count_parameters(model),
        step=training_memory(model, config, spec, largest),
        inference=step_memory(model, spec, domain, training=False, heap=heap),
    )


def tokens_of(model: Matey, inputs: Inputs) -> list[int]:
    """Tokens of each history, per frame."""
    return list(map(int, PACKINGS[model.config.mode](model.plan_inputs(inputs)).tokens))


def largest_batch(
    model: Matey, config: RunConfig, windows: Mapping[str, Windows], free: int | None
) -> int:
    """The largest power of two of windows per batch that fits into free memory on every system
    without a `mixture.batch`, and that each has; 0 where not even one window fits."""
    best = 2**30
    for name, group in windows.items():
        inputs = [] if name in config.mixture.batch else look(group)
        if not inputs:
            continue
        tokens = tokens_of(model, together(inputs))
        largest = model.plan_inputs(inputs[tokens.index(max(tokens))], widest=True)

        def too_large(power: int, spec: SystemSpec = group.spec, plan: Any = largest) -> bool:
            """Whether a batch of so many doublings of one window takes more than is free."""
            samples = replace(config, batch=2**power * config.loss.samples)
            return free is not None and training_memory(model, samples, spec, plan).total > free

        powers = range(min(best, len(group)).bit_length())
        fitting = bisect_left(powers, True, key=too_large)  # memory grows with the batch
        best = 2 ** (fitting - 1) if fitting else 0
    return best


def training_memory(
    model: Matey, config: RunConfig, spec: SystemSpec, plan: RefinementPlan
) -> Memory:
    """The memory of a training step in which every sample has the cells of one plan."""
    return step_memory(
        model,
        spec,
        join_plans([plan] * config.batch),
        precision=config.precision,
        activation_checkpointing=config.activation_checkpointing,
        accumulate=config.accumulate,
        heap=heap_share(choose_device(config.device).type, config.activation_checkpointing),
        rollout=config.windows.learned_steps,
        averaged=config.optim.ema > 0,
    )


def refuse_if_too_large(
    forecasts: Sequence[Forecast], config: RunConfig, free: int, processes: int = 1
) -> None:
    """Raise ConfigError, with the numbers and the way out, where a step takes more bytes than are
    free for each of the processes."""
    worst = max(forecasts, key=lambda one: one.step.total, default=None)
    if worst is None or share_of(worst.step, config.parallel, processes) <= free:
        return
    batch, samples = config.batch_of(worst.system), config.samples_of(worst.system)
    key = f"mixture.batch.{worst.system}" if worst.system in config.mixture.batch else "batch"
    ways = [f"Lower {key} (now {batch})"]
    if config.model.mode == "uniform":
        ways.append(f"choose larger model.patches (now {patch_size(config.model.patches[0])})")
    else:
        ways.append("spend fewer tokens (model.refine.token_budget)")
    steps = config.windows.learned_steps
    if steps > 1:
        ways.append(f"learn from shorter rollouts (windows.pushforward, up to {steps - 1})")
    if config.loss.samples > 2:
        ways.append(f"train fewer members (loss.members, now {config.loss.members})")
    if not config.activation_checkpointing:
        ways.append("set activation_checkpointing")
    of_steps = f" of {steps} steps" if steps > 1 else ""
    raise ConfigError(
        f"A step on system {worst.system!r} takes about {giga(worst.step.total)} of memory, and "
        f"{giga(free)} are free on {choose_device(config.device).type}: {samples} samples of "
        f"{worst.tokens['largest']:.0f} tokens in each of {config.windows.history} frames keep "
        f"{giga(sum(worst.step.kept.values()))} for the backward pass"
        f"{of_steps}. {', or '.join(ways)}."
    )


def memory_bound(model: Surrogate, config: RunConfig, windows: Mapping[str, Windows]) -> int:
    """Bytes that no step exceeds: several times too high, but counted at once, where a forecast
    takes seconds. All cells are fine, and all values that products read or make are kept, in every
    step of a rollout that is learned from.
    """
    assert isinstance(model, Matey)
    most = 0
    for name, group in windows.items():
        for grid in group.groups:
            still, sides = torch.zeros(1, 1, 1, *grid), torch.zeros(1, 3, 2, dtype=torch.int64)
            sizes, rule = model.patches(group.spec.ndim), RefineConfig(threshold=0)
            before = most_before(model.config, sizes[0])
            plan = plan_refinement(still, sides, sizes, rule, before=before)
            most = max(most, config.samples_of(name) * step_cost(model, group.spec, plan).values)
    copies = 5 if config.optim.ema else 4  # weights, gradients, two moments, and the average
    weights = copies * count(model)
    return int(4 * HEAP * (weights + (1 + BETWEEN) * config.windows.learned_steps * most))


def share_of(memory: Memory, parallel: ParallelConfig, processes: int) -> int:
    """Bytes of a step's memory that each of the processes takes, at most."""
    standing = memory.parameters + memory.moments + memory.average
    weights = standing
    blocks = memory.kept.get("blocks", 0)
    if processes > 1 and parallel.strategy == "fsdp":
        weights //= processes
    least = weights + memory.batch + memory.transient + sum(memory.kept.values()) - blocks
    total = memory.total - standing + weights
    return max(least, total - blocks + blocks // parallel.sequence)


def check_grids(config: ModelConfig, systems: Mapping[str, System]) -> None:
    """Raise ConfigError for a grid that has more coarse patches than the token budget, ShapeError
    for one that is stretched, for an FNO or a stencil; both for what `config.keep` asks of a system
    that cannot."""
    for system in systems.values():
        patch = patch_shape(system.spec.ndim, config.patches[0])
        for trajectory in system.fields.trajectories:
            try:
                check_kept(config.keep, system.spec, trajectory.grid, trajectory.boundaries)
                if config.is_baseline:
                    check_spacing(config, not trajectory.grid.stretched)
                else:
                    before = most_before(config, patch)
                    check_budget(trajectory.grid.shape, patch, config.refine, before)
            except (ShapeError, ConfigError) as error:
                raise type(error)(f"{trajectory.name}: {error}") from error


def giga(size: float) -> str:
    """Bytes for a reader: `1.23 GB`."""
    return f"{size / 1e9:.3g} GB"
