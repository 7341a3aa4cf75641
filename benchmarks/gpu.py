"""All that wants a GPU, in one call of under ten minutes: is it right, how fast, how large.

    python benchmarks/gpu.py                        # on a GPU
    python benchmarks/gpu.py --device cpu --tiny    # the same parts, at sizes for a CPU
    python docs/tables.py                           # puts what was found onto the page

Each part is a process of its own with a time limit, and writes each row as it is made: what hangs,
fails or is cut leaves its rows so far, and those of all other parts.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import Peak, interleaved, machine, options, rough_inputs, sized, spec_of, timed
from rollout import field_of
from step import MODES, Case
from torch import Tensor

from matey.config import DataConfig, ModelConfig, OptimConfig, RunConfig, SourceConfig, WindowConfig
from matey.cost.memory import step_memory
from matey.data.write import write_well
from matey.nn import kernels
from matey.nn.make import outline_model
from matey.nn.transformer import Matey
from matey.output import write_text
from matey.simulate import simulate
from matey.tokens.pack import Run, Segments
from matey.train.loop import train

Row = dict[str, Any]
TIMES, PATCHED, VARIABLES = (4, 16), ("uniform 16", "adap_mix 32/8"), 4
# As many cells in each: of one length, a long one, lines across a lattice, ragged ones.
RUNS = {
    "even": (Run(8, 64),),
    "long": (Run(1, 512),),
    "lines": (Run(4, 16, 8),),
    "ragged": (Run(3, 100), Run(1, 192), Run(20, 1)),
}
# Of the largest value: rounding of some hundred additions, of values of 24 bits and of 8.
ALLOWED = {torch.float32: 1e-4, torch.bfloat16: 3e-2}
WHOLE = {"float32": 1e-3, "bfloat16": 5e-2}  # the same of a model of a few blocks, of its norm
EQUAL, CLOSE, FIRST = 1e-3, 0.05, 5  # the first losses, and the last error, of two devices


def main() -> None:
    """Run all parts, or be one of them."""
    parser = options(__doc__, "benchmarks/results/gpu.json")
    parser.set_defaults(device="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="sizes for a CPU: for the tests")
    parser.add_argument("--scheme", default="svit")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--limit", type=float, help="seconds of each part, in place of its own")
    parser.add_argument("--part", choices=list(PARTS), help="be this part, and write its rows")
    args = parser.parse_args()
    if args.part:
        be(args.part, args)
        return
    settings = {"tiny": args.tiny, "device": args.device, "scheme": args.scheme}
    write_text(Path(args.out), json.dumps({"settings": settings, "parts": {}}) + "\n")
    words = [word for word in sys.argv[1:] if word != "--parts" and word not in args.parts]
    for name in args.parts:
        command = [sys.executable, __file__, *words, "--part", name]
        began, limit = time.perf_counter(), args.limit or PARTS[name][1]
        try:
            code = subprocess.run(command, timeout=limit, check=False).returncode
            ended = f"failed with code {code}" if code else "whole"
        except subprocess.TimeoutExpired:
            ended = f"cut after {limit:g} s"
        note(args.out, name, None, {"ended": ended, "seconds": time.perf_counter() - began})
        print(f"{name}: {ended}", flush=True)


def be(name: str, args: argparse.Namespace) -> None:
    """Make the rows of a part, and write each at once."""
    torch.set_num_threads(args.threads)
    note(args.out, name, None, {"machine": machine(args.device)})
    for row in PARTS[name][0](args):
        note(args.out, name, row, {})
        print(name, *(f"{key} {short(value)}" for key, value in row.items()), sep="  ", flush=True)


def note(out: str, name: str, row: Row | None, facts: Row) -> None:
    """Add a row, or facts of a part, to the result file, which is whole at any time."""
    content = json.loads(Path(out).read_text())
    part = content["parts"].setdefault(name, {"ended": "cut", "rows": []})
    part.update(facts)
    part["rows"] += [] if row is None else [row]
    write_text(Path(out), json.dumps(content, indent=2) + "\n")


def short(value: Any) -> str:
    """A value for a line."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def check_kernels(args: argparse.Namespace) -> Iterator[Row]:
    """Each attention kernel against one softmax over all tokens, and whole models against those on
    a CPU in float32; errors of values and of gradients."""
    precisions = [torch.float32, torch.bfloat16] if args.device == "cuda" else [torch.float32]
    for dtype in precisions:
        used: dict[str, kernels.Kernel] = {"attend": kernels.attend}
        if args.device == "cuda" and dtype == torch.bfloat16:
            used["varlen"] = kernels.varlen
        for name, kernel in used.items():
            for kind, runs in RUNS.items():
                for over in ("inside", "batch", "segment"):
                    told = (Run(512, 1),) if over == "segment" else runs
                    values, gradients = kernel_errors(kernel, Segments(told, over), dtype, args)
                    yield {
                        "what": f"{name}, {kind}, time {over}",
                        "precision": str(dtype).removeprefix("torch."),
                        "values": values,
                        "gradients": gradients,
                        "right": max(values, gradients / 2) < ALLOWED[dtype],
                    }
    for mode in PATCHED:
        for precision, allowed in WHOLE.items():
            values, gradients = model_errors(mode, precision, args)
            right = max(values, gradients) < allowed
            found = {"precision": precision, "values": values, "gradients": gradients}
            yield {"what": f"model, {mode}"} | found | {"right": right}


def kernel_errors(
    kernel: kernels.Kernel, segments: Segments, dtype: torch.dtype, args: argparse.Namespace
) -> tuple[float, float]:
    """Largest errors of values and gradients, over the largest value."""
    generator, times = torch.Generator().manual_seed(0), 1 if args.tiny else 3
    shape = (4, 512, times, 2, 64)
    given = torch.randn(shape, generator=generator).to(args.device, dtype)
    *inputs, gradient = given.unbind(0)
    inputs = [heads.detach().requires_grad_() for heads in inputs]
    whole = [heads.detach().float().requires_grad_() for heads in inputs]
    found, plain = kernel(*inputs, segments), kernels.reference(*whole, segments)
    mine = torch.autograd.grad(found, inputs, gradient)
    theirs = torch.autograd.grad(plain, whole, gradient.float())
    errors = [apart(a, b) for a, b in zip(mine, theirs, strict=True)]
    return apart(found, plain), max(errors)


def apart(found: Tensor, expected: Tensor) -> float:
    """The largest difference over the largest value."""
    return float((found.float() - expected.float()).abs().max() / expected.abs().max())


def model_errors(mode: str, precision: str, args: argparse.Namespace) -> tuple[float, float]:
    """Of a prediction, and of the gradient of all weights, over their norms on a CPU."""
    kind, patches = MODES[mode]
    spec, config = spec_of(2), sized("Ti", scheme=args.scheme, mode=kind, patches=patches)
    results = []
    for device, half in (("cpu", False), (args.device, precision == "bfloat16")):
        torch.manual_seed(0)
        model = Matey(replace(config, depth=2), [spec], 2).to(device)
        inputs = rough_inputs(spec, 2, 64 if args.tiny else 128, patches[0], [1, 3], device)
        with torch.autocast(device, torch.bfloat16, half):
            made = model(inputs).normalised
        made.float().square().mean().backward()
        slopes = [w.grad.flatten().cpu() for w in model.parameters() if w.grad is not None]
        results.append((made.detach().float().cpu(), torch.cat(slopes)))
    plain, other = results
    values, gradients = (
        float((b - a).norm() / a.norm()) for a, b in zip(plain, other, strict=True)
    )
    return values, gradients


def time_steps(args: argparse.Namespace, compiled: bool = False) -> Iterator[Row]:
    """The table of training steps in bfloat16: rate over that of products, and memory."""
    peak = Peak(args.device, torch.bfloat16 if args.device == "cuda" else torch.float32)
    for size, times, mode in cases(args):
        batch, points = (1, 64) if args.tiny else (4, 256)
        given = {"size": size, "times": times, "batch": batch, "points": points}
        fixed = {"variables": VARIABLES, "precision": "bfloat16", "device": args.device}
        case = Case(args.scheme, mode, Namespace(**given, **fixed))
        first = 0.0
        if compiled:
            case.model.compile_blocks("eager" if args.tiny else "inductor")
            first = timed(case.step, args.device)
        found = interleaved(case.step, case.cost.operations, peak, args.repeats)
        spec, outline = (
            case.inputs.spec,
            outline_model(case.model.config, [spec_of(VARIABLES)], times),
        )
        plan = outline.plan_inputs(case.inputs.to(torch.device("cpu")))
        yield {
            "size": size,
            "times": times,
            "mode": mode,
            "tokens": case.tokens,
            "GFLOP": case.cost.operations / 1e9,
            "TFLOP/s of products": peak.measure() / 1e12,
            "step ms": 1e3 * found["seconds"],
            "step / peak": found["of_peak"],
            "memory MB": taken(case) if args.device == "cuda" else None,
            "forecast MB": step_memory(outline, spec, plan, precision="bfloat16").peak / 1e6,
        } | ({"first step s": first} if compiled else {})


def cases(args: argparse.Namespace) -> Iterator[tuple[str, int, str]]:
    """Sizes, times and modes."""
    for size in ("Ti",) if args.tiny else ("S", "B"):
        for times in (2,) if args.tiny else TIMES:
            for mode in PATCHED:
                yield size, times, mode


def taken(case: Case) -> float:
    """The most that a step adds to the memory in use, in megabytes."""
    case.model.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    case.step()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def time_compiled(args: argparse.Namespace) -> Iterator[Row]:
    """The same with compiled blocks."""
    return time_steps(args, compiled=True)


def time_rollouts(args: argparse.Namespace) -> Iterator[Row]:
    """Steps of a rollout of one sample."""
    spec, points = spec_of(VARIABLES), 64 if args.tiny else 256
    for size, times, mode in cases(args):
        kind, patches = MODES[mode]
        config = sized(size, scheme=args.scheme, mode=kind, patches=patches)
        model = Matey(config, [spec], times).eval().to(args.device)
        field = field_of(rough_inputs(spec, times, points, patches[0], [points // patches[0]]))
        for half in (False, True):
            steps = 2 if args.tiny else 20
            with torch.autocast(args.device, torch.bfloat16, half):
                model.rollout(field, 1)
                seconds = timed(lambda: model.rollout(field, steps), args.device)  # noqa: B023
            precision = "bfloat16" if half else "float32"
            told = {"size": size, "times": times, "mode": mode, "precision": precision}
            yield told | {"ms a step": 1e3 * seconds / steps}


def compare_training(args: argparse.Namespace) -> Iterator[Row]:
    """A short training on the device against the same on a CPU: first losses, and last error."""
    count, points, steps = (4, 32, 4) if args.tiny else (16, 64, 60)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        fields = simulate("shallow_water", trajectories=count, resolution=points, steps=12, seed=0)
        write_well(fields, data, name="shallow_water")
        config = RunConfig(
            model=ModelConfig(embed_dim=96, heads=3, depth=2 if args.tiny else 4, patches=(16, 8)),
            windows=WindowConfig(history=2),
            optim=OptimConfig(warmup=10),
            data=DataConfig((SourceConfig("shallow_water", (str(data),)),)),
            steps=steps,
            batch=4,
            log_every=1,
            validate_every=0,
            checkpoint_every=steps,
            validate_windows=8,
            device="cpu",
        )
        plain: list[float] = []
        for device, precision in (
            ("cpu", "float32"),
            (args.device, "float32"),
            (args.device, "bfloat16"),
        ):
            losses: list[float] = []
            errors: list[float] = []

            def watch(record: Row, losses: list = losses, errors: list = errors) -> None:
                if record["kind"] == "train":
                    losses.append(record["loss"])
                if record["kind"] == "valid":
                    errors.append(record["nrmse"]["shallow_water"])

            run = Path(folder) / f"{len(list(Path(folder).iterdir()))}"
            began = time.perf_counter()
            train(replace(config, device=device, precision=precision), run, watch)
            seconds = time.perf_counter() - began
            if not plain:
                plain = [*losses[:FIRST], errors[-1]]
            first = max(abs(a / b - 1) for a, b in zip(losses[:FIRST], plain, strict=False))
            last = errors[-1] / plain[-1] - 1
            allowed = EQUAL if precision == "float32" else CLOSE
            yield {
                "device": device,
                "precision": precision,
                "first losses apart": first,
                "validation NRMSE": errors[-1],
                "NRMSE apart": last,
                "seconds": seconds,
                "same": first < allowed and abs(last) < CLOSE,
            }


# What each makes, and the seconds that it may take: under ten minutes in all.
PARTS: dict[str, tuple[Callable[[argparse.Namespace], Iterator[Row]], float]] = {
    "kernels": (check_kernels, 70),
    "steps": (time_steps, 130),
    "training": (compare_training, 110),
    "inference": (time_rollouts, 60),
    "compiled": (time_compiled, 200),
}


if __name__ == "__main__":
    main()
