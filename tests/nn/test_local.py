"""The model with a local path and a stencil: the properties that all models have, and its own."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from matey.config import RefineConfig
from matey.fields import Batch, Boundary
from matey.nn.local import Local, dealt_out
from matey.nn.normalise import measure
from matey.nn.sides import beyond, outside
from matey.nn.stencil import SIZES, Stencils, growth
from matey.nn.usual import Usual
from tests.nn.helpers import rough_inputs, share_weights, system, tiny_model
from tests.nn.test_model import CLOSE, take

MODES = [("vit", "delta", "adap_mix"), ("svit", "state", "adap_mix"), ("avit", "delta", "adap_mul")]


def local_model(spec, **config):
    """A model with a local path, whose stencils are random."""
    model = tiny_model(spec, **({"local": 8, "levels": 1, "stencil": True} | config))
    generator = torch.Generator().manual_seed(1)
    for weight in model.stencils.weights.values():
        weight.data = torch.randn(weight.shape, generator=generator) * 0.1
    return model


def sided(inputs, kind, axis=2):
    """The inputs with another boundary at the two sides of an axis."""
    boundaries = inputs.boundaries.clone()
    boundaries[:, axis] = int(kind)
    return replace(inputs, boundaries=boundaries)


@pytest.mark.parametrize(("scheme", "predict"), [("vit", "delta"), ("svit", "state")])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_thresholds_0_and_1_equal_the_uniform_models(scheme, predict, ndim):
    spec = system(ndim)
    inputs = rough_inputs(spec)
    adaptive = local_model(spec, scheme=scheme, predict=predict)
    for threshold, patch in ((0.0, 4), (1.0, 8)):
        adaptive.config = replace(adaptive.config, refine=RefineConfig(threshold=threshold))
        uniform = local_model(
            spec, scheme=scheme, predict=predict, mode="uniform", patches=(patch,)
        )
        share_weights(adaptive, uniform)
        mixed, plain = adaptive(inputs), uniform(inputs)
        assert mixed.plan.tokens.tolist() == plain.plan.tokens.tolist()
        torch.testing.assert_close(mixed.normalised, plain.normalised, **CLOSE)


@pytest.mark.parametrize(("scheme", "predict", "mode"), MODES)
def test_a_sample_does_not_depend_on_its_batch_mates_whatever_their_sides(scheme, predict, mode):
    spec = system()
    inputs = rough_inputs(spec, points=32)
    inputs.boundaries[1] = int(Boundary.WALL)
    inputs.boundaries[2, 1, 0] = int(Boundary.OPEN)
    model = local_model(spec, scheme=scheme, predict=predict, mode=mode)
    together = model(inputs)
    for i in range(3):
        alone = model(take(inputs, i))
        torch.testing.assert_close(together.fields[i : i + 1], alone.fields, **CLOSE)


@pytest.mark.parametrize(("scheme", "predict", "mode"), MODES)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_shift_by_coarse_cells_commutes_with_the_model(scheme, predict, mode, ndim):
    spec = system(ndim)
    inputs = rough_inputs(spec, points=32 if ndim < 3 else 16)
    model = local_model(spec, scheme=scheme, predict=predict, mode=mode, absolute_position=False)
    axes, shift = (-1, -2, -3)[:ndim], (8, 16, 8)[:ndim]
    moved = replace(inputs, values=inputs.values.roll(shift, axes))
    torch.testing.assert_close(
        model(moved).normalised, model(inputs).normalised.roll(shift, axes), **CLOSE
    )


def test_units_scaled_by_a_power_of_two_change_no_bit():
    spec = system()
    inputs, model = rough_inputs(spec), local_model(spec)
    scale = torch.tensor([2.0**40, 2.0**-30])[:, None, None, None]
    before, after = model(inputs), model(replace(inputs, values=inputs.values * scale))
    assert torch.equal(before.normalised, after.normalised)


def test_lead_time_parameters_and_sides_matter_from_the_first_step_on():
    spec = system()
    inputs, model = rough_inputs(spec), local_model(spec, stencil=True)
    output = model(inputs).normalised
    for change in (
        {"lead_time": inputs.lead_time * 2},
        {"parameters": inputs.parameters * 2},
        {"boundaries": sided(inputs, Boundary.WALL).boundaries},
    ):
        other = model(replace(inputs, **change)).normalised
        assert float((other - output).detach().abs().max()) > 1e-4, change


def test_new_variables_leave_old_predictions_as_they_are():
    spec = system()
    inputs, model = rough_inputs(spec), local_model(spec)
    before = model(inputs).normalised
    model.add_systems([system(name="other", variables=("a", "c"), parameters=("Re",))])
    assert torch.equal(model(inputs).normalised, before)


@pytest.mark.parametrize("kind", list(Boundary))
def test_a_model_whose_features_say_nothing_is_the_stencil(kind):
    spec = system()
    inputs, model = sided(rough_inputs(spec), kind), local_model(spec)
    for vector in model.locals["2"].outputs.vectors.values():
        vector.data.zero_()
    output = model(inputs)
    fields = output.statistics.normalise(inputs.values)
    half = SIZES[2] // 2
    wraps = (inputs.boundaries == Boundary.PERIODIC).all(dim=2)[:, 1:]
    wide = beyond(fields[:, :, :, 0].flatten(1, 2), half, wraps, "nearest")
    weight = model.stencils.weights["toy"]
    step = torch.zeros_like(fields[:, -1, :, 0])
    for y in range(16):
        for x in range(16):
            piece = wide[:, :, y : y + 2 * half + 1, x : x + 2 * half + 1]
            step[:, :, y, x] = torch.einsum("bkyx,pkyx->bp", piece, weight)
    expected = fields[:, -1] + step[:, :, None]
    torch.testing.assert_close(output.normalised, expected, rtol=1e-4, atol=1e-4)


def heat(samples: int = 4, points: int = 32, rate: float = 0.2) -> Batch:
    """Frames of diffusion on a ring, each one step of the plain difference scheme later."""
    spec = system(1, "heat", (), ("a",))
    frame = torch.randn(samples, points, generator=torch.Generator().manual_seed(0))
    frames = [frame]
    for _ in range(2):
        frames.append(
            frames[-1] + rate * (frames[-1].roll(1, 1) + frames[-1].roll(-1, 1) - 2 * frames[-1])
        )
    values = torch.stack(frames, dim=1)[:, :, None, None, None]
    return Batch(
        values[:, :2], torch.ones(samples), torch.zeros(samples, 3, 2, dtype=torch.long),
        torch.zeros(samples, 0), spec, ("test",) * samples, values[:, 2],
    )  # fmt: skip


def test_the_fit_of_diffusion_steps_like_diffusion_and_enlarges_no_wave():
    batch, stencils = heat(), Stencils(2)
    stencils.add(batch.spec)
    stencils.fit(batch.spec, [batch] * 8)
    weight = stencils.weights["heat"].data
    assert growth(weight, (0,), 2) < 1.1
    fields = batch.values[:, :, :, 0, 0]
    step = stencils(fields, torch.ones(4, 1, dtype=torch.bool), "heat")
    wanted = (batch.target[:, :, 0, 0] - fields[:, -1]) / 1
    assert float((step - wanted).norm() / wanted.norm()) < 0.05


def test_growth_of_a_leapfrog_that_is_stable_and_of_one_that_is_not():
    # u'' = c^2 u_xx: the next frame from two, stable for Courant numbers up to 1.
    for courant, stable in ((0.9, True), (1.1, False)):
        c2 = courant**2
        weight = torch.zeros(1, 2, 3)
        weight[0, 0, 1] = -1.0
        weight[0, 1] = torch.tensor([c2, 1 - 2 * c2, c2])
        assert (growth(weight, (0,), 2) < 1 + 1e-3) == stable


def test_points_beyond_the_sides():
    values = torch.arange(4.0).view(1, 1, 4)
    ring, wall = torch.tensor([[True]]), torch.tensor([[False]])
    assert beyond(values, 2, ring, "zero")[0, 0].tolist() == [2, 3, 0, 1, 2, 3, 0, 1]
    assert beyond(values, 2, wall, "zero")[0, 0].tolist() == [0, 0, 0, 1, 2, 3, 0, 0]
    assert beyond(values, 2, wall, "nearest")[0, 0].tolist() == [0, 0, 0, 1, 2, 3, 3, 3]
    sides = torch.tensor([[[int(Boundary.WALL), int(Boundary.OPEN)]]])
    assert outside(sides, (4,), 2, values)[0].tolist() == [
        [1, 1, 0, 0, 0, 0, 0, 0],
        [0] * 6 + [1, 1],
    ]


def test_channels_go_to_the_points_of_their_piece():
    values = torch.arange(8.0).view(1, 4, 1, 2)  # a variable, pieces of 2 x 2 points
    fields = dealt_out(values, 1, 2)
    assert fields[0, 0].tolist() == [[0, 2, 1, 3], [4, 6, 5, 7]]


def test_a_sample_is_told_how_large_it_is_beside_what_is_usual():
    spec = system()
    inputs, usual = rough_inputs(spec), Usual()
    usual.add(spec)
    statistics = measure(inputs.values)
    ratios = usual.ratios(inputs.values, statistics, spec, {spec.name: spec})
    assert bool((ratios == 1).all())  # nothing is measured yet
    usual.measure(spec, [Batch(**vars(inputs), target=inputs.values[:, -1])])
    ratios = usual.ratios(inputs.values, statistics, spec, {spec.name: spec})
    torch.testing.assert_close(ratios.log().mean(dim=0), torch.zeros(ratios.shape[1:]), **CLOSE)
    twice = usual.ratios(2 * inputs.values, measure(2 * inputs.values), spec, {spec.name: spec})
    torch.testing.assert_close(twice, 2 * ratios)


def test_gradients_equal_finite_differences():
    torch.manual_seed(0)
    local = Local(1, 2, 4, (1, 1), 3, 2, 1)
    local.add(["a", "b"], ["a"])
    local = local.double()
    fields = torch.randn(2, 2, 2, 8, dtype=torch.float64)
    case = torch.randn(2, 3, dtype=torch.float64)
    ratio = torch.tensor([[0.5, 2.0], [1.0, 3.0]], dtype=torch.float64)
    for kind in Boundary:
        sides = torch.full((2, 1, 2), int(kind))

        def output(values, case, sides=sides):
            features = local.read(values, ratio, ["a", "b"], sides, case)
            return local.write(features, ratio[:, :1], ["a"], sides, case)

        inputs = (fields.requires_grad_(), case.requires_grad_())
        assert torch.autograd.gradcheck(output, inputs)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_operations_are_those_that_torch_counts(ndim):
    spec = system(ndim)
    inputs, model = rough_inputs(spec), local_model(spec, scheme="vit").train()
    with FlopCounterMode(display=False) as counter:
        prediction = model(inputs)
        prediction.normalised.sum().backward()
    counted = model.cost(inputs, prediction).operations
    # The sides' channels are counted as if they took no gradient.
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.02)
