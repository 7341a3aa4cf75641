"""Dataclasses as JSON files: written whole, and read back with every value checked.

A number that is not finite is null in a file. Read again it is NaN, or infinite where the field is
`Endless`. A key that is absent takes the field's default; one that no field has is passed over.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import MISSING, asdict, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin
from typing import get_type_hints as hints_of

from matey.errors import DataError
from matey.output import to_json, write_text

T = TypeVar("T")
F = TypeVar("F", bound="RecordFile")
Endless = Annotated[float, math.inf]  # a number that null stands for infinity in


class RecordFile:
    """A dataclass that is stored as a file.

    FORMAT is the version that this release writes and reads; 0 where the file does not say.
    REMEDY tells how to get a file that can be read.
    """

    FORMAT: ClassVar[int] = 0
    REMEDY: ClassVar[str] = ""

    def save(self, path: Path, indent: int | None = 1) -> None:
        """Write the file, whole or not at all; without an `indent` in a single line."""
        assert is_dataclass(self)
        head = {"format": self.FORMAT} if self.FORMAT else {}
        write_text(path, to_json({**head, **asdict(self)}, indent))

    @classmethod
    def load(cls: type[F], path: Path) -> F:
        """Read the file. Raises DataError that names the file and the key at fault."""
        record = read_json(path)
        if cls.FORMAT and record.get("format") != cls.FORMAT:
            raise DataError(
                f"{path} has format {record.get('format')!r}, but this version reads {cls.FORMAT}. "
                f"{cls.REMEDY}"
            )
        try:
            return read(cls, record)
        except ValueError as error:
            raise DataError(f"{path} is damaged: {error}. {cls.REMEDY}") from error


def read_text(path: Path) -> str:
    """A file's text. Raises DataError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises DataError."""
    return parse(read_text(path), str(path))


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and object of each line of a log; none where the file is absent. Raises DataError.

    A last line without its end is being written right now, and left out.
    """
    lines = read_text(path).split("\n")[:-1] if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{path}:{number}", parse(line, f"{path}:{number}")


def parse(text: str, where: str) -> dict[str, Any]:
    """JSON text as an object. Raises DataError."""
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{where} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{where} holds a {type(value).__name__}, expected names and values.")
    return value


def read(kind: type[T], value: Any, where: str = "") -> T:
    """A value of a file as the type that a field is declared with.

    Raises ValueError, which says at which key what was expected.
    """
    result: T = convert(kind, value, where)
    return result


def convert(kind: Any, value: Any, where: str) -> Any:
    """Do the work of `read`, for types that are not classes, too."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        return inner[1] if value is None else convert(inner[0], value, where)
    if origin in (UnionType, Union):  # the second where one of the kinds is a Literal
        return convert_one_of([each for each in inner if each is not NoneType], value, where)
    if origin is Literal:
        return value if value in inner else refuse(where, value, f"one of {', '.join(inner)}")
    if origin is list:
        return convert_items([inner[0]] * length(value, where), value, where)
    if origin is tuple:
        kinds = [inner[0]] * length(value, where) if inner[-1] is Ellipsis else list(inner)
        return tuple(convert_items(kinds, value, where))
    if not isinstance(value, dict) and (origin is dict or is_dataclass(kind)):
        refuse(where, value, "names and values")
    if origin is dict:
        return {name: convert(inner[1], item, under(where, name)) for name, item in value.items()}
    if is_dataclass(kind):
        return build(kind, value, where)
    return plain_value(kind, value, where)


def convert_one_of(kinds: list[Any], value: Any, where: str) -> Any:
    """None, or a value of the first of several kinds that it fits."""
    for kind in kinds[:-1]:
        try:
            return None if value is None else convert(kind, value, where)
        except ValueError:
            continue
    return None if value is None else convert(kinds[-1], value, where)


def convert_items(kinds: list[Any], value: Any, where: str) -> list[Any]:
    """Convert the items of a list, one kind each; errors name an item by its `name`, if any."""
    if length(value, where) != len(kinds):
        refuse(where, value, f"{len(kinds)} items")
    names = [item.get("name", i) if isinstance(item, dict) else i for i, item in enumerate(value)]
    each = zip(kinds, value, names, strict=True)
    return [convert(kind, item, under(where, name)) for kind, item, name in each]


def build(kind: Any, value: dict[str, Any], where: str) -> Any:
    """Make a dataclass from the values under its fields' names."""
    arguments = {}
    for name, hint, optional in declared(kind):
        if name in value:
            arguments[name] = convert(hint, value[name], under(where, name))
        elif not optional:
            raise ValueError(f"{where or 'it'} has no {name!r}; found {sorted(value)}")
    try:
        return kind(**arguments)
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from error


@cache
def declared(kind: Any) -> list[tuple[str, Any, bool]]:
    """The fields of a dataclass: name, type, and whether there is a default."""
    hints = hints_of(kind, include_extras=True)
    return [
        (f.name, hints[f.name], f.default is not MISSING or f.default_factory is not MISSING)
        for f in fields(kind)
        if f.init
    ]


def plain_value(kind: Any, value: Any, where: str) -> Any:
    """A number, a count, a text or a truth value."""
    if kind is float and value is None:
        return math.nan
    fits = isinstance(value, kind)
    if kind in (float, int):
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        fits = fits and (kind is float or 0 <= value < math.inf)
    words = {str: "a text", bool: "true or false", float: "a number", int: "a count"}
    return kind(value) if fits else refuse(where, value, words[kind])


def length(value: Any, where: str) -> int:
    """How many items a list has."""
    return len(value) if isinstance(value, list | tuple) else refuse(where, value, "a list")


def refuse(where: str, value: Any, expected: str) -> Any:
    """Raise ValueError."""
    raise ValueError(f"{where} is {value!r}, expected {expected}")


def under(where: str, name: object) -> str:
    """The place of a key: `systems.shallow_water.steps`."""
    return f"{where}.{name}" if where else str(name)
