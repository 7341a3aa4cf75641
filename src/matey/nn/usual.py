"""How large the fields of a system usually are: what the normalisation of each sample forgets.

How fast a flow carries itself, or a sound wave crosses the points, depends on how large velocity,
pressure and density are. A sample says how large its fields are beside those that the system was
trained on: numbers without units, which training windows fix.

Axes: B samples, T times, C variables, (Z, Y, X) grid points, S sizes.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from matey.fields import Batch, SystemSpec
from matey.nn.normalise import Statistics, measure

SIZES = ("root mean square", "deviation", "last change")
DEVIATION = 1  # place of it among the sizes
SMALLEST = 1e-30  # a field that rests at zero has some size
FAR = 4.0  # a ratio is at most exp(FAR), and at least the inverse


class Usual(nn.Module):
    """Logarithms of the sizes of each system's variables, averaged over training windows."""

    def __init__(self) -> None:
        super().__init__()
        self.logs = nn.ParameterDict()

    def add(self, spec: SystemSpec) -> None:
        """Make room for the sizes of a system: zero, until they are measured."""
        if spec.name not in self.logs:
            zeros = torch.zeros(len(spec.variables), len(SIZES))
            self.logs[spec.name] = nn.Parameter(zeros, requires_grad=False)

    @torch.no_grad()
    def measure(self, spec: SystemSpec, batches: Iterable[Batch]) -> None:
        """Average the sizes of a system over its training windows."""
        logs = [logs_of(batch.values, measure(batch.values)) for batch in batches]
        self.logs[spec.name].copy_(torch.cat(logs).mean(dim=0))

    def ratios(
        self,
        values: Float[Tensor, "B T C Z Y X"],
        statistics: Statistics,
        spec: SystemSpec,
        systems: Mapping[str, SystemSpec],
    ) -> Float[Tensor, "B C S"]:
        """The sizes of samples over those usual for their system, or for another one of the same
        variables; 1 where none are measured."""
        logs, name = logs_of(values, statistics), same_variables(spec, systems)
        if name is None or not bool(self.logs[name].any()):
            return torch.ones_like(logs)
        return (logs - self.logs[name]).clamp(-FAR, FAR).exp()


def logs_of(values: Float[Tensor, "B T C Z Y X"], statistics: Statistics) -> Float[Tensor, "B C S"]:
    """Logarithms of the sizes of the variables at the end of each history."""
    points = (-3, -2, -1)
    last = values[:, -1].double()
    change = (last - values[:, -2]) if values.shape[1] > 1 else torch.zeros_like(last)
    sizes = [last.square().mean(dim=points).sqrt(), statistics.scale.flatten(1).double()]
    sizes.append(change.square().mean(dim=points).sqrt())
    return torch.stack(sizes, dim=2).clamp(min=SMALLEST).log().float()


def told(spec: SystemSpec) -> Sequence[str]:
    """Names of the ratios that the conditioning is told, of the variables that are predicted."""
    names = [spec.variables[i].name for i in spec.predicted]
    return [f"{size} of {name}" for name in names for size in SIZES]


def same_variables(spec: SystemSpec, systems: Mapping[str, SystemSpec]) -> str | None:
    """The name of a system, else of one with its variables."""
    names = [variable.name for variable in spec.variables]
    fits = [n for n, other in systems.items() if [v.name for v in other.variables] == names]
    return spec.name if spec.name in fits else next(iter(fits), None)
