"""The config of a run of tiny steps, for tests of what surrounds them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matey.config import DataConfig, ModelConfig, OptimConfig, RunConfig, SourceConfig, WindowConfig

Settings = Mapping[str, Any]


def tiny_run(
    files: Mapping[str, Path], model: Settings, windows: Settings, optim: Settings, **settings: Any
) -> RunConfig:
    """A run on systems of a file each, with what a test changes of the tiny model and the rest."""
    sources = tuple(SourceConfig(name, (str(path),)) for name, path in files.items())
    tiny = {"embed_dim": 12, "heads": 1, "depth": 1, "patches": (8, 4)}
    usual = {"batch": 2, "log_every": 1, "device": "cpu"}
    return RunConfig(
        model=ModelConfig(**{**tiny, **model}),
        windows=WindowConfig(**{"history": 2, **windows}),
        optim=OptimConfig(**optim),
        data=DataConfig(sources),
        **{**usual, **settings},
    )
