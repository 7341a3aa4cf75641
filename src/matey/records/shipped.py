"""Models that ship with the package: a folder each, found by its name.

Such a folder is a model folder with two files more, `shipped.json` and the `scores.json` of an
evaluation. All that is said of a model comes from these: to add a model is to add its folder.
"""

import logging
import os
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

from matey.records.files import RecordFile

log = logging.getLogger("matey")

PRETRAINED = Path(str(files("matey"))) / "pretrained"
FACTS, SCORES = "shipped.json", "scores.json"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")  # no separators: a name leads to no other folder


@dataclass(frozen=True)
class Shipped(RecordFile):
    """What a model that ships says of itself beyond its description: its version, the licence of
    its weights, and the floating-point operations that its training took."""

    FORMAT: ClassVar[int] = 1
    REMEDY: ClassVar[str] = "Install the package again."

    version: str
    licence: str
    operations: float


def shipped() -> dict[str, Path]:
    """The folder of each model that ships, by its name."""
    inside = sorted(PRETRAINED.iterdir()) if PRETRAINED.is_dir() else []
    return {f.name: f for f in inside if NAME.fullmatch(f.name) and (f / FACTS).is_file()}


def located(path: str | Path) -> Path:
    """The folder that a path or the name of a model that ships stands for.

    A path that exists wins; where it is a name, too, that is told. What is neither is given back
    as it is.
    """
    path = Path(path)
    folder = shipped().get(str(path))
    if folder is None:
        return path
    if os.path.lexists(path):
        log.warning(
            f"{path} is a path here and the name of a model that ships: the path is taken. Rename "
            "it, or go to another folder, for the model."
        )
        return path
    return folder


def those_that_ship() -> str:
    """The names of the models that ship, for a sentence: `mini, midi`, or that there is none."""
    return ", ".join(shipped()) or "none ships with this installation"
