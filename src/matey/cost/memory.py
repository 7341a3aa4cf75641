"""What a training step takes in memory, found by rehearsing it before anything is allocated.

The model itself runs on tensors that have shapes but no values (torch's fake tensors): what it
encodes, a block of each kind, and what it decodes, each forward and backward. What is then still
there, and how much there was at most, is what a real step keeps and takes: no formula has to
follow the code. It runs as on a CPU: the kernels of CUDA keep as much or a little less.

Axes: B samples, T times, C variables, (Z, Y, X) grid points, N cells in use, D width.
"""

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from matey.fields import Inputs, SystemSpec
from matey.nn.operations import count
from matey.nn.surrogate import normalised
from matey.nn.transformer import Matey
from matey.tokens.lattice import Triple
from matey.tokens.refine import RefinementPlan


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
    outline: Matey,
    spec: SystemSpec,
    plan: RefinementPlan,
    *,
    training: bool = True,
    precision: str = "float32",
    activation_checkpointing: bool = False,
    accumulate: int = 1,
    heap: float = 1.0,
) -> Memory:
    """The memory of one step of a model, given as its outline, on a batch of `spec` cut by a plan.

    AdamW's two moments are counted as there: they come with the first step. Weights that do not
    train have no gradients and no moments. `heap` as in `Memory`, other options as in `RunConfig`.
    """
    parts = rehearse_parts(outline, spec, plan, training, precision == "bfloat16")
    parameters = 4 * count(outline)
    trained = 4 * sum(p.numel() for p in outline.parameters() if p.requires_grad)
    frame = plan.samples * math.prod(plan.grid) * len(spec.variables) * 4
    # The normalised fields, and what holds the encoded tokens, stay until the blocks are done.
    held = [0] + [frame * outline.history + parts[1].before] * (len(parts) - 1)
    if not training:
        peak = max(
            part.before + part.forward + more for part, more in zip(parts, held, strict=True)
        )
        return Memory(parameters, 0, 0, frame * outline.history, {}, peak, peak, heap)
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
        batch=frame * (outline.history + 1),
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
    outline: Matey, spec: SystemSpec, plan: RefinementPlan, training: bool, half: bool
) -> list[Part]:
    """The parts of the forward pass and the loss, one after the other."""
    config, times, samples = outline.config, outline.history, plan.samples
    layout = outline.lay_out(plan, times)
    # With jitter, fields are moved.
    shift: Triple = (0, 0, 1) if config.jitter else (0, 0, 0)
    kinds = (*dict.fromkeys(config.schemes[:-1]), config.schemes[-1])
    with torch.device("meta"):
        model = Matey(replace(config, scheme=kinds, depth=len(kinds)), [spec], times)
    model.train(training).blocks.requires_grad_(next(outline.blocks.parameters()).requires_grad)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        inputs = Inputs(
            values=torch.empty(samples, times, len(spec.variables), *plan.grid),
            lead_time=torch.empty(samples),
            boundaries=torch.empty(samples, 3, 2, dtype=torch.int64),
            parameters=torch.empty(samples, len(spec.parameters)),
            spec=spec,
            sources=("",) * samples,
        )
        statistics, fields = normalised(inputs)

        def encode(values: Tensor) -> Tensor:
            given = replace(inputs, values=values)
            return model.encode(normalised(given, shift)[1], given, layout, shift)

        def decode(tokens: Tensor) -> Tensor:
            found = model.decode(tokens, fields, statistics, spec, layout, shift).normalised
            return (found - torch.empty_like(found)).square()

        def tokens(times: int) -> Tensor:
            shape = (len(layout.packing.cell), times, config.embed_dim)
            return torch.empty(shape, dtype=torch.bfloat16 if half else None)

        rehearse = partial(rehearsed, model, fields, training, half)
        first, last = (
            rehearse("encode", encode, inputs.values),
            rehearse("decode", decode, tokens(1)),
        )
        blocks = {}
        for block, scheme, frames in model.turns(times):
            block.drop_path = config.drop_path
            work = partial(block, around=layout.around[scheme], frames=frames)
            blocks[scheme, frames] = rehearse("blocks", work, tokens(times))
    return [first, *(blocks[scheme, frames] for _, scheme, frames in outline.turns(times)), last]


def rehearsed(
    model: Matey,
    fields: Tensor,
    training: bool,
    half: bool,
    name: str,
    work: Callable[[Tensor], Tensor],
    given: Tensor,
) -> Part:
    """What some work on a fake tensor takes, forward and, in training, backward.

    The normalised fields are there already.
    """
    is_data = name == "encode"
    given.requires_grad_(training and not is_data)
    parameters = list(model.parameters())
    before = 0 if is_data else given.untyped_storage().nbytes()
    precision = torch.autocast("cpu", torch.bfloat16, half)
    with Ledger([given, fields, *parameters]) as ledger, torch.set_grad_enabled(training):
        with precision:
            result = work(given)
        forward = ledger.highest
        if not training:
            return Part(name, before, 0, forward, 0, 0)
        kept = before + ledger.now - result.untyped_storage().nbytes()
        ledger.highest = start = ledger.now
        torch.autograd.backward(result, torch.empty_like(result))
    gradients = sum(p.grad.nbytes for p in parameters if p.grad is not None)
    model.zero_grad(set_to_none=True)
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
