from dataclasses import replace

import pytest

from matey.config import DataConfig, OptimConfig, RunConfig
from matey.errors import ConfigError
from matey.evaluate.score import ScoreConfig
from matey.studies.budgets import complete
from matey.studies.cells import RECORD, Cell, at_best_rate, folder_of, is_done
from matey.studies.design import Design, Material, run_config
from matey.studies.engine import run_cells, waves
from matey.studies.scales import SMALLEST, TOKENS
from matey.studies.systems import find_sources, make_missing
from matey.train.run_folder import plain
from tests.studies.helpers import outcome

SCALE = replace(TOKENS["smoke"], shares=("tenth", "third"), rates=(1e-3, 4e-3))


def cell(budget: str, steps: int, seed: int = 0) -> Cell:
    data, ask = DataConfig(), ScoreConfig(steps=1)
    run = RunConfig(steps=steps, seed=seed, optim=OptimConfig(lr=9.0, warmup=steps // 10))
    return Cell(f"water/a-{budget}-{seed}", "a", "water", budget, run, 1e6 * steps, data, ask)


def test_trainings_of_several_lengths_are_branches_of_one_trunk():
    """A tenth, a sixth, a third and all of 300 steps, a fifth of each for the decay: 24 steps, 40
    and 80 lie behind what goes on."""
    cells = complete(Design((cell("operations", 300), cell("steps", 50)), {}), SCALE).cells
    found = {one.budget: (one.config.steps, one.begun, one.trunk) for one in cells}
    assert found == {
        "operations": (300, 80, "water/a-operations-0-third"),
        "tenth": (30, 0, ""),
        "third": (100, 40, "water/a-steps-0"),
        "steps": (50, 24, "water/a-operations-0-tenth"),
        "rate": (30, 0, ""),
    }
    assert {one.config.optim.warmup for one in cells} == {3}
    assert {one.config.optim.schedule for one in cells} == {"wsd"}
    assert {one.budget for one in cells if one.leaves_trunk} == {"tenth", "steps", "third"}
    assert [one.operations / one.config.steps for one in cells] == pytest.approx([1e6] * 6)
    paid = sum(one.paid for one in cells if one.budget != "rate")
    assert paid == pytest.approx(1e6 * (300 + (100 - 80) + (50 - 40) + (30 - 24)))


def test_the_first_seed_tries_the_rates_and_all_wait_for_it():
    design = Design(tuple(cell("operations", 300, seed) for seed in range(3)), {})
    cells = complete(design, SCALE).cells
    first, *later = waves(cells)
    assert [one.config.optim.lr for one in first] == [1e-3, 4e-3]
    assert {one.seed for one in first} == {0}
    budgets = ("tenth", "third", "operations")
    assert [{one.budget for one in wave} for wave in later] == [{name} for name in budgets]
    assert {one.trials for wave in later for one in wave} == {tuple(one.name for one in first)}


def test_a_training_is_the_same_to_the_last_bit_whether_it_has_a_trunk_to_go_on_from(tmp_path):
    recipe = TOKENS["smoke"].recipes[0]
    sources = find_sources([recipe], DataConfig(), tmp_path / "data")
    make_missing([recipe], sources, lambda text: None)
    material = Material(TOKENS["smoke"], sources, {}, 0, "cpu")
    model = replace(SMALLEST, mode="uniform", patches=(8,))
    run = material.scale, sources[recipe.name], model, 10, 0, "cpu"
    data = sources[recipe.name].data
    whole = Cell("w/a", "a", "w", "operations", run_config(*run), 1e6, data, material.ask)
    short, long = complete(Design((whole,), {}), replace(SCALE, shares=("third",), rates=())).cells
    short, long = sorted((short, long), key=lambda one: one.config.steps)
    assert (short.config.steps, long.begun) == (3, 2)
    run_cells((long, short), tmp_path / "one", 1, lambda done: None)
    assert not (folder_of(tmp_path / "one", short.name) / "trunk").exists()  # of no more use
    run_cells((replace(long, trunk=""),), tmp_path / "two", 1, lambda done: None)
    for name in (RECORD, "run/model/model.safetensors"):
        made = [
            (folder_of(tmp_path / out, long.name) / name).read_bytes() for out in ("one", "two")
        ]
        assert made[0] == made[1]


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
    assert last.settings != replace(last, trials=()).settings


def test_a_cell_that_lacks_settings_of_a_later_version_was_made_with_their_defaults(tmp_path):
    one = cell("operations", 300)
    made = outcome("a", "operations", 0, 1.0, settings=plain(one.settings))
    del made.settings["config"]["model"]["drop_path"], made.settings["guide"]
    made.save(folder_of(tmp_path, one.name) / RECORD)
    assert is_done(one, tmp_path)
    others = {"model": replace(one.config.model, drop_path=0.3)}, {"seed": 1}
    for other in (replace(one, config=replace(one.config, **changed)) for changed in others):
        with pytest.raises(ConfigError, match="made with other settings"):
            is_done(other, tmp_path)
