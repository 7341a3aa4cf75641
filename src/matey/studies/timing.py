"""What a step of each operating point takes: measured apart from training, and kept apart from
errors, since no second run gives the same times.

The points of one system are measured in turns, so that whatever disturbs the machine disturbs all
of them; the median of the turns counts. One thread, as in the cells.
"""

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import TypeVar

import torch

from matey.config import RunConfig
from matey.cost.memory import Ledger
from matey.data.systems import System
from matey.data.windows import Windows
from matey.device import choose_device
from matey.fields import Batch
from matey.nn.adapters.low_rank import choose_weights
from matey.nn.make import make_model, outline_model
from matey.nn.transformer import Matey
from matey.records.study import Timing, Timings, TimingTable
from matey.simulate.trajectories import one_thread
from matey.tokens.normalise import normalised
from matey.train.loss import squared_nrmse
from matey.train.optim import make_optimizer

T = TypeVar("T")
FILE = "timing.json"
TRIED = 16  # batches of which a typical one is chosen


class Bench:
    """A model of an operating point with a batch to work on; its weights are as at the start."""

    def __init__(self, config: RunConfig, batch: Batch) -> None:
        torch.manual_seed(0)
        self.device = choose_device(config.device)
        self.batch = batch.to(self.device)
        model = make_model(config.model, [batch.spec], config.windows.history)
        self.model = model.to(self.device)
        choose_weights(self.model, config.mode, config.rank)
        self.optimizer = make_optimizer(self.model, config.optim)
        self.half = config.precision == "bfloat16"
        self.steps: list[float] = []
        self.inferences: list[float] = []
        self.parts: dict[str, list[float]] = {}

    def step(self) -> None:
        """One training step."""
        self.model.train()
        with torch.autocast(self.device.type, torch.bfloat16, self.half):
            prediction = self.model(self.batch)
        target = self.batch.target[:, list(self.batch.spec.predicted)]
        target = prediction.statistics.normalise(target)
        squared_nrmse(prediction.normalised, target).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def infer(self) -> None:
        """One prediction of the batch."""
        self.model.eval()
        with torch.autocast(self.device.type, torch.bfloat16, self.half):
            self.model(self.batch)

    def turn(self) -> None:
        """One timed step, and one prediction."""
        self.steps.append(seconds(self.step, self.device))
        self.inferences.append(seconds(self.infer, self.device))
        self.time_parts()

    def result(self, operations: float) -> Timing:
        """The medians, and the most memory that a step and a prediction hold."""
        with torch.no_grad():
            tokens = self.model(self.batch).tokens
        return Timing(
            step_seconds=statistics.median(self.steps),
            inference_seconds=statistics.median(self.inferences),
            step_bytes=held(self.step, self.model, self.device),
            inference_bytes=held(self.infer, self.model, self.device),
            tokens=tokens / len(self.batch.values),
            operations=operations,
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            parts={name: statistics.median(each) for name, each in self.parts.items()},
        )

    @torch.no_grad()
    def time_parts(self) -> None:
        """Time the parts of a prediction of the transformer, one after the other."""
        model, inputs = self.model, self.batch
        if not isinstance(model, Matey):
            return
        model.eval()
        told, fields = normalised(inputs)
        times = inputs.values.shape[1] if model.local is None else model.times
        with torch.autocast(self.device.type, torch.bfloat16, self.half):
            layout = self.part(
                "plan", lambda: model.lay_out(model.plan_inputs(inputs), times, inputs)
            )
            given = self.part("encode", lambda: model.encode(fields, told, inputs, layout))
            tokens = self.part("blocks", lambda: model.attend(given.tokens, layout))
            self.part("decode", lambda: model.decode(tokens, given, fields, told, inputs, layout))

    def part(self, name: str, work: Callable[[], T]) -> T:
        """What some work makes, and its time noted."""
        made: list[T] = []
        took = seconds(lambda: made.append(work()), self.device)
        self.parts.setdefault(name, []).append(took)
        return made[0]


def seconds(work: Callable[[], None], device: torch.device) -> float:
    """Time some work in seconds, including what the device still computes."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def held(work: Callable[[], None], model: torch.nn.Module, device: torch.device) -> int:
    """The peak bytes of tensors during some work, including the weights."""
    weights = sum(parameter.nbytes for parameter in model.parameters())
    if device.type == "cuda":  # where the models of the other points are, too
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return weights + int(torch.cuda.max_memory_allocated(device)) - before
    with Ledger(list(model.parameters())) as ledger:
        work()
    return weights + ledger.highest


def measure_points(
    points: Mapping[str, RunConfig],
    operations: Mapping[str, float],
    system: System,
    turns: int,
) -> dict[str, Timing]:
    """The timing of each operating point of one system."""
    with one_thread():
        benches = {}
        for name, config in points.items():
            windows = system.windows("train", config.windows)
            benches[name] = Bench(config, typical_batch(windows, config))
        for bench in benches.values():  # the first one allocates, and loads what is needed
            bench.step()
            bench.infer()
        for _ in range(turns):
            for bench in benches.values():
                bench.turn()
        return {name: bench.result(operations[name]) for name, bench in benches.items()}


def typical_batch(windows: Windows, config: RunConfig) -> Batch:
    """A batch of training windows that is refined about as much as all of them are on average.

    Of several that lie scattered over trajectories and times, the one whose number of cells is
    nearest their mean.
    """
    many = TRIED * config.batch
    choices = list(islice(cycle(windows.scattered(many)), many))
    batches = [
        windows.batch(choices[at : at + config.batch]) for at in range(0, many, config.batch)
    ]
    model = outline_model(config.model, [windows.spec], config.windows.history)
    if not isinstance(model, Matey) or config.model.mode == "uniform":
        return batches[0]
    cells = [len(model.plan_inputs(one).leaves) for one in batches]
    mean = sum(cells) / len(cells)
    return min(zip(cells, batches, strict=True), key=lambda pair: abs(pair[0] - mean))[1]


def load_timings(out: Path) -> Timings:
    """The timings measured so far; empty without a file. Raises DataError."""
    path = out / FILE
    return TimingTable.load(path).systems if path.is_file() else {}


def save_timings(out: Path, timings: Timings, device: torch.device) -> None:
    """Write the timings and the machine they were measured on."""
    machine = {
        "processor": processor(device),
        "threads": 1,
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    TimingTable(machine, timings).save(out / FILE)


def processor(device: torch.device) -> str:
    """The name of the processor, or of the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names: Sequence[str] = [line.split(":")[1] for line in lines if line.startswith("model name")]
    return names[0].strip() if names else platform.processor()
