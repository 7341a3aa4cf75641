import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from matey.config import (
    BaselineConfig,
    ModelConfig,
    OptimConfig,
    ParallelConfig,
    RateConfig,
    RunConfig,
    WindowConfig,
)
from matey.errors import CheckpointError, ConfigError
from matey.nn.make import make_model
from matey.train.optim import Average, group_of, learning_rate, make_optimizer, rate_of, set_rates
from matey.train.parallel.distributed import Engine, Team
from tests.nn.helpers import system, tiny_model


def test_the_learning_rate_warms_up_and_ends_where_told():
    config = OptimConfig(lr=1.0, final_lr=0.1, warmup=10)
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1)
    assert all(later <= sooner for sooner, later in itertools.pairwise(rates[10:]))


def test_the_cosine_passes_through_its_exact_values():
    """Eleven steps after the warm-up: at 0, a quarter, half and all of the way."""
    config = OptimConfig(lr=2.0, final_lr=0.5, warmup=2)
    rates = [learning_rate(step, 11, config) for step in range(11)]
    quarter = 0.5 * (1 + 0.5**0.5)
    expected = {0: 1.0, 1: 2.0, 2: 2.0, 4: 1 + quarter, 6: 1.5, 10: 1.0}
    assert {step: rates[step] for step in expected} == pytest.approx(expected, rel=1e-15)


def test_the_rate_of_wsd_is_level_then_falls_on_a_line():
    config = OptimConfig(lr=2.0, schedule="wsd", final_lr=0.5, warmup=2, decay=0.25)
    rates = [learning_rate(step, 16, config) for step in range(16)]
    assert rates == [1.0, *[2.0] * 11, 1.75, 1.5, 1.25, 1.0]


def test_a_longer_run_of_wsd_is_the_same_until_it_decays():
    """What makes it possible to go on with more steps from a checkpoint before the decay."""
    config = OptimConfig(schedule="wsd", warmup=3, decay=0.1)
    short, long = ([learning_rate(i, steps, config) for i in range(18)] for steps in (20, 200))
    assert short == long


def test_a_constant_rate_warms_up_and_stays():
    config = OptimConfig(lr=2.0, schedule="constant", warmup=4, final_lr=0.1)
    assert [learning_rate(i, 8, config) for i in range(8)] == [0.5, 1.0, 1.5, *[2.0] * 5]


def test_the_schedule_begins_anew_in_the_end_of_a_run():
    """Up to the end it is that of a run of so many steps, and then that of one at the fraction."""
    optim = OptimConfig(lr=2.0, warmup=3, end_lr=0.25)
    config = RunConfig(optim=optim, windows=WindowConfig(end_share=0.2), steps=20)
    rates = [rate_of(step, config) for step in range(20)]
    assert rates[:16] == [learning_rate(step, 16, optim) for step in range(16)]
    lower = replace(optim, lr=0.5, warmup=0)
    assert rates[16:] == [learning_rate(step, 4, lower) for step in range(4)]
    assert rates[16] == 0.5
    whole = replace(config, optim=replace(optim, end_lr=0.0))
    assert [rate_of(i, whole) for i in range(20)] == [
        learning_rate(i, 20, optim) for i in range(20)
    ]


@pytest.mark.parametrize("schedule", ["cosine", "wsd", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 10, 11])
def test_short_runs_have_a_learning_rate_too(steps, schedule):
    config = OptimConfig(warmup=10, schedule=schedule)
    assert all(0 < learning_rate(step, steps, config) <= config.lr for step in range(steps))


def test_only_matrices_decay():
    model = tiny_model(system())
    decayed, others = make_optimizer(model, OptimConfig(weight_decay=0.1)).param_groups
    assert decayed["weight_decay"] == 0.1
    assert others["weight_decay"] == 0
    assert all(parameter.ndim >= 2 for parameter in decayed["params"])
    named = {id(p): name for name, p in model.named_parameters()}
    kept = [named[id(p)] for p in others["params"]]
    assert all("bias" in n or "norm" in n or "scales" in n or "vectors" in n for n in kept)


MODELS = {
    "tokens": ModelConfig(24, 2, 1),
    "local": ModelConfig(24, 2, 1, local=6, stencil=True),
    "unet": ModelConfig(24, 2, 1, baseline=BaselineConfig("unet", width=8)),
}
HAS = {
    "tokens": {"blocks", "ends", "conditioning"},
    "local": {"blocks", "ends", "local", "conditioning"},
    "unet": {"blocks", "conditioning"},
}


@pytest.mark.parametrize("kind", MODELS)
def test_every_weight_that_trains_has_a_group(kind):
    model = make_model(MODELS[kind], [system()], history=2)
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert {group_of(name) for name in trained} == HAS[kind]


def test_each_group_learns_at_its_multiple_of_the_rate():
    """The first step of Adam moves a weight by its rate, whatever its gradient."""
    model = tiny_model(system(), local=6)
    rates = RateConfig(blocks=0.1, ends=3.0, conditioning=0.5)
    optimizer = make_optimizer(model, OptimConfig(rates=rates, weight_decay=0.0))
    set_rates(optimizer, 1e-2)
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    before = {name: weight.detach().clone() for name, weight in trained.items()}
    for weight in trained.values():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    for name, weight in trained.items():
        moved = (before[name] - weight.detach()).double()
        expected = 1e-2 * getattr(rates, group_of(name))
        # Weights of order 1 to 10 in float32 resolve 1e-6.
        torch.testing.assert_close(moved, torch.full_like(moved, expected), rtol=1e-2, atol=2e-6)


def test_the_same_weights_decay_at_any_rates():
    model = tiny_model(system())
    rates = RateConfig(ends=10.0)
    groups = make_optimizer(model, OptimConfig(weight_decay=0.1, rates=rates)).param_groups
    plain = make_optimizer(model, OptimConfig(weight_decay=0.1)).param_groups

    def weights(of, decay):
        return {id(p) for group in of if group["weight_decay"] == decay for p in group["params"]}

    assert weights(groups, 0.1) == weights(plain, 0.1)
    assert weights(groups, 0.0) == weights(plain, 0.0)


def test_the_rate_of_weights_that_do_not_train_is_refused_with_the_groups_that_do():
    model = tiny_model(system())
    with pytest.raises(ConfigError, match=r"local is 2.*are blocks, ends, conditioning"):
        make_optimizer(model, OptimConfig(rates=RateConfig(local=2.0)))
    model.blocks.requires_grad_(False)
    with pytest.raises(ConfigError, match=r"blocks is 0\.1.*groups here are ends, conditioning"):
        make_optimizer(model, OptimConfig(rates=RateConfig(blocks=0.1)))
    with pytest.raises(ConfigError, match=r"optim\.rates\.ends"):
        RateConfig(ends=0.0)


def averaged(decay: float, frozen: bool = False) -> Average:
    model = tiny_model(system())
    model.blocks.requires_grad_(not frozen)
    return Average(Engine(model, Team(ParallelConfig(), torch.device("cpu"))), decay)


def move(model: nn.Module, seed: int) -> None:
    """Other weights, as after a step."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))


def test_an_average_weighs_steps_by_the_products_of_their_decays():
    average, steps, name = averaged(0.5), 12, "norm.bias"
    model = average.engine.model
    seen = [average.weights[name].detach().clone()]
    for step in range(steps):
        move(model, step)
        average.update(step)
        seen.append(average.weights[name].detach().clone())
    decays = [min(0.5, (1 + step) / (10 + step)) for step in range(steps)]
    shares = [1.0, *(1 - decay for decay in decays)]
    for i, decay in enumerate(decays):
        for j in range(i + 1):
            shares[j] *= decay
    assert sum(shares) == pytest.approx(1)
    assert shares[0] < 1e-4  # the weights before training are forgotten
    expected = sum(share * weight for share, weight in zip(shares, seen, strict=True))
    torch.testing.assert_close(average.averages[name], expected)  # rounding of float32


def test_averages_stand_in_for_the_weights_and_these_come_back_to_the_bit():
    average = averaged(0.9)
    model = average.engine.model
    move(model, 1)
    average.update(0)
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    averages = {name: value.clone() for name, value in average.averages.items()}
    with average.in_place():
        shown = {name: weight.clone() for name, weight in model.state_dict().items()}
    assert all(torch.equal(shown[n], value) for n, value in averages.items())
    assert all(torch.equal(model.state_dict()[n], value) for n, value in weights.items())
    assert all(torch.equal(average.averages[n], value) for n, value in averages.items())
    assert not all(torch.equal(weights[n], value) for n, value in averages.items())


def test_frozen_weights_have_no_average_and_without_a_decay_none_has():
    names = averaged(0.9, frozen=True).averages.keys()
    assert names
    assert not any(name.startswith("blocks.") for name in names)
    assert not averaged(0.0).averages


def test_an_average_goes_on_from_a_checkpoint_s_or_else_from_its_weights():
    average = averaged(0.9)
    move(average.engine.model, 1)
    average.restore({}, Path("there"))
    assert all(torch.equal(average.averages[n], w) for n, w in average.weights.items())
    saved = {name: torch.full_like(value, 3.0) for name, value in average.averages.items()}
    average.restore(saved, Path("there"))
    assert all(bool((value == 3).all()) for value in average.averages.values())
    del saved["norm.bias"]
    with pytest.raises(CheckpointError, match=r"there has averages of other weights.*norm\.bias"):
        average.restore(saved, Path("there"))
    averaged(0.0).restore(saved, Path("there"))  # an average that is no longer wanted is dropped
