"""Models on stretched grids: normalised by volume, told where cells are, or refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from matey.config import BaselineConfig, LossConfig, ModelConfig
from matey.errors import ShapeError
from matey.fields.grid import Grid, locate_points, stack_points
from matey.nn.baselines.base import check_spacing
from matey.nn.rollout import chosen, continue_inputs
from matey.tokens.normalise import measure
from matey.train.loss import batch_loss, squared_nrmse
from tests.nn.helpers import rough_inputs, system, tiny_model

N = 16
WALL = 1 + np.tanh(2.5 * (np.linspace(0, 1, N) - 1)) / np.tanh(2.5)


def grid(y=WALL) -> Grid:
    places = ((), tuple(np.asarray(y, float).tolist()), ())
    return Grid(("y", "x"), (1, N, N), (0.0, float(y[0]), 0.0), (1.0, 1 / N, 1 / N), places)


GRIDS = [grid(), grid(WALL**2 + WALL), Grid(("y", "x"), (1, N, N), (0.0,) * 3, (1.0,) * 3)]


@pytest.fixture
def inputs():
    return replace(rough_inputs(system()), points=stack_points(GRIDS))


def test_statistics_are_over_the_volume():
    history = torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(1, 2, 1, 1, 1, 4) + 1000
    y = (0.0, 1.0, 3.0, 7.0)  # cells of 1, 1.5, 3 and 4
    points = stack_points(
        [Grid(("x",), (1, 1, 4), (0.0, 0.0, 0.0), (1.0, 1.0, 7 / 3), ((), (), y))]
    )
    found = measure(history, points)
    mean = 29 / 9.5
    assert float(found.mean) == pytest.approx(1000 + mean, rel=1e-6)
    assert float(found.scale) == pytest.approx((98 / 9.5 - mean**2) ** 0.5, rel=1e-4)


def test_statistics_and_loss_of_even_points_are_the_usual_ones(inputs):
    points = locate_points([GRIDS[2]] * 3)
    usual, found = measure(inputs.values), measure(inputs.values, points)
    torch.testing.assert_close(found.mean, usual.mean, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.scale, usual.scale)
    prediction, target = inputs.values.unbind(1)
    for config in (LossConfig(), LossConfig(gradient=0.5), LossConfig(conservation=2.0)):
        expected = batch_loss(prediction, None, target, config)
        torch.testing.assert_close(batch_loss(prediction, None, target, config, points), expected)


def test_the_loss_is_over_the_volume_and_its_slopes_are_those_in_space():
    """An error of 1 in one cell costs its share; a line's slope error is that of a line."""
    points, target = stack_points(GRIDS[:1]), torch.ones(1, 1, 1, N, N)
    wrong = target.clone()
    wrong[..., 3, 5] += 1
    share = float(points.volumes[0, 0, 0, 3, 5])
    assert float(squared_nrmse(wrong, target, points.volumes)) == pytest.approx(share / 1.001)
    y = (points.centres[1][0] * N).float()[:, None].expand(1, 1, 1, N, N)
    term = batch_loss(3 * y, None, 2 * y, LossConfig(gradient=1.0), points)
    term = float(term - squared_nrmse(3 * y, 2 * y, points.volumes))
    assert term == pytest.approx(0.5 * (1 / 4) / (1 + 1e-3 / 4), rel=1e-4)  # half: none along x


@pytest.mark.parametrize("around", [{}, {"local": 8, "levels": 1, "stencil": True}])
@pytest.mark.parametrize("mode", ["adap_mix", "adap_mul"])
def test_a_sample_does_not_depend_on_the_grids_beside_it(inputs, mode, around):
    model = tiny_model(inputs.spec, mode=mode, **around)
    for logs in model.usual.logs.values() if model.usual else ():
        logs.data.fill_(0.5)
    with torch.no_grad():
        together = model(inputs).normalised
        for i in range(3):
            alone = chosen(inputs, torch.arange(3) == i)
            torch.testing.assert_close(model(alone).normalised[0], together[i])


def test_the_model_is_told_where_cells_are(inputs):
    model = tiny_model(inputs.spec, threshold=1.0)
    with torch.no_grad():
        stretched, even = model(inputs).normalised, model(replace(inputs, points=None)).normalised
    assert not torch.allclose(stretched[0], even[0], atol=1e-3)
    torch.testing.assert_close(stretched[2], even[2], rtol=1e-4, atol=1e-4)  # that one is even


def test_patches_are_not_shifted_along_a_stretched_axis(inputs):
    model = tiny_model(inputs.spec, jitter=True)
    drawn = [model.draw_shift(inputs, torch.Generator().manual_seed(i)) for i in range(20)]
    assert all(shift[1] == 0 for shift in drawn)
    assert any(shift[2] for shift in drawn)


def test_a_rollout_keeps_each_samples_points(inputs):
    broken = inputs.values.clone()
    broken[0, -1, 0, 0, 0, 0] = torch.nan  # the first one ends at once
    steps = list(
        continue_inputs(tiny_model(inputs.spec), replace(inputs, values=broken), [1.0] * 3)
    )
    rest = chosen(inputs, torch.tensor([False, True, True]))
    alone = list(continue_inputs(tiny_model(inputs.spec), rest, [1.0] * 3))
    for whole, part in zip(steps, alone, strict=True):
        torch.testing.assert_close(whole[1:], part)


@pytest.mark.parametrize(("kind", "named"), [("fno", "an FNO"), ("stencil", "a stencil")])
def test_an_fno_and_a_stencil_need_even_points_and_say_so(kind, named):
    with pytest.raises(ShapeError, match=rf"stretched, and {named} .* `interp`.*--baseline unet"):
        check_spacing(ModelConfig(baseline=BaselineConfig(kind)), even=False)
    check_spacing(ModelConfig(baseline=BaselineConfig(kind)), even=True)
    check_spacing(ModelConfig(baseline=BaselineConfig("unet")), even=False)
