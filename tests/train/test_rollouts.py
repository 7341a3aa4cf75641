"""Learning from every frame of a rollout, with the gradient through it."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import matey
from matey.config import DataConfig, LossConfig, ModelConfig, OptimConfig, RunConfig, WindowConfig
from matey.cost.count import batch_operations
from matey.data.windows import Choice, Windows
from matey.errors import ConfigError
from matey.fields import Batch, SystemSpec, Variable
from matey.fields.grid import stack_points
from matey.nn.operations import Cost
from matey.nn.rollout import followed
from matey.nn.transformer import Matey
from matey.tokens.noise import disturbed
from matey.tokens.normalise import measure
from matey.train import loop
from matey.train.loop import learn, train
from matey.train.loss import loss_of
from matey.train.parallel.distributed import Engine, Team
from tests.cost.test_cost import FUSED
from tests.nn.helpers import rough_inputs, system, tiny_model
from tests.nn.test_stretched import GRIDS
from tests.train.test_loop import break_and_resume, config_for, records

CPU = torch.device("cpu")
ROLLOUT = WindowConfig(history=2, pushforward=2, learn_rollout=True)
MODELS = [
    {"scheme": "svit"},
    {"scheme": "avit", "mode": "adap_mul"},
    {"mode": "adap_mul", "local": 6, "stencil": True},
    {"mode": "adap_mix", "scheme": ("vit", "svit")},
]


def batch_of(frames: int = 2, points: int = 32) -> Batch:
    """Rough windows with so many frames between history and target."""
    inputs = rough_inputs(system(), points)
    ahead = rough_inputs(system(), points, times=frames + 1, seed=1).values
    return Batch(**vars(inputs), target=ahead[:, -1], pushes=frames, between=ahead[:, :-1])


def engine_of(**settings) -> Engine:
    model = tiny_model(system(), **settings).train()
    if model.stencils is not None:
        with torch.no_grad():
            model.stencils.weight("toy").normal_(std=0.02)
    return Engine(model, Team(RunConfig().parallel, CPU))


def gradients(model: Matey) -> dict[str, torch.Tensor]:
    found = {name: w.grad for name, w in model.named_parameters() if w.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize(
    ("settings", "stretched"), [*((model, False) for model in MODELS), (MODELS[1], True)]
)
def test_the_loss_is_the_mean_over_a_rollout_and_its_gradient_flows_through_all(
    settings, stretched
):
    engine, batch = engine_of(**settings), batch_of(points=16 if stretched else 32)
    if stretched:
        batch = replace(batch, points=stack_points(GRIDS))
    config = RunConfig(loss=LossConfig(base=0.5, gradient=0.1), accumulate=2)
    assert batch.between is not None
    loss = learn(engine, batch, config).loss
    found = gradients(engine.model)

    losses, inputs = [], replace(batch, between=None, pushes=0)
    for target in (*batch.between.unbind(dim=1), batch.target):
        inputs = replace(inputs, target=target)
        prediction = engine.model(inputs)
        losses.append(loss_of(prediction, inputs, config.loss))
        inputs = followed(inputs, prediction.fields)
    torch.testing.assert_close(loss, sum(losses) / 3)
    (sum(losses) / 3 / config.accumulate).backward()
    expected = gradients(engine.model)
    assert set(found) == set(expected)
    for name, value in expected.items():
        # Sums in another order.
        assert (found[name] - value).norm() <= 1e-4 * value.norm() + 1e-9, name


def test_the_gradient_of_a_rollout_is_that_of_finite_differences():
    """Along its direction the loss falls as fast as the gradient says, for a plan that stays."""
    engine, batch = engine_of(mode="uniform", patches=(8,)), batch_of()
    config = RunConfig(loss=LossConfig(of="root"))
    learn(engine, batch, config)
    slope = gradients(engine.model)
    length = sum(float(g.square().sum()) for g in slope.values()) ** 0.5

    def loss_at(step: float) -> float:
        with torch.no_grad():
            for name, weight in engine.model.named_parameters():
                if name in slope:
                    weight += step / length * slope[name]
        return float(learn(engine, batch, config).loss)

    step = 1e-3
    ahead = loss_at(step)
    behind = loss_at(-2 * step)
    # Seven digits of a loss, of which the third differs; and the curvature.
    assert (ahead - behind) / (2 * step) == pytest.approx(length, rel=0.02)


@pytest.mark.parametrize("settings", MODELS)
def test_operations_of_all_steps_are_those_that_torch_counts(settings, monkeypatch):
    # The zeros between the weights of points side by side are not counted.
    monkeypatch.setattr("matey.nn.local.stencil.LANES", 1)
    engine, batch = engine_of(**settings), batch_of()
    with FlopCounterMode(display=False, custom_mapping=FUSED) as counter:
        learned = learn(engine, batch, RunConfig(loss=LossConfig(base=0.5)))
    # 1 %: a handful of products of a few numbers is not worth counting.
    assert learned.operations == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.mark.parametrize("of", ["square", "root", "log"])
@pytest.mark.parametrize("settings", MODELS)
def test_what_begins_to_move_passes_finite_gradients_back(settings, of):
    """A velocity that is rounding until a front arrives: the model's own frame of it is, too,
    and the target is not."""
    engine, batch = engine_of(**settings), batch_of()
    assert batch.between is not None
    batch.values[0, :, 1] *= 1e-25
    batch.between[0, :, 1] *= 1e-25
    learned = learn(engine, batch, RunConfig(loss=LossConfig(of=of)))
    assert bool(learned.loss.isfinite())
    found = gradients(engine.model)
    assert all(bool(g.isfinite().all()) for g in found.values())
    assert any(bool(g.any()) for g in found.values())


@pytest.mark.parametrize("settings", MODELS)
def test_fields_at_rest_pass_finite_gradients_back(settings):
    """A field that is constant in the history has no deviation to divide by."""
    engine, batch = engine_of(**settings), batch_of()
    for frames in (batch.values, batch.between, batch.target):
        assert frames is not None
        frames[..., 1, :, :, :] = 0.0
        frames[0] = 2.5
    learned = learn(engine, batch, RunConfig())
    assert bool(learned.loss.isfinite())
    assert all(bool(g.isfinite().all()) for g in gradients(engine.model).values())


@pytest.mark.parametrize("learns", [True, False])
def test_in_bfloat16_gradients_of_rollouts_are_those_of_float32_but_for_rounding(learns):
    engine, batch = engine_of(mode="uniform", patches=(8,)), batch_of(1)
    if not learns:
        batch = replace(batch, between=None)
    learn(engine, batch, RunConfig())
    whole = gradients(engine.model)
    learn(engine, batch, RunConfig(precision="bfloat16"))
    half = gradients(engine.model)
    assert set(half) == set(whole)  # none is lost where weights were cast without a gradient
    error = sum(float((half[n] - g).square().sum()) for n, g in whole.items())
    # Three digits, of products that follow each other.
    assert error <= 0.1**2 * sum(float(g.square().sum()) for g in whole.values())


def test_each_step_of_a_rollout_has_a_lattice_of_its_own(monkeypatch):
    engine, batch = engine_of(jitter=True), batch_of()
    draw, drawn = engine.model.draw_shift, []

    def noted(inputs, generator=None):
        drawn.append(draw(inputs, generator))
        return drawn[-1]

    monkeypatch.setattr(engine.model, "draw_shift", noted)
    torch.manual_seed(0)
    for between in (batch.between, None):  # with the gradient through it, and without
        learn(engine, replace(batch, between=between), RunConfig())
        assert len(drawn) == len(set(drawn)) == 3
        drawn.clear()


def test_windows_hold_the_frames_between_only_where_they_are_learned_from(data):
    fields = matey.open(data.systems[0].paths[0])
    choices = [Choice(1, lead=1, pushes=2), Choice(2, lead=1, pushes=2)]
    batch = Windows(fields, [0], ROLLOUT).batch(choices)
    assert batch.between is not None
    assert torch.equal(batch.between[0], fields[0].values[3:5])
    assert torch.equal(batch.target[0], fields[0].values[5])
    assert torch.equal(batch.values[1], fields[0].values[2:4])
    plain = Windows(fields, [0], replace(ROLLOUT, learn_rollout=False)).batch(choices)
    assert plain.between is None
    assert torch.equal(plain.target, batch.target)
    assert Windows(fields, [0], ROLLOUT).batch([Choice(1)]).between is None
    strided = Windows(fields, [0], replace(ROLLOUT, stride=2)).batch([Choice(0, pushes=1)])
    assert strided.between is not None
    assert torch.equal(strided.between[0, 0], fields[0].values[4])


def test_a_run_that_learns_from_rollouts_goes_on_to_the_bit(data: DataConfig, tmp_path):
    model = ModelConfig(24, 2, 2, patches=(8, 4), drop_path=0.1, jitter=True, mode="adap_mul")
    windows = replace(ROLLOUT, roll=True, max_lead=2)
    config = config_for(data, model=model, windows=windows, loss=LossConfig("log", base=0.5))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(config, whole)
    break_and_resume(config, whole, broken, stop=4)
    after = [r["loss"] for r in records(whole, "train")][-3:]
    assert [r["loss"] for r in records(broken, "train")][-3:] == after


def test_noise_is_a_fraction_of_the_deviation_and_leaves_targets_and_static_variables():
    variables = (Variable("a"), Variable("still", static=True), Variable("b"))
    spec = SystemSpec("toy", 2, variables, ("nu",), 0.5)
    inputs = rough_inputs(spec, 64)
    inputs.values[:, :, 2] *= 1e4
    batch = Batch(**vars(inputs), target=inputs.values[:, 0].clone())
    torch.manual_seed(0)
    noisy = disturbed(batch, 1e-2)
    change = noisy.values - batch.values
    assert not change[:, :, 1].any()
    assert noisy.target is batch.target
    moving = change[:, :, [0, 2]]
    scale = measure(batch.values).scale[:, [0, 2]]
    # Of 64² points and two frames: to 1 % in a standard deviation, and here to five of these.
    measured = moving.std(dim=(1, 3, 4, 5)) / scale.flatten(1)
    torch.testing.assert_close(measured, torch.full_like(measured, 1e-2), rtol=0.05, atol=0)
    assert disturbed(batch, 0.0) is batch


def test_noise_of_the_past_is_a_smooth_part_of_the_change_and_leaves_the_last_frame():
    variables = (Variable("a"), Variable("still", static=True), Variable("b"))
    inputs = rough_inputs(SystemSpec("toy", 2, variables, ("nu",), 0.5), 64, times=3)
    inputs.values[:, :, 2] *= 1e4
    batch = Batch(**vars(inputs), target=inputs.values[:, 0].clone())
    torch.manual_seed(0)
    noisy = disturbed(batch, 0.0, past=0.3).values
    assert torch.equal(noisy[:, :, 1], batch.values[:, :, 1])
    assert torch.equal(noisy[:, -1], batch.values[:, -1])
    before, after = (v[:, -1:, [0, 2]] - v[:, :-1, [0, 2]] for v in (batch.values, noisy))
    clear = before.abs() > 1e-3 * before.abs().amax((-1, -2), keepdim=True)  # of rounding
    part = torch.where(clear, after / before - 1, torch.nan).double()
    root = part.square().nanmean((-2, -1)).sqrt()
    torch.testing.assert_close(root, torch.full_like(root, 0.3), rtol=0.05, atol=0)
    # One field for all frames, of eight nodes on 64 points: neighbours are nearly alike.
    torch.testing.assert_close(part[:, 0].nansum(), part[:, 1].nansum(), rtol=0.1, atol=1.0)
    assert part.diff(dim=-1).square().nanmean() < 0.1 * part.square().nanmean()
    with pytest.raises(ConfigError, match=r"windows\.past_noise is 0\.3, .*windows\.history = 1"):
        WindowConfig(history=1, past_noise=0.3)


def test_a_run_with_noise_goes_on_to_the_bit_and_is_another_than_one_without(data, tmp_path):
    config = config_for(data, windows=replace(ROLLOUT, noise=1e-2, past_noise=0.3))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(config, whole)
    break_and_resume(config, whole, broken, stop=4)
    train(config_for(data, windows=ROLLOUT), tmp_path / "plain")
    losses = [[r["loss"] for r in records(run, "train")] for run in (whole, tmp_path / "plain")]
    assert losses[0][0] != losses[1][0]
    valid = [records(run, "valid")[0]["persistence"] for run in (whole, tmp_path / "plain")]
    assert valid[0] == valid[1]  # no noise is scored


def test_a_run_whose_rollouts_grow_in_the_end_goes_on_to_the_bit(data: DataConfig, tmp_path):
    windows = replace(ROLLOUT, pushforward=0, pushforward_end=2, end_share=0.5)
    model = ModelConfig(24, 2, 1, mode="uniform", patches=(8,))
    config = config_for(data, model=model, windows=windows)
    assert config.end == 3
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(config, whole)
    break_and_resume(config, whole, broken, stop=4)
    tokens = [record["tokens"] for record in records(whole, "train")]
    assert len(set(tokens[:3])) == 1 < len(set(tokens[3:]))
    assert min(tokens[3:]) >= tokens[0]


def test_the_mean_length_of_rollouts_is_that_of_both_parts_of_a_run():
    windows = replace(ROLLOUT, pushforward_end=5)
    assert windows.mean_pushes == pytest.approx(0.9 * 1 + 0.1 * 2.5)
    assert windows.learned_steps == 6
    assert replace(windows, learn_rollout=False).learned_steps == 1
    assert replace(windows, pushforward_end=0).learned_steps == 3
    cost = Cost(forward={"mlp": 1}, backward={"mlp": 2}, to_fields=0)
    assert batch_operations(cost, windows) == pytest.approx(3 * (1 + 0.9 + 0.25))
    plain = replace(windows, learn_rollout=False)
    assert batch_operations(cost, plain) == pytest.approx(3 + 0.9 + 0.25)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pushforward": 0}, "there is no rollout to learn from"),
        ({"pushforward_end": -1}, r"windows\.pushforward_end is -1"),
        ({"pushforward": 0, "pushforward_end": 2, "min_lead": 2, "max_lead": 2}, "single steps"),
        ({"end_share": 1.5}, r"windows\.end_share is 1\.5"),
    ],
)
def test_rollouts_that_cannot_be_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        replace(ROLLOUT, **settings)


def test_the_loss_over_rollouts_falls(data, tmp_path):
    optim = OptimConfig(lr=3e-3, warmup=5)
    config = config_for(data, windows=ROLLOUT, optim=optim, steps=40, accumulate=1)
    config = replace(config, validate_every=40, checkpoint_every=40)
    train(config, tmp_path / "run")
    losses = [record["loss"] for record in records(tmp_path / "run", "train")]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_memory_of_rollouts_too_large_is_refused_with_the_way_out(data, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "free_memory", lambda *given: 2_000_000)
    with pytest.raises(ConfigError, match=r"shorter rollouts .*pushforward, up to 2"):
        train(config_for(data, windows=ROLLOUT), tmp_path / "run")
