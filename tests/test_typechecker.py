"""Wrong types and shapes in a call of the package's functions fail a test."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from matey.metrics.error import nrmse
from tests.typechecker import checked

PAIR, ROW, OTHER = torch.zeros(2, 3), torch.zeros(3), torch.zeros(4)


@checked
def dot(pair: Float[Tensor, "N D"], row: Float[Tensor, " D"]) -> Float[Tensor, " N"]:
    return pair @ row if row[0] == 0 else pair


@checked
def half(number: float, name: str = "") -> float:
    return number / 2 if number else name


@checked
def rows(pair: Float[Tensor, "N D"]) -> Iterator[Tensor]:
    yield from pair


@checked
def dot_later(pairs: "list[Later]", row: Float[Tensor, " D"]) -> Tensor:
    return pairs[0].pair @ row


@checked
@dataclass(frozen=True)
class Later:
    pair: Float[Tensor, "N D"]
    row: Float[Tensor, " D"]
    name: str = ""


def inner(row):
    @checked
    def shaped(pair: Float[Tensor, "N D"], row: Float[Tensor, " D"]) -> None: ...

    return shaped(PAIR, row)


def test_what_fits_passes_and_an_int_counts_as_a_float():
    assert dot(PAIR, ROW).shape == (2,)
    assert half(3) == 1.5
    assert len(list(rows(PAIR))) == 2
    assert dot_later([Later(PAIR, ROW)], ROW).shape == (2,)
    inner(ROW)


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        (dot, (PAIR, OTHER)),  # shapes that do not fit together
        (dot, (PAIR, [0.0])),
        (dot, (PAIR, ROW + 1)),  # what comes back
        (half, ("3",)),
        (half, (0.0,)),
        (rows, (ROW,)),
        (dot_later, ([Later(PAIR, ROW)], PAIR)),
        (Later, (PAIR, OTHER)),
        (Later, (PAIR, ROW, 3)),
        (inner, (OTHER,)),
        (nrmse, (PAIR, ROW)),
    ],
)
def test_what_does_not_fit_fails(call, arguments):
    with pytest.raises(Exception, match=r"violates type hint|Type-check error"):
        call(*arguments)
