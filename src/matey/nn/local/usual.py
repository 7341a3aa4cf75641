"""How large the fields of a system usually are: what the normalisation of each sample forgets.

How fast a flow carries itself, or sound crosses the grid, depends on how large velocity, pressure
and density are. A sample is told how large its fields are beside those of training: ratios without
units. So predictions depend on units being those of training; where nothing was measured, all
ratios are 1, and units do not matter.

Axes: B samples, T times, C variables, (Z, Y, X) grid points, S sizes.
"""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from matey.fields import Batch, SystemSpec
from matey.fields.grid import Points
from matey.nn.local.stencil import by_name, key, layout, stand_in
from matey.tokens.normalise import Statistics, normalised

SIZES = ("root mean square", "deviation", "last change")
DEVIATION = 1  # place of it among the sizes
SMALLEST = 1e-30  # in units of the field: a variable that is zero has some size
FAR = 4.0  # a ratio is at most exp(FAR), and at least the inverse


class Usual(nn.Module):
    """Logarithms of the sizes of each system's variables, averaged over training windows.

    Zero until they are measured. No gradient flows into them. Variables are sorted by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.logs = nn.ParameterDict()

    def add(self, spec: SystemSpec, before: SystemSpec | None = None) -> None:
        """Make room for the sizes of a system that has none yet, or had other variables `before`:
        those are to be measured anew."""
        if key(spec.name) not in self.logs or (before and layout(before) != layout(spec)):
            zeros = torch.zeros(len(spec.variables), len(SIZES))
            self.logs[key(spec.name)] = nn.Parameter(zeros, requires_grad=False)

    def measured(self, name: str) -> bool:
        """Whether a system's sizes are."""
        return bool(self.logs[key(name)].any())

    @torch.no_grad()
    def measure(self, spec: SystemSpec, batches: Iterable[Batch]) -> None:
        """Average the sizes of a system over its training windows."""
        logs: list[Tensor] = []
        for batch in batches:
            statistics, fields = normalised(batch)
            rows = logs_of(fields, statistics, batch.space)[:, by_name(spec)]
            if batch.mask is not None:  # a crop may hold no field
                rows = rows[batch.mask.flatten(1).any(dim=1)]
            logs.extend(rows)
        if logs:
            self.logs[key(spec.name)].copy_(torch.stack(logs).mean(dim=0))

    def ratios(
        self,
        fields: Float[Tensor, "B T C Z Y X"],
        statistics: Statistics,
        spec: SystemSpec,
        specs: Mapping[str, SystemSpec],
        points: Points | None = None,
    ) -> Float[Tensor, "B C S"]:
        """The sizes of normalised samples over those usual for their system, or for the one system
        with the same variables; 1 where there is none, or none are measured. `points` are those of
        stretched and masked grids, as far shifted as the fields."""
        logs, name = logs_of(fields, statistics, points), stand_in(spec, specs)
        if name is None:
            return torch.ones_like(logs).to(fields)
        order = by_name(spec)
        usual = self.logs[key(name)][[order.index(i) for i in range(len(order))]]
        ratios = (logs - usual).clamp(-FAR, FAR).exp()
        return torch.where(usual.any(), ratios, 1.0).to(fields)


def logs_of(
    fields: Float[Tensor, "B T C Z Y X"], statistics: Statistics, points: Points | None
) -> Float[Tensor, "B C S"]:
    """Logarithms of the sizes, in physical units, of the end of normalised histories.

    The root mean square and the last change are means over space, weighted by volume on stretched
    and masked grids; the deviation is that of the whole history.
    """

    def mean(values: Tensor) -> Tensor:
        if points is None:
            return values.mean(dim=(-3, -2, -1)).double()
        return (values * points.volumes).sum(dim=(-3, -2, -1)).double()

    last = fields[:, -1]
    change = last - fields[:, -2] if fields.shape[1] > 1 else torch.zeros_like(last)
    middle, scale = (part.flatten(1).double() for part in (statistics.mean, statistics.scale))
    average = mean(last)
    power = (middle + scale * average).square()
    power = power + scale.square() * (mean(last.square()) - average.square()).clamp(min=0)
    powers = [power, scale.square(), scale.square() * mean(change.square())]
    # A root has no gradient at zero, where nothing changes; the least power has one, 0.
    return torch.stack(powers, dim=2).clamp(min=SMALLEST**2).log() / 2


def told(spec: SystemSpec) -> tuple[str, ...]:
    """Names of the ratios that the conditioning is told: all of each predicted variable."""
    names = [spec.variables[i].name for i in spec.predicted]
    return tuple(f"{size} of {name}" for name in names for size in SIZES)
