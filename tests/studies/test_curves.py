import math

import pytest

from matey.studies.curves import curve_table, decays_of, fit_decay
from tests.studies.helpers import outcome, timing

BUDGETS = {"tenth": 10, "third": 33, "operations": 100}


def test_a_decay_to_a_floor_is_found_from_three_trainings():
    """0.1 + 0.2 · C^-1/2: ten times as long has 0.1 + 0.2 / √10 = 0.163 of 0.3."""
    found = fit_decay([(x, 0.1 + 0.2 * x**-0.5) for x in (0.1, 1 / 3, 1.0)])
    # Powers are tried in steps of 0.9 %.
    assert found.power == pytest.approx(0.5, rel=0.01)
    assert found.floor == pytest.approx(0.1, rel=0.02)
    assert found.gain == pytest.approx(0.544, rel=0.01)
    assert found.open == pytest.approx(2 / 3, rel=0.03)


def test_a_power_law_has_no_end_in_sight_and_a_level_curve_has_reached_it():
    falling = fit_decay([(x, x**-0.3) for x in (0.1, 1 / 3, 1.0)])
    assert (falling.floor, falling.open) == (pytest.approx(0, abs=0.02), pytest.approx(1, abs=0.02))
    level = fit_decay([(0.1, 0.5), (1 / 3, 0.5), (1.0, 0.5)])
    assert (level.gain, level.open) == (pytest.approx(1, abs=1e-3), pytest.approx(0, abs=1e-2))


def test_an_error_that_rises_with_training_tends_to_its_mean():
    assert fit_decay([(0.1, 0.4), (1 / 3, 0.5), (1.0, 0.6)]).gain == pytest.approx(1)


def test_two_trainings_give_a_power_law_and_less_gives_nothing():
    assert fit_decay([(0.1, 2.0), (1.0, 1.0)]).gain == pytest.approx(0.5, rel=0.02)
    for few in ([], [(1.0, 0.5)], [(0.1, math.inf), (1.0, 0.5)]):
        assert math.isnan(fit_decay(few).gain)


def test_the_table_says_what_each_training_took_and_how_far_from_its_end_it_is():
    cells = [
        outcome("a", budget, seed, (steps / 100) ** -0.5, steps=steps, rate=2e-3)
        for budget, steps in BUDGETS.items()
        for seed in range(3)
    ]
    cells.append(outcome("a", "rate", 0, 9.0, steps=10))  # no part of the curve
    powers = [one.power for one in decays_of(cells, "water", "a")]
    assert powers == pytest.approx([0.5] * 3, rel=0.03)
    table = curve_table("water", cells, {"a": timing(2.0)}, ["a"])
    assert [row[0] for row in table.rows] == ["a, tenth", "a, third", "a, operations"]
    last = dict(zip(table.columns, table.rows[-1], strict=True))
    assert (last["steps"], last["seconds"], last["rate"]) == ("100", "0.2", "0.002")
    assert last["ten times as long"].startswith("0.3")
