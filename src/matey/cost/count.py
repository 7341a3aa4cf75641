"""What training counts: operations of a step, and of a batch with its rollout, and parameters."""

from matey.config import WindowConfig
from matey.fields import SystemSpec
from matey.nn.operations import Cost, count
from matey.nn.transformer import Matey
from matey.tokens.refine import RefinementPlan


def step_cost(model: Matey, spec: SystemSpec, plan: RefinementPlan) -> Cost:
    """Operations, forward and backward, of a batch cut by a plan; an outline of the model will do.

    Gradients flow through frozen blocks, but none of their weights is computed.
    """
    return model.count(spec, model.lay_out(plan, model.times))


def batch_operations(cost: Cost, windows: WindowConfig) -> float:
    """Mean operations of training on a batch, from those of a step.

    Before it `mean_pushes` forward passes are taken; whole steps where the rollout is learned from.
    """
    before = sum(cost.forward.values())
    if windows.learn_rollout:
        before = cost.operations + cost.to_fields
    return cost.operations + windows.mean_pushes * before


def count_parameters(model: Matey) -> dict[str, int]:
    """How many numbers a model learns, by part."""
    tokenizer = model.tokenizer
    around: dict[str, int] = {}
    if model.local is not None and model.usual is not None:
        around["local"] = count(model.local) + count(model.usual)
    if model.stencils is not None:
        around["stencil"] = count(model.stencils)
    return around | {
        "encode": count(tokenizer.inputs) + count(tokenizer.encoders),
        "position": count(model.position),
        "conditioning": count(model.conditioning),
        "blocks": count(model.blocks),
        "decode": count(model.norm) + count(tokenizer.outputs) + count(tokenizer.decoders),
    }
