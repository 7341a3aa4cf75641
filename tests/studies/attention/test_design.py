import math
from dataclasses import replace

import pytest

from matey.config import DataConfig
from matey.studies.attention.design import patch_of
from matey.studies.attention.findings import judge
from matey.studies.attention.needs import of_kind, weights_for
from matey.studies.attention.partial import partial_table
from matey.studies.design import Material
from matey.studies.reach import Reached, bound, first_reached, reached
from matey.studies.scales import ATTENTION
from matey.studies.systems import Probe, Source
from tests.nn.helpers import rough_inputs, system
from tests.studies.helpers import outcome, timing

KINDS = ("ViT", "AViT", "SViT, joint every 2nd")
SMOKE = ATTENTION["smoke"]
SCALE = replace(SMOKE, widths=(8, 16))


def page(slower: float, heavier: float, worse: float = 1.0, scale=SCALE):
    """What the study says of an AViT whose steps take `slower` times as long, which has `heavier`
    times the weights, and whose error is `worse` times ViT's; at half the width each has half
    the weights and twice the error."""
    cells, points = [], {}
    for kind in KINDS:
        other = kind == "AViT"
        weights = int(1000 * (heavier if other else 1))
        points[f"{kind} 16"] = timing(slower if other else 1.0, parameters=weights)
        points[f"{kind} 8"] = timing(slower if other else 1.0, parameters=weights // 2)
        for seed in range(3):
            error = (worse if other else 1.0) * (1 + 0.001 * seed)
            scatter = 1 + 0.01 * (seed - 1)  # seeds never end alike
            curve = ((50, 4.0 * scatter), (100, scatter * (worse if other else 1.0)))
            more = {"system": "shallow_water", "parameters": weights, "curve": curve}
            cells.append(outcome(f"{kind} 16", "operations", seed, error, **more))
            half = {"parameters": weights // 2, "curve": tuple((n, 2 * e) for n, e in curve)}
            cells.append(outcome(f"{kind} 8", "operations", seed, 2 * error, **{**more, **half}))
            if kind != "ViT":
                cells.append(outcome(f"{kind} 16", "steps", seed, error, **more))
    timings = {"shallow_water": points, "shallow_water_32": points}
    sources = {name: Source(name, DataConfig(), real=False) for name in timings}
    return judge(Material(scale, sources, {}, 0, "cpu"), cells, timings)


def test_the_claim_on_axial_attention_holds_where_time_and_weights_are_twice_as_much():
    assert page(slower=2.5, heavier=2.2).claims[0].answer == "held"


def test_it_does_not_hold_where_either_is_less():
    assert page(slower=2.5, heavier=1.3).claims[0].answer == "not held"
    assert page(slower=1.2, heavier=2.2).claims[0].answer == "not held"


def test_it_is_undecided_where_the_error_was_never_reached():
    """It takes more than was tried: how much more is not known."""
    found = page(slower=1.2, heavier=1.3, worse=1.5)
    assert found.claims[0].answer == "undecided"
    assert "at least 1.2" in " ".join(found.claims[0].sentences)


def test_accuracy_at_matched_width_has_a_verdict_of_its_own():
    answers = {claim.claim[:4]: claim.answer for claim in page(1.0, 1.0, worse=1.5).claims[1:3]}
    assert answers == {"SViT": "not held", "AViT": "held"}  # SViT: where every second is joint


@pytest.mark.parametrize("scale", ATTENTION.values(), ids=list(ATTENTION))
def test_the_history_is_not_folded(scale):
    """In one frame, which a local path makes of a history, ViT and SViT are the same model."""
    assert not scale.model.local


def test_a_kind_of_a_single_width_has_no_error_between_widths_and_an_ablation_of_its_own():
    found = page(1.0, 1.0, scale=replace(SCALE, single=("SViT, joint every 2nd",)))
    rows = {row[0]: row for row in found.tables[0].rows}
    assert "–" not in rows["AViT"][4:6]
    assert rows["SViT, joint every 2nd"][4:6] == ("–", "–")
    said = {claim.claim: claim.sentences[0] for claim in found.claims[1:3]}
    assert ["as many weights" in said[claim] for claim in sorted(said)] == [True, False]
    assert all(claim.picture is not None for claim in found.claims)


def test_joint_blocks_stand_beside_the_same_kind_without_them():
    """Here it is axial attention whose steps take twice as long, and whose error is half as large
    again."""
    other = ("ViT", "AViT", "AViT, joint every 2nd")
    scale = replace(SCALE, kinds=other)
    cells = [
        outcome(f"{kind} 16", budget, 0, 1.5 if kind == "AViT" else 1.0)
        for kind in other
        for budget in ("operations", "steps")
    ]
    costs = {f"{kind} 16": timing(2.0 if kind == "AViT" else 1.0) for kind in other}
    scale = replace(scale, recipes=(replace(scale.recipes[0], name="water"),))
    table = partial_table(other[2:], scale, cells, {"water": costs})
    assert [row[0] for row in table.rows] == ["water: AViT, joint every 2nd"]
    assert [text.split()[0] for text in table.rows[0][1:3]] == ["0.667", "0.667"]
    assert table.rows[0][4:] == ("1", "0.5", "0.5")


def test_a_width_whose_training_diverged_is_left_out():
    fine = outcome("AViT 16", "operations", 0, 1.0)
    lost = outcome("AViT 32", "operations", 0, math.inf, failed="not finite", parameters=0)
    assert of_kind([fine, lost], "water", "AViT") == {0: [fine]}


def took(found: Reached) -> tuple[float, str]:
    return round(found.value, 6), found.side


def test_time_to_an_error_is_read_off_between_validations():
    curve = ((100, 4.0), (200, 2.0))
    assert took(reached(curve, 3.0, step_seconds=0.1)) == (15, "")
    assert took(reached(curve, 5.0, step_seconds=0.1)) == (10, "at most ")
    assert took(reached(curve, 1.0, step_seconds=0.1)) == (20, "at least ")
    assert math.isnan(reached((), 1.0, step_seconds=0.1).value)


def test_of_several_models_the_quickest_counts_that_got_there():
    got = [Reached(3.0), Reached(1.0, "at least "), Reached(2.0)]
    assert took(first_reached(got)) == (2, "")
    assert took(first_reached([Reached(3.0, "at least "), got[1]])) == (3, "at least ")


def test_weights_for_an_error_lie_between_two_widths():
    curve = [(1e3, 4.0), (4e3, 1.0)]
    assert took(weights_for(2.0, curve)) == (2e3, "")
    assert took(weights_for(0.5, curve)) == (4e3, "at least ")


def test_an_error_that_the_fewest_weights_reach_may_take_fewer_still():
    assert took(weights_for(5.0, [(1e3, 4.0), (4e3, 1.0)])) == (1e3, "at most ")
    exact, few = {0: Reached(2.0)}, {0: Reached(1.0, "at most ")}
    assert (bound(few, exact), bound(exact, few)) == ("at most ", "at least ")
    assert (bound(few, few), bound(exact, exact)) == ("about ", "")


@pytest.mark.parametrize("name", ["cpu", "paper"])
def test_finer_grids_have_more_tokens_where_cost_is_measured_against_them(name):
    scale = ATTENTION[name]
    ladder = {recipe.name: recipe.resolution for recipe in scale.recipes if recipe.simulator}
    water = system(2)
    probes = {name: Probe([rough_inputs(water, n, samples=1)]) for name, n in ladder.items()}
    material = Material(scale, {}, probes, 0, "cpu")
    tokens = [(ladder[s] // patch_of(material, s)) ** 2 for s in scale.ladder]
    assert tokens == [64, 256, 1024]
