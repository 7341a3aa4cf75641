"""Transformer surrogates of physics that spend their tokens where the physics happens."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Loaded on first use: torch takes seconds to import, and `matey --help` should not.
# `train` and `evaluate` are names of rooms: what they do is called by other verbs here.
_PUBLIC = {
    "Batch": "matey.fields",
    "Boundary": "matey.fields",
    "Ensemble": "matey.fields",
    "Field": "matey.fields",
    "Grid": "matey.fields",
    "Inputs": "matey.fields",
    "ModelConfig": "matey.config",
    "OptimConfig": "matey.config",
    "RefineConfig": "matey.config",
    "RunConfig": "matey.config",
    "ScoreConfig": "matey.evaluate.score",
    "SystemSpec": "matey.fields",
    "Variable": "matey.fields",
    "WindowConfig": "matey.config",
    "criterion": "matey.tokens.criteria",
    "data_config": "matey.data.draft_config",
    "finetune": "matey.train.finetune",
    "from_pretrained": "matey.nn.folder",
    "limit_memory": "matey.cost.regions",
    "merge": "matey.nn.folder",
    "open": "matey.data.trajectories",
    "pretrain": "matey.train.loop:train",
    "score": "matey.evaluate.score:evaluate",
    "write_field": "matey.data.write",
    "write_steps": "matey.data.write",
    "write_well": "matey.data.write",
}

__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'matey' has no attribute {name!r}")
    module, _, own = _PUBLIC[name].partition(":")
    return getattr(import_module(module), own or name)


def __dir__() -> list[str]:
    return sorted(__all__)
