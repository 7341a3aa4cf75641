"""How results reach the disk: whole or not at all, and as JSON that every program reads."""

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matey.errors import DataError, MateyError


@contextmanager
def replacing(path: Path, error: type[MateyError] = DataError) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place when the block ends well.

    The block makes a file or a folder there; it is on disk before it is renamed. Raises `error`
    if it cannot be written; then what was at `path` is still there, and nothing beside it.
    """
    if "\0" in str(path):
        raise error(f"{str(path)!r} cannot be written: a name has no NUL.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(temporary)
        yield temporary
        for file in (temporary, *temporary.rglob("*")):
            if file.is_file():
                with file.open("rb+") as content:
                    os.fsync(content.fileno())
        if path.is_dir() and temporary.is_dir():  # a folder takes no other's place
            path.rename(old)
        try:
            temporary.replace(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as cause:
        raise error(f"{path} cannot be written: {cause}.") from cause
    finally:
        remove(temporary)
        if path.exists():
            remove(old)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str, error: type[MateyError] = DataError) -> None:
    """Write a text file so that a reader sees the old one or the new one."""
    with replacing(path, error) as temporary:
        temporary.write_text(text, encoding="utf-8")


def to_json(value: Any, indent: int | None = None) -> str:
    """Plain data as JSON and a newline; a number that is not finite is null, as JSON has none."""
    return json.dumps(finite(value), indent=indent, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """Plain data with None in place of numbers that are not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
