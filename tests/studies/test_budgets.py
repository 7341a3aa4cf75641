from dataclasses import replace

import pytest

from matey.config import DataConfig, OptimConfig, RunConfig
from matey.evaluate.score import ScoreConfig
from matey.studies.budgets import complete
from matey.studies.cells import RECORD, Cell, at_best_rate, folder_of
from matey.studies.design import Design
from matey.studies.engine import waves
from matey.studies.scales import TOKENS
from tests.studies.helpers import outcome

SCALE = replace(TOKENS["smoke"], shares=("tenth", "third"), rates=(1e-3, 4e-3))


def cell(budget: str, steps: int, seed: int = 0) -> Cell:
    data, ask = DataConfig(), ScoreConfig(steps=1)
    run = RunConfig(steps=steps, seed=seed, optim=OptimConfig(lr=9.0, warmup=steps // 10))
    return Cell(f"water/a-{budget}-{seed}", "a", "water", budget, run, 1e6 * steps, data, ask)


def test_trainings_are_repeated_for_shares_of_the_operations_with_a_schedule_of_their_own():
    cells = complete(Design((cell("operations", 300), cell("steps", 50)), {}), SCALE).cells
    found = {one.budget: (one.config.steps, one.config.optim.warmup) for one in cells}
    assert found == {
        "operations": (300, 30),
        "tenth": (30, 3),
        "third": (100, 10),
        "steps": (50, 5),
        "rate": (30, 3),
    }
    assert [one.operations / one.config.steps for one in cells] == pytest.approx([1e6] * 6)
    assert len({one.name for one in cells}) == 6


def test_the_first_seed_tries_the_rates_and_all_wait_for_it():
    design = Design(tuple(cell("operations", 300, seed) for seed in range(3)), {})
    cells = complete(design, SCALE).cells
    first, second = waves(cells)
    assert [one.config.optim.lr for one in first] == [1e-3, 4e-3]
    assert {one.seed for one in first} == {0}
    assert len(second) == 9
    assert {one.trials for one in second} == {tuple(one.name for one in first)}


def test_a_scale_without_rates_and_shares_leaves_a_design_as_it_is():
    design = Design((cell("operations", 300), cell("steps", 50)), {})
    assert complete(design, TOKENS["smoke"]) == design


def test_a_cell_has_the_rate_of_its_best_trial_in_validation(tmp_path):
    scale = replace(SCALE, shares=())
    *trials, last = complete(Design((cell("operations", 300),), {}), scale).cells
    for one, valid in zip(trials, (0.4, 0.3), strict=True):
        made = outcome("a", "rate", 0, 1.0, curve=((30, valid),), rate=one.config.optim.lr)
        made.save(folder_of(tmp_path, one.name) / RECORD)
    assert at_best_rate(last, tmp_path).config.optim.lr == 4e-3
    assert at_best_rate(replace(last, trials=()), tmp_path).config.optim.lr == 9.0
    assert last.fingerprint != replace(last, trials=()).fingerprint
