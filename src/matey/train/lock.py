"""One process at a time on a run folder.

The system releases the lock of the file `.lock` when its holder ends, however that happens. The
file names the holder: host, process, and when that process began, since numbers are used again.
"""

import errno
import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from matey.errors import ConfigError
from matey.output import to_json

NAME = ".lock"
log = logging.getLogger(__name__)


@contextmanager
def locked(run: Path, option: str = "--run") -> Iterator[None]:
    """Hold a run folder, which is made if need be, while the block runs; `option` names it.

    The lock of a dead process is taken over, with a warning; a new folder that stays empty is
    removed. Raises ConfigError if another process holds it, or it cannot be written.
    """
    if "\0" in str(run):
        raise ConfigError(f"{option} is {str(run)!r}: a name has no NUL.")
    made = [folder for folder in (run, *run.parents) if not folder.exists()]
    try:
        run.mkdir(parents=True, exist_ok=True)
        file = take(run, option)
    except OSError as error:
        raise ConfigError(
            f"{run} cannot be written: {error.strerror or error}. Choose another {option}."
        ) from error
    try:
        yield
    finally:
        if is_same(file, run / NAME):  # the folder may have been removed
            (run / NAME).unlink()
        os.close(file)
        with suppress(OSError):  # one that is not empty stays, and those above it
            for folder in made:
                folder.rmdir()


def take(run: Path, option: str) -> int:
    """Open the lock's file and hold it. Raises ConfigError if another process does, OSError."""
    path = run / NAME
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            free = try_lock(file)
            holder = read_holder(file)
            if free is False or (holder and is_alive(holder, sure=free is not None)):
                raise ConfigError(
                    f"{run} is in use by process {holder.get('pid', '?')} on "
                    f"{holder.get('host', '?')}. Wait for its end, or choose another {option}; if "
                    f"that process is gone, remove {path}."
                )
            if not is_same(file, path):  # whoever held it has removed it meanwhile
                os.close(file)
                continue
            if holder:
                left = f"{path} was left by process {holder.get('pid')} on {holder.get('host')}"
                log.warning("%s, which is dead: taken over.", left)
            os.ftruncate(file, 0)
            os.pwrite(file, to_json(myself()).encode(), 0)
            os.fsync(file)
            return file
        except BaseException:
            with suppress(OSError):
                os.close(file)
            raise


def try_lock(file: int) -> bool | None:
    """Ask the system for the lock: whether it is ours, None on a file system without locks."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EACCES, errno.EAGAIN) else None
    return True


def read_holder(file: int) -> dict[str, object]:
    """Who the file says holds the lock; empty if nobody."""
    with suppress(ValueError):
        holder = json.loads(os.pread(file, 4096, 0))
        if isinstance(holder, dict):
            return holder
    return {}


def is_alive(holder: dict[str, object], sure: bool) -> bool:
    """Whether the holder may still run. On another host only the system's lock can tell: `sure`
    where there is one."""
    if holder.get("host") != socket.gethostname():
        return not sure
    pid = holder.get("pid")
    if not isinstance(pid, int):
        return False
    try:
        with suppress(PermissionError):  # it is somebody else's
            os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return holder.get("began") == began(pid)


def began(pid: int) -> str:
    """When a process began, in the system's own count; empty where it does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def myself() -> dict[str, object]:
    """What identifies this process."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "began": began(os.getpid())}


def is_same(file: int, path: Path) -> bool:
    """Whether an open file is still the one at its path."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False))
    except OSError:
        return False
