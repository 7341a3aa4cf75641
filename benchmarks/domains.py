"""One step on large fields: whole and by regions, in time, memory and difference.

    python benchmarks/domains.py --points 2048 2048 --regions 1 16 64
    python benchmarks/domains.py --points 256 256 256 --regions 1 32

Each case runs in a process of its own, whose largest resident memory the system tells. In two
dimensions the model is the one that ships, in three one of its settings with random weights; a
sixteenth more tokens are spent than there are coarse patches.
Differences are those of the predicted frame from that of the first case, over its deviation.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import matey
from matey.config import RefineConfig
from matey.cost.machine import return_large_blocks
from matey.cost.regions import need_of
from matey.fields import PERIODIC_SIDES, Field, Grid, SystemSpec
from matey.nn.surrogate import Surrogate
from matey.nn.transformer import Matey


def model_of(ndim: int) -> tuple[Surrogate, SystemSpec]:
    """The model that ships, or in three dimensions one of its settings; and a system."""
    model = matey.from_pretrained("mini")
    spec = model.specs["compressible"]
    if ndim == 3:
        spec = replace(spec, name="toy", ndim=3)
        torch.manual_seed(0)
        model = Matey(model.config, [spec], model.history)
        for weight in model.stencils.weights.values():  # as wide as a fitted one
            weight.data.normal_(std=1e-3)
    return model.eval(), spec


def waves(spec: SystemSpec, points: list[int], times: int) -> Field:
    """Frames of running waves with noise, above zero."""
    z, y, x = shape = (*(1,) * (3 - len(points)), *points)
    generator = torch.Generator().manual_seed(0)
    values = torch.empty(times, len(spec.variables), *shape)
    for time_, frame in enumerate(values):
        for number, one in enumerate(frame, start=1):
            one.normal_(std=0.05, generator=generator)
            for axis, count in enumerate(shape):
                turns = 2 * math.pi * (number * torch.arange(count) / count + 0.01 * time_)
                one += turns.sin().view([-1 if a == axis else 1 for a in range(3)])
            one += 4
    axes = ("z", "y", "x")[3 - len(points) :]
    grid = Grid(axes, (z, y, x), (0.0, 0.0, 0.0), tuple(1 / n for n in shape))
    parameters = dict.fromkeys(spec.parameters, 0.1)
    sides = (PERIODIC_SIDES,) * 3
    return Field(values, torch.arange(times) * spec.dt, grid, sides, parameters, spec)


def run_case(points: list[int], regions: int, out: str) -> None:
    """Take a step, write the frame, and print seconds and bytes."""
    if regions > 1:
        return_large_blocks()
    model, spec = model_of(len(points))
    field = waves(spec, points, model.history)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    coarse = math.prod(-(-count // 16) for count in points)
    model.refine = RefineConfig(token_budget=coarse * 17 // 16)
    need = need_of(model, field, 1, regions)
    model.regions = regions
    tokens: list[int] = []
    began, busy = time.perf_counter(), time.process_time()
    (frame,) = model.rollout_steps(field, 1, watch=lambda made: tokens.append(made.tokens))
    record = {
        "regions": regions,
        "tokens": tokens[0],
        "history_bytes": field.values.nbytes,
        "resident_before": 1024 * before,
        "forecast": need.total,
        "resident": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "seconds": time.perf_counter() - began,
        "processor_seconds": time.process_time() - busy,
    }
    np.save(out, frame.values.numpy())
    print(json.dumps(record))


def main() -> None:
    """Run the cases one after the other, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, nargs="+", default=[2048, 2048])
    parser.add_argument("--regions", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--case", help="run one case here, and write its frame to this file")
    options = parser.parse_args()
    if options.case:
        run_case(options.points, options.regions[0], options.case)
        return
    with tempfile.TemporaryDirectory() as folder:
        first = None
        for regions in options.regions:
            path = Path(folder) / f"{regions}.npy"
            words = ["--points", *map(str, options.points), "--regions", str(regions)]
            command = [sys.executable, __file__, *words, "--case", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            record = json.loads(done.stdout.splitlines()[-1])
            frame = np.load(path, mmap_mode="r", allow_pickle=False)
            first = frame if first is None else first
            record["difference"] = float(np.abs(frame - first).max() / np.std(first))
            print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
