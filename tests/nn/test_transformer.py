from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from matey.config import RefineConfig
from matey.errors import DataError
from matey.fields import Boundary, Field, Grid, Inputs, SystemSpec, Variable
from matey.nn.folder import set_token_budget
from tests.nn.helpers import check_thresholds, rough_inputs, system, tiny_model

MODES = [("vit", "delta"), ("svit", "state")]
# Two float32 paths through two blocks: rounding of some 1e-7 per operation.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.mark.parametrize(("scheme", "predict"), MODES)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_thresholds_0_and_1_equal_the_uniform_fine_and_coarse_models(scheme, predict, ndim):
    check_thresholds(tiny_model, system(ndim), scheme=scheme, predict=predict)


@pytest.mark.parametrize(("scheme", "predict"), MODES)
def test_the_output_of_a_sample_does_not_depend_on_its_batch_mates(scheme, predict):
    spec = system()
    inputs = rough_inputs(spec, points=32)
    model = tiny_model(spec, scheme=scheme, predict=predict)
    together = model(inputs)
    assert len(set(together.plan.tokens.tolist())) > 1, "the samples should differ in tokens"
    for i in range(3):
        alone = model(take(inputs, i))
        torch.testing.assert_close(together.fields[i : i + 1], alone.fields, **CLOSE)


def take(inputs: Inputs, i: int) -> Inputs:
    tensors = {k: v[i : i + 1] for k, v in vars(inputs).items() if isinstance(v, torch.Tensor)}
    return replace(inputs, **tensors, sources=inputs.sources[i : i + 1])


@pytest.mark.parametrize("predict", ["state", "delta"])
def test_units_scaled_by_a_power_of_two_change_neither_plan_nor_dimensionless_output(predict):
    spec = system()
    inputs = rough_inputs(spec)
    model = tiny_model(spec, predict=predict)
    scale = torch.tensor([2.0**40, 2.0**-30])[:, None, None, None]
    scaled = replace(inputs, values=inputs.values * scale)
    before, after = model(inputs), model(scaled)
    assert torch.equal(before.plan.refined, after.plan.refined)
    assert torch.equal(before.normalised, after.normalised)
    assert torch.equal(before.fields * scale, after.fields)


def test_units_scaled_by_any_factor_change_the_output_only_by_rounding():
    spec = system()
    inputs = rough_inputs(spec)
    model = tiny_model(spec)
    scaled = replace(
        inputs, values=inputs.values * torch.tensor([3.7e5, 1e-12])[:, None, None, None]
    )
    before, after = model(inputs), model(scaled)
    assert torch.equal(before.plan.refined, after.plan.refined)
    torch.testing.assert_close(before.normalised, after.normalised, **CLOSE)


@pytest.mark.parametrize(("scheme", "predict"), MODES)
def test_lead_time_parameters_and_boundaries_change_the_output_from_the_first_step_on(
    scheme, predict
):
    spec = system()
    model = tiny_model(spec, scheme=scheme, predict=predict)
    inputs = rough_inputs(spec)
    output = model(inputs).normalised
    walls = torch.full_like(inputs.boundaries, int(Boundary.WALL))
    for change in (
        {"lead_time": inputs.lead_time * 2},
        {"parameters": inputs.parameters * 2},
        {"boundaries": walls},
    ):
        other = model(replace(inputs, **change)).normalised
        # Far above rounding: a hundredth of a per cent of fields of size one.
        assert float((other - output).abs().max()) > 1e-4, change


@pytest.mark.parametrize(("scheme", "predict"), MODES)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_without_absolute_position_a_shift_by_coarse_cells_commutes_with_the_model(
    scheme, predict, ndim
):
    spec = system(ndim)
    inputs = rough_inputs(spec, points=32 if ndim < 3 else 16)
    model = tiny_model(spec, scheme=scheme, predict=predict, absolute_position=False)
    axes = (-1, -2, -3)[:ndim]
    shift = (8, 16, 8)[:ndim]
    moved = replace(inputs, values=inputs.values.roll(shift, axes))
    torch.testing.assert_close(
        model(moved).normalised, model(inputs).normalised.roll(shift, axes), **CLOSE
    )
    located = tiny_model(spec, scheme=scheme, predict=predict)
    change = located(moved).normalised - located(inputs).normalised.roll(shift, axes)
    assert float(change.abs().max()) > 1e-4, "absolute position should be felt"


def test_each_side_has_a_boundary_of_its_own():
    spec = system()
    model = tiny_model(spec)
    inputs = rough_inputs(spec)
    outputs = []
    for axis in (1, 2):
        for side in (0, 1):
            boundaries = inputs.boundaries.clone()
            boundaries[:, axis, side] = int(Boundary.OPEN)
            outputs.append(model(replace(inputs, boundaries=boundaries)).normalised)
    for i, first in enumerate(outputs):
        for second in outputs[i + 1 :]:
            assert float((first - second).abs().max()) > 1e-5


def test_a_new_system_leaves_the_predictions_for_old_ones_bit_identical():
    old = system()
    model = tiny_model(old)
    inputs = rough_inputs(old)
    before = model(inputs).fields
    model.add_systems([system(3, "new", parameters=("eta",), variables=("c", "d", "a"))])
    assert torch.equal(model(inputs).fields, before)
    new = rough_inputs(model.specs["new"])
    assert model(new).fields.shape == (3, 3, 16, 16, 16)


def test_the_order_of_variables_does_not_matter():
    spec = system()
    model = tiny_model(spec)
    inputs = rough_inputs(spec)
    turned = replace(spec, variables=spec.variables[::-1])
    output = model(replace(inputs, spec=turned, values=inputs.values.flip(2))).fields
    torch.testing.assert_close(output.flip(1), model(inputs).fields, **CLOSE)


def test_a_constant_variable_gives_a_finite_prediction():
    spec = system()
    inputs = rough_inputs(spec)
    values = inputs.values.clone()
    values[:, :, 0] = 300.0
    values[0] = 0.0
    prediction = tiny_model(spec)(replace(inputs, values=values))
    assert bool(prediction.fields.isfinite().all())
    assert prediction.plan.tokens[0] == 4, "still water is not refined"


def test_static_variables_are_read_but_not_predicted():
    variables = (Variable("a"), Variable("force", static=True))
    spec = SystemSpec("forced", 2, variables, (), 1.0)
    model = tiny_model(spec)
    inputs = rough_inputs(spec)
    output = model(inputs).fields
    assert output.shape[1] == 1
    values = inputs.values.clone()
    values[:, :, 1] = values[:, :, 1].flip(-1)
    other = model(replace(inputs, values=values)).fields
    assert float((other - output).abs().max()) > 1e-4


def test_gradients_reach_every_weight():
    spec = system()
    model = tiny_model(spec).train()
    model(rough_inputs(spec, points=32)).normalised.square().mean().backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert still == []


def test_drop_path_reaches_the_blocks_and_only_in_training():
    spec = system()
    model = tiny_model(spec, drop_path=0.9)
    inputs = rough_inputs(spec)
    assert torch.equal(model(inputs).fields, model(inputs).fields)
    model.train()
    assert not torch.equal(model(inputs).fields, model(inputs).fields)


def field_of(spec: SystemSpec, times: int = 3, points: int = 16) -> Field:
    inputs = rough_inputs(spec, points, samples=1, times=times)
    grid = Grid(("y", "x"), (1, points, points), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    sides = (Boundary.PERIODIC, Boundary.PERIODIC)
    moments = torch.arange(times, dtype=torch.float64) * spec.dt
    return Field(inputs.values[0], moments, grid, (sides,) * 3, {"nu": 0.1}, spec)


def test_a_rollout_is_steps_one_after_the_other_and_keeps_static_variables():
    variables = (Variable("a"), Variable("force", static=True))
    spec = SystemSpec("forced", 2, variables, ("nu",), 0.5)
    model, field = tiny_model(spec), field_of(spec)
    whole = model.rollout(field, steps=3)
    steps = list(model.rollout_steps(field, steps=3))
    assert torch.equal(whole.values, torch.cat([step.values for step in steps]))
    assert whole.times.tolist() == [1.5, 2.0, 2.5]
    assert torch.equal(whole.values[:, 1], field.values[-1:, 1].expand(3, -1, -1, -1))
    again = model.rollout(
        replace(
            field,
            values=torch.cat([field.values, steps[0].values]),
            times=torch.cat([field.times, steps[0].times]),
        ),
        steps=1,
    )
    assert torch.equal(again.values[0], steps[1].values[0])


def test_the_plan_of_a_field_is_that_of_its_last_frames():
    spec = system()
    model, field = tiny_model(spec), field_of(spec, times=5)
    plan = model.plan(field)
    assert len(plan.leaves) == int(plan.tokens)
    recent = replace(field, values=field.values[-2:], times=field.times[-2:])
    assert torch.equal(plan.refined, model.plan(recent).refined)


@pytest.mark.parametrize("rule", [{"bulk": 0.9}, {"fraction": 0.5}, {"threshold": 0.3}])
def test_a_token_budget_takes_the_place_of_any_other_rule(rule):
    model = tiny_model(system(2), refine=RefineConfig(**rule))
    set_token_budget(model, 13)
    assert model.plan_inputs(rough_inputs(system(2), samples=2)).tokens.tolist() == [13, 13]


def test_unknown_variables_and_short_histories_are_refused_by_name():
    model = tiny_model(system())
    with pytest.raises(DataError, match=r"'velocity_z'.*Fine-tune"):
        model.plan(field_of(system(variables=("a", "velocity_z"))))
    with pytest.raises(DataError, match="1 frames of system 'toy' were given, the model needs 2"):
        model.rollout(field_of(system(), times=1), steps=1)


def test_a_parameter_the_model_never_saw_is_ignored_with_a_warning(caplog):
    model = tiny_model(system(parameters=()))
    prediction = model.rollout(field_of(system()), steps=1)
    assert bool(prediction.values.isfinite().all())
    assert "Parameter 'nu' is new to the model" in caplog.text


class Summing(TorchDispatchMode):
    """Hears of sums whose order threads decide: on a CPU, of indexed values with a gradient."""

    def __init__(self):
        super().__init__()
        self.heard = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "index_put" in str(function) and (*args, False, False)[3] is True:
            self.heard.append([tuple(a.shape) for a in args if isinstance(a, torch.Tensor)])
        return function(*args, **(kwargs or {}))


def test_a_gradient_is_the_same_however_many_threads_compute_it():
    vector = torch.zeros(2, 3, requires_grad=True)
    with Summing() as by_index:
        vector[torch.tensor([0, 1, 1])].sum().backward()
    assert by_index.heard  # as it would be
    spec = system()
    for scheme in ("vit", "svit", "avit"):
        for mode, patches in (("uniform", (4,)), ("adap_mix", (8, 4)), ("adap_mul", (8, 4))):
            model = tiny_model(spec, scheme=scheme, mode=mode, patches=patches)
            with Summing() as found:
                model(rough_inputs(spec)).normalised.square().mean().backward()
            assert found.heard == [], (scheme, mode)
