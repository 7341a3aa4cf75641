"""Evaluation and prediction with a token budget, a seed, and data unlike the training's."""

import json

import h5py
import numpy as np
import pytest
import xarray

from matey.cli import main
from matey.data.formats.files import close_files
from matey.tokens.criteria import CRITERIA, criterion
from tests.cli.test_commands import GAS, TRAIN, folder, refusal  # noqa: F401

PREDICT = ["predict", "runs/a", GAS, "--steps", "2", "--out", "next.nc"]
EVALUATE = ["evaluate", "runs/a", "--data", "mix.yaml", "--rollout", "2", "--windows", "2"]


@pytest.fixture
def trained(folder, capsys):  # noqa: F811 - the fixture of that name
    """The user's folder with a run in it."""
    assert main(TRAIN) == 0
    capsys.readouterr()
    return folder


def test_a_token_budget_is_kept_and_recorded_with_a_prediction(trained, capsys):
    """16 x 16 points in patches of 8 and 4: 4 coarse cells, 3 tokens more for each refined."""
    assert main([*PREDICT, "--token-budget", "9"]) == 0
    shown = capsys.readouterr().out
    assert "7 tokens per frame" in shown
    with xarray.open_dataset("next.nc") as prediction:
        assert prediction.attrs["tokens_per_frame"] == "7"
        assert prediction.attrs["cells"] == (
            "refined where variance is largest, up to 9 tokens per frame"
        )


def test_a_token_budget_is_kept_and_recorded_with_scores(trained):
    assert main([*EVALUATE, "--token-budget", "9"]) == 0
    scores = json.loads((trained / "results/scores.json").read_text())
    assert scores["model"]["refine"]["token_budget"] == 9
    assert scores["model"]["mode"] == "adap_mix"
    assert [system["tokens"]["mean"] for system in scores["systems"]] == [7, 7]


def test_a_budget_below_the_coarse_patches_names_the_least(trained, capsys):
    for words in (PREDICT, EVALUATE):
        assert "Give 4 or more" in refusal(capsys, *words, "--token-budget", "3")
    assert not (trained / "next.nc").exists()
    assert not (trained / "results").exists()


def test_a_results_folder_that_cannot_be_made_is_named_before_any_work(trained, capsys):
    (trained / "file").write_text("in its place")
    assert "file/results cannot be made" in refusal(capsys, *EVALUATE, "--out", "file/results")


def test_a_uniform_model_refuses_a_budget(folder, capsys):  # noqa: F811
    assert main([*TRAIN, "--model.mode", "uniform", "--model.patches", "[8]"]) == 0
    capsys.readouterr()
    for words in (PREDICT, EVALUATE):
        assert "uniform patches of 8" in refusal(capsys, *words, "--token-budget", "9")
    assert main(PREDICT) == 0
    assert "4 tokens per frame, uniform patches" in capsys.readouterr().out


def test_the_seed_decides_the_shifts_of_a_model_with_jitter(folder):  # noqa: F811
    assert main([*TRAIN, "--model.jitter", "true"]) == 0
    made = {}
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main([*PREDICT[:-1], f"{name}.nc", "--seed", seed]) == 0
        with xarray.open_dataset(f"{name}.nc") as prediction:
            made[name] = prediction["density"].values
    np.testing.assert_array_equal(made["a"], made["b"])
    assert not np.array_equal(made["a"], made["c"])


def test_a_prediction_does_not_replace_the_file_it_starts_from(trained, capsys):
    before = (trained / GAS).read_bytes()
    assert "is the file to read" in refusal(capsys, *PREDICT[:-1], f"./{GAS}")
    assert (trained / GAS).read_bytes() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*EVALUATE, "--rollout", "0"], "rollout"),
        ([*EVALUATE, "--rollout", "-3"], "rollout"),
        ([*EVALUATE, "--batch", "0"], "batch"),
        ([*EVALUATE, "--lead-time", "3"], "lead time is 3, expected at most the 2 dt ahead"),
        ([*EVALUATE, "--protocol", "pdebench"], "Did you mean 'pdebench-v1'?"),
        ([*PREDICT, "--lead-time", "[1,2,3]"], "one for each of 2 steps"),
        ([*PREDICT, "--steps", "0"], "steps"),
        ([*PREDICT, "--lead-time", "-1"], "lead_time is -1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(trained, capsys, words, said):
    assert said in refusal(capsys, *words)
    assert not (trained / "results").exists()


def test_a_lead_time_and_a_time_step_unlike_the_training_are_warned_of(trained, capsys):
    assert main(PREDICT) == 0
    assert capsys.readouterr().err == ""
    assert main([*PREDICT, "--lead-time", "3"]) == 0
    complaint = capsys.readouterr().err
    assert "matey: warning: A lead time of 3 dt" in complaint
    close_files()
    with h5py.File(trained / GAS, "r+") as file:
        file["t-coordinate"][...] = 2 * file["t-coordinate"][...]
    assert main(PREDICT) == 0
    assert "dt is 0.1; training had 0.05" in capsys.readouterr().err
    assert main(EVALUATE) == 0
    assert capsys.readouterr().err.count("dt is 0.1;") == 1


def test_a_grid_that_the_patches_of_a_trained_model_do_not_divide_is_scored_whole(trained):
    close_files()
    with h5py.File(trained / GAS, "r+") as file:
        for name in ("density", "pressure", "Vx", "Vy"):
            values = file[name][:, :, :, :13]
            del file[name]
            file[name] = values
        del file["y-coordinate"]
        file["y-coordinate"] = (np.arange(13) + 0.5) / 13
    assert main(PREDICT) == 0
    with xarray.open_dataset(trained / "next.nc") as made:
        assert made.sizes["y"] == 13
    assert main(EVALUATE) == 0
    scores = json.loads((trained / "results/scores.json").read_text())
    assert scores["systems"][1]["grid"] == [1, 13, 16]
    with np.load(trained / "results/examples/compressible.npz") as example:
        assert ((example["corner"] + example["size"]) <= [1, 13, 16]).all()
        assert example["size"].prod(axis=1).sum() == 13 * 16


def test_data_for_the_test_alone_are_scored(trained):
    words = ["--data.split.test", "1", "--data.split.valid", "0"]
    assert main([*EVALUATE[:-2], *words]) == 0
    scores = json.loads((trained / "results/scores.json").read_text())
    assert [system["trajectories"] for system in scores["systems"]] == [6, 4]


def test_a_checkpoint_whose_criterion_is_not_registered_says_so(folder, capsys):  # noqa: F811
    @criterion("my_own")
    def measure(fields, cell):
        return CRITERIA["variance"](fields, cell)

    try:
        assert main([*TRAIN, "--model.refine.criterion", "my_own"]) == 0
        assert main(PREDICT) == 0
    finally:
        del CRITERIA["my_own"]
    capsys.readouterr()
    line = refusal(capsys, *PREDICT)
    assert "'my_own', which is not registered" in line
    assert "@matey.criterion" in line


def test_a_token_budget_too_small_for_one_of_the_systems_is_refused_before_the_first_step(
    tmp_path, capsys
):
    run = tmp_path / "run"
    words = ["simulate", "shallow_water", "--out", str(tmp_path / "data"), "--trajectories", "4"]
    assert main([*words, "--resolution", "32", "--steps", "6", "--jobs", "1"]) == 0
    (tmp_path / "mix.yaml").write_text("systems:\n- name: swe\n  paths: [data]\n")
    (tmp_path / "config.yaml").write_text(
        "model: {embed_dim: 24, heads: 2, depth: 2, patches: [8, 4], refine: {token_budget: 15}}\n"
        "windows: {history: 2}\nsteps: 2\nbatch: 2\n"
    )
    files = ["--config", str(tmp_path / "config.yaml"), "--data", str(tmp_path / "mix.yaml")]
    capsys.readouterr()
    assert main(["train", *files, "--run", str(run)]) == 2
    message = capsys.readouterr().err
    assert "token_budget is 15" in message
    assert "16 tokens per frame: the least possible" in message
    assert not (run / "metrics.jsonl").exists()


@pytest.mark.parametrize("threshold", ["1.5", "-0.1", "nan", "half"])
def test_a_threshold_that_is_no_fraction_is_refused_by_name(threshold, tmp_path, capsys):
    words = ["train", "--run", str(tmp_path / "run"), "--model.refine.threshold", threshold]
    assert main(words) == 2
    assert "model.refine.threshold" in capsys.readouterr().err
