import math

import pytest
import torch

from matey.cost.benefit import Refined
from matey.studies.tokens.benefit import benefit_claim, described, smallest_structure
from tests.studies.helpers import outcome

HOLDS = (0.5, 0.7, 0.8, 0.9)


def claim(*errors: float):
    """What is said of four adaptive points that hold more and more of the increments, and of these
    errors after equally many steps; the coarse patch's is 1."""
    names = [f"adap_mix {share}" for share in HOLDS]
    cells = [
        outcome(name, "steps", seed, error)
        for name, error in zip(["uniform coarse", *names], [1.0, *errors], strict=True)
        for seed in range(3)
    ]
    told = {name: Refined(64, 0.3, share) for name, share in zip(names, HOLDS, strict=True)}
    return benefit_claim(cells, {"water": told})


def test_points_that_hold_more_and_err_less_bear_the_prediction_out():
    found = claim(0.9, 0.8, 0.7, 0.6)
    assert found.sentences[1] == "water: 1 over 4 adaptive points."
    assert found.answer == "undecided"  # of one system the interval is everything


def test_the_other_way_round_the_correlation_is_negative():
    assert claim(0.6, 0.7, 0.8, 0.9).sentences[1] == "water: -1 over 4 adaptive points."


def test_points_that_diverged_are_not_ranked():
    assert "too few to rank" in claim(math.inf, math.inf, 0.7, 0.6).sentences[1]


@pytest.mark.parametrize("width", [1.0, 4.0])
def test_the_smallest_structure_is_the_thinnest_front(width):
    """tanh(x / w) runs over 2 with steps of 2 tanh(1 / 2w) at its middle; the other variable is
    a wave as long as the domain, and the third stands still."""
    x = torch.arange(64.0) - 31.5
    front, wave = torch.tanh(x / width), torch.sin(2 * math.pi * x / 64)
    values = torch.stack([front, wave, torch.zeros(64)])[None, None, :, None, None]
    assert smallest_structure(values) == pytest.approx(1 / math.tanh(0.5 / width), rel=1e-4)


def test_a_rule_that_refines_nearly_all_or_misses_what_changes_is_named():
    assert described(Refined(250, 0.95, 0.99), 256)[-1] == "saves nothing"
    assert described(Refined(80, 0.1, 0.2), 256)[-1] == "leaves change coarse"
    assert described(Refined(120, 0.3, 0.9), 256)[-1] == ""
    assert described(Refined(120, 0.3, None), 256)[-2:] == ("–", "")
