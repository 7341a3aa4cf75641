"""How results reach the disk, whole or not at all, as JSON that every program reads; and how
YAML is read, as plain data."""

import errno
import json
import math
import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from matey.errors import DataError, MateyError, StoppedError

# libyaml's, where PyYAML has it: files of a thousand trajectories have as many configs.
FASTEST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
LEFT = re.compile(r"\.(.+)\.\d+\.(part|old)")  # names that `replacing` gives for the time being


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
        for part in (temporary, *temporary.rglob("*")):
            flush(part)
        if path.is_dir() and temporary.is_dir():  # a folder takes no other's place
            path.rename(old)
        try:
            temporary.replace(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
        flush(path.parent)
    except OSError as cause:
        raise error(f"{path} cannot be written: {cause}.") from cause
    finally:
        remove(temporary)
        if path.exists():
            remove(old)


@contextmanager
def heeding_terminate(path: Path) -> Iterator[None]:
    """SIGTERM raises StoppedError while the block runs, so that it clears what it was about to
    write at `path`; unless the process has made other arrangements."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise StoppedError(f"SIGTERM: stopped. Nothing was written at {path}.", number)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def flush(path: Path) -> None:
    """Have the content of a file, or the names in a folder, on disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tidy(folder: Path) -> None:
    """Clear what a process that was killed in `replacing` left in a folder.

    What was about to be replaced goes back to its place. Nobody else may be writing there.
    """
    for left in sorted(folder.glob(".*")):
        name = LEFT.fullmatch(left.name)
        if name and name[2] == "old" and not os.path.lexists(folder / name[1]):
            left.rename(folder / name[1])
        elif name:
            remove(left)


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


def append_line(path: Path, line: str, error: type[MateyError] = DataError) -> None:
    """Add a line to a file of lines, whole or not at all; links are not followed.

    Half a line, which a process that was killed has left, is cut off first. Raises `error` if
    it cannot be written.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(path, flags, 0o666), "rb+", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
                end = os.pread(file.fileno(), end, 0).rfind(b"\n") + 1
                file.truncate(end)
            text = line.encode()
            try:
                if file.write(text) != len(text):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(end)
                raise
    except OSError as cause:
        if not path.parent.is_dir():
            raise error(
                f"{path.parent} is no longer there: it was removed or moved while it was in use."
            ) from cause
        free = shutil.disk_usage(path.parent).free
        raise error(
            f"{path} cannot be written: {cause.strerror or cause}. A line takes "
            f"{len(line.encode())} bytes, and {free} are free."
        ) from cause


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


def plain_yaml(text: str, loader: type[Any] = FASTEST) -> Any:
    """The plain data in YAML text; `loader` is a subclass of SafeLoader where more is refused.

    Raises yaml.YAMLError for other text, ValueError for values out of range, RecursionError for
    text nested without end.
    """
    reader = loader(text)
    try:
        return reader.get_single_data()
    finally:
        reader.dispose()
