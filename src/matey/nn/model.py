"""The model: fields in, the frame at the lead time out.

Axes: B samples, T times, C variables, P predicted variables, (Z, Y, X) grid points,
N cells in use, D width.
Source: arXiv:2412.20601.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from matey.config import ModelConfig
from matey.errors import DataError, nearest
from matey.fields import Field, Inputs, SystemSpec, stack_fields
from matey.nn import rollout
from matey.nn.attention import rotations
from matey.nn.block import Block
from matey.nn.embed import Conditioning, Position
from matey.nn.normalise import Statistics, measure
from matey.nn.schemes import SCHEMES, segment
from matey.nn.tokenizer import Tokenizer, shape_key
from matey.tokens.lattice import Triple, patch_shape
from matey.tokens.pack import pack, unpack
from matey.tokens.refine import RefinementPlan, plan_refinement

log = logging.getLogger("matey")


@dataclass(frozen=True)
class Prediction:
    """A predicted frame of the variables that change in time.

    `normalised` is dimensionless, `statistics` turns it into physical units, `plan` says
    which cells the tokens were.
    """

    normalised: Float[Tensor, "B P Z Y X"]
    statistics: Statistics
    plan: RefinementPlan

    @property
    def fields(self) -> Float[Tensor, "B P Z Y X"]:
        """The frame in physical units."""
        return self.statistics.restore(self.normalised)


class Matey(nn.Module):
    """Multiscale adaptive transformer for any number of physical systems.

    `history` frames are given. `specs` are the systems whose variables, parameters and
    dimensions it has weights for; `add_systems` makes more.
    """

    def __init__(self, config: ModelConfig, specs: Sequence[SystemSpec], history: int) -> None:
        super().__init__()
        self.config = config
        self.history = history
        self.specs: dict[str, SystemSpec] = {}
        stages = len(SCHEMES[config.scheme])
        drop = torch.linspace(0, config.drop_path, config.depth).tolist()
        self.tokenizer = Tokenizer(config.embed_dim, config.latent_channels)
        self.position = Position(config.embed_dim, config.absolute_position)
        self.conditioning = Conditioning(config.embed_dim)
        self.blocks = nn.ModuleList(Block(config, stages, p) for p in drop)
        self.norm = nn.LayerNorm(config.embed_dim)
        self.add_systems(specs)

    def add_systems(self, specs: Sequence[SystemSpec]) -> None:
        """Make the weights that new systems need. What is there stays as it is."""
        for spec in specs:
            self.specs[spec.name] = spec
            predicted = [spec.variables[i].name for i in spec.predicted]
            self.tokenizer.inputs.add([variable.name for variable in spec.variables])
            self.tokenizer.outputs.add(predicted)
            self.tokenizer.add(self.patches(spec.ndim))
            self.conditioning.names.add(spec.parameters)
        self.to(self.norm.weight.device)

    def patches(self, ndim: int) -> tuple[Triple, ...]:
        """The patch shape of each level, for fields of so many dimensions."""
        return tuple(patch_shape(ndim, patch) for patch in self.config.patches)

    def forward(self, inputs: Inputs) -> Prediction:
        """The frame at the given lead time.

        Raises ShapeError if the patches do not tile the grid.
        """
        spec = inputs.spec
        statistics = measure(inputs.values)
        fields = statistics.normalise(inputs.values)
        plan = plan_refinement(fields, self.patches(spec.ndim), self.config.refine)

        names = [variable.name for variable in spec.variables]
        sequence = pack(self.tokenizer.encode(fields, plan, names), plan)
        case = self.conditioning(inputs.lead_time, inputs.parameters, spec.parameters)
        tokens = sequence.tokens + self.position(sequence, inputs.boundaries)
        tokens = tokens + case[sequence.sample, None]

        stages = segment(self.config.scheme, sequence)
        turn = rotations(sequence.centre, self.config.embed_dim // self.config.heads)
        for block in self.blocks:
            tokens = block(tokens, stages, turn, sequence.sample)

        last = unpack(self.norm(tokens[:, -1]), plan)
        output = self.tokenizer.decode(last, plan, [names[i] for i in spec.predicted])
        if self.config.predict == "delta":
            output = output + fields[:, -1, list(spec.predicted)]
        return Prediction(output, statistics.take(spec.predicted), plan)

    def plan(self, field: Field) -> RefinementPlan:
        """The cells that the end of a field is cut into; `plan.leaves` are those in use."""
        self.check(field)
        recent = replace(
            field, values=field.values[-self.history :], times=field.times[-self.history :]
        )
        return self.plan_inputs(stack_fields([recent], [1.0], [field.spec.name]))

    @torch.no_grad()
    def plan_inputs(self, inputs: Inputs) -> RefinementPlan:
        """The cells that each of several histories is cut into."""
        values = inputs.values.to(self.norm.weight.device)
        fields = measure(values).normalise(values)
        return plan_refinement(fields, self.patches(inputs.spec.ndim), self.config.refine)

    def rollout_steps(self, field: Field, steps: int, lead_time: float = 1.0) -> Iterator[Field]:
        """The frames after a field's last, one at a time, each from those before it.

        `lead_time` is the time between them in units of the system's dt.
        """
        self.check(field)
        return rollout.rollout_steps(self, field, steps, lead_time)

    def rollout(self, field: Field, steps: int, lead_time: float = 1.0) -> Field:
        """The `steps` frames after the last of a field, as one field."""
        return rollout.join(list(self.rollout_steps(field, steps, lead_time)))

    def check(self, field: Field) -> None:
        """Raise DataError unless the model can continue the field; warn of what it ignores."""
        spec = field.spec
        for variable in spec.variables:
            if variable.name not in self.tokenizer.inputs:
                raise DataError(
                    f"System {spec.name!r} has variable {variable.name!r}, which the model was "
                    f"never trained on. {nearest(variable.name, self.tokenizer.inputs.names())} "
                    "Fine-tune it with `matey finetune` first."
                )
        if shape_key(self.patches(spec.ndim)[0]) not in self.tokenizer.encoders:
            raise DataError(
                f"System {spec.name!r} has {spec.ndim} dimensions, which the model was never "
                "trained on. Fine-tune it with `matey finetune` first."
            )
        for i in spec.predicted:
            if spec.variables[i].name not in self.tokenizer.outputs:
                raise DataError(
                    f"The model was never trained to predict {spec.variables[i].name!r} of system "
                    f"{spec.name!r}, only to read it. Fine-tune it with `matey finetune` first."
                )
        if len(field) < self.history:
            raise DataError(
                f"{len(field)} frames of system {spec.name!r} were given, the model needs "
                f"{self.history}. Give it a longer field."
            )
        for name in spec.parameters:
            if name not in self.conditioning.names:
                log.warning("Parameter %r is new to the model, and is ignored.", name)
