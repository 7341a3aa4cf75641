"""Training ensembles by the CRPS, and what a user makes of them."""

from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
import xarray

import matey
from matey.cli import main
from matey.cli.finetune import LOSSES
from matey.config import DataConfig, LossConfig, ModelConfig, RunConfig, SourceConfig
from matey.errors import ConfigError
from matey.fields import Batch
from matey.metrics.ensemble import fair_crps
from matey.nn.rollout import drawn
from matey.train.finetune import check_shape, finetune
from matey.train.loop import learn, train
from matey.train.loss import loss_of
from matey.train.parallel.distributed import Engine, Team
from tests.nn.helpers import rough_inputs, system, tiny_model
from tests.train.tiny import tiny_run

CRPS = LossConfig(of="crps", members=3)
NOISY = RunConfig(loss=CRPS, model=ModelConfig(noise=4))


def batch_of(frames: int = 0) -> Batch:
    inputs = rough_inputs(system(), 16)
    ahead = rough_inputs(system(), 16, times=frames + 1, seed=1).values
    between = ahead[:, :-1] if frames else None
    return Batch(**vars(inputs), target=ahead[:, -1], pushes=frames, between=between)


def noisy(learned: bool = True):
    model = tiny_model(system(), noise=4, local=4, mode="uniform", patches=(8,)).train()
    if learned:
        torch.nn.init.normal_(model.conditioning.noise.weight)
    return model


def test_the_loss_is_the_fair_crps_of_normalised_fields_over_their_size():
    model, batch = noisy(), drawn(batch_of().repeated(3), 4)
    prediction = model(batch)
    target = prediction.statistics.normalise(batch.target)
    apart = prediction.normalised.unflatten(0, (3, 3)).movedim(1, 0)
    size = (1e-3 + target[::3].square().mean(dim=(-3, -2, -1))).sqrt()
    expected = fair_crps(apart, target[::3]).mean(dim=(-3, -2, -1)) / size
    torch.testing.assert_close(loss_of(prediction, batch, CRPS), expected.mean())


def test_members_with_other_histories_are_measured_alike():
    """The loss in physical units does not depend on how each history was normalised."""
    model, batch = noisy(), drawn(batch_of().repeated(3), 4)
    moved = batch.values.clone()
    moved[1::3] = moved[1::3] * 3 + 5
    batch = replace(batch, values=moved)
    prediction = model(batch)
    first = prediction.statistics
    mean, scale = (part[::3].repeat_interleave(3, 0) for part in (first.mean, first.scale))
    ours = (prediction.fields - mean) / scale
    target = ((batch.target - mean) / scale)[::3]
    size = (1e-3 + target.square().mean(dim=(-3, -2, -1))).sqrt()
    crps = fair_crps(ours.unflatten(0, (3, 3)).movedim(1, 0), target).mean(dim=(-3, -2, -1))
    torch.testing.assert_close(
        loss_of(prediction, batch, CRPS), (crps / size).mean(), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("frames", [0, 2])
def test_the_gradient_reaches_the_noise_also_through_a_rollout(frames):
    torch.manual_seed(0)
    engine = Engine(noisy(), Team(RunConfig().parallel, torch.device("cpu")))
    learned = learn(engine, batch_of(frames), NOISY)
    weight = engine.model.conditioning.noise.weight
    assert weight.grad is not None
    assert bool((weight.grad != 0).any())
    assert learned.loss.isfinite()
    assert learned.tokens == (frames + 1) * 9 * 4  # three members of three samples


def test_settings_of_an_ensemble_go_together():
    with pytest.raises(
        ConfigError, match=r"model.noise is 0, expected above 0 with loss.of = crps"
    ):
        RunConfig(loss=CRPS)
    with pytest.raises(
        ConfigError, match=r"noise is 4, expected 0 .*square.* by loss.of = crps alone"
    ):
        RunConfig(model=ModelConfig(noise=4))
    with pytest.raises(ConfigError, match=r"noise is 0, not 4\..* stays one: by loss.of = crps"):
        check_shape(ModelConfig(noise=4), ModelConfig())
    with pytest.raises(ConfigError, match=r"loss.gradient is 0.1, expected 0 with loss.of = crps"):
        LossConfig(of="crps", gradient=0.1)
    with pytest.raises(ConfigError, match=r"loss.members is 1, expected 2 or more"):
        LossConfig(of="crps", members=1)


def test_the_plan_of_a_fine_tuning_has_words_for_every_loss():
    assert set(LOSSES) == set(get_args(get_type_hints(LossConfig)["of"]))


@pytest.fixture(scope="module")
def waves(tmp_path_factory) -> Path:
    """A few short runs of Burgers' equation, and a model trained on them for two steps."""
    folder = tmp_path_factory.mktemp("waves")
    data = ["burgers", "--ndim", "1", "--trajectories", "10", "--resolution", "32", "--steps", "8"]
    assert main(["simulate", *data, "--jobs", "1", "--out", str(folder / "data")]) == 0
    source = SourceConfig("burgers", (str(folder / "data"),))
    config = tiny_run({}, {"mode": "uniform", "patches": (8,)}, {}, {}, steps=2, validate_every=1)
    train(replace(config, data=DataConfig((source,))), folder / "plain")
    return folder


def test_fine_tuning_begins_with_the_prediction_of_the_model(waves, tmp_path):
    plain = matey.from_pretrained(waves / "plain")
    config = tiny_run({}, {}, {}, {"lr": 1e-12, "warmup": 0}, steps=1)
    config = replace(
        config,
        loss=CRPS,
        model=replace(plain.config, noise=4),
        data=DataConfig((SourceConfig("burgers", (str(waves / "data"),)),)),
    )
    made = finetune(waves / "plain", config, tmp_path / "crps")
    field = matey.open(waves / "data")[0]
    expected = plain.rollout(field, 1).values
    for member in made.rollout(field, 1, members=2):
        # One step of 1e-12 is below the rounding of most weights.
        torch.testing.assert_close(member.values, expected, rtol=1e-5, atol=1e-6)


def test_an_ensemble_from_the_command_line_is_read_by_xarray_and_as_trajectories(
    waves, tmp_path, capsys
):
    run, out, initial = tmp_path / "crps", tmp_path / "made.nc", str(waves / "data")
    systems = f'[{{"name": "burgers", "paths": ["{initial}"]}}]'
    steps = ["--steps", "3", "--batch", "2", "--validate_every", "1", "--lr", "1e-2"]
    given = ["--loss", "crps", "--loss.members", "2", "--data.systems", systems, *steps]
    assert main(["finetune", str(waves / "plain"), *given, "--run", str(run)]) == 0
    model = matey.from_pretrained(run)
    assert model.config.noise == 16
    assert main(["predict", str(run), initial, "--members", "3", "--out", str(out)]) == 0
    assert "3 members" in capsys.readouterr().out

    field = matey.open(waves / "data")[0]
    expected = model.rollout(field, 10, members=3)
    with xarray.open_dataset(out) as dataset:
        name = field.spec.variables[0].alias or field.spec.variables[0].name
        assert dataset.sizes["member"] == 3
        assert dataset[name].dims[0] == "member"
        assert dataset.attrs["members"] == 3
        made = expected.to_xarray()[name]
        xarray.testing.assert_equal(dataset[name], made)
        again = matey.Field.from_xarray(dataset.isel(member=1).load())
    torch.testing.assert_close(again.values, expected[1].values, rtol=0, atol=0)
    members = matey.open(out)
    assert len(members) == 3
    assert torch.equal(members[2].values, expected[2].values)

    assert main(["predict", str(waves / "plain"), initial, "--members", "3"]) == 2
    assert "matey finetune RUN --loss crps" in capsys.readouterr().err
