"""What stands at masked points is in no prediction, loss, plan or score."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from matey.config import BaselineConfig, LossConfig, ModelConfig
from matey.evaluate.protocols import PROTOCOLS, Frame, score_frame
from matey.fields import Batch, Boundary, Field, Grid, SystemSpec, Variable
from matey.metrics.error import nrmse
from matey.nn.make import make_model
from matey.nn.rollout import continue_inputs
from matey.tokens.criteria import CRITERIA, measure_cells
from matey.tokens.normalise import measure, normalised
from matey.train.loss import loss_of
from tests.nn.helpers import tiny_model

N, ABSURD = 16, 3e28
VARIABLES = (Variable("a"), Variable("h", static=True), Variable("b"))
SPEC = SystemSpec("sea", 2, (*VARIABLES, Variable("mask", static=True, pseudo=False, mask=True)))
LAND = torch.zeros(2, 1, N, N, dtype=torch.bool)
LAND[0, :, :8, 8:] = LAND[0, :, 13, 3] = LAND[1, :, 5:7, 2:9] = True


def batch(land: float = 0.0, seed: int = 0) -> Batch:
    """Two histories of two frames and a target; `land` stands at masked points."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(2, 3, 4, 1, N, N, generator=generator)
    values[:, :, 1] = values[:, :1, 1]
    values = values.masked_fill(LAND[:, None, None], land)
    values[:, :, 3] = (~LAND)[:, None].float()
    return Batch(
        values=values[:, :2],
        lead_time=torch.ones(2),
        boundaries=torch.full((2, 3, 2), int(Boundary.PERIODIC)),
        parameters=torch.zeros(2, 0),
        spec=SPEC,
        sources=("one", "two"),
        target=values[:, 2],
    )


def transformer(**config):
    return tiny_model(SPEC, **config)


def baseline(kind):
    torch.manual_seed(0)
    network = BaselineConfig(kind=kind, width=5 if kind == "stencil" else 8)
    return make_model(ModelConfig(embed_dim=24, heads=2, depth=1, baseline=network), [SPEC], 2)


def stencil():
    model = baseline("stencil")
    model.stencils.fit(SPEC, [batch(), batch(seed=1)], 200, 0)
    return model


MODELS = {
    "uniform": lambda: transformer(mode="uniform", patches=(4,)),
    "adap_mix": transformer,
    "adap_mul": lambda: transformer(mode="adap_mul"),
    "local": lambda: transformer(local=6),
    "unet": lambda: baseline("unet"),
    "fno": lambda: baseline(pytest.importorskip("neuralop") and "fno"),
    "stencil": stencil,
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("land", [ABSURD, -1.0])
def test_no_prediction_loss_gradient_or_rollout_depends_on_masked_values(name, land):
    model = MODELS[name]().train()
    loss = LossConfig(gradient=0.5, conservation=0.3)
    found = []
    for given in (batch(), batch(land)):
        made = model(given)
        value = loss_of(made, given, loss)
        learned = [p for p in model.parameters() if p.requires_grad]
        grads = torch.autograd.grad(value, learned, allow_unused=True) if learned else []
        assert bool(torch.isfinite(value))
        *_, frame = continue_inputs(model.eval(), given, [1.0, 1.0])
        model.train()
        found.append((made.fields, value.detach(), grads, frame))
    (ours, loss_a, grads_a, rolled), (other, loss_b, grads_b, again) = found
    water = ~LAND[:, None].expand_as(ours)
    assert torch.equal(ours[water], other[water])
    assert torch.equal(loss_a, loss_b)
    for a, b in zip(grads_a, grads_b, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)
    water = ~LAND[:, None].expand_as(rolled)
    assert torch.equal(rolled[water], again[water])
    moving = again[:, [0, 2]]
    assert bool((moving[LAND[:, None].expand_as(moving)] == land).all())


def test_a_stencil_is_fitted_to_points_with_a_field_alone():
    weights = []
    for land in (0.0, ABSURD):
        model = baseline("stencil")
        model.stencils.fit(SPEC, [batch(land), batch(land, seed=1)], 200, 0)
        weights.append(model.stencils.weight("sea").clone())
    assert torch.equal(*weights)
    assert bool(weights[0].any())


def test_statistics_are_those_of_the_points_with_a_field():
    given = batch(ABSURD)
    statistics, fields = normalised(given)
    for sample in range(2):
        water = given.values[sample, :, 0][:, ~LAND[sample]].double()
        assert float(statistics.mean[sample, 0]) == pytest.approx(float(water.mean()), abs=1e-6)
        deviation = float(water.std(correction=0))
        assert float(statistics.scale[sample, 0]) == pytest.approx(deviation, rel=1e-5)
    assert torch.equal(fields[:, :, 3], (~LAND)[:, None].expand(2, 2, 1, N, N).float())
    assert bool((fields[:, :, :3][LAND[:, None, None].expand(2, 2, 3, 1, N, N)] == 0).all())
    whole = replace(given, values=given.values.clone())
    whole.values[:, :, 3] = 1
    whole.values[:, :, :3].nan_to_num_().clamp_(-3, 3)
    expected = measure(whole.values)
    torch.testing.assert_close(normalised(whole)[0].mean, expected.mean, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_criteria_are_zero_without_a_field_and_ignore_what_stands_there(name):
    values = []
    for land in (0.0, ABSURD):
        given = batch(land)
        values.append(measure_cells(name, normalised(given)[1], (1, 4, 4), given.space))
    assert torch.equal(*values)
    assert values[0].isfinite().all()
    assert values[0][0, 0, :2, 2:].tolist() == [[0, 0], [0, 0]]
    assert bool((values[0][0, 0, 2:] > 0).all())


def test_a_coast_is_no_gradient():
    """A uniform sea beside land that is filled with another value."""
    given = batch()
    fields = torch.ones(2, 2, 1, 1, N, N).masked_fill(LAND[:, None, None], -5.0)
    assert measure_cells("gradient", fields, (1, 4, 4), given.space).count_nonzero() == 0


def test_every_metric_is_over_the_points_with_a_field():
    generator = torch.Generator().manual_seed(2)
    truth, made = torch.randn(2, 2, 2, 1, N, N, generator=generator).unbind(0)
    given = batch()
    weights = given.space.volumes
    for protocol in PROTOCOLS.values():
        rows = [
            score_frame(Frame(given.held(p), given.held(t), protocol, weights))
            for p, t in ((made, truth), (made.masked_fill(LAND[:, None], ABSURD), truth))
        ]
        for name, scores in rows[0].items():
            assert torch.equal(scores.nan_to_num(-1), rows[1][name].nan_to_num(-1)), name
        for sample in range(2):
            water = ~LAND[sample]
            p, t = made[sample][:, water].double(), truth[sample][:, water].double()
            apart = (p - t).square()
            expected = {
                "rmse": apart.mean(1).sqrt(),
                "nrmse": (apart.mean(1) / (t.square().mean(1) + protocol.eps)).sqrt(),
                "vrmse": (
                    apart.mean(1) / (t.var(1, correction=protocol.correction) + protocol.eps)
                ).sqrt(),
                "mae": (p - t).abs().mean(1),
                "max_error": (p - t).abs().amax(1),
                "mean_error": (p.mean(1) - t.mean(1)).abs(),
            }
            for name in set(expected) & set(rows[0]):
                torch.testing.assert_close(rows[0][name][sample], expected[name])
            edge = torch.zeros(1, N, N, dtype=torch.bool)
            edge[:, [0, -1]] = edge[:, :, [0, -1]] = True
            if "boundary_rmse" in rows[0]:
                apart = (made - truth)[sample][:, edge & water].double().square()
                found = rows[0]["boundary_rmse"][sample]
                torch.testing.assert_close(found, apart.mean(1).sqrt())
        spectral = [
            name for name in rows[0] if "band" in name or "spect" in name or "frmse" in name
        ]
        assert all(bool(rows[0][name].isnan().all()) for name in spectral)


def test_a_field_knows_where_it_is_held():
    given = batch()
    grid = Grid(("y", "x"), (1, N, N), (0.0,) * 3, (1.0,) * 3)
    sides = ((Boundary.PERIODIC, Boundary.PERIODIC),) * 3
    field = Field(given.values[0], torch.arange(2.0), grid, sides, {}, SPEC)
    assert torch.equal(field.held, ~LAND[0])
    made = tiny_model(SPEC).rollout(field, 2)
    missing = made.to_xarray()["a"].isnull().values
    assert (missing == LAND[0].numpy()).all()
    assert json.loads(made.description.to_json())["system"]["variables"][3]["mask"] is True
    weights = given.space.volumes
    error = nrmse(given.held(given.target), given.held(given.target), weights=weights)
    assert np.nanmax(error.numpy()) == 0


def test_with_jitter_a_masked_sample_is_told_the_same_size_wherever_the_lattice_lies():
    given, model = batch(), transformer(local=6, jitter=True)
    model.usual.measure(SPEC, [batch(seed=1)])
    cases = []
    for shift in ((0, 0, 0), (0, 3, 2)):
        statistics, fields = normalised(given, shift)
        cases.append(model.case_of(fields, statistics, given, shift))
    assert float((cases[0].ratios - 1).abs().max()) > 0.01
    torch.testing.assert_close(cases[1].ratios, cases[0].ratios)
    torch.testing.assert_close(cases[1].vector, cases[0].vector)
