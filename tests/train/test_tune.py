import json
import math
from dataclasses import replace

import pytest

from matey.cli.tune import verdict
from matey.config import RunConfig
from matey.errors import ConfigError, DivergenceError
from matey.records.run import ValidRecord, Worse
from matey.train.tune import LEAST, Trial, best_of, mean_ratio, tune, with_settings

BEST = 2e-3


def pretend(config, run, watch):
    """A training of steps that take a millisecond, best at one rate; it diverges at a rate of 1."""
    if config.optim.lr == 1:
        raise DivergenceError("The loss is not finite.")
    run.mkdir(parents=True)
    step = 1e-3 * config.model.embed_dim / 96
    records = [
        {"kind": "train", "step": i + 1, "loss": 1.0, "windows": 8, "windows_per_second": 8 / step}
        for i in range(config.steps)
    ]
    error = 0.1 + abs(math.log(config.optim.lr / BEST))
    valid = {"kind": "valid", "step": config.steps, "nrmse": {"a": error}, "persistence": {"a": 1}}
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, [*records, valid])) + "\n")


def tried(tmp_path, choices, budget=10.0, steps=10**6):
    config = with_settings(RunConfig(), {"model.embed_dim": 96, "steps": steps})
    return list(tune(config, choices, budget, pretend, tmp_path))


def test_the_rate_of_the_lowest_validation_error_wins(tmp_path):
    trials = tried(tmp_path, {"optim.lr": (3e-4, BEST, 1e-2)})
    assert best_of(trials).settings == {"optim.lr": BEST}
    assert best_of(trials).score == pytest.approx(0.1)  # error over persistence
    # Each has a third of the budget, but for what the probe took of it: ten to twenty per cent.
    assert all(2500 < trial.steps <= 3334 for trial in trials)


def test_a_wider_model_gets_fewer_steps_for_the_same_time(tmp_path):
    choices = {"optim.lr": (1e-3, BEST), "model.embed_dim": (96, 192)}
    steps = {
        (t.settings["optim.lr"], t.settings["model.embed_dim"]): t.steps
        for t in tried(tmp_path, choices)
    }
    assert len(steps) == 4
    assert steps[BEST, 96] == pytest.approx(2 * steps[BEST, 192], rel=0.02)


def test_no_trial_is_longer_than_the_run_itself(tmp_path):
    assert [t.steps for t in tried(tmp_path, {"optim.lr": (1e-3, BEST)}, steps=7)] == [7, 7]


def test_a_trial_warms_up_over_a_quarter_of_its_steps_at_most(tmp_path):
    asked = []

    def watched(config, run, watch):
        asked.append((config.steps, config.optim.warmup))
        pretend(config, run, watch)

    def warmups(steps, folder):
        asked.clear()
        config = replace(RunConfig(), steps=steps)
        [*tune(config, {"optim.lr": (1e-3, BEST)}, 0.5, watched, tmp_path / folder)]
        return asked[1:]  # the first is timed

    assert RunConfig().optim.warmup == 100
    assert all(warmup == steps // 4 < 100 for steps, warmup in warmups(10**6, "long"))
    assert warmups(80, "short") == [(80, 100)] * 2  # as the run itself


def test_a_rate_that_diverges_loses_and_all_diverging_is_said(tmp_path):
    trials = tried(tmp_path, {"optim.lr": (1e-2, 1.0)})
    assert [math.isfinite(trial.score) for trial in trials] == [True, False]
    assert best_of(trials).settings == {"optim.lr": 1e-2}
    with pytest.raises(DivergenceError, match="lower learning rates"):
        best_of([trials[1]])


def test_a_budget_too_small_to_compare_is_refused_with_the_least(tmp_path):
    with pytest.raises(ConfigError, match=rf"3 settings by {LEAST} steps each\. Give \d+ s"):
        tried(tmp_path, {"optim.lr": (1e-3, BEST, 1e-2)}, budget=0.05)


def test_one_setting_is_nothing_to_choose_from(tmp_path):
    with pytest.raises(ConfigError, match="two rates"):
        tried(tmp_path, {"optim.lr": (1e-3,)})


def test_scores_are_geometric_means_over_systems_that_have_one():
    valid = ValidRecord(1, {"a": 0.1, "b": 0.4, "c": math.nan}, {"a": 0.2, "b": 0.2, "c": 0.5})
    assert mean_ratio(valid) == pytest.approx(1.0)  # of 1/2 and 2
    with pytest.raises(ConfigError, match=r"data\.split\.valid"):
        mean_ratio(ValidRecord(1, {"a": math.nan}, {"a": 0.2}))


@pytest.mark.parametrize(("next_score", "taken"), [(0.14, 1e-3), (0.16, 3e-3)])
def test_a_rate_that_loses_windows_is_not_taken_where_one_nearly_as_good_loses_none(
    next_score, taken
):
    lost = {"a": Worse(2, 30, math.inf, "a.h5#0007 from frame 0")}
    trials = [
        Trial({"optim.lr": 3e-4}, 10, 1.0, 0.3, {}),
        Trial({"optim.lr": 1e-3}, 10, 1.0, next_score, {}),
        Trial({"optim.lr": 3e-3}, 10, 1.0, 0.1, {}, lost),
        Trial({"optim.lr": 9e-3}, 10, 1.0, 0.11, {}, lost),
    ]
    best = best_of(trials)
    assert best.settings == {"optim.lr": taken}
    (line,) = verdict(trials, best)
    said = "2 of 30 validation windows of a are worse than persistence, without bound"
    assert f"{said} (a.h5#0007 from frame 0)" in line
    assert ("optim.lr 0.003 is not taken" in line) == (taken == 1e-3)
    assert not list(verdict(trials[:2], trials[1]))


def test_the_first_of_equal_trials_is_taken():
    trials = [Trial({"optim.lr": rate}, 10, 1.0, 0.5, {}) for rate in (1e-3, 2e-3)]
    assert best_of(trials) is trials[0]
