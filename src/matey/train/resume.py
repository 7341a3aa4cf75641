"""What may change when a run goes on, and what would make it another run.

Free to change, and logged as a record `changed` in metrics.jsonl: settings in `FREE`, and where
files lie, if they are the same by their fingerprint. `steps` may not fall below those done. A batch
may change as the number of processes does, if all of them together see the windows that they would
have seen. All else is refused: the model, the windows, the loss, the data and their split,
accumulate, precision and seed.
"""

import logging
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

log = logging.getLogger(__name__)

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
    ranks: int = 1,
) -> tuple[Progress, Record]:
    """Put back a run's newest checkpoint, if it has one: how far it is, and what `changes` gives.

    `ranks` processes have samples of their own.

    Raises ConfigError for settings that would make it another run, CheckpointError where no
    checkpoint is whole.
    """
    tidy(run)
    tidy(run / "checkpoints")
    newest = checkpoint.newest(run)
    if newest is None:
        return Progress(step=0), {}
    folder, state = newest
    changed = changes(run, config, systems, model, state.weights, ranks)
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
    ranks: int = 1,
) -> Record:
    """The settings of a run that have changed, as `[before, now]` by key.

    Warns where `ranks` processes with samples of their own draw other windows than those before.
    Raises ConfigError for what may not change, with the `weights` that no longer fit the model, and
    where the run's own record is unreadable.
    """
    before, files, earlier = recorded(run)
    # What an older version did not write had the default.
    old, new = {**flat(plain(RunConfig())), **flat(before)}, flat(plain_yaml(to_yaml(config)))
    pairs = {key: [old.get(key), new.get(key)] for key in sorted({*old, *new})}
    changed = {key: [was, now] for key, (was, now) in pairs.items() if was != now}
    refused = [
        f"{key} was {was!r} and is {now!r}"
        for key, (was, now) in changed.items()
        if key.split(".")[0] not in FREE and not key.endswith(".paths")
        if not (is_batch(key) and was and now and was * earlier == now * ranks)
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
    warn_of_others(run, old, new, earlier, ranks)
    return changed


def is_batch(key: str) -> bool:
    """Whether a setting is how many windows a process has in a batch."""
    return key == "batch" or key.startswith("mixture.batch.")


def warn_of_others(
    run: Path, old: Mapping[str, Any], new: Mapping[str, Any], earlier: int, ranks: int
) -> None:
    """Warn where the batches of so many processes, which were `earlier`, hold other windows."""
    whole = {key: earlier * old[key] for key in new if is_batch(key)}
    others = {key: all_ for key, all_ in whole.items() if all_ != ranks * new[key]}
    limited = new["mixture.tokens_per_batch"] is not None
    if earlier == ranks or not (others or limited):
        return
    way_out = " ".join(f"--{key} {all_ // ranks}" for key, all_ in others.items())
    if limited or any(all_ % ranks for all_ in others.values()):
        way_out = f"{earlier} such processes"
    log.warning(
        "%s had %d processes with samples of their own, and has %d: from here on its windows are "
        "drawn anew, another number for each step. For the same as before: %s.",
        *(run, earlier, ranks, way_out),
    )


def recorded(run: Path) -> tuple[dict[str, Any], dict[str, str], int]:
    """The config of a run, the fingerprints of its data, and how many processes with samples of
    their own it had."""
    try:
        config = plain_yaml((run / "config.yaml").read_text())
        # Keys that an older version did not write get their defaults, inside of lists too.
        config["data"] = plain(read_config(config["data"], f"{run / 'config.yaml'}"))
        origin = read_json(run / "provenance.json")
        ranks = int(origin.get("data_ranks", 1))  # an older version did not write it
        config["model"] = current(config["model"])
        return config, dict(origin["data_fingerprint"]), ranks
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
