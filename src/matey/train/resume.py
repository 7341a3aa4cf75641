"""What may change when a run goes on, and what would make it another run.

Free to change, and logged as a record `changed` in metrics.jsonl: settings in `FREE`, and where
files lie, if they are the same by their fingerprint. `steps` may not fall below those done. All
else is refused: the model, the windows, the loss, the data and their split, batch, accumulate,
precision and seed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from matey.config import RunConfig, current
from matey.data.identity import fingerprint
from matey.data.systems import System
from matey.errors import ConfigError, DataError
from matey.nn.folder import misfits
from matey.nn.surrogate import Surrogate
from matey.output import plain_yaml, tidy
from matey.records.descriptions import read_config
from matey.records.files import read_json
from matey.train import checkpoint
from matey.train.checkpoint import Progress
from matey.train.optim import Average
from matey.train.run_folder import Record, plain, to_yaml

FREE = {
    *("optim", "steps", "log_every", "validate_every", "validate_windows"),
    "patience",
    *("checkpoint_every", "keep_checkpoints"),
    *("parallel", "device", "threads", "workers", "compile", "activation_checkpointing"),
    *("tensorboard", "wandb", "mlflow", "merge"),
}


def go_on(
    run: Path,
    config: RunConfig,
    systems: Mapping[str, System],
    model: Surrogate,
    optimizer: torch.optim.Optimizer,
    average: Average,
) -> tuple[Progress, Record]:
    """Put back a run's newest checkpoint, if it has one: how far it is, and what `changes` gives.

    Raises ConfigError for settings that would make it another run, CheckpointError where no
    checkpoint is whole.
    """
    tidy(run)
    tidy(run / "checkpoints")
    newest = checkpoint.newest(run)
    if newest is None:
        return Progress(step=0), {}
    folder, state = newest
    changed = changes(run, config, systems, model, state.weights)
    if state.progress.step > config.steps:
        raise ConfigError(
            f"steps is {config.steps}, but {run} has done {state.progress.step}. Give as many or "
            "more, or another --run."
        )
    checkpoint.restore(state, model, optimizer, folder)
    average.restore(state.averages, folder)
    return state.progress, changed


def changes(
    run: Path,
    config: RunConfig,
    systems: Mapping[str, System],
    model: Surrogate,
    weights: Mapping[str, Tensor],
) -> Record:
    """The settings of a run that have changed, as `[before, now]` by key.

    Raises ConfigError for those that may not, with the `weights` that no longer fit the model, and
    where the run's own record is unreadable.
    """
    before, files = recorded(run)
    # What an older version did not write had the default.
    old, new = {**flat(plain(RunConfig())), **flat(before)}, flat(plain_yaml(to_yaml(config)))
    pairs = {key: [old.get(key), new.get(key)] for key in sorted({*old, *new})}
    changed = {key: [was, now] for key, (was, now) in pairs.items() if was != now}
    refused = [
        f"{key} was {was!r} and is {now!r}"
        for key, (was, now) in changed.items()
        if key.split(".")[0] not in FREE and not key.endswith(".paths")
    ]
    refused += [
        f"the files of system {name!r} are others"
        for name, system in systems.items()
        if name in files and files[name] != fingerprint(system)
    ]
    if refused:
        wrong = misfits(model, weights)
        shapes = f" {len(wrong)} weights do not fit: {'; '.join(wrong[:4])} ..." if wrong else ""
        raise ConfigError(
            f"{run} cannot go on with other settings: {'; '.join(refused)}.{shapes} Leave them as "
            f"they were ({run / 'config.yaml'}), or start another --run."
        )
    return changed


def recorded(run: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The config of a run, and the fingerprints of its data."""
    try:
        config = plain_yaml((run / "config.yaml").read_text())
        # Keys that an older version did not write get their defaults, inside of lists too.
        config["data"] = plain(read_config(config["data"], f"{run / 'config.yaml'}"))
        origin = read_json(run / "provenance.json")
        return {**config, "model": current(config["model"])}, dict(origin["data_fingerprint"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError, DataError) as error:
        raise ConfigError(
            f"{run} does not tell how it began: config.yaml or provenance.json: {error}. It cannot "
            "be resumed; start another --run."
        ) from error


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key; those of a system under its name."""
    flattened: dict[str, Any] = {}
    for key, value in settings.items():
        if key == "systems":
            value = {entry["name"]: entry for entry in value}
        if isinstance(value, Mapping):
            flattened |= flat(value, f"{prefix}{key}.")
        else:
            flattened[prefix + key] = value
    return flattened
