"""The optimizer, its learning rate, and the average of the weights."""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from matey.config import OptimConfig, RateConfig, RunConfig
from matey.errors import CheckpointError, ConfigError
from matey.train.parallel.distributed import Engine, own_share, share

# The group of a weight by its name, as in `RateConfig`: the first that it matches.
GROUPS = {
    r"blocks\.": "blocks",
    r"local\.ends\.|local\.paths\.\d+\.(in|out)puts\.|tokenizer\.|norm\.": "ends",
    r"local\.": "local",
    r"conditioning\.|position\.": "conditioning",
}


def group_of(name: str) -> str:
    """The group of a weight, by its name in the model."""
    return next(group for pattern, group in GROUPS.items() if re.match(pattern, name))


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW that decays matrices only: no biases, norms, scales or named vectors.

    Each of its groups has its `rate` as a multiple of the learning rate. Frozen weights are left
    out: they are not decayed either, and have no moments. Raises ConfigError for the rate of a
    group in which nothing trains.
    """
    check_rates(model, config.rates)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {(1.0, config.weight_decay): []}
    for name, weight in model.named_parameters():
        if not weight.requires_grad:
            continue
        is_matrix = name.endswith("weight") and weight.ndim >= 2
        decay = config.weight_decay if is_matrix else 0.0
        groups.setdefault((getattr(config.rates, group_of(name)), decay), []).append(weight)
    return torch.optim.AdamW(
        [
            {"params": weights, "weight_decay": decay, "rate": rate}
            for (rate, decay), weights in groups.items()
        ],
        lr=config.lr,
        betas=config.betas,
        fused=True,
    )


def check_rates(model: nn.Module, rates: RateConfig) -> None:
    """Raise ConfigError for the rate of a group in which nothing trains."""
    trained = {group_of(name) for name, w in model.named_parameters() if w.requires_grad}
    for group, rate in vars(rates).items():
        if rate != 1 and group not in trained:
            raise ConfigError(
                f"optim.rates.{group} is {rate:g}, but no weights of that group train. Leave it "
                f"out: the groups here are {', '.join(g for g in vars(rates) if g in trained)}."
            )


def set_rates(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give each group its multiple of a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate"]


def learning_rate(step: int, steps: int, config: OptimConfig) -> float:
    """The learning rate of a step, 0 to steps - 1.

    Sources: Loshchilov and Hutter (2017), arXiv:1608.03983, for `cosine`; Hu et al. (2024),
    arXiv:2404.06395, for `wsd`, whose decay is linear here.
    """
    # 1. Linear warm-up, the same for all; `lr` is reached at its last step.
    warmup = min(config.warmup, steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    # 2. How much of the way from lr down to final_lr · lr is left; none at the last step.
    if config.schedule == "constant":
        left = 1.0
    elif config.schedule == "wsd":
        decay = max(1, round(config.decay * steps))
        left = min(1.0, (steps - 1 - step) / decay)
    else:
        progress = (step - warmup) / max(1, steps - 1 - warmup)
        left = 0.5 * (1 + math.cos(math.pi * progress))
    return config.lr * (config.final_lr + (1 - config.final_lr) * left)


def rate_of(step: int, config: RunConfig) -> float:
    """The learning rate of a step of a run. With `optim.end_lr` the schedule runs twice: up to the
    end, and anew in the end."""
    optim, end = config.optim, config.end
    if optim.end_lr == 0:
        return learning_rate(step, config.steps, optim)
    if step < end:
        return learning_rate(step, end, optim)
    anew = replace(optim, lr=optim.end_lr * optim.lr, warmup=0)
    return learning_rate(step - end, config.steps - end, anew)


class Average:
    """The exponential moving average of the weights that train.

    After step n = 0, 1, ... an average is d times what it was and 1 - d times the weight, with
    d = min(decay, (1 + n) / (10 + n)): it forgets the weights before training in a few steps. With
    a decay of 0 there is none, and nothing is done. Of sharded weights each process averages its
    share. Source: Polyak and Juditsky (1992); the growing decay is that of TensorFlow.
    """

    def __init__(self, engine: Engine, decay: float) -> None:
        self.engine, self.decay = engine, decay
        trained = engine.model.named_parameters() if decay else ()
        self.weights = {name: weight for name, weight in trained if weight.requires_grad}
        self.averages = {name: weight.detach().clone() for name, weight in self.weights.items()}

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This process' share of each average, and of its weight."""
        for name, average in self.averages.items():
            yield own_share(average), own_share(self.weights[name].detach())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, 0 for the first."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, weight in self.pairs():
            average.lerp_(weight, 1 - decay)

    @torch.no_grad()
    def restore(self, averages: Mapping[str, Tensor], source: Path) -> None:
        """Go on from those of a checkpoint; from the weights where it has none.

        Raises CheckpointError, naming `source`, where they are those of other weights.
        """
        if averages and self.averages and averages.keys() != self.averages.keys():
            odd = sorted(averages.keys() ^ self.averages.keys())[0]
            raise CheckpointError(f"{source} has averages of other weights than train: {odd}.")
        for name, average in self.averages.items():
            weight = self.weights[name].detach()
            value = share(averages[name].to(weight.device), weight) if averages else weight
            own_share(average).copy_(own_share(value))

    @torch.no_grad()
    def exchange(self) -> None:
        """Put averages in the place of the weights, and these in theirs."""
        for average, weight in self.pairs():
            before = weight.clone()
            weight.copy_(average)
            average.copy_(before)
        if self.averages:
            self.engine.forget_gathered()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model with its averages for weights, as long as the block lasts."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()
