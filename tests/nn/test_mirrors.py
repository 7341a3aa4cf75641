"""Rollouts through mirrors: each step sees the field in another one, of those of training."""

from dataclasses import replace

import pytest
import torch

from matey.config import KeepConfig
from matey.errors import MateyError
from matey.fields import Boundary, Crop, SystemSpec, Variable
from matey.fields.grid import even_points
from matey.fields.mirrors import mirror
from matey.nn.rollout import MIRRORS, continue_inputs, mirrors_of
from matey.nn.surrogate import Prediction
from matey.tokens.normalise import measure
from tests.nn.helpers import rough_inputs, system, tiny_model

FLOW = SystemSpec(
    "flow", 2, (Variable("height"), Variable("velocity_x", axes=("x",)), Variable("vorticity"))
)
X, Y = 2, 1


def trained(spec, *axes, **config):
    """A model that says that it was trained on mirror images across some axes."""
    model = tiny_model(spec, **config)
    model.learned_from[MIRRORS] = {spec.name: list(axes)}
    return model


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ("", [()]),
        ("x", [(), (2,)]),
        ("xy", [(), (1, 2), (1,), (2,)]),
        ("xyz", [(), (0, 1, 2), (0,), (1, 2), (1,), (0, 2), (0, 1), (2,)]),
    ],
)
def test_each_step_has_another_mirror_until_all_had_their_turn(axes, expected):
    spec = replace(FLOW, ndim=3)
    model = trained(spec, *axes)
    assert mirrors_of(model, spec) == [(one,) for one in expected]
    assert mirrors_of(model, replace(spec, name="other")) == [((),)]
    model.mirrors = "mean"
    assert mirrors_of(model, spec) == [tuple(expected)]
    model.mirrors = "none"
    assert mirrors_of(model, spec) == [((),)]


def test_what_a_mirror_does_is_known_from_training_or_no_mirror_is_used():
    strange = replace(FLOW, variables=(*FLOW.variables, Variable("strange")))
    told = replace(strange, variables=(*FLOW.variables, Variable("strange", pseudo=True)))
    assert mirrors_of(trained(told, "x"), strange) == [((),), ((2,),)]
    assert mirrors_of(trained(strange, "x"), strange) == [((),)]


@pytest.mark.parametrize("config", [{}, {"local": 6}, {"mode": "adap_mul"}])
def test_a_step_is_that_of_the_mirrored_field_mirrored_back(config):
    inputs = rough_inputs(FLOW)
    inputs.boundaries[:, Y, 0] = int(Boundary.WALL)
    inputs.boundaries[:, Y, 1] = int(Boundary.OPEN)
    model = trained(FLOW, "x", "y", **config)
    first, second = continue_inputs(model, inputs, [1.0] * 2)
    plain = next(continue_inputs(tiny_model(FLOW, **config), inputs, [1.0]))
    assert torch.equal(first, plain)
    history = torch.cat([inputs.values[:, 1:], first[:, None]], dim=1)
    signs = torch.tensor([1.0, -1.0, 1.0]).view(3, 1, 1, 1)  # of two mirrors
    swapped = inputs.boundaries.clone()
    swapped[:, 1:] = inputs.boundaries[:, 1:].flip(2)
    turned = replace(inputs, values=history.flip(-1, -2) * signs, boundaries=swapped)
    with torch.no_grad():
        expected = model(turned).fields.flip(-1, -2) * signs
    torch.testing.assert_close(second, expected)
    model.mirrors = "none"
    *_, without = continue_inputs(model, inputs, [1.0] * 2)
    assert not torch.allclose(second, without, atol=1e-4)


def test_the_mean_over_mirrors_makes_of_an_image_the_image_of_what_it_makes():
    inputs = rough_inputs(FLOW)
    model = trained(FLOW, "x", "y")
    image = inputs.mirrored((X,), FLOW.variables)
    apart = []
    for model.mirrors in ("mean", "none"):
        here, there = (list(continue_inputs(model, one, [1.0] * 2))[-1] for one in (inputs, image))
        apart.append(float((mirror(there, (X,), FLOW.variables) - here).abs().max()))
    assert apart[0] < 1e-5 < 1e-2 < apart[1]


def test_the_mean_keeps_what_the_system_conserves():
    """Momentum, too: of two frames that keep it the mean does not, as it is a product."""
    keep = {"flow": KeepConfig(means=("height", "height*velocity_x"))}
    inputs = rough_inputs(FLOW)
    inputs.values[:, :, 0] += 3
    model = trained(FLOW, "x", "y", keep=keep)
    model.mirrors = "mean"
    *_, frame = continue_inputs(model, inputs, [1.0] * 2)
    assert not torch.allclose(frame, inputs.values[:, -1], atol=1e-2)
    for totals in (lambda f: f[:, 0], lambda f: f[:, 0] * f[:, 1]):
        now, before = (totals(f).mean(dim=(-3, -2, -1)) for f in (frame, inputs.values[:, -1]))
        torch.testing.assert_close(now, before, rtol=1e-5, atol=1e-5)


def test_an_error_of_one_direction_no_longer_adds_up():
    """A model that moves everything by a point along x where nothing moves."""
    inputs = rough_inputs(FLOW)

    model = tiny_model(FLOW)

    def drift(inputs, shift):
        known = measure(inputs.values)
        moved = inputs.values[:, -1].roll(1, -1)
        return Prediction((moved - known.mean) / known.scale, known)

    model.forward = drift
    last = inputs.values[:, -1]
    *_, drifted = continue_inputs(model, inputs, [1.0] * 4)
    torch.testing.assert_close(drifted, last.roll(4, -1))
    model.learned_from[MIRRORS] = {"flow": ["x"]}
    *_, stayed = continue_inputs(model, inputs, [1.0] * 4)
    torch.testing.assert_close(stayed, last)


def test_cells_are_told_where_they_lie_in_the_field_itself():
    """On a lattice that is its own image, plans and their images are alike."""
    inputs, made = rough_inputs(system()), []
    model = trained(system(), "x", "y", threshold=0.6)
    list(continue_inputs(model, inputs, [1.0] * 2, watch=made.append))
    history = torch.cat([inputs.values[:, 1:], made[0].fields[:, None]], dim=1)
    with torch.no_grad():
        plain = model(replace(inputs, values=history))
    across = [patches.flatten(1)[:, :, None] for patches in (made[1].patches, plain.patches)]
    together = [one == one.transpose(1, 2) for one in across]
    assert torch.equal(*together)
    assert plain.plan.tokens.unique().numel() > 1


def test_a_mirror_of_a_mirror_is_the_field_itself():
    inputs = rough_inputs(FLOW)
    inputs.boundaries[:, X, 0] = int(Boundary.WALL)
    shape = tuple(inputs.values.shape[-3:])
    points = even_points(3, shape, inputs.values.device)
    points.centres[X][:] = points.centres[X] ** 2
    points.edges[X][:] = points.edges[X] ** 2
    crop = Crop(
        first=torch.tensor([[0, 3, 5]] * 3),
        domain=torch.tensor([[1, 40, 50]] * 3),
        boundaries=inputs.boundaries,
        margin=0,
    )
    given = replace(inputs, points=points, crop=crop)
    once = given.mirrored((X,), FLOW.variables)
    twice = once.mirrored((X,), FLOW.variables)
    assert once.crop.first.tolist() == [[0, 3, 50 - 16 - 5]] * 3
    assert once.boundaries[0, X].tolist() == given.boundaries[0, X].flip(0).tolist()
    assert not torch.equal(once.points.centres[X], points.centres[X])
    for name in ("values", "boundaries"):
        assert torch.equal(getattr(twice, name), getattr(given, name))
    torch.testing.assert_close(twice.points.centres[X], points.centres[X])
    assert torch.equal(twice.crop.first, crop.first)
    with pytest.raises(MateyError, match="shear"):
        mirror(inputs.values[:, :, :1], (X,), [Variable("shear")])
