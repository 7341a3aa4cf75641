"""How large samples are beside what is usual: ratios without units."""

from dataclasses import fields, replace

import pytest
import torch

from matey.fields import Batch
from matey.fields.grid import stack_points
from matey.nn.local.usual import DEVIATION, FAR, SIZES, Usual, logs_of, told
from matey.tokens.normalise import measure
from tests.nn.helpers import rough_inputs, system
from tests.nn.test_stretched import GRIDS
from tests.nn.test_transformer import CLOSE


def ratios(usual: Usual, inputs, specs=None):
    statistics = measure(inputs.values, inputs.points)
    specs = {inputs.spec.name: inputs.spec} if specs is None else specs
    values = statistics.normalise(inputs.values)
    return usual.ratios(values, statistics, inputs.spec, specs, inputs.points)


def measured(inputs) -> Usual:
    usual = Usual()
    usual.add(inputs.spec)
    given = {one.name: getattr(inputs, one.name) for one in fields(inputs)}
    usual.measure(inputs.spec, [Batch(**given, target=inputs.values[:, -1])])
    return usual


@pytest.mark.parametrize("stretched", [False, True])
def test_sizes_are_those_of_the_fields_in_their_units(stretched):
    """A large mean hides in the root mean square alone."""
    inputs = rough_inputs(system())
    offset = torch.tensor([300.0, 0.0])[:, None, None, None]
    points = stack_points(GRIDS) if stretched else None
    values = 5 * inputs.values + offset
    statistics = measure(values, points)
    logs = logs_of(statistics.normalise(values), statistics, points)
    share = points.volumes if points else torch.tensor(1 / 256)
    last, change = values[:, -1], values[:, -1] - values[:, -2]
    for place, field in ((0, last), (2, change)):
        expected = (field.double().square() * share).sum(dim=(-3, -2, -1)).sqrt()
        torch.testing.assert_close(logs[:, :, place].exp(), expected, rtol=1e-4, atol=0)
    deviation = statistics.scale.flatten(1).double()
    torch.testing.assert_close(logs[:, :, DEVIATION].exp(), deviation)


def test_a_sample_is_told_how_large_it_is_beside_what_is_usual():
    inputs, usual = rough_inputs(system()), Usual()
    usual.add(inputs.spec)
    assert bool((ratios(usual, inputs) == 1).all())  # nothing is measured yet
    usual = measured(inputs)
    made = ratios(usual, inputs)
    torch.testing.assert_close(made.log().mean(dim=0), torch.zeros(made.shape[1:]), **CLOSE)
    twice = ratios(usual, replace(inputs, values=2 * inputs.values))
    torch.testing.assert_close(twice, 2 * made)
    far = ratios(usual, replace(inputs, values=1e9 * inputs.values))
    torch.testing.assert_close(far.log(), torch.full_like(far, FAR))


def test_sizes_go_by_the_names_of_variables_and_serve_one_system_alike():
    inputs = rough_inputs(system())
    usual, spec = measured(inputs), inputs.spec
    turned = replace(spec, name="turned", variables=spec.variables[::-1])
    other = replace(inputs, spec=turned, values=inputs.values.flip(2))
    made = ratios(usual, other, {spec.name: spec})
    torch.testing.assert_close(made.flip(1), ratios(usual, inputs))
    strange = replace(inputs, spec=replace(spec, name="strange"))
    both = {spec.name: spec, "twin": replace(spec, name="twin")}
    assert bool((ratios(usual, strange, both) == 1).all())
    assert told(turned) == tuple(f"{size} of {name}" for name in "ba" for size in SIZES)


def test_fields_at_rest_have_ratios_of_one():
    inputs = rough_inputs(system())
    inputs.values[:, :, 1] = 0
    made = ratios(measured(inputs), inputs)
    torch.testing.assert_close(made[:, 1], torch.ones(3, len(SIZES)))


def test_the_gradient_through_ratios_is_that_of_finite_differences():
    """Rollouts learn through it; at rest it is finite."""
    inputs = rough_inputs(system(), samples=1)
    usual = measured(inputs)
    values = inputs.values.double().requires_grad_()
    weight = torch.randn(1, 2, len(SIZES), dtype=torch.float64)

    def weighed(values):
        return (weight * ratios(usual, replace(inputs, values=values))).sum()

    (gradient,) = torch.autograd.grad(weighed(values), values)
    direction = torch.randn_like(values)
    step = 1e-5
    with torch.no_grad():
        ahead, behind = (weighed(values + sign * step * direction) for sign in (1, -1))
    expected = (ahead - behind) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), expected, rtol=1e-6, atol=1e-9)
    rest = torch.ones_like(values).requires_grad_()
    (gradient,) = torch.autograd.grad(weighed(rest), rest)
    assert bool(gradient.isfinite().all())
