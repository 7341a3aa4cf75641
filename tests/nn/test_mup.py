"""Maximal update parametrisation: a step of Adam moves predictions as far at any width."""

from statistics import fmean

import pytest
import torch

from tests.nn.helpers import rough_inputs, system, tiny_model

SIZES = [(32, 8), (96, 8), (192, 8), (96, 32)]  # of a token, and latent channels


def moved(width: int, latent: int, seed: int, **config) -> float:
    """How far the first step of Adam moves predictions, over its learning rate."""
    spec, rate = system(), 1e-3
    sizes = {"embed_dim": width, "heads": width // 16, "latent_channels": latent}
    model = tiny_model(spec, seed=seed, **sizes, **config).train()
    inputs = rough_inputs(spec, points=32)
    target = rough_inputs(spec, points=32, times=1, seed=1).values[:, 0]
    before = model(inputs).normalised
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    (before - target).square().mean().backward()
    optimizer.step()
    with torch.no_grad():
        change = model(inputs).normalised - before
    return float(change.square().mean().sqrt()) / rate


def spread(**config) -> float:
    """The most over the least that a step moves, of models of other widths and latent channels."""
    means = [fmean(moved(*sizes, seed, **config) for seed in range(3)) for sizes in SIZES]
    return max(means) / min(means)


@pytest.mark.parametrize("config", [{}, {"stem": "hierarchical"}], ids=["linear", "hierarchical"])
def test_a_step_moves_predictions_about_as_far_at_any_width_and_latent_size(config):
    assert spread(mup=True, **config) < 2
    assert spread(**config) > 4


def test_steps_of_a_local_path_are_about_as_far_at_any_width():
    assert spread(local=8, levels=1) < 1.3


def test_predictions_of_untrained_models_are_as_large_with_and_without():
    """The factors are taken from the weights again."""
    spec = system()
    inputs = rough_inputs(spec)
    for config in ({}, {"stem": "hierarchical"}):
        sizes = {"embed_dim": 192, "heads": 6, "latent_channels": 32, "predict": "state"} | config
        one, two = (tiny_model(spec, mup=mup, **sizes)(inputs).normalised for mup in (False, True))
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


def test_at_a_width_of_96_and_8_latent_channels_no_bit_changes():
    spec = system()
    sizes = {"embed_dim": 96, "heads": 3, "latent_channels": 8}
    one, two = (tiny_model(spec, mup=mup, **sizes).state_dict() for mup in (False, True))
    assert one.keys() == two.keys()
    for name, weight in one.items():
        assert torch.equal(weight, two[name]), name
