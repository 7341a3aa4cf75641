"""Every training at several budgets, and with a learning rate of its own.

What a study compares is trained for a tenth and a third of its operations as well, each training
with a schedule of its own, so that error against the cost of training is a curve. The learning
rate of each operating point is that of the lowest validation error in short trainings, which
are cells like all others: nothing depends on how fast the machine is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from matey.studies.cells import Cell
from matey.studies.design import OPERATIONS, Design, Scale, paced
from matey.train.tune import with_settings

SHARES = {"tenth": 0.1, "third": 1 / 3, OPERATIONS: 1.0}  # of the whole budget
RATE = "rate"  # the budget of the trainings that choose a rate


def complete(design: Design, scale: Scale) -> Design:
    """A design with the shorter trainings and the trials of rates that its scale asks for."""
    return replace(design, cells=tuple(with_trials(over_budgets(design.cells, scale), scale)))


def over_budgets(cells: Iterable[Cell], scale: Scale) -> list[Cell]:
    """Each cell, and those of equal operations for shares of these, too."""
    made = []
    for cell in cells:
        made.append(cell)
        for name in scale.shares if cell.budget == OPERATIONS else ():
            made.append(shortened(cell, scale, SHARES[name], name))
    return made


def with_trials(cells: Sequence[Cell], scale: Scale) -> list[Cell]:
    """Before the cells of each operating point its first one, shorter, at each of the rates."""
    first: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        first.setdefault((cell.system, cell.point), cell)
    trials = {
        key: [
            with_settings(
                shortened(cell, scale, scale.trial, RATE, f"-{rate:g}"), {"config.optim.lr": rate}
            )
            for rate in scale.rates
        ]
        for key, cell in first.items()
    }
    names = {key: tuple(one.name for one in group) for key, group in trials.items()}
    chosen = [replace(cell, trials=names[cell.system, cell.point]) for cell in cells]
    return [*(one for group in trials.values() for one in group), *chosen]


def shortened(cell: Cell, scale: Scale, share: float, budget: str, more: str = "") -> Cell:
    """A cell for a share of its steps, with a schedule of its own."""
    steps = max(1, round(share * cell.config.steps))
    return replace(
        cell,
        name=f"{cell.name}-{budget}{more}",
        budget=budget,
        config=paced(cell.config, steps, scale.validations),
        operations=cell.operations * steps / cell.config.steps,
        guide=0,
    )
