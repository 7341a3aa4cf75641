"""JSON and YAML files as checked plain data; an error names the file and the key."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from matey.errors import DataError
from matey.output import plain_yaml


def read_text(path: Path) -> str:
    """A file's text. Raises DataError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises DataError."""
    try:
        return as_object(json.loads(read_text(path)), path)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping of plain data. Raises DataError."""
    try:
        return as_object(plain_yaml(read_text(path)), path)
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


def read_log(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of each line; none where the file is absent.

    A last line without its end is being written right now, and left out.
    """
    if not path.is_file():
        return
    lines = read_text(path).split("\n")
    for number, line in enumerate(lines[:-1], start=1):
        if not line.strip():
            continue
        try:
            yield number, as_object(json.loads(line), f"{path}:{number}")
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(f"{path}:{number} is not valid JSON: {error}") from error


def as_object(value: Any, where: object) -> dict[str, Any]:
    """The value, if it is a mapping. Raises DataError."""
    if not isinstance(value, dict):
        raise DataError(f"{where} holds a {type(value).__name__}, expected names and values.")
    return value


def need(record: Mapping[str, Any], key: str, where: object) -> Any:
    """The value of a key. Raises DataError if it is not there."""
    if key not in record:
        raise DataError(f"{where} has no {key!r}; found {sorted(map(str, record))}.")
    return record[key]


def number_of(value: Any, where: object, key: str) -> float:
    """A number; None, which JSON has for one that is not finite, becomes NaN."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{where}: {key} is {value!r}, expected a number.")
    return float(value)


def count_of(value: Any, where: object, key: str) -> int:
    """A whole number of things. Raises DataError."""
    count = number_of(value, where, key)
    if not math.isfinite(count) or count < 0:
        raise DataError(f"{where}: {key} is {value!r}, expected a count.")
    return int(count)


def numbers_of(values: Any, where: object, key: str) -> tuple[float, ...]:
    """A list of numbers. Raises DataError."""
    if not isinstance(values, list | tuple):
        raise DataError(f"{where}: {key} is {values!r}, expected a list of numbers.")
    return tuple(number_of(value, where, key) for value in values)


def counts_of(values: Any, where: object, key: str) -> tuple[int, ...]:
    """A list of whole numbers. Raises DataError."""
    return tuple(count_of(value, where, key) for value in numbers_of(values, where, key))


def numbers_by_name(values: Any, where: object, key: str) -> dict[str, float]:
    """Numbers by name; nothing where the key is absent. Raises DataError."""
    if values is None:
        return {}
    named = as_object(values, f"{where}: {key}")
    return {str(name): number_of(value, where, key) for name, value in named.items()}
