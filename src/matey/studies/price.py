"""What a study will cost, before anything is made, and what of it is there already."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matey.cost.machine import measure_peak
from matey.device import choose_device
from matey.simulate.trajectories import one_thread
from matey.studies.cells import RECORD, Cell, folder_of
from matey.studies.design import Design, Material
from matey.studies.systems import described

# What a cell takes besides its steps, in seconds of a core, and the share of the peak that narrow
# models reach on one thread: measured on a CPU at the scale `cpu`.
OVERHEAD = 2.0
SHARE = 0.4
GPU = 1e14  # operations per second: what a large GPU may reach; not measured, for a first idea


@dataclass(frozen=True)
class Part:
    """The cells of one system: how many operating points and cells, how many of these have their
    record, the operations to train and to score the others, and their seconds on one core."""

    system: str
    points: int
    cells: int
    there: int
    trainings: float
    scoring: float
    seconds: float


@dataclass(frozen=True)
class Price:
    """What a study will cost, system by system: `least` and `most` are operations of the training
    of one cell, `peak` is the rate of a matrix product on the device. `jobs` cells run at a time.
    `simulating` are the seconds of a core that what is missing takes to simulate, by system, from
    the first frames of one trajectory."""

    parts: tuple[Part, ...]
    least: float
    most: float
    device: str
    peak: float
    jobs: int
    systems: str
    simulating: Mapping[str, float]

    @property
    def whole(self) -> Part:
        """All systems together."""
        sums = {
            name: sum(getattr(one, name) for one in self.parts)
            for name in ("points", "cells", "there", "trainings", "scoring", "seconds")
        }
        return Part("all", **sums)

    @property
    def seconds(self) -> float:
        """The seconds that trainings and scores will take, with so many jobs."""
        return self.whole.seconds / self.jobs

    @property
    def on_gpu(self) -> float | None:
        """The hours of a GPU that reaches `GPU`, where it is worth a thought."""
        asked = self.whole.trainings + self.whole.scoring
        return asked / GPU / 3600 if self.whole.trainings > 600 * GPU else None


def price(
    design: Design, material: Material[Any], out: Path, jobs: int, simulating: Mapping[str, float]
) -> Price:
    """The price of a design, whose cells are kept in `out`."""
    device = choose_device(material.device)
    with one_thread():
        peak = measure_peak(device)
    systems = dict.fromkeys(cell.system for cell in design.cells)
    each = [cell.operations for cell in design.cells]
    return Price(
        parts=tuple(part(system, design, material, out, SHARE * peak) for system in systems),
        least=min(each),
        most=max(each),
        device=device.type,
        peak=peak,
        jobs=jobs,
        systems=described(material.sources),
        simulating=simulating,
    )


def part(system: str, design: Design, material: Material[Any], out: Path, rate: float) -> Part:
    """What one system will cost, at so many operations per second."""
    cells = [cell for cell in design.cells if cell.system == system]
    left = [cell for cell in cells if not (folder_of(out, cell.name) / RECORD).is_file()]
    trainings = math.fsum(cell.paid for cell in left)
    scoring = math.fsum(scored(cell, material) for cell in left)
    return Part(
        system=system,
        points=len({cell.point for cell in cells}),
        cells=len(cells),
        there=len(cells) - len(left),
        trainings=trainings,
        scoring=scoring,
        seconds=(trainings + scoring) / rate + OVERHEAD * len(left),
    )


def scored(cell: Cell, material: Material[Any]) -> float:
    """Operations to score a cell: a rollout's step is a third of a training step for each of its
    samples."""
    sample = cell.operations / cell.config.steps / cell.config.batch
    return sample / 3 * material.scale.rollout * material.scale.windows
