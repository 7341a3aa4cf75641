"""An adapter on disk: what differs from a base, beside the base's name and fingerprint.

adapter.safetensors   the matrices of the adapters, and every weight that is new or another
config.json           of a model folder, with `adapter`: the rank, and name, place and fingerprint
                      of the base

The model is that of the base with these weights in place of its own, and the adapters added.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from matey.errors import CheckpointError
from matey.nn.adapters.low_rank import ENDING, is_adapter, merged_weights, rank_of
from matey.nn.tensors import load_tensors, save_tensors
from matey.records.shipped import shipped

WEIGHTS, ADAPTER, CONFIG = "model.safetensors", "adapter.safetensors", "config.json"
Find = Callable[[Path], Path]  # from the path or the name of a model to its folder


@dataclass(frozen=True)
class Base:
    """The model that adapters are made for: its `name`, its `folder` (None of a model that ships
    under that name), the `fingerprint` of its weights, and those outside the blocks, by which
    changes are told."""

    name: str
    folder: Path | None
    fingerprint: str
    weights: Mapping[str, Tensor] = field(default_factory=dict)


def base_of(name: str, folder: Path, model: nn.Module, ships: bool = False) -> Base:
    """What a model just loaded from a folder, or that `ships`, is to adapters that it will get."""
    outside = {
        weight: values.clone()
        for weight, values in model.state_dict().items()
        if not weight.startswith("blocks.")
    }
    return Base(name, None if ships else folder.resolve(), fingerprint(folder), outside)


def save_weights(
    model: nn.Module, base: Base | None, temporary: Path, folder: Path
) -> dict[str, Any]:
    """Write a model's weights into a temporary folder, which `folder` will be, and return what its
    description says of them: those that differ from a base, if there is one, and else all, with
    the adapters merged. Raises OSError."""
    if base is None or not rank_of(model):
        save_tensors(merged_weights(model), temporary / WEIGHTS)
        return {}
    save_tensors(differing(model, base), temporary / ADAPTER)
    place = ""
    if base.folder is not None:
        place = Path(os.path.relpath(base.folder, folder.resolve())).as_posix()
    told = {"base": base.name, "place": place, "fingerprint": base.fingerprint}
    return {"adapter": {"rank": rank_of(model), **told}}


def differing(model: nn.Module, base: Base) -> dict[str, Tensor]:
    """The weights of a model with adapters that its base has otherwise or not at all, and those of
    the adapters that add something. Those of the blocks are the base's: they do not train."""
    weights = model.state_dict()

    def differs(name: str) -> bool:
        if is_adapter(name):  # one that no batch reached is 0 still
            return bool(weights[f"{name.rpartition('.')[0]}.up"].any())
        if name.startswith("blocks."):
            return False
        before = base.weights.get(name)
        return before is None or not torch.equal(weights[name].cpu(), before.cpu())

    return {name: weight for name, weight in weights.items() if differs(name)}


def weights_file(folder: Path) -> Path | None:
    """The weights in a model folder, all or those of an adapter; None where there are none."""
    files = (folder / WEIGHTS, folder / ADAPTER)
    return next((path for path in files if path.is_file()), None)


def load_weights(
    folder: Path, description: Mapping[str, Any], names: Sequence[str], find: Find
) -> dict[str, Tensor]:
    """The weights of a model folder. Of an adapter: those of its base of the given `names`, with
    what the adapter adds, and its own.

    Raises CheckpointError, with the way out, where a base is missing or another one than it was.
    """
    *adapted, whole = chain(folder, description, find)
    if not adapted:
        return load_tensors(folder / WEIGHTS)
    below, weights = whole, load_tensors(whole / WEIGHTS)
    for place in reversed(adapted):
        record = adapter_record(place, None if place != folder else description)
        check_fingerprint(place, record, below)
        weights = put_on(weights, place / ADAPTER)
        below = place
    own = load_tensors(folder / ADAPTER)
    return {name: weight for name, weight in weights.items() if name in names or name in own}


def put_on(weights: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """Weights with those of an adapter's file in their place, and its products added."""
    own = load_tensors(source)
    made = {**weights, **{name: w for name, w in own.items() if not is_adapter(name)}}
    for stem in sorted(name.rpartition(".")[0] for name in own if name.endswith(f"{ENDING}.up")):
        name = stem.removesuffix(ENDING)
        weight, up, down = made.get(name), own[f"{stem}.up"], own.get(f"{stem}.down")
        if weight is None or down is None or not fits(weight, up, down):
            raise CheckpointError(f"{source} is damaged: {stem} does not fit the base's {name}.")
        made[name] = weight + (up @ down).view_as(weight)
    return made


def fits(weight: Tensor, up: Tensor, down: Tensor) -> bool:
    """Whether the product of two matrices has as many numbers as a weight."""
    if up.ndim != 2 or down.ndim != 2 or up.shape[1] != down.shape[0]:
        return False
    return len(up) * down.shape[1] == weight.numel() and up.dtype == down.dtype == weight.dtype


def chain(folder: Path, description: Mapping[str, Any], find: Find) -> list[Path]:
    """The folder of a model, that of its base, of the base's base, ..., up to a whole one.

    Raises CheckpointError, with the way out, where one is missing.
    """
    folders = [folder]
    while not (folders[-1] / WEIGHTS).is_file():
        place = folders[-1]
        record = adapter_record(place, description if len(folders) == 1 else None)
        base = find_base(place, record, find)
        if base.resolve() in {known.resolve() for known in folders}:
            raise CheckpointError(f"{place} is damaged: its base is made from itself.")
        folders.append(base)
    return folders


def adapter_record(folder: Path, description: Mapping[str, Any] | None = None) -> dict[str, str]:
    """What an adapter says of its base: `base`, `place` and `fingerprint`."""
    try:
        if description is None:
            description = json.loads((folder / CONFIG).read_text())
        record = {key: description["adapter"][key] for key in ("base", "place", "fingerprint")}
        if not all(isinstance(value, str) for value in record.values()):
            raise TypeError("its base is not told in words")
        return record
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{folder / CONFIG} does not say which model {ADAPTER} belongs to: "
            f"{type(error).__name__} {error}."
        ) from error


def find_base(folder: Path, record: Mapping[str, str], find: Find) -> Path:
    """The folder of the model that an adapter is for: by its place, or else by its name."""
    beside = Path(os.path.normpath(folder / record["place"]))
    name = record["base"]  # of a model that ships, whatever else has it here
    for path in ([beside] if record["place"] else []) + [shipped().get(name, Path(name))]:
        try:
            return find(path)
        except CheckpointError:
            continue
    if not record["place"]:
        raise CheckpointError(
            f"{folder} is an adapter for the model {record['base']!r}, which this version of matey "
            f"does not have. Install one that has it (matey models)."
        )
    raise CheckpointError(
        f"{folder} is an adapter for the model {record['base']!r}, which is not at {beside}, nor "
        f"known by that name here. Put it there, or write where it is as adapter.place into "
        f"{folder / CONFIG}."
    )


def check_fingerprint(folder: Path, record: Mapping[str, str], base: Path) -> None:
    """Raise CheckpointError unless a base has the weights that an adapter was made for."""
    found = fingerprint(base)
    if found != record["fingerprint"]:
        raise CheckpointError(
            f"{folder} is an adapter for the model {record['base']!r}, and {base} is another one: "
            f"its fingerprint is {found[:12]}, not {record['fingerprint'][:12]}. Put that model "
            f"back, or write where it is as adapter.place into {folder / CONFIG}."
        )


def fingerprint(folder: Path) -> str:
    """SHA-256 of the weights in a model folder; of an adapter, together with its base's."""
    source = weights_file(folder) or folder / WEIGHTS
    try:
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    except OSError as error:
        raise CheckpointError(f"{source} cannot be read: {error}.") from error
    if source.name == ADAPTER:
        digest.update(adapter_record(folder)["fingerprint"].encode())
    return digest.hexdigest()


def stored_bytes(folder: Path, description: Mapping[str, Any], find: Find) -> int:
    """Bytes of all weights that a model folder is put together from."""
    files = [weights_file(place) for place in chain(folder, description, find)]
    return sum(path.stat().st_size for path in files if path is not None)
