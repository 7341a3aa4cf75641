"""Two processes with one thread each: steps per second, and what the model of scaling says of them.

    python benchmarks/processes.py                  # a few minutes; nothing else should run
    python benchmarks/processes.py --clock cpu      # where other work runs: waiting is not counted
    python docs/tables.py                           # puts what it found onto the page

Weak scaling: each process has as many windows as one alone; strong: both share its windows. A round
takes a step of every kind, one after the other, and ratios are medians over rounds. A step is the
forward and the backward pass with all that is sent; the optimizer's is not in it. What the model is
told is measured in the same rounds: the rate of matrix products, the share of it that a step with
as many tokens reaches that sends nothing, and seconds of each collective by itself.
"""

import argparse
import math
import multiprocessing
import os
import socket
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from common import options, report, rough_inputs, sized, spec_of

from matey.config import ModelConfig, ParallelConfig, RefineConfig, RunConfig, WindowConfig
from matey.cost.scaling import BUCKET, Machine, Work, step_on, work_on
from matey.fields import Batch
from matey.nn.transformer import Matey
from matey.train.loop import learn
from matey.train.parallel.distributed import Engine, Team, processes
from matey.train.parallel.sequence import spread_cells

TIMES, VARIABLES, WINDOWS = 4, 4, 2
# Points along a side, patches, scheme and mode: of many operations for each byte, and of few.
CASES: dict[str, tuple[int, tuple[int, ...], str, str]] = {
    "64 tokens": (64, (8,), "svit", "uniform"),
    "76 tokens, adaptive": (64, (16, 4), "svit", "adap_mix"),
    "16 tokens": (64, (16,), "svit", "uniform"),
}
KINDS = {
    "ddp": ParallelConfig(),
    "fsdp": ParallelConfig("fsdp"),
    "sequence 2": ParallelConfig(sequence=2),
}
SHARES = {"weak": WINDOWS, "strong": WINDOWS // 2}  # windows that a process has, or shares
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
CPU = torch.device("cpu")
SIDE = 1024
MATRICES = torch.randn(2, SIDE, SIDE)


class Runner:
    """Steps of a team's process, on so many windows."""

    def __init__(
        self, config: ModelConfig, points: int, windows: int, team: Team, works: dict[int, Work]
    ) -> None:
        torch.manual_seed(0)
        spec = spec_of(VARIABLES)
        lattice = points // max(p if isinstance(p, int) else max(p) for p in config.patches)
        inputs = rough_inputs(spec, TIMES, points, points // lattice, [lattice**2 // 4] * windows)
        target = torch.randn_like(inputs.values[:, 0])
        self.batch = Batch(**vars(inputs), target=target)
        self.config = RunConfig(config, windows=WindowConfig(history=TIMES), batch=windows)
        model = Matey(config, [spec], TIMES).train()
        if windows not in works:
            works[windows] = work_on(self.config, model, spec, model.plan_inputs(inputs))
        self.work = works[windows]
        if team.size > 1 and team.config.sequence > 1:
            spread_cells(model, team)
        self.engine = Engine(model, team)
        self.step()  # the first one makes what stays

    def step(self) -> None:
        """Make the gradients of the batch, as training does."""
        self.engine.model.zero_grad(set_to_none=True)
        learn(self.engine, self.batch, self.config)


def main() -> None:
    """Start both processes, and wait."""
    parser = options(__doc__, "benchmarks/results/processes.json")
    parser.add_argument("--size", default="Ti")
    parser.add_argument("--clock", default="wall", choices=list(CLOCKS), help="what time is")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    args = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    load = os.getloadavg()[0]
    pair = [context.Process(target=run, args=(rank, port, load, args)) for rank in range(2)]
    for process in pair:
        process.start()
    for process in pair:
        process.join()
    if any(process.exitcode for process in pair):
        raise SystemExit("A process has failed: see above.")


def run(rank: int, port: int, load: float, args: argparse.Namespace) -> None:
    """What each of the processes does."""
    places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    os.environ |= {key: str(value) for key, value in (places | ranks).items()}
    torch.set_num_threads(1)
    one = Team(ParallelConfig(), CPU)  # made before the processes meet: it is alone
    with processes(RunConfig(device="cpu")) as both:
        rows, machines = [], {}
        for name in args.cases:
            found, machines[name] = measure(name, args, one, both)
            rows += found
        if both.first:
            settings = {"size": args.size, "windows": WINDOWS, "history": TIMES}
            settings |= {"repeats": args.repeats, "clock": args.clock, "load": load}
            report(rows, args.out, "cpu", settings=settings, machines=machines)


def measure(
    name: str, args: argparse.Namespace, one: Team, both: Team
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of a case, and what the model of scaling was told."""
    points, patches, scheme, mode = CASES[name]
    shape = sized(args.size, scheme=scheme, mode=mode, patches=patches)
    # An even number of heads, which two processes can share.
    shape = replace(shape, refine=RefineConfig(fraction=0.25), heads=4)
    works: dict[int, Work] = {}
    alone = {share: Runner(shape, points, share, one, works) for share in SHARES.values()}
    teams = {kind: Team(parallel, CPU) for kind, parallel in KINDS.items()}
    runners = {
        (kind, scaling): Runner(shape, points, share * team.config.sequence, team, works)
        for kind, team in teams.items()
        for scaling, share in SHARES.items()
    }
    calls = collectives(alone[WINDOWS].work, runners["fsdp", "weak"])
    rounds = [one_round(alone, runners, calls, args.clock, both) for _ in range(args.repeats)]
    middle = {key: statistics.median(found[key] for found in rounds) for key in rounds[0]}
    rows, machines = [], {}
    for (kind, scaling), runner in runners.items():
        share = SHARES[scaling]
        machine = machines[f"{kind}, {scaling}"] = told(kind, alone[share].work, middle, share)
        found = [r[f"{kind} {scaling}"] / r[f"busy {share}"] for r in rounds]
        measured = statistics.median(found) * middle[f"busy {share}"]
        given = step_on(runner.work, machine, KINDS[kind], 2)
        before = middle["alone"] * (2 if scaling == "weak" else 1)
        rows.append(
            {
                "case": name,
                "kind": kind,
                "scaling": scaling,
                "GFLOP": given.operations / 1e9,
                "sent MB": sum(given.sent.values()) / 1e6,
                "alone ms": 1e3 * middle["alone"],
                "pair ms": 1e3 * measured,
                "modelled ms": 1e3 * given.time,
                "modelled / measured": given.time / measured,
                "speed-up": before / measured,
                "modelled speed-up": before / given.time,
                "spread": spread(found),
            }
        )
    return rows, {name: asdict(machine) for name, machine in machines.items()}


def told(kind: str, work: Work, middle: dict[str, float], share: int) -> Machine:
    """What the model is told of this machine: a step of as many tokens that sends nothing, and the
    collectives that a kind calls."""
    rate, hops = 2 * SIDE**3 / middle["product"], 2 if kind == "ddp" else 1
    sums, blocks = math.ceil(work.trained / BUCKET), len(work.blocks)
    called = {
        "ddp": {"sum": sums},
        "fsdp": {"gather": 2 * blocks, "scatter": blocks},
        "sequence 2": {"exchange": work.exchanges, "sum": sums},
    }[kind]
    sent, seconds, small = 0.0, 0.0, 0.0
    for name, times in called.items():
        sent += times * middle[f"{name} bytes"]
        seconds += times * middle[f"{name} large"]
        small += times * middle[f"{name} small"]
    return Machine(
        rate=rate,
        achieved=min(1.0, work.operations / middle[f"busy {share}"] / rate),
        per_node=2,
        inside=sent / max(seconds - small, 1e-9),
        latency_inside=small / sum(called.values()) / hops,
        overlap=0.0,
    )


def spread(ratios: list[float]) -> float:
    """Half the distance between the quartiles, over the median."""
    if len(ratios) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(ratios, n=4)
    return (high - low) / 2 / middle


def one_round(
    alone: dict[int, Runner],
    runners: dict[tuple[str, str], Runner],
    calls: dict[str, tuple[float, Callable[[], Any]]],
    clock: str,
    both: Team,
) -> dict[str, float]:
    """Seconds of everything, once; the slower process counts."""
    found = {"alone": 0.0}
    both.meet()
    if both.first:
        found["alone"] = seconds(alone[WINDOWS].step, clock)
    found["product"] = together(product, both, clock)
    for share, runner in alone.items():
        found[f"busy {share}"] = together(runner.step, both, clock)
    for (kind, scaling), runner in runners.items():
        found[f"{kind} {scaling}"] = together(runner.step, both, clock)
    for name, (size, call) in calls.items():
        found[name] = together(call, both, clock)
        found[f"{name.split()[0]} bytes"] = size  # of the large ones, which come last
    return found


def seconds(work: Callable[[], Any], clock: str) -> float:
    """What some work takes by a clock."""
    began = CLOCKS[clock]()
    work()
    return CLOCKS[clock]() - began


def together(work: Callable[[], Any], team: Team, clock: str) -> float:
    """Seconds until both processes have done some work, begun at the same time."""
    team.meet()
    return team.most(int(1e9 * seconds(work, clock))) / 1e9


def product() -> None:
    """The matrix product whose rate is the machine's."""
    torch.mm(*MATRICES)


def collectives(work: Work, sharded: Runner) -> dict[str, tuple[float, Callable[[], Any]]]:
    """Every collective with a small and a large message, as large as those of a step: the bytes
    that a process sends, and the call."""
    sum_, part = min(work.trained, BUCKET), work.blocks[0] / 2
    swapped = work.exchanged / work.exchanges / 4
    block: Any = sharded.engine.model.blocks[0]

    def gather() -> None:
        block.unshard()
        block.reshard()

    return {
        "sum small": (0.0, partial(add_up, 2)),
        "gather small": (0.0, partial(hand_round, 2)),
        "scatter small": (0.0, partial(scatter, 2)),
        "exchange small": (0.0, partial(exchange, 2)),
        "sum large": (sum_, partial(add_up, int(sum_) // 4)),
        "gather large": (part, gather),
        "scatter large": (part, partial(scatter, int(part) // 4)),
        "exchange large": (swapped, partial(exchange, int(swapped) // 4)),
    }


def add_up(count: int) -> None:
    """Sum arrays of so many numbers."""
    dist.all_reduce(torch.zeros(count))


def hand_round(count: int) -> None:
    """Gather so many numbers of each process."""
    dist.all_gather_into_tensor(torch.empty(2 * count), torch.zeros(count))


def scatter(count: int) -> None:
    """Sum arrays, of which each process keeps so many numbers."""
    dist.reduce_scatter_tensor(torch.empty(count), torch.zeros(2 * count))


def exchange(count: int) -> None:
    """Send so many numbers to each process."""
    dist.all_to_all_single(torch.empty(2 * count), torch.zeros(2 * count))


if __name__ == "__main__":
    main()
