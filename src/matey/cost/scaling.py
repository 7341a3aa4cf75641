"""A training step on many processes: what they compute, what they send, and what limits them.

Operations and memory are those that the model counts of itself. Bytes are those of the collectives
that training calls: with n processes one sends, in a step,

    all gradients in a ring                     2 (n-1)/n W     ddp
    each block's weights, forward and backward  2 (n-1)/n W     fsdp, for each batch
    its part of the sums of gradients             (n-1)/n W     fsdp, once
    heads for cells and back                      (h-1)/h A/s   sequence s, for each batch
    keys and values, and these with gradients       (r-1) K/s   ring r, for each batch

with W bytes of weights, A bytes of queries, keys, values and results of attention over cells, and
of their gradients, K bytes of keys and values, in both passes, and of their gradients, and s = h r.
Times follow from a machine's rates, which are inputs: they are a model's.
Sources: Patarasuk and Yuan (2009), J. Parallel Distrib. Comput. 69, 117, of rings; Sanders, Speck,
Träff (2009), Parallel Comput. 35, 581, of trees; `matey.train.parallel` of who calls what.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from matey.config import ModelConfig, ParallelConfig, RunConfig
from matey.config.checks import require, require_fraction, require_positive
from matey.config.model import SIZES
from matey.config.training import fewest_blocks
from matey.cost.count import step_cost
from matey.cost.forecast import share_of
from matey.cost.memory import Memory, step_memory
from matey.errors import ConfigError, nearest
from matey.fields import SystemSpec, Variable
from matey.nn.make import outline_model
from matey.nn.operations import count
from matey.nn.transformer import Matey
from matey.tokens.lattice import Triple, covering, lattice_shape
from matey.tokens.pack import PACKINGS
from matey.tokens.refine import RefinementPlan, cut_cells

SHARED = ("attention projections", "attention", "mlp")  # parts that sharing out tokens divides
BUCKET = 25 * 2**20  # bytes of gradients that DDP sums at a time


@dataclass(frozen=True)
class Machine:
    """The machine of a forecast, by its data sheet. By default nodes of eight H100, each with a
    network of 400 Gb/s; latencies, and shares of the peak, are assumed.

    Args:
        rate: operations per second of large matrix products, in the precision of the run.
        achieved: the share of that rate that a step reaches.
        memory: bytes of a GPU.
        per_node: GPUs of a node.
        inside: bytes per second that a GPU sends to others of its node.
        between: bytes per second that a GPU sends to other nodes.
        latency_inside: seconds until a message within a node arrives.
        latency_between: seconds until one between nodes arrives.
        overlap: the share of computation beside which gradients and weights can be sent.
    """

    rate: float = 989e12
    achieved: float = 0.4
    memory: float = 80e9
    per_node: int = 8
    inside: float = 450e9
    between: float = 50e9
    latency_inside: float = 2e-6
    latency_between: float = 1e-5
    overlap: float = 0.8

    def __post_init__(self) -> None:
        require_positive(self, "machine.", "rate", "achieved", "memory", "per_node")
        require_positive(self, "machine.", "inside", "between")
        require_fraction(self, "machine.", "achieved", "overlap")
        for name in ("latency_inside", "latency_between"):
            require(getattr(self, name) >= 0, f"machine.{name}", getattr(self, name), "0 or more")

    def nodes(self, processes: int) -> int:
        """Nodes that so many neighbours take."""
        return math.ceil(processes / self.per_node)

    def ring(self, sent: float, processes: int, rounds: int) -> float:
        """Seconds in which each of the processes sends so many bytes around a ring, in collectives
        of a message to each of the others. All of a node's networks take part."""
        nodes = self.nodes(processes)
        bandwidth = self.inside
        if nodes > 1:
            bandwidth = min(bandwidth, min(self.per_node, processes) * self.between)
        hops = (nodes - 1) * self.latency_between + (processes - nodes) * self.latency_inside
        return sent / bandwidth + rounds * hops

    def tree(self, sent: float, processes: int, rounds: int) -> float:
        """The same where messages go up and down a tree."""
        nodes = self.nodes(processes)
        within = math.ceil(math.log2(min(processes, self.per_node))) * self.latency_inside
        beyond = math.ceil(math.log2(nodes)) * self.latency_between
        return self.ring(sent, processes, 0) + rounds * 2 * (within + beyond)

    def swap(self, sent: float, processes: int, rounds: int) -> float:
        """Seconds in which each of the processes sends all others as much: so many bytes in all."""
        far = max(0, processes - self.per_node) / max(1, processes - 1)
        latency = self.latency_between if far else self.latency_inside
        return sent * ((1 - far) / self.inside + far / self.between) + rounds * latency

    def hops(self, sent: float, processes: int, rounds: int) -> float:
        """The same where each sends them to the next one only, through all nodes."""
        if self.nodes(processes) > 1:
            return sent / self.between + rounds * self.latency_between
        return sent / self.inside + rounds * self.latency_inside


@dataclass(frozen=True)
class Work:
    """A step of one process on batches of its own, `accumulate` of them.

    Operations of a batch: the `shared` ones of the blocks, which processes that have the same
    samples divide, those of the `ends`, which each of them does, and, among both, those of the
    `backward` pass. `weights` are bytes of all weights, `blocks` of those of each block, `trained`
    of those that train, `reached` of those among them that a batch reaches. `exchanged` are bytes
    that attention over cells takes and gives in both passes of a batch, in so many `exchanges`;
    `circled` those that blocks of a ring hand on, if there were one, in so many `circles`; `last`
    those of the tokens that are decoded. `tokens` are those of a frame of one sample, `windows`
    those of a step.
    """

    tokens: int
    windows: int
    accumulate: int
    shared: int
    ends: int
    backward: int
    weights: int
    trained: int
    reached: int
    blocks: tuple[int, ...]
    exchanged: int
    exchanges: int
    circled: int
    circles: int
    last: int
    memory: Memory

    @property
    def operations(self) -> int:
        """Of a step, of one process that shares no sample."""
        return self.accumulate * (self.shared + self.ends)


@dataclass(frozen=True)
class Step:
    """A step of so many processes: bytes that each sends and seconds that it takes, by kind.

    Kinds are `gradients`, their sums; `gathers`, of weights; `exchange`, of cells for heads;
    `ring`, of keys and values.
    `waits` are seconds that these add to `compute`: those that nothing is computed beside.
    `memory` are bytes of a process; of the machine's, `room`. `windows` are those of all processes
    in a second; `efficiency` is these over those of as many single processes that send nothing.
    """

    processes: int
    parallel: ParallelConfig
    operations: float
    compute: float
    sent: dict[str, float]
    seconds: dict[str, float]
    waits: dict[str, float]
    memory: int
    room: float
    windows: float
    efficiency: float

    @property
    def time(self) -> float:
        """Seconds of the step."""
        return self.compute + sum(self.waits.values())

    @property
    def limit(self) -> str:
        """What binds: memory where it does not fit, else what takes longest."""
        if self.memory > self.room:
            return "memory"
        times = {"compute": self.compute, **self.waits}
        return max(times, key=lambda kind: times[kind])

    def record(self) -> dict[str, Any]:
        """Plain data, time and limit included."""
        return asdict(self) | {"time": self.time, "limit": self.limit}


def resized(config: RunConfig, size: str) -> RunConfig:
    """The settings of a run with a model of a published size. Raises ConfigError for no such."""
    if size not in SIZES:
        raise ConfigError(f"There is no size {size!r}. {nearest(size, SIZES)}")
    width, heads, depth = SIZES[size]
    return replace(config, model=replace(config.model, embed_dim=width, heads=heads, depth=depth))


def spread_plan(
    grid: Triple, sizes: Sequence[Triple], refined: float, samples: int
) -> RefinementPlan:
    """The cells of samples on a grid, of which a share is refined, at random places: the same in
    each sample, and for each level but the finest."""
    shape, generator = covering(grid, sizes[0]), torch.Generator().manual_seed(0)
    masks = []
    for size in sizes[:-1]:
        lattice = lattice_shape(shape, size)
        cells = math.prod(lattice)
        mask = torch.zeros(cells, dtype=torch.bool)
        mask[torch.randperm(cells, generator=generator)[: round(refined * cells)]] = True
        masks.append(mask.view(1, *lattice).expand(samples, -1, -1, -1))
    return cut_cells(shape, sizes, masks, samples, torch.device("cpu"), grid)


def work_of(config: RunConfig, grid: Triple, variables: int, refined: float) -> Work:
    """What a step of a run costs one process on a grid, with a share of the coarse cells refined.

    Nothing is allocated for the model or its fields. Raises ConfigError for a baseline.
    """
    axes = sum(points > 1 for points in grid)
    spec = SystemSpec("modelled", axes, tuple(Variable(f"u{i}") for i in range(variables)))
    model = outline_model(config.model, [spec], config.windows.history, config.mode, config.rank)
    if not isinstance(model, Matey):
        raise ConfigError("Only the transformer's scaling is modelled: leave out model.baseline.")
    plan = spread_plan(grid, model.patches(axes), refined, config.batch)
    return work_on(config, model, spec, plan)


def work_on(config: RunConfig, model: Matey, spec: SystemSpec, plan: RefinementPlan) -> Work:
    """What a step of a model, or its outline, costs one process on batches cut by a plan: one
    step ahead, without a rollout."""
    cost, half = step_cost(model, spec, plan), config.precision == "bfloat16"
    again = sum(cost.forward[part] for part in SHARED) * config.activation_checkpointing
    passes = 2 + config.activation_checkpointing
    shared = sum(side[part] for side in (cost.forward, cost.backward) for part in SHARED) + again
    trained = {id(w): 4 * w.numel() for w in model.parameters() if w.requires_grad}
    idle = sum(trained.get(id(weight), 0) for weight in model.unused(spec))
    packing = PACKINGS[model.config.mode](plan)
    return Work(
        tokens=int(packing.tokens[0]),
        windows=plan.samples * config.accumulate,
        accumulate=config.accumulate,
        shared=shared,
        ends=cost.operations + again - shared,
        backward=sum(cost.backward.values()) + again,
        weights=4 * count(model),
        trained=sum(trained.values()),
        reached=sum(trained.values()) - idle,
        blocks=tuple(4 * count(block) for block in model.blocks),
        # In half precision values and results are halved; queries and keys leave their norms whole.
        exchanged=passes * cost.exchanged * (3 if half else 4),
        exchanges=passes * cost.exchanges,
        # Gradients are summed in single precision on their way.
        circled=cost.circled * (passes * (2 if half else 4) + 4),
        circles=(passes + 1) * cost.circles,
        last=2 * 4 * len(packing.cell) * model.config.embed_dim,
        memory=step_memory(
            model,
            spec,
            plan,
            precision=config.precision,
            activation_checkpointing=config.activation_checkpointing,
            accumulate=config.accumulate,
            averaged=config.optim.ema > 0,
        ),
    )


def sent_by(work: Work, parallel: ParallelConfig, processes: int) -> dict[str, float]:
    """Bytes that each of the processes sends in a step, by kind, as in `Step`."""
    ring, parts = (processes - 1) / processes, parallel.sequence
    sent = {"gradients": 0.0, "gathers": 0.0, "exchange": 0.0, "ring": 0.0}
    if parallel.strategy == "ddp":
        sent["gradients"] = 2 * ring * work.trained
    else:  # what lies around the blocks stays gathered from the forward to the backward pass
        sent["gradients"] = ring * work.reached
        sent["gathers"] = work.accumulate * ring * (work.weights + sum(work.blocks))
    heads = parts // parallel.ring
    exchanged = (heads - 1) / heads * work.exchanged / parts
    # What is decoded goes to all others, and the gradients come back.
    sent["exchange"] = work.accumulate * (exchanged + (parts - 1) / parts * work.last)
    sent["ring"] = work.accumulate * (parallel.ring - 1) * work.circled / parts
    return sent


def on_many(
    work: Work, machine: Machine, config: ModelConfig, gpus: Sequence[int], sharing: int
) -> list[Step]:
    """Steps on each number of GPUs by `ddp`, by `fsdp`, and, where so many or a multiple of them
    are there, by `sharing` the tokens of each sample, in a ring if heads do not suffice."""
    ways = [ParallelConfig("ddp"), ParallelConfig("fsdp")]
    if sharing > 1:
        ways.append(ParallelConfig("ddp", sharing, fewest_blocks(sharing, config.heads)))
    return [
        step_on(work, machine, parallel, processes)
        for processes in gpus
        for parallel in ways
        if processes % parallel.sequence == 0
    ]


def step_on(work: Work, machine: Machine, parallel: ParallelConfig, processes: int) -> Step:
    """A step of so many processes, `parallel.sequence` of which share each sample.

    Raises ConfigError where these do not divide the processes.
    """
    parts = parallel.sequence
    fits = processes >= 1 and processes % parts == 0
    require(fits, "gpus", processes, f"a multiple of the {parts} that share each sample")
    rate, rounds = machine.rate * machine.achieved, len(work.blocks)
    batch = work.shared / parts + work.ends
    compute = work.accumulate * batch / rate
    sent = sent_by(work, parallel, processes)
    seconds = dict.fromkeys(sent, 0.0)
    backward = work.backward / (work.shared + work.ends) * batch / rate
    beside = machine.overlap * (backward if parallel.strategy == "ddp" else compute)
    if parallel.strategy == "ddp" and processes > 1:
        buckets = math.ceil(work.trained / BUCKET)
        seconds["gradients"] = machine.tree(sent["gradients"], processes, buckets)
    elif processes > 1:
        seconds["gradients"] = machine.ring(sent["gradients"], processes, rounds + 1)
        gathers = work.accumulate * (2 * rounds + 1)
        seconds["gathers"] = machine.ring(sent["gathers"], processes, gathers)
    if parts > 1:
        decoded, heads = work.accumulate * (parts - 1) / parts * work.last, parts // parallel.ring
        seconds["exchange"] = machine.swap(decoded, parts, 2 * work.accumulate)
        if heads > 1:
            exchanged, rounds = sent["exchange"] - decoded, work.accumulate * work.exchanges
            seconds["exchange"] += machine.swap(exchanged, heads, rounds)
        hops = work.accumulate * work.circles * (parallel.ring - 1)
        seconds["ring"] = machine.hops(sent["ring"], parts, hops)
    wire = seconds["gradients"] + seconds["gathers"]
    open_share = max(0.0, 1 - beside / wire) if wire else 0.0
    waits = {kind: open_share * time for kind, time in seconds.items()}
    waits |= {kind: seconds[kind] for kind in ("exchange", "ring")}  # attention waits for them
    time = compute + sum(waits.values())
    return Step(
        processes=processes,
        parallel=parallel,
        operations=work.accumulate * batch,
        compute=compute,
        sent=sent,
        seconds=seconds,
        waits=waits,
        memory=share_of(work.memory, parallel, processes),
        room=machine.memory,
        windows=work.windows * processes / parts / time,
        efficiency=work.operations / rate / parts / time,
    )
