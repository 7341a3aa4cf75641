"""Checkpoints: everything needed to go on as if nothing had happened, without pickle.

    checkpoints/step-00000200/model.safetensors      weights by name
                              optimizer.safetensors  AdamW's moments by parameter
                              average.safetensors    averages by parameter, with optim.ema
                              random.safetensors     random states by process
                              state.json             format version, step, best score
                              complete.json          size and SHA-256 of each of these

A checkpoint is written beside its place, flushed to disk and renamed; `complete.json` comes last.
Without that, or where a file differs from it, the checkpoint before is taken. Only `capture` and
`restore` know of a live model: a state may as well be put together from several processes, or be
a copy that is written while training goes on (`matey.train.validate.Writer`).
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from matey.errors import CheckpointError
from matey.nn.folder import put_weights
from matey.nn.tensors import load_tensors, save_tensors
from matey.output import remove, replacing, to_json, write_text
from matey.train.parallel.distributed import share, whole

FORMAT = 1
WEIGHTS, OPTIMIZER, RANDOM = "model.safetensors", "optimizer.safetensors", "random.safetensors"
AVERAGE = "average.safetensors"
STATE, COMPLETE = "state.json", "complete.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far a run has come: steps done, its best validation score so far, the step of it, and how
    many validations there were since.

    `pending` where a validation was due after this step, but a signal came first. `threads` is the
    number that one process on a CPU computes with.
    """

    step: int
    best: float | None = None
    pending: bool = False
    threads: int | None = None
    best_step: int = 0
    since_best: int = 0


@dataclass(frozen=True)
class State:
    """All that the next step of a run depends on besides its config and data.

    Tensors by name: `weights` as in the model's state dictionary, `moments` as
    `exp_avg/blocks.0.mlp.weight`, and for each process, by rank, the states of its generators
    (`cpu`, `cuda`). `averages` are by parameter, none without `optim.ema`.
    """

    progress: Progress
    weights: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    random: Sequence[Mapping[str, Tensor]]
    averages: Mapping[str, Tensor] = field(default_factory=dict)


class DamagedError(CheckpointError):
    """A checkpoint is not what was written."""


class IncompleteError(DamagedError):
    """The writing of a checkpoint did not come to its end."""


def capture(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    averages: Mapping[str, Tensor] = MappingProxyType({}),
) -> State:
    """The state of a run: live tensors, not copies, unless processes share them. Then all of them
    call this, and each gets the whole."""
    weights = {name: whole(tensor) for name, tensor in model.state_dict().items()}
    moments = {
        f"{key}/{name}": whole(value)
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    averages = {name: whole(tensor) for name, tensor in averages.items()}
    return State(progress, weights, moments, [random_state()], averages)


def restore(
    state: State, model: nn.Module, optimizer: torch.optim.Optimizer, source: Path, rank: int = 0
) -> None:
    """Put a state back into a model, its optimizer and this process' generators.

    A process that was not there when the state was saved keeps the generators it has. Raises
    CheckpointError, naming `source`, where the state is that of another model.
    """
    live = model.state_dict()
    weights = {n: share(w, live[n]) if n in live else w for n, w in state.weights.items()}
    put_weights(model, weights, source)
    parameters = dict(model.named_parameters())
    for name, value in state.moments.items():
        key, parameter = name.split("/", 1)
        if parameter not in parameters:
            raise CheckpointError(f"{source} has moments of {parameter}, which the model lacks.")
        place = parameters[parameter]
        value = value.to(place.device, copy=True)
        optimizer.state[place][key] = value if key == "step" else share(value, place)
    if rank < len(state.random):
        torch.set_rng_state(state.random[rank]["cpu"])
        if torch.cuda.is_available() and "cuda" in state.random[rank]:
            torch.cuda.set_rng_state(state.random[rank]["cuda"])


def random_state() -> dict[str, Tensor]:
    """The states of torch's generators in this process."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def folder_of(run: Path, step: int) -> Path:
    """Where the checkpoint after a step is."""
    return run / "checkpoints" / f"step-{step:08d}"


def save(run: Path, state: State, keep: int) -> Path:
    """Write a checkpoint, then delete all but the newest `keep`.

    Raises CheckpointError, leaving the older ones as they are, if it cannot be written.
    """
    if not run.is_dir():
        raise CheckpointError(f"{run} is no longer there: it was removed or moved during the run.")
    progress = state.progress
    folder = folder_of(run, progress.step)
    random = {f"{rank}/{k}": v for rank, one in enumerate(state.random) for k, v in one.items()}
    tensors = {WEIGHTS: state.weights, OPTIMIZER: state.moments, RANDOM: random}
    if state.averages:
        tensors[AVERAGE] = state.averages
    record = to_json({"format": FORMAT, **vars(progress)})
    try:
        with replacing(folder, CheckpointError) as temporary:
            temporary.mkdir()
            sums = {name: save_tensors(part, temporary / name) for name, part in tensors.items()}
            (temporary / STATE).write_text(record)
            sums[STATE] = hashlib.sha256(record.encode()).hexdigest()
            sizes = {name: (temporary / name).stat().st_size for name in sums}
        files = {name: {"bytes": sizes[name], "sha256": sums[name]} for name in sums}
        write_text(folder / COMPLETE, to_json({"files": files}, indent=2), CheckpointError)
    except CheckpointError as error:
        if not (folder / COMPLETE).exists():
            remove(folder)
        needed = sum(tensor.nbytes for part in tensors.values() for tensor in part.values())
        raise CheckpointError(
            f"{error} It takes {needed} bytes, and {shutil.disk_usage(run).free} are free. Make "
            "room and go on with --resume auto: the checkpoints before are as they were."
        ) from error
    # A higher step than this can only be a damaged one, which must push none out.
    older = [other for other in folders(run) if other.name < folder.name and is_complete(other)]
    for old in older[: len(older) - (keep - 1)]:
        shutil.rmtree(old)
    return folder


def folders(run: Path) -> list[Path]:
    """The checkpoints of a run, complete or not, by step.

    Raises CheckpointError where their folder is a link: nothing is written outside a run.
    """
    place = run / "checkpoints"
    if place.is_symlink():
        raise CheckpointError(f"{place} is a link, which is not followed. Link the run instead.")
    return sorted(place.glob("step-" + "[0-9]" * 8))


def is_complete(folder: Path) -> bool:
    """Whether a checkpoint was written to its end."""
    return (folder / COMPLETE).is_file() and not folder.is_symlink()


def newest(run: Path) -> tuple[Path, State] | None:
    """The newest whole checkpoint, and where it is; None for a run without any.

    Newer damaged ones are named in a warning and set aside as `damaged-step-...`. Raises
    CheckpointError, naming each, if all are, but for a first one that a kill left incomplete.
    """
    damaged: dict[Path, DamagedError] = {}
    newest_whole = None
    for folder in reversed(folders(run)):
        try:
            newest_whole = folder, read(folder)
            break
        except DamagedError as error:
            damaged[folder] = error
    first_never_ended = [type(error) for error in damaged.values()] == [IncompleteError]
    if damaged and newest_whole is None and not first_never_ended:
        raise CheckpointError(
            f"No checkpoint of {run} is whole. {' '.join(map(str, damaged.values()))} Start "
            "another --run, or put back a copy of one."
        )
    for folder, damage in damaged.items():
        aside = folder.with_name(f"damaged-{folder.name}")
        remove(aside)
        folder.rename(aside)
        source = newest_whole[0].name if newest_whole else "its beginning"
        log.warning("%s Set aside as %s; the run goes on from %s.", damage, aside.name, source)
    return newest_whole


def read(folder: Path) -> State:
    """The state in a checkpoint. Raises IncompleteError or DamagedError if it is not whole,
    CheckpointError if its format is newer than this version reads."""
    names = verify(folder)
    try:
        record = json.loads((folder / STATE).read_text())
        if record["format"] > FORMAT:
            raise CheckpointError(
                f"{folder} has format {record['format']}; this version of matey reads up to "
                f"{FORMAT}. Install a newer one."
            )
        progress = Progress(
            step=int(record["step"]),
            best=record["best"],
            pending=bool(record["pending"]),
            # Older versions did not say:
            threads=int(record.get("threads") or 0) or None,
            best_step=int(record.get("best_step") or 0),
            since_best=int(record.get("since_best") or 0),
        )
        random: dict[int, dict[str, Tensor]] = {}
        for name, tensor in load_tensors(folder / RANDOM).items():
            rank, generator = name.split("/")
            random.setdefault(int(rank), {})[generator] = tensor
        return State(
            progress,
            load_tensors(folder / WEIGHTS),
            load_tensors(folder / OPTIMIZER),
            [random[rank] for rank in sorted(random)],
            load_tensors(folder / AVERAGE) if AVERAGE in names else {},
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(f"{folder} is damaged: {type(error).__name__} {error}.") from error


def verify(folder: Path) -> list[str]:
    """The names of a checkpoint's files. Raises IncompleteError or DamagedError unless all are
    there as they were written."""
    if folder.is_symlink():
        raise DamagedError(f"{folder} is a link, which is not followed.")
    if not (folder / COMPLETE).exists():
        raise IncompleteError(f"{folder} is incomplete: its writing did not come to its end.")
    try:
        files = json.loads((folder / COMPLETE).read_text())["files"]
        lost = [name for name in (WEIGHTS, OPTIMIZER, RANDOM, STATE) if name not in files]
        if lost:
            raise DamagedError(f"{folder / COMPLETE} is damaged: it does not list {lost[0]}.")
        for name, expected in files.items():
            path = folder / name
            if path.is_symlink() or not path.is_file():
                what = "a link, which is not followed" if path.is_symlink() else "missing"
                raise DamagedError(f"{path} is {what}.")
            size = path.stat().st_size
            if size != expected["bytes"]:
                raise DamagedError(f"{path} has {size} bytes instead of {expected['bytes']}.")
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected["sha256"]:
                    raise DamagedError(f"{path} has another checksum than was written.")
        return list(files)
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise DamagedError(
            f"{folder / COMPLETE} is damaged: {type(error).__name__} {error}."
        ) from error
