"""The model folder: weights as safetensors, everything else as JSON. No pickle.

model.safetensors   every weight, by name; or adapter.safetensors, see matey.nn.adapters.stored
config.json         format version, model config, systems, history, what it was trained on
README.md           the same for a reader: the model card
stencil/            the stencils that its scores stand beside: a model folder, too

Models that ship with the package are such folders, too, found by their name (records.shipped).
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, get_type_hints

import torch

from matey.config import BaselineConfig, KeepConfig, ModelConfig, RefineConfig, current
from matey.errors import CheckpointError, ConfigError, MateyError
from matey.fields import SystemSpec
from matey.fields.description import read_spec
from matey.nn.adapters.low_rank import adapters
from matey.nn.adapters.stored import (
    CONFIG,
    WEIGHTS,
    load_weights,
    save_weights,
    stored_bytes,
    weights_file,
)
from matey.nn.baselines.stencil import StencilModel, Yardstick
from matey.nn.card import write_card
from matey.nn.make import make_model, outline_model
from matey.nn.operations import count
from matey.nn.rollout import MIRRORS
from matey.nn.surrogate import Surrogate
from matey.nn.transformer import Matey
from matey.output import replacing, to_json
from matey.records.files import convert
from matey.records.ranges import Ranges
from matey.records.scores import Scores
from matey.records.shipped import FACTS, SCORES, Shipped, located, those_that_ship

FORMAT = 1
KINDS = get_type_hints(ModelConfig)
WORDS = {"mode", "stem", "predict"}  # settings that are one of a few words
# What fine-tuning keeps of earlier systems.
BY_SYSTEM = {  # and its type, where one is looked into
    "boundaries": None,
    "spacing": None,
    "grids": None,
    "data_fingerprint": None,
    "trained_frames": dict[str, dict[str, list[list[int]]]],
    "ranges": dict[str, Ranges],
    MIRRORS: dict[str, list[Literal["x", "y", "z"]]],
    "descriptions": None,
}
CARD, BESIDE = "README.md", "stencil"


def save_pretrained(
    model: Surrogate,
    folder: Path,
    training: Mapping[str, Any],
    cost: Mapping[str, Any] | None = None,
) -> None:
    """Write a model folder, whole or not at all. `training` tells how it was trained.

    `cost`, what that took, stands in the model card only: all else is the same for the same run.

    Raises CheckpointError if it cannot be written; a folder that was there then stays.
    """
    description: dict[str, Any] = {
        "format": FORMAT,
        "history": model.history,
        "model": asdict(model.config),
        "systems": [asdict(spec) for spec in model.specs.values()],
        "training": dict(training),
    }
    with replacing(folder, CheckpointError) as temporary:
        temporary.mkdir()
        description |= save_weights(model, model.base, temporary, folder)
        (temporary / CONFIG).write_text(to_json(description, indent=2))
        numbers = count(model) - sum(count(adapter) for *_, adapter in adapters(model))
        card = write_card(description, numbers, cost or {})
        (temporary / CARD).write_text(card, encoding="utf-8")
        if model.yardstick is not None:
            save_yardstick(model.yardstick, temporary / BESIDE)


def copy_pretrained(
    source: Path, folder: Path, told: Mapping[str, Any], cost: Mapping[str, Any]
) -> None:
    """Write a model folder once more, with more `told` of its training, and what all of that cost.

    Raises CheckpointError where there is none, or it cannot be written.
    """
    with torch.device("meta"):
        model, description = empty_model(find_model(source))
    description["training"] |= told
    with replacing(folder, CheckpointError) as temporary:
        shutil.copytree(source, temporary)
        (temporary / CONFIG).write_text(to_json(description, indent=2))
        card = write_card(description, count(model), cost)
        (temporary / CARD).write_text(card, encoding="utf-8")


def save_yardstick(yardstick: Yardstick, folder: Path) -> None:
    """Write the stencils that scores stand beside as a model folder. Raises CheckpointError."""
    save_pretrained(yardstick.model, folder, {"refused": dict(yardstick.refused)})


def load_yardstick(folder: Path) -> Yardstick | None:
    """The stencils that scores stand beside; None where there are none. Raises CheckpointError."""
    if not folder.is_dir():
        return None
    model, description = load(folder)
    training = description.get("training")
    refused = training.get("refused") if isinstance(training, dict) else None
    if not isinstance(model, StencilModel) or not isinstance(refused, dict):
        raise CheckpointError(
            f"{folder} does not hold the stencils that scores stand beside. Remove it: scores then "
            "stand beside persistence alone."
        )
    return Yardstick(model, {str(name): str(why) for name, why in refused.items()})


def from_pretrained(path: str | Path) -> Surrogate:
    """The model of a run, of a model folder or, by its name, one that ships with the package; in
    evaluation mode, on the CPU. Of an adapter: that of its base with what the adapter adds.

    A path that exists goes before a name. Raises CheckpointError if there is none, it is damaged,
    or of a newer format.
    """
    folder = find_model(Path(path))
    model, _ = load(folder)
    model.source = str(path)
    model.yardstick = load_yardstick(folder / BESIDE)
    return model


def merge(path: str | Path, out: str | Path) -> None:
    """Write the model of a run or a model folder to a folder `out` that needs no other: of an
    adapter, its base's weights with what it adds. Raises CheckpointError as `from_pretrained` does,
    and where something is at `out`."""
    if Path(out).exists():
        raise CheckpointError(f"{out} is there already. Choose another folder to write.")
    folder = find_model(Path(path))
    model, description = load(folder)
    model.yardstick = load_yardstick(folder / BESIDE)
    save_pretrained(model, Path(out), description["training"])


def load(folder: Path) -> tuple[Surrogate, dict[str, Any]]:
    """The model of a model folder, in evaluation mode, and its description."""
    model, description = empty_model(folder)
    weights = load_weights(folder, description, list(model.state_dict()), find_model)
    put_weights(model, weights, weights_file(folder) or folder / WEIGHTS)
    put_origin(model, description)
    return model.eval(), description


def outline(path: Path) -> Surrogate:
    """The model that `from_pretrained` gives, as names and shapes: no weight is made or read.

    Raises CheckpointError as `from_pretrained` does, but for what the weights hold.
    """
    with torch.device("meta"):
        model, description = empty_model(find_model(path))
    put_origin(model, description)
    return model


def card_of(path: Path) -> str:
    """The model card of a model, from its description alone: also of folders whose own card an
    older version wrote. Raises CheckpointError as `outline` does."""
    folder = find_model(path)
    with torch.device("meta"):
        model, description = empty_model(folder)
    training = description.get("training")
    now = {**description, "model": asdict(model.config), "training": training if training else {}}
    if not (folder / FACTS).is_file():
        return write_card(now, count(model), {})
    tests = Scores.load(folder / SCORES) if (folder / SCORES).is_file() else None
    facts = Shipped.load(folder / FACTS)
    return write_card(now, count(model), {}, folder.name, facts, tests)


def is_model(path: Path) -> bool:
    """Whether a path is a model folder or a run that has one, or the name of a model that ships."""
    place = located(path)
    return any(weights_file(folder) for folder in (place, place / "model"))


def find_model(path: Path) -> Path:
    """The model folder at a path, the one inside the run there, or the one that ships under this
    name. Raises CheckpointError if there is none."""
    place = located(path)
    for folder in (place, place / "model"):
        if (folder / CONFIG).is_file() and weights_file(folder):
            return folder
    if place.exists():
        raise CheckpointError(
            f"No model at {path}: expected {WEIGHTS} and {CONFIG} there or in {path / 'model'}."
        )
    raise CheckpointError(
        f"No model at {path}: nothing is there, and it is not the name of a model that ships "
        f"({those_that_ship()})."
    )


def empty_model(folder: Path) -> tuple[Surrogate, dict[str, Any]]:
    """A model of the right shape with weights still to be loaded, and its description."""
    source = folder / CONFIG
    try:
        description = json.loads(source.read_text())
        version = description["format"]
        if version > FORMAT:
            raise CheckpointError(
                f"{source} has format {version}; this version of matey reads up to {FORMAT}. "
                "Install a newer one."
            )
        settings = current(description["model"])
        settings["patches"] = tuple(
            tuple(patch) if isinstance(patch, list) else patch for patch in settings["patches"]
        )
        if not isinstance(settings["scheme"], str):
            settings["scheme"] = tuple(settings["scheme"])
        settings["refine"] = RefineConfig(**settings["refine"])
        settings["baseline"] = BaselineConfig(**settings["baseline"])
        settings["keep"] = {
            name: KeepConfig(**{key: tuple(kept) for key, kept in keep.items()})
            for name, keep in settings.get("keep", {}).items()
        }
        specs = [read_spec(entry) for entry in description["systems"]]
        for name in WORDS & settings.keys():
            convert(KINDS[name], settings[name], name)
        config = ModelConfig(**settings)
        history = int(description["history"])
        size = stored_bytes(folder, description, find_model)
        check_claims(config, specs, history, weights_file(folder) or folder / WEIGHTS, size)
        return make_model(config, specs, history), description
    except MateyError:
        raise
    except (
        *(ValueError, KeyError, TypeError, AttributeError, OSError),
        *(RecursionError, OverflowError),  # nested without end; numbers without end
    ) as error:
        raise CheckpointError(
            f"{source} is not a model description: {type(error).__name__} {error}."
        ) from error


def check_claims(
    config: ModelConfig, specs: Sequence[SystemSpec], history: int, weights: Path, size: int
) -> None:
    """Raise CheckpointError, before anything is allocated, for a model that is described larger
    than the file of its weights, of so many bytes: one for each number is the least it needs."""
    # What the blocks have at least, then exactly: a count of all takes time in the depth.
    claimed = 0 if config.is_baseline else config.depth * config.embed_dim**2
    if claimed <= size:
        try:
            claimed = count(outline_model(config, specs, history))
        except RuntimeError as error:  # a shape that no computer could hold
            raise CheckpointError(
                f"{weights.with_name(CONFIG)} describes an impossible model: {error}."
            ) from error
    if claimed > size:
        raise CheckpointError(
            f"{weights.with_name(CONFIG)} describes a model of {claimed} numbers or more, but "
            f"{weights.name} has {size} bytes. One of them is damaged, or of another model."
        )


def put_weights(module: torch.nn.Module, weights: Mapping[str, torch.Tensor], source: Path) -> None:
    """Load all weights of a module. Raises CheckpointError unless names and shapes agree."""
    wrong = misfits(module, weights)
    if wrong:
        older = ""
        if any(name.startswith("usual.") for name in module.state_dict()) and not any(
            name.startswith("usual.") for name in weights
        ):
            older = (
                " It was written before local paths were told how large fields usually are: train "
                "the model anew, or go on with the version of matey that wrote it."
            )
        raise CheckpointError(f"{source} does not fit the model: {'; '.join(wrong[:8])}.{older}")
    module.load_state_dict(weights)


def misfits(module: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> list[str]:
    """Which names and shapes of weights are not those of a module, a phrase each."""
    expected = module.state_dict()
    wrong = [f"{name} missing" for name in expected if name not in weights]
    wrong += [f"{name} unexpected" for name in weights if name not in expected]
    return wrong + [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]


def put_origin(model: Surrogate, description: Mapping[str, Any]) -> None:
    """Tell a model what its description says of the data that it learned from."""
    model.trained_leads = trained_leads(description)
    training = description.get("training")
    for key, kind in BY_SYSTEM.items():
        known = training.get(key) if isinstance(training, dict) else None
        if isinstance(known, dict):
            try:
                model.learned_from[key] = convert(kind, known, key) if kind else known
            except ValueError:  # of a damaged or foreign folder: then nothing is known
                continue


def trained_leads(description: Mapping[str, Any]) -> tuple[float, float] | None:
    """The least and the most lead time of training, in dt; None if a model does not say."""
    try:
        windows = description["training"]["windows"]
        return float(windows.get("min_lead", 1)), float(windows["max_lead"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def set_token_budget(model: Surrogate, budget: int) -> None:
    """Spend no more than so many tokens per frame from now on: no weight changes.

    Raises ConfigError for a model with one patch size, or none, which has nothing to choose.
    """
    if not isinstance(model, Matey) or not model.config.is_adaptive:
        raise ConfigError(
            f"A token budget of {budget} was given, but the model has {model.cells()}: nothing to "
            "refine. Leave it out."
        )
    model.refine = replace(model.refine, token_budget=budget, bulk=None, fraction=None)
