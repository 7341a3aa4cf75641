"""Plain words: the numbers that a reader sees first."""

import json
import math

import pytest

from matey.report.load import load_results, load_run
from matey.report.verdict import grade_of, judge_results, judge_run, stencil_sentence
from matey.words import amount, change, duration, listed, number, plural

from .conftest import write_results


@pytest.mark.parametrize(
    ("skill", "words"),
    [(0.78, "78% lower"), (-0.12, "12% higher"), (-2.1, "3.1 times"), (math.nan, "diverged")],
)
def test_a_change_is_said_in_words(skill, words):
    assert change(skill) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0523, "0.0523"), (0.05, "0.0500"), (1.0, "1.00"), (3e-5, "3.00e-05"), (0.0, "0.00")],
)
def test_scores_have_three_digits(value, words):
    assert number(value) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(4.2, "4.2 s"), (45, "45 s"), (230, "3 min 50 s"), (7500, "2 h 5 min")]
)
def test_durations_are_said_in_their_unit(seconds, words):
    assert duration(seconds).replace("\u00a0", " ") == words


def test_amounts_and_lists():
    assert amount(1_234_567) == "1.23\u202fM"
    assert amount(960) == "960"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert plural(1, "trajectory") == "1 trajectory"
    assert plural(2, "trajectory") == "2 trajectories"


def test_a_skill_without_meaning_is_not_better():
    assert grade_of([0.5, 0.1])[0] == "good"
    assert grade_of([0.5, math.nan])[0] == "mixed"
    assert grade_of([-0.5, math.nan])[0] == "bad"


def test_the_verdict_says_what_was_trained_and_what_it_cost(run_folder, results_folder):
    verdict = judge_results(load_results(results_folder), load_run(run_folder))
    text = " ".join(verdict.sentences).replace("\u00a0", " ")
    assert "It has trained for 1,000 steps in 3 min 51 s on shallow_water and burgers." in text
    assert "patches of 16 and 8 grid points" in text
    assert {tile.name for tile in verdict.tiles} >= {"Parameters", "Training", "Tokens per frame"}


@pytest.mark.parametrize(
    ("stencil", "said"),
    [
        (None, ""),
        ([0.2] * 10, "It is better than a stencil fitted by least squares."),
        # The model's error grows from 0.01 to 0.08 in ten steps.
        ([0.02] * 10, "A stencil fitted by least squares is better on burgers (at the end)."),
        (
            [0.01] * 10,
            "A stencil fitted by least squares is better on burgers (one step ahead and at the "
            "end).",
        ),
        ([None] * 10, "It is better than a stencil fitted by least squares."),  # it diverged
    ],
)
def test_the_verdict_names_the_systems_where_a_stencil_is_better(tmp_path, stencil, said):
    folder = write_results(tmp_path / "results", systems={"burgers": (0.01, 0.1)})
    scores = json.loads((folder / "scores.json").read_text())
    scores["systems"][0]["metrics"]["nrmse"]["mean"]["stencil"] = stencil
    (folder / "scores.json").write_text(json.dumps(scores))
    results = load_results(folder)
    assert stencil_sentence(results.systems) == said
    assert said in " ".join(judge_results(results, None).sentences)


def test_the_headline_counts_the_systems_where_a_model_fails(tmp_path):
    systems = {"shallow_water": (0.2, 0.1), "burgers": (0.05, 0.1)}
    verdict = judge_results(load_results(write_results(tmp_path / "r", systems=systems)), None)
    assert verdict.headline == "Better than persistence one step ahead on 1 of 2 systems"
    assert verdict.grade == "mixed"


def test_the_headline_of_a_model_that_fails_everywhere_says_so(tmp_path):
    systems = {"shallow_water": (0.2, 0.1), "burgers": (0.2, 0.1)}
    verdict = judge_results(load_results(write_results(tmp_path / "r", systems=systems)), None)
    assert verdict.headline == "Persistence is better one step ahead on each of 2 systems"
    assert verdict.grade == "bad"


def test_a_run_that_was_not_scored_is_judged_by_its_last_validation(run_folder):
    """Errors 0.0224 and 0.0447 over persistence 0.08 and 0.16: ratios of 0.28."""
    verdict = judge_run(load_run(run_folder))
    assert verdict.headline == "In its last validation: 72% lower error than persistence"
