"""What one step of a rollout takes beside the forward pass of the model alone.

    python benchmarks/rollout.py                       # Ti, SViT, Adap_Mix 32/8, 256², one sample

A step is all that `model.rollout(field, 1)` does: checks, stacking, plan, forward pass, the frame
in physical units. `again` is a step within a rollout, which checks no more and has moved its
history on. Both are on the same fields as the model alone, interleaved, a new order each time.
"""

import random
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from common import options, report, rough_inputs, sized, spec_of, timed

from matey.fields import PERIODIC_SIDES, Field, Grid, Inputs
from matey.nn.rollout import advance
from matey.nn.transformer import Matey
from matey.tokens.pack import PACKINGS

PATCHES, POINTS, TIMES, VARIABLES = (32, 8), 256, 4, 4
ROUGH = (4, 16, 32)  # of 64 coarse cells


def main() -> None:
    """Measure and report."""
    args = options(__doc__, "benchmarks/results/rollout.json").parse_args()
    torch.set_num_threads(args.threads)
    report([measure(rough, args.repeats, args.device) for rough in ROUGH], args.out, args.device)


def field_of(inputs: Inputs) -> Field:
    """The first sample as a field."""
    steps, points = inputs.values.shape[1], inputs.values.shape[-1]
    return Field(
        inputs.values[0],
        torch.arange(steps).double(),
        Grid(("y", "x"), (1, points, points), (0.0,) * 3, (1.0,) * 3),
        (PERIODIC_SIDES,) * 3,
        {},
        inputs.spec,
    )


def measure(rough: int, repeats: int, device: str) -> dict[str, Any]:
    """One row: medians, and the median of the ratios of runs that follow each other."""
    spec = spec_of(VARIABLES)
    torch.manual_seed(0)
    model = Matey(sized("Ti", scheme="svit", mode="adap_mix", patches=PATCHES), [spec], TIMES)
    model = model.eval().to(device)
    inputs = rough_inputs(spec, TIMES, POINTS, PATCHES[0], [rough], device)
    field = field_of(inputs)

    @torch.no_grad()
    def alone() -> None:
        model(inputs)

    work: dict[str, Callable[[], Any]] = {
        "alone": alone,
        "step": lambda: model.rollout(field, 1),
        "again": lambda: advance(model, inputs),
    }
    with torch.no_grad():
        packing = PACKINGS["adap_mix"](model.plan_inputs(inputs))
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for name in (*work, *shuffled(work, repeats)):
        seconds[name].append(timed(work[name], device))
    seconds = {name: found[1:] for name, found in seconds.items()}  # the first warms up
    middle = {name: 1e3 * statistics.median(found) for name, found in seconds.items()}
    ratios = {
        name: statistics.median(
            one / base for one, base in zip(seconds[name], seconds["alone"], strict=True)
        )
        for name in ("step", "again")
    }
    return {
        "refined": f"{rough}/64",
        "tokens": len(packing.cell),
        "alone ms": middle["alone"],
        "step ms": middle["step"],
        "again ms": middle["again"],
        "step / alone": ratios["step"],
        "again / alone": ratios["again"],
    }


def shuffled(work: dict[str, Any], repeats: int) -> Iterator[str]:
    """All names, in a new order each time."""
    generator = random.Random(0)
    for _ in range(repeats):
        yield from generator.sample(list(work), len(work))


if __name__ == "__main__":
    main()
