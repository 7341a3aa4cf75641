"""The model: fields in, the frame at the lead time out.

Axes: B samples, T times, C variables, P predicted variables, (Z, Y, X) grid points,
N cells in use, D width.
Source: arXiv:2412.20601.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from matey.config import ModelConfig, RefineConfig, Scheme
from matey.errors import DataError, ShapeError, nearest
from matey.fields import Boundary, Field, Grid, Inputs, SystemSpec, stack_fields
from matey.nn.attention import Attention, rotations
from matey.nn.block import Block, Surroundings
from matey.nn.cost import Cost, step_cost
from matey.nn.embed import Conditioning, Named, Position
from matey.nn.features import FeatureTokenizer
from matey.nn.local import BLOCKS, Local
from matey.nn.normalise import measure
from matey.nn.schemes import segment, stages_of
from matey.nn.share import Share
from matey.nn.stencil import Stencils
from matey.nn.surrogate import Prediction, Surrogate, moved
from matey.nn.tokenizer import Tokenizer, shape_key
from matey.nn.usual import DEVIATION, Usual, told
from matey.tokens.criteria import find_criterion
from matey.tokens.lattice import Triple
from matey.tokens.pack import PACKINGS, Packing, Segments, pack, unpack
from matey.tokens.refine import RefinementPlan, plan_refinement


@dataclass(frozen=True, kw_only=True)
class TokenPrediction(Prediction):
    """What the transformer predicts, and how: `packing` says which cells the tokens were, and
    `stages` which of them attended together in each scheme."""

    packing: Packing
    stages: Mapping[Scheme, list[list[Segments]]]

    @property
    def tokens(self) -> int:
        """Tokens of each frame, of all samples together."""
        return len(self.packing.cell)

    @property
    def plan(self) -> RefinementPlan:
        """Which cells were refined."""
        return self.packing.plan


class Matey(Surrogate):
    """Multiscale adaptive transformer for any number of physical systems.

    `history` frames are given. `specs` are the systems whose variables, parameters and
    dimensions it has weights for; `add_systems` makes more.
    """

    def __init__(self, config: ModelConfig, specs: Sequence[SystemSpec], history: int) -> None:
        super().__init__(config, history)
        self.share = Share()
        find_criterion(config.refine.criterion)
        drop = [config.drop_path * i / max(1, config.depth - 1) for i in range(config.depth)]
        self.tokenizer = Tokenizer(config.embed_dim, config.latent_channels, config.stem)
        self.position = Position(config.embed_dim, config.absolute_position, config.jitter)
        self.conditioning = Conditioning(config.embed_dim)
        self.blocks = nn.ModuleList(
            Block(config, len(stages_of(scheme, bool(config.local))), p)
            for scheme, p in zip(config.schemes, drop, strict=True)
        )
        self.norm = nn.LayerNorm(config.embed_dim)
        if config.local:
            self.features = FeatureTokenizer(config.embed_dim, config.local, config.piece)
            self.locals = nn.ModuleDict()
            self.usual = Usual()
        if config.stencil:
            self.stencils = Stencils(history)
        self.add_systems(specs)

    def add_systems(self, specs: Sequence[SystemSpec]) -> None:
        """Make the weights that new systems need. What is there stays as it is."""
        for spec in specs:
            self.specs[spec.name] = spec
            predicted = [spec.variables[i].name for i in spec.predicted]
            names = [variable.name for variable in spec.variables]
            if self.config.local:
                if str(spec.ndim) not in self.locals:
                    config, sizes = self.config, (BLOCKS, self.config.embed_dim)
                    sizes_of = (config.local, *sizes, config.piece, config.levels)
                    self.locals[str(spec.ndim)] = Local(spec.ndim, self.history, *sizes_of)
                self.local_of(spec.ndim).add(names, predicted)
                self.features.add(self.patches(spec.ndim))
                self.usual.add(spec)
                self.conditioning.names.add(told(spec))
            else:
                self.tokenizer.inputs.add(names)
                self.tokenizer.outputs.add(predicted)
                self.tokenizer.add(self.patches(spec.ndim))
            if self.config.stencil:
                self.stencils.add(spec)
            self.conditioning.names.add(spec.parameters)
        self.to(self.norm.weight.device)

    def unused(self, spec: SystemSpec) -> list[nn.Parameter]:
        """The weights that no batch of a system reaches: those of other names and patch shapes."""
        shapes = {shape_key(patch) for patch in self.patches(spec.ndim)}
        coders = [self.tokenizer.encoders, self.tokenizer.decoders]
        if self.config.local:
            coders = [self.features.ends]
        modules: list[nn.Module] = [
            coder[key] for coder in coders for key in coder if key not in shapes
        ]
        if self.config.local:
            modules += [self.locals[key] for key in self.locals if key != str(spec.ndim)]
        if not self.told(spec):
            modules += [self.conditioning.parameter_in, self.conditioning.parameter_out]
        if not self.config.absolute_position:
            modules.append(self.position.centre)
        inputs, outputs = self.named(spec.ndim)
        return [
            *inputs.others([variable.name for variable in spec.variables]),
            *outputs.others([spec.variables[i].name for i in spec.predicted]),
            *self.conditioning.names.others(self.told(spec)),
            *(parameter for module in modules for parameter in module.parameters()),
        ]

    def told(self, spec: SystemSpec) -> tuple[str, ...]:
        """Names of what the conditioning is told of a sample."""
        return (*spec.parameters, *(told(spec) if self.config.local else ()))

    def named(self, ndim: int) -> tuple[Named, Named]:
        """The weights by name of what is read and of what is predicted."""
        if self.config.local:
            return self.local_of(ndim).inputs, self.local_of(ndim).outputs
        return self.tokenizer.inputs, self.tokenizer.outputs

    def forward(self, inputs: Inputs, shift: Triple = (0, 0, 0)) -> TokenPrediction:
        """The frame at the given lead time.

        `shift` moves the lattice of patches by so many grid points along Z, Y and X: along
        periodic axes only. Raises ShapeError if the patches do not tile the grid.
        """
        spec = inputs.spec
        statistics = measure(inputs.values)
        fields = moved(statistics.normalise(inputs.values), shift)
        plan = self.plan_normalised(fields, inputs)

        names = [variable.name for variable in spec.variables]
        packing = PACKINGS[self.config.mode](plan)
        parameters = inputs.parameters
        if self.config.local:
            ratios = self.usual.ratios(inputs.values, statistics, spec, self.specs)
            parameters = torch.cat([parameters, ratios[:, list(spec.predicted)].flatten(1)], dim=1)
            ratio = ratios[:, :, DEVIATION]
        case = self.conditioning(inputs.lead_time, parameters, self.told(spec))
        local: Local | None = None
        if self.config.local:
            local = self.local_of(spec.ndim)
            active = fields.flatten(3, 5).unflatten(3, fields.shape[6 - spec.ndim :])
            sides = inputs.boundaries[:, 3 - spec.ndim :]
            features = local.read(active, ratio, names, sides, case)
            whole = features.reshape(*features.shape[:2], *self.features.pieces(plan.grid))
            encoded = self.features.encode(whole, packing)
        else:
            encoded = self.tokenizer.encode(fields, packing, names)
        sequence = pack(encoded, packing, self.config.band)
        offset = torch.tensor(shift, device=fields.device) / torch.tensor(
            plan.grid, device=fields.device
        )
        tokens = sequence.tokens + self.position(sequence, inputs.boundaries, offset)
        # The gradient of `case[sample]` would be summed in whatever order threads come by.
        tokens = tokens + case.index_select(0, sequence.sample)[:, None]

        # Segments are those of all cells, and what is done to each token that of this process' own.
        tokens, sample = self.share.own(tokens), self.share.own(sequence.sample)
        turn = rotations(sequence.centre, self.config.embed_dim // self.config.heads)
        turn = self.share.own(turn)
        stages = {
            scheme: segment(scheme, sequence, bool(local)) for scheme in set(self.config.schemes)
        }
        around = {
            scheme: Surroundings(segments, turn, sample, plan.samples)
            for scheme, segments in stages.items()
        }
        for block, scheme in zip(self.blocks, self.config.schemes, strict=True):
            # The last block is asked for the last frame only: no other is decoded.
            frames = 1 if block is self.blocks[-1] else tokens.shape[1]
            if self.activation_checkpointing and self.training:
                tokens = checkpoint(block, tokens, around[scheme], frames, use_reentrant=False)
            else:
                tokens = block(tokens, around[scheme], frames)

        last = self.share.all(self.norm(tokens[:, -1]), len(packing.cell))
        back: Triple = (-shift[0], -shift[1], -shift[2])
        predicted = [names[i] for i in spec.predicted]
        rest = self.known_of_next(fields, inputs)
        if local is not None:
            added = self.features.decode(unpack(last, packing), packing)
            ratio = ratio[:, list(spec.predicted)]
            write = partial(local.write, ratio=ratio, names=predicted, boundaries=sides, case=case)
            frame = write(features + sum(added[1:], added[0]).reshape(features.shape))
            output = frame.reshape(*frame.shape[:2], *fields.shape[3:]).to(fields) + rest
            base = None
            if self.config.mode == "adap_mul" and self.training:
                frame = write(features + added[0].reshape(features.shape))
                base = frame.reshape(output.shape).to(fields) + rest
        else:
            levels = self.tokenizer.decode(unpack(last, packing), packing, predicted)
            levels[0] = levels[0] + rest
            output = torch.stack(levels).sum(dim=0) if len(levels) > 1 else levels[0]
            base = levels[0] if self.config.mode == "adap_mul" else None
        output = moved(output, back)
        base = None if base is None else moved(base, back)
        return TokenPrediction(
            normalised=output,
            statistics=statistics.take(spec.predicted),
            base=base,
            packing=packing,
            stages=stages,
        )

    def local_of(self, ndim: int) -> Local:
        """The local path for fields of so many dimensions."""
        local = self.locals[str(ndim)]
        assert isinstance(local, Local)
        return local

    def known_of_next(
        self, fields: Float[Tensor, "B T C Z Y X"], inputs: Inputs
    ) -> Float[Tensor, "B P Z Y X"] | float:
        """What is there before anything is learned: the last frame, and the stencil's step."""
        spec = inputs.spec
        rest: Tensor | float = 0.0
        if self.config.predict == "delta":
            rest = fields[:, -1, list(spec.predicted)]
        name = self.stencils.find(spec, self.specs) if self.config.stencil else None
        if name is not None:
            active = fields.flatten(3, 5).unflatten(3, fields.shape[6 - spec.ndim :])
            wraps = (inputs.boundaries == Boundary.PERIODIC).all(dim=2)[:, 3 - spec.ndim :]
            step = self.stencils(active, wraps, name)
            rest = rest + step.reshape(*step.shape[:2], *fields.shape[3:])
        return rest

    def cost(self, inputs: Inputs, prediction: Prediction) -> Cost:
        """Operations of the step that made a prediction, counted on the cells that it took."""
        assert isinstance(prediction, TokenPrediction)
        trains = any(parameter.requires_grad for parameter in self.blocks.parameters())
        times, stages = inputs.values.shape[1], prediction.stages
        return step_cost(
            self.config, inputs.spec, prediction.packing, times, stages, trains_blocks=trains
        )

    def plan_normalised(
        self, fields: Float[Tensor, "B T C Z Y X"], inputs: Inputs
    ) -> RefinementPlan:
        """The cells that normalised fields are cut into."""
        sizes = self.patches(inputs.spec.ndim)
        return plan_refinement(fields, inputs.boundaries, sizes, self.refine)

    @property
    def refine(self) -> RefineConfig:
        """How cells are chosen. Set another one to spend more or fewer tokens: no weight changes.

        For example `model.refine = RefineConfig(token_budget=800)`.
        """
        return self.config.refine

    @refine.setter
    def refine(self, refine: RefineConfig) -> None:
        find_criterion(refine.criterion)
        self.config = replace(self.config, refine=refine)

    def draw_shift(self, inputs: Inputs, generator: torch.Generator | None = None) -> Triple:
        """A random shift of the lattice along the axes that are periodic in every sample.

        No shift unless the model was made with `jitter`.
        """
        if not self.config.jitter:
            return (0, 0, 0)
        coarse = self.patches(inputs.spec.ndim)[0]
        periodic = (inputs.boundaries == Boundary.PERIODIC).all(dim=2).all(dim=0).tolist()
        drawn = torch.rand(3, generator=generator).tolist()
        z, y, x = (
            int(number * cell) if wraps else 0
            for number, cell, wraps in zip(drawn, coarse, periodic, strict=True)
        )
        return z, y, x

    def compile_blocks(self, backend: str | Callable[..., Any] = "inductor") -> None:
        """Compile the blocks for any number of tokens; the attention kernel stays as it is."""
        for module in self.modules():
            if isinstance(module, Attention):
                module.kernel = torch.compiler.disable(module.kernel)
        super().compile_blocks(backend)

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
        inputs = inputs.to(self.device)
        return self.plan_normalised(measure(inputs.values).normalise(inputs.values), inputs)

    def summary(self) -> dict[str, Any]:
        """What kind of model it is, as it stands in `scores.json`."""
        config = self.config
        return {
            "kind": config.kind,
            "scheme": config.scheme,
            "mode": config.mode,
            "patches": list(config.patches),
            "refine": asdict(config.refine) if config.is_adaptive else None,
            "embed_dim": config.embed_dim,
            "depth": config.depth,
        }

    def cells(self) -> str:
        """What fields are cut into, in words."""
        if self.config.is_adaptive:
            return f"refined {self.refine.describe()}"
        return f"uniform patches of {self.config.patches[0]} grid points"

    def check_system(self, spec: SystemSpec) -> None:
        """Raise DataError unless there are weights for the variables and the dimensions."""
        coders = self.features.ends if self.config.local else self.tokenizer.encoders
        if shape_key(self.patches(spec.ndim)[0]) not in coders or (
            self.config.local and str(spec.ndim) not in self.locals
        ):
            raise DataError(
                f"System {spec.name!r} has {spec.ndim} dimensions, which the model was never "
                "trained on. Fine-tune it with `matey finetune` first."
            )
        inputs, outputs = self.named(spec.ndim)
        for variable in spec.variables:
            if variable.name not in inputs:
                raise DataError(
                    f"System {spec.name!r} has variable {variable.name!r}, which the model was "
                    f"never trained on. {nearest(variable.name, inputs.names())} "
                    "Fine-tune it with `matey finetune` first."
                )
        for i in spec.predicted:
            if spec.variables[i].name not in outputs:
                raise DataError(
                    f"The model was never trained to predict {spec.variables[i].name!r} of system "
                    f"{spec.name!r}, only to read it. Fine-tune it with `matey finetune` first."
                )

    def check_grid(self, grid: Grid, spec: SystemSpec) -> None:
        """Raise ShapeError unless the coarse patches tile a grid."""
        for axis, points, cell in zip("ZYX", grid.shape, self.patches(spec.ndim)[0], strict=True):
            if points % cell:
                below = points - points % cell
                raise ShapeError(
                    f"Axis {axis} of system {spec.name!r} has {points} grid points, which this "
                    f"model's patches of {cell} cannot tile. Give it a multiple of them, "
                    f"such as {below or cell}."
                )
