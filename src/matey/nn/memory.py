"""What a training step takes in memory, found by rehearsing it before anything is allocated.

Each part of the model runs once, forward and backward, on tensors that have shapes but no
values (torch's fake tensors). What is then still there, and how much there was at most, is
what the real one keeps and takes: no formula has to follow the code. Blocks of one kind are
rehearsed once, as on a CPU: the kernels of CUDA keep as much or a little less.

Axes: B samples, T times, C variables, (Z, Y, X) grid points, N cells in use, D width.
"""

import math
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from matey.config import ModelConfig, Scheme
from matey.fields import SystemSpec
from matey.nn.attention import rotations
from matey.nn.block import Surroundings
from matey.nn.cost import count_parameters, make_block, make_ends
from matey.nn.normalise import measure
from matey.nn.schemes import segment
from matey.tokens.pack import Packing, pack, unpack


@dataclass(frozen=True)
class Memory:
    """Bytes that a step takes, by what for.

    `kept` are the values that the forward pass leaves for the backward pass, by part of the
    model; `transient` is the largest that any part needs besides. They and the gradients are
    not there all at once: `peak` is the highest of them together, since gradients come as
    kept values go. In inference there are no gradients, moments or kept values. `heap` is how
    much more a process holds than it needs, since what is freed stays in pieces with its heap.
    """

    parameters: int
    gradients: int
    moments: int
    batch: int
    kept: dict[str, int]
    transient: int
    peak: int
    heap: float = 1.0

    @property
    def total(self) -> int:
        """The most that a process holds at one time."""
        return int(self.heap * (self.parameters + self.moments + self.batch + self.peak))


def step_memory(
    config: ModelConfig,
    systems: Sequence[SystemSpec],
    packing: Packing,
    spec: SystemSpec,
    history: int,
    *,
    training: bool = True,
    precision: str = "float32",
    activation_checkpointing: bool = False,
    accumulate: int = 1,
    trains_blocks: bool = True,
    heap: float = 1.0,
) -> Memory:
    """The memory of one step on a batch of packed cells of the system `spec`.

    The model has the weights for all of `systems`. AdamW's two moments are counted as there:
    they come with the first step. Weights that do not train have no gradients and no moments.
    `heap` as in `Memory`, other options as in `RunConfig`.
    """
    parts = rehearse_parts(config, packing, spec, history, training, precision, trains_blocks)
    numbers = count_parameters(config, systems)
    parameters = 4 * sum(numbers.values())
    trained = parameters if trains_blocks else parameters - 4 * numbers["blocks"]
    frame = packing.plan.samples * math.prod(packing.plan.grid) * len(spec.variables) * 4
    # The normalised fields and the encoded tokens stay until the forward pass is over.
    held = [0] + [frame * history + parts[1].before] * (len(parts) - 1)
    if not training:
        peak = max(
            part.before + part.forward + more for part, more in zip(parts, held, strict=True)
        )
        return Memory(parameters, 0, 0, frame * history, {}, peak, peak, heap)
    if activation_checkpointing:
        parts = [part.checkpointed() if part.name == "blocks" else part for part in parts]
    kept: dict[str, int] = {}
    for part in parts:
        kept[part.name] = kept.get(part.name, 0) + part.kept
    peak, below = 0, 0  # `below` is what the parts so far keep
    gradients = sum(part.gradients for part in parts)
    standing = trained if accumulate > 1 else 0  # those of the batch before
    for part, more in zip(parts, held, strict=True):
        peak = max(peak, standing + below + part.before + part.forward + more)
        below += part.kept
        gradients -= part.gradients  # now those of the parts after this one
        peak = max(peak, (standing or gradients) + below + part.backward)
    return Memory(
        parameters=parameters,
        gradients=trained,
        moments=2 * trained,
        batch=frame * (history + 1),
        kept=kept,
        transient=max(max(part.forward - part.kept, part.backward) for part in parts),
        peak=max(peak, trained),
        heap=heap,
    )


@dataclass(frozen=True)
class Part:
    """Bytes that one part of the model takes, in the order of the forward pass.

    `before` is its input; `kept` what it leaves for the backward pass, its input included;
    `forward` and `backward` are the most that it adds to what was there when the pass came to
    it; `gradients` are those of its weights.
    """

    name: str
    before: int
    kept: int
    forward: int
    backward: int
    gradients: int

    def checkpointed(self) -> "Part":
        """The part that keeps its input only, and runs again in the backward pass."""
        again = max(self.forward, self.kept - self.before + self.backward)
        return Part(self.name, self.before, self.before, self.forward, again, self.gradients)


def rehearse_parts(
    config: ModelConfig,
    packing: Packing,
    spec: SystemSpec,
    history: int,
    training: bool,
    precision: str,
    trains_blocks: bool,
) -> list[Part]:
    """The parts of `Matey.forward` and the loss, one after the other."""
    half = precision == "bfloat16"
    cells, samples, width = len(packing.cell), packing.plan.samples, config.embed_dim
    empty = [torch.empty(len(used), history, 0) for used in packing.levels]
    sequence = pack(empty, packing, config.band)
    stages = {name: segment(name, sequence) for name in set(config.schemes)}
    names = [variable.name for variable in spec.variables]
    predicted = list(spec.predicted)

    with FakeTensorMode(allow_non_fake_inputs=True):
        tokenizer, position, conditioning, norm = make_ends(config, [spec])
        values = torch.empty(samples, history, len(names), *packing.plan.grid)
        turn = rotations(sequence.centre, width // config.heads)
        boundaries = torch.zeros(samples, 3, 2, dtype=torch.int64)

        def start(values: Tensor) -> Tensor:
            fields = measure(values).normalise(values).roll((0, 0, 0), (-3, -2, -1))
            packed = pack(tokenizer.encode(fields, packing, names), packing, config.band)
            case = conditioning(
                torch.ones(samples), torch.ones(samples, len(spec.parameters)), spec.parameters
            )
            place = position(packed, boundaries, torch.zeros(3))
            return packed.tokens + place + case[packed.sample, None]

        def end(tokens: Tensor) -> Tensor:
            levels = tokenizer.decode(
                unpack(norm(tokens[:, -1]), packing), packing, [names[i] for i in predicted]
            )
            last, target = torch.empty(2, samples, len(predicted), *packing.plan.grid)
            return (last + sum(levels) - target).square()

        def rehearse_block(scheme: Scheme, frames: int) -> Part:
            block = make_block(config, scheme).requires_grad_(trains_blocks)
            around = Surroundings(stages[scheme], turn, sequence.sample, samples)
            tokens = torch.empty(cells, history, width, dtype=torch.bfloat16 if half else None)
            work = lambda tokens: block(tokens, around, frames)  # noqa: E731
            return rehearse("blocks", work, tokens, [block], training, half)

        inward = [tokenizer.inputs, tokenizer.encoders, position, conditioning]
        outward = [tokenizer.outputs, tokenizer.decoders, norm]
        first = rehearse("encode", start, values, inward, training, half)
        kinds = {(scheme, history) for scheme in config.schemes[:-1]} | {(config.schemes[-1], 1)}
        blocks = {kind: rehearse_block(*kind) for kind in kinds}
        order = [blocks[scheme, history] for scheme in config.schemes[:-1]]
        order.append(blocks[config.schemes[-1], 1])
        tokens = torch.empty(cells, 1, width, dtype=torch.bfloat16 if half else None)
        last = rehearse("decode", end, tokens, outward, training, half)
    return [first, *order, last]


def rehearse(
    name: str,
    work: Callable[[Tensor], Tensor],
    given: Tensor,
    modules: Sequence[nn.Module],
    training: bool,
    half: bool,
) -> Part:
    """What some work on a fake tensor takes, forward and, in training, backward."""
    is_data = name == "encode"
    given.requires_grad_(training and not is_data)
    parameters = [p for module in modules for p in module.train(training).parameters()]
    before = 0 if is_data else given.untyped_storage().nbytes()
    precision = torch.autocast("cpu", torch.bfloat16, half)
    gradient: AbstractContextManager[Any] = nullcontext() if training else torch.no_grad()
    with Ledger([given, *parameters]) as ledger, gradient:
        with precision:
            result = work(given)
        forward = ledger.highest
        if not training:
            return Part(name, before, 0, forward, 0, 0)
        kept = before + ledger.now - result.untyped_storage().nbytes()
        ledger.highest = start = ledger.now
        torch.autograd.backward(result, torch.empty_like(result))
    gradients = sum(p.grad.nbytes for p in parameters if p.grad is not None)
    return Part(name, before, kept, forward, ledger.highest - start, gradients)


class Ledger(TorchDispatchMode):
    """Counts the bytes of all tensors made while it is entered: `now`, and at the `highest`.

    Those `given` are not counted. Works on real and on fake tensors.
    """

    def __init__(self, given: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.highest = 0
        self.known = {tensor.untyped_storage()._cdata for tensor in given}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.count(leaf.untyped_storage())
        return result

    def count(self, storage: torch.UntypedStorage) -> None:
        """Enter a storage that is new, until it is freed."""
        if storage._cdata in self.known:
            return
        self.known.add(storage._cdata)
        self.now += storage.nbytes()
        self.highest = max(self.highest, self.now)
        weakref.finalize(storage, self.free, storage._cdata, storage.nbytes())

    def free(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size
