"""Checkpoints: everything needed to go on as if nothing had happened, without pickle.

    checkpoints/step-000200/model.safetensors      weights by name
                            optimizer.safetensors  AdamW's moments by parameter, random state
                            state.json             step, best score, format version

A checkpoint is written beside its place and renamed: it is there whole, or not at all.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from matey.errors import CheckpointError
from matey.nn.model import Matey
from matey.nn.pretrained import read_weights, save_tensors
from matey.output import replacing, to_json
from matey.train.distributed import Team, share, whole

FORMAT = 1
WEIGHTS, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"


@dataclass(frozen=True)
class Progress:
    """How far a run has come: steps done, and its best validation score so far."""

    step: int
    best: float | None = None


def save(
    run: Path,
    model: Matey,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    keep: int,
    team: Team,
) -> None:
    """Write a checkpoint, then delete all but the newest `keep`.

    All processes call this, as each may hold a share of the state; the first one writes.
    Raises CheckpointError, leaving the older ones as they are, if it cannot be written.
    """
    folder = run / "checkpoints" / f"step-{progress.step:08d}"
    state = {"format": FORMAT, "step": progress.step, "best": progress.best}
    weights = {name: whole(tensor) for name, tensor in model.state_dict().items()}
    moments = optimizer_state(model, optimizer)
    if not team.first:
        return
    with replacing(folder, CheckpointError) as temporary:
        temporary.mkdir()
        save_tensors(weights, temporary / WEIGHTS)
        save_tensors(moments, temporary / OPTIMIZER)
        (temporary / STATE).write_text(to_json(state))
    for old in find(run)[:-keep]:
        shutil.rmtree(old)


def find(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    folders = (run / "checkpoints").glob("step-*")
    return sorted(folder for folder in folders if (folder / STATE).is_file())


def load(folder: Path, model: Matey, optimizer: torch.optim.Optimizer) -> Progress:
    """Put a checkpoint back: weights, moments and the random state.

    Raises CheckpointError if it is damaged, newer, or of another model.
    """
    found = read_weights(model, folder / WEIGHTS)
    model.load_state_dict({name: share(found[name], w) for name, w in model.state_dict().items()})
    try:
        state = json.loads((folder / STATE).read_text())
        if state["format"] > FORMAT:
            raise CheckpointError(f"{folder} has format {state['format']}, newer than {FORMAT}.")
        tensors = load_file(folder / OPTIMIZER)
        restore_optimizer(model, optimizer, tensors)
        return Progress(int(state["step"]), state["best"])
    except (ValueError, KeyError, TypeError, OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{folder} is damaged: {type(error).__name__} {error}.") from error


def optimizer_state(model: Matey, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's moments by parameter name, and torch's random state."""
    tensors = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}/{name}"] = whole(value).contiguous()
    return tensors


def restore_optimizer(
    model: Matey, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    """The inverse of `optimizer_state`."""
    parameters = dict(model.named_parameters())
    torch.set_rng_state(tensors["random.cpu"])
    if torch.cuda.is_available() and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"])
    for name, value in tensors.items():
        if name.startswith("random."):
            continue
        key, parameter = name.split("/", 1)
        known = parameters[parameter]
        if key != "step":
            value = share(value.to(known.device), known)
        optimizer.state[known][key] = value
