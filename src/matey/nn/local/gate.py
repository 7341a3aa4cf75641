"""Gates of features: products with numbers between 0 and 2.

Axes: B samples, K channels, KK twice as many, pieces those of a grid.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def gated(
    both: Float[Tensor, "B KK *pieces"],
    scale: Float[Tensor, "B K *ones"],
    shift: Float[Tensor, "B K *ones"],
) -> Float[Tensor, "B K *pieces"]:
    """The first half of the channels times 1 + `scale`, times twice the sigmoid of the second half
    plus `shift`."""
    made: Tensor = Gated.apply(both, scale, shift)
    return made


class Gated(torch.autograd.Function):
    """`gated`. Backward is written out: autograd would keep two fields more, and pass over all of
    them more often."""

    @staticmethod
    def forward(ctx, both, scale, shift):  # type: ignore[no-untyped-def]  # noqa: ANN001
        """`[B 2K *pieces]` and twice `[B K *ones]` to `[B K *pieces]`."""
        value, gate = both.chunk(2, dim=1)
        share, size = (gate + shift).sigmoid_(), 2 * (1 + scale)
        ctx.save_for_backward(both, share, size)
        return (value * size).mul_(share)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Gradients of both halves, in one tensor, and of what they are scaled and shifted by."""
        both, share, size = ctx.saved_tensors
        space, value = tuple(range(2, both.ndim)), both.chunk(2, dim=1)[0]
        to_both = torch.empty_like(both)
        to_value, to_gate = to_both.chunk(2, dim=1)
        torch.mul(gradient, share, out=to_value)
        to_scale = 2 * (to_value * value).sum(dim=space, keepdim=True)
        to_share = (value * size).mul_(gradient)
        torch.ops.aten.sigmoid_backward.grad_input(to_share, share, grad_input=to_gate)
        to_value.mul_(size)
        return to_both, to_scale, to_gate.sum(dim=space, keepdim=True)
