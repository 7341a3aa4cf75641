"""One training step of every scheme and mode: rate over the matrix product's peak, and memory.

    python benchmarks/step.py                                   # Ti, 128², float32
    python benchmarks/step.py --precision bfloat16
    python benchmarks/step.py --device cuda --precision bfloat16 --size S --points 256 --times 16
    python benchmarks/step.py --profile                         # what a step's time goes to

The mixed modes refine 6 to 25 % of the cells, another number in each sample.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import torch
from common import Peak, interleaved, options, report, rough_inputs, sized, spec_of
from torch.profiler import profile

from matey.cost.count import step_cost
from matey.nn.transformer import Matey
from matey.tokens.pack import PACKINGS
from matey.train.loss import squared_nrmse

MODES = {
    "uniform 16": ("uniform", (16,)),
    "uniform 8": ("uniform", (8,)),
    "adap_mix 32/8": ("adap_mix", (32, 8)),
    "adap_mix 16/4": ("adap_mix", (16, 4)),
    "adap_mul 32/8": ("adap_mul", (32, 8)),
    "adap_mul 16/4": ("adap_mul", (16, 4)),
}

# What torch's operators are called in a profile, by the beginnings of their names.
PARTS = {
    "products": ("aten::mm", "aten::addmm"),
    "fused attention": ("aten::_scaled_dot",),
    "batched products": ("aten::bmm", "aten::baddbmm"),
    "GELU, norms": ("aten::gelu", "aten::native_layer_norm"),
    "copies": ("aten::copy_", "aten::cat", "aten::index", "aten::scatter", "aten::_to_copy"),
}


def rough_cells(samples: int, cells: int) -> list[int]:
    """From a sixteenth to a quarter of the cells, another number in each sample."""
    return [max(1, round(cells * (b + 1) / (4 * samples))) for b in range(samples)]


class Case:
    """A model and its inputs, and what one step of them costs."""

    def __init__(self, scheme: str, mode: str, args: argparse.Namespace) -> None:
        kind, patches = MODES[mode]
        spec = spec_of(args.variables)
        coarse = patches[0]
        rough = rough_cells(args.batch, (args.points // coarse) ** 2)
        torch.manual_seed(0)
        self.inputs = rough_inputs(spec, args.times, args.points, coarse, rough, args.device)
        config = sized(args.size, scheme=scheme, mode=kind, patches=patches)
        self.model = Matey(config, [spec], args.times).to(args.device).train()
        self.precision = args.precision
        self.target = torch.randn_like(self.inputs.values[:, 0])
        packing = PACKINGS[kind](self.model.plan_inputs(self.inputs))
        self.tokens = len(packing.cell) * args.times
        self.cost = step_cost(self.model, spec, packing.plan)

    def forward(self) -> torch.Tensor:
        device = self.target.device.type
        with torch.autocast(device, torch.bfloat16, self.precision == "bfloat16"):
            prediction = self.model(self.inputs)
        return squared_nrmse(prediction.normalised, self.target)

    def step(self) -> None:
        self.model.zero_grad(set_to_none=True)
        self.forward().backward()


def main() -> None:
    """Measure and report."""
    parser = options(__doc__, "benchmarks/results/step.json")
    parser.add_argument("--size", default="Ti")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--points", type=int, default=128)
    parser.add_argument("--times", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--variables", type=int, default=4)
    parser.add_argument("--schemes", nargs="+", default=["vit", "svit", "avit"])
    parser.add_argument("--modes", nargs="+", default=list(MODES))
    parser.add_argument("--profile", action="store_true", help="profile each case, write no rates")
    parser.add_argument("--memory-of", nargs=2, metavar=("SCHEME", "MODE"), help="one case alone")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory_of:
        print(resident_growth(args))
        return
    if args.profile:
        default = args.out == parser.get_default("out")
        out = "benchmarks/results/step_profile.json" if default else args.out
        rows = [profiled(scheme, mode, args) for scheme in args.schemes for mode in args.modes]
        report(rows, out, args.device, settings={"precision": args.precision})
        return
    half = args.device == "cuda" and args.precision == "bfloat16"
    peak = Peak(args.device, torch.bfloat16 if half else torch.float32)
    rows = [measure(scheme, mode, args, peak) for scheme in args.schemes for mode in args.modes]
    settings = {k: v for k, v in vars(args).items() if k not in ("out", "memory_of")}
    report(rows, args.out, args.device, settings=settings)


def measure(scheme: str, mode: str, args: argparse.Namespace, peak: Peak) -> dict:
    """One row of the table."""
    case = Case(scheme, mode, args)
    forward = sum(case.cost.forward.values())
    with torch.no_grad():
        ahead = interleaved(case.forward, forward, peak, args.repeats)
    both = interleaved(case.step, case.cost.operations, peak, args.repeats)
    return {
        "scheme": scheme,
        "mode": mode,
        "tokens": case.tokens,
        "GFLOP": case.cost.operations / 1e9,
        "forward ms": 1e3 * ahead["seconds"],
        "forward / peak": ahead["of_peak"],
        "step ms": 1e3 * both["seconds"],
        "step / peak": both["of_peak"],
        "memory MB": memory(case, scheme, mode, args),
    }


def profiled(scheme: str, mode: str, args: argparse.Namespace) -> dict:
    """Where the time of one step goes, in per cent of all operators' own time on the CPU."""
    case = Case(scheme, mode, args)
    for _ in range(2):
        case.step()
    with profile() as found:
        for _ in range(args.repeats):
            case.step()
    spent = dict.fromkeys((*PARTS, "all else"), 0.0)
    for event in found.key_averages():
        part = next((p for p, names in PARTS.items() if event.key.startswith(names)), "all else")
        spent[part] += event.self_cpu_time_total / 1e3 / args.repeats
    total = sum(spent.values())
    shares = {f"{part} %": 100 * time / total for part, time in spent.items()}
    return {"scheme": scheme, "mode": mode, **shares, "total ms": total}


def memory(case: Case, scheme: str, mode: str, args: argparse.Namespace) -> float:
    """What one step adds to the memory in use, in megabytes."""
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        case.step()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    words = [sys.executable, __file__, *sys.argv[1:], "--memory-of", scheme, mode]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def resident_growth(args: argparse.Namespace) -> float:
    """Highest resident memory in a step over that before it, in megabytes, in this process."""
    case = Case(*args.memory_of, args)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest so far
    case.step()
    return (resident("VmHWM") - before) / 1e3


def resident(what: str) -> int:
    """Resident memory of this process now (VmRSS) or at its highest (VmHWM), in kilobytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))


if __name__ == "__main__":
    main()
