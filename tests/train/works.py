"""What the processes of a pair do; imported before they are forked."""

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode

import matey.train.loop as loop
from matey.cli import main
from matey.config import LossConfig, ModelConfig, ParallelConfig, RefineConfig, RunConfig
from matey.cost.scaling import sent_by, work_on
from matey.fields import Batch, SystemSpec
from matey.nn.transformer import Matey
from matey.train.parallel.distributed import Engine, Team, processes, whole
from matey.train.parallel.sequence import spread_cells
from tests.nn.helpers import rough_inputs, system

# The second has no parameter and other patches; no batch holds the third.
SPECS = (
    system(2, "plane", ("nu",), ("a", "b")),
    system(1, "line", (), ("b", "c")),
    system(3, "box", ("mu",), ("d",)),
)
TURNS = (SPECS[0], SPECS[1], SPECS[0])
RUN = RunConfig(loss=LossConfig(base=0.5, gradient=0.1), accumulate=len(TURNS))
MODEL = ModelConfig(
    embed_dim=24,
    heads=3,
    depth=2,
    patches=(8, 4),
    latent_channels=4,
    mode="adap_mix",
    scheme=("avit", "vit"),
    refine=RefineConfig(threshold=0.3),
    layer_scale=0.5,
)
LOCAL = replace(MODEL, mode="adap_mul", scheme=("svit", "avit"))
UNIFORM = replace(MODEL, mode="uniform", patches=(4,), scheme=("svit", "vit"))
SANDWICH = replace(LOCAL, local=6, levels=1, stencil=True)
CASES = {
    "ddp-rollout": (SANDWICH, ParallelConfig(), 2),
    "fsdp-rollout": (SANDWICH, ParallelConfig("fsdp"), 2),
    "sequence-rollout": (LOCAL, ParallelConfig(sequence=2), 2),
    "ddp-local": (SANDWICH, ParallelConfig()),
    "fsdp-local": (SANDWICH, ParallelConfig("fsdp")),
    "sequence-local": (SANDWICH, ParallelConfig(sequence=2)),
    "ddp-mix": (MODEL, ParallelConfig()),
    "ddp-mul": (LOCAL, ParallelConfig()),
    "fsdp-mix": (MODEL, ParallelConfig("fsdp")),
    "fsdp-mul": (LOCAL, ParallelConfig("fsdp")),
    "sequence-mix": (MODEL, ParallelConfig(sequence=2)),
    "sequence-mul": (LOCAL, ParallelConfig(sequence=2)),
    "sequence-uniform": (UNIFORM, ParallelConfig(sequence=2)),
    "sequence-fsdp-mix": (MODEL, ParallelConfig("fsdp", sequence=2)),
}


def batch_of(
    spec: SystemSpec, turn: int, samples: slice, between: int = 0, count: int = 4
) -> Batch:
    """Part of the samples, four or so many, that all processes together have in one turn, of
    rollouts with so many frames before the target."""
    inputs = rough_inputs(spec, samples=count, times=2, seed=turn)
    target = rough_inputs(spec, samples=count, times=1, seed=100 + turn).values[:, 0]
    rolled: dict = {}
    if between:
        frames = rough_inputs(spec, samples=count, times=between, seed=200 + turn).values
        rolled = {"between": frames[samples], "pushes": between}
    chosen = {
        name: value[samples]
        for name, value in vars(inputs).items()
        if isinstance(value, torch.Tensor | tuple)
    }
    return replace(Batch(**vars(inputs), target=target), **chosen, target=target[samples], **rolled)


def step_of(
    config: ModelConfig,
    team: Team,
    between: int = 0,
    checkpointing: bool = False,
    turns: Sequence[SystemSpec] = TURNS,
    batch_of: Callable = batch_of,
    samples: int = 4,
) -> dict:
    """Losses, gradients and updated weights of one step on the share of a team's process.

    Gradients that there are not are left out.
    """
    torch.manual_seed(0)
    model = Matey(config, tuple(dict.fromkeys((*turns, *SPECS))), history=2).train()
    model.activation_checkpointing = checkpointing
    for weight in model.stencils.weights.values() if model.stencils else ():
        torch.nn.init.normal_(weight, std=0.01)  # as if they were fitted
    if team.config.sequence > 1:
        spread_cells(model, team)
    engine = Engine(model, team)
    # Unlike AdamW's its step is linear in the gradient: rounding stays rounding.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    count = samples // team.data_ranks
    own = slice(team.data_rank * count, (team.data_rank + 1) * count)
    losses = []
    for turn, spec in enumerate(turns):
        batch = batch_of(spec, turn, own, between)
        learned = loop.learn(engine, batch, RUN, turn == len(turns) - 1)
        losses.append(learned.loss)
    found = {"loss": team.total(torch.stack(losses)) / team.data_ranks}
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            found[f"gradient/{name}"] = whole(weight.grad).clone()
    found["norm"] = engine.clip(1.0)
    optimizer.step()
    for name, weight in engine.alone().named_parameters():
        found[f"weight/{name}"] = weight.detach()
    return {name: value.contiguous() for name, value in found.items()}


def equal_steps(folder: Path) -> None:
    """A step of each case."""
    config = RunConfig(device="cpu", parallel=ParallelConfig(timeout=30))
    with processes(config) as team:
        for name, (model, parallel, *between) in CASES.items():
            for checkpointing in (False, True):
                one = Team(parallel, torch.device("cpu"))
                found = step_of(model, one, *between, checkpointing=checkpointing)
                if team.first:
                    label = f"{name}-checkpointed" if checkpointing else name
                    save_file(found, folder / f"{label}.safetensors")
        assert (
            list(team.deal("abc"))
            == [[("a", True), ("c", True)], [("b", True), ("a", False)]][team.rank]
        )
        assert team.most(team.rank) == 1
        assert team.agree("one" * team.rank) == "one"
        assert team.agree("") == ""


COLLECTIVES = {
    "allreduce_": "gradients",
    "_reduce_scatter_base_": "gradients",
    "_allgather_base_": "gathers",
    "alltoall_base_": "exchange",
    "send": "ring",
    "recv_": "ring",
}


class Wire(TorchDispatchMode):
    """Counts the bytes that this process of two, or of so many, sends by collectives while it is
    entered: by a sum in a ring, or to the others."""

    def __init__(self, rank: int, size: int = 2) -> None:
        super().__init__()
        self.rank, self.size, self.sent = rank, size, dict.fromkeys(COLLECTIVES.values(), 0)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        library, name, *_ = str(func).split(".")
        if library == "c10d":
            assert name in COLLECTIVES, f"a collective that nothing models: {name}"
            others = self.size - 1
            if name == "allreduce_":  # all parts but one, and of the sum
                size = 2 * others * sum(tensor.nbytes for tensor in args[0]) // self.size
            elif name == "alltoall_base_":  # among neighbours
                size = args[1].nbytes - args[1].element_size() * args[4][self.rank % len(args[4])]
            elif name == "send":
                size = sum(tensor.nbytes for tensor in args[0])
            elif name == "recv_":
                size = 0
            else:
                size = others * min(args[0].nbytes, args[1].nbytes)
            self.sent[COLLECTIVES[name]] += size
        return func(*args, **(kwargs or {}))


def traffic(folder: Path) -> None:
    """What each process sends in a batch of each way to share the work, and what is modelled."""
    config, found = RunConfig(device="cpu", parallel=ParallelConfig(timeout=60)), {}
    with processes(config) as both:
        for name in ("ddp-mix", "fsdp-mix", "sequence-mix", "ddp-mul", "fsdp-mul", "sequence-mul"):
            sent, modelled = sent_in(both, *CASES[name]), modelled_for(2, *CASES[name])
            found[name] = {"sent": sent, "modelled": modelled}
        (folder / f"{both.rank}.json").write_text(json.dumps(found))


def sent_in(
    everyone: Team, shape: ModelConfig, parallel: ParallelConfig, checkpointing: bool = False
) -> dict:
    """What a process sends in a batch."""
    team = Team(parallel, torch.device("cpu"))
    model = Matey(shape, SPECS, history=2).train()
    model.activation_checkpointing = checkpointing
    if parallel.sequence > 1:
        spread_cells(model, team)
    engine = Engine(model, team)
    with Wire(everyone.rank, everyone.size) as wire:
        loop.learn(engine, batch_of(SPECS[0], 0, slice(0, 4)), RunConfig(device="cpu"))
    return wire.sent


def modelled_for(
    size: int, shape: ModelConfig, parallel: ParallelConfig, checkpointing: bool = False
) -> dict:
    """What is modelled of that."""
    model = Matey(shape, SPECS, history=2).train()
    plan = model.plan_inputs(batch_of(SPECS[0], 0, slice(0, 4)))
    config = RunConfig(device="cpu", activation_checkpointing=checkpointing)
    return sent_by(work_on(config, model, SPECS[0], plan), parallel, size)


def command(*words: str) -> int:
    """A command, as torchrun starts it in each process."""
    return main(list(words))


def nan_loss(*given):
    return REAL_LOSS(*given) * torch.nan


def killed(*given):
    os.kill(os.getpid(), signal.SIGKILL)


def stopped(*given):
    print("stopping", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)


def raised(*given):
    raise ZeroDivisionError("in one process only")


def signalled(*given):
    os.kill(os.getpid(), signal.SIGTERM)
    return REAL_LOSS(*given)


def late(*given):
    time.sleep(60)


REAL_LOSS = loop.loss_of
FAULTS = {
    "nan": nan_loss,
    "killed": killed,
    "stopped": stopped,
    "raised": raised,
    "signalled": signalled,
    "late": late,
}


def faulty(fault: str, *words: str) -> int:
    """A command in whose third batch something happens to the second process."""
    calls = 0

    def loss_of(*given):
        nonlocal calls
        calls += 1
        at_fault = os.environ["RANK"] == "1" and calls == 3
        return (FAULTS[fault] if at_fault else REAL_LOSS)(*given)

    loop.loss_of = loss_of
    return main(list(words))
