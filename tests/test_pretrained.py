"""The measurement of a pretrained model compares like with like, and chooses without the test."""

import json
import math
import sys
from dataclasses import replace
from itertools import product

import pytest

from matey.config import DataConfig, ModelConfig, RunConfig, SourceConfig, WindowConfig
from matey.data.systems import open_systems
from matey.data.write import write_well
from matey.evaluate.score import ScoreConfig
from matey.records.study import Outcome
from matey.simulate import simulate
from matey.studies.statistics import paired_ratio
from matey.train.loop import train
from tests.pages import ROOT

MODULES = ("accuracy", "common", "pretrained", "pretrained_data", "pretrained_table")


@pytest.fixture
def scripts(monkeypatch):
    """The scripts as modules, which are forgotten again: others have some of their names."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    before = {name: sys.modules.pop(name, None) for name in MODULES}
    import pretrained
    import pretrained_data
    import pretrained_table

    yield pretrained, pretrained_table, pretrained_data
    for name, module in before.items():
        sys.modules.pop(name, None)
        if module is not None:
            sys.modules[name] = module


@pytest.fixture
def table(scripts):
    return scripts[1]


def outcome(key, *errors, valid=1.0, failed=""):
    """What came of a training, with errors one step ahead and last."""
    curves = {"nrmse": () if failed else errors}
    return Outcome(
        **{"cell": key.name, "point": key.line, "system": key.system, "budget": key.budget},
        **{"seed": key.seed, "steps": key.steps, "operations": 0.0, "parameters": 1, "tokens": 0.0},
        leads=() if failed else tuple(range(1, len(errors) + 1)),
        errors=curves,
        persistence={"nrmse": (1.0,) * len(errors)},
        curve=((key.steps, valid),),
        diverged=0,
        failed=failed,
    )


def worth(table, trainings, rates=None):
    """What a folder with these trainings would hold: errors by line, budget, steps, rate, seed."""
    keyed = {table.Key("waves", 1, *key): errors for key, errors in trainings.items()}
    lines = {key.line: key.rate for key in keyed}
    choices = {f"waves/1/{line}": {"chosen": rate} for line, rate in (rates or lines).items()}
    return table.Worth({key: outcome(key, *each) for key, each in keyed.items()}, choices, {})


@pytest.mark.parametrize("rate", [0.0, 1e-5, 0.00033, 0.003])
@pytest.mark.parametrize("line", ["U-Net", "full 3e14", "zero-shot my_model-2.best"])
def test_a_training_is_told_by_the_name_of_its_folder(table, line, rate):
    key = table.Key("mhd_cavity", 4, line, "cpu", 1000, rate, 12)
    assert table.key_of(key.name) == key


def test_steps_to_an_error_are_exact_where_errors_fall_as_a_power(table):
    curve = {n: 3 * n**-0.7 for n in (10, 25, 50, 100, 200)}
    steps, sign = table.steps_to(3 * 80**-0.7, curve)
    assert steps == pytest.approx(80, rel=1e-12)  # rounding
    assert sign == ""


def test_steps_outside_what_was_trained_are_bounds(table):
    curve = {10: 0.5, 100: 0.2}
    assert table.steps_to(0.6, curve) == (10, "≤")
    assert table.steps_to(0.1, curve) == (100, ">")
    assert table.steps_to(0.2, curve) == (100, "")
    assert table.steps_to(0.2, {10: math.inf, 100: 0.2}) == (100, "")
    assert table.steps_to(0.2, {}) is None


def test_a_ratio_is_of_the_errors_of_one_seed(table):
    hard = {0: 1.0, 1: 3.0, 2: 0.2}  # seeds differ much, and what is compared does not
    trainings = {("scratch", "steps", 50, 0.003, s): (e, 2 * e) for s, e in hard.items()}
    trainings |= {("full a", "steps", 50, 0.001, s): (e / 2, e / 2) for s, e in hard.items()}
    trainings["full a", "steps", 50, 0.001, 3] = (99.0, 99.0)  # of a seed that scratch lacks
    one, ten = table.ratios(worth(table, trainings), "waves", 1)["full a / scratch"][50]
    assert (one.mean, ten.mean) == pytest.approx((0.5, 0.25))
    assert (one.low, one.high) == pytest.approx((0.5, 0.5))
    assert one.count == 3


def test_the_best_other_is_the_best_of_each_seed_and_lead(table):
    trainings = {("full a", "steps", 50, 0.001, s): (1.0, 1.0) for s in (0, 1)}
    trainings |= {("FNO", "steps", 50, 0.01, 0): (2.0, 8.0), ("FNO", "steps", 50, 0.01, 1): (4, 4)}
    trainings |= {
        ("U-Net", "steps", 50, 0.1, 0): (4.0, 2.0),
        ("U-Net", "steps", 50, 0.1, 1): (2, 2),
    }
    trainings |= {("stencil", "steps", 1, 0.0, s): (3.0, math.inf) for s in (0, 1)}
    ratios = table.ratios(worth(table, trainings), "waves", 1)
    one, ten = ratios["full a / best of stencil, FNO, U-Net"][50]
    assert (one.mean, ten.mean) == pytest.approx((0.5, 0.5))
    assert not [name for name in ratios if "CPU" in name]


def test_trainings_with_a_rate_that_was_not_chosen_count_nowhere(table):
    trainings = {("scratch", "steps", 50, rate, 0): (rate, rate) for rate in (0.1, 0.2, 0.3)}
    kept = worth(table, trainings, {"scratch": 0.2})
    assert kept.errors("waves", 1, "scratch", 50, 0) == {0: 0.2}
    assert [row["rate"] for row in table.numbers(kept)["trainings"]] == [0.2]


def test_a_training_that_diverged_is_infinitely_bad_and_named(table):
    keys = [table.Key("waves", 1, one, "steps", 9, 0.1, 0) for one in ("scratch", "full a")]
    outcomes = {keys[0]: outcome(keys[0], 1.0, 2.0), keys[1]: outcome(keys[1], failed="it is inf")}
    choices = {f"waves/1/{key.line}": {"chosen": 0.1, "tried": {"0.1": None}} for key in keys}
    kept = table.Worth(outcomes, choices, {})
    assert kept.errors("waves", 1, "full a", 9, -1) == {0: math.inf}
    text = "\n".join(table.sections(kept))
    assert "waves/1/full_a/steps9-0.1-0: it is inf" in text


def test_fewer_steps_are_told_seed_by_seed(table):
    trainings = {("scratch", "steps", 100, 0.1, s): (e, e) for s, e in {0: 0.3, 1: 0.5}.items()}
    for seed, error in {0: 0.3, 1: 0.5}.items():
        trainings["full a", "steps", 10, 0.1, seed] = (2 * error, error / 2)
        trainings["full a", "steps", 100, 0.1, seed] = (error / 2, error / 4)
    one, ten = table.reaches(worth(table, trainings), "waves", 1)
    assert one.needed.mean == pytest.approx(10**1.5)
    assert one.fewer.mean == pytest.approx(10**0.5)
    assert (one.sign, ten.sign, ten.needed.mean) == ("", "≤", pytest.approx(10))


def test_rates_are_tried_beyond_an_end_that_is_the_best_twice_at_most(scripts):
    pretrained, *_ = scripts
    assert pretrained.first_rates(0.003) == [0.001, 0.003, 0.009]
    assert pretrained.beyond({0.001: 0.3, 0.003: 0.2, 0.009: 0.3}) is None
    assert pretrained.beyond({0.001: 0.3, 0.003: 0.2, 0.009: 0.1}) == 0.027
    assert pretrained.beyond({0.001: 0.1, 0.003: 0.2, 0.009: 0.3}) == 0.00033
    assert pretrained.beyond(dict.fromkeys((0.001, 0.003, 0.009), math.inf)) == 0.00033
    five = {0.0001: 0.1, 0.00033: 0.2, 0.001: 0.3, 0.003: 0.4, 0.009: 0.5}
    assert pretrained.beyond(five) is None


def place(pretrained, file, out):
    """A system of the measurement, with the smallest model."""
    ask = ScoreConfig(steps=2, batch=2, windows=2)
    return pretrained.Place("waves", str(file), ModelConfig(), 2, pretrained.RECIPE, ask, out)


@pytest.fixture(scope="module")
def fields():
    return simulate("excitable", trajectories=7, resolution=16, steps=5, seed=0)


def config_of(fields, folder, apart):
    """A data config of seven trajectories, in a file each or in one for each split."""
    splits = {"train": fields[:4], "valid": fields[4:5], "test": fields[5:]}
    for split, some in splits.items():
        groups = [[one] for one in some] if apart else [some]
        for number, group in enumerate(groups):
            write_well(group, folder / "waves", name=f"{split}_{number}", split=split)
    (folder / "waves.yaml").write_text("systems:\n  - name: waves\n    paths: [waves]\n")
    return folder / "waves.yaml"


def sources(config, part):
    """The names of the trajectories of a split."""
    (system,) = open_systems(config).values()
    return [system.fields.trajectories[i].name for i in system.split[part]]


def test_seeds_train_on_other_trajectories_and_choose_and_test_by_the_same(
    scripts, fields, tmp_path
):
    one = place(scripts[0], config_of(fields, tmp_path, apart=True), tmp_path / "out")
    taken = [sources(one.data_for(2, seed), "train") for seed in range(5)]
    every = sources(one.data, "train")
    assert taken[0] == every[:2]  # what --trajectories 2 takes
    assert taken[3] == [every[0], every[3]]
    assert taken[4] == taken[0]
    assert {*sources(one.data_for(1, 3), "train")} < {*taken[3]}
    for part in ("valid", "test"):
        for number, seed in product((1, 2, 4), (0, 3)):
            assert sources(one.data_for(number, seed), part) == sources(one.data, part)


def test_seeds_share_trajectories_that_lie_in_one_file(scripts, fields, tmp_path):
    one = place(scripts[0], config_of(fields, tmp_path, apart=False), tmp_path / "out")
    assert not one.rotates
    assert "the first, for every seed" in scripts[0].told_split(one)
    assert sources(one.data_for(2, 3), "train") == sources(one.data, "train")[:2]
    with pytest.raises(SystemExit, match="4 trajectories to train on, not 8"):
        one.data_for(8, 0)


def test_all_methods_see_the_same_windows_with_schedules_of_their_own(scripts, fields, tmp_path):
    pretrained, *_ = scripts
    one = place(pretrained, config_of(fields, tmp_path, apart=True), tmp_path / "out")
    lines = ("full a", "frozen a", "control b", "scratch", "FNO", "U-Net")
    configs = [one.config(line, 1, 50, 0.001, 3) for line in lines]
    shared = ("windows", "loss", "batch", "steps", "optim", "seed", "data", "validate_windows")
    assert len({repr([getattr(one, name) for name in shared]) for one in configs}) == 1
    assert configs[0].optim.warmup == 5
    assert one.config("full a", 1, 1000, 0.001, 3).optim.warmup == 100
    assert configs[1].mode == "frozen-attention"


@pytest.mark.slow
@pytest.mark.usefixtures("narrow_stencils")
def test_the_whole_measurement_goes_on_where_it_was(scripts, tmp_path, monkeypatch, capsys):
    pretrained, _, pretrained_data = scripts
    data = tmp_path / "data"

    def run(module, *words):
        monkeypatch.setattr(sys, "argv", ["script", *map(str, words)])
        module.main()
        return capsys.readouterr().out

    size = ("--resolution", 16, "--steps", 8)
    made = run(
        pretrained_data, "--out", data, "--systems", "excitable", "--trajectories", 2, 1, 2, *size
    )
    assert "about" in made.splitlines()[0]
    assert run(pretrained_data, "--out", data, "--systems", "excitable", *size).count("\n") == 1

    source = SourceConfig("waves", (str(data / "excitable"),))
    model = ModelConfig(embed_dim=16, heads=2, depth=1, patches=(8, 4))
    config = RunConfig(
        model=model, windows=WindowConfig(2), data=DataConfig((source,)), steps=2, batch=2
    )
    train(config, tmp_path / "run")
    train(replace(config, seed=1), tmp_path / "other")

    words = ["--out", tmp_path / "out", "--model", f"tiny={tmp_path / 'run'}", "--control"]
    words += [f"tiny={tmp_path / 'run'}", "--data", f"waves={data / 'excitable.yaml'}"]
    words += ["--trajectories", 1, "--trial-steps", 2, "--ahead", 3, "--windows", 2, "--recipe"]
    words += ["--batch 2 --windows.roll true", "--steps", 2]
    monkeypatch.setattr(pretrained, "first_rates", lambda middle: [middle / 2, middle])
    monkeypatch.setattr(pretrained, "beyond", lambda tried: None)
    text = run(pretrained, *words, "--seeds", 0, "--methods", "full", "scratch")
    assert "full tiny / scratch" in text
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("cell.json")}
    assert len(files) == 6  # two trials of each, and copies of the model

    methods = ["zero-shot", "full", "control", "scratch", "stencil", "U-Net"]
    more = ["--seeds", 0, 1, "--budgets", "steps", "cpu", "--methods", *methods]
    text = run(pretrained, *words, *more)
    assert "zero-shot tiny / scratch" in text
    assert "full tiny / control tiny" in text
    assert "full tiny / best of stencil, U-Net, same CPU time" in text
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert not [*(tmp_path / "out").rglob("cells/waves/**/model.safetensors")]

    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    wanted = ("full tiny / scratch", 2)
    ratio = next(row for row in summary["ratios"] if (row["ratio"], row["steps"]) == wanted)
    errors = {
        line: {
            row["seed"]: row["nrmse"][0]
            for row in summary["trainings"]
            if (row["line"], row["steps"]) == (line, 2)
        }
        for line in ("full tiny", "scratch")
    }
    assert ratio["first"]["mean"] == pytest.approx(paired_ratio(*errors.values()).mean)
    assert run(pretrained, "--out", tmp_path / "out", "--table") in text

    words[words.index(f"tiny={tmp_path / 'run'}")] = f"tiny={tmp_path / 'other'}"
    with pytest.raises(SystemExit, match="is not the model that"):
        run(pretrained, *words, *more)
