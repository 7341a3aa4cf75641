"""What a model's modules say that they take: operations of a step, and numbers that they learn."""

from matey.fields import SystemSpec
from matey.nn.operations import Cost, count
from matey.nn.transformer import Matey
from matey.tokens.refine import RefinementPlan


def step_cost(model: Matey, spec: SystemSpec, plan: RefinementPlan) -> Cost:
    """The cost of a forward and a backward pass over one batch that is cut by a plan.

    An outline of the model is enough. Gradients flow through blocks that do not train, but none
    of their weights is computed.
    """
    return model.count(spec, model.lay_out(plan, model.history))


def count_parameters(model: Matey) -> dict[str, int]:
    """Numbers that a model learns, by part."""
    tokenizer = model.tokenizer
    return {
        "encode": count(tokenizer.inputs) + count(tokenizer.encoders),
        "position": count(model.position),
        "conditioning": count(model.conditioning),
        "blocks": count(model.blocks),
        "decode": count(model.norm) + count(tokenizer.outputs) + count(tokenizer.decoders),
    }
