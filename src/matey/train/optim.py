"""The optimizer and its learning rate."""

import math

import torch
from torch import nn

from matey.config import OptimConfig


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW that decays matrices only: no biases, norms, scales or named vectors.

    Frozen weights are left out: they are not decayed either, and have no moments.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_matrix = name.endswith("weight") and parameter.ndim >= 2
        (matrices if is_matrix else others).append(parameter)
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


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
