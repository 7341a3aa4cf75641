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


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_short_runs_have_a_learning_rate_too(steps):
    config = OptimConfig(warmup=10)
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
