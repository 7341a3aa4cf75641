"""Rollouts are refused at the start where they cannot mean anything, and warned about."""

import logging
import re
from dataclasses import replace

import pytest
import torch

from matey.errors import ConfigError, DataError, ShapeError
from matey.fields import PERIODIC_SIDES, Field, Grid, SystemSpec, Variable
from tests.nn.helpers import system, tiny_model


def field_of(spec, points=16, frames=3):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(frames, len(spec.variables), 1, points, points, generator=generator)
    grid = Grid(("y", "x"), (1, points, points), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    times = torch.arange(frames).double() * spec.dt
    return Field(values, times, grid, (PERIODIC_SIDES,) * 3, {"nu": 0.1}, spec)


@pytest.mark.parametrize("steps", [0, -1])
def test_no_step_is_refused_when_asked_for(steps):
    spec = system()
    with pytest.raises(ConfigError, match=f"steps is {steps}"):
        tiny_model(spec).rollout_steps(field_of(spec), steps)


@pytest.mark.parametrize("lead", [0.0, -1.0, float("nan"), float("inf")])
def test_a_lead_time_that_goes_nowhere_is_refused(lead):
    spec = system()
    with pytest.raises(ConfigError, match="lead_time is"):
        tiny_model(spec).rollout(field_of(spec), 1, lead_time=lead)


def test_a_history_that_is_not_finite_is_told_from_a_rollout_that_diverged():
    spec = system()
    field = field_of(spec)
    field.values[-1, 0, 0, 3, 5] = float("nan")
    with pytest.raises(DataError, match="last 2 frames of system 'toy' hold values that are not"):
        tiny_model(spec).rollout(field, 1)


def test_nan_before_the_history_does_not_matter():
    spec = system()
    field = field_of(spec)
    field.values[0] = float("nan")
    assert tiny_model(spec).rollout(field, 1).values.isfinite().all()


@pytest.mark.parametrize(("points", "advice"), [(20, "such as 16"), (4, "such as 8")])
def test_a_grid_that_the_patches_do_not_tile_names_a_size_that_they_do(points, advice):
    spec = system()
    with pytest.raises(ShapeError, match=rf"{points} grid points.*patches of 8.*{advice}"):
        tiny_model(spec).rollout(field_of(spec, points), 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dt": 0.25}, "dt of 0.25, but the model was trained on 0.5"),
        ({"dt": 0.25, "name": "other"}, "dt of 0.25, but the model was trained on 0.5"),
        ({"variables": (Variable("a", "km"), Variable("b"))}, "in 'km', but .* in 'm'"),
        ({"dt": 0.50001}, None),
    ],
)
def test_what_a_model_was_not_trained_on_is_said(caplog, change, said):
    spec = SystemSpec("toy", 2, (Variable("a", "m"), Variable("b")), ("nu",), 0.5)
    model = tiny_model(spec)
    with caplog.at_level(logging.WARNING, logger="matey"):
        model.check(field_of(replace(spec, **change)))
    assert len(caplog.messages) == (said is not None)
    if said:
        assert re.search(said, caplog.text)
