"""The least-squares stencil: laws of neighbours are found, and no wave grows."""

from dataclasses import replace

import pytest
import torch

from matey.config import BaselineConfig, ModelConfig, WindowConfig
from matey.config.training import RunConfig
from matey.errors import ConfigError, DataError
from matey.fields import Batch, Boundary, SystemSpec, Variable
from matey.nn.local.sides import CONVOLUTION, beyond
from matey.nn.local.stencil import GROWTH, Stencils, by_name, convolved, growth, stand_in
from matey.nn.make import make_model
from tests.nn.helpers import rough_inputs, system

SIDES = [Boundary.PERIODIC, Boundary.WALL, Boundary.OPEN]
ALL = 10**9


def batch_of(spec: SystemSpec, values, target, side=Boundary.PERIODIC) -> Batch:
    given = rough_inputs(spec, samples=len(values))
    sides = torch.full((len(values), 3, 2), int(side))
    return Batch(**{**vars(given), "values": values, "boundaries": sides, "target": target})


def diffused(fields, side):
    """A step of diffusion of each variable, of `b` half as fast."""
    ndim = sum(count > 1 for count in fields.shape[-3:])
    flat = fields.reshape(*fields.shape[:2], *fields.shape[5 - ndim :])
    wraps = torch.full((len(fields), ndim), side == Boundary.PERIODIC)
    more = beyond(flat, 1, wraps, "nearest")
    change = -2 * ndim * flat
    for axis in range(2, 2 + ndim):
        for start in (0, 2):
            part = more
            for other in range(2, 2 + ndim):
                first = start if other == axis else 1
                part = part.narrow(other, first, flat.shape[other])
            change = change + part
    made = flat + 0.1 * change
    made[:, 1] -= 0.05 * change[:, 1]
    return made.reshape(fields.shape)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_law_of_neighbours_is_found_to_rounding(ndim, side):
    spec = system(ndim)
    torch.manual_seed(0)
    shape = (1,) * (3 - ndim) + (8,) * ndim

    def example(samples):
        first = torch.randn(samples, 2, *shape)
        history = torch.stack([first, diffused(first, side)], dim=1)
        target = diffused(history[:, -1], side)
        return batch_of(spec, history, target, side)

    model = make_model(config(3), [spec], history=2)
    model.stencils.fit(spec, [example(40)], ALL, seed=0)
    unseen = example(3)
    with torch.no_grad():
        made = model(unseen).fields
    change = (unseen.target - unseen.values[:, -1]).square().mean().sqrt()
    assert float((made - unseen.target).abs().max()) < 1e-4 * float(change)


def config(width=None):
    return ModelConfig(baseline=BaselineConfig("stencil", width))


@pytest.mark.parametrize("moves", [1, -2])
def test_a_wave_that_moves_is_exact_and_crosses_a_periodic_side(moves):
    spec = system(1, variables=("a",))
    torch.manual_seed(0)
    now = torch.randn(40, 1, 1, 1, 32)
    history = torch.stack([now.roll(-moves, -1), now], dim=1)
    model = make_model(config(5), [spec], history=2)
    model.stencils.fit(spec, [batch_of(spec, history, now.roll(moves, -1))], ALL, seed=0)
    field = history[:4]
    for _ in range(50):
        with torch.no_grad():
            frame = model(batch_of(spec, field, field[:, -1])).fields
        field = torch.stack([field[:, -1], frame], dim=1)
    error = (field[:, -1] - now[:4].roll(50 * moves, -1)).square().mean().sqrt()
    assert float(error) < 1e-3


def test_the_growth_of_leapfrog_is_one_and_beyond_its_limit_is_that_of_its_roots():
    """u' = 2u - u₋ + c² δ²u: neutral for c ≤ 1; at c > 1 the shortest wave grows by the larger root
    of r² - (2 - 4c²) r + 1."""
    spec = system(1, variables=("a",))
    for courant in (0.5, 1.0, 1.2):
        square = courant**2
        # Increments: u' - u = u - u₋ + c² δ²u, weights of the frame before and of the last.
        weights = torch.tensor([[0, -1, 0, square, 1 - 2 * square, square]]).double().T
        middle = 1 - 2 * square
        expected = abs(middle) + max(0.0, middle**2 - 1) ** 0.5 if courant > 1 else 1.0
        assert growth(weights, spec, history=2) == pytest.approx(expected, abs=1e-5)


def test_noise_and_instability_do_not_make_waves_grow():
    spec = system(2)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(8, 2, 2, 1, 12, 12, generator=generator)
    target = 5 * values[:, -1] - 5 * values[:, -1].roll(1, -1)
    stencils = Stencils(history=2, width=3)
    stencils.add(spec)
    stencils.fit(spec, [batch_of(spec, values, target)], ALL, seed=0)
    weights = stencils.weight(spec.name).flatten(1).T.double()
    assert bool(weights.any())
    assert growth(weights, spec, history=2) <= GROWTH + 1e-5
    assert growth(7 * weights, spec, history=2) > GROWTH


def test_the_order_of_variables_does_not_matter():
    one, other = system(2, variables=("b", "a", "c")), system(2, variables=("c", "a", "b"))
    still = Variable("depth", static=True)
    one = replace(one, variables=(still, *one.variables))
    other = replace(other, variables=(*other.variables, still))
    names = [variable.name for variable in one.variables]
    order = [names.index(variable.name) for variable in other.variables]
    torch.manual_seed(0)
    values, target = torch.randn(6, 2, 4, 1, 8, 8), torch.randn(6, 4, 1, 8, 8)
    model = make_model(config(3), [one], history=2)
    model.stencils.fit(one, [batch_of(one, values, target)], 50, seed=0)
    with torch.no_grad():
        made = model(batch_of(one, values, target)).fields
        again = model(batch_of(other, values[:, :, order], target[:, order])).fields
    there = [one.variables[i].name for i in one.predicted]
    back = [there.index(other.variables[i].name) for i in other.predicted]
    assert torch.equal(made[:, back], again)
    assert by_name(one) == [names.index(name) for name in sorted(names)]


def test_sides_are_those_of_each_sample():
    spec = system(1, variables=("a",))
    model = make_model(config(5), [spec], history=1)
    torch.nn.init.normal_(model.stencils.weight(spec.name))
    inputs = rough_inputs(spec, samples=2, times=1)
    mixed = replace(inputs, boundaries=torch.stack([torch.zeros(3, 2), torch.ones(3, 2)]).long())
    with torch.no_grad():
        made = model(mixed).fields
        for i in range(2):
            parts = {"values": mixed.values[i : i + 1], "boundaries": mixed.boundaries[i : i + 1]}
            parts |= {"lead_time": torch.ones(1), "parameters": mixed.parameters[i : i + 1]}
            alone = replace(mixed, sources=("one",), **parts)
            torch.testing.assert_close(model(alone).fields, made[i : i + 1])


def test_fields_go_on_across_periodic_sides_and_stand_still_beyond_others():
    values = torch.arange(4.0).view(1, 1, 4).expand(2, -1, -1)
    wraps = torch.tensor([[True], [False]])
    assert beyond(values, 2, wraps, "nearest").squeeze(1).tolist() == [
        [2, 3, 0, 1, 2, 3, 0, 1],
        [0, 0, 0, 1, 2, 3, 3, 3],
    ]
    assert beyond(values, 6, wraps, "nearest")[0, 0, :8].tolist() == [2, 3, 0, 1, 2, 3, 0, 1]
    assert beyond(values, 1, wraps, "zero")[1, 0].tolist() == [0, 0, 1, 2, 3, 0]


@pytest.mark.parametrize("fill", ["zero", "nearest"])
@pytest.mark.parametrize("wraps", [(True, True), (True, False), (False, True), (False, False)])
def test_sides_alike_in_all_samples_are_those_of_samples_that_differ(wraps, fill):
    """Also their gradients, up to the order of sums of at most five numbers of about 1."""
    values = torch.randn(2, 3, 5, 4, requires_grad=True)
    alike, mixed = torch.tensor([wraps, wraps]), torch.tensor([wraps, (not wraps[0], not wraps[1])])
    one, other = (beyond(values, 2, each, fill) for each in (alike, mixed))
    assert torch.equal(one[0], other[0])
    weight = torch.randn_like(one)
    gradients = [torch.autograd.grad((made * weight)[0].sum(), values)[0] for made in (one, other)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-5)


def test_one_model_has_systems_of_all_kinds_and_says_what_it_has_not():
    one, two = system(1, "one", parameters=()), system(2, "two.b c", variables=("a", "c", "d"))
    model = make_model(config(), [one, two], history=2)
    assert [tuple(w.shape) for w in model.stencils.weights.values()] == [
        (2, 4, 25),
        (3, 6, 13, 13),
    ]
    assert model(rough_inputs(two)).fields.shape == (3, 3, 1, 16, 16)
    renamed = replace(one, name="else", variables=one.variables[::-1])
    assert stand_in(renamed, model.specs) == "one"
    model.check_system(renamed)
    with pytest.raises(DataError, match=r"system 'three': none of one, two.b c has"):
        model.check_system(system(3, "three"))
    with pytest.raises(DataError, match="No stencil was fitted"):
        model.check_system(system(1, "one", variables=("a",)))
    with pytest.raises(ConfigError, match="other variables than the system of that name"):
        model.add_systems([system(1, "one", variables=("a",))])
    both = make_model(config(), [one, replace(one, name="twin")], history=2)
    with pytest.raises(DataError, match="'else': one, twin have its variables"):
        both.check_system(renamed)


def test_what_a_stencil_cannot_take_is_refused():
    with pytest.raises(ConfigError, match=r"model.baseline.width.*odd number of points"):
        BaselineConfig("stencil", 4)
    with pytest.raises(ConfigError, match=r"model.baseline.modes"):
        BaselineConfig("stencil", modes=4)
    with pytest.raises(ConfigError, match=r"windows.max_lead.*single steps"):
        RunConfig(model=config(), windows=WindowConfig(max_lead=2))


def test_operations_are_those_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    for ndim in (1, 2, 3):
        spec = system(ndim)
        model, inputs = make_model(config(), [spec], history=2), rough_inputs(spec)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(inputs)
        assert model.count(inputs).operations == counter.get_total_flops()


@pytest.mark.parametrize(
    ("inputs", "outputs", "points", "width"),
    [(8, 4, (6, 9), 13), (2, 1, (3, 40), 5), (10, 5, (4, 4), 5), (4, 2, (3, 4, 5), 5)],
)
def test_few_outputs_are_those_of_torch(inputs, outputs, points, width):
    """Up to the order of sums of at most 1352 products of about 1."""
    more = torch.randn(2, inputs, *(count + width - 1 for count in points), requires_grad=True)
    weight = torch.randn(outputs, inputs, *(width,) * len(points))
    one, other = convolved(more, weight), CONVOLUTION[len(points)](more, weight)
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)
    given = torch.randn_like(one)
    gradients = [torch.autograd.grad(made, more, given)[0] for made in (one, other)]
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-5)
