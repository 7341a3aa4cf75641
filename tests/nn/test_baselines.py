"""Baselines: a U-Net and an FNO of the transformer's size, in the same hands."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import matey
from matey.config import BaselineConfig, ModelConfig, current
from matey.errors import ConfigError, DataError, ShapeError
from matey.fields import Boundary, Inputs, Variable
from matey.nn.baselines.base import Baseline
from matey.nn.baselines.unet import LEVELS, padded
from matey.nn.folder import outline, save_pretrained, set_token_budget
from matey.nn.make import make_model, outline_model
from matey.nn.operations import count
from tests.nn.helpers import rough_inputs, system

CONFIG = ModelConfig(embed_dim=32, heads=2, depth=2, patches=(8, 4))


def has_fno() -> bool:
    try:
        import neuralop.models  # noqa: F401
    except ImportError:
        return False
    return True


NEEDS_FNO = pytest.mark.skipif(
    not has_fno(),
    reason="the FNO needs neuraloperator, an optional package: pip install 'matey-pde[fno]'",
)
KINDS = ["unet", pytest.param("fno", marks=NEEDS_FNO)]


def make(kind: str, *specs, **settings) -> Baseline:
    torch.manual_seed(0)
    model = make_model(replace(CONFIG, baseline=BaselineConfig(kind), **settings), specs, history=2)
    assert isinstance(model, Baseline)
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_baseline_has_the_transformers_number_of_weights_within_a_tenth(kind, ndim):
    spec = system(ndim)
    for config in (CONFIG, replace(CONFIG, embed_dim=96, depth=6)):
        wanted = count(outline_model(config, [spec], 2))
        chosen = replace(config, baseline=BaselineConfig(kind))
        assert count(outline_model(chosen, [spec], 2)) == pytest.approx(wanted, rel=0.1)
    model = make(kind, spec)
    assert count(model) == count(outline_model(model.config, [spec], 2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_every_weight_of_a_baseline_learns(kind, ndim):
    model, inputs = make(kind, system(ndim)).train(), rough_inputs(system(ndim), points=16)
    prediction = model(inputs)
    assert prediction.fields.shape == inputs.values[:, -1].shape
    prediction.normalised.square().sum().backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


@pytest.mark.parametrize("kind", KINDS)
def test_a_baseline_without_parameters_says_which_weights_are_unused(kind):
    spec = system(parameters=())
    model = make(kind, spec).train()
    model(rough_inputs(spec)).normalised.sum().backward()
    assert {p for p in model.parameters() if p.grad is None} == set(model.unused(spec))


@pytest.mark.parametrize("predict", ["delta", "state"])
@pytest.mark.parametrize("kind", KINDS)
def test_units_do_not_matter(kind, predict):
    model, inputs = make(kind, system(), predict=predict), rough_inputs(system())
    with torch.no_grad():
        first = model(inputs).fields
        second = model(replace(inputs, values=1000 * inputs.values + 7)).fields
    # float32 of values a thousand times larger.
    torch.testing.assert_close(second, 1000 * first + 7, rtol=1e-3, atol=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_lead_time_and_parameters_are_heard(kind):
    model, inputs = make(kind, system()), rough_inputs(system())
    with torch.no_grad():
        first = model(inputs).normalised
        for other in (
            replace(inputs, lead_time=2 * inputs.lead_time),
            replace(inputs, parameters=3 * inputs.parameters),
        ):
            assert not torch.allclose(model(other).normalised, first)


def test_static_variables_are_read_and_not_predicted():
    spec = replace(system(), variables=(Variable("force", static=True), Variable("a")))
    model, inputs = make("unet", spec), rough_inputs(spec)
    with torch.no_grad():
        first = model(inputs).normalised
        values = inputs.values.clone()
        values[:, :, 0] = values[:, :, 0].flip(-1)
        assert first.shape[1] == 1
        assert not torch.allclose(model(replace(inputs, values=values)).normalised, first)


def test_a_unet_commutes_with_shifts_by_its_coarsest_cell_where_the_domain_is_periodic():
    model, inputs = make("unet", system(1)), rough_inputs(system(1), points=128)
    cell = 2**LEVELS
    rolled = replace(inputs, values=inputs.values.roll(cell, -1))
    with torch.no_grad():
        expected = model(inputs).normalised.roll(cell, -1)
        # Sums in another order: float32 rounding.
        torch.testing.assert_close(model(rolled).normalised, expected, rtol=1e-3, atol=1e-4)
        walls = torch.full_like(inputs.boundaries, int(Boundary.WALL))
        found = model(replace(rolled, boundaries=walls)).normalised
    assert not torch.allclose(found, expected, rtol=1e-3, atol=1e-4)


@NEEDS_FNO
def test_an_fno_without_positions_commutes_with_shifts_where_the_domain_is_periodic():
    model = make("fno", system(), absolute_position=False)
    inputs = rough_inputs(system())
    rolled = replace(inputs, values=inputs.values.roll((3, 5), (-2, -1)))
    with torch.no_grad():
        expected = model(inputs).normalised.roll((3, 5), (-2, -1))
        torch.testing.assert_close(model(rolled).normalised, expected, rtol=1e-3, atol=1e-4)


def test_each_sample_is_padded_by_its_own_boundaries():
    values = torch.arange(4.0).expand(2, 1, 4)
    wraps = torch.tensor([[True], [False]])
    assert padded(values, wraps)[:, 0].tolist() == [[3, 0, 1, 2, 3, 0], [0, 0, 1, 2, 3, 3]]


@pytest.mark.parametrize("points", [1, 2, 3, 7, 16, 33])
def test_a_unet_takes_grids_of_any_size(points):
    model = make("unet", system())
    with torch.no_grad():
        assert model(rough_inputs(system(), points=points)).fields.shape[-2:] == (points, points)


@NEEDS_FNO
def test_an_fno_refuses_an_odd_axis_and_takes_walls():
    model, inputs = make("fno", system()), rough_inputs(system(), points=15)
    with pytest.raises(ShapeError, match="Axis Y of the fields has 15 grid points"):
        model(inputs)
    inputs = rough_inputs(system())
    walls = torch.full_like(inputs.boundaries, int(Boundary.WALL))
    with torch.no_grad():
        found = model(replace(inputs, boundaries=walls)).normalised
        assert not torch.allclose(found, model(inputs).normalised)


def counted(model: Baseline, inputs: Inputs) -> tuple[int, int]:
    """Operations of a forward and of a backward pass, as torch counts them."""
    counter = FlopCounterMode(display=False)
    with counter:
        loss = model(inputs).normalised.square().sum()
        forward = counter.get_total_flops()
        loss.backward()
    return forward, counter.get_total_flops() - forward


@pytest.mark.parametrize("points", [16, 19])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_operations_of_a_unet_equal_those_that_torch_counts(ndim, points):
    inputs = rough_inputs(system(ndim), points=points)
    model = make("unet", system(ndim)).train()
    cost = model.cost(inputs, model(inputs))
    forward, backward = counted(model, inputs)
    # 1 %, as of the transformer.
    assert sum(cost.forward.values()) == pytest.approx(forward, rel=0.01)
    assert sum(cost.backward.values()) == pytest.approx(backward, rel=0.01)


@NEEDS_FNO
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_operations_of_an_fno_equal_those_that_torch_counts_but_for_complex_numbers(ndim):
    """Torch takes a complex product for a real one, and does not count transforms."""
    inputs = rough_inputs(system(ndim), points=16)
    model = make("fno", system(ndim)).train()
    cost = model.cost(inputs, model(inputs))
    for side, found in zip((cost.forward, cost.backward), counted(model, inputs), strict=True):
        real = sum(side.values()) - side["fourier"] - 3 * side["spectral"] // 4
        assert real == pytest.approx(found, rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_folder_gives_the_baseline_back_to_the_bit(kind, tmp_path):
    model, inputs = make(kind, system()), rough_inputs(system())
    save_pretrained(model, tmp_path / "model", {})
    loaded = matey.from_pretrained(tmp_path / "model")
    assert loaded.config == model.config
    assert loaded.config.baseline.width
    with torch.no_grad():
        assert torch.equal(loaded(inputs).fields, model(inputs).fields)
    assert [*outline(tmp_path / "model").state_dict()] == [*model.state_dict()]
    assert kind in (tmp_path / "model/README.md").read_text()


def test_a_model_folder_with_the_settings_of_a_baseline_beside_the_others_still_loads(tmp_path):
    model, folder = make("unet", system()), tmp_path / "model"
    save_pretrained(model, folder, {})
    description = json.loads((folder / "config.json").read_text())
    description["model"] |= description["model"].pop("baseline")
    (folder / "config.json").write_text(json.dumps(description))
    assert matey.from_pretrained(folder).config == model.config
    assert current({"kind": "matey", "width": None, "depth": 2}) == {
        "depth": 2,
        "baseline": {"kind": "none", "width": None},
    }


def test_what_a_baseline_cannot_do_is_refused_with_the_way_out():
    model = make("unet", system())
    with pytest.raises(ConfigError, match=r"is unlike 'toy' \(2D, a, b, nu\).*--baseline unet"):
        model.add_systems([system(variables=("a", "c"))])
    with pytest.raises(DataError, match=r"\(1D, a, b, nu\) is unlike 'toy'.*--baseline unet"):
        model.check_system(system(1))
    with pytest.raises(ConfigError, match=r"whole frames, U-Net of width .* nothing to refine"):
        set_token_budget(model, 100)
    with pytest.raises(ConfigError, match="No width gives a U-Net the"):
        make("unet", system(3), embed_dim=2, heads=1, depth=1, latent_channels=1, patches=(1,))
    with pytest.raises(ConfigError, match=r"model\.baseline\.modes is 3, expected an even number"):
        BaselineConfig("fno", modes=3)


def test_an_fno_without_neuraloperator_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "neuralop.models", None)  # as where it is not installed
    with pytest.raises(ConfigError, match=r"pip install 'matey-pde\[fno\]'"):
        make("fno", system())
