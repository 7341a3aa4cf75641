"""The model with a local path and a stencil: the properties that all models have, and others."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from matey.config import ModelConfig
from matey.cost.count import count_parameters
from matey.cost.memory import step_memory
from matey.errors import ConfigError
from matey.fields import Batch, Boundary
from matey.fields.grid import stack_points
from matey.nn.local.mix import bounded, doubled
from matey.nn.local.path import Local, dealt_out, frame_and_changes, size_of_change
from matey.nn.local.sides import beyond, outside
from matey.nn.local.stencil import WIDTHS
from matey.nn.make import outline_model
from matey.nn.operations import count
from tests.nn.helpers import check_thresholds, rough_inputs, system, tiny_model
from tests.nn.test_stretched import GRIDS
from tests.nn.test_transformer import CLOSE, take

MODES = [("vit", "delta", "adap_mix"), ("svit", "state", "adap_mix"), ("avit", "delta", "adap_mul")]


def local_model(spec, **config):
    """A model with a local path, whose stencils and usual sizes are random."""
    usual = {"local": 8, "levels": 1, "waves": 3, "bound": 4, "stencil": True}
    model = tiny_model(spec, **(usual | config))
    generator = torch.Generator().manual_seed(1)
    for weight in model.stencils.weights.values():
        weight.data = torch.randn(weight.shape, generator=generator) * 0.1
    for logs in model.usual.logs.values():
        logs.data = torch.randn(logs.shape, generator=generator)
    return model


UNITS = torch.tensor([2.0**40, 2.0**-30])


def sided(inputs, kind, axis=2):
    """The inputs with another boundary at the two sides of an axis."""
    boundaries = inputs.boundaries.clone()
    boundaries[:, axis] = int(kind)
    return replace(inputs, boundaries=boundaries)


@pytest.mark.parametrize(("scheme", "predict"), [("vit", "delta"), ("svit", "state")])
@pytest.mark.parametrize(("ndim", "piece"), [(1, None), (2, None), (3, None), (2, 4), (3, 1)])
def test_thresholds_0_and_1_equal_the_uniform_models(scheme, predict, ndim, piece):
    # With fine patches of 4 there is nothing coarser than pieces of 4.
    settings = {
        "scheme": scheme,
        "predict": predict,
        "local_piece": piece,
        "levels": int(piece is None),
    }
    check_thresholds(local_model, system(ndim), **settings)


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


def test_units_scaled_by_a_power_of_two_change_no_bit_where_no_sizes_are_measured():
    spec = system()
    inputs, model = rough_inputs(spec), local_model(spec)
    scaled = replace(inputs, values=inputs.values * UNITS[:, None, None, None])
    assert not torch.equal(model(inputs).normalised, model(scaled).normalised)
    for logs in model.usual.logs.values():
        logs.data.zero_()
    assert torch.equal(model(inputs).normalised, model(scaled).normalised)


def test_other_units_change_nothing_where_sizes_were_measured_in_them():
    spec = system()
    inputs, model, other = rough_inputs(spec), local_model(spec), local_model(spec)
    scaled = replace(inputs, values=inputs.values * UNITS[:, None, None, None])
    for one, given in ((model, inputs), (other, scaled)):
        one.usual.measure(spec, [Batch(**vars(given), target=given.values[:, -1])])
        assert one.usual.measured(spec.name)
    torch.testing.assert_close(model(inputs).normalised, other(scaled).normalised, **CLOSE)


def test_changes_are_told_over_the_size_of_the_last_one_by_volume(monkeypatch):
    """Also as a model tells them on stretched grids."""
    inputs, shares = replace(rough_inputs(system()), points=stack_points(GRIDS)), []

    def told(fields, share):
        shares.append(share)
        return size_of_change(fields, share)

    monkeypatch.setattr("matey.nn.local.path.size_of_change", told)
    local_model(system())(inputs)
    (share,) = shares
    fields = inputs.values[:, :, :, 0]
    assert share.dtype is fields.dtype
    last = frame_and_changes(fields, size_of_change(fields, share))[:, -1]
    torch.testing.assert_close((last.square() * share).sum(dim=(2, 3)), torch.ones(3, 2))
    even = size_of_change(fields, torch.full_like(share, 1 / 256))
    torch.testing.assert_close(even, size_of_change(fields, None))
    assert not torch.allclose(frame_and_changes(fields, even)[:, -1], last)


def test_lead_time_parameters_and_sides_matter_from_the_first_step_on():
    spec = system()
    inputs, model = rough_inputs(spec), local_model(spec)
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
    assert not model.stencils.fitted("other")
    assert not model.usual.measured("other")
    model.add_systems([system(variables=("a", "c"))])
    assert not model.stencils.fitted("toy")  # it has other variables now
    assert not model.usual.measured("toy")


@pytest.mark.parametrize("kind", list(Boundary))
def test_a_model_whose_features_say_nothing_is_the_stencil(kind):
    spec = system()
    inputs, model = sided(rough_inputs(spec), kind), local_model(spec)
    for vector in model.local.path(2).outputs.vectors.values():
        vector.data.zero_()
    output = model(inputs)
    fields = output.statistics.normalise(inputs.values)
    half = WIDTHS[2] // 2
    wraps = (inputs.boundaries == Boundary.PERIODIC).all(dim=2)[:, 1:]
    wide = beyond(fields[:, :, :, 0].flatten(1, 2), half, wraps, "nearest")
    weight = model.stencils.weight("toy")
    step = torch.zeros_like(fields[:, -1, :, 0])
    for y in range(16):
        for x in range(16):
            piece = wide[:, :, y : y + 2 * half + 1, x : x + 2 * half + 1]
            step[:, :, y, x] = torch.einsum("bkyx,pkyx->bp", piece, weight)
    expected = fields[:, -1] + step[:, :, None]
    torch.testing.assert_close(output.normalised, expected, rtol=1e-4, atol=1e-4)


def test_points_beyond_the_sides():
    sides = torch.tensor([[[int(Boundary.WALL), int(Boundary.OPEN)]]])
    assert outside(sides, (4,), [(-2, 6)], torch.zeros(1))[0].tolist() == [
        [1, 1, 0, 0, 0, 0, 0, 0],
        [0] * 6 + [1, 1],
    ]


def test_channels_go_to_the_points_of_their_piece():
    values = torch.arange(8.0).view(1, 4, 1, 2)  # a variable, pieces of 2 x 2 points
    fields = dealt_out(values, 1, 2)
    assert fields[0, 0].tolist() == [[0, 2, 1, 3], [4, 6, 5, 7]]
    longer = torch.arange(8.0).view(1, 4, 2)  # pieces of four points on a line
    assert dealt_out(longer, 1, 4)[0, 0].tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


def test_levels_without_a_local_path_and_too_coarse_ones_are_refused():
    with pytest.raises(ConfigError, match=r"model.levels.*0 without model.local"):
        ModelConfig(levels=1)
    with pytest.raises(ConfigError, match=r"model.levels.*= 16 is no multiple of the 32 points"):
        ModelConfig(local=8, levels=4)
    assert ModelConfig(local=8, levels=3).piece == 2
    with pytest.raises(ConfigError, match=r"model.levels"):
        ModelConfig(local=8, levels=1, patches=(15, 5))


@pytest.mark.parametrize("settings", [{"local_piece": 2}, {"local": 8, "local_piece": 3}])
def test_pieces_that_patches_are_not_made_of_are_refused(settings):
    expected = (
        r"model.local_piece is \d, expected a divisor of model.patches = \(16, 8\), with a local"
    )
    with pytest.raises(ConfigError, match=expected):
        ModelConfig(**settings)
    with pytest.raises(ConfigError, match=r"model.local_piece is 0"):
        ModelConfig(local=8, local_piece=0)
    assert ModelConfig(local=8, local_piece=8).piece == 8


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_twice_the_resolution_is_linear_in_between(ndim):
    """Of an affine field, apart from the sides; and periodic sides are crossed."""
    places = torch.meshgrid(*[torch.arange(4.0)] * ndim, indexing="ij")
    values = sum(3**i * place for i, place in enumerate(places))[None, None]
    fine = torch.meshgrid(*[torch.arange(8.0) / 2 - 0.25] * ndim, indexing="ij")
    expected = sum(3**i * place for i, place in enumerate(fine))
    inside = (slice(1, -1),) * ndim
    for wraps in (True, False):
        made = doubled(values, torch.full((1, ndim), wraps), (0, 4))[0, 0]
        torch.testing.assert_close(made[inside], expected[inside])
    line = doubled(torch.arange(4.0)[None, None], torch.tensor([[True]]), (0, 4))[0, 0]
    assert line[[0, -1]].tolist() == [0.25 * 3, 0.75 * 3]


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_features_are_held_below_the_bound_and_small_ones_left_as_they_are(ndim):
    values = torch.randn(2, 8, *(4,) * ndim)
    assert bounded(values, 0) is values
    torch.testing.assert_close(bounded(0.01 * values, 4), 0.01 * values, rtol=1e-4, atol=0)
    sizes = bounded(1e4 * values, 4).square().mean(dim=1).sqrt()
    torch.testing.assert_close(sizes, torch.full_like(sizes, 4))


@pytest.mark.parametrize("bound", [0, 4])
def test_features_without_a_bound_grow_by_powers_and_with_it_by_sums(bound):
    torch.manual_seed(0)
    local = Local(2, 2, ModelConfig(embed_dim=4, heads=2, local=8, levels=2, bound=bound))
    local.add(["a"], ["a"])
    for name, weight in local.named_parameters():
        if name.endswith("out"):
            weight.data *= 10  # as after a training at too high a rate
    features, one = torch.randn(1, 8, 6, 6), torch.ones(1, 1)
    sides, case = torch.zeros(1, 2, 2, dtype=torch.int64), torch.zeros(1, 4)
    usual, large = (
        local.write(size * features, one, ["a"], sides, case).abs().max() for size in (1, 100)
    )
    assert (large < 3 * usual) == bool(bound)


@pytest.mark.parametrize("bound", [0, 2])
def test_gradients_equal_finite_differences(bound):
    torch.manual_seed(0)
    local = Local(1, 2, ModelConfig(embed_dim=4, heads=2, local=4, levels=2, bound=bound))
    local.add(["a", "b"], ["a"])
    local = local.double()
    fields = torch.randn(2, 2, 2, 8, dtype=torch.float64)
    case = torch.randn(2, 4, dtype=torch.float64)
    deviation = torch.tensor([[0.5, 2.0], [1.0, 3.0]], dtype=torch.float64)
    for kind in Boundary:
        sides = torch.full((2, 1, 2), int(kind))

        def output(values, case, sides=sides):
            features = local.read(values, deviation, ["a", "b"], sides, case)
            return local.write(features, deviation[:, :1], ["a"], sides, case)

        inputs = (fields.requires_grad_(), case.requires_grad_())
        assert torch.autograd.gradcheck(output, inputs)


@pytest.mark.parametrize("mode", ["adap_mix", "adap_mul"])
@pytest.mark.parametrize(("ndim", "piece"), [(1, None), (2, None), (3, None), (2, 4)])
def test_operations_are_those_that_torch_counts(ndim, piece, mode, monkeypatch):
    # The zeros between the weights of a stencil's points side by side are not counted.
    monkeypatch.setattr("matey.nn.local.stencil.LANES", 1)
    spec = system(ndim)
    inputs = rough_inputs(spec)
    settings = {"scheme": "vit", "mode": mode, "local_piece": piece}
    model = local_model(spec, **settings, waves=0).train()  # those in their own test
    with FlopCounterMode(display=False) as counter:
        prediction = model(inputs)
        total = prediction.normalised.sum()
        (total if prediction.base is None else total + prediction.base.sum()).backward()
    counted = model.cost(inputs, prediction).operations
    # The sides' channels are counted as if they took no gradient.
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.02)


@pytest.mark.parametrize("mode", ["adap_mix", "adap_mul"])
def test_memory_is_forecast_and_unused_weights_are_those_without_a_gradient(mode):
    spec, other = system(), system(1, "line", (), ("b", "c"))
    settings = {"local": 8, "levels": 1, "waves": 3, "stencil": True, "mode": mode}
    model = tiny_model(spec, other, **settings).train()
    inputs = rough_inputs(spec)
    prediction = model(inputs)
    total = prediction.normalised.square().sum()
    (total if prediction.base is None else total + prediction.base.square().sum()).backward()
    unused = {id(weight) for weight in model.unused(spec)}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            assert (weight.grad is None) == (id(weight) in unused), name
    outline = outline_model(model.config, [spec], 2)
    assert sum(count_parameters(model).values()) == count(model)
    memory = step_memory(outline, spec, model.plan_inputs(inputs))
    assert memory.total > 0
    assert memory.kept["encode"] > 0


def test_bfloat16_is_close_to_float32():
    spec = system()
    inputs, model = rough_inputs(spec), local_model(spec)
    exact = model(inputs).normalised
    with torch.autocast("cpu", torch.bfloat16):
        half = model(inputs).normalised
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, rtol=0.1, atol=0.1)
