"""What a step on one sample takes: counted for every case, measured for those that fit."""

import math
from dataclasses import dataclass, replace

from matey.cost.count import step_cost
from matey.cost.memory import step_memory
from matey.nn.make import outline_model
from matey.nn.transformer import Matey
from matey.simulate.trajectories import one_thread
from matey.studies.scalability.design import Case, Reach
from matey.studies.timing import Bench
from matey.tokens.pack import PACKINGS


@dataclass(frozen=True)
class Row:
    """A case, and what it takes.

    `tokens` of a frame, and of so many `times`: a local path folds all frames into one.
    `operations` and bytes of a training step and bytes of a prediction by count, without the
    optimizer's moments. Measured, or NaN: seconds and bytes of each.
    """

    case: Case
    tokens: int
    times: int
    operations: float
    step_bytes: int
    inference_bytes: int
    step_seconds: float = math.nan
    inference_seconds: float = math.nan
    step_measured: float = math.nan
    inference_measured: float = math.nan

    @property
    def sequence(self) -> int:
        """Tokens of the sample."""
        return self.tokens * self.times

    @property
    def timed(self) -> bool:
        """Whether it was measured."""
        return math.isfinite(self.step_seconds)

    def counted(self) -> list[object]:
        """What is the same on every machine."""
        case = self.case
        place = [case.name, case.ndim, case.grid[-1], case.history]
        return [*place, self.tokens, self.operations, self.step_bytes, self.inference_bytes]


def count_case(case: Case) -> Row:
    """Count a case: nothing is allocated for its model or its activations."""
    config, plan = case.config("cpu"), case.plan()
    model = outline_model(config.model, [case.spec], case.history)
    assert isinstance(model, Matey)
    step, use = (
        step_memory(model, case.spec, plan, training=training) for training in (True, False)
    )
    return Row(
        case=case,
        times=model.times,
        tokens=int(PACKINGS[config.model.mode](plan).tokens[0]),
        operations=float(step_cost(model, case.spec, plan).operations),
        step_bytes=step.total - step.moments,
        inference_bytes=use.total,
    )


def fits(row: Row, reach: Reach) -> bool:
    """Whether a case is to be measured."""
    return row.operations <= reach.most and row.step_bytes <= reach.room


def measure_case(row: Row, reach: Reach, device: str) -> Row:
    """Time a step and a prediction, the median of some turns, and the most that each holds."""
    with one_thread():
        bench = Bench(row.case.config(device), row.case.batch())
        bench.step()
        bench.infer()
        for _ in range(reach.turns):
            bench.turn()
        found = bench.result(row.operations)
    return replace(
        row,
        step_seconds=found.step_seconds,
        inference_seconds=found.inference_seconds,
        step_measured=float(found.step_bytes),
        inference_measured=float(found.inference_bytes),
    )
