"""Run the cells of a study, several at a time, and resume a study that was stopped.

Cells run in processes of one thread each: two of these use two cores better than one process with
two threads, and what a cell computes does not depend on how many run beside it. A cell that has
its record is skipped; one that was killed goes on from its newest checkpoint. A process ends with
the one that started it, also when that is killed, so that no cell is left locked.
"""

import logging
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from matey.errors import ConfigError, DataError, MateyError, StoppedError
from matey.output import plain_yaml, remove, write_text
from matey.records.descriptions import read_config
from matey.records.files import read_text
from matey.records.study import Outcome
from matey.simulate.parts import end_with_parent
from matey.studies.cells import RECORD, Cell, folder_of, is_done, run_cell, stencils_of
from matey.train.beside import keep_beside
from matey.train.lock import locked
from matey.train.run_folder import plain

SETTINGS = "study.yaml"
AGAIN = "again"
COMPARED = (RECORD, "run/model/model.safetensors")


@dataclass(frozen=True)
class Done:
    """A finished cell: its place among all, and the estimated seconds left."""

    cell: str
    number: int
    of: int
    seconds_left: float
    failed: str


Watch = Callable[[Done], None]


@dataclass(frozen=True)
class Failure:
    """Why a cell could not be made, sent between processes; `signal` ended it, if any."""

    message: str
    signal: int = 0


@contextmanager
def studying(out: Path, settings: Mapping[str, Any]) -> Iterator[None]:
    """Hold a study's folder, which keeps the study's settings, while the block runs.

    Raises ConfigError where the folder holds a study with other settings, or is in use.
    """
    with locked(out):
        text = check_settings(out, settings)
        record = out / SETTINGS
        if not record.exists() and any(path.name != ".lock" for path in out.iterdir()):
            raise ConfigError(f"{out} is not empty, and holds no study. Choose another --out.")
        write_text(record, text, ConfigError)
        yield


def check_settings(out: Path, settings: Mapping[str, Any]) -> str:
    """The settings of a study as its folder keeps them. Raises ConfigError where the folder holds a
    study with others."""
    plain_settings = {name: plain(value) for name, value in settings.items()}
    record = out / SETTINGS
    if record.exists() and settings_in(record) != plain_settings:
        raise ConfigError(
            f"{out} holds another study ({record}): its kind, scale, seed or data are others. "
            "Give the same to go on, or choose another --out."
        )
    return yaml.safe_dump(plain_settings, sort_keys=False)


def settings_in(record: Path) -> Any:
    """The settings that a study's folder keeps, with their defaults in place of those that an older
    version did not write; None where they cannot be read."""
    try:
        settings = plain_yaml(read_text(record))
        if "data" in settings:
            settings["data"] = plain(read_config(settings["data"], str(record)))
        return settings
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, DataError):
        return None


def run_cells(cells: Sequence[Cell], out: Path, jobs: int, watch: Watch) -> list[Outcome]:
    """Make the cells that are missing, and return the outcome of each.

    Cells that start from others come after them. Raises ConfigError that names the cell where one
    cannot be made, StoppedError where a signal ended it.
    """
    waiting = [cell for cell in cells if not is_done(cell, out)]
    number, done, left = len(cells) - len(waiting), 0.0, sum(cell.paid for cell in waiting)
    for cell in waiting:  # before any of them begins: several use the same
        keep_beside(cell.config, stencils_of(cell, out))
    began = time.monotonic()
    for wave in waves(waiting):
        for cell, failure in work_through(wave, out, jobs):
            if failure is not None and failure.signal:
                raise StoppedError(failure.message, failure.signal)
            if failure is not None:
                raise ConfigError(f"Cell {cell.name} cannot be made: {failure.message}")
            number, done, left = number + 1, done + cell.paid, left - cell.paid
            seconds = (time.monotonic() - began) / done * max(left, 0.0)
            failed = Outcome.load(folder_of(out, cell.name) / RECORD).failed
            watch(Done(cell.name, number, len(cells), seconds, failed))
    return [Outcome.load(folder_of(out, cell.name) / RECORD) for cell in cells]


def repeat_cells(
    cells: Sequence[Cell], out: Path, number: int, watch: Callable[[str, list[str]], None]
) -> dict[str, list[str]]:
    """Make so many of the cells that are there again, spread evenly over all, each alone and
    without a trunk; by name the files of each that have come out differently.

    `watch` hears of each. What differs is kept in `cells/again/`. Raises ConfigError where no cell
    is there.
    """
    there = [cell for cell in cells if is_done(cell, out)]
    if not there:
        raise ConfigError(f"{out} holds no finished cell to repeat. Run the study first.")
    number = min(number, len(there))
    places = [round(i * (len(there) - 1) / max(1, number - 1)) for i in range(number)]
    found = {}
    for cell in (there[place] for place in places):
        found[cell.name] = made_otherwise(cell, out)
        watch(cell.name, found[cell.name])
    return found


def made_otherwise(cell: Cell, out: Path) -> list[str]:
    """Make a cell again, apart, and compare its record and its weights: the files that differ."""
    again = replace(cell, name=f"{AGAIN}/{cell.name}", trunk="", begun=0, leaves_trunk=False)
    before, after = folder_of(out, cell.name), folder_of(out, again.name)
    remove(after)
    replace(run_cell(again, out), cell=cell.name).save(after / RECORD)
    files = (name for name in COMPARED if (before / name).exists() or (after / name).exists())
    differ = [name for name in files if bytes_of(before / name) != bytes_of(after / name)]
    if not differ:
        remove(after)
    return differ


def bytes_of(path: Path) -> bytes | None:
    """What a file holds; None where there is none."""
    return path.read_bytes() if path.is_file() else None


def waves(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Sort cells so that each wave needs earlier ones only: parents, trunks, trials of rates."""
    ordered: list[list[Cell]] = []
    left = list(cells)
    while left:
        names = {cell.name for cell in left}
        ordered.append([cell for cell in left if names.isdisjoint(cell.before)])
        left = [cell for cell in left if not names.isdisjoint(cell.before)]
    return ordered


def work_through(
    cells: Sequence[Cell], out: Path, jobs: int
) -> Iterator[tuple[Cell, Failure | None]]:
    """Make the cells, and yield each when it is done, with its failure if there is one.

    The longest begin first, so that none is left alone at the end.
    """
    order = sorted(cells, key=lambda cell: -cell.paid)
    if jobs == 1 or len(order) < 2:
        for cell in order:
            yield cell, attempt(cell, out)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(jobs, len(order)), context, initializer=prepare_process)
    try:
        running = {pool.submit(attempt, cell, out): cell for cell in order}
        for future in as_completed(running):
            yield running[future], future.result()
    except BrokenProcessPool as error:
        raise ConfigError(
            "A process of the study has ended before its time. Was it killed, or is memory short? "
            "Lower --jobs, and give the same command again to go on."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def attempt(cell: Cell, out: Path) -> Failure | None:
    """Make one cell; return our errors as values that can cross processes."""
    try:
        run_cell(cell, out)
    except StoppedError as stop:
        return Failure(str(stop), stop.signal)
    except MateyError as error:
        return Failure(str(error))
    return None


def prepare_process() -> None:
    """Prepare a new process: it shows no notices, and ends when its parent does.

    Notices are the same in all cells, and were shown when the study was planned.
    """
    logging.getLogger("matey").setLevel(logging.ERROR)
    threading.Thread(target=end_with_parent, daemon=True).start()
