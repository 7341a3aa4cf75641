from dataclasses import replace

from matey.studies.doubts import doubts
from matey.studies.scales import TOKENS
from tests.studies.helpers import outcome

SCALE = replace(TOKENS["smoke"], rates=(1e-3, 2e-3, 4e-3))
BUDGETS = {"tenth": 10, "third": 33, "operations": 100}


def trained(error: float, power: float, rate: float, trajectories: int):
    """An operating point whose error falls by a power law of its training."""
    return [
        outcome(
            "a",
            budget,
            seed,
            error * (100 / steps) ** power,
            steps=steps,
            rate=rate,
            by_trajectory=((error, 2 * error),) * trajectories,
        )
        for budget, steps in BUDGETS.items()
        for seed in range(2)
    ]


def test_a_study_that_is_well_made_has_nothing_to_doubt():
    assert doubts(trained(0.5, 0.0, 2e-3, 8), SCALE) == ()


def test_what_stands_against_the_verdicts_is_told():
    told = " ".join(doubts(trained(1.5, 0.5, 4e-3, 3), SCALE))
    assert "Fewer than 8 test trajectories: water (3)." in told
    assert "the highest of those tried for 1 of 1 points" in told
    assert "1 of 1 points are far from converged" in told
    assert "No better than persistence: water: a." in told
    lost = outcome("a", "operations", 0, 1.0, failed="not finite")
    assert "1 of 1 trainings diverged." in doubts([lost], TOKENS["smoke"])


def test_one_or_two_seeds_are_a_doubt():
    outcomes = trained(0.5, 0.0, 2e-3, 8)
    (one,) = doubts(outcomes, replace(SCALE, seeds=1))
    assert one.startswith("One seed:")
    (two,) = doubts(outcomes, replace(SCALE, seeds=2))
    assert two == "2 seeds: intervals of single systems are wide. `--seeds 3` goes on."
