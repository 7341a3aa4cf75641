"""Every training at several budgets, and with a learning rate of its own.

What a study compares is trained for a tenth and a third of its operations as well, so that error
against the cost of training is a curve. All trainings of an operating point and a seed are branches
of one trunk, whose learning rate stays where it is after the warm-up: each leaves it for a decay
over the last fifth of its own steps. The trunk is trained once, and a training is, to the last bit
of its weights, the one that it would be alone. The learning rate of each operating point is that of
the lowest validation error in short trainings, which are cells like all others: nothing depends on
how fast the machine is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from matey.studies.cells import Cell
from matey.studies.design import OPERATIONS, STEPS, Design, Scale, paced
from matey.train.tune import with_settings

SHARES = {"tenth": 0.1, "third": 1 / 3, OPERATIONS: 1.0}  # of the whole budget
BRANCHES = (*SHARES, STEPS)  # the budgets of trainings that share a trunk
RATE = "rate"  # the budget of the trainings that choose a rate
DECAY = {"config.optim.schedule": "wsd", "config.optim.decay": 0.2, "config.validate_every": 0}


def complete(design: Design, scale: Scale) -> Design:
    """A design with the shorter trainings and the trials of rates that its scale asks for."""
    cells = with_trials(over_budgets(design.cells, scale), scale)
    return replace(design, cells=tuple(on_trunks(cells) if scale.shares else cells))


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
    """A cell for a share of its steps, with the pace of a training that is as short."""
    steps = max(1, round(share * cell.config.steps))
    return replace(
        cell,
        name=f"{cell.name}-{budget}{more}",
        budget=budget,
        config=paced(cell.config, steps, scale.validations),
        operations=cell.operations * steps / cell.config.steps,
        guide=0,
    )


def on_trunks(cells: Sequence[Cell]) -> list[Cell]:
    """The cells, in the same order, those of an operating point and a seed as branches of one
    trunk, each from where the next shorter one left it; trials with the same schedule.

    Their warm-up is that of the shortest.
    """
    groups: dict[tuple[str, str, int], list[Cell]] = {}
    for cell in cells:
        if cell.budget in BRANCHES:
            groups.setdefault((cell.system, cell.point, cell.seed), []).append(cell)
    points = {key[:2] for key in groups}
    made = {
        cell.name: with_settings(cell, DECAY)
        if cell.budget == RATE and (cell.system, cell.point) in points
        else cell
        for cell in cells
    }
    for group in groups.values():
        warmup = min(cell.config.optim.warmup for cell in group)
        chain = [
            with_settings(cell, {**DECAY, "config.optim.warmup": warmup})
            for cell in sorted(group, key=lambda cell: cell.config.steps)
        ]
        made |= {cell.name: cell for cell in chain}
        for before, cell in pairwise(chain):
            if before.steady > 0:
                made[before.name] = replace(made[before.name], leaves_trunk=True)
                made[cell.name] = replace(cell, trunk=before.name, begun=before.steady)
    return [made[cell.name] for cell in cells]
