"""Models that ship with the package: listed, shown, and taken by name wherever a run is."""

import json
import shutil
from pathlib import Path

import pytest

import matey
from matey.cli import main
from matey.cli.models import about
from matey.errors import CheckpointError
from matey.hub import check, names_in, refuse_others
from matey.records import shipped
from tests.cli.test_commands import refusal
from tests.shipping import ship, train_and_score


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A run, its scores, and below `pretrained` the model `mini` made of them."""
    folder = tmp_path_factory.mktemp("made")
    train_and_score(folder)
    assert ship(folder, folder / "pretrained") == 0
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch) -> Path:
    """An empty folder of a user whose installation has the model `mini`."""
    monkeypatch.setattr(shipped, "PRETRAINED", made / "pretrained")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_list_tells_what_the_files_of_a_model_say(here, made, capsys):
    assert main(["models"]) == 0
    shown = capsys.readouterr().out
    scores = json.loads((made / "results/scores.json").read_text())["systems"][0]
    curve = scores["metrics"]["nrmse"]["mean"]
    megabytes = (made / "run/model/model.safetensors").stat().st_size / 1e6
    assert f"mini 1   {megabytes:.1f} MB, BSD-3-Clause" in shown
    assert "trained on 1 system, " in shown
    assert "operations: shallow_water" in shown
    for step, at in ((1, 0), (2, 1)):
        over = [curve["error"][at] / curve[beside][at] for beside in ("persistence", "stencil")]
        said = f"{over[0]:.2f} × the error of persistence, {over[1]:.2f} × that of the stencil"
        assert f"{step} dt ahead: {said} (1 system)" in shown


def test_a_folder_more_is_a_model_more_and_none_is_said(here, made, monkeypatch, capsys):
    more = here / "pretrained"
    shutil.copytree(made / "pretrained/mini", more / "second")
    (more / "not one").mkdir()
    monkeypatch.setattr(shipped, "PRETRAINED", more)
    assert main(["models"]) == 0
    assert capsys.readouterr().out.startswith("second 1   ")
    for empty in (here / "nowhere", here):
        monkeypatch.setattr(shipped, "PRETRAINED", empty)
        assert main(["models"]) == 0
        assert "none ships with this installation" in capsys.readouterr().out
    assert "none ships" in refusal(capsys, "models", "mini")


def test_the_card_of_a_model_that_ships_tells_its_use_limits_and_scores(here, made, capsys):
    assert main(["models", "mini"]) == 0
    card = capsys.readouterr().out
    assert card.startswith("# mini\n")
    assert 'matey.from_pretrained("mini")' in card
    assert "Version 1; licence of the weights: BSD-3-Clause." in card
    assert "## Not for" in card
    assert "| shallow_water | 1 |" in card
    assert "| shallow_water | 2 |" in card
    assert card.strip() == (made / "pretrained/mini/README.md").read_text().strip()
    assert main(["data", "inspect", "mini"]) == 0
    assert capsys.readouterr().out.startswith("# mini\n")


def test_every_command_that_takes_a_run_takes_the_name(here, made, capsys):
    """What they write is where it is for a run, and never in the package."""
    before = files_of(made / "pretrained")
    data = ["--data", str(made / "mix.yaml"), "--device", "cpu"]
    assert main(["finetune", "mini", *data, "--plan"]) == 0
    assert "Fine-tuning mini on" in capsys.readouterr().out
    assert main(["finetune", "mini", *data, "--steps", "1", "--batch", "2"]) == 0
    assert (here / "runs/mini-finetuned/model/config.json").is_file()
    record = json.loads((here / "runs/mini-finetuned/provenance.json").read_text())
    assert record["parent"] == "mini"
    assert main(["evaluate", "mini", *data, "--rollout", "2"]) == 0
    scores = json.loads((here / "results/scores.json").read_text())
    assert scores["model"]["name"] == "mini"
    assert scores["systems"][0]["metrics"]["nrmse"]["mean"]["stencil"]
    assert main(["predict", "mini", str(made / "water.h5"), "--steps", "1"]) == 0
    assert main(["report", "mini", "--out", "page.html"]) == 0
    assert "shallow_water" in (here / "page.html").read_text()
    assert main(["data", "inspect", "mini"]) == 0
    assert sorted(p.name for p in here.iterdir()) == [
        *("page.html", "prediction.nc", "results", "runs")
    ]
    assert files_of(made / "pretrained") == before


def test_a_name_loads_the_model_and_reads_files_as_it_did(here, made):
    model, own = matey.from_pretrained("mini"), matey.from_pretrained(made / "run")
    weights = own.state_dict()
    assert all((value == weights[name]).all() for name, value in model.state_dict().items())
    assert model.source == "mini"
    assert model.yardstick is not None
    assert len(matey.open(made / "water.h5", like="mini")) > 0


def test_a_path_goes_before_a_name_and_that_is_told(here, made, capsys, caplog):
    shutil.copytree(made / "run", here / "mini")
    assert main(["data", "inspect", "mini"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("# A matey model\n")
    assert said.err.count("the name of a model that ships: the path is taken") == 1
    shutil.rmtree(here / "mini")
    (here / "mini").mkdir()
    with pytest.raises(CheckpointError, match="No model at mini: expected"):
        matey.from_pretrained("mini")


@pytest.mark.parametrize("name", ["midi", "../mini", "mini/../mini", "runs/mini", "Mini", ""])
def test_an_unknown_name_is_refused_with_those_that_ship(here, made, capsys, name):
    commands = [
        ["finetune", name, "--data", str(made / "mix.yaml")],
        ["evaluate", name, "--data", str(made / "mix.yaml")],
        ["predict", name, str(made / "water.h5")],
        ["report", name],
        ["models", name],
    ]
    if not name:  # the folder that they are in
        commands = commands[-1:]
    for command in commands:
        line = refusal(capsys, *command)
        assert "mini)." in line or ": mini." in line, line
    assert not list(here.iterdir())


def test_an_unknown_name_is_refused_in_python_too(here):
    with pytest.raises(CheckpointError, match=r"No model at midi: .* that ships \(mini\)\."):
        matey.from_pretrained("midi")


@pytest.mark.parametrize("name", ["push", "Mini", "../mini", "a/b"])
def test_no_model_ships_under_a_name_that_is_a_command_or_a_path(made, tmp_path, name):
    assert ship(made, tmp_path / "out", name) == 2
    assert not (tmp_path / "out").exists()


def test_shipping_refuses_what_is_too_large_and_scores_that_are_no_test(made, tmp_path, capsys):
    shutil.copytree(made / "run", tmp_path / "run")
    shutil.copytree(made / "results", tmp_path / "results")
    large = tmp_path / "run/model/more.json"
    large.write_text(json.dumps({"pad": "x" * 17_000_000}))
    assert ship(tmp_path, tmp_path / "out") == 2
    assert "over 16 MB" in capsys.readouterr().err
    large.unlink()
    scores = json.loads((tmp_path / "results/scores.json").read_text())
    scores["systems"][0]["trained_on"] = 1
    (tmp_path / "results/scores.json").write_text(json.dumps(scores))
    assert ship(tmp_path, tmp_path / "out") == 2
    assert "trajectories of the training" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_shipping_notes_grids_and_ranges_that_an_older_run_did_not(made, tmp_path):
    shutil.copytree(made / "run", tmp_path / "run")
    shutil.copytree(made / "results", tmp_path / "results")
    config = tmp_path / "run/model/config.json"
    description = json.loads(config.read_text())
    kept = {key: description["training"].pop(key) for key in ("grids", "ranges")}
    config.write_text(json.dumps(description))
    assert ship(tmp_path, tmp_path / "out") == 0
    again = json.loads((tmp_path / "out/mini/config.json").read_text())["training"]
    assert {key: again[key] for key in kept} == kept


def test_a_model_that_ships_tells_nothing_of_who_made_it(made):
    said = b"".join(files_of(made / "pretrained").values())
    assert str(made).encode() not in said
    assert b"matey train" not in said
    assert b"--rollout" not in said


def test_every_model_in_the_package_is_sound_small_and_told_of():
    """Those in the repository itself, if there are any."""
    for name, folder in shipped.shipped().items():
        names = names_in(folder)
        refuse_others(names, name)
        check(folder, names)
        assert sum((folder / each).stat().st_size for each in names) <= 16e6, name
        assert len(list(about(name, folder))) == 4, name  # with its scores
        assert "## Not for" in (folder / "README.md").read_text(), name
