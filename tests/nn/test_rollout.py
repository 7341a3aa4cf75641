"""Rollouts are refused at the start where they cannot mean anything, and warned about."""

import gc
import logging
import re
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from matey.config import WindowConfig
from matey.errors import ConfigError, DataError, DivergenceError
from matey.fields import PERIODIC_SIDES, Field, Grid, SystemSpec, Variable
from matey.nn.folder import from_pretrained, save_pretrained
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


def test_a_prediction_says_what_made_it(tmp_path):
    """From Python as from the command line, as a whole and frame by frame."""
    save_pretrained(tiny_model(system()), tmp_path / "model", {})
    model = from_pretrained(tmp_path / "model")
    field = replace(field_of(system()), provenance={"source": "a.h5#0003"})
    told = model.rollout(field, 2, lead_time=0.5, seed=3).provenance
    assert told["model"] == str(tmp_path / "model")
    assert told["initial"] == "a.h5#0003"
    assert (told["lead_time"], told["seed"]) == ("0.5", "3")
    assert int(told.pop("tokens_per_frame")) > 0
    assert next(model.rollout_steps(field, 2, lead_time=0.5, seed=3)).provenance == told


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


def test_a_schedule_has_a_lead_for_each_step():
    spec = system()
    model, field = tiny_model(spec), field_of(spec)
    whole = model.rollout(field, 3, lead_time=[1, 2.5, 1])
    assert whole.times.tolist() == pytest.approx([1.5, 2.75, 3.25])  # dt is 0.5
    first = model.rollout(field, 1)
    torch.testing.assert_close(whole.values[:1], first.values)
    after = replace(
        field,
        values=torch.cat([field.values, first.values]),
        times=torch.cat([field.times, first.times]),
    )
    second = model.rollout(after, 1, lead_time=2.5)
    torch.testing.assert_close(whole.values[1:2], second.values)
    with pytest.raises(ConfigError, match="one for each of 3 steps"):
        model.rollout(field, 3, lead_time=[1, 1])
    with pytest.raises(ConfigError, match="lead_time is -1"):
        model.rollout(field, 2, lead_time=[1, -1])


def test_a_rollout_to_nan_stops_and_reports_the_step():
    """Fault 66. The frames before it were handed out."""
    spec = system()
    model, calls = tiny_model(spec), []

    def spoil(module, given, made):
        calls.append(1)
        if len(calls) == 3:
            made.normalised[0, 0, 0, 2, 1] = torch.inf

    model.register_forward_hook(spoil)
    frames = model.rollout_steps(field_of(spec), 9)
    assert [float(next(frames).times) for _ in range(2)] == [1.5, 2.0]
    with pytest.raises(DivergenceError, match=r"'toy' .* at step 3 of 9, t = 2\.5"):
        next(frames)
    assert len(calls) == 3


def test_a_lead_time_or_parameter_that_the_checkpoint_never_saw_is_named(caplog, tmp_path):
    """Fault 70."""
    spec = system()
    trained = {"windows": vars(WindowConfig(history=2, min_lead=1, max_lead=3))}
    save_pretrained(tiny_model(spec), tmp_path / "m", trained)
    model, field = from_pretrained(tmp_path / "m"), field_of(spec)
    with caplog.at_level(logging.WARNING, logger="matey"):
        model.rollout(field, 2, lead_time=[1, 3])
        assert caplog.messages == []
        model.rollout(field, 2, lead_time=[1, 4])
        assert caplog.messages == [
            "A lead time of 4 dt was asked for, but the model was trained on 1 to 3 dt."
        ]
        caplog.clear()
        warmer = replace(field.spec, parameters=("nu", "Ra"))
        hot = replace(field, spec=warmer, parameters={"nu": 0.1, "Ra": 1e6})
        after = model.rollout(hot, 1)
    assert caplog.messages == ["Parameter 'Ra' is new to the model, and is ignored."]
    torch.testing.assert_close(after.values, model.rollout(field, 1).values)


def test_data_of_shorter_steps_are_continued_in_steps_of_the_model(tmp_path):
    """A model of every other frame is given every other frame, and predicts such."""
    fine, field = system(), field_of(system(), frames=4)
    model = tiny_model(replace(fine, dt=2 * fine.dt))
    ahead = model.rollout(field, 2)
    coarse = replace(field, values=field.values[1::2], times=field.times[1::2])
    own = model.rollout(replace(coarse, spec=replace(fine, dt=2 * fine.dt)), 2)
    assert torch.equal(ahead.values, own.values)
    assert ahead.times.tolist() == [float(field.times[-1]) + 2 * fine.dt * i for i in (1, 2)]
    short = model.rollout(field_of(system(), frames=2), 1)  # as they are: a warning tells of dt
    assert short.spec.dt == fine.dt


def test_a_parameter_that_the_data_lack_is_told(caplog):
    model, field = tiny_model(system()), field_of(system())
    with caplog.at_level(logging.WARNING, logger="matey"):
        model.rollout(replace(field, spec=replace(field.spec, parameters=()), parameters={}), 1)
    assert "was trained with nu, which the data do not say" in caplog.text


def test_memory_does_not_grow_with_the_steps_of_a_rollout():
    """Of the frames handed out none is kept, and no graph holds them together."""
    spec = system()
    frames = tiny_model(spec).rollout_steps(field_of(spec), 20)
    kept = [weakref.ref(frame.values) for frame in frames]
    gc.collect()
    assert sum(reference() is not None for reference in kept) <= 1


def test_a_frame_that_is_kept_keeps_nothing_else_in_memory():
    """A part of the history would hold all of its frames."""
    spec = system()
    for frame in tiny_model(spec).rollout_steps(field_of(spec), 3):
        assert frame.values.untyped_storage().nbytes() == frame.values.nbytes


def peaks(*words: str) -> list[int]:
    """Highest resident memory in each quarter of a rollout in a process of its own, in bytes."""
    command = [sys.executable, "-m", "tests.nn.flat", *words]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [int(number) for number in done.stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc/self/clear_refs"
)
def test_a_rollout_of_200_steps_at_256_points_squared_uses_flat_memory():
    """From the second quarter of the steps to the last resident memory may grow by ten frames of
    the hundred between them; a rollout whose frames are kept grows by all of them."""
    frame = 2 * 256 * 256 * 4
    _, second, _, last = peaks("200", "256")
    assert last - second < 10 * frame
    _, second, _, last = peaks("200", "256", "keep")
    assert last - second > 90 * frame
