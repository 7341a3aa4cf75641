"""A model of a config: the transformer or a baseline. What else differs, each says for itself."""

from collections.abc import Sequence

import torch

from matey.config import ModelConfig
from matey.config.training import Mode
from matey.errors import ConfigError
from matey.fields import SystemSpec
from matey.nn.adapters.low_rank import choose_weights
from matey.nn.baselines.base import Baseline
from matey.nn.baselines.stencil import StencilModel
from matey.nn.surrogate import Surrogate
from matey.nn.transformer import Matey


def make_model(config: ModelConfig, specs: Sequence[SystemSpec], history: int) -> Surrogate:
    """A new model with weights for some systems. Raises ConfigError where it cannot be made."""
    if not config.is_baseline:
        return Matey(config, specs, history)
    if config.baseline.kind == "stencil":
        return StencilModel(config, specs, history)
    if not specs:
        raise ConfigError(f"A {config.baseline.kind} is made for a system, and none was given.")
    return Baseline(config, specs, history)


def outline_model(
    config: ModelConfig,
    specs: Sequence[SystemSpec],
    history: int,
    mode: Mode = "full",
    rank: int = 1,
) -> Surrogate:
    """The same as names and shapes, to be trained in a `mode`: no weight is allocated."""
    with torch.device("meta"):
        model = make_model(config, specs, history)
        choose_weights(model, mode, rank)
    return model
