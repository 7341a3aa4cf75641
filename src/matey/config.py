"""Every setting of a run, with its default and its range, in one place.

Frozen dataclasses that YAML files and the command line fill in (`matey.cli.options`).
A value out of range raises ConfigError where it is made.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Literal

from matey.errors import ConfigError

Scheme = Literal["vit", "svit", "avit"]
# Names become file names: no separator, no way up, no hidden file.
NAME = re.compile(r"\w[\w .-]{0,99}")


def require(condition: bool, key: str, value: object, expected: str) -> None:
    """Raise ConfigError unless the condition holds."""
    if not condition:
        raise ConfigError(f"{key} is {value!r}, expected {expected}.")


def require_positive(group: object, prefix: str, *names: str) -> None:
    """Raise ConfigError for the first of the named settings that is not above zero."""
    for name in names:
        value = getattr(group, name)
        require(math.isfinite(value) and value > 0, prefix + name, value, "a number above 0")


def require_fraction(group: object, prefix: str, *names: str) -> None:
    """Raise ConfigError for the first of the named settings outside [0, 1]."""
    for name in names:
        value = getattr(group, name)
        require(0 <= value <= 1, prefix + name, value, "a number in [0, 1]")


@dataclass(frozen=True)
class RefineConfig:
    """Which cells are cut finer.

    Args:
        criterion: what is measured in each cell; `variance` of the normalised fields.
        threshold: refine where the criterion exceeds this fraction of its largest value in
            the sample; 0 refines every cell, 1 none. Start with 0.2 to 0.6.
        fraction: instead, refine this fraction of the cells, those of the largest criterion.
        token_budget: instead, refine as many cells as leave no more than so many tokens per
            frame; where cells of several levels compete, the largest criterion wins.
        buffer: refine the neighbours of refined cells too, so many rings of them: features move
            before the next frame.
    """

    criterion: str = "variance"
    threshold: float = 0.3
    fraction: float | None = None
    token_budget: int | None = None
    buffer: int = 0

    def __post_init__(self) -> None:
        require_fraction(self, "model.refine.", "threshold")
        if self.fraction is not None:
            require_fraction(self, "model.refine.", "fraction")
        if self.token_budget is not None:
            require_positive(self, "model.refine.", "token_budget")
            require(
                self.fraction is None,
                "model.refine.fraction",
                self.fraction,
                "none, as model.refine.token_budget is given",
            )
        require(self.buffer >= 0, "model.refine.buffer", self.buffer, "0 rings or more")

    def describe(self) -> str:
        """Which cells are cut finer, in words."""
        if self.token_budget is not None:
            text = f"where {self.criterion} is largest, up to {self.token_budget} tokens per frame"
        elif self.fraction is not None:
            text = f"where {self.criterion} is largest, in {self.fraction:.4g} of the cells"
        else:
            text = f"where {self.criterion} exceeds {self.threshold:g} of its maximum"
        if self.buffer:
            text += f", and {self.buffer} ring{'s' if self.buffer > 1 else ''} around"
        return text


@dataclass(frozen=True)
class ModelConfig:
    """The transformer. Sizes of the paper (embed_dim/heads/depth): Ti 192/3/12,
    S 384/6/12, B 768/12/12, L 1024/16/24.

    Args:
        embed_dim: width of a token.
        heads: attention heads; divides embed_dim.
        depth: number of blocks.
        scheme: which tokens attend together: `vit` all at once, `svit` time then space, `avit`
            time then the lines along each axis. A list of them is repeated over the blocks:
            `[svit, svit, vit]` attends to all at once in every third block.
        mode: `uniform` tokens of one patch size; `adap_mix`: coarse and fine ones in one sequence;
            `adap_mul`: a coarse pass, and a short sequence of fine tokens in each refined cell.
        patches: patch sizes in grid points, coarse to fine; each divides the one before.
        refine: where fine patches go.
        band: width in grid points of the lines of `avit`; by default the coarsest patch.
        stem: a patch becomes a token by one `linear` map, or by a `hierarchical` one of up to
            three stages.
        jitter: shift the lattice of patches at random along periodic axes, in training and at
            each step of a rollout, so that no patch edge stays in one place.
        absolute_position: tell tokens where in the domain they are; how far apart two of them
            are, attention knows in any case.
        latent_channels: width of the space that variables are mixed into.
        predict: the next `state`, or its increment (`delta`) over the last frame.
        mlp_ratio: hidden width of the MLP over embed_dim.
        drop_path: probability of skipping a branch of the last block; earlier blocks less.
        layer_scale: initial scale of each residual branch.
    """

    embed_dim: int = 192
    heads: int = 3
    depth: int = 12
    scheme: Scheme | tuple[Scheme, ...] = "svit"
    mode: Literal["uniform", "adap_mix", "adap_mul"] = "adap_mix"
    patches: tuple[int, ...] = (16, 8)
    refine: RefineConfig = field(default_factory=RefineConfig)
    band: int | None = None
    stem: Literal["linear", "hierarchical"] = "linear"
    jitter: bool = False
    absolute_position: bool = True
    latent_channels: int = 8
    predict: Literal["state", "delta"] = "delta"
    mlp_ratio: int = 4
    drop_path: float = 0.0
    layer_scale: float = 0.1

    def __post_init__(self) -> None:
        require_positive(self, "model.", "embed_dim", "heads", "depth", "latent_channels")
        require_positive(self, "model.", "mlp_ratio", "layer_scale")
        require_fraction(self, "model.", "drop_path")
        require(self.drop_path < 1, "model.drop_path", self.drop_path, "a number below 1")
        require(
            self.embed_dim % self.heads == 0,
            "model.embed_dim",
            self.embed_dim,
            f"a multiple of model.heads = {self.heads}",
        )
        require(
            self.embed_dim // self.heads % 2 == 0,
            "model.embed_dim",
            self.embed_dim,
            "an even number for each head",
        )
        require(
            len(self.patches) > 0 and all(patch > 0 for patch in self.patches),
            "model.patches",
            self.patches,
            "patch sizes above 0",
        )
        for coarse, fine in zip(self.patches, self.patches[1:], strict=False):
            require(
                coarse > fine and coarse % fine == 0,
                "model.patches",
                self.patches,
                "sizes from coarse to fine, each dividing the one before",
            )
        if self.mode == "uniform":
            require(len(self.patches) == 1, "model.patches", self.patches, "one size for uniform")
        if self.band is not None:
            require(
                self.band > 0 and self.band % self.patches[0] == 0,
                "model.band",
                self.band,
                f"a multiple of the coarsest patch, {self.patches[0]}",
            )
        pattern = (self.scheme,) if isinstance(self.scheme, str) else self.scheme
        require(
            len(pattern) > 0 and self.depth % len(pattern) == 0,
            "model.scheme",
            self.scheme,
            f"one scheme, or a list whose length divides model.depth = {self.depth}",
        )

    @property
    def schemes(self) -> tuple[Scheme, ...]:
        """The scheme of each block."""
        pattern = (self.scheme,) if isinstance(self.scheme, str) else tuple(self.scheme)
        return pattern * (self.depth // len(pattern))


Axis = Literal["sample", "time", "z", "y", "x", "component", "single"]


@dataclass(frozen=True)
class ArrayConfig:
    """One array of a file of your own.

    Args:
        array: its name in the file, after those of its groups: `flow/u`. `*/u` stands for the
            array u in each of many groups, one group per trajectory.
        variables: the canonical names of what it holds, as `velocity_x`; several where an axis is
            `component`.
        units: one for all its variables, or one for each.
        axes: what its axes are, slowest first; none takes those of the layout.
        static: it does not change in time: read, never predicted. So is one without an axis `time`.
    """

    array: str
    variables: tuple[str, ...]
    units: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = ()
    static: bool = False

    def __post_init__(self) -> None:
        key = f"layout.arrays.{self.array}."
        require(bool(self.variables), key + "variables", self.variables, "a name or more")
        fits = len(self.units) in (0, 1, len(self.variables))
        require(fits, key + "units", self.units, f"one, or {len(self.variables)} of them")


@dataclass(frozen=True)
class LayoutConfig:
    """How files of your own are laid out; `matey data inspect FILES --write` drafts it.

    Args:
        axes: what the axes of the arrays are, slowest first: `sample` is a trajectory, `component`
            holds several variables, `single` has one entry.
        arrays: which arrays to read, and what they are.
        time: the array of times; without one, frames are `dt` apart.
        dt: time between frames, where no array says it.
        coordinates: the array of positions along an axis, as `x: lon`; without one, positions
            count grid points.
        boundaries: of an axis, `periodic`, `wall` or `open`, or two words for the low and the
            high side, as `y: wall open`; open where nothing is said.
        parameters: of the equations: a number, or the name of an attribute or array that holds it,
            once or per sample.
        split: patterns of names of trajectories for `valid` and `test`, as `test: ["*_07.nc#*"]`;
            the others are for training. Without it, the folders' names train, valid and test
            decide, else `data.split`.
    """

    axes: tuple[Axis, ...]
    arrays: tuple[ArrayConfig, ...]
    time: str = ""
    dt: float = 1.0
    coordinates: dict[str, str] = field(default_factory=dict)
    boundaries: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, float | str] = field(default_factory=dict)
    split: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(bool(self.arrays), "layout.arrays", self.arrays, "an array or more")
        require_positive(self, "layout.", "dt")
        for axes in (self.axes, *(array.axes for array in self.arrays)):
            once = [axis for axis in axes if axis not in ("component", "single")]
            require(len(set(once)) == len(once), "layout.axes", axes, "each axis once")
        for key in self.coordinates:
            require(key in ("z", "y", "x"), "layout.coordinates", key, "z, y or x")
        for key, sides in self.boundaries.items():
            words = sides.split()
            known = key in ("z", "y", "x") and set(words) <= {"periodic", "wall", "open"}
            fits = known and len(words) in (1, 2) and words.count("periodic") in (0, len(words))
            expected = "z, y or x: periodic, wall or open, or two of the last for two sides"
            require(fits, "layout.boundaries", {key: sides}, expected)
        for key in self.split:
            require(key in ("train", "valid", "test"), "layout.split", key, "train, valid or test")


@dataclass(frozen=True)
class SourceConfig:
    """Files of one system.

    Args:
        name: the system's name in this run.
        paths: files, folders or patterns, relative to the YAML file that names them.
        uneven: what to do where time steps differ by more than 10 %: `refuse`, or `allow`
            and take the elapsed time over dt as lead time.
        thermodynamics: for miniWeather, `full` density and potential temperature, or their
            `perturbation` of the hydrostatic background.
        layout: how files of your own are laid out; none for those of a known layout.
    """

    name: str
    paths: tuple[str, ...]
    uneven: Literal["refuse", "allow"] = "refuse"
    thermodynamics: Literal["full", "perturbation"] = "full"
    layout: LayoutConfig | None = None

    def __post_init__(self) -> None:
        require(
            NAME.fullmatch(self.name) is not None,
            "data.systems.name",
            self.name,
            "letters, digits, '_', '.', '-' and spaces, a letter or digit first, 100 at most",
        )
        require(bool(self.paths), f"data.systems.{self.name}.paths", self.paths, "a path or more")


@dataclass(frozen=True)
class SplitConfig:
    """How trajectories are divided. Files that come divided keep their division.

    Args:
        valid: fraction of the trajectories for validation, at least one of three or more.
        test: fraction for the final scores, at least one of two or more.
        seed: which trajectories go where.
    """

    valid: float = 0.1
    test: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        require_fraction(self, "data.split.", "valid", "test")
        total = self.valid + self.test
        require(total <= 1, "data.split", total, "valid + test of 1 at most")
        require(self.seed >= 0, "data.split.seed", self.seed, "0 or more")


@dataclass(frozen=True)
class DataConfig:
    """What to train on and score with.

    Args:
        systems: the systems and their files.
        split: how trajectories are divided into train, valid and test.
        trajectories: train on the first so many training trajectories of each system only.
    """

    systems: tuple[SourceConfig, ...] = ()
    split: SplitConfig = field(default_factory=SplitConfig)
    trajectories: int | None = None

    def __post_init__(self) -> None:
        names = [source.name for source in self.systems]
        require(len(set(names)) == len(names), "data.systems", names, "a name of its own for each")
        if self.trajectories is not None:
            require_positive(self, "data.", "trajectories")


@dataclass(frozen=True)
class WindowConfig:
    """What one training sample is.

    Args:
        history: frames given, T.
        stride: the history takes every so many frames, and a step is as long: the model's dt
            is the data's times the stride.
        min_lead: the target lies at least so many steps after the last frame ...
        max_lead: ... and at most so many, at random; a fixed lead where both are equal.
        pushforward: in training, let the model itself predict up to this many of the frames
            before the target, drawn anew for each batch: it learns to go on from its own errors,
            as in a rollout. Costs a third more per frame.
        roll: in training, shift each window at random along its periodic axes: physics is the
            same there, and little data goes further.
        flip: in training, mirror half of the windows along each of these axes (x, y, z, as in
            canonical names: in a vertical section y points up). Vectors, tensors and walls turn
            with the mirror. Name no axis along which gravity or another force of constant
            direction acts.
    """

    history: int = 4
    stride: int = 1
    min_lead: int = 1
    max_lead: int = 1
    pushforward: int = 0
    roll: bool = False
    flip: tuple[Literal["x", "y", "z"], ...] = ()

    def __post_init__(self) -> None:
        require_positive(self, "windows.", "history", "stride", "min_lead", "max_lead")
        require(
            self.min_lead <= self.max_lead,
            "windows.min_lead",
            self.min_lead,
            f"at most windows.max_lead = {self.max_lead}",
        )
        require(self.pushforward >= 0, "windows.pushforward", self.pushforward, "0 or more")
        require(
            self.pushforward == 0 or self.min_lead == 1,
            "windows.pushforward",
            self.pushforward,
            f"0 with windows.min_lead = {self.min_lead}: the model goes on by single steps",
        )
        require(len(set(self.flip)) == len(self.flip), "windows.flip", self.flip, "each axis once")


@dataclass(frozen=True)
class MixtureConfig:
    """How systems share the batches, of which each holds one system.

    Args:
        weights: `uniform`: every system is drawn as often; `size`: in proportion to its
            windows; `temperature`: to their number to the power 1 / temperature, between the two.
        temperature: 1 is `size`, and the larger the nearer to `uniform`. Start with 2 to 5.
        tokens_per_batch: the batches of each system hold as many windows as have at most this
            many tokens, history included, if every patch were fine; `batch` then has no effect.
    """

    weights: Literal["uniform", "size", "temperature"] = "uniform"
    temperature: float = 2.0
    tokens_per_batch: int | None = None

    def __post_init__(self) -> None:
        require_positive(self, "mixture.", "temperature")
        if self.tokens_per_batch is not None:
            require_positive(self, "mixture.", "tokens_per_batch")


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and the schedule of its learning rate.

    Args:
        lr: the highest learning rate.
        schedule: after the warm-up, `cosine` decay to the last step; `wsd` (warm-up, stable,
            decay): constant, then linear decay over the last steps, so that a run may be made
            longer later, from a checkpoint before the decay; or `constant`.
        warmup: steps of linear warm-up.
        decay: fraction of all steps over which `wsd` decays. Start with 0.1 to 0.2.
        final_lr: learning rate at the last step, as a fraction of `lr`, for `cosine` and `wsd`.
        weight_decay: on matrices only.
        betas: decay of the first and second moment.
        clip: largest norm of the gradient.
    """

    lr: float = 1e-3
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    warmup: int = 100
    decay: float = 0.2
    final_lr: float = 0.01
    weight_decay: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self, "optim.", "lr", "clip")
        require_fraction(self, "optim.", "final_lr", "weight_decay", "decay")
        require(self.warmup >= 0, "optim.warmup", self.warmup, "0 steps or more")
        require(all(0 <= b < 1 for b in self.betas), "optim.betas", self.betas, "two in [0, 1)")


@dataclass(frozen=True)
class LossConfig:
    """What training minimises besides the squared NRMSE of the state: 0 leaves a term out.

    Args:
        base: weight of the same for the coarse pass alone, in mode `adap_mul`.
        gradient: weight of the squared NRMSE of the differences between neighbouring points.
        conservation: weight of the squared error of each variable's mean over the domain.
    """

    base: float = 0.0
    gradient: float = 0.0
    conservation: float = 0.0

    def __post_init__(self) -> None:
        for name in ("base", "gradient", "conservation"):
            value = getattr(self, name)
            require(math.isfinite(value) and value >= 0, f"loss.{name}", value, "0 or more")


@dataclass(frozen=True)
class ParallelConfig:
    """How several processes train one model; torchrun starts them.

    Args:
        strategy: `ddp`: each process holds the whole model; `fsdp`: its share of the weights,
            gradients and moments only.
        sequence: so many processes share out the tokens of each sample; divides the number of
            processes, and is at most model.heads.
        timeout: seconds that a process waits for the others before it gives up: more than a
            batch may take to read, or a checkpoint to write.
    """

    strategy: Literal["ddp", "fsdp"] = "ddp"
    sequence: int = 1
    timeout: float = 600.0

    def __post_init__(self) -> None:
        require_positive(self, "parallel.", "sequence", "timeout")


@dataclass(frozen=True)
class RunConfig:
    """A training run, complete: with its data it reproduces the run.

    Args:
        model: the transformer.
        windows: what one sample is.
        mixture: how systems share the batches.
        optim: optimizer and schedule.
        loss: terms of the loss.
        data: systems and files; a YAML file that `matey data inspect --write` drafts.
        mode: which weights train: `full`: all; `frozen-attention`: all but the blocks, for a model
            whose blocks have learned from other systems.
        parallel: how several processes share the work.
        steps: optimizer steps.
        batch: windows per batch of each process; a batch holds one system.
        accumulate: batches per optimizer step, systems interleaved.
        precision: `float32`, or `bfloat16` autocast.
        activation_checkpointing: keep only each block's input for the backward pass, and compute
            the rest again: less memory for another forward pass.
        compile: compile the blocks; the first steps take longer.
        validate_every: steps between validations; 0 validates at the end only.
        validate_windows: windows per system in a validation.
        checkpoint_every: steps between checkpoints; one is always written at the end.
        keep_checkpoints: how many of the newest checkpoints stay.
        log_every: steps between lines of metrics.jsonl.
        tensorboard: write the same for TensorBoard too; needs matey-pde[tensorboard].
        workers: processes that load data; 0 loads in the training process.
        seed: of weights, sampling and drop path.
        device: `auto` takes CUDA where there is one.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    windows: WindowConfig = field(default_factory=WindowConfig)
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    data: DataConfig = field(default_factory=DataConfig)
    mode: Literal["full", "frozen-attention"] = "full"
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    steps: int = 1000
    batch: int = 8
    accumulate: int = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    activation_checkpointing: bool = False
    compile: bool = False
    validate_every: int = 200
    validate_windows: int = 32
    checkpoint_every: int = 200
    keep_checkpoints: int = 2
    log_every: int = 10
    tensorboard: bool = False
    workers: int = 0
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        require_positive(self, "", "steps", "batch", "accumulate", "validate_windows")
        require_positive(self, "", "checkpoint_every", "keep_checkpoints", "log_every")
        for name in ("validate_every", "workers", "seed"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(
            self.parallel.sequence <= self.model.heads,
            "parallel.sequence",
            self.parallel.sequence,
            f"at most model.heads = {self.model.heads}: each process attends with some of them",
        )

    @property
    def trains_blocks(self) -> bool:
        """Whether the blocks learn, or only what is around them."""
        return self.mode == "full"
