"""What a model folder and a report say of a model in words."""

from dataclasses import asdict

import pytest

from matey.cli import main
from matey.config import ModelConfig
from matey.nn.card import around_tokens, grids_of, write_card
from matey.nn.folder import save_pretrained
from matey.report.model import model_sentence
from tests.nn.helpers import system, tiny_model


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, ""),
        ({"local": 0, "levels": 0, "stencil": False}, ""),
        ({"local": 32, "levels": 0}, "; a local path of 32 channels"),
        ({"local": 8, "levels": 1}, "; a local path of 8 channels with 1 coarser level"),
        (
            {"local": 8, "levels": 1, "local_piece": 4, "bound": 8.0},
            "; a local path of 8 channels with 1 coarser level, on pieces of 4 points, features "
            "held below 8",
        ),
        (
            {"local": 32, "levels": 3, "stencil": True},
            "; a local path of 32 channels with 3 coarser levels; increments beyond those of a "
            "least-squares stencil where it helps",
        ),
    ],
)
def test_what_stands_around_the_tokens_is_said_where_there_is_any(settings, said):
    assert around_tokens(settings) == said
    sentence = model_sentence({"scheme": "svit", "patches": [16], **settings})
    assert sentence == f"The model is a SViT transformer: uniform patches of 16 grid points{said}."


def test_the_card_names_the_local_path_and_the_stencil():
    config = ModelConfig(local=16, stencil=True)
    description = {"model": asdict(config), "history": 2, "systems": [], "training": {}}
    card = write_card(description, 1_500_000, {})
    said = "its maximum; a local path of 16 channels; increments beyond those of a least-squares"
    assert said in " ".join(card.split())
    assert "local path" not in write_card(
        {**description, "model": asdict(ModelConfig())}, 1_500_000, {}
    )


def test_inspecting_a_model_folder_tells_what_the_model_is(tmp_path, capsys):
    """Of a folder without a card, or with an old one, too; one that is damaged is refused."""
    model = tiny_model(system(), local=8, patches=(8, 4))
    save_pretrained(model, tmp_path / "run/model", {})
    (tmp_path / "run/model/README.md").unlink()
    for path in ("run", "run/model"):
        assert main(["data", "inspect", str(tmp_path / path)]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "; a local path of 8 channels. Method:" in shown
        assert "| toy | 2D | a, b | nu | not recorded | 0.5 |" in shown
    (tmp_path / "run/model/config.json").write_text("{}")
    assert main(["data", "inspect", str(tmp_path / "run")]) == 2
    assert "is not a model description" in " ".join(capsys.readouterr().err.split())


def test_the_card_says_what_the_model_is_not_for():
    """Of what it knows: systems, ranges of parameters, grids, dimensions and steps."""
    training = {
        "grids": {"toy": [[64, 64], [128, 128]]},
        "ranges": {"toy": {"parameter": {"nu": [0.01, 0.1]}}},
        "windows": {"min_lead": 1, "max_lead": 1},
    }
    spec = asdict(system())
    description = {"model": asdict(ModelConfig()), "history": 2, "systems": [spec]}
    card = write_card({**description, "training": training}, 1_000, {})
    assert "| toy | 2D | a, b | nu | 64 × 64, 128 × 128 | 0.5 |" in card
    assert "| toy | parameter | nu | 0.01 | 0.1 |" in card
    limits = " ".join(card.split("## Not for")[1].split("##")[0].split())
    for said in (
        "Systems other than those above (toy)",
        "Parameters, values and spacing outside the ranges above",
        "Other grids than those above without a score on them",
        "Fields in 1D or 3D: it was trained in 2D alone.",
        "Steps other than the 1 dt that it was trained on.",
        "Decisions on which safety, operation or money depends.",
    ):
        assert said in limits
    bare = write_card({**description, "training": {}}, 1_000, {})
    assert "Steps other" not in bare
    assert "| toy | 2D | a, b | nu | not recorded | 0.5 |" in bare


def test_the_grids_of_a_system_say_what_boxes_of_them_were_trained_on():
    training = {"grids": {"toy": [[256, 256]], "old": [[64]]}, "trajectories": {"toy": 3}}
    assert grids_of(training, "toy") == "256 × 256"
    training["windows"] = {"crop": [32, 64]}
    assert grids_of(training, "toy") == "256 × 256 (boxes of 32 × 64 points)"
    assert grids_of(training, "old") == "64"
