"""The commands as a user types them, on small files: what they leave, and how they refuse."""

import json

import h5py
import pytest
import xarray
import yaml

import matey
from matey.cli import main
from matey.cli.finetune import some
from tests.files import write_compressible, write_shallow_water

GAS = "2D_CFD_Rand_M0.1_Eta0.01_Zeta0.01_periodic_16_Train.hdf5"

CONFIG = """\
model: {embed_dim: 24, heads: 2, depth: 1, patches: [8, 4]}
windows: {history: 2}
optim: {lr: 3e-3, warmup: 2}
steps: 4
batch: 2
device: cpu
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's folder, with two data files, their data config and a training config."""
    monkeypatch.chdir(tmp_path)
    write_shallow_water(tmp_path / "2D_rdb_NA_NA.h5")
    write_compressible(tmp_path / GAS)
    (tmp_path / "config.yaml").write_text(CONFIG)
    systems = [
        {"name": "shallow_water", "paths": ["2D_rdb_NA_NA.h5"]},
        {"name": "compressible", "paths": [GAS]},
    ]
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump({"systems": systems}))
    (tmp_path / "water.yaml").write_text(yaml.safe_dump({"systems": systems[:1]}))
    return tmp_path


TRAIN = ["train", "--config", "config.yaml", "--data", "mix.yaml", "--run", "runs/a"]


def refusal(capsys, *words: str) -> str:
    """The one line on stderr of a command that must fail."""
    assert main(list(words)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("matey: error: ")
    return lines[0]


def test_train_evaluate_predict_and_report_follow_one_another(folder, capsys):
    assert main(TRAIN) == 0
    assert main(["evaluate", "runs/a", "--data", "mix.yaml", "--rollout", "3"]) == 0
    assert "persistence" in capsys.readouterr().out
    scores = json.loads((folder / "results/scores.json").read_text())
    assert [system["name"] for system in scores["systems"]] == ["shallow_water", "compressible"]
    predict = ["predict", "runs/a", GAS, "--steps", "3", "--out", "next.nc", "--trajectory", "1"]
    assert main(predict) == 0
    with xarray.open_dataset("next.nc") as prediction:
        assert prediction["Vx"].dims == ("time", "y", "x")
        assert prediction["Vx"].attrs["canonical_name"] == "velocity_x"
        assert prediction.sizes["time"] == 3
        assert prediction.attrs["model"] == "runs/a"
        assert prediction.attrs["initial"] == f"{GAS}#0001"
        assert {"lead_time", "seed", "cells", "matey_version"} <= set(prediction.attrs)
    predict = ["predict", "runs/a", "next.nc", "--steps", "1", "--out", "later.zarr"]
    assert main(predict) == 0  # what was predicted can be continued
    (later,) = matey.open("later.zarr")
    assert later.times.tolist() == pytest.approx([0.55])
    assert later.spec.dt == 0.05
    assert main(["report", "runs/a", "results", "--out", "page.html"]) == 0
    assert (folder / "page.html").stat().st_size > 10_000


def test_a_run_reproduces_from_its_own_config(folder):
    assert main(TRAIN) == 0
    assert main(["train", "--config", "runs/a/config.yaml", "--run", "runs/b"]) == 0
    weights = "model/model.safetensors"
    assert (folder / "runs/a" / weights).read_bytes() == (folder / "runs/b" / weights).read_bytes()


def test_resume_auto_goes_on_where_the_run_stopped(folder, capsys):
    assert main([*TRAIN, "--steps", "2"]) == 0
    capsys.readouterr()
    assert main([*TRAIN, "--steps", "4", "--resume", "auto"]) == 0
    assert "goes on with another steps: 4, not 2" in capsys.readouterr().err
    lines = map(json.loads, (folder / "runs/a/metrics.jsonl").read_text().splitlines())
    assert [line["step"] for line in lines if line["kind"] == "start"] == [0, 2]


def test_fine_tuning_takes_its_history_from_the_checkpoint(folder):
    assert main(TRAIN) == 0
    tune = "finetune runs/a --data mix.yaml --run runs/b --steps 1 --trajectories 1 --device cpu"
    assert main(tune.split()) == 0
    config = yaml.safe_load((folder / "runs/b/config.yaml").read_text())
    assert config["windows"]["history"] == 2
    assert config["data"]["trajectories"] == 1
    assert matey.from_pretrained("runs/b").history == 2


def test_a_fine_tuned_run_reproduces_from_its_own_config(folder):
    assert main(TRAIN) == 0
    tune = "finetune runs/a --data mix.yaml --steps 2 --device cpu --model.refine.threshold 0.5"
    assert main(tune.split()) == 0
    again = "finetune runs/a --config runs/a-finetuned/config.yaml --run runs/b"
    assert main(again.split()) == 0
    weights = "model/model.safetensors"
    first, second = (folder / "runs" / name / weights for name in ("a-finetuned", "b"))
    assert first.read_bytes() == second.read_bytes()
    assert matey.from_pretrained("runs/b").refine.threshold == 0.5


def test_a_plan_of_fine_tuning_tells_all_and_leaves_nothing(folder, capsys):
    assert main([*TRAIN[:4], "water.yaml", *TRAIN[5:]]) == 0
    files = sorted(path for path in folder.rglob("*"))
    capsys.readouterr()
    tune = "finetune runs/a --data mix.yaml --trajectories 1 --mode frozen-attention --plan"
    assert main([*tune.split(), "--model.patches", "[8,4,2]", "--device", "cpu"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in (
        *("transfer", "are new", "frozen", "Memory in MB", "an estimate", "largest power of two"),
        *("1 × 2 × 2", "velocity_x", "System 'compressible' is new. Known: shallow_water."),
    ):
        assert words in said, words
    assert sorted(path for path in folder.rglob("*")) == files


def test_a_plan_names_the_first_of_many_weights():
    assert some(tuple("abcdef")) == "a, b, c, d, e, f"
    assert some(tuple("abcdefgh")) == "a, b, c, d, e and 3 more"


def test_few_trajectories_are_an_option_of_training_too(folder):
    assert main([*TRAIN, "--trajectories", "1"]) == 0
    split = json.loads((folder / "runs/a/provenance.json").read_text())["split"]
    assert {name: len(part["train"]) for name, part in split.items()} == {
        "shallow_water": 1,
        "compressible": 1,
    }


def test_fine_tuning_keeps_the_shape_of_the_model(folder, capsys):
    assert main(TRAIN) == 0
    capsys.readouterr()
    tune = "finetune runs/a --data mix.yaml --run runs/b --model.depth 2"
    assert "model.depth is 2, not 1" in refusal(capsys, *tune.split())
    assert not (folder / "runs/b").exists()


def test_paths_in_a_data_config_inside_a_config_are_relative_to_it(folder, monkeypatch):
    systems = yaml.safe_load((folder / "mix.yaml").read_text())
    config = {**yaml.safe_load(CONFIG), "data": systems, "steps": 1}
    (folder / "all.yaml").write_text(yaml.safe_dump(config))
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    assert main(["train", "--config", "../all.yaml", "--run", "here"]) == 0


def test_a_tilde_in_a_data_path_is_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    systems = [{"name": "water", "paths": ["~/2D_rdb_NA_NA.h5"]}]
    (folder / "mix.yaml").write_text(yaml.safe_dump({"systems": systems}))
    assert main([*TRAIN, "--steps", "1"]) == 0
    config = yaml.safe_load((folder / "runs/a/config.yaml").read_text())
    assert config["data"]["systems"][0]["paths"] == [str(folder / "2D_rdb_NA_NA.h5")]


def test_paths_in_a_data_config_are_relative_to_it(folder, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    words = ["train", "--config", str(folder / "config.yaml"), "--data", str(folder / "mix.yaml")]
    assert main([*words, "--run", "here"]) == 0


def test_a_typo_in_a_config_key_names_the_nearest_key(folder, capsys):
    (folder / "config.yaml").write_text(CONFIG.replace("lr:", "learing_rate:"))
    line = refusal(capsys, *TRAIN)
    assert "learing_rate" in line
    assert "Did you mean 'optim.lr'?" in line
    (folder / "config.yaml").write_text("learing_rate: 1e-3\n" + CONFIG)
    assert "Did you mean 'optim.lr'?" in refusal(capsys, *TRAIN)
    (folder / "config.yaml").write_text(CONFIG)
    assert "Did you mean 'optim.lr'?" in refusal(capsys, *TRAIN, "--learning-rate", "1e-3")
    (folder / "config.yaml").write_text(CONFIG.replace("steps:", "stepz:"))
    assert "Did you mean 'steps'?" in refusal(capsys, *TRAIN)
    (folder / "config.yaml").write_text(CONFIG)
    groups = "optim.rates has blocks, ends, local, conditioning."
    assert groups in refusal(capsys, *TRAIN, "--optim.rates.heads", "2")
    (folder / "config.yaml").write_text(CONFIG.replace("lr:", "rates: {decoders: 2}, lr:"))
    assert groups in refusal(capsys, *TRAIN)
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "mix.yaml").write_text("systems: [{name: a, path: [x.h5]}]")
    assert "Did you mean 'paths'?" in refusal(capsys, *TRAIN)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model.mode", "adap_mixx"], "'adap_mixx' is unknown. Did you mean 'adap_mix'?"),
        (["--baseline", "unett"], "'unett' is unknown. Did you mean 'unet'?"),
        (["--model.scheme", "svitt"], "'svitt' is unknown. Did you mean 'svit'?"),
        (["--model.scheme", "[vit, svitt]"], "'svitt' is unknown. Did you mean 'svit'?"),
        (["--model.scheme", "joint"], "'joint' is unknown. Known: avit, svit, vit."),
        (["--threads", "many"], "threads"),
    ],
)
def test_a_typo_in_a_name_names_the_nearest_one(folder, capsys, words, said):
    assert said in refusal(capsys, *TRAIN, *words)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("steps: 4", "steps: many", "steps"),
        ("steps: 4", "steps: -4", "steps is -4"),
        ("windows: {history: 2}", "windows: null", "windows is empty"),
        ("steps: 4", "steps: 4\ndata: {split: {seed: -1}}", "data.split.seed is -1"),
        ("patches: [8, 4]", "patches: [8, 4], refine: {criterion: varience}", "varience"),
        ("steps: 4", "steps: 4\nsteps: 5", "'steps' stands twice"),
        ("embed_dim: 24", "embed_dim: 25", "a multiple of model.heads = 2"),
        ("patches: [8, 4]", "patches: [8, 3]", "model.patches"),
        ("patches: [8, 4]", "patches: [8, 4], refine: {threshold: 1.5}", "refine.threshold is 1.5"),
        (
            "patches: [8, 4]",
            "patches: [8, 4], refine: {threshold: .nan}",
            "refine.threshold is nan",
        ),
        ("patches: [8, 4]", "patches: [8, 4], scheme: vitt", "scheme"),
        ("steps: 4", "steps: !!python/object:os.system {}", "python/object"),
        ("steps: 4", "steps: &a 4\nbatch: *a", "alias"),
    ],
)
def test_a_bad_setting_is_one_line_that_names_it(folder, capsys, old, new, said):
    (folder / "config.yaml").write_text(CONFIG.replace(old, new))
    assert said in refusal(capsys, *TRAIN)
    assert not (folder / "runs").exists()


def test_a_missing_file_is_named(folder, capsys):
    (folder / GAS).unlink()
    assert GAS in refusal(capsys, *TRAIN)
    line = refusal(capsys, "train", "--data", "mixx.yaml", "--run", "runs/b")
    assert "mixx.yaml does not exist. Did you mean 'mix.yaml'?" in line
    assert "runs/none" in refusal(capsys, "evaluate", "runs/none", "--data", "mix.yaml")


def test_a_data_file_instead_of_a_data_config_is_told_how_to_become_one(folder, capsys):
    words = ["train", "--config", "config.yaml", "--run", "runs/b"]
    for given in (GAS, "."):
        line = refusal(capsys, *words, "--data", given)
        assert f"matey data inspect {given} --write mix.yaml" in line
        assert "config.yaml" not in line


def test_a_wrong_file_is_named(folder, capsys):
    (folder / GAS).write_text("This is not HDF5.")
    assert GAS in refusal(capsys, *TRAIN)


def test_a_nan_in_the_data_is_named_with_file_variable_and_place(folder, capsys):
    with h5py.File(folder / GAS, "r+") as file:
        file["pressure"][:, :, 3, 5] = float("nan")
    line = refusal(capsys, *TRAIN)
    assert GAS in line
    assert "pressure" in line


def test_no_data_says_how_to_get_a_config(folder, capsys):
    line = refusal(capsys, "train", "--config", "config.yaml", "--run", "runs/a")
    assert "matey data inspect" in line


def test_a_run_folder_that_cannot_be_made_is_named(folder, capsys):
    (folder / "runs").write_text("a file in its place")
    assert "runs/a" in refusal(capsys, *TRAIN)


def strict_json(path):
    """JSON as other programs read it: without NaN and Infinity."""

    def refuse(constant):
        raise AssertionError(f"{path} holds {constant}")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def test_a_steady_field_is_trained_on_and_scored(folder, capsys):
    """Persistence is exact then: there is no lower error, and nothing to divide by."""
    with h5py.File(folder / GAS, "r+") as file:
        for name in ("density", "pressure", "Vx", "Vy"):
            file[name][...] = file[name][:, :1]
    assert main(TRAIN) == 0
    assert main(["evaluate", "runs/a", "--data", "mix.yaml", "--rollout", "2"]) == 0
    assert "compressible" in capsys.readouterr().out


def test_a_variable_that_is_zero_everywhere_is_left_out_of_the_mean(folder):
    with h5py.File(folder / GAS, "r+") as file:
        file["Vy"][...] = 0
    assert main(TRAIN) == 0
    assert main(["evaluate", "runs/a", "--data", "mix.yaml", "--rollout", "2"]) == 0
    assert len(strict_json(folder / "runs/a/metrics.jsonl")) > 2
    scores = json.loads((folder / "results/scores.json").read_text())
    assert "Infinity" not in (folder / "results/scores.json").read_text()
    gas = scores["systems"][1]["metrics"]["nrmse"]
    by_variable = {name: curve["error"] for name, curve in gas["by_variable"].items()}
    assert by_variable.pop("velocity_y") == [None, None]
    assert gas["mean"]["error"][0] == pytest.approx(sum(e[0] for e in by_variable.values()) / 3)
    assert main(["report", "results", "--out", "page.html"]) == 0


COST = ["benchmark", "cost", "--config", "config.yaml", "--data", "mix.yaml"]


def test_the_cost_is_told_in_80_columns_without_making_a_run(folder, capsys, monkeypatch):
    monkeypatch.setattr("matey.cli.console.console.width", 80, raising=False)
    assert main(COST) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    for word in (
        "shallow_water",
        "compressible",
        "16 × 16",
        "M parameters",
        "GFLOP",
        "0.8",
        "hold",
        "0.95",
    ):
        assert word in shown
    assert "  hold " in shown
    assert "at refinement bulk" in shown
    assert not (folder / "runs").exists()


def test_the_cost_for_a_program_agrees_with_the_model_that_is_trained(folder, capsys):
    assert main([*COST, "--json"]) == 0
    systems = json.loads(capsys.readouterr().out)["systems"]
    assert [system["system"] for system in systems] == ["shallow_water", "compressible"]
    water = systems[0]
    assert water["grid"] == [1, 16, 16]
    assert water["windows"] == 24  # all that it trains on
    assert water["tokens"]["fine"] == 16
    means = list(water["at_threshold"].values())
    assert means == sorted(means, reverse=True)
    assert len(means) == 8
    held = water["holds_at_threshold"]
    assert list(held) == list(water["at_threshold"])
    assert list(held.values()) == sorted(held.values(), reverse=True)
    assert held["0.3"] == water["holds"]  # the default
    bulk = water["holds_at_bulk"]
    assert list(bulk) == list(water["at_bulk"]) == ["0.5", "0.7", "0.8", "0.9", "0.95"]
    assert list(bulk.values()) == sorted(bulk.values())
    assert water["step"]["total"] > water["inference"]["total"] > water["step"]["parameters"]
    assert main(TRAIN) == 0
    start = json.loads((folder / "runs/a/metrics.jsonl").read_text().splitlines()[0])
    assert sum(water["parameters"].values()) == start["parameters"]


def test_a_run_that_does_not_fit_into_memory_is_refused_with_numbers(folder, capsys, monkeypatch):
    monkeypatch.setattr("matey.train.loop.free_memory", lambda *arguments: 400_000)
    line = refusal(capsys, *TRAIN)
    assert "0.0004 GB are free on cpu" in line
    assert "2 samples of" in line
    for way in ("batch (now 2)", "model.refine.token_budget", "activation_checkpointing"):
        assert way in line
    assert not (folder / "runs").exists()
    assert "0.0004 GB" in refusal(
        capsys, *TRAIN, "--model.mode", "uniform", "--model.patches", "[4]"
    )


@pytest.mark.slow
def test_the_demo_runs_at_smoke_scale_and_leaves_a_report(tmp_path, capsys):
    assert main(["demo", "--scale", "smoke", "--out", str(tmp_path / "my demo")]) == 0
    assert (tmp_path / "my demo/report.html").is_file()
    assert "matey finetune" in capsys.readouterr().out
    assert "is not empty" in refusal(capsys, "demo", "--out", str(tmp_path / "my demo"))
