import math
from dataclasses import replace
from pathlib import Path

import pytest

import matey
from matey.config import DataConfig, ModelConfig, RefineConfig, RunConfig, WindowConfig
from matey.data.windows import Choice, Windows
from matey.data.write import write_well
from matey.nn.make import outline_model
from matey.simulate import simulate
from matey.studies.design import Material
from matey.studies.run import STUDIES
from matey.studies.scales import SMALLEST, TOKENS
from matey.studies.systems import Source, find_sources, medium_patch
from matey.studies.timing import typical_batch
from matey.studies.tokens.comparison import beside, bound_of, cost_at, error_at
from matey.studies.tokens.design import PUBLISHED, points
from matey.studies.tokens.findings import judge
from matey.studies.tokens.reaching import reach_claim, reaches
from tests.studies.helpers import outcome, timing

ADAPTIVE, OTHER = "adap_mix 0.3", "adap_mul 0.3"
ERRORS = {"uniform coarse": 4.0, "uniform medium": 2.0, "uniform fine": 1.0}
COSTS = {"uniform coarse": 1, "uniform medium": 4, "uniform fine": 16}


def page(
    adaptive: float,
    cost: float,
    scatter: float = 1.0,
    seeds: int = 3,
    other: float = 0.0,
    published: float = 0.0,
):
    """What the study says of uniform errors 4, 2 and 1 at the costs 1, 4 and 16, and of an adaptive
    point of this error and cost; the error of seed i is `scatter`^(i - 1) times as large. One more
    of the same cost has the error `other`, and half as much in validation. The published design, if
    it stands beside, costs as much and has that error."""
    cells = [
        outcome(point, budget, seed, error)
        for point, error in ERRORS.items()
        for budget in ("operations", "steps")
        for seed in range(seeds)
        if (point, budget) != ("uniform medium", "steps")
    ]
    cells += [
        outcome(ADAPTIVE, budget, seed, adaptive * scatter ** (seed - 1))
        for budget in ("operations", "steps")
        for seed in range(seeds)
    ]
    costs = {**COSTS, ADAPTIVE: cost}
    if other:
        costs[OTHER] = cost
        cells += [
            outcome(OTHER, budget, seed, other, curve=((100, other / 2),))
            for budget in ("operations", "steps")
            for seed in range(seeds)
        ]
    scale = TOKENS["smoke"]
    if published:
        costs[PUBLISHED] = cost
        scale = replace(scale, published=SMALLEST)
        cells += [outcome(PUBLISHED, "operations", seed, published) for seed in range(seeds)]
    timings = {"water": {name: timing(each) for name, each in costs.items()}}
    material = Material(scale, {"water": Source("water", DataConfig(), False)}, {}, 0, "cpu")
    return judge(material, cells, timings)


def answers(found) -> list[str]:
    return [claim.answer for claim in found.claims]


def test_cost_at_equal_error_lies_on_the_line_between_uniform_patches():
    """Errors 4, 2, 1 at costs 1, 4, 16: a power law, on which an error of √2 costs 8."""
    curve = [(1.0, 4.0), (4.0, 2.0), (16.0, 1.0)]
    assert cost_at(math.sqrt(2), curve) == pytest.approx(8)
    assert error_at(8.0, curve) == pytest.approx(math.sqrt(2))
    assert (cost_at(9.0, curve), cost_at(0.5, curve)) == (1.0, 16.0)
    assert (error_at(0.1, curve), error_at(99.0, curve)) == (4.0, 1.0)


def test_a_dearer_patch_with_a_larger_error_is_no_part_of_the_curve():
    curve = [(1.0, 4.0), (4.0, 5.0), (16.0, 1.0)]
    assert cost_at(2.0, curve) == pytest.approx(4)


def test_a_uniform_patch_whose_training_diverged_is_no_part_of_the_curve():
    assert cost_at(2.0, [(1.0, math.inf), (4.0, 4.0), (16.0, 1.0)]) == pytest.approx(8)
    assert math.isnan(cost_at(2.0, [(1.0, math.inf)]))
    assert math.isnan(error_at(2.0, [(1.0, math.inf)]))


def test_claims_hold_where_the_adaptive_point_is_four_times_cheaper():
    """An error of 1.9 costs a uniform patch 4.4; the adaptive one has it for 1.1."""
    found = page(adaptive=1.9, cost=1.1)
    assert answers(found)[:2] == ["held", "held"]
    assert "4.03 (4.03 to 4.03) times cheaper" in " ".join(found.claims[0].sentences)
    assert "after trainings of equal operations" in found.claims[1].sentences[0]


def test_claims_do_not_hold_where_adaptive_tokens_gain_nothing_and_the_page_says_why():
    found = page(adaptive=2.0, cost=3.9)
    assert answers(found)[:2] == ["not held", "not held"]
    assert "takes 0.975 of the step time" in " ".join(found.claims[1].sentences)
    found = page(adaptive=3.9, cost=1.1)
    assert answers(found)[:2] == ["not held", "not held"]
    assert "is the best in validation, with 1.95" in " ".join(found.claims[1].sentences)


def test_the_coarse_patch_stands_beside_a_point_for_half_the_step_time():
    """It has twice the error for a quarter of the time: no such gain."""
    sentences = page(adaptive=1.9, cost=1.1).claims[1].sentences
    assert "The uniform coarse patch does it on 0:" in sentences[0]
    assert (
        "The coarse patch has 2 (2 to 2) times the error for 0.25 of the step time." in sentences[1]
    )


def test_a_fine_patch_that_does_not_beat_persistence_says_nothing(monkeypatch):
    assert page(adaptive=1.9, cost=1.1).claims[4].answer == "undecided"  # both have an error of 1
    monkeypatch.setitem(ERRORS, "uniform fine", 0.5)
    found = page(adaptive=1.9, cost=1.1).claims[4]
    assert found.answer == "held"
    monkeypatch.setitem(ERRORS, "uniform medium", 0.4)
    assert page(adaptive=1.9, cost=1.1).claims[4].answer == "not held"
    still, fit = page(adaptive=1.9, cost=1.1).tables[0].rows[-2:]
    assert still[:4] == ("persistence", "1", "", "2")
    assert fit[:4] == ("least-squares stencil", "0.4", "", "1.6")


def test_the_uniform_patch_to_beat_is_the_best_in_validation():
    """The fine patch is the best in the test and the worst in validation: the medium counts."""
    chosen = {"uniform fine": 9.0}
    cells = [
        outcome(name, "operations", seed, error, curve=((100, chosen.get(name, error)),))
        for name, error in {**ERRORS, ADAPTIVE: 1.9}.items()
        for seed in range(3)
    ]
    costs = {name: timing(each) for name, each in {**COSTS, ADAPTIVE: 1.1}.items()}
    assert beside(cells, costs, "water", ADAPTIVE, "operations").best.mean == pytest.approx(0.95)


def test_a_step_is_timed_on_windows_as_fine_as_the_mean_of_all(tmp_path):
    """Eight trajectories, of which all first frames are a dam that has not moved yet."""
    fields = simulate("shallow_water", trajectories=8, resolution=32, steps=8, seed=0)
    write_well(fields, tmp_path, name="water")
    windows = Windows(matey.open(tmp_path), range(8), WindowConfig(history=2))
    refine = RefineConfig(threshold=0.2)
    model = ModelConfig(embed_dim=24, heads=1, mode="adap_mix", patches=(8, 4), refine=refine)
    batch = typical_batch(windows, RunConfig(model=model, batch=8))
    assert len({source.split(" frames ")[1] for source in batch.sources}) > 1

    outline = outline_model(model, [windows.spec], history=2)

    def cells(one) -> float:
        return len(outline.plan_inputs(one).leaves) / len(one.values)

    every = cells(windows.batch([Choice(i) for i in range(len(windows))]))
    assert cells(batch) == pytest.approx(every, rel=0.06)


def test_a_gain_that_scatters_about_the_claimed_one_is_undecided():
    assert answers(page(adaptive=1.9, cost=2.2, scatter=1.5))[0] == "undecided"


def test_a_gain_that_is_only_a_bound_is_no_refutation():
    """No uniform patch reaches an error of 0.5: the true gain is larger than 16 / 12."""
    assert answers(page(adaptive=0.5, cost=12))[0] == "undecided"
    assert "at least" in " ".join(page(adaptive=0.5, cost=12).claims[0].sentences)


def test_a_gain_that_is_a_bound_in_one_seed_is_a_bound():
    """The best of three seeds has an error that no uniform patch reaches, or the worst one that
    the coarse patch beats, or both."""
    uniform = {name: dict.fromkeys(range(3), error) for name, error in ERRORS.items()}
    assert bound_of({0: 1.5, 1: 2.0, 2: 0.9}, uniform) == "at least "
    assert bound_of({0: 1.5, 1: 2.0, 2: 4.5}, uniform) == "at most "
    assert bound_of({0: 0.9, 1: 2.0, 2: 4.5}, uniform) == "about "
    assert bound_of({0: 1.5, 1: 2.0, 2: 3.5}, uniform) == ""


def test_the_point_for_half_the_step_time_is_chosen_without_a_look_at_the_test():
    """Of two quick points the one with the lower validation error is worse on the test."""
    found = page(adaptive=1.9, cost=1.1, other=2.1)
    assert answers(found)[1] == "not held"
    assert "adap_mul 0.3 is the best in validation" in " ".join(found.claims[1].sentences)


def test_the_published_design_stands_beside_and_no_claim_chooses_it():
    """It is the best of all in validation, and as cheap."""
    found = page(adaptive=1.9, cost=1.1, published=1.0)
    assert all("published" not in " ".join(claim.sentences) for claim in found.claims[:5])
    assert found.claims[-1].answer == "not held"
    assert "adap_mix 0.3 has 1.9 (1.9 to 1.9) times the error" in found.claims[-1].sentences[1]
    assert page(adaptive=0.9, cost=1.1, published=1.0).claims[-1].answer == "held"
    assert any(row[0] == PUBLISHED for row in found.tables[0].rows)


def test_every_claim_has_a_picture():
    found = page(adaptive=1.9, cost=1.1, published=1.0)
    assert [claim.claim for claim in found.claims if claim.picture is None] == []
    goals = {(claim.picture.goal_x, claim.picture.goal_y) for claim in found.claims}
    assert goals == {(None, 2), (0.5, 1), (None, 1), (None, 0.5), (1, 1)}


def test_one_seed_decides_nothing():
    assert answers(page(adaptive=1.9, cost=1.1, seeds=1))[0] == "undecided"


def test_an_adaptive_training_that_diverged_is_no_gain():
    assert answers(page(adaptive=math.inf, cost=1.1))[1] == "not held"


def test_patches_are_sized_by_the_number_of_tokens_and_tile_the_grid():
    assert medium_patch((1, 64, 64), 256) == 4
    assert medium_patch((1, 128, 128), 256) == 8
    assert medium_patch((1, 64, 128), 256) == 8
    assert medium_patch((24, 24, 24), 256) == 4
    assert medium_patch((1, 16, 16), 16) == 4


def test_the_published_design_goes_from_coarse_to_fine_patches_without_a_local_path():
    found = points(TOKENS["long"], 8, 256)
    assert found[PUBLISHED].patches == (16, 4)
    assert (found[PUBLISHED].local, found[PUBLISHED].stem) == (0, "hierarchical")
    assert found[PUBLISHED].embed_dim == found["uniform medium"].embed_dim
    assert PUBLISHED not in points(TOKENS["cpu"], 8, 256)


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_every_scale_names_each_system_once_and_has_three_seeds_or_more(study):
    assert set(study.scales) == {"smoke", "cpu", "long", "paper"}
    for scale in study.scales.values():
        names = [recipe.name for recipe in scale.recipes]
        assert len(set(names)) == len(names)
        assert scale.seeds >= 3


def test_only_files_of_a_system_of_that_name_stand_for_it():
    from matey.config import SourceConfig

    given = DataConfig((SourceConfig("shallow_water", ("water.h5",)), SourceConfig("x", ("x",))))
    recipes = TOKENS["cpu"].recipes
    found = find_sources(recipes, given, Path("data"))
    real = [name for name, source in found.items() if source.real]
    assert real == ["shallow_water"]
    assert found["gray_scott_3d"].data.systems[0].paths == ("data/gray_scott_3d",)


def reaching(quicker: float, cost: float, goal: str = "", seeds: int = 3):
    """What is said of an adaptive point that a tenth of its training brings to the error that the
    fine patch ends with, and whose steps cost so much; the fine patch's cost 16."""
    shares = {"tenth": 10, "third": 33, "operations": 100}
    cells = []
    for point, last in {**ERRORS, ADAPTIVE: quicker}.items():
        for budget, steps in shares.items():
            error = last * (100 / steps) ** 0.5
            more = {"steps": steps, "curve": ((steps, error),)}
            cells += [outcome(point, budget, seed, error, **more) for seed in range(seeds)]
    costs = {name: timing(each) for name, each in {**COSTS, ADAPTIVE: cost}.items()}
    return reach_claim({"water": reaches(cells, costs, "water", goal)})


def test_an_adaptive_point_that_is_as_good_sooner_and_quicker_reaches_the_fine_patch():
    """It ends at half the fine patch's error, whose error it has after a quarter of its steps."""
    found = reaching(quicker=0.5, cost=8)
    assert found.answer == "held"
    assert "takes 0.1" in found.sentences[1]
    assert "coarse patch takes at least 0.06" in found.sentences[1]  # it ends at a larger error


def test_one_seed_decides_nothing_but_the_time_of_a_prediction():
    assert reaching(quicker=0.5, cost=8, seeds=1).answer == "undecided"
    assert reaching(quicker=0.5, cost=16, seeds=1).answer == "not held"


def test_the_goal_may_be_another_patch_than_the_best():
    """The coarse patch ends with four times the error, but its steps cost an eighth."""
    found = reaching(quicker=1, cost=8, goal="uniform coarse")
    assert "the training of uniform coarse, 8 times its time" in found.sentences[1]
    assert found.answer == "not held"


def test_it_does_not_where_its_steps_are_as_dear_or_its_error_stays_larger():
    assert reaching(quicker=0.5, cost=16).answer == "not held"
    worse = reaching(quicker=1.5, cost=8)
    assert worse.answer == "not held"
    assert "takes at least 0.5" in worse.sentences[1]
