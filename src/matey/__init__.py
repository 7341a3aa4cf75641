"""Transformer surrogates of physics that spend their tokens where the physics happens."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Loaded on first use: torch takes seconds to import, and `matey --help` should not.
_PUBLIC = {
    "Batch": "matey.fields",
    "Boundary": "matey.fields",
    "Field": "matey.fields",
    "Grid": "matey.fields",
    "Inputs": "matey.fields",
    "SystemSpec": "matey.fields",
    "Variable": "matey.fields",
    "Window": "matey.fields",
    "criterion": "matey.tokens.criteria",
    "from_pretrained": "matey.nn.pretrained",
    "open": "matey.data.reader",
}

__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'matey' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
