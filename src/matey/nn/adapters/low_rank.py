"""Low-rank adapters: a matrix W that stays as it is, plus the product U V of two narrow ones.

Only U and V train. U starts at zero, so that a model with fresh adapters predicts what it did
before, bit for bit; in the end the product is added to W, and the model is an ordinary one.
Source: Hu et al. (2021), arXiv:2106.09685; here without a scale of the product.
"""

import math
from collections.abc import Collection, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from matey.config.training import Mode

ENDING = "_adapter"  # of the name of a weight: the module that adds to it
# Told to tokens of any system alike, so that they stay, too.
PLACES = ("position.centre", "position.size", "position.time")
LEAST = 4  # outside the blocks adapters must be so many times smaller than the matrix


class LowRank(nn.Module):
    """What is added to a weight, seen as a matrix: its first `rows` axes by the others."""

    def __init__(self, weight: Tensor, rank: int, rows: int) -> None:
        super().__init__()
        outputs, inputs = matrix_shape(weight, rows)
        self.up = nn.Parameter(weight.new_zeros(outputs, rank))
        self.down = nn.Parameter(weight.new_empty(rank, inputs))
        nn.init.uniform_(self.down, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs))

    def forward(self) -> Float[Tensor, "outputs inputs"]:
        """The product, in full precision: it is small beside the weight."""
        with torch.autocast(self.up.device.type, enabled=False):
            return self.up @ self.down

    @property
    def product(self) -> tuple[int, int, int]:
        """Rows, inner size and columns of the product, to be counted."""
        return len(self.up), len(self.down), self.down.shape[1]


def matrix_shape(weight: Tensor, rows: int) -> tuple[int, int]:
    """A weight as a matrix: its first `rows` axes by the others."""
    return math.prod(weight.shape[:rows]), math.prod(weight.shape[rows:])


def adapter_of(module: nn.Module, name: str = "weight") -> LowRank | None:
    """The adapter of one of a module's own weights, if it has one."""
    return getattr(module, name + ENDING, None)


def adapted(module: nn.Module, name: str = "weight") -> Tensor:
    """One of a module's own weights, with what its adapter adds."""
    weight: Tensor = getattr(module, name)
    adapter = adapter_of(module, name)
    return weight if adapter is None else weight + adapter().view_as(weight)


def matrix_trains(module: nn.Module, name: str = "weight") -> bool:
    """Whether a step computes the gradient of a weight, or of what its adapter adds to it."""
    trains: bool = getattr(module, name).requires_grad
    return trains or adapter_of(module, name) is not None


def choose_weights(
    model: nn.Module, mode: Mode, rank: int, known: Collection[str] | None = None
) -> None:
    """Let those weights of a surrogate train that a mode of fine-tuning names.

    Adapters go to weights whose names are `known` (None: to all): new ones train whole.
    """
    blocks = model.get_submodule("blocks")
    blocks.requires_grad_(mode == "full")
    if mode == "lora":
        for part in PLACES:
            model.get_submodule(part).requires_grad_(False)
        add_adapters(model, rank, known)


def add_adapters(model: nn.Module, rank: int, known: Collection[str] | None = None) -> None:
    """Give all matrices of the blocks adapters, and those others that are large beside theirs."""
    for path, module in list(model.named_modules()):
        for name, rows in getattr(module, "ADAPTABLE", {}).items():
            weight: Tensor = getattr(module, name)
            small = LEAST * rank * sum(matrix_shape(weight, rows)) > weight.numel()
            if known is not None and f"{path}.{name}" not in known:
                continue
            if path.startswith("blocks.") or not small:
                weight.requires_grad_(False)
                module.add_module(name + ENDING, LowRank(weight, rank, rows))


def hold_unused(model: nn.Module, lists: Sequence[Sequence[nn.Parameter]]) -> None:
    """Let no weight train that is in each of the lists: what no system of the data reaches."""
    reached = [{id(weight) for weight in weights} for weights in lists]
    for weight in model.parameters():
        if all(id(weight) in weights for weights in reached):
            weight.requires_grad_(False)


def train_like(model: nn.Module, other: nn.Module) -> None:
    """Let the weights of a model train as those of another one do."""
    for part in ("blocks", *PLACES):
        weight = next(other.get_submodule(part).parameters())
        model.get_submodule(part).requires_grad_(weight.requires_grad)
    if rank := rank_of(other):
        add_adapters(model, rank)


def adapters(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, LowRank]]:
    """Each adapter: the name of the weight in the model, the module that has it, its name there,
    and the adapter."""
    for path, module in model.named_modules():
        for name in getattr(module, "ADAPTABLE", {}):
            adapter = adapter_of(module, name)
            if adapter is not None:
                yield f"{path}.{name}", module, name, adapter


def rank_of(model: nn.Module) -> int:
    """The rank of a model's adapters; 0 where it has none."""
    return next((len(adapter.down) for *_, adapter in adapters(model)), 0)


@torch.no_grad()
def merge_adapters(model: nn.Module) -> None:
    """Add what adapters say to the weights, and take them away: the model is an ordinary one,
    whose predictions are the same to rounding."""
    found = list(adapters(model))
    for part in ("blocks", *PLACES) if found else ():
        model.get_submodule(part).requires_grad_(True)
    for _, module, name, _ in found:
        weight: Tensor = getattr(module, name)
        weight.copy_(adapted(module, name)).requires_grad_(True)
        delattr(module, name + ENDING)


@torch.no_grad()
def merged_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights of the model that `merge_adapters` would make, by name; the model stays."""
    found = {name: (module, own) for name, module, own, _ in adapters(model)}
    return {
        name: adapted(*found[name]) if name in found else weight
        for name, weight in model.state_dict().items()
        if not is_adapter(name)
    }


def is_adapter(name: str) -> bool:
    """Whether a weight of this name is part of an adapter."""
    return name.endswith((f"{ENDING}.up", f"{ENDING}.down"))
