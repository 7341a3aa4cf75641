"""Operations against torch's own counter, parameters against the real model."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from matey.config import ModelConfig
from matey.cost.count import count_parameters, step_cost
from matey.nn.make import outline_model
from matey.nn.operations import count
from matey.nn.transformer import Matey
from tests.nn.helpers import rough_inputs, system, tiny_model

MODES = {"uniform": (4,), "adap_mix": (8, 4), "adap_mul": (8, 4)}


def fused_forward(query, key, value, *args, out_shape=None, **kwargs) -> int:
    return sdpa_flop_count(query, key, value)


def fused_backward(gradient, query, key, value, *args, out_shape=None, **kwargs) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)


# Torch's counter does not know its own fused kernel on the CPU.
ATEN = torch.ops.aten
FUSED = {
    ATEN._scaled_dot_product_flash_attention_for_cpu: fused_forward,
    ATEN._scaled_dot_product_flash_attention_for_cpu_backward: fused_backward,
}


def counted(model: Matey, inputs) -> tuple[int, int]:
    """Operations of a forward and of a backward pass, as torch counts them."""
    counter = FlopCounterMode(display=False, custom_mapping=FUSED)
    with counter:
        loss = model(inputs).normalised.square().sum()
        forward = counter.get_total_flops()
        loss.backward()
    return forward, counter.get_total_flops() - forward


@pytest.mark.parametrize("scheme", ["vit", "svit", "avit", ("svit", "vit")])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stem", ["linear", "hierarchical"])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_operations_equal_those_that_torch_counts(scheme, mode, stem, ndim):
    spec = system(ndim)
    # 1D: sequences beyond 64 tokens, so that ViT and SViT take the fused kernel.
    points = {1: 512, 2: 32, 3: 16}[ndim]
    inputs = rough_inputs(spec, points=points)
    model = tiny_model(spec, scheme=scheme, mode=mode, patches=MODES[mode], stem=stem).train()
    cost = step_cost(model, spec, model.plan_inputs(inputs))
    forward, backward = counted(model, inputs)
    # 1 %: a handful of products of a few numbers is not worth counting.
    assert sum(cost.forward.values()) == pytest.approx(forward, rel=0.01)
    assert sum(cost.backward.values()) == pytest.approx(backward, rel=0.01)
    assert cost.operations == sum(cost.forward.values()) + sum(cost.backward.values())


@pytest.mark.parametrize("scheme", ["vit", "svit", "avit"])
def test_gradients_of_frozen_weights_are_neither_counted_nor_computed(scheme):
    spec = system()
    inputs = rough_inputs(spec, points=32)
    model = tiny_model(spec, scheme=scheme).train()
    plan = model.plan_inputs(inputs)
    whole, _ = step_cost(model, spec, plan), counted(model, inputs)
    model.zero_grad()
    model.blocks.requires_grad_(False)
    cost = step_cost(model, spec, plan)
    _, backward = counted(model, inputs)
    assert sum(cost.backward.values()) == pytest.approx(backward, rel=0.01)  # as above
    assert cost.backward["mlp"] == whole.backward["mlp"] / 2
    assert all(weight.grad is None for weight in model.blocks.parameters())
    assert all(weight.grad is not None for weight in model.tokenizer.parameters())


@pytest.mark.parametrize("scheme", ["vit", "svit", ("svit", "vit")])
@pytest.mark.parametrize("stem", ["linear", "hierarchical"])
def test_parameters_are_those_of_the_real_model(scheme, stem):
    specs = [
        system(1, "line", variables=("a", "c"), parameters=("mu",)),
        system(2),
        system(3, "box", variables=("b", "d", "e"), parameters=()),
    ]
    model = tiny_model(*specs, scheme=scheme, stem=stem, depth=4)
    assert sum(count_parameters(model).values()) == count(model)


def test_the_published_sizes_have_about_the_published_parameters():
    """Ti to L of ViT at patch 16: 5.8, 23, 92 and 315 million in the paper."""
    sizes = {5.8: (192, 3, 12), 23: (384, 6, 12), 92: (768, 12, 12), 315: (1024, 16, 24)}
    for millions, (embed_dim, heads, depth) in sizes.items():
        config = ModelConfig(
            embed_dim=embed_dim,
            heads=heads,
            depth=depth,
            scheme="vit",
            mode="uniform",
            patches=(16,),
        )
        found = count(outline_model(config, [system()], 2)) / 1e6
        # The stem is another: what differs is a matter of per cents of the blocks.
        assert found == pytest.approx(millions, rel=0.1)
