"""Several processes that train one model, by torch's own engine: torchrun, DDP, FSDP2.

The processes form a mesh [data, ring, heads]. Along `data` each has other samples; along the other
two, together `sequence`, they share out the tokens of the same samples
(`matey.train.parallel.sequence`). All processes hold the same system in each batch, whose spec says
which weights it reaches. A weight that no batch of a step reaches has no gradient, and is not
updated, as in one process.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from matey.config import ParallelConfig, RunConfig
from matey.device import choose_device
from matey.errors import ConfigError
from matey.fields import Batch, SystemSpec
from matey.nn.adapters.low_rank import adapters, add_adapters, rank_of
from matey.nn.make import make_model
from matey.nn.surrogate import Prediction, Surrogate
from matey.tokens.lattice import Triple
from matey.train.parallel.heartbeat import Heartbeat

Item = TypeVar("Item")


class Team:
    """The processes of a run, seen from one of them: `rank` of `size`, and `data_rank` of the
    `data_ranks` with different samples; `groups` as `make_groups` has them. Without a process group
    it is one process.

    Raises ConfigError unless `config.sequence` divides the number of processes.
    """

    def __init__(self, config: ParallelConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.size = dist.get_world_size() if dist.is_initialized() else 1
        if self.size % config.sequence:
            raise ConfigError(
                f"parallel.sequence is {config.sequence}, which does not divide the {self.size} "
                "processes of this run. Start a multiple of it: torchrun --standalone "
                f"--nproc-per-node {config.sequence} -m matey -- train ..."
            )
        self.data_ranks = self.size // config.sequence
        self.data_rank = self.rank // config.sequence
        # Processes on this machine.
        self.neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if self.size > 1 else 1
        self.groups = make_groups(self.data_ranks, config) if self.size > 1 else {}

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def meet(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """The first process goes through the block before the others do."""
        if not self.first:
            self.meet()
        yield
        if self.first:
            self.meet()

    def most(self, number: int) -> int:
        """The largest of the numbers of all processes: the same answer in all."""
        if self.size == 1:
            return number
        largest = torch.tensor(int(number), device=self.device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes with different samples."""
        if self.size > 1:
            values = values.to(self.device, copy=True)
            dist.all_reduce(values, group=self.groups["data"])
        return values

    def agree(self, text: str) -> str:
        """The text of the first process that has one, in all."""
        if self.size == 1:
            return text
        letters = torch.tensor(list(text.encode()), dtype=torch.uint8, device=self.device)
        lengths = torch.zeros(self.size, dtype=torch.int64, device=self.device)
        lengths[self.rank] = len(letters)
        dist.all_reduce(lengths)
        source = int((lengths > 0).to(torch.uint8).argmax())
        if source != self.rank:
            letters = letters.new_empty(int(lengths[source]))
        dist.broadcast(letters, source)
        return bytes(letters.tolist()).decode()

    def deal(self, items: Sequence[Item]) -> Iterator[tuple[Item, bool]]:
        """This process' share of the items, as many as in the others: where they do not divide
        evenly, some come twice, and do not count the second time."""
        rounds = math.ceil(len(items) / self.data_ranks)
        for place in range(self.data_rank, rounds * self.data_ranks, self.data_ranks):
            yield items[place % len(items)], place < len(items)

    def seed(self, seed: int, step: int) -> None:
        """Make the random numbers of a step (drop path, jitter) a function of these: the same in
        processes that share samples, others in the others."""
        drawn = np.random.SeedSequence([seed, 2, step, self.data_rank]).generate_state(1, "u8")
        torch.manual_seed(int(drawn[0] >> 1))


def make_groups(data_ranks: int, config: ParallelConfig) -> dict[str, dist.ProcessGroup]:
    """This process' neighbours along each axis of the mesh [data, ring, heads], and along both of
    `sequence`; no ring where there is but one block. Every collective among them has the timeout.
    """
    heads = config.sequence // config.ring
    mesh = torch.arange(data_ranks * config.sequence).view(data_ranks, config.ring, heads)
    lines = {"data": mesh.flatten(1).t(), "sequence": mesh.flatten(1)}
    if config.ring > 1:
        lines |= {"ring": mesh.transpose(1, 2).flatten(0, 1), "heads": mesh.flatten(0, 1)}
    timeout = timedelta(seconds=config.timeout)
    groups = {
        name: dist.new_subgroups_by_enumeration(line.tolist(), timeout=timeout)[0]
        for name, line in lines.items()
    }
    return {"heads": groups["sequence"], **groups}


@contextmanager
def processes(config: RunConfig) -> Iterator[Team]:
    """The processes that torchrun started, or this one alone.

    Raises ConfigError where they cannot meet or one has no CUDA device, and ProcessError, in place
    of torch's error, when another one fails, ends, or does not answer within `parallel.timeout`.
    """
    device = choose_device(config.device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Team(config.parallel, device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if device.index >= torch.cuda.device_count():
            raise ConfigError(
                f"Process {device.index} of this machine has no CUDA device: there are "
                f"{torch.cuda.device_count()}. Start one process for each, or use --device cpu."
            )
        torch.cuda.set_device(device)
    store, rank, size = meet_first(config.parallel.timeout)
    timeout = timedelta(seconds=config.parallel.timeout)
    backend = "nccl" if device.type == "cuda" else "gloo"
    groups = dist.PrefixStore("groups", store)
    dist.init_process_group(backend, timeout=timeout, world_size=size, rank=rank, store=groups)
    with Heartbeat(store, rank, size, config.parallel.timeout):
        team = Team(config.parallel, device)
        team.meet()
        yield team
        team.meet()
    # Only at a good end: after a failure the others no longer answer.
    dist.destroy_process_group()


def meet_first(timeout: float) -> tuple[dist.Store, int, int]:
    """The store that all processes share, which of them this is, and how many there are."""
    try:
        return next(iter(dist.rendezvous("env://", timeout=timedelta(seconds=timeout))))
    except (dist.DistError, ValueError) as error:
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        reason = " ".join(str(error).split())
        if "EADDRINUSE" in reason:
            raise ConfigError(
                f"Port {place} is in use: the processes cannot meet there. Let torchrun choose "
                "one (--standalone), or give another (--master-port)."
            ) from error
        raise ConfigError(
            f"The processes of this run did not meet at {place} (MASTER_ADDR:MASTER_PORT): "
            f"{reason[:200]}. Start them with torchrun."
        ) from error


class Engine:
    """A model that the processes of a team train together.

    A call is the forward pass of a batch to learn from; `model` has the parameters for the
    optimizer, and predicts where nothing is learned.
    """

    def __init__(self, model: Surrogate, team: Team) -> None:
        self.model, self.team = model, team
        self.forward: Any = model
        self.sharded = team.size > 1 and team.config.strategy == "fsdp"
        self.replicated = team.size > 1 and team.config.strategy == "ddp"
        if self.sharded:
            shard(model, team.device)
        if self.replicated:
            self.forward = DistributedDataParallel(model)
        self.last = True

    def __call__(self, batch: Batch, shift: Triple, last: bool = True) -> Prediction:
        """The prediction for a batch. Gradients add up in each process, and become the mean over
        processes with the `last` batch of a step."""
        self.last = last
        if self.sharded:
            self.forward.set_requires_gradient_sync(last)
        if self.replicated:
            self.forward.require_backward_grad_sync = last  # what DDP.no_sync() sets
        prediction: Prediction = self.forward(batch, shift)
        return prediction

    def backward(self, loss: Tensor, spec: SystemSpec) -> None:
        """Add the gradients of a loss on a batch of one system."""
        unused = self.model.unused(spec) if self.replicated and self.last else []
        idle = [weight for weight in unused if weight.grad is None]
        # DDP waits for the gradient of every weight: unused ones get zeros.
        for weight in unused:
            loss = loss + weight.flatten()[:0].sum()
        loss.backward()
        for weight in idle:  # no batch of this step reached it: the optimizer leaves it alone
            weight.grad = None

    def clip(self, most: float) -> Tensor:
        """Scale the gradients to a norm of `most` or less over all weights; their norm before."""
        return whole(clip_grad_norm_(self.model.parameters(), most))

    def forget_gathered(self) -> None:
        """Gather weights anew when they are next used: their shares were changed from outside."""
        if self.sharded:
            self.forward.reshard()

    def alone(self) -> Surrogate:
        """The trained model, for each process to use by itself."""
        if self.team.size == 1:
            return self.model
        model = make_model(self.model.config, list(self.model.specs.values()), self.model.history)
        if rank := rank_of(self.model):
            add_adapters(model, rank, {name for name, *_ in adapters(self.model)})
        model.load_state_dict({name: whole(w) for name, w in self.model.state_dict().items()})
        model.yardstick, model.base = self.model.yardstick, self.model.base
        return model.to(self.team.device)


def shard(model: Surrogate, device: torch.device) -> None:
    """Divide each weight among the processes; a block is gathered when it is used."""
    from torch.distributed.fsdp import fully_shard

    assert dist.group.WORLD is not None
    mesh = DeviceMesh.from_group(dist.group.WORLD, device.type)
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def whole(tensor: Tensor) -> Tensor:
    """Gather a tensor that is divided among the processes in all of them."""
    if dist.is_initialized():
        from torch.distributed.tensor import DTensor

        if isinstance(tensor, DTensor):
            return tensor.full_tensor()
    return tensor


def share(tensor: Tensor, like: Tensor) -> Tensor:
    """The inverse of `whole`: the share of a process in a tensor divided `like` another."""
    if dist.is_initialized():
        from torch.distributed.tensor import DTensor, distribute_tensor

        if isinstance(like, DTensor):
            return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)
    return tensor


def own_share(tensor: Tensor) -> Tensor:
    """The memory of this process' share in a tensor: all of one that is not divided."""
    if dist.is_initialized():
        from torch.distributed.tensor import DTensor

        if isinstance(tensor, DTensor):
            return tensor.to_local()
    return tensor
