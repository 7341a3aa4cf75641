"""What the training loop adds to the model's own step: data, counting, logging, checkpoints.

    python benchmarks/loop.py                         # Ti, 128², batch 4, 4 frames, float32

One run is timed from inside. The model's own work in a step is forward pass, loss, backward pass,
clipping and optimizer; the rest of a step is the loop's: reading and joining windows, counting
operations, the learning rate, checks. Every step is logged, and every few are saved, by a thread:
training stalls while the state is copied, and shares the machine with the writing. What a
checkpoint adds to the steps after it is theirs less that of as many steps later.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from common import options, report, sized

from matey.config import DataConfig, RunConfig, SourceConfig, WindowConfig
from matey.cost.machine import measure_peak
from matey.data.write import write_well
from matey.nn.transformer import Matey
from matey.simulate import simulate
from matey.train import checkpoint, loop
from matey.train.parallel.distributed import Engine
from matey.train.run_folder import Journal
from matey.train.validate import Writer

MODEL = (
    (Matey, "forward"),
    (loop, "loss_of"),
    (torch.Tensor, "backward"),
    (Engine, "clip"),
    (torch.optim.AdamW, "step"),
    (torch.optim.AdamW, "zero_grad"),
)
LOGGING = ((Journal, "write"), (loop, "operations"))
SAVING = ((checkpoint, "save"),)
STALLING = ((Writer, "save"),)
MODES = {
    "uniform 16": ("uniform", (16,)),
    "adap_mix 32/8": ("adap_mix", (32, 8)),
    "adap_mix 16/8": ("adap_mix", (16, 8)),
}
WARM = 3  # steps that are not counted


class Clock:
    """Seconds spent in some functions, call by call and since the last look."""

    def __init__(self) -> None:
        self.calls: list[float] = []
        self.running = 0.0

    def around(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            result = work(*args, **kwargs)
            self.calls.append(time.perf_counter() - began)
            self.running += self.calls[-1]
            return result

        return timed

    def look(self) -> float:
        """Seconds since the last look."""
        seconds, self.running = self.running, 0.0
        return seconds


def measure(mode: str, scheme: str, data: Path, steps: int, every: int) -> dict[str, Any]:
    """One row of the table: medians over steps."""
    kind, patches = MODES[mode]
    config = RunConfig(
        model=sized("Ti", scheme=scheme, mode=kind, patches=patches),
        windows=WindowConfig(history=4),
        data=DataConfig((SourceConfig("shallow_water", (str(data),)),)),
        steps=steps,
        batch=4,
        log_every=1,
        checkpoint_every=every,
        validate_every=0,
        validate_windows=1,
        device="cpu",
    )
    model, logging, saving, stalling = Clock(), Clock(), Clock(), Clock()
    rows: list[tuple[float, float, float]] = []
    moments: list[float] = []  # at which steps were done

    def watch(record: dict[str, Any]) -> None:
        own, logged = model.look(), logging.look()
        if record["kind"] == "train":
            moments.append(time.perf_counter())
            rows.append((record["windows"] / record["windows_per_second"], own, logged))

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        clocks = (model, MODEL), (logging, LOGGING), (saving, SAVING), (stalling, STALLING)
        for clock, places in clocks:
            for owner, name in places:
                stack.enter_context(patch.object(owner, name, clock.around(getattr(owner, name))))
        loop.train(config, Path(folder) / "run", watch)
    kept = rows[WARM:]
    own = statistics.median(own for _, own, _ in kept)
    between = [after - before for before, after in pairwise(moments)]
    stalls = stalling.calls[1:-1]  # the first makes the memory, the last has no steps after it
    added = [
        sum(between[first : first + every // 2])
        - sum(between[first + every // 2 : first + every // 2 * 2])
        for first in range(2 * every - 1, len(between) - every + 1, every)
    ]
    return {
        "scheme": scheme,
        "mode": mode,
        "model ms": 1e3 * own,
        "loop adds %": 100 * statistics.median((all_ - own) / own for all_, own, _ in kept),
        "logging adds %": 100 * statistics.median(logged / own for _, own, logged in kept),
        "checkpoint ms": 1e3 * statistics.median(saving.calls),
        "stall ms": 1e3 * statistics.median(stalls),
        "stall / step": statistics.median(stalls) / own,
        "most stall / step": max(stalls) / own,
        "checkpoint adds / step": statistics.median(added) / statistics.median(between),
    }


def main() -> None:
    """Train, measure and report."""
    parser = options(__doc__, "benchmarks/results/loop.json")
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--checkpoint-every", type=int, default=4)
    args = parser.parse_args()
    every = args.checkpoint_every
    if every < 2 or args.steps < 3 * every:
        parser.error("three checkpoints are needed, and two steps for each")
    torch.set_num_threads(args.threads)
    began = time.perf_counter()
    measure_peak(torch.device("cpu"))
    print(f"the peak was measured in {time.perf_counter() - began:.2f} s\n")
    with tempfile.TemporaryDirectory() as folder:
        fields = simulate("shallow_water", trajectories=4, resolution=128, steps=10, seed=0)
        data = write_well(fields, Path(folder) / "swe", name="shallow_water")
        rows = [
            measure(mode, scheme, data, args.steps, every)
            for mode, scheme in (
                ("uniform 16", "vit"),
                ("adap_mix 32/8", "svit"),
                ("adap_mix 16/8", "avit"),
            )
        ]
    report(
        rows, args.out, args.device, settings={k: v for k, v in vars(args).items() if k != "out"}
    )


if __name__ == "__main__":
    main()
