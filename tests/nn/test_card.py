"""What a model folder and a report say of a model in words."""

from dataclasses import asdict

import pytest

from matey.config import ModelConfig
from matey.nn.card import around_tokens, write_card
from matey.report.model import model_sentence


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, ""),
        ({"local": 0, "levels": 0, "stencil": False}, ""),
        ({"local": 32, "levels": 0}, "; a local path of 32 channels"),
        ({"local": 8, "levels": 1}, "; a local path of 8 channels with 1 coarser level"),
        (
            {"local": 32, "levels": 3, "stencil": True},
            "; a local path of 32 channels with 3 coarser levels; increments beyond those of a "
            "least-squares stencil",
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
