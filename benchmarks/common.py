"""What the benchmarks share: a quiet clock, the machine's own peak, tables and JSON.

Rates are given over the rate of a large matrix product measured between the runs: that
fraction survives a noisy machine.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import matey
from matey.config import ModelConfig
from matey.config.model import SIZES
from matey.fields import Boundary, Inputs, SystemSpec, Variable


def options(text: str, out: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--out", default=out, help="the JSON file to write")
    parser.add_argument("--repeats", type=int, default=7, help="interleaved runs of each case")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    return parser


def timed(work: Callable[[], Any], device: str = "cpu") -> float:
    """Seconds that some work takes, the device's included."""
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


class Peak:
    """The rate of a large square matrix product, in operations per second."""

    def __init__(self, device: str, dtype: torch.dtype = torch.float32) -> None:
        self.size = 8192 if device == "cuda" else 2048
        self.device = device
        self.matrices = [torch.randn(self.size, self.size).to(device, dtype) for _ in range(2)]
        self.measure()

    def measure(self) -> float:
        first, second = self.matrices
        return 2 * self.size**3 / timed(lambda: first @ second, self.device)


def interleaved(
    work: Callable[[], Any], operations: int, peak: Peak, repeats: int
) -> dict[str, float]:
    """Median seconds of some work, and its rate over the peak measured before each run."""
    for _ in range(2):
        work()
    seconds, fractions = [], []
    for _ in range(repeats):
        rate = peak.measure()
        seconds.append(timed(work, peak.device))
        fractions.append(operations / seconds[-1] / rate)
    return {"seconds": statistics.median(seconds), "of_peak": statistics.median(fractions)}


def spec_of(variables: int, ndim: int = 2) -> SystemSpec:
    """A system of so many variables."""
    return SystemSpec("benchmark", ndim, tuple(Variable(f"u{i}") for i in range(variables)))


def rough_inputs(
    spec: SystemSpec,
    times: int,
    points: int,
    cell: int,
    rough: Sequence[int],
    device: str = "cpu",
    seed: int = 0,
) -> Inputs:
    """Smooth periodic waves, with noise in `rough[b]` of the cells of sample b: those refined."""
    generator = torch.Generator().manual_seed(seed)
    samples, lattice = len(rough), points // cell
    phase = 2 * torch.pi * torch.arange(points) / points
    smooth = 0.05 * (phase[:, None].sin() + phase.cos())
    noisy = torch.zeros(samples, lattice * lattice)
    for sample, count in enumerate(rough):
        noisy[sample, torch.randperm(lattice * lattice, generator=generator)[:count]] = 1
    mask = noisy.view(samples, 1, 1, 1, lattice, lattice)
    mask = mask.repeat_interleave(cell, -1).repeat_interleave(cell, -2)
    shape = (samples, times, len(spec.variables), 1, points, points)
    return Inputs(
        values=(smooth + mask * torch.randn(shape, generator=generator)).to(device),
        lead_time=torch.ones(samples, device=device),
        boundaries=torch.full((samples, 3, 2), int(Boundary.PERIODIC), device=device),
        parameters=torch.zeros(samples, 0, device=device),
        spec=spec,
        sources=("benchmark",) * samples,
    )


def sized(size: str, **settings: Any) -> ModelConfig:
    """A model of a published size."""
    embed_dim, heads, depth = SIZES[size]
    return ModelConfig(embed_dim=embed_dim, heads=heads, depth=depth, **settings)


def machine(device: str) -> dict[str, Any]:
    """What the figures were measured on, and when."""
    name = torch.cuda.get_device_name() if device == "cuda" else processor()
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "matey": matey.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def processor() -> str:
    """The name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def report(rows: Sequence[dict[str, Any]], out: str, device: str, **more: Any) -> None:
    """Print rows as a Markdown table, and write them as JSON with the machine they are from."""
    columns = list(rows[0])
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        cells = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()]
        print("| " + " | ".join(cells) + " |")
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(device), **more, "rows": list(rows)}
    path.write_text(json.dumps(content, indent=2) + "\n")
    print(f"\nwritten to {out}")
