"""Result files: read strictly, with errors that name the file and the key."""

import json
import math

import numpy as np
import pytest

from matey.errors import DataError
from matey.report.example import load_example
from matey.report.load import folders_of, load_results, load_run, load_sources

from .conftest import cube, shallow_water, write_results, write_run


def edit(folder, change):
    """Change the contents of a results folder's scores.json."""
    path = folder / "scores.json"
    scores = json.loads(path.read_text())
    change(scores)
    path.write_text(json.dumps(scores))


def nrmse(scores):
    return scores["systems"][0]["metrics"]["nrmse"]


def test_a_run_comes_back_as_it_was_logged(run_folder):
    run = load_run(run_folder)
    assert run.name == "runs/a"
    assert (run.step, run.seconds, run.ended) == (1000, 231.4, True)
    assert len(run.train) == 100
    assert [point.step for point in run.valid] == [200, 400, 600, 800, 1000]


def test_a_line_that_is_being_written_is_left_out(run_folder):
    log = run_folder / "metrics.jsonl"
    log.write_text(log.read_text() + '{"kind": "train", "st')
    assert len(load_run(run_folder).train) == 100


def test_a_broken_line_in_the_middle_is_an_error(run_folder):
    log = run_folder / "metrics.jsonl"
    log.write_text('{"kind": "tr\n' + log.read_text())
    with pytest.raises(DataError, match=r"metrics\.jsonl:1 is not valid JSON"):
        load_run(run_folder)


def test_a_resumed_run_counts_its_steps_once_and_its_time_fully(run_folder):
    """Killed at step 30 after a checkpoint at 10: steps 20 and 30 are done again."""
    records = [(10, 1.0), (20, 2.0), (30, 3.0), (20, 0.5), (30, 1.5), (40, 2.5)]
    lines = [
        json.dumps({"kind": "train", "step": step, "loss": 1.0, "seconds": seconds})
        for step, seconds in records
    ]
    (run_folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    run = load_run(run_folder)
    assert [point.step for point in run.train] == [10, 20, 30, 40]
    assert run.seconds == 3.0 + 2.5
    assert not run.ended


def test_skill_is_how_much_lower_the_error_is(results_folder):
    scores = load_results(results_folder).systems[0]
    assert scores.main.skill[0] == pytest.approx(1 - 0.0121 / 0.0713)


def test_skill_has_no_meaning_where_persistence_is_exact(results_folder):
    edit(results_folder, lambda scores: nrmse(scores)["mean"].update(persistence=[0.0] * 10))
    assert math.isnan(load_results(results_folder).systems[0].main.skill[0])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda s: s.update(format=3), "has format 3, but this version reads 2"),
        (lambda s: s.pop("systems"), "has no 'systems'"),
        (lambda s: s.update(systems=[3]), "systems.0 is 3, expected names and values"),
        (lambda s: s["systems"][0].pop("metrics"), "systems.shallow_water has no 'metrics'"),
        (lambda s: s["systems"][0].update(primary="x"), "has no 'x'; found ['mae', 'nrmse']"),
        (lambda s: nrmse(s)["mean"]["error"].pop(), "nrmse.mean.error has 9 values for 10 steps"),
        (lambda s: nrmse(s)["mean"].update(error="x"), "error is 'x', expected a list"),
        (lambda s: s["systems"][0].update(windows=-1), "windows is -1, expected a count"),
        (
            lambda s: s["systems"][0]["spectra"].update(leads=[1]),
            "height has no spectrum for each of 1 leads",
        ),
        (lambda s: s["systems"][0]["drift"]["mean"].update(height=3), "drift.mean.height"),
    ],
)
def test_scores_that_do_not_fit_are_errors_that_name_the_key(results_folder, change, complaint):
    edit(results_folder, change)
    with pytest.raises(DataError, match=r"scores\.json") as error:
        load_results(results_folder)
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    ("example", "name", "value", "complaint"),
    [
        (cube, "truth", np.zeros((1, 1, 8, 8)), "truth has shape (1, 1, 8, 8), not 5 axes"),
        (
            cube,
            "last",
            np.zeros((1, 8, 8, 4)),
            "last has shape (1, 8, 8, 4), expected (1, 8, 8, 8)",
        ),
        (cube, "corner", np.zeros((8, 2)), "corner has shape (8, 2), expected (8, 3)"),
        (cube, "level", None, "has no array 'level'"),
        (shallow_water, "step_corner", None, "has no array 'step_corner'"),
        (shallow_water, "step_cells", np.ones(1), "step_cells has shape (1,), expected (3,)"),
        (shallow_water, "step_cells", np.ones(3), "step_cells adds up to 3, but step_level has"),
        (shallow_water, "step_size", np.zeros((2, 3)), "step_size has shape (2, 3), expected"),
    ],
)
def test_an_example_whose_arrays_do_not_fit_is_an_error(tmp_path, example, name, value, complaint):
    arrays = {**example(), name: value}
    np.savez(tmp_path / "x.npz", **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(DataError, match=r"x\.npz") as error:
        load_example(tmp_path / "x.npz")
    assert complaint in str(error.value)


def test_an_example_that_would_run_code_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", **{**cube(), "variables": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(DataError, match="plain arrays"):
        load_example(tmp_path / "x.npz")


def test_a_system_name_cannot_lead_out_of_the_folder(results_folder, tmp_path):
    np.savez(tmp_path / "secret.npz", **cube())
    edit(results_folder, lambda s: s["systems"][0].update(name="../../secret"))
    assert "../../secret" not in load_results(results_folder).examples


def test_a_folder_that_is_neither_is_an_error_that_says_what_is_expected(tmp_path):
    with pytest.raises(DataError, match=r"holds neither.*metrics\.jsonl.*scores\.json"):
        load_sources([tmp_path])
    with pytest.raises(DataError, match="is no folder"):
        load_sources([tmp_path / "absent"])


def test_a_study_is_searched_three_levels_deep_and_not_within_a_run(tmp_path):
    deepest, run = tmp_path / "a" / "b" / "c", tmp_path / "runs" / "r"
    write_run(run)
    write_results(run / "inside")
    write_results(deepest)
    write_results(deepest / "d")
    assert folders_of(tmp_path) == [deepest, run]
    assert folders_of(tmp_path / "absent") == []
