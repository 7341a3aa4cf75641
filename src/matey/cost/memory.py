"""The memory of a training step, measured on a rehearsal before anything is allocated.

The model itself runs on tensors that have shapes but no values (torch's fake tensors): its
encoding, a block of each kind, and its decoding, each forward and backward. The bytes that remain,
and their peak, are those of a real step: no formula has to follow the code. It runs as on a CPU:
the kernels of CUDA keep as much or a little less.

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
from matey.nn.adapters.low_rank import train_like
from matey.nn.block import Given
from matey.nn.operations import count
from matey.nn.transformer import Matey
from matey.tokens.lattice import Triple
from matey.tokens.normalise import Statistics, normalised
from matey.tokens.refine import RefinementPlan


@dataclass(frozen=True)
class Memory:
    """Bytes of a step, by purpose.

    `kept` are the values that the forward pass leaves for the backward pass, by part of the
    model; `average` is that of the weights (`optim.ema`); `transient` is the largest that any part
    needs besides. Gradients come as kept values go: `peak` is the most of all these together.
    Inference has no gradients, moments, average or kept values. `heap` is the factor by which a
    process holds more than its tensors.
    """

    parameters: int
    gradients: int
    moments: int
    batch: int
    kept: dict[str, int]
    transient: int
    peak: int
    heap: float = 1.0
    average: int = 0

    @property
    def total(self) -> int:
        """The most that a process holds at one time."""
        standing = self.parameters + self.moments + self.average
        return int(self.heap * (standing + self.batch + self.peak))


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
    rollout: int = 1,
    averaged: bool = False,
) -> Memory:
    """The memory of one step of a model's outline on a batch of `spec` cut by a plan.

    The gradient flows through a `rollout` of so many steps, which keep what each alone keeps.
    AdamW's two moments, which come with the first step, are included; frozen weights have neither
    gradients nor moments, nor an average, which is kept where `averaged`. `heap` as in `Memory`,
    other options as in `RunConfig`.
    """
    parts = rehearse_parts(outline, spec, plan, training, precision == "bfloat16", rollout)
    parameters = 4 * count(outline)
    trained = 4 * sum(p.numel() for p in outline.parameters() if p.requires_grad)
    frame = plan.samples * math.prod(plan.grid) * len(spec.variables) * 4
    # The normalised fields, and what holds the encoded tokens, stay until the blocks are done.
    once = len(parts) // rollout
    held = ([0] + [frame * outline.history + parts[1].before] * (once - 1)) * rollout
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
    gradients = sum(part.gradients for part in parts[-once:])
    standing = trained if accumulate > 1 else 0  # those of the batch before
    for place, (part, more) in enumerate(zip(parts, held, strict=True)):
        peak = max(peak, standing + below + part.before + part.forward + more)
        below += part.kept
        if place >= len(parts) - once:  # the last step of a rollout is the first to go back
            gradients -= part.gradients  # now those of the parts after this one
        # Those of a rollout are added to the standing ones when all of its steps have theirs.
        there = standing + gradients if rollout > 1 else standing or gradients
        peak = max(peak, there + below + part.backward)
    return Memory(
        parameters=parameters,
        gradients=trained,
        moments=2 * trained,
        batch=frame * (outline.history + rollout),
        kept=kept,
        transient=max(max(part.forward - part.kept, part.backward) for part in parts),
        peak=max(peak, trained),
        heap=heap,
        average=trained if averaged else 0,
    )


@dataclass(frozen=True)
class Part:
    """Bytes of one part of the model: its input (`before`), what it keeps for the backward pass,
    input included, the most that each pass adds meanwhile, and the gradients of its weights."""

    name: str
    before: int
    kept: int
    forward: int
    backward: int
    gradients: int

    def checkpointed(self) -> "Part":
        """The part that keeps its input only and runs again in the backward pass."""
        again = max(self.forward, self.kept - self.before + self.backward)
        return Part(self.name, self.before, self.before, self.forward, again, self.gradients)


def rehearse_parts(
    outline: Matey, spec: SystemSpec, plan: RefinementPlan, training: bool, half: bool, rollout: int
) -> list[Part]:
    """The parts of the forward pass and the loss, one after the other, step by step."""
    config, times, samples = outline.config, outline.times, plan.samples
    layout = outline.lay_out(plan, times)
    # With jitter, fields are moved.
    shift: Triple = (0, 0, 1) if config.jitter else (0, 0, 0)
    kinds = (*dict.fromkeys(config.schemes[:-1]), config.schemes[-1])
    with torch.device("meta"):
        model = Matey(replace(config, scheme=kinds, depth=len(kinds)), [spec], outline.history)
        train_like(model, outline)
    model.train(training)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        inputs = Inputs(
            values=torch.empty(samples, outline.history, len(spec.variables), *plan.grid),
            lead_time=torch.empty(samples),
            boundaries=torch.empty(samples, 3, 2, dtype=torch.int64),
            parameters=torch.empty(samples, len(spec.parameters)),
            spec=spec,
            sources=("",) * samples,
        )
        statistics, fields = normalised(inputs)

        def encode(values: Tensor) -> Tensor:
            read = replace(inputs, values=values)
            measured, normal = normalised(read, shift)
            return model.encode(normal, measured, read, layout, shift).tokens

        # What goes past the blocks.
        past = model.encode(fields, statistics, inputs, layout, shift)
        case = replace(past.case, vector=past.case.vector.detach())
        past = replace(past, case=case, features=left_over(past.features))

        def decode(
            tokens: Tensor,
            past: Given = past,
            fields: Tensor = fields,
            statistics: Statistics = statistics,
        ) -> Tensor:
            made = model.decode(tokens, past, fields, statistics, inputs, layout, shift)
            error = (made.normalised - torch.empty_like(made.normalised)).square()
            if rollout > 1:  # whose later steps go on from these fields
                error = error + made.fields
            if not training or made.base is None:
                return error
            return error + (made.base - torch.empty_like(made.base)).square()

        def tokens(times: int) -> Tensor:
            shape = (len(layout.packing.cell), times, config.embed_dim)
            return torch.empty(shape, dtype=torch.bfloat16 if half else None)

        rehearse = partial(rehearsed, model, fields, training, half)
        first = rehearse("encode", encode, inputs.values, given=True)
        # Later steps of a rollout pass the gradient on to the fields that the model made, and
        # to how large they are.
        later = first if rollout == 1 else rehearse("encode", encode, inputs.values)
        last = later_last = rehearse("decode", decode, tokens(1))
        if rollout > 1:
            ratios = past.case.ratios.detach().requires_grad_()
            told = replace(past, case=replace(past.case, ratios=ratios))
            scale = statistics.scale.detach().requires_grad_()
            sizes = replace(statistics, scale=scale)
            later_fields = fields.detach().requires_grad_()
            sized = partial(decode, past=told, fields=later_fields, statistics=sizes)
            later_last = rehearse("decode", sized, tokens(1))
        blocks = {}
        for block, scheme, frames in model.turns(times):
            block.drop_path = config.drop_path
            work = partial(block, around=layout.around[scheme], frames=frames)
            blocks[scheme, frames] = rehearse("blocks", work, tokens(times))
    between = [blocks[scheme, frames] for _, scheme, frames in outline.turns(times)]
    return [first, *between, last, *(rollout - 1) * [later, *between, later_last]]


def left_over(features: Tensor | None) -> Tensor | None:
    """Features of a local path as they come to be decoded: with a gradient to be computed."""
    return None if features is None else features.detach().requires_grad_()


def rehearsed(
    model: Matey,
    fields: Tensor,
    training: bool,
    half: bool,
    name: str,
    work: Callable[[Tensor], Tensor],
    values: Tensor,
    given: bool = False,
) -> Part:
    """Measure the work on fake values, forward and, in training, backward, besides the normalised
    fields. Values that are `given` need no gradient."""
    values.requires_grad_(training and not given)
    parameters = list(model.parameters())
    before = 0 if given else values.untyped_storage().nbytes()
    with Ledger([values, fields, *parameters]) as ledger, torch.set_grad_enabled(training):
        with torch.autocast("cpu", torch.bfloat16, half):
            result = work(values)
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
    """Counts the bytes of all tensors, real or fake, that are made while it is entered, apart from
    those `present`: `now`, and at the `highest`."""

    def __init__(self, present: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.highest = 0
        self.storages = {tensor.untyped_storage()._cdata for tensor in present}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.count(leaf.untyped_storage())
        return result

    def count(self, storage: torch.UntypedStorage) -> None:
        """Enter a storage that is new, until it is freed."""
        if storage._cdata in self.storages:
            return
        self.storages.add(storage._cdata)
        self.now += storage.nbytes()
        self.highest = max(self.highest, self.now)
        weakref.finalize(storage, self.free, storage._cdata, storage.nbytes())

    def free(self, key: int, size: int) -> None:
        self.storages.discard(key)
        self.now -= size
