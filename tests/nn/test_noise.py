"""Members of an ensemble: what they share, and what tells them apart."""

from dataclasses import replace

import pytest
import torch

from matey.config import BaselineConfig, ModelConfig
from matey.errors import ConfigError, DataError
from matey.fields import PERIODIC_SIDES, Ensemble, Field, Grid
from matey.nn.make import make_model
from matey.nn.rollout import Noise, continue_inputs, renewed
from tests.nn.helpers import rough_inputs, share_weights, system, tiny_model

LOCAL = {"local": 4, "mode": "uniform", "patches": (8,)}


def field_of(points: int = 16) -> Field:
    inputs = rough_inputs(system(), points, samples=1)
    return Field(
        inputs.values[0],
        torch.arange(2).double(),
        Grid(("y", "x"), (1, points, points), (0.0,) * 3, (1.0,) * 3),
        (PERIODIC_SIDES,) * 3,
        {"nu": 0.1},
        inputs.spec,
    )


def noisy_model(**settings):
    """A model whose noise has been learned."""
    model = tiny_model(system(), noise=6, **settings)
    torch.nn.init.normal_(model.conditioning.noise.weight, std=0.5)
    return model


@pytest.mark.parametrize("settings", [{}, LOCAL])
def test_a_model_that_is_to_be_an_ensemble_begins_with_its_own_prediction(settings):
    """To the bit: what is added is nothing."""
    plain, noisy = tiny_model(system(), **settings), tiny_model(system(), noise=6, **settings)
    weights = {**noisy.state_dict(), **plain.state_dict()}
    noisy.load_state_dict(weights)
    inputs = rough_inputs(system())
    told = renewed(inputs, torch.randn(3, 6))
    expected = plain(inputs).normalised
    assert torch.equal(noisy(told).normalised, expected)
    assert torch.equal(noisy(inputs).normalised, expected)


@pytest.mark.parametrize("settings", [{}, LOCAL])
def test_each_sample_has_its_own_noise_alone(settings):
    model, inputs = noisy_model(**settings), rough_inputs(system())
    noise = torch.randn(3, 6)
    with torch.no_grad():
        first = model(renewed(inputs, noise)).normalised
        noise[1] += 1
        second = model(renewed(inputs, noise)).normalised
    assert torch.equal(first[[0, 2]], second[[0, 2]])
    assert not torch.allclose(first[1], second[1])


def test_members_are_the_same_however_many_there_are():
    model, field = noisy_model(**LOCAL), field_of()
    few, many = (model.rollout(field, 3, members=count) for count in (2, 4))
    again = model.rollout(field, 3, seed=1, members=2)
    for small, large, other in zip(few, many, again, strict=False):
        assert torch.equal(small.values, large.values)
        assert not torch.allclose(small.values, other.values)
    assert not torch.allclose(many[0].values, many[1].values)
    alone = list(model.rollout_steps(field, 3, member=3))
    assert torch.equal(torch.cat([one.values for one in alone]), many[3].values)
    assert not torch.equal(model.rollout(field, 3).values, many[0].values)


def test_a_seed_below_zero_is_refused():
    with pytest.raises(ConfigError, match="seed is -1, expected 0 or more"):
        noisy_model(**LOCAL).rollout(field_of(), 1, seed=-1, members=2)


def test_a_rollout_has_the_noise_of_its_place_wherever_it_stands_in_a_batch():
    model, inputs = noisy_model(**LOCAL), rough_inputs(system())
    places = [(0, 4), (0, 5), (1, 4)]
    noise = model.noise_of(2, 7, places)
    one = replace(
        inputs,
        values=inputs.values[1:2],
        lead_time=inputs.lead_time[:1],
        boundaries=inputs.boundaries[:1],
        parameters=inputs.parameters[:1],
        sources=("test",),
    )
    together = list(continue_inputs(model, inputs, [1.0] * 3, noise=noise))
    alone = list(continue_inputs(model, one, [1.0] * 3, noise=model.noise_of(2, 7, places[1:2])))
    for frame, own in zip(together, alone, strict=True):
        torch.testing.assert_close(frame[1:2], own, rtol=1e-4, atol=1e-5)  # rounding, three steps


def test_half_of_the_noise_stays_over_a_rollout():
    inputs, noise = rough_inputs(system()), Noise(6, 0, 0, [(0, i) for i in range(3)])
    first = renewed(inputs, noise.draw())
    second = renewed(first, noise.draw())
    assert torch.equal(first.noise[:, :3], second.noise[:, :3])
    assert not (first.noise[:, 3:] == second.noise[:, 3:]).any()


def test_noise_is_normal_and_differs_between_members_samples_and_seeds():
    places = [(trajectory, frame) for trajectory in range(20) for frame in range(20)]
    rows = torch.cat([Noise(8, seed, k, places).draw() for seed in (0, 1) for k in (0, 1)])
    # 12,800 numbers: mean and deviation are good to 4 / √12,800 = 0.035.
    assert abs(float(rows.mean())) < 0.035
    assert abs(float(rows.std()) - 1) < 0.035
    assert len(rows[:, 0].unique()) == len(rows)


def test_a_u_net_can_be_an_ensemble_too():
    torch.manual_seed(0)
    config = ModelConfig(24, 2, 2, noise=6, baseline=BaselineConfig("unet", 4))
    model = make_model(config, [system()], history=2).eval()
    torch.nn.init.normal_(model.conditioning.noise.weight)
    made = model.rollout(field_of(), 2, members=2)
    assert not torch.allclose(made[0].values, made[1].values)


def test_a_model_without_noise_says_how_to_get_it():
    with pytest.raises(ConfigError, match="matey finetune RUN --loss crps"):
        tiny_model(system()).rollout(field_of(), 2, members=2)
    with pytest.raises(ConfigError, match="members is 1, expected 2 or more"):
        noisy_model().rollout(field_of(), 2, members=1)


def test_an_ensemble_knows_its_mean_spread_and_quantiles():
    field = field_of()
    members = tuple(replace(field, values=field.values + k) for k in (0.0, 1.0, 5.0))
    made = Ensemble(members)
    torch.testing.assert_close(made.mean.values, field.values + 2)
    torch.testing.assert_close(made.spread.values, torch.full_like(field.values, 7**0.5))
    torch.testing.assert_close(made.quantile(0.5).values, field.values + 1)
    assert len(made) == 3
    assert made[2] is members[2]
    assert list(made) == list(members)
    with pytest.raises(DataError, match="two members or more"):
        Ensemble(members[:1])
    later = replace(field, times=field.times + 1)
    with pytest.raises(DataError, match="differ in more than their values"):
        Ensemble((field, later))


def test_weights_of_a_plain_model_are_not_touched():
    """A model of no noise has the weights, and draws the random numbers, that it always had."""
    plain = tiny_model(system())
    assert plain.conditioning.noise is None
    assert not [name for name in plain.state_dict() if "noise" in name]
    assert share_weights(plain, tiny_model(system(), seed=1)).config.noise == 0
