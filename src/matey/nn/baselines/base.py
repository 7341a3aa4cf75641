"""Baselines: a U-Net or an FNO between the same normalisation, inputs and outputs.

History, static variables, lead time and parameters are channels. A baseline has one set of
variables, and as many weights as the transformer of the same config would have.

Axes: B samples, T times, C variables, P predicted variables, (Z, Y, X) grid points.
Sources: as in `unet` and `fno`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from matey.config import BaselineConfig, ModelConfig
from matey.errors import ConfigError, DataError, ShapeError
from matey.fields import Grid, Inputs, SystemSpec
from matey.fields.inputs import periodic
from matey.nn.baselines.fno import FNO, check_even
from matey.nn.baselines.unet import UNet
from matey.nn.embed import Conditioning
from matey.nn.operations import Cost, count
from matey.nn.surrogate import Prediction, Surrogate
from matey.nn.transformer import Matey
from matey.tokens.lattice import Triple
from matey.tokens.normalise import moved, normalised

CASE = 16  # channels that tell lead time and parameters
TOLERANCE = 0.1  # of the number of weights
MODES = {1: 16, 2: 12, 3: 8}  # by dimensions: those of an FNO, where they leave a width that fits
NAMES = {"unet": "U-Net", "fno": "FNO"}
UNIFORM = {"fno": "an FNO", "stencil": "a stencil"}  # which take points that are evenly apart


class Baseline(Surrogate):
    """A network that takes frames whole, for systems of one set of variables.

    `config.baseline` says which. Without a width it is given as many weights as the transformer
    that `config` describes, within 10 %. Raises ConfigError for systems that differ
    in variables, parameters or dimensions, and where no width fits.
    """

    def __init__(self, config: ModelConfig, specs: Sequence[SystemSpec], history: int) -> None:
        if not config.baseline.width:
            config = replace(config, baseline=matched(config, specs, history))
        super().__init__(config, history)
        self.conditioning = Conditioning(CASE, noise=config.noise)
        self.conditioning.names.add(specs[0].parameters)
        self.blocks = nn.ModuleList([make_network(self.config, specs[0], history)])
        self.add_systems(specs)

    def add_systems(self, specs: Sequence[SystemSpec]) -> None:
        """Take note of systems, which have to be like those that are known."""
        for spec in specs:
            known = next(iter(self.specs.values()), spec)
            if layout(spec) != layout(known):
                raise ConfigError(
                    f"System {spec.name!r} ({said(spec)}) is unlike {known.name!r} ({said(known)}):"
                    f" a {self.name} has one set of variables, parameters and "
                    "dimensions. Train one for each system: matey train --baseline "
                    f"{self.config.baseline.kind}."
                )
            self.specs[spec.name] = spec

    def forward(self, inputs: Inputs, shift: Triple = (0, 0, 0)) -> Prediction:
        """The frame at the given lead time."""
        spec = inputs.spec
        check_spacing(self.config, inputs.points is None)
        statistics, fields = normalised(inputs, shift)
        samples, _, variables, *grid = fields.shape
        chosen, last = list(spec.predicted), fields[:, -1]
        static = [i for i in range(variables) if i not in chosen]
        told = inputs.parameters, spec.parameters, inputs.noise
        case = self.conditioning(inputs.lead_time, *told)
        channels = [
            fields[:, :, chosen].flatten(1, 2),
            last[:, static],
            case[..., None, None, None].expand(-1, -1, *grid).to(fields),
        ]
        wraps = periodic(inputs.boundaries)[:, 3 - spec.ndim :]
        given = torch.cat(channels, dim=1).reshape(samples, -1, *grid[3 - spec.ndim :])
        output = self.blocks[0](given, wraps).reshape(samples, len(chosen), *grid)
        if self.config.predict == "delta":
            output = output + last[:, chosen]
        back: Triple = (-shift[0], -shift[1], -shift[2])
        made = Prediction(moved(output, back), statistics.take(spec.predicted))
        return self.kept(made, inputs)

    def unused(self, spec: SystemSpec) -> list[nn.Parameter]:
        """The weights that no batch reaches: those of parameters, where there are none."""
        if spec.parameters:
            return []
        modules = (self.conditioning.parameter_in, self.conditioning.parameter_out)
        return [parameter for module in modules for parameter in module.parameters()]

    def cost(self, inputs: Inputs, prediction: Prediction) -> Cost:
        """Operations of the step that made a prediction."""
        return self.count(inputs)

    def count(self, inputs: Inputs) -> Cost:
        """Operations of a step on such inputs: what is in them does not matter."""
        cost, samples, spec = Cost(), len(inputs.values), inputs.spec
        self.conditioning.count(cost, samples, spec.parameters)
        network: Any = self.blocks[0]
        network.count(cost, samples, inputs.values.shape[6 - spec.ndim :])
        return cost

    def check_system(self, spec: SystemSpec) -> None:
        """Raise DataError for other variables or dimensions than those of training."""
        known = next(iter(self.specs.values()))
        if layout(spec)[:2] != layout(known)[:2]:
            raise DataError(
                f"System {spec.name!r} ({said(spec)}) is unlike {known.name!r} ({said(known)}), "
                f"which this {self.name} was trained on. Train one for it: matey "
                f"train --baseline {self.config.baseline.kind}."
            )

    def check_grid(self, grid: Grid, spec: SystemSpec) -> None:
        """Raise ShapeError for a stretched or odd axis, which an FNO cannot take; a U-Net takes
        any, and is not told where points are."""
        check_spacing(self.config, not grid.stretched)
        if self.config.baseline.kind == "fno":
            check_even(grid.shape[3 - spec.ndim :], f"system {spec.name!r}")

    def summary(self) -> dict[str, Any]:
        """What kind of model it is, as it stands in `scores.json`."""
        return asdict(self.config.baseline)

    @property
    def name(self) -> str:
        """What such a network is called."""
        return NAMES[self.config.baseline.kind]

    def cells(self) -> str:
        """What fields are cut into, in words."""
        return f"whole frames, {self.name} of width {self.config.baseline.width}"


def check_spacing(config: ModelConfig, even: bool) -> None:
    """Raise ShapeError for an FNO or a stencil on grids whose points are not evenly apart."""
    if config.baseline.kind in UNIFORM and not even:
        raise ShapeError(
            f"The grid is stretched, and {UNIFORM[config.baseline.kind]} takes points that are "
            "evenly apart. Interpolate the files to such a grid (xarray's `interp`), or take "
            "--baseline unet."
        )


def layout(spec: SystemSpec) -> tuple[int, tuple[tuple[str, bool], ...], tuple[str, ...]]:
    """What two systems of one baseline have in common."""
    variables = tuple((variable.name, variable.static) for variable in spec.variables)
    return spec.ndim, variables, spec.parameters


def said(spec: SystemSpec) -> str:
    """The same for a reader."""
    names = [*(variable.name for variable in spec.variables), *spec.parameters]
    return f"{spec.ndim}D, {', '.join(names)}"


def make_network(config: ModelConfig, spec: SystemSpec, history: int) -> nn.Module:
    """The network of a config whose size is chosen, for the variables of a system."""
    baseline, outputs = config.baseline, len(spec.predicted)
    inputs = history * outputs + len(spec.variables) - outputs + CASE
    width = baseline.width or 1
    if baseline.kind == "unet":
        return UNet(spec.ndim, inputs, outputs, width)
    modes = baseline.modes or MODES[spec.ndim]
    return FNO(spec.ndim, inputs, outputs, width, modes, config.absolute_position)


def matched(config: ModelConfig, specs: Sequence[SystemSpec], history: int) -> BaselineConfig:
    """The baseline of the width, and modes, that give it as many weights as the transformer has.

    Only shapes are made: no weight is allocated. Raises ConfigError where nothing fits.
    """
    with torch.device("meta"):
        wanted = count(Matey(replace(config, baseline=BaselineConfig()), specs, history))

    def size(baseline: BaselineConfig, width: int | None) -> int:
        sized = replace(config, baseline=replace(baseline, width=width))
        with torch.device("meta"):
            conditioning = Conditioning(CASE, noise=config.noise)
            conditioning.names.add(specs[0].parameters)
            return count(conditioning) + count(make_network(sized, specs[0], history))

    best, off = config.baseline, float("inf")
    for tried in candidates(config.baseline, specs[0].ndim):
        one = replace(tried, width=nearest_width(partial(size, tried), wanted))
        error = abs(size(one, one.width) / wanted - 1)
        if error < off:
            best, off = one, error
        if off < TOLERANCE / 2:
            break
    if off > TOLERANCE:
        raise ConfigError(
            f"No width gives a {NAMES[best.kind]} the {wanted} weights of the transformer within "
            f"{TOLERANCE:.0%}: the nearest is {best.width}, {off:.0%} off. Compare larger models, "
            f"or set model.baseline.width."
        )
    return best


def candidates(baseline: BaselineConfig, ndim: int) -> Iterable[BaselineConfig]:
    """A baseline, and of an FNO without modes those with each number of them that is tried."""
    if baseline.kind != "fno" or baseline.modes:
        return [baseline]
    usual = MODES[ndim]
    tried = sorted(range(4, 2 * usual + 1, 2), key=lambda modes: abs(modes - usual))
    return (replace(baseline, modes=modes) for modes in tried)


def nearest_width(size: Callable[[int], int], wanted: int) -> int:
    """The width whose size is nearest to the one wanted; sizes increase with it."""
    high = 1
    while size(high) < wanted:
        high *= 2
    low = max(1, high // 2)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < wanted else (low, middle)
    return min((low, high), key=lambda width: abs(size(width) - wanted))
