"""Write results whole or not at all, and JSON that every program reads; read YAML as plain data."""

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

# libyaml's, if PyYAML has it: a thousand trajectories may have a thousand configs to read.
FASTEST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
LEFT = re.compile(r"\.(.+)\.\d+\.(part|old)")  # temporary names of `replacing`


@contextmanager
def replacing(path: Path, error: type[MateyError] = DataError) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` if the block succeeds.

    The block writes a file or a folder there, which is flushed to disk before it is renamed. If
    it fails, `path` is as before, and the temporary one is removed. Raises `error` for OSError.
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
        if path.is_dir() and temporary.is_dir():  # a folder cannot be renamed onto another
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
    """While the block runs, let SIGTERM raise StoppedError, so that what it was writing at `path`
    is removed; unless SIGTERM has a handler already, or this is not the main thread."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
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
    """Flush the content of a file, or the names in a folder, to disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tidy(folder: Path) -> None:
    """Remove what a process that was killed in `replacing` left in a folder.

    What was about to be replaced is moved back. Nobody else may be writing there.
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
    """Write a text file in one step: a reader sees the old one or the new one."""
    with replacing(path, error) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_line(path: Path, line: str, error: type[MateyError] = DataError) -> None:
    """Append a line to a text file, whole or not at all; links are not followed.

    An unfinished last line, left by a killed process, is cut off first. Raises `error` if the
    line cannot be written.
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
    """Plain data as JSON text and a newline; NaN and infinity, which JSON lacks, become null."""
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
    """Parse YAML text as plain data; a `loader`, a subclass of SafeLoader, may refuse more.

    Raises yaml.YAMLError for invalid text, ValueError for a value out of range, RecursionError
    for text nested too deeply.
    """
    reader = loader(text)
    try:
        return reader.get_single_data()
    finally:
        reader.dispose()
