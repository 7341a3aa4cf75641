"""Training on crops: what a model is told of them, what it learns from, and whole domains after."""

from dataclasses import replace

import pytest
import torch

import matey
from matey.config import LossConfig, ModelConfig, WindowConfig
from matey.cost.forecast import forecast
from matey.data.systems import open_systems, training_windows
from matey.fields import Batch, Boundary, Crop
from matey.nn.make import outline_model
from matey.nn.rollout import followed
from matey.train.loop import train
from matey.train.loss import loss_of
from tests.nn.helpers import rough_inputs, system, tiny_model
from tests.nn.local.test_path import local_model
from tests.train.test_loop import break_and_resume, config_for, records

CROPS = WindowConfig(history=2, crop=(11, 9), margin=2)


def cropped(batch: Batch, corner: tuple[int, int], size: tuple[int, int], margin: int = 0) -> Batch:
    """A box (y, x) of each sample of a batch on even grids."""
    part = (..., *(slice(at, at + n) for at, n in zip(corner, size, strict=True)))
    samples = len(batch.values)
    crop = Crop(
        torch.tensor([[0, *corner]] * samples),
        torch.tensor([tuple(batch.values.shape[-3:])] * samples),
        batch.boundaries,
        margin,
    )
    return replace(
        batch,
        values=batch.values[part],
        target=batch.target[part],
        boundaries=crop.neighbours((1, *size)),
        crop=crop,
    )


@pytest.fixture
def batch() -> Batch:
    """One sample between walls, one with periodic sides, one with open ends along x."""
    inputs = rough_inputs(system(), 32)
    inputs.boundaries[0, 1:] = int(Boundary.WALL)
    inputs.boundaries[2, 2] = int(Boundary.OPEN)
    return Batch(**vars(inputs), target=rough_inputs(system(), 32, times=1, seed=1).values[:, 0])


@pytest.mark.parametrize("jitter", [False, True])
def test_tokens_of_a_crop_are_told_the_same_places_and_sides_as_in_the_whole(batch, jitter):
    model = tiny_model(system(), mode="uniform", patches=(8,), jitter=jitter)
    part = cropped(batch, (8, 0), (16, 24))
    told = []
    for inputs in (batch, part):
        plan = model.plan_inputs(inputs)
        sequence = model.lay_out(plan, 2, inputs).sequence
        place = model.position(sequence, inputs.sides, torch.zeros(3))
        told.append((sequence, place))
    (whole, expected), (crop, found) = told
    inside = [s * 16 + y * 4 + x for s in range(3) for y in (1, 2) for x in (0, 1, 2)]
    assert torch.equal(crop.centre, whole.centre[inside])
    assert torch.equal(crop.size, whole.size[inside])
    assert torch.equal(found, expected[inside])


def test_a_crop_of_the_whole_domain_is_predicted_as_the_whole(batch):
    for model in (tiny_model(system()), local_model(system(), levels=1)):
        with torch.no_grad():
            whole, part = model(batch), model(cropped(batch, (0, 0), (32, 32)))
        assert torch.equal(whole.normalised, part.normalised)


@pytest.mark.parametrize("of", ["square", "log"])
def test_the_loss_leaves_out_what_lies_beside_cuts(batch, of):
    model = tiny_model(system())
    part = cropped(batch, (8, 0), (16, 24), margin=3)
    config = LossConfig(of=of, gradient=0.5, conservation=0.5)

    def losses(y: int, x: int) -> tuple[float, float]:
        """Before and after the target has changed at a point."""
        target = part.target.clone()
        target[..., y, x] += 0.1
        with torch.no_grad():
            made = model(part)
        both = (replace(part, target=frame) for frame in (part.target, target))
        before, after = (float(loss_of(made, each, config)) for each in both)
        return before, after

    before, after = losses(2, 12)
    assert before == pytest.approx(after, rel=1e-6)
    before, after = losses(3, 12)
    assert abs(before - after) > 1e-4
    before, after = losses(8, 0)  # walls, and open sides, are sides of the domain
    assert abs(before - after) > 1e-4


def test_each_frame_of_the_models_own_widens_the_margin(batch):
    part = cropped(batch, (8, 0), (16, 24), margin=3)
    later = followed(part, part.target)
    last = replace(later, lead_time=torch.full((3,), 2.0))
    for inputs, width in ((part, 3), (later, 6), (last, 9)):
        assert int(inputs.judged.mask[0, 0, 0, :, 0].sum()) == max(0, 16 - 2 * width)


def test_a_run_on_crops_resumes_to_the_bit_and_predicts_whole_domains(data, tmp_path):
    """Crops of neither grid nor patch a multiple; validation is of whole domains."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    windows = replace(CROPS, pushforward=1, learn_rollout=True, roll=True)
    model = ModelConfig(embed_dim=12, heads=1, depth=1, patches=(4,), mode="uniform", local=4)
    config = config_for(data, model=model, windows=windows)
    trained = train(config, whole)
    break_and_resume(config, whole, broken, stop=4)
    assert set(records(whole, "valid")[-1]["nrmse"]) == {"shallow_water", "compressible"}
    field = matey.open(data.systems[0].paths[0])[0]
    assert trained.rollout(field, steps=2).values.shape == (2, 1, 1, 16, 16)


def test_what_a_step_takes_is_counted_on_crops_and_inference_on_the_whole(data):
    config = config_for(data, windows=replace(CROPS, crop=8, margin=1))
    systems = open_systems(config.data)
    sizes = {}
    for crop in (None, 8):
        one = replace(config, windows=replace(config.windows, crop=crop))
        windows = training_windows(systems, one.windows)
        specs = [group.spec for group in windows.values()]
        outline = outline_model(one.model, specs, 2, one.mode, one.rank)
        first, *_ = forecast(outline, one, windows, thresholds=())
        sizes[crop] = first
    assert sizes[8].grid == (1, 8, 8)
    assert sizes[8].tokens["fine"] == sizes[None].tokens["fine"] / 4
    assert sizes[8].step.total < sizes[None].step.total
    assert sizes[8].inference.batch == sizes[None].inference.batch
