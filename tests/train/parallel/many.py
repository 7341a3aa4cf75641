"""What more than two processes do, in the tests that start them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed.fsdp  # before they are forked
from safetensors.torch import save_file

from matey.config import ParallelConfig, RunConfig
from matey.fields import Batch, Grid, SystemSpec, Variable
from matey.fields.grid import stack_points
from matey.nn.kernels import attend, reference
from matey.tokens.pack import Run, Segments
from matey.train.parallel.distributed import Team, processes
from matey.train.parallel.ring import portions
from matey.train.parallel.sequence import ExchangingKernel
from tests.train.works import LOCAL, MODEL, SANDWICH, SPECS, UNIFORM, batch_of, sent_in, step_of

CPU = torch.device("cpu")
SAMPLES, POINTS = 8, 16
STATIC, MASK = 1, 3
SEA = SystemSpec(
    "sea",
    2,
    (
        Variable("a"),
        Variable("depth", static=True),
        Variable("b"),
        Variable("mask", static=True, pseudo=False, mask=True),
    ),
)
TURNS = (SEA, SPECS[1], SEA)
FOUR = {
    "ddp": (LOCAL, ParallelConfig()),
    "ring": (MODEL, ParallelConfig(sequence=4, ring=4)),
    "heads and ring": (LOCAL, ParallelConfig(sequence=4, ring=2)),
    "ring and fsdp": (UNIFORM, ParallelConfig("fsdp", sequence=2, ring=2)),
}
EIGHT = {
    "ddp": (SANDWICH, ParallelConfig()),
    "fsdp": (MODEL, ParallelConfig("fsdp")),
    "ring": (LOCAL, ParallelConfig(sequence=8, ring=8)),
    "heads and ring": (MODEL, ParallelConfig(sequence=8, ring=4)),
    "heads, ring and data": (SANDWICH, ParallelConfig("fsdp", sequence=4, ring=2)),
}
CASES = {4: FOUR, 8: EIGHT}


def masked_batch(spec: SystemSpec, turn: int, samples: slice, between: int = 0) -> Batch:
    """Part of the eight samples of one turn: of the sea with masks, each on a grid of its own."""
    made = batch_of(spec, turn, samples, between, SAMPLES)
    if spec is not SEA:
        return made
    generator = torch.Generator().manual_seed(turn)
    water = torch.rand(SAMPLES, 1, POINTS, POINTS, generator=generator) > 0.2
    values, target = made.values.clone(), made.target.clone()
    values[:, :, STATIC] = values[:, :1, STATIC]
    target[:, STATIC] = values[:, 0, STATIC]
    values[:, :, MASK] = water[samples, None].float()
    target[:, MASK] = values[:, 0, MASK]
    places = [
        np.linspace(0, 1, POINTS) ** (1 + 0.2 * i) + 0.01 * np.arange(POINTS)
        for i in range(SAMPLES)
    ]
    axes, shape, steps = ("y", "x"), (1, POINTS, POINTS), (1.0, 0.1, 0.1)
    grids = [Grid(axes, shape, (0.0, 0.0, 0.0), steps, ((), tuple(y.tolist()), ())) for y in places]
    points = stack_points(grids[samples])
    return replace(made, values=values, target=target, points=points)


def step_in(config, team: Team, checkpointing: bool = False) -> dict:
    """A step of the eight samples."""
    return step_of(config, team, 0, checkpointing, TURNS, masked_batch, SAMPLES)


def lines(cells: int, lengths: list[int]) -> Segments:
    """Cells in segments of these lengths, in a random order."""
    order = torch.randperm(cells, generator=torch.Generator().manual_seed(0))
    runs = tuple(Run(1, length) for length in lengths)
    assert sum(run.cells for run in runs) == cells
    return Segments(runs, "batch", order)


GROUPINGS = {
    "long": Segments((Run(1, 301),), "inside"),
    "samples of other lengths": Segments((Run(1, 37), Run(2, 90), Run(1, 5)), "inside"),
    "lines across": Segments((Run(2, 7, 5),), "batch"),
    "lines of mixed cells": lines(41, [1, 1, 2, 3, 3, 3, 8, 20]),
    "fewer cells than processes": Segments((Run(1, 2), Run(1, 1)), "batch"),
    "times": Segments((Run(23, 1),), "segment"),
}


def check_kernels(team: Team, kernel: ExchangingKernel) -> None:
    """Attention of cells that are spread over the team, and its gradients, are those of one softmax
    over all cells; in half precision to its rounding."""
    for name, segments in GROUPINGS.items():
        compare(team, kernel, segments, 2, name)
        compare(team, kernel, segments, 1, name)
    compare(team, kernel, GROUPINGS["long"], 2, "half precision", half=True)


def compare(
    team: Team, kernel: ExchangingKernel, segments: Segments, asked: int, name: str, half=False
) -> None:
    """The last frame, or both frames, of three heads."""
    cells = sum(run.cells for run in segments.runs)
    own = portions(cells, team.size)
    torch.manual_seed(asked)
    *whole, gradient = (torch.randn(cells, n, 3, 8) for n in (asked, 2, 2, asked))
    parts = [tensor.split(own)[team.rank].requires_grad_() for tensor in whole]
    with torch.autocast("cpu", torch.bfloat16, half):
        mixed = kernel(*parts, segments).float()
    mixed.backward(gradient.split(own)[team.rank])
    whole = [tensor.requires_grad_() for tensor in whole]
    expected = reference(*whole, segments)
    expected.backward(gradient)
    found = [mixed, *(part.grad for part in parts)]
    rounding = 2e-2 if half else 1e-5  # of bfloat16, and of sums of float32 in another order
    for one, right in zip(found, [expected, *(tensor.grad for tensor in whole)], strict=True):
        theirs = right.split(own)[team.rank]
        torch.testing.assert_close(
            one, theirs, rtol=rounding, atol=rounding, msg=lambda m: f"{name}: {m}"
        )


def steps_of_many(folder: Path) -> None:
    """Kernels by themselves, and a step of each case."""
    config = RunConfig(device="cpu", parallel=ParallelConfig(timeout=200))
    with processes(config) as all_of_them:
        size = all_of_them.size
        for blocks in (size, size // 2):
            team = Team(ParallelConfig(sequence=size, ring=blocks), CPU)
            check_kernels(team, ExchangingKernel(attend, team.groups["heads"], team.groups["ring"]))
        for name, (model, parallel) in CASES[size].items():
            if name == "heads and ring":
                sent = sent_in(all_of_them, model, parallel, checkpointing=True)
                (folder / f"{name}-{all_of_them.rank}.json").write_text(json.dumps(sent))
            for checkpointing in (False, True)[: 1 + (name == "heads and ring")]:
                found = step_in(model, Team(parallel, CPU), checkpointing)
                if all_of_them.first:
                    label = f"{name}-checkpointed" if checkpointing else name
                    save_file(found, folder / f"{label}.safetensors")
