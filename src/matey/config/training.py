"""Settings of a training run."""

import math
from dataclasses import dataclass, field, fields
from typing import Literal

from matey.config.checks import require, require_fraction, require_positive
from matey.config.data import DataConfig
from matey.config.model import ModelConfig
from matey.config.windows import MixtureConfig, WindowConfig
from matey.errors import ConfigError

Mode = Literal["full", "frozen-attention", "lora"]  # of fine-tuning: which weights train


@dataclass(frozen=True)
class RateConfig:
    """Learning rates of groups of weights, as multiples of `optim.lr`.

    Args:
        blocks: attention and MLP; the layers of a U-Net or an FNO.
        ends: what makes tokens of fields and fields of tokens: embeddings and decoders, by patch
            size and by variable, and the last norm. `matey finetune`, where some of them are new
            and the blocks have learned from other systems, has 10 here by default.
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
        end_lr: with which the schedule begins anew, without a warm-up, in the end of a run
            (`windows.end_share`), as a fraction of `lr`; 0 lets it go on. Longer rollouts in the
            end (`windows.pushforward_end`) want it: there `cosine` is near zero. Start with 0.3.
        weight_decay: on matrices only.
        betas: decay of the first and second moment.
        clip: largest norm of the gradient.
        ema: decay of an exponential moving average of the weights, which is then what is validated
            and saved as the model; 0 keeps none. Start with 0.995. With `cosine`, whose last steps
            are small, it changed test errors one step ahead by 3 % or less, either way.
    """

    lr: float = 1e-3
    rates: RateConfig = field(default_factory=RateConfig)
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    warmup: int = 100
    decay: float = 0.2
    final_lr: float = 0.01
    end_lr: float = 0.0
    weight_decay: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    ema: float = 0.0

    def __post_init__(self) -> None:
        require_positive(self, "optim.", "lr", "clip")
        require_fraction(self, "optim.", "final_lr", "end_lr", "weight_decay", "decay")
        require(0 <= self.ema < 1, "optim.ema", self.ema, "0, or a decay below 1 such as 0.995")
        require(self.warmup >= 0, "optim.warmup", self.warmup, "0 steps or more")
        require(all(0 <= b < 1 for b in self.betas), "optim.betas", self.betas, "two in [0, 1)")


@dataclass(frozen=True)
class LossConfig:
    """What training minimises: the error of the state, and other terms, which 0 leaves out.

    Args:
        of: the error is the `square` of the NRMSE of normalised fields; its `root`, whose gradient
            does not grow with it, so that hard systems do not drown easy ones; or the `log` of that
            root, by which a per cent less is worth the same in every system. `crps` trains an
            ensemble (see docs/ensembles.md): the fair CRPS of `members` predictions that are told
            different noise (`model.noise`), over the root mean square of the target. `--loss crps`
            is short for it.
        members: predictions of each window, with `crps`: a batch is so many times as large. 2 or
            more.
        base: weight of the same error of the coarse pass alone, in mode `adap_mul`.
        gradient: weight of the squared NRMSE of the differences between neighbouring points.
        conservation: weight of the squared error of each variable's mean over the domain.
    """

    of: Literal["square", "root", "log", "crps"] = "square"
    members: int = 4
    base: float = 0.0
    gradient: float = 0.0
    conservation: float = 0.0

    def __post_init__(self) -> None:
        known = ("square", "root", "log", "crps")
        require(self.of in known, "loss.of", self.of, "square, root, log or crps")
        require(self.members > 1, "loss.members", self.members, "2 or more")
        for term in fields(self)[2:]:
            value = getattr(self, term.name)
            require(math.isfinite(value) and value >= 0, f"loss.{term.name}", value, "0 or more")
            fits = value == 0 or self.of != "crps"
            require(fits, f"loss.{term.name}", value, "0 with loss.of = crps, which stands alone")

    @property
    def samples(self) -> int:
        """Predictions of each window."""
        return self.members if self.of == "crps" else 1


@dataclass(frozen=True)
class ParallelConfig:
    """How several processes train one model; torchrun starts them.

    Args:
        strategy: `ddp`: each process holds the whole model; `fsdp`: its share of the weights,
            gradients and moments only.
        sequence: number of processes that share the tokens of each sample; divides the number of
            all processes.
        ring: number of blocks that the cells of each sample are in, where heads do not suffice;
            divides `sequence`. The processes of a block, at most as many as model.heads, exchange
            heads for cells; keys and values of blocks go around a ring.
        timeout: seconds that a process waits for the others before it gives up: longer than
            reading a batch or writing a checkpoint takes.
    """

    strategy: Literal["ddp", "fsdp"] = "ddp"
    sequence: int = 1
    ring: int = 1
    timeout: float = 600.0

    def __post_init__(self) -> None:
        require_positive(self, "parallel.", "sequence", "ring", "timeout")
        expected = f"a divisor of parallel.sequence = {self.sequence}"
        require(self.sequence % self.ring == 0, "parallel.ring", self.ring, expected)

    def check_heads(self, heads: int) -> None:
        """Raise ConfigError where more processes would exchange heads than a model has."""
        if self.sequence > self.ring * heads:
            raise ConfigError(
                f"parallel.sequence is {self.sequence}, expected at most parallel.ring × "
                f"model.heads = {self.ring} × {heads}. Let keys go around a ring: --parallel.ring "
                f"{fewest_blocks(self.sequence, heads)}."
            )


def fewest_blocks(sequence: int, heads: int) -> int:
    """The smallest `parallel.ring` with which so many processes can share a sample's tokens."""
    divisors = (n for n in range(1, sequence + 1) if sequence % n == 0)
    return next(n for n in divisors if sequence <= n * heads)


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
            whose blocks have learned from other systems; `lora`: low-rank adapters of its large
            matrices, and what is small or new. `model/` is then what differs from the model that
            is fine-tuned, and names it.
        rank: of the adapters of `lora`.
        merge: with `lora`, save whole models, the adapters added to the weights.
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
        patience: end the training after so many validations in a row without a lower mean NRMSE
            (of an ensemble, CRPS), or at the last step, and keep the model of the best one; 0: take
            all steps, and keep the model of the last. Validations are one step ahead: for training
            whose end is of longer rollouts (`windows.end_share`), leave it 0.
        checkpoint_every: steps between checkpoints; one is always written at the end.
        keep_checkpoints: how many of the newest checkpoints are kept.
        log_every: steps between lines of metrics.jsonl.
        tensorboard: write them for TensorBoard too; needs matey-pde[tensorboard].
        wandb: write them for Weights & Biases too, into the run folder; needs matey-pde[wandb].
            Nothing is sent unless the environment says so (WANDB_MODE=online).
        mlflow: write them for MLflow too, into the run folder or where MLFLOW_TRACKING_URI says;
            needs matey-pde[mlflow].
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
    mode: Mode = "full"
    rank: int = 4
    merge: bool = False
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    steps: int = 1000
    batch: int = 8
    accumulate: int = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    activation_checkpointing: bool = False
    compile: bool = False
    validate_every: int = 200
    validate_windows: int = 32
    patience: int = 0
    checkpoint_every: int = 200
    keep_checkpoints: int = 2
    log_every: int = 10
    tensorboard: bool = False
    wandb: bool = False
    mlflow: bool = False
    threads: Literal["auto"] | int = "auto"
    workers: int = 0
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        require_positive(self, "", "steps", "batch", "accumulate", "validate_windows", "rank")
        require_positive(self, "", "checkpoint_every", "keep_checkpoints", "log_every")
        for name in ("validate_every", "patience", "workers", "seed"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(self.threads == "auto" or self.threads > 0, "threads", self.threads, "1 or more")
        self.parallel.check_heads(self.model.heads)
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
        for name in self.model.keep if names else ():
            require(name in names, "model.keep", name, f"one of the systems {names}")
        require(
            self.trains_blocks or not self.model.is_baseline,
            "mode",
            self.mode,
            f"full with model.baseline.kind = {self.model.baseline.kind}, which has no attention",
        )
        expected = "above 0 with loss.of = crps"
        if self.loss.of != "crps":
            expected = (
                f"0 with loss.of = {self.loss.of}: only crps learns to use it. A model that has "
                "noise already, an ensemble, is fine-tuned by loss.of = crps alone"
            )
        fits = (self.loss.of == "crps") == (self.model.noise > 0)
        require(fits, "model.noise", self.model.noise, expected)
        require(
            self.mode != "lora" or self.rank < self.model.embed_dim,
            "rank",
            self.rank,
            f"less than model.embed_dim = {self.model.embed_dim}",
        )
        require(
            self.windows.max_lead == 1
            or not (self.model.stencil or self.model.baseline.kind == "stencil"),
            "windows.max_lead",
            self.windows.max_lead,
            "1 with a stencil, which is fitted to single steps",
        )
        whole = "model.waves" if self.model.waves else "an FNO"
        require(
            self.windows.crop is None
            or not (self.model.waves or self.model.baseline.kind == "fno"),
            "windows.crop",
            self.windows.crop,
            f"none with {whole}, whose waves are those of whole domains"
            + (": set it to 0" if self.model.waves else ""),
        )

    def batch_of(self, system: str) -> int:
        """Windows per batch of a system, in each process."""
        return self.mixture.batch.get(system, self.batch)

    def samples_of(self, system: str) -> int:
        """Predictions per batch of a system, in each process: those of all members."""
        return self.batch_of(system) * self.loss.samples

    @property
    def end(self) -> int:
        """The first step of the end of the run, as `windows.end_share` has it."""
        return self.steps - round(self.windows.end_share * self.steps)

    @property
    def trains_blocks(self) -> bool:
        """Whether the blocks are trained, or only the layers around them."""
        return self.mode == "full"
