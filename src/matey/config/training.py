"""Settings of a training run."""

import math
from dataclasses import dataclass, field, fields
from typing import Literal

from matey.config.checks import require, require_fraction, require_positive
from matey.config.data import DataConfig
from matey.config.model import ModelConfig


@dataclass(frozen=True)
class WindowConfig:
    """What one training sample is.

    Args:
        history: number of input frames, T.
        stride: use one in this many frames: the model's dt is the data's times the stride.
        min_lead: the target is at least this many steps after the last frame ...
        max_lead: ... and at most this many, drawn at random; fixed if both are equal.
        pushforward: in training, let the model itself predict up to this many of the frames
            before the target, drawn anew for each batch: it learns to continue from its own
            errors, as in a rollout. Costs a third more per frame.
        learn_rollout: with pushforward, learn from each of the model's own frames too, with the
            gradient through all of them: a whole step more per frame, in memory as well, and more
            accurate many steps ahead.
        pushforward_end: up to this many in the end of a run, its last `end_share` of the steps;
            by default as many as before.
        end_share: the fraction of all steps that counts as the end.
        noise: in training, add noise to every frame of the history, of so many standard deviations
            of each variable over it, static ones aside; the target stays as it is. 1e-3 is little,
            1e-2 much: what is finer than that is no longer seen.
        roll: in training, shift each window at random along its periodic axes that are not
            stretched: the physics stays the same, and little data goes further.
        flip: in training, mirror half of the windows along each of these axes (x, y, z, as in
            canonical names: in a vertical section y points up). Vectors, tensors and walls are
            mirrored too, and pseudo quantities change their sign: `pseudo` of each variable
            must be known (see the data config). Name no axis along which gravity or another
            constant force acts, and none at all in a rotating frame.
    """

    history: int = 4
    stride: int = 1
    min_lead: int = 1
    max_lead: int = 1
    pushforward: int = 0
    learn_rollout: bool = False
    pushforward_end: int | None = None
    end_share: float = 0.1
    noise: float = 0.0
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
        require_fraction(self, "windows.", "end_share", "noise")
        for name, steps in (
            ("pushforward", self.pushforward),
            ("pushforward_end", self.pushes(at_end=True)),
        ):
            require(steps >= 0, f"windows.{name}", steps, "0 or more")
            require(
                steps == 0 or self.min_lead == 1,
                f"windows.{name}",
                steps,
                f"0 with windows.min_lead = {self.min_lead}: the model goes on by single steps",
            )
        require(
            self.longest > 0 or not self.learn_rollout,
            "windows.learn_rollout",
            self.learn_rollout,
            "false with windows.pushforward = 0: there is no rollout to learn from",
        )
        require(len(set(self.flip)) == len(self.flip), "windows.flip", self.flip, "each axis once")

    def pushes(self, at_end: bool) -> int:
        """The most frames that the model predicts before a target, in the end of a run or not."""
        at_first = self.pushforward_end is None or not at_end
        return self.pushforward if at_first else self.pushforward_end or 0

    @property
    def longest(self) -> int:
        """The most frames that the model predicts before a target in all of a run."""
        return max(self.pushforward, self.pushes(at_end=True))

    @property
    def mean_pushes(self) -> float:
        """Frames that the model predicts before a target, on average over a run."""
        at_end = self.end_share * self.pushes(at_end=True)
        return ((1 - self.end_share) * self.pushforward + at_end) / 2

    @property
    def learned_steps(self) -> int:
        """Steps of the longest rollout that the gradient flows through."""
        return 1 + self.longest if self.learn_rollout else 1


@dataclass(frozen=True)
class MixtureConfig:
    """How systems share the batches, of which each holds one system.

    Args:
        weights: `uniform`: every system equally often; `size`: in proportion to its
            windows; `temperature`: in proportion to their number to the power 1 / temperature.
        temperature: 1 is `size`; larger values come near `uniform`. Start with 2 to 5.
        tokens_per_batch: fit as many windows into a batch as have at most this many tokens, history
            included, counting every patch as fine; `batch` then has no effect.
        batch: windows per batch of single systems, by name, as `{shallow_water: 2}`: fewer of a
            system with more grid points, whose batches then cost no more than the others'.
    """

    weights: Literal["uniform", "size", "temperature"] = "uniform"
    temperature: float = 2.0
    tokens_per_batch: int | None = None
    batch: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_positive(self, "mixture.", "temperature")
        if self.tokens_per_batch is not None:
            require_positive(self, "mixture.", "tokens_per_batch")
            require(not self.batch, "mixture.batch", self.batch, "none with tokens_per_batch")
        for name, windows in self.batch.items():
            require(windows > 0, f"mixture.batch.{name}", windows, "above 0")


@dataclass(frozen=True)
class RateConfig:
    """Learning rates of groups of weights, as multiples of `optim.lr`.

    Args:
        blocks: attention and MLP; the layers of a U-Net or an FNO.
        ends: what makes tokens of fields and fields of tokens: embeddings and decoders, by patch
            size and by variable, and the last norm. In fine-tuning, where some of them are new and
            the blocks have learned from other systems, try 10 times the rate of the blocks:
            `--optim.lr 1e-4 --optim.rates.ends 10`.
        local: the convolutions of the local path.
        conditioning: what tells position, lead time and parameters.
    """

    blocks: float = 1.0
    ends: float = 1.0
    local: float = 1.0
    conditioning: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self, "optim.rates.", *(group.name for group in fields(self)))


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and the schedule of its learning rate.

    Args:
        lr: the highest learning rate.
        rates: multiples of it for groups of weights.
        schedule: after the warm-up, `cosine` decay to the last step; `wsd` (warm-up, stable,
            decay): constant, then linear decay over the last steps, so that a run can be extended
            later from a checkpoint before the decay; or `constant`.
        warmup: steps of linear warm-up.
        decay: fraction of all steps over which `wsd` decays. Start with 0.1 to 0.2.
        final_lr: learning rate at the last step, as a fraction of `lr`, for `cosine` and `wsd`.
        weight_decay: on matrices only.
        betas: decay of the first and second moment.
        clip: largest norm of the gradient.
        ema: decay of an exponential moving average of the weights, which is then what is validated
            and saved as the model; 0 keeps none. Start with 0.995. With `cosine`, whose last steps
            are small, it changed test errors by 3 % or less, either way.
    """

    lr: float = 1e-3
    rates: RateConfig = field(default_factory=RateConfig)
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    warmup: int = 100
    decay: float = 0.2
    final_lr: float = 0.01
    weight_decay: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    ema: float = 0.0

    def __post_init__(self) -> None:
        require_positive(self, "optim.", "lr", "clip")
        require_fraction(self, "optim.", "final_lr", "weight_decay", "decay")
        require(0 <= self.ema < 1, "optim.ema", self.ema, "0, or a decay below 1 such as 0.995")
        require(self.warmup >= 0, "optim.warmup", self.warmup, "0 steps or more")
        require(all(0 <= b < 1 for b in self.betas), "optim.betas", self.betas, "two in [0, 1)")


@dataclass(frozen=True)
class LossConfig:
    """What training minimises: the error of the state, and other terms, which 0 leaves out.

    Args:
        of: the error is the `square` of the NRMSE of normalised fields; its `root`, whose gradient
            does not grow with it, so that hard systems do not drown easy ones; or the `log` of that
            root, by which a per cent less is worth the same in every system.
        base: weight of the same error of the coarse pass alone, in mode `adap_mul`.
        gradient: weight of the squared NRMSE of the differences between neighbouring points.
        conservation: weight of the squared error of each variable's mean over the domain.
    """

    of: Literal["square", "root", "log"] = "square"
    base: float = 0.0
    gradient: float = 0.0
    conservation: float = 0.0

    def __post_init__(self) -> None:
        require(self.of in ("square", "root", "log"), "loss.of", self.of, "square, root or log")
        for term in fields(self)[1:]:
            value = getattr(self, term.name)
            require(math.isfinite(value) and value >= 0, f"loss.{term.name}", value, "0 or more")


@dataclass(frozen=True)
class ParallelConfig:
    """How several processes train one model; torchrun starts them.

    Args:
        strategy: `ddp`: each process holds the whole model; `fsdp`: its share of the weights,
            gradients and moments only.
        sequence: number of processes that share the tokens of each sample; divides the number of
            all processes, and is at most model.heads.
        timeout: seconds that a process waits for the others before it gives up: longer than
            reading a batch or writing a checkpoint takes.
    """

    strategy: Literal["ddp", "fsdp"] = "ddp"
    sequence: int = 1
    timeout: float = 600.0

    def __post_init__(self) -> None:
        require_positive(self, "parallel.", "sequence", "timeout")


@dataclass(frozen=True)
class RunConfig:
    """All settings of a training run: with its data they reproduce it.

    Args:
        model: the transformer.
        windows: what one training sample is.
        mixture: how systems share the batches.
        optim: optimizer and schedule.
        loss: terms of the loss.
        data: systems and files; a YAML file that `matey data inspect --write` drafts.
        mode: which weights train: `full`: all; `frozen-attention`: all but the blocks, for a model
            whose blocks have learned from other systems.
        parallel: how several processes share the work.
        steps: optimizer steps.
        batch: windows per batch of each process; a batch holds one system. `mixture.batch` gives
            single systems another number.
        accumulate: batches per optimizer step, systems interleaved.
        precision: `float32`, or `bfloat16` autocast.
        activation_checkpointing: keep only each block's input for the backward pass, and compute
            the rest again: less memory for another forward pass.
        compile: compile the blocks; the first steps take longer.
        validate_every: steps between validations; 0 validates at the end only.
        validate_windows: windows per system in a validation.
        checkpoint_every: steps between checkpoints; one is always written at the end.
        keep_checkpoints: how many of the newest checkpoints are kept.
        log_every: steps between lines of metrics.jsonl.
        tensorboard: write them for TensorBoard too; needs matey-pde[tensorboard].
        threads: of each operation on a CPU: a number, or `auto`, which times a few steps with each
            number and keeps the best.
        workers: processes that load data; 0 loads in the training process.
        seed: of weights, sampling and drop path.
        device: `auto` takes a CUDA device if there is one.
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
    threads: Literal["auto"] | int = "auto"
    workers: int = 0
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        require_positive(self, "", "steps", "batch", "accumulate", "validate_windows")
        require_positive(self, "", "checkpoint_every", "keep_checkpoints", "log_every")
        for name in ("validate_every", "workers", "seed"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(self.threads == "auto" or self.threads > 0, "threads", self.threads, "1 or more")
        require(
            self.parallel.sequence <= self.model.heads,
            "parallel.sequence",
            self.parallel.sequence,
            f"at most model.heads = {self.model.heads}: each process attends with some of them",
        )
        require(
            self.windows.history > 1
            or not self.model.is_adaptive
            or self.model.refine.criterion != "change",
            "model.refine.criterion",
            self.model.refine.criterion,
            "variance or gradient with windows.history = 1: nothing is known of changes",
        )
        names = [source.name for source in self.data.systems]
        for name in self.mixture.batch if names else ():
            require(name in names, "mixture.batch", name, f"one of the systems {names}")
        require(
            self.trains_blocks or not self.model.is_baseline,
            "mode",
            self.mode,
            f"full with model.baseline.kind = {self.model.baseline.kind}, which has no attention",
        )
        require(
            self.windows.max_lead == 1
            or not (self.model.stencil or self.model.baseline.kind == "stencil"),
            "windows.max_lead",
            self.windows.max_lead,
            "1 with a stencil, which is fitted to single steps",
        )

    def batch_of(self, system: str) -> int:
        """Windows per batch of a system, in each process."""
        return self.mixture.batch.get(system, self.batch)

    @property
    def end(self) -> int:
        """The first step of the end of the run, as `windows.end_share` has it."""
        return self.steps - round(self.windows.end_share * self.steps)

    @property
    def trains_blocks(self) -> bool:
        """Whether the blocks are trained, or only the layers around them."""
        return self.mode == "full"
