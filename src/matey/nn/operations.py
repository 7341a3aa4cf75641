"""What a training step costs in operations: the account that modules enter their products in.

Operations are those of matrix products, two for each multiply-add, as torch's own counter
counts them: the backward pass of a product costs twice its forward pass.
"""

import math
from dataclasses import dataclass, field

from torch import nn

from matey.nn.adapters.low_rank import adapter_of, matrix_trains


@dataclass
class Cost:
    """Floating-point operations of a step, by part of the model.

    `values` are the numbers that products read and make, weights aside: the forward pass keeps
    some of them for the backward pass, and what else it keeps grows with them. `to_fields` are
    operations of the gradient of the input fields: needed only where a model made them.
    `exchanged` are the numbers that processes which share out a sample's cells hand each other in
    the forward pass, in so many `exchanges`: as many come back as gradients. `circled` are those of
    keys and values among them, which go around if the cells are in blocks, in so many `circles`.
    """

    forward: dict[str, int] = field(default_factory=dict)
    backward: dict[str, int] = field(default_factory=dict)
    values: int = 0
    to_fields: int = 0
    exchanged: int = 0
    exchanges: int = 0
    circled: int = 0
    circles: int = 0

    def product(
        self,
        part: str,
        rows: int,
        inner: int,
        columns: int,
        first: bool = False,
        trains: bool = True,
        fields: bool = False,
    ) -> None:
        """Count `[rows inner] @ [inner columns]`; a `first` one needs no gradient of its input,
        nor does one of the input `fields` by itself; one that does not train none of its weights.
        """
        operations = 2 * rows * inner * columns
        first, self.to_fields = first or fields, self.to_fields + operations * fields
        self.add(part, operations, operations * ((not first) + trains), rows * (inner + columns))

    def map(self, part: str, rows: int, module: nn.Module, first: bool = False) -> None:
        """Count a linear map or a convolution of so many rows or points."""
        columns, *inner = module.get_parameter("weight").shape
        self.product(part, rows, math.prod(inner), columns, first, matrix_trains(module))
        self.adapter(module)

    def adapter(self, module: nn.Module, name: str = "weight") -> None:
        """Count what the adapter of a weight adds to it, if there is one."""
        adapter = adapter_of(module, name)
        if adapter is not None:
            self.product("adapters", *adapter.product)

    def add(self, part: str, forward: int, backward: int, values: int = 0) -> None:
        """Count operations that are no product of a matrix with rows."""
        self.forward[part] = self.forward.get(part, 0) + forward
        self.backward[part] = self.backward.get(part, 0) + backward
        self.values += values

    def exchange(self, asked: int, held: int) -> None:
        """Count the numbers that shared out cells and heads are exchanged in: queries and results,
        so many in each, keys and values."""
        self.exchanged += 2 * (asked + held)
        self.exchanges += 4
        self.circled += 2 * held
        self.circles += 1

    @property
    def operations(self) -> int:
        """Of a whole step, forward and backward."""
        return sum(self.forward.values()) + sum(self.backward.values())


def count(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(parameter.numel() for parameter in module.parameters())
