"""What a training step costs, counted before anything is allocated.

Operations are those of matrix products, two for each multiply-add, as torch's own counter
counts them: the backward pass of a product costs twice its forward pass, that of fused
attention two and a half times, since it computes the weights again.

Axes: N cells in use, T times, B samples, D width.
"""

import math
from dataclasses import dataclass, field

import torch

from matey.config import ModelConfig
from matey.fields import SystemSpec
from matey.nn.kernels import SHORT
from matey.nn.schemes import segment
from matey.nn.tokenizer import stem_stages
from matey.tokens.pack import Packing, Segments, pack


@dataclass
class Cost:
    """Operations of a step by part of the model, and values kept for the backward pass.

    `forward` and `backward` count floating-point operations; `kept` counts values (numbers
    of four bytes in float32) that the forward pass leaves for the backward pass.
    """

    forward: dict[str, int] = field(default_factory=dict)
    backward: dict[str, int] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)

    def product(self, part: str, rows: int, inner: int, columns: int, first: bool = False) -> None:
        """Count `[rows inner] @ [inner columns]`; a `first` one needs no gradient of its input."""
        operations = 2 * rows * inner * columns
        self.forward[part] = self.forward.get(part, 0) + operations
        self.backward[part] = self.backward.get(part, 0) + operations * (1 if first else 2)

    def keep(self, part: str, values: int) -> None:
        """Count values kept for the backward pass."""
        self.kept[part] = self.kept.get(part, 0) + values

    @property
    def operations(self) -> int:
        """Of a whole step, forward and backward."""
        return sum(self.forward.values()) + sum(self.backward.values())


def step_cost(config: ModelConfig, spec: SystemSpec, packing: Packing, history: int) -> Cost:
    """The cost of a forward and a backward pass over one batch of packed cells."""
    cost = Cost()
    times, width = history, config.embed_dim
    cells, samples = len(packing.cell), packing.plan.samples
    count_stem(cost, config, spec, packing, times)

    # Position and conditioning: numbers of features as in `embed`.
    for features in (3 * 13, 3 * 16 * config.absolute_position, 3 * 6):
        cost.product("position", cells, features, width, first=True)
    cost.product("position", times, 13, width, first=True)
    cost.product("conditioning", samples, 17, width, first=True)
    cost.product("conditioning", samples, width, width)
    if spec.parameters:
        cost.product("conditioning", samples * len(spec.parameters), 18, width, first=True)
        cost.product("conditioning", samples * len(spec.parameters), width, width)

    sequence = pack(
        [torch.empty(len(used), times, 0) for used in packing.levels], packing, config.band
    )
    stages = {scheme: segment(scheme, sequence) for scheme in set(config.schemes)}
    for index, scheme in enumerate(config.schemes):
        frames = 1 if index == config.depth - 1 else times
        count_block(cost, config, stages[scheme], cells, times, frames)
    return cost


def count_block(
    cost: Cost,
    config: ModelConfig,
    stages: list[list[Segments]],
    cells: int,
    times: int,
    frames: int,
) -> None:
    """One block, of which the last `frames` of `times` are asked for."""
    width = config.embed_dim
    for groupings in stages:
        keys, queries = cells * times, cells * frames
        cost.product("attention projections", queries, width, 2 * width)  # query and output
        cost.product("attention projections", keys, width, 2 * width)  # key and value
        # Norm, key and value, before and after the norms of queries and keys; what they mix.
        cost.keep("attention", 2 * keys * width + 3 * keys * width + 3 * queries * width)
        for segments in groupings:
            count_attention(cost, config, segments, times, frames)
        times = frames
    rows, hidden = cells * frames, config.mlp_ratio * width
    cost.product("mlp", rows, width, hidden)
    cost.product("mlp", rows, hidden, width)
    cost.keep("mlp", rows * (2 * width + 2 * hidden))


def count_attention(
    cost: Cost, config: ModelConfig, segments: Segments, times: int, frames: int
) -> None:
    """The products of queries with keys, and of weights with values."""
    alone = segments.time == "batch"
    for run in segments.runs:
        if alone:
            count, asked, length = run.outer * run.inner * frames, run.length, run.length
        else:
            count, asked, length = run.outer * run.inner, run.length * frames, run.length * times
        operations = 4 * count * asked * length * config.embed_dim
        short = length <= SHORT
        cost.forward["attention"] = cost.forward.get("attention", 0) + operations
        cost.backward["attention"] = cost.backward.get("attention", 0) + int(
            operations * (2 if short else 2.5)
        )
        if short:
            cost.keep("attention", count * asked * length * config.heads)


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
            cost.keep(part, rows * here * variables * points if encode else rows * here * widths[0])
            for stage, last, after in zip(stages[1:], widths, widths[1:], strict=False):
                here //= math.prod(stage)
                merged = last * math.prod(stage)
                cost.product(part, rows * here, merged, after)
                cost.keep(part, rows * here * merged * 3)
