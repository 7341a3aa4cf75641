"""The least-squares stencil as a model: the next frame as a linear map of the points around.

One for each system, fitted in closed form (`matey.nn.local.stencil`). It is told neither lead
time nor parameters.

Axes: B samples, P predicted variables, (Z, Y, X) grid points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from matey.config import BaselineConfig, ModelConfig
from matey.errors import ConfigError, MateyError
from matey.fields import Grid, Inputs, SystemSpec
from matey.nn.baselines.base import check_spacing
from matey.nn.local.stencil import Stencils, layout, stencil_of
from matey.nn.operations import Cost
from matey.nn.surrogate import Prediction, Surrogate
from matey.nn.transformer import Matey
from matey.tokens.lattice import Triple
from matey.tokens.normalise import moved, normalised


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
        made = Prediction(moved(output, back), statistics.take(spec.predicted))
        return self.kept(made, inputs)

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


@dataclass(frozen=True)
class Yardstick:
    """The stencils of the systems that a model was trained on, which its scores stand beside.

    They are fitted when training begins, to the same trajectories, and kept with the model.
    `refused` says why a system has none.
    """

    model: StencilModel
    refused: Mapping[str, str]

    def beside(self, later: "Yardstick") -> "Yardstick":
        """These and those of a later training, which take the place of these for its systems."""
        merged = StencilModel(later.model.config, [], later.model.history)
        if (self.model.history, self.model.config) != (merged.history, merged.config):
            return later  # fitted to other histories, or at other widths
        names = {*later.model.specs, *later.refused}
        old = {name: spec for name, spec in self.model.specs.items() if name not in names}
        merged.add_systems([*old.values(), *later.model.specs.values()])
        for source, specs in ((self.model, old), (later.model, later.model.specs)):
            for name in specs:
                merged.stencils.take(name, source.stencils)
        kept = {name: why for name, why in self.refused.items() if name not in names}
        return Yardstick(merged, {**kept, **later.refused})

    def serves(self, spec: SystemSpec, grid: Grid) -> str:
        """Why there is no stencil for a system on such a grid; empty where there is one."""
        if spec.name in self.refused:
            return self.refused[spec.name]
        try:
            self.model.check_grid(grid, spec)
            name = stencil_of(spec, self.model.specs)
        except MateyError as error:
            return str(error)
        return "" if self.model.stencils.fitted(name) else "nothing that moves was there to fit"


def yardstick_of(model: Surrogate) -> Yardstick | None:
    """The stencils that a model's scores stand beside: those kept with it, or those that it
    predicts beyond. None of a stencil, and of models of older versions."""
    if model.yardstick is not None or not predicts_beyond(model):
        return model.yardstick
    assert isinstance(model, Matey)
    return Yardstick(own_stencils(model, ModelConfig(baseline=BaselineConfig("stencil"))), {})


def predicts_beyond(model: Surrogate) -> bool:
    """Whether a model adds to a stencil's step, whatever the system."""
    if not isinstance(model, Matey) or model.stencils is None:
        return False
    return all(model.stencils.fitted(name) for name in model.specs)


def own_stencils(model: Matey, config: ModelConfig) -> StencilModel:
    """The stencils inside a model, as a model of such a config: by that of a stencil it refuses
    stretched grids, by the model's own it takes them, too."""
    assert model.stencils is not None
    own = StencilModel(config, [], model.history)
    own.stencils, own.specs = model.stencils, model.specs
    return own.eval()
