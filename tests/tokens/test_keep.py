"""What a projection keeps: totals, and a vector without divergence."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from matey.cli.options import given, make_parser, parse, run_config
from matey.cli.train import add_arguments
from matey.config import KeepConfig, ModelConfig, RunConfig
from matey.config.data import DataConfig, SourceConfig
from matey.errors import ConfigError, ShapeError
from matey.fields import Boundary, Field, Grid, SystemSpec, Variable, stack_fields
from matey.nn.folder import from_pretrained, save_pretrained
from matey.tokens.keep import keep_totals
from matey.tokens.normalise import measure
from matey.train.run_folder import to_yaml
from tests.nn.helpers import tiny_model

SPACING = (0.5, 0.2, 0.3)  # unequal: a divergence has to know
AROUND = ((Boundary.PERIODIC,) * 2,) * 3
TOTALS = KeepConfig(means=("density", "density*velocity_x"))
FREE = KeepConfig(means=("density", "density*velocity_x"), divergence=("velocity",))


def gas(ndim: int, *more: Variable) -> SystemSpec:
    velocity = [Variable(f"velocity_{axis}", axes=(axis,)) for axis in "xyz"[:ndim]]
    return SystemSpec("gas", ndim, (Variable("density"), *velocity, *more))


def history(spec: SystemSpec, points: int = 8, sides=AROUND, positions=((), (), ())):
    """Three frames of noise, of which the density is 3 with deviations of a tenth."""
    generator = torch.Generator().manual_seed(spec.ndim)
    shape = (1,) * (3 - spec.ndim) + (points,) * spec.ndim
    values = torch.randn(3, len(spec.variables), *shape, generator=generator)
    values[:, 0] = 3 + values[:, 0] / 10
    for i, variable in enumerate(spec.variables):
        if variable.mask:
            values[:, i] = (values[0, i] > -0.5).float()
    grid = Grid(("z", "y", "x")[3 - spec.ndim :], shape, (0.0,) * 3, SPACING, positions)
    return Field(values, torch.arange(3).double(), grid, sides, {}, spec)


def projected(spec: SystemSpec, keep: KeepConfig, points: int = 8, **changed):
    """The inputs, and a random frame as it is kept, with units."""
    inputs = stack_fields([history(spec, points, **changed)], [1.0], ["test"])
    statistics = measure(inputs.held(inputs.values), inputs.space).take(spec.predicted)
    shape = inputs.values[:, -1, list(spec.predicted)].shape
    frame = torch.randn(shape, generator=torch.Generator().manual_seed(7))
    return inputs, statistics, keep_totals(frame, statistics, inputs, keep)


def divergence(vector: np.ndarray) -> np.ndarray:
    """Of components x, y, z on a periodic grid, by whole Fourier transforms in float64."""
    total = np.zeros(vector.shape[1:])
    for i, component in enumerate(vector):
        axis = 2 - i
        k = 2 * np.pi * np.fft.fftfreq(component.shape[axis], SPACING[axis])
        k[np.abs(k) > np.pi / SPACING[axis] * (1 - 1e-9)] = 0  # two points a period
        shape = np.ones(3, int)
        shape[axis] = -1
        total += np.fft.ifft(
            1j * k.reshape(shape) * np.fft.fft(component, axis=axis), axis=axis
        ).real
    return total


@pytest.mark.parametrize("points", [8, 7])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_totals_stay_and_no_divergence_is_left(ndim, points):
    spec = gas(ndim)
    inputs, statistics, kept = projected(spec, FREE, points)
    fields, last = statistics.restore(kept)[0].double(), inputs.values[0, -1].double()
    # Rounding of float32, of a mean of numbers near 3 and of derivatives near 10.
    assert float(fields[0].mean()) == pytest.approx(float(last[0].mean()), rel=1e-6)
    momentum = float((last[0] * last[1]).mean())
    assert float((fields[0] * fields[1]).mean()) == pytest.approx(momentum, abs=3e-6)
    assert np.abs(divergence(fields[1:].numpy())).max() < 3e-5
    given = torch.randn(kept.shape, generator=torch.Generator().manual_seed(7))
    given = statistics.restore(given)[0].double()
    if ndim > 1:
        assert np.abs(divergence(given[1:].numpy())).max() > 1
        # The density has been shifted, no more.
        change = fields[0] - given[0]
        torch.testing.assert_close(change, change.mean().expand_as(change), atol=1e-5, rtol=0)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_frame_that_complies_stays_as_it_is(ndim):
    inputs, statistics, kept = projected(gas(ndim), FREE)
    again = keep_totals(kept, statistics, inputs, FREE)
    torch.testing.assert_close(again, kept, rtol=0, atol=5e-6)  # rounding: 3 over 0.1 in units


def test_the_projection_is_the_smallest_change():
    _, statistics, kept = projected(gas(2), FREE)
    frame = torch.randn(kept.shape, generator=torch.Generator().manual_seed(7))
    change = ((frame - kept) * statistics.scale)[0, 1:].double()
    change = change - change.mean(dim=(1, 2, 3), keepdim=True)
    left = statistics.restore(kept)[0, 1:].double()
    left = left - left.mean(dim=(1, 2, 3), keepdim=True)
    # A gradient is orthogonal to all that is free of divergence.
    assert abs(float((change * left).mean())) < 1e-6 * float(left.square().mean())
    assert float(change.square().mean()) > 0.1 * float(left.square().mean())


def test_means_are_by_volume_and_where_there_is_a_field():
    spec = gas(2, Variable("land", static=True, mask=True))
    positions = ((), (), tuple(float(x) for x in np.cumsum(np.arange(1, 9))))
    walls = ((Boundary.PERIODIC,) * 2, (Boundary.WALL,) * 2, (Boundary.WALL,) * 2)
    inputs, statistics, kept = projected(spec, TOTALS, sides=walls, positions=positions)
    assert inputs.space is not None
    volumes = inputs.space.volumes[0, 0].double()
    assert bool((volumes == 0).any())
    fields, last = statistics.restore(kept)[0].double(), inputs.values[0, -1].double()
    mass, momentum = (float((f * volumes).sum()) for f in (last[0], last[0] * last[1]))
    assert float((fields[0] * volumes).sum()) == pytest.approx(mass, rel=1e-6)
    assert float((fields[0] * fields[1] * volumes).sum()) == pytest.approx(momentum, abs=3e-6)


def test_a_weight_whose_mean_is_zero_shifts_nothing():
    """As of a tracer that is a deviation, whose own mean is kept at zero to rounding."""
    spec = gas(2, Variable("tracer"))
    inputs = stack_fields([history(spec)], [1.0], ["test"])
    inputs = replace(inputs, values=inputs.values - inputs.values.mean(dim=(3, 4, 5), keepdim=True))
    statistics = measure(inputs.values)
    frame = torch.randn(inputs.values[:, -1].shape, generator=torch.Generator().manual_seed(7))
    frame.requires_grad_()
    alone, both = (
        keep_totals(frame, statistics, inputs, KeepConfig(means=means))
        for means in (("tracer",), ("tracer", "tracer*velocity_x"))
    )
    assert torch.equal(both, alone)
    both.square().sum().backward()
    assert bool(frame.grad.isfinite().all())


def test_where_nothing_is_to_be_kept_no_bit_changes():
    spec, field = gas(2), history(gas(2), 16)
    plain = tiny_model(spec).rollout(field, 3).values
    other = tiny_model(spec, keep={"another": FREE}).rollout(field, 3).values
    assert torch.equal(plain, other)
    assert not torch.equal(plain, tiny_model(spec, keep={"gas": FREE}).rollout(field, 3).values)


def test_rollouts_and_saved_models_keep_what_is_stated(tmp_path):
    spec, field = gas(2), history(gas(2), 16)
    model = tiny_model(spec, keep={"gas": FREE})
    save_pretrained(model, tmp_path / "model", {})
    loaded = from_pretrained(tmp_path / "model")
    assert loaded.config == model.config
    made = loaded.rollout(field, 12).values.double()
    last = field.values[-1].double()
    # Twelve roundings of float32.
    torch.testing.assert_close(
        made[:, 0].mean(dim=(1, 2, 3)), last[0].mean().expand(12), rtol=2e-6, atol=0
    )
    assert max(np.abs(divergence(one[1:].numpy())).max() for one in made) < 1e-4


def test_a_run_can_be_told_what_to_keep_and_writes_it_down(tmp_path):
    parser = make_parser("train", "train", "test")
    add_arguments(parser)
    words = ["--run", "unused", "--model.keep.gas.means", "[density,density*velocity_x]"]
    assert "gas" in given(parser, words).model.keep  # as fine-tuning reads them first
    config = run_config(parse(parser, [*words, "--model.keep.gas.divergence", "[velocity]"]))
    assert config.model.keep == {"gas": FREE}
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    words = ["--run", "unused", "--config", str(tmp_path / "config.yaml")]
    assert run_config(parse(parser, words)).model == config.model


def test_gradients_flow_through_what_is_kept():
    spec = gas(2)
    inputs = stack_fields([history(spec, 16)], [1.0], ["test"])
    model = tiny_model(spec, keep={"gas": FREE}).train()
    inputs = replace(inputs, values=inputs.values[:, 1:])
    model(inputs).normalised.square().mean().backward()
    slopes = [p.grad for p in model.blocks.parameters() if p.grad is not None]
    assert slopes
    assert all(bool(slope.isfinite().all()) for slope in slopes)
    assert any(bool((slope != 0).any()) for slope in slopes)


WALLS = ((Boundary.PERIODIC,) * 2, (Boundary.WALL,) * 2, (Boundary.PERIODIC,) * 2)
STRETCHED = ((), (), (0.0, 1.0, 2.0, 4.0, 6.0, 8.0, 9.0, 10.0))


@pytest.mark.parametrize(
    ("spec", "changed", "message"),
    [
        (gas(2), {"sides": WALLS}, "'gas' has sides that are not periodic: velocity can be"),
        (gas(2), {"positions": STRETCHED}, "'gas' has a stretched grid"),
        (gas(2, Variable("land", static=True, mask=True)), {}, "'gas' has a mask"),
    ],
)
def test_a_divergence_is_refused_where_it_has_no_fourier_series(spec, changed, message):
    with pytest.raises(ShapeError, match=message) as refused:
        projected(spec, FREE, **changed)
    assert "\n" not in str(refused.value)
    model = tiny_model(spec, keep={"gas": FREE})
    with pytest.raises(ShapeError, match=message):  # before anything is computed
        model.check(history(spec, **changed))


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (KeepConfig(means=("mass",)), r"gas\.means is 'mass', but the system predicts no mass"),
        (KeepConfig(divergence=("field",)), r"gas\.divergence is 'field', but .* no field_x"),
        (KeepConfig(means=("velocity_x*density",)), r"put it last, as density\*velocity_x\.$"),
    ],
)
def test_what_a_system_cannot_keep_is_refused(keep, message):
    with pytest.raises(ConfigError, match=message):
        tiny_model(gas(2), keep={"gas": keep}).check(history(gas(2)))


@pytest.mark.parametrize("means", [("a*b*c",), ("",), ("a", "b*a"), ("a*b", "b*c")])
def test_totals_that_cannot_be_kept_are_refused(means):
    with pytest.raises(ConfigError, match=r"model\.keep\.means"):
        KeepConfig(means=means)


def test_what_is_kept_names_a_system_of_the_data():
    data = DataConfig(systems=(SourceConfig("gas", ("file",)),))
    RunConfig(data=data, model=ModelConfig(keep={"gas": TOTALS}))
    with pytest.raises(ConfigError, match=r"model\.keep is .*one of the systems \['gas'\]"):
        RunConfig(data=data, model=ModelConfig(keep={"ga": TOTALS}))
