"""Low-rank adapters in a model: what they change, what trains, and what they cost."""

import pytest
import torch

from matey.cost.count import step_cost
from matey.nn.adapters.low_rank import (
    adapters,
    choose_weights,
    is_adapter,
    merge_adapters,
    merged_weights,
    rank_of,
)
from matey.nn.operations import count
from tests.cost.test_cost import counted
from tests.nn.helpers import rough_inputs, system, tiny_model

KINDS = [
    {"scheme": "svit"},
    {"scheme": "avit", "stem": "hierarchical", "mode": "adap_mul"},
    {"scheme": "vit", "local": 32, "levels": 1},
    {"scheme": "svit", "mup": True},
]


def adapted_model(rank: int = 2, **kind):
    model = tiny_model(system(), **kind)
    choose_weights(model, "lora", rank)
    return model


def trained(model):
    """The model with adapters that add something."""
    for *_, adapter in adapters(model):
        torch.nn.init.normal_(adapter.up, std=0.3)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_adapter_predicts_the_bits_that_its_base_predicts(kind):
    inputs = rough_inputs(system())
    base, adapted = tiny_model(system(), **kind), adapted_model(**kind)
    assert rank_of(adapted) == 2
    assert torch.equal(adapted(inputs).fields, base(inputs).fields)
    assert not torch.equal(trained(adapted)(inputs).fields, base(inputs).fields)


@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_model_predicts_what_its_adapters_did(kind):
    inputs = rough_inputs(system())
    model, names = trained(adapted_model(**kind)), set(tiny_model(system(), **kind).state_dict())
    before, weights = model(inputs).fields, merged_weights(model)
    merge_adapters(model)
    assert model.state_dict().keys() == names == weights.keys()
    assert all(torch.equal(weights[name], w) for name, w in model.state_dict().items())
    for part in (model.blocks, model.position):
        assert all(weight.requires_grad for weight in part.parameters())
    # The sum of weight and product is made in the same order: at most rounding lies between.
    torch.testing.assert_close(model(inputs).fields, before, rtol=1e-5, atol=1e-6)


def test_every_map_of_the_blocks_has_an_adapter_and_nothing_else_of_them_trains():
    model = adapted_model(local=32, levels=1)
    inside = {name for name, *_ in adapters(model) if name.startswith("blocks.")}
    matrices = {n for n, w in model.named_parameters() if n.startswith("blocks.") and w.ndim == 2}
    assert inside == {n for n in matrices if n.endswith("weight")}
    trains = {n for n, w in model.blocks.named_parameters() if w.requires_grad}
    assert trains
    assert all(is_adapter(name) for name in trains)
    outside = {name for name, *_ in adapters(model)} - inside
    assert {"local.ends.1x8x8.into", "local.paths.2.after.0.weight"} <= outside
    vectors = {n: w for n, w in model.named_parameters() if "vectors" in n and "usual" not in n}
    assert vectors
    assert all(weight.requires_grad for weight in vectors.values())
    place = {name: weight.requires_grad for name, weight in model.position.named_parameters()}
    assert {name for name, trains in place.items() if trains} == {"sides.weight"}


def test_new_weights_train_whole():
    model = tiny_model(system(), local=32, levels=1)
    known = [name for name in model.state_dict() if not name.startswith("local.ends.1x4x4")]
    choose_weights(model, "lora", 2, known)
    new = {n: w for n, w in model.named_parameters() if n.startswith("local.ends.1x4x4")}
    assert len(new) == 3
    assert all(weight.requires_grad for weight in new.values())
    assert "local.ends.1x8x8.into" in {name for name, *_ in adapters(model)}


@pytest.mark.parametrize("kind", KINDS)
def test_operations_with_adapters_equal_those_that_torch_counts(kind):
    spec, inputs = system(), rough_inputs(system(), points=32)
    model = trained(adapted_model(**kind)).train()
    cost = step_cost(model, spec, model.plan_inputs(inputs))
    forward, backward = counted(model, inputs)
    assert cost.forward["adapters"] > 0
    # 1 %: a handful of products of a few numbers is not worth counting.
    assert sum(cost.forward.values()) == pytest.approx(forward, rel=0.01)
    assert sum(cost.backward.values()) == pytest.approx(backward, rel=0.01)


def test_a_step_in_half_precision_starts_from_the_same_bits_and_trains_the_adapters():
    inputs = rough_inputs(system())
    base, adapted = tiny_model(system()), adapted_model()
    with torch.autocast("cpu", torch.bfloat16):
        first = adapted(inputs).fields
        assert torch.equal(first, base(inputs).fields)
    first.square().sum().backward()
    gradients = [adapter.up.grad for *_, adapter in adapters(adapted.blocks)]
    assert all(grad is not None and grad.dtype == torch.float32 for grad in gradients)
    assert all(bool(grad.any()) for grad in gradients)


def test_adapters_of_rank_eight_are_a_tenth_of_a_model_of_this_kind():
    spec = system()
    sizes = {"embed_dim": 192, "heads": 3, "depth": 6, "patches": (16, 8), "local": 48, "levels": 3}
    with torch.device("meta"):
        model = tiny_model(spec, **sizes)
        whole = count(model)
        choose_weights(model, "lora", 8)
    trains = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert trains < whole / 10
