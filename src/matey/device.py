"""Where a command computes."""

import torch

from matey.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """Return the device that `auto`, `cpu` or `cuda` means here."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is 'cuda', but torch finds no CUDA device. Use --device cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
