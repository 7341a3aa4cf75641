"""What a training step costs in operations, counted before anything is allocated.

Operations are those of matrix products, two for each multiply-add, as torch's own counter
counts them: the backward pass of a product costs twice its forward pass, that of fused
attention two and a half times, since it computes the weights again.

Axes: N cells in use, T times, B samples, D width.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from matey.config import ModelConfig, Scheme
from matey.fields import SystemSpec
from matey.nn.block import Block
from matey.nn.embed import Conditioning, Position
from matey.nn.kernels import SHORT, mean_length
from matey.nn.schemes import segment, stages_of
from matey.nn.short import merges_heads
from matey.nn.tokenizer import Tokenizer, stem_stages
from matey.nn.usual import SIZES
from matey.tokens.lattice import patch_shape
from matey.tokens.pack import Packing, Segments, pack


@dataclass
class Cost:
    """Floating-point operations of a step, by part of the model."""

    forward: dict[str, int] = field(default_factory=dict)
    backward: dict[str, int] = field(default_factory=dict)

    def product(
        self,
        part: str,
        rows: int,
        inner: int,
        columns: int,
        first: bool = False,
        trains: bool = True,
    ) -> None:
        """Count `[rows inner] @ [inner columns]`; a `first` one needs no gradient of its input,
        one that does not train none of its weights."""
        operations = 2 * rows * inner * columns
        self.forward[part] = self.forward.get(part, 0) + operations
        gradients = (not first) + trains
        self.backward[part] = self.backward.get(part, 0) + operations * gradients

    @property
    def operations(self) -> int:
        """Of a whole step, forward and backward."""
        return sum(self.forward.values()) + sum(self.backward.values())


def step_cost(
    config: ModelConfig,
    spec: SystemSpec,
    packing: Packing,
    history: int,
    stages: Mapping[Scheme, list[list[Segments]]] | None = None,
    trains_blocks: bool = True,
) -> Cost:
    """The cost of a forward and a backward pass over one batch of packed cells.

    `stages` are the segments of each scheme, where a prediction has found them already: then
    nothing is done on a device. Gradients flow through blocks that do not train, but none of
    their weights is computed.
    """
    cost = Cost()
    times, width = history, config.embed_dim
    cells, samples = len(packing.cell), packing.plan.samples
    if config.local:
        count_features(cost, config, spec, packing, times)
        times = 1
    else:
        count_stem(cost, config, spec, packing, times)
    if config.stencil:
        from matey.nn.stencil import count_stencil

        variables = (len(spec.variables), len(spec.predicted))
        count_stencil(cost, history, variables, samples, packing.plan.grid[3 - spec.ndim :])

    # Position and conditioning: numbers of features as in `embed`.
    for features in (3 * 13, 3 * 16 * config.absolute_position, 3 * 6):
        cost.product("position", cells, features, width, first=True)
    cost.product("position", times, 13, width, first=True)
    ratios = len(SIZES) * len(spec.predicted) if config.local else 0
    count_conditioning(cost, len(spec.parameters) + ratios, samples, width)

    if stages is None:
        sequence = pack(
            [torch.empty(len(used), times, 0) for used in packing.levels], packing, config.band
        )
        stages = {
            scheme: segment(scheme, sequence, bool(config.local)) for scheme in set(config.schemes)
        }
    for index, scheme in enumerate(config.schemes):
        frames = 1 if index == config.depth - 1 else times
        count_block(cost, config, stages[scheme], cells, times, frames, trains_blocks)
    return cost


def count_conditioning(cost: Cost, told: int, samples: int, width: int) -> None:
    """The vectors of lead time, and of so many numbers beside it."""
    cost.product("conditioning", samples, 17, width, first=True)
    cost.product("conditioning", samples, width, width)
    if told:
        cost.product("conditioning", samples * told, 18, width, first=True)
        cost.product("conditioning", samples * told, width, width)


def count_block(
    cost: Cost,
    config: ModelConfig,
    stages: list[list[Segments]],
    cells: int,
    times: int,
    frames: int,
    trains: bool,
) -> None:
    """One block, of which the last `frames` of `times` are asked for."""
    width, projections = config.embed_dim, "attention projections"
    for groupings in stages:
        keys, queries = cells * times, cells * frames
        cost.product(projections, queries, width, 2 * width, trains=trains)  # query and output
        cost.product(projections, keys, width, 2 * width, trains=trains)  # key and value
        for segments in groupings:
            count_attention(cost, config, segments, times, frames)
        times = frames
    rows, hidden = cells * frames, config.mlp_ratio * width
    cost.product("mlp", rows, width, hidden, trains=trains)
    cost.product("mlp", rows, hidden, width, trains=trains)


def count_attention(
    cost: Cost, config: ModelConfig, segments: Segments, times: int, frames: int
) -> None:
    """The products of queries with keys, and of weights with values."""
    alone = segments.time == "batch"
    is_short = mean_length(segments, times) <= SHORT
    masked = config.heads if is_short and merges_heads(segments, times, config.heads) else 1
    for run in segments.runs:
        if alone:
            count, asked, length = run.outer * run.inner * frames, run.length, run.length
        else:
            count, asked, length = run.outer * run.inner, run.length * frames, run.length * times
        operations = 4 * count * asked * length * config.embed_dim * masked
        cost.forward["attention"] = cost.forward.get("attention", 0) + operations
        cost.backward["attention"] = cost.backward.get("attention", 0) + int(
            operations * (2 if is_short else 2.5)
        )


def count_features(
    cost: Cost, config: ModelConfig, spec: SystemSpec, packing: Packing, times: int
) -> None:
    """The local path, and its features to tokens and back, level by level."""
    from matey.nn.local import count_local

    sizes = (times, config.local, config.piece, config.levels, config.embed_dim)
    plan = packing.plan
    variables = (len(spec.variables), len(spec.predicted))
    count_local(cost, sizes, variables, plan.samples, plan.grid[3 - spec.ndim :])
    for patch, used in zip(plan.sizes, packing.levels, strict=True):
        inner = config.local * math.prod(max(1, points // config.piece) for points in patch)
        cost.product("encode", len(used), inner, config.embed_dim)
        cost.product("decode", len(used), config.embed_dim, inner)


def count_stem(
    cost: Cost, config: ModelConfig, spec: SystemSpec, packing: Packing, times: int
) -> None:
    """Patches to tokens, and the last frame's tokens back to patches, level by level."""
    inputs, outputs = len(spec.variables), len(spec.predicted)
    latent, width = config.latent_channels, config.embed_dim
    for patch, used in zip(packing.plan.sizes, packing.levels, strict=True):
        stages = stem_stages(patch, config.stem)
        inner = width // 4
        widths = [inner] * (len(stages) - 1) + [width]
        pieces = math.prod(patch) // math.prod(stages[0])
        points = math.prod(stages[0])
        for part, count, frames, variables in (
            ("encode", len(used), times, inputs),
            ("decode", len(used), 1, outputs),
        ):
            encode = part == "encode"
            cost.product(part, widths[0] * points, latent, variables)  # variables folded in
            here = pieces
            rows = count * frames
            cost.product(part, rows * here, variables * points, widths[0], first=encode)
            for stage, last, after in zip(stages[1:], widths, widths[1:], strict=False):
                here //= math.prod(stage)
                merged = last * math.prod(stage)
                cost.product(part, rows * here, merged, after)


def count_parameters(config: ModelConfig, systems: Sequence[SystemSpec]) -> dict[str, int]:
    """Numbers that a model of some systems learns, by part."""
    with torch.device("meta"):
        tokenizer, position, conditioning, norm = make_ends(config, systems)
        blocks = {name: make_block(config, name) for name in set(config.schemes)}
    size = {name: count(block) for name, block in blocks.items()}
    return {
        "encode": count(tokenizer.inputs) + count(tokenizer.encoders),
        "position": count(position),
        "conditioning": count(conditioning),
        "blocks": sum(size[name] for name in config.schemes),
        "decode": count(norm) + count(tokenizer.outputs) + count(tokenizer.decoders),
    }


def count(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(parameter.numel() for parameter in module.parameters())


def make_ends(
    config: ModelConfig, systems: Sequence[SystemSpec]
) -> tuple[Tokenizer, Position, Conditioning, nn.LayerNorm]:
    """The model's modules but the blocks."""
    width = config.embed_dim
    tokenizer = Tokenizer(width, config.latent_channels, config.stem)
    conditioning = Conditioning(width)
    for spec in systems:
        tokenizer.inputs.add([variable.name for variable in spec.variables])
        tokenizer.outputs.add([spec.variables[i].name for i in spec.predicted])
        tokenizer.add([patch_shape(spec.ndim, patch) for patch in config.patches])
        conditioning.names.add(spec.parameters)
    position = Position(width, config.absolute_position, config.jitter)
    return tokenizer, position, conditioning, nn.LayerNorm(width)


def make_block(config: ModelConfig, scheme: Scheme) -> Block:
    """One of the model's blocks."""
    return Block(config, len(stages_of(scheme, bool(config.local))), config.drop_path)
