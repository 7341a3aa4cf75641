"""Scores of ensembles on test trajectories, and what a page makes of them."""

from dataclasses import replace

import pytest
import torch

from matey.cli import main
from matey.config import DataConfig, ModelConfig, SourceConfig
from matey.data.systems import open_systems
from matey.data.windows import Rollouts
from matey.data.write import write_well
from matey.errors import ConfigError, DataError
from matey.evaluate.ensembles import EnsembleConfig, score_ensembles
from matey.fields import Variable
from matey.metrics.ensemble import crps, nominal_coverage
from matey.metrics.error import mae
from matey.nn.folder import save_pretrained
from matey.nn.rollout import rollout_steps
from matey.nn.transformer import Matey
from matey.records.ensembles import mean_ratio
from matey.records.scores import Scores
from matey.report.members import load_members
from matey.report.page import build
from matey.simulate.trajectories import simulate


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> DataConfig:
    """Short runs of Burgers' equation in one dimension."""
    path = tmp_path_factory.mktemp("waves") / "burgers"
    write_well(
        simulate("burgers", trajectories=6, resolution=32, steps=8, seed=0, ndim=1),
        path,
        name="burgers",
    )
    return DataConfig((SourceConfig("burgers", (str(path),)),))


@pytest.fixture(scope="module")
def model(data):
    """An ensemble model of random weights."""
    spec = open_systems(data)["burgers"].spec
    torch.manual_seed(0)
    made = Matey(
        ModelConfig(12, 1, 1, mode="uniform", patches=(8,), noise=4), [spec], history=2
    ).eval()
    torch.nn.init.normal_(made.conditioning.noise.weight)
    return made


@pytest.fixture(scope="module")
def rollouts(data, model):
    system = open_systems(data, training=False)["burgers"]
    return Rollouts(system.fields, system.split["test"], model.history, 3)


def test_scores_are_those_of_members_rolled_out_one_by_one(model, rollouts, tmp_path):
    config, path = EnsembleConfig(3), tmp_path / "members.npz"
    made = score_ensembles(model, rollouts, config, [1, 2, 3], 2, 0, path)
    name = rollouts.fields.spec.variables[0].name
    errors, alone = [], []
    for batch in rollouts.batches(1):
        field, (start,) = batch.truth[0], batch.starts
        history = replace(field, values=field.values[:2], times=field.times[:2])
        members = []
        for k in range(3):
            noise = model.noise_of(k, 0, [start])
            *_, last = rollout_steps(model, history, 3, noise=noise)
            members.append(last.values)
        target = field.values[4:5]
        errors.append(crps(torch.stack(members), target))
        alone.append(mae(model.rollout(history, 3).values[-1:], target))
    assert made.model is not None
    score = made.model.by_variable[name]
    # Batches of two round otherwise than single samples.
    assert score.crps[-1] == pytest.approx(float(torch.cat(errors).mean()), rel=1e-4)
    assert made.mae[name][-1] == pytest.approx(float(torch.cat(alone).mean()), rel=1e-4)
    assert sum(score.ranks) == pytest.approx(1)
    assert made.model.nominal == nominal_coverage(3)
    assert made.crps_over_mae(made.model)[-1] == pytest.approx(score.crps[-1] / made.mae[name][-1])
    shown = load_members(path)
    assert shown.members.shape == (3, 3, 1, 3)
    assert shown.spread.shape == (3, 1, 1, 1, 32)


def test_the_smallest_perturbation_has_the_error_of_the_model_alone(model, rollouts, tmp_path):
    config = EnsembleConfig(3, perturb=1e-6)
    made = score_ensembles(model, rollouts, config, [1], 2, 0, tmp_path / "members.npz")
    assert made.crps_over_mae(made.perturbed)[0] == pytest.approx(1, abs=1e-3)
    assert made.perturbed.mean("calibration")[0] < 1e-3


def test_what_does_not_fit_is_refused(model, rollouts, tmp_path):
    longer = Matey(model.config, list(model.specs.values()), history=3)
    config = EnsembleConfig(3, beside=longer, name="runs/b")
    with pytest.raises(ConfigError, match="runs/b is given 3 frames, the model 2"):
        score_ensembles(model, rollouts, config, [1], 2, 0, tmp_path / "members.npz")
    (spec,) = model.specs.values()
    other = replace(spec, name="other", variables=(Variable("height"),))
    config = replace(config, beside=Matey(model.config, [other], model.history))
    with pytest.raises(DataError, match=r"runs/b, --beside the model: .*burgers"):
        score_ensembles(model, rollouts, config, [1], 2, 0, tmp_path / "members.npz")
    with pytest.raises(ConfigError, match="members is 1, expected 2 or more"):
        EnsembleConfig(1)
    with pytest.raises(ConfigError, match="perturb is 0, expected a number between 0 and 1"):
        EnsembleConfig(3, perturb=0)
    (tmp_path / "bad.npz").write_bytes(b"no")
    with pytest.raises(DataError, match=r"bad.npz is not a readable .npz file"):
        load_members(tmp_path / "bad.npz")


def test_ratios_leave_out_what_has_no_error():
    assert mean_ratio({"a": [1.0], "b": [3.0]}, {"a": [2.0], "b": [0.0]}) == [0.5]


def test_the_command_scores_members_and_the_page_draws_fans(model, data, tmp_path, capsys):
    save_pretrained(model, tmp_path / "model", {})
    paths = f'[{{"name": "burgers", "paths": ["{data.systems[0].paths[0]}"]}}]'
    out = tmp_path / "results"
    words = ["evaluate", str(tmp_path / "model"), "--data.systems", paths, "--rollout", "3"]
    assert main([*words, "--members", "3", "--windows", "2", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "CRPS" in said
    assert "(0.50)" in said  # of three members two have half of the truth between them
    made = Scores.load(out / "scores.json").systems[0].ensembles
    assert made is not None
    assert made.model is not None
    assert made.model.members == made.perturbed.members == 3
    build([out], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert 'id="ensembles"' in page
    assert page.count('class="s0 fan"') == 2 * 3  # two bands: over the domain, and at two points
    assert "mean over the domain" in page
    assert "at point (8)" in page
    assert main([*words, "--beside", "x", "--out", str(out)]) == 2
    assert "--beside is 'x', expected --members too" in capsys.readouterr().err
    assert main([*words, "--perturb", "0.1", "--out", str(out)]) == 2
    assert "--perturb is 0.1, expected --members too" in capsys.readouterr().err
