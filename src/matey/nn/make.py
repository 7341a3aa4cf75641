"""A model of a config: the transformer or a baseline. What else differs, each says for itself."""

from collections.abc import Sequence

import torch

from matey.config import ModelConfig
from matey.errors import ConfigError
from matey.fields import SystemSpec
from matey.nn.baselines import Baseline
from matey.nn.cost import count, count_parameters
from matey.nn.model import Matey
from matey.nn.surrogate import Surrogate


def make_model(config: ModelConfig, specs: Sequence[SystemSpec], history: int) -> Surrogate:
    """A new model with weights for some systems. Raises ConfigError where it cannot be made."""
    if not config.is_baseline:
        return Matey(config, specs, history)
    if not specs:
        raise ConfigError(f"A {config.kind} is made for a system, and none was given.")
    return Baseline(config, specs, history)


def count_model(config: ModelConfig, specs: Sequence[SystemSpec], history: int) -> int:
    """Numbers that such a model learns; none is allocated."""
    if not config.is_baseline:
        return sum(count_parameters(config, specs).values())
    with torch.device("meta"):
        return count(make_model(config, specs, history))
