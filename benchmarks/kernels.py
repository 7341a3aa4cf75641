"""The attention kernels against length and number of segments: rate over the product's peak.

    python benchmarks/kernels.py                                    # float32
    python benchmarks/kernels.py --device cuda --precision bfloat16

Every case has as many tokens, cut into segments of another length: from very many short ones
(attention over time at each cell) to a few long ones (all cells of a sample).
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from common import Peak, interleaved, options, report

from matey.nn import kernels
from matey.tokens.pack import Run, Segments

BACKWARD = {"short": 2.0, "reference": 2.0}  # times the forward pass; fused kernels: 2.5
REFERENCE = 4096  # tokens that the reference, which compares all with all, is given at most


@contextmanager
def short_up_to(length: int) -> Iterator[None]:
    """Take batched products for segments up to this length, the fused kernel beyond."""
    usual = kernels.SHORT
    kernels.SHORT = length
    try:
        yield
    finally:
        kernels.SHORT = usual


def fused(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments):  # noqa: ANN201
    """Torch's fused attention, whatever the length."""
    with short_up_to(0):
        return kernels.attend(query, key, value, segments)


def short(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments):  # noqa: ANN201
    """Batched matrix products, whatever the length."""
    with short_up_to(2**62):
        return kernels.attend(query, key, value, segments)


def cases(args: argparse.Namespace) -> Iterator[tuple[str, Callable, int, int]]:
    """Name, kernel, length and number of segments."""
    for length in args.lengths:
        count = max(1, args.tokens // length)
        yield "fused", fused, length, count
        if args.device == "cpu" and length <= args.short:
            yield "short", short, length, count
        if args.device == "cuda" and args.precision == "bfloat16":
            yield "varlen", kernels.varlen, length, count
        if count * length <= REFERENCE or length <= REFERENCE:
            yield "reference", kernels.reference, length, max(1, min(count, REFERENCE // length))


def main() -> None:
    """Measure and report."""
    parser = options(__doc__, "benchmarks/results/kernels.json")
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--lengths", type=int, nargs="+", default=[4, 16, 64, 256, 1024, 4096])
    parser.add_argument("--short", type=int, default=256, help="longest segments of `short`")
    parser.add_argument("--heads", type=int, default=3)
    parser.add_argument("--width", type=int, default=64, help="of a head")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    dtype = torch.bfloat16 if args.precision == "bfloat16" else torch.float32
    peak = Peak(args.device, dtype)
    rows = [measure(*case, args, peak, dtype) for case in cases(args)]
    settings = {name: value for name, value in vars(args).items() if name != "out"}
    report(rows, args.out, args.device, settings=settings)


def measure(
    name: str,
    kernel: Callable,
    length: int,
    count: int,
    args: argparse.Namespace,
    peak: Peak,
    dtype: torch.dtype,
) -> dict:
    """One row of the table."""
    shape = (count * length, 1, args.heads, args.width)
    heads = [torch.randn(shape).to(args.device, dtype).requires_grad_() for _ in range(3)]
    gradient = torch.randn(shape).to(args.device, dtype)
    segments = Segments((Run(count, length),), "batch")
    compared = count * length if name == "reference" else length
    forward = 4 * count * length * compared * args.heads * args.width

    def ahead() -> None:
        with torch.no_grad():
            kernel(*heads, segments)

    def both() -> None:
        torch.autograd.grad(kernel(*heads, segments), heads, gradient)

    first = interleaved(ahead, forward, peak, args.repeats)
    whole = interleaved(both, int(forward * (1 + BACKWARD.get(name, 2.5))), peak, args.repeats)
    return {
        "kernel": name,
        "length": length,
        "segments": count,
        "forward ms": 1e3 * first["seconds"],
        "forward / peak": first["of_peak"],
        "both ms": 1e3 * whole["seconds"],
        "both / peak": whole["of_peak"],
        "ns per token": 1e9 * whole["seconds"] / (count * length),
    }


if __name__ == "__main__":
    main()
