"""The model: fields in, the frame at the lead time out.

Axes: B samples, T times, C variables, P predicted variables, (Z, Y, X) grid points,
N cells in use, D width.
Source: arXiv:2412.20601.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from matey.config import ModelConfig, RefineConfig, Scheme
from matey.errors import DataError
from matey.fields import Field, Inputs, SystemSpec, stack_fields
from matey.nn.attention import Attention, Share, rotations
from matey.nn.block import Block, Given, Layout, Surroundings
from matey.nn.compatibility import check_names
from matey.nn.embed import Case, Conditioning, Position
from matey.nn.local.sandwich import Sandwich
from matey.nn.local.stencil import Stencils, stand_in, stencil_of
from matey.nn.local.usual import Usual, told
from matey.nn.operations import Cost
from matey.nn.schemes import segment, stages_of
from matey.nn.surrogate import Prediction, Surrogate, TokenPrediction
from matey.nn.tokenizer import Tokenizer
from matey.tokens.criteria import find_criterion
from matey.tokens.lattice import NOWHERE, Triple
from matey.tokens.normalise import Statistics, moved, normalised
from matey.tokens.pack import PACKINGS, locate, pack, unpack
from matey.tokens.refine import RefinementPlan, plan_refinement
from matey.tokens.regions import by_regions, regions
from matey.tokens.shift import draw, most_before, parted
from matey.words import patch_size

log = logging.getLogger("matey")
# Settings that `scores.json` tells of a model as they are.
SUMMARY = ("embed_dim", "depth", "local", "local_piece", "levels", "waves", "bound", "stencil")


class Matey(Surrogate):
    """Multiscale adaptive transformer for any number of physical systems.

    `history` frames are given. `specs` are the systems whose variables, parameters and
    dimensions it has weights for; `add_systems` makes more.
    """

    def __init__(self, config: ModelConfig, specs: Sequence[SystemSpec], history: int) -> None:
        super().__init__(config, history)
        self.share = Share()
        self.regions = 1  # that fields are worked on in without a gradient (`matey.tokens.regions`)
        find_criterion(config.refine.criterion)
        drop = [config.drop_path * i / max(1, config.depth - 1) for i in range(config.depth)]
        self.tokenizer = Tokenizer(config)
        self.position = Position(config.embed_dim, config.absolute_position, config.jitter)
        self.conditioning = Conditioning(config.embed_dim, config.rate_factor, config.noise)
        self.blocks = nn.ModuleList(
            Block(config, len(stages_of(scheme, bool(config.local))), p)
            for scheme, p in zip(config.schemes, drop, strict=True)
        )
        self.norm = nn.LayerNorm(config.embed_dim)
        self.local = Sandwich(config, history) if config.local else None
        self.usual = Usual() if config.local else None
        self.stencils = Stencils(history) if config.stencil else None
        self.add_systems(specs)

    def add_systems(self, specs: Sequence[SystemSpec]) -> None:
        """Make the weights that new systems need. What is there stays as it is."""
        for spec in specs:
            for measured in (self.stencils, self.usual):
                if measured is not None:
                    measured.add(spec, self.specs.get(spec.name))
            self.specs[spec.name] = spec
            self.ends.add_system(spec, self.patches(spec.ndim))
            self.conditioning.names.add(self.told(spec))
        self.to(self.norm.weight.device)

    def unused(self, spec: SystemSpec) -> list[nn.Parameter]:
        """The weights that no batch of a system reaches: those of other names and patch shapes."""
        modules: list[nn.Module] = []
        if not self.told(spec):
            modules += [self.conditioning.parameter_in, self.conditioning.parameter_out]
        if not self.config.absolute_position:
            modules.append(self.position.centre)
        return [
            *self.ends.unused(spec, self.patches(spec.ndim)),
            *self.conditioning.names.others(self.told(spec)),
            *(parameter for module in modules for parameter in module.parameters()),
        ]

    def told(self, spec: SystemSpec) -> tuple[str, ...]:
        """Names of what the conditioning is told of a sample besides its lead time."""
        return spec.parameters + (() if self.usual is None else told(spec))

    @property
    def ends(self) -> Tokenizer | Sandwich:
        """What makes tokens of fields, and fields of tokens."""
        return self.local or self.tokenizer

    @property
    def times(self) -> int:
        """Frames of tokens: those of the history, or the one that they are folded into."""
        return self.history if self.local is None else 1

    def forward(self, inputs: Inputs, shift: Triple = NOWHERE) -> TokenPrediction:
        """The frame at the given lead time, by a lattice of patches that is moved by `shift` grid
        points along Z, Y and X (`matey.tokens.shift`). Where patches do not tile the grid, they are
        of fields `continued` past its ends; what they say of that is dropped."""
        with by_regions(1 if torch.is_grad_enabled() else self.regions):
            shift, before = parted(shift, inputs)
            statistics, fields = normalised(inputs, shift)
            plan = self.plan_normalised(fields, inputs, shift, before)
            times = inputs.values.shape[1] if self.local is None else self.times
            layout = self.lay_out(plan, times, inputs)
            given = self.encode(fields, statistics, inputs, layout, shift)
            tokens = self.attend(given.tokens, layout)
            made = self.decode(tokens, given, fields, statistics, inputs, layout, shift)
            return self.kept(made, inputs)

    def lay_out(self, plan: RefinementPlan, times: int, inputs: Inputs | None = None) -> Layout:
        """The cells of a plan as tokens of so many times; on stretched grids, and of crops, where
        `inputs` say that they are."""
        packing = PACKINGS[self.config.mode](plan)
        places = (inputs.points, inputs.crop) if inputs else ()
        sequence = locate(packing, times, self.config.band, *places)
        axes = sequence.active if self.config.rotate_active and sequence.active else (0, 1, 2)
        turn = rotations(sequence.centre, self.config.embed_dim // self.config.heads, axes)
        # Segments are those of all cells, and what is done to each token that of this process' own.
        turn, sample = self.share.own(turn), self.share.own(sequence.sample)
        around = {
            scheme: Surroundings(
                segment(scheme, sequence, bool(self.local)), turn, sample, plan.samples, regions()
            )
            for scheme in set(self.config.schemes)
        }
        return Layout(packing, sequence, around)

    def encode(
        self,
        fields: Float[Tensor, "B T C Z Y X"],
        statistics: Statistics,
        inputs: Inputs,
        layout: Layout,
        shift: Triple = NOWHERE,
    ) -> Given:
        """Normalised fields, where they are and of which case, as this process' tokens."""
        packing, sequence = layout.packing, layout.sequence
        case = self.case_of(fields, statistics, inputs, shift)
        levels, features = self.ends.embed(fields, inputs, packing, case)
        offset = torch.tensor(shift, device=fields.device) / torch.tensor(
            packing.plan.domain, device=fields.device
        )
        tokens = pack(levels, packing) + self.position(sequence, inputs.sides, offset)
        # The gradient of `case[sample]` would be summed in whatever order threads come by.
        tokens = tokens + case.vector.index_select(0, sequence.sample)[:, None]
        return Given(self.share.own(tokens), case, features)

    def case_of(
        self,
        fields: Float[Tensor, "B T C Z Y X"],
        statistics: Statistics,
        inputs: Inputs,
        shift: Triple = NOWHERE,
    ) -> Case:
        """What is told of each sample: lead time, parameters, and how large it is."""
        spec, parameters = inputs.spec, inputs.parameters
        ratios, space = fields.new_ones(*fields.shape[:3:2], 0), inputs.shifted_space(shift)
        if self.usual is not None:
            ratios = self.usual.ratios(fields, statistics, spec, self.specs, space)
            parameters = torch.cat([parameters, ratios[:, list(spec.predicted)].flatten(1)], dim=1)
        vector = self.conditioning(inputs.lead_time, parameters, self.told(spec), inputs.noise)
        return Case(vector, ratios, space)

    def attend(self, tokens: Float[Tensor, "N T D"], layout: Layout) -> Float[Tensor, "N 1 D"]:
        """The tokens of the last frame after all blocks."""
        for block, scheme, frames in self.turns(tokens.shape[1]):
            around = layout.around[scheme]
            if self.activation_checkpointing and self.training:
                tokens = checkpoint(block, tokens, around, frames, use_reentrant=False)
            else:
                tokens = block(tokens, around, frames)
        return tokens

    def turns(self, times: int) -> Iterator[tuple[Block, Scheme, int]]:
        """Block by block, its scheme and the frames that it is asked for: all, and the last block
        for the last frame only, since no other is decoded."""
        for block, scheme in zip(self.blocks, self.config.schemes, strict=True):
            assert isinstance(block, Block)
            yield block, scheme, 1 if block is self.blocks[-1] else times

    def decode(
        self,
        tokens: Float[Tensor, "N 1 D"],
        given: Given,
        fields: Float[Tensor, "B T C Z Y X"],
        statistics: Statistics,
        inputs: Inputs,
        layout: Layout,
        shift: Triple = NOWHERE,
    ) -> TokenPrediction:
        """The sum of what the tokens of each level say of the next frame."""
        last = self.share.all(self.norm(tokens[:, -1]), len(layout.packing.cell))
        packing, coarse = layout.packing, self.config.mode == "adap_mul"
        rest, levels = self.without_tokens(fields, inputs), unpack(last, packing)
        output, first = self.ends.predict(
            levels, given.features, inputs, packing, given.case, rest, self.writes_coarse
        )
        back: Triple = (-shift[0], -shift[1], -shift[2])
        base = moved(first, back) if coarse else None
        known = statistics.take(inputs.spec.predicted)
        return TokenPrediction(moved(output, back), known, base, layout=layout, shift=shift)

    def without_tokens(
        self, fields: Float[Tensor, "B T C Z Y X"], inputs: Inputs
    ) -> Float[Tensor, "B P Z Y X"] | float:
        """What is added to what tokens say: the last frame, and the stencil's step."""
        rest: Tensor | float = 0.0
        if self.config.predict == "delta":
            rest = fields[:, -1, list(inputs.spec.predicted)]
        if self.stencils is not None:
            name = stencil_of(inputs.spec, self.specs)
            rest = rest + self.stencils(fields, inputs.boundaries, inputs.spec, name)
        return rest

    @property
    def writes_coarse(self) -> bool:
        """Whether what the coarse pass alone says is of interest: in training of `adap_mul`."""
        return self.training and self.config.mode == "adap_mul"

    def cost(self, inputs: Inputs, prediction: Prediction) -> Cost:
        """Operations of the step that made a prediction, counted on the cells that it took."""
        assert isinstance(prediction, TokenPrediction)
        return self.count(inputs.spec, prediction.layout)

    def count(self, spec: SystemSpec, layout: Layout) -> Cost:
        """Operations of a step on a batch of one system that is laid out so."""
        cost, packing, times = Cost(), layout.packing, len(layout.sequence.time)
        cells = len(packing.cell)
        self.ends.count(cost, packing, spec, times, self.writes_coarse)
        if self.stencils is not None:
            points = packing.plan.samples * math.prod(packing.plan.domain)
            self.stencils.count(cost, spec, stencil_of(spec, self.specs), points)
        self.position.count(cost, cells, times)
        self.conditioning.count(cost, packing.plan.samples, self.told(spec))
        for block, scheme, frames in self.turns(times):
            block.count(cost, layout.around[scheme].stages, cells, times, frames)
        return cost

    @torch.no_grad()
    def plan_normalised(
        self,
        fields: Float[Tensor, "B T C Z Y X"],
        inputs: Inputs,
        shift: Triple = NOWHERE,
        before: Triple = NOWHERE,
    ) -> RefinementPlan:
        """The cells that normalised fields, shifted by so many points, are cut into; the lattice
        begins so many points `before` them."""
        sizes, space = self.patches(inputs.spec.ndim), inputs.shifted_space(shift)
        return plan_refinement(fields, inputs.boundaries, sizes, self.refine, space, before)

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
        """A random shift of the lattice, of a model made with `jitter` (`matey.tokens.shift`)."""
        return draw(self.config, self.patches(inputs.spec.ndim)[0], inputs, generator)

    def compile_blocks(self, backend: str | Callable[..., Any] = "inductor") -> None:
        """Compile the blocks for any number of tokens; the attention kernel stays as it is."""
        for module in self.modules():
            if isinstance(module, Attention):
                module.kernel = torch.compiler.disable(module.kernel)
        super().compile_blocks(backend)

    def plan(self, field: Field) -> RefinementPlan:
        """The cells that the end of a field is cut into; `plan.leaves` are those in use."""
        self.check(field)
        last = slice(-self.history, None)
        recent = replace(field, values=field.values[last], times=field.times[last])
        return self.plan_inputs(stack_fields([recent], [1.0], [field.spec.name]))

    @torch.no_grad()
    def plan_inputs(self, inputs: Inputs, widest: bool = False) -> RefinementPlan:
        """The cells that each of several histories is cut into, by the `widest` lattice of
        `draw_shift` if asked for. No weight takes part: an outline will do (`matey.nn.make`)."""
        inputs = inputs if self.device.type == "meta" else inputs.to(self.device)
        farthest = most_before(self.config, self.patches(inputs.spec.ndim)[0])
        before = parted(farthest, inputs)[1] if widest else NOWHERE
        return self.plan_normalised(normalised(inputs)[1], inputs, before=before)

    def summary(self) -> dict[str, Any]:
        """What kind of model it is, as it stands in `scores.json`."""
        config = self.config
        return {
            "kind": "matey",
            "scheme": config.scheme,
            "mode": config.mode,
            "patches": list(config.patches),
            "refine": asdict(config.refine) if config.is_adaptive else None,
            **{name: getattr(config, name) for name in SUMMARY},
        }

    def cells(self) -> str:
        """What fields are cut into, in words."""
        if self.config.is_adaptive:
            return f"refined {self.refine.describe()}"
        return f"uniform patches of {patch_size(self.config.patches[0])} grid points"

    def check(self, field: Field) -> None:
        """As of any model; warns of a system whose usual sizes are not known."""
        super().check(field)
        if self.usual is not None and stand_in(field.spec, self.specs) is None:
            log.warning(
                "System %r is new to the model, and not just one that it was trained on has its "
                "variables: its fields are taken to be as large as usual.",
                field.spec.name,
            )

    def check_system(self, spec: SystemSpec) -> None:
        """Raise DataError unless there are weights for the variables and the dimensions."""
        if not self.ends.has(self.patches(spec.ndim)[0]):
            raise DataError(
                f"System {spec.name!r} has {spec.ndim} dimensions, which the model was never "
                "trained on. Fine-tune it with `matey finetune` first."
            )
        check_names(spec, *self.ends.named(spec.ndim))
        if self.stencils is not None:
            stencil_of(spec, self.specs)
