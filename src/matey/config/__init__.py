"""Every setting of a run, with its default and its range, in one place.

Frozen dataclasses that YAML files and the command line fill in (`matey.cli.options`).
A value out of range raises ConfigError when the dataclass is made.
"""

from matey.config.checks import require, require_fraction, require_positive
from matey.config.data import (
    NAME,
    ArrayConfig,
    Axis,
    DataConfig,
    Faces,
    Join,
    LayoutConfig,
    SourceConfig,
    SplitConfig,
)
from matey.config.model import (
    BaselineConfig,
    KeepConfig,
    ModelConfig,
    RefineConfig,
    Scheme,
    current,
)
from matey.config.training import (
    LossConfig,
    OptimConfig,
    ParallelConfig,
    RateConfig,
    RunConfig,
)
from matey.config.windows import MixtureConfig, WindowConfig

__all__ = [
    "NAME",
    "ArrayConfig",
    "Axis",
    "BaselineConfig",
    "DataConfig",
    "Faces",
    "Join",
    "KeepConfig",
    "LayoutConfig",
    "LossConfig",
    "MixtureConfig",
    "ModelConfig",
    "OptimConfig",
    "ParallelConfig",
    "RateConfig",
    "RefineConfig",
    "RunConfig",
    "Scheme",
    "SourceConfig",
    "SplitConfig",
    "WindowConfig",
    "current",
    "require",
    "require_fraction",
    "require_positive",
]
