"""The least-squares stencil as a model: the next frame as a linear map of the points around.

One for each system, fitted in closed form (`matey.nn.local.stencil`). It is told neither lead
time nor parameters.

Axes: B samples, P predicted variables, (Z, Y, X) grid points.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from torch import nn

from matey.config import ModelConfig
from matey.errors import ConfigError
from matey.fields import Grid, Inputs, SystemSpec
from matey.nn.baselines.base import check_spacing
from matey.nn.local.stencil import Stencils, layout, stencil_of
from matey.nn.operations import Cost
from matey.nn.surrogate import Prediction, Surrogate, moved, normalised
from matey.tokens.lattice import Triple


class StencilModel(Surrogate):
    """A stencil for each system of a run, whatever their variables and dimensions."""

    def __init__(self, config: ModelConfig, specs: Sequence[SystemSpec], history: int) -> None:
        super().__init__(config, history)
        self.blocks = nn.ModuleList()
        self.stencils = Stencils(history, config.baseline.width)
        self.add_systems(specs)

    def add_systems(self, specs: Sequence[SystemSpec]) -> None:
        """Make room for the stencils of new systems. Raises ConfigError where one of the same name
        has other variables."""
        for spec in specs:
            if spec.name in self.specs and layout(self.specs[spec.name]) != layout(spec):
                raise ConfigError(
                    f"System {spec.name!r} has other variables than the system of that name which "
                    "this stencil was fitted to. Fit one anew: matey train --baseline stencil."
                )
            self.stencils.add(spec)
            self.specs[spec.name] = spec

    def forward(self, inputs: Inputs, shift: Triple = (0, 0, 0)) -> Prediction:
        """The frame one step ahead, whatever the lead time."""
        spec = inputs.spec
        check_spacing(self.config, inputs.points is None)
        statistics, fields = normalised(inputs, shift)
        name = stencil_of(spec, self.specs)
        change = self.stencils(fields, inputs.boundaries, spec, name)
        output = fields[:, -1, list(spec.predicted)] + change
        back: Triple = (-shift[0], -shift[1], -shift[2])
        return Prediction(moved(output, back), statistics.take(spec.predicted))

    def hears(self, parameter: str) -> bool:
        """Yes: no parameter is new to it, since it heeds none."""
        return True

    def unused(self, spec: SystemSpec) -> list[nn.Parameter]:
        """None: nothing is trained."""
        return []

    def cost(self, inputs: Inputs, prediction: Prediction) -> Cost:
        """Operations of the step that made a prediction."""
        return self.count(inputs)

    def count(self, inputs: Inputs) -> Cost:
        """Operations of a step on such inputs: what is in them does not matter."""
        cost, points = Cost(), inputs.values[:, 0, 0].numel()
        self.stencils.count(cost, inputs.spec, stencil_of(inputs.spec, self.specs), points)
        return cost

    def check_system(self, spec: SystemSpec) -> None:
        """Raise DataError unless a stencil was fitted to the system, or one alike."""
        stencil_of(spec, self.specs)

    def check_grid(self, grid: Grid, spec: SystemSpec) -> None:
        """Raise ShapeError for a stretched axis."""
        check_spacing(self.config, not grid.stretched)

    def summary(self) -> dict[str, Any]:
        """What kind of model it is, as it stands in `scores.json`."""
        return asdict(self.config.baseline)

    def cells(self) -> str:
        """What fields are cut into, in words."""
        return "whole frames, a stencil"
