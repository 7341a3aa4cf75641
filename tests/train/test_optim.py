import itertools

import pytest

from matey.config import OptimConfig
from matey.train.optim import learning_rate, make_optimizer
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
