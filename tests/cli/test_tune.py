"""`matey tune`, and rates of fine-tuning by themselves."""

import pytest
import yaml

from matey.cli import main
from tests.files import write_compressible, write_shallow_water

SMALL = "--model.embed_dim 8 --model.heads 1 --model.depth 1 --model.patches [8,4]"
SHORT = "--batch 2 --validate_windows 2 --threads 1 --device cpu"
WATER = f"--data water.yaml {SMALL} --windows.history 2 {SHORT} --steps 3"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_shallow_water(tmp_path / "2D_rdb_NA_NA.h5")
    write_compressible(tmp_path / "2D_CFD_Rand_M0.1_Eta0.01_Zeta0.01_periodic_16_Train.hdf5")
    split = {"valid": 0.34, "test": 0.34}
    for name, path in (("water", "2D_rdb_NA_NA.h5"), ("gas", "2D_CFD_*.hdf5")):
        data = {"systems": [{"name": name, "paths": [path]}], "split": split}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(data))
    return tmp_path


def rates_told(capsys):
    """The first column of the table of trials."""
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    return {float(row[0]) for row in rows if len(row) > 2 and row[0].startswith("0.")}


def rate_in(config):
    return yaml.safe_load(config.read_text())["optim"]["lr"]


def test_tune_writes_a_config_that_trains(folder, capsys):
    words = f"tune {WATER} --budget 30m --lr 1e-4 3e-3 --out tuned.yaml"
    assert main(words.split()) == 0
    assert rates_told(capsys) == {1e-4, 3e-3}
    assert rate_in(folder / "tuned.yaml") in (1e-4, 3e-3)
    assert main(["train", "--config", "tuned.yaml", "--steps", "1", "--run", "runs/a"]) == 0


def test_marking_and_width_are_tuned_with_the_rate_and_written(folder, capsys):
    words = f"tune {WATER} --budget 30m --lr 3e-3 --bulk 0.5 0.9 --width 8 16 --out tuned.yaml"
    assert main(words.split()) == 0
    rows = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    tried = {tuple(map(float, row)) for row in rows if row and row[0] == "0.003"}
    assert tried == {(3e-3, bulk, width) for bulk in (0.5, 0.9) for width in (8, 16)}
    model = yaml.safe_load((folder / "tuned.yaml").read_text())["model"]
    assert (3e-3, model["refine"]["bulk"], model["embed_dim"]) in tried


def test_the_width_of_a_baseline_is_its_own(folder, capsys):
    words = f"tune {WATER} --baseline unet --budget 30m --lr 3e-3 --width 4 8 --out tuned.yaml"
    assert main(words.split()) == 0
    baseline = yaml.safe_load((folder / "tuned.yaml").read_text())["model"]["baseline"]
    assert baseline["kind"] == "unet"
    assert baseline["width"] in (4, 8)


def test_fine_tuning_chooses_its_own_rate(folder, capsys):
    assert main(f"train {WATER} --run runs/a".split()) == 0
    capsys.readouterr()
    words = f"finetune runs/a --data gas.yaml --lr auto --budget 30m --steps 2 --run runs/b {SHORT}"
    assert main(words.split()) == 0
    rates = rates_told(capsys)
    assert len(rates) == 3
    assert rate_in(folder / "runs/b/config.yaml") in rates


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--budget soon", "--budget is 'soon'"),
        ("--budget 0s", "too small to compare 3 settings"),
        ("--lr 1e-3", "give two rates"),
        ("--baseline stencil", "A stencil has no learning rate to tune"),
        ("--baseline unet --threshold 0.1 0.2", "--threshold: nothing is refined"),
        ("--bulk 0.8 0.9 --model.mode uniform --model.patches [8]", "--bulk: nothing is refined"),
        ("--threshold 0.1 0.2 --bulk 0.9", "--threshold has no effect beside --bulk"),
        ("--threshold 0.1 0.2 --model.refine.bulk 0.9", "no effect beside model.refine.bulk"),
        ("--bulk 0.9 1.1", "model.refine.bulk is 1.1"),
        ("--width 8 9 --model.heads 2", "model.embed_dim is 9"),
    ],
)
def test_what_cannot_be_tuned_is_refused(folder, capsys, words, said):
    assert main(f"tune {WATER} {words}".split()) == 2
    assert said in capsys.readouterr().err


def test_a_rate_that_is_no_number_is_refused(folder, capsys):
    assert main(f"train {WATER} --run runs/a".split()) == 0
    assert main(["finetune", "runs/a", "--data", "gas.yaml", "--lr", "fast"]) == 2
    assert "--lr is 'fast', expected a number, or auto" in capsys.readouterr().err


TUNE = f"finetune runs/a --data gas.yaml --run runs/b {SHORT}"


@pytest.fixture
def quick(folder, monkeypatch):
    """A trained model, and trials of two steps."""
    monkeypatch.setattr("matey.train.tune.LEAST", 2)
    assert main(f"train {WATER} --run runs/a".split()) == 0
    return folder


def said(capsys) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_fine_tuning_chooses_its_rate_by_default_and_keeps_it_when_it_goes_on(quick, capsys):
    words = f"{TUNE} --steps 3 --budget 30m"
    assert main([*words.split(), "--plan"]) == 0
    plan = said(capsys)
    line = (
        "Learning rate: the best of 0.000333, 0.001, 0.003 by short trainings, scored on the "
        "validation split, within 30m (--budget). --lr NUMBER takes one."
    )
    for words_told in (
        line,
        "Loss: the logarithm of the NRMSE of a batch (loss.of log).",
        "Average of the weights: decay 0.995",
        "Validation: every 50 steps. Training ends early after 10 in a row without a lower error",
        "ends × 10",
    ):
        assert words_told in plan, words_told
    assert main(words.split()) == 0
    assert said(capsys).startswith(line)
    chosen = rate_in(quick / "runs/b/config.yaml")
    assert chosen in (3.33e-4, 1e-3, 3e-3)
    assert main([*words.split(), "--resume", "auto"]) == 0
    assert f"Learning rate: {chosen:g}, as the run began." in said(capsys)
    assert rate_in(quick / "runs/b/config.yaml") == chosen


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("--steps 1", "the run has 1 step, and trials need 2."),
        ("--steps 2 --budget 0s", "A budget of 0 s is too small to compare 3 settings"),
        ("--steps 2 --data.split.valid 0", "there are no trajectories to validate on."),
    ],
)
def test_where_no_rates_can_be_compared_a_line_says_why_and_the_usual_one_is_taken(
    quick, capsys, more, reason
):
    assert main(f"{TUNE} {more}".split()) == 0
    assert f"Learning rate: 0.001, not chosen by trials: {reason}" in said(capsys)
    assert rate_in(quick / "runs/b/config.yaml") == 1e-3
    if "budget" in more:
        assert main(f"{TUNE} {more} --lr auto".split()) == 2
        assert "too small to compare" in capsys.readouterr().err


def test_a_rate_that_is_given_is_taken_and_so_is_what_several_processes_are_told(
    quick, capsys, monkeypatch
):
    (quick / "tune.yaml").write_text("optim:\n  lr: 1e-3\n")
    for words in ("--optim.lr 3e-4", "--lr 1e-3", "--config tune.yaml"):
        assert main(f"{TUNE} {words} --steps 2 --plan".split()) == 0
        assert "Learning rate: " not in said(capsys), words
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(f"{TUNE} --steps 2 --plan".split()) == 0
    assert "not chosen by trials: one process does that" in said(capsys)
    assert main(f"{TUNE} --steps 2 --lr auto".split()) == 2
    assert "--lr auto: one process does that" in capsys.readouterr().err


def test_adapters_are_in_the_plan_and_every_command_takes_their_run(quick, capsys):
    lora = f"{TUNE} --mode lora --rank 2 --steps 1"
    assert main([*lora.split(), "--plan"]) == 0
    plan = said(capsys)
    assert "adapters" in plan
    assert "blocks × 10" in plan
    assert "Adapters: rank 2; the model is saved as what differs from a, beside its name" in plan
    assert main(lora.split()) == 0
    assert (
        main(
            [
                "evaluate",
                "runs/b",
                "--data",
                "gas.yaml",
                "--rollout",
                "1",
                "--windows",
                "1",
                "--out",
                "r",
            ]
        )
        == 0
    )
    assert main(["data", "inspect", "runs/b"]) == 0
    assert "adapter of rank 2 for the model a" in said(capsys)
