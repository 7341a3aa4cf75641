"""What a run leaves behind besides its weights.

config.yaml       every setting: reproduces the run
provenance.json   command, versions, git commit, seed, split, fingerprint of the data
metrics.jsonl     one object per logged step
tensorboard/      the same with `tensorboard: true`; wandb/ and mlflow/ alike (matey.train.trackers)
"""

import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

import matey
from matey.config import DataConfig, RunConfig
from matey.data.identity import fingerprint, frames_of
from matey.data.systems import System
from matey.errors import CheckpointError, ConfigError
from matey.fields import Boundary
from matey.fields.mirrors import AXES
from matey.nn.rollout import MIRRORS
from matey.output import append_line, finite, to_json, write_text
from matey.records import ranges
from matey.records.descriptions import KEY
from matey.records.files import read_json
from matey.records.run import LOG, read_log
from matey.train.trackers.choose import check_trackers, open_trackers
from matey.train.trackers.records import Record, Sink

NO_DESCRIPTION = ("name", "paths", "split")  # of an entry of a data config


class Journal:
    """Hands the records of a run to its metrics.jsonl and to `sinks`: trackers, and a watcher.

    Only one of several processes `writes`.
    """

    def __init__(self, run: Path, sinks: Sequence[Sink], writes: bool = True) -> None:
        self.log, self.writes, self.began = run / LOG, writes, time.monotonic()
        self.sinks = list(sinks) if writes else []

    def write(self, kind: str, **record: Any) -> None:
        """Add one record, with the seconds since this process began the run, as a line at once.

        Raises CheckpointError if it cannot be written: the disk is full, or the folder is gone.
        """
        if not self.writes:
            return
        record = {"kind": kind, **record, "seconds": round(time.monotonic() - self.began, 3)}
        append_line(self.log, to_json(record), CheckpointError)
        for sink in self.sinks:
            sink(record)


def trackers(run: Path, config: RunConfig, step: int) -> list[Sink]:
    """The trackers that a config asks for, which show its settings but for the data."""
    settings = {key: value for key, value in plain(config).items() if key != "data"}
    return open_trackers(config, settings, run, step)


def prepare_run(
    run: Path, config: RunConfig, systems: Mapping[str, System], parent: str, ranks: int = 1
) -> None:
    """Write the config and the provenance of a run into its folder.

    Raises ConfigError if it cannot be written, or if a tracker is asked for and missing.
    """
    check_trackers(config)
    for folder in ("checkpoints", "model", "best"):
        if (run / folder).exists() and not (run / folder).is_dir():
            raise ConfigError(f"{run / folder} is a file, where a run keeps a folder. Remove it.")
    write_text(run / "config.yaml", to_yaml(config), ConfigError)
    (run / "checkpoints").mkdir(exist_ok=True)
    record = provenance(config, systems, parent, ranks)
    write_text(run / "provenance.json", to_json(record, indent=2), ConfigError)


def parent_of(run: Path) -> str:
    """The name of the model that a run went on from, if its provenance tells one."""
    path = run / "provenance.json"
    return str(read_json(path).get("parent", "")) if path.exists() else ""


def provenance(config: RunConfig, systems: Mapping[str, System], parent: str, ranks: int) -> Record:
    """Where a run comes from; `ranks` processes have samples of their own."""
    return {
        "command": " ".join(["matey", *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": versions(),
        "git_commit": git_commit(),
        "seed": config.seed,
        "data_ranks": ranks,
        "parent": parent,
        "data_fingerprint": {name: fingerprint(system) for name, system in systems.items()},
        "split": {
            name: {
                part: [system.fields.trajectories[i].name for i in indices]
                for part, indices in system.split.items()
            }
            for name, system in systems.items()
        },
    }


def versions() -> dict[str, str]:
    """The versions of the package, Python and torch."""
    python = platform.python_version()
    return {"matey": matey.__version__, "python": python, "torch": torch.__version__}


def git_commit() -> str | None:
    """The commit of the checkout that the code runs from; None where it is no checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def to_yaml(config: RunConfig) -> str:
    """A run's config as YAML, with absolute paths to the data."""
    sources = tuple(
        replace(source, paths=tuple(os.path.abspath(os.path.expanduser(p)) for p in source.paths))
        for source in config.data.systems
    )
    data: DataConfig = replace(config.data, systems=sources)
    return yaml.safe_dump(plain(replace(config, data=data)), sort_keys=False)


def plain(value: Any) -> Any:
    """Dataclasses and tuples as dictionaries and lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def training_facts(
    config: RunConfig,
    systems: Mapping[str, System],
    steps: int,
    run: Path,
    earlier: Mapping[str, Mapping[str, Any]],
) -> Record:
    """What a model folder says of its training: no path, no command, no user, so that the same run
    gives the same bits. `earlier` is of systems learned before (`Surrogate.learned_from`)."""
    prints = {name: fingerprint(system) for name, system in systems.items()}
    sides = {name: boundaries(system) for name, system in systems.items()}
    spacing = {name: spacings(system) for name, system in systems.items()}
    within = {name: system.ranges(config.windows) for name, system in systems.items()}
    shapes = {name: grids(system) for name, system in systems.items()}
    frames = {name: frames_of(s.fields, s.split["train"]) for name, s in systems.items()}
    mirrors = {
        name: [axis for axis in config.windows.flip if AXES.index(axis) >= 3 - system.spec.ndim]
        for name, system in systems.items()
    }
    for name, before in earlier.get("trained_frames", {}).items():
        here = frames.setdefault(name, {})
        for file, rows in before.items():
            here[file] = sorted([*rows, *(row for row in here.get(file, []) if row not in rows)])
    valid = read_log(run).valid
    scores = finite(asdict(valid[-1])) if valid else {}
    scores.pop("worse", None)  # by names of files
    return {
        "steps": steps,
        "mode": config.mode,
        "batch": config.batch,
        "accumulate": config.accumulate,
        "seed": config.seed,
        **({"ema": config.optim.ema} if config.optim.ema else {}),
        "windows": asdict(config.windows),
        "trajectories": {name: len(system.split["train"]) for name, system in systems.items()},
        "trained_frames": frames,
        "data_fingerprint": {**earlier.get("data_fingerprint", {}), **prints},
        "boundaries": {**earlier.get("boundaries", {}), **sides},
        "spacing": {**earlier.get("spacing", {}), **spacing},
        "grids": {**earlier.get("grids", {}), **shapes},
        ranges.KEY: {**earlier.get(ranges.KEY, {}), **within},
        MIRRORS: {**earlier.get(MIRRORS, {}), **mirrors},
        KEY: {**earlier.get(KEY, {}), **descriptions(config, systems)},
        "scores": scores,
        "versions": versions(),
        "normalisation": "per sample and variable over the history, mean and standard deviation",
    }


def descriptions(config: RunConfig, systems: Mapping[str, System]) -> Record:
    """How the files of each system were read, as a data config says or as they were drafted;
    without their paths and their division."""
    records = {}
    for source in config.data.systems:
        drafted = systems[source.name].fields.readers[0].contents.described
        layout = source.layout or drafted
        layout = replace(layout, split={}) if layout else None
        entry = plain(replace(source, layout=layout))
        records[source.name] = {k: v for k, v in entry.items() if k not in NO_DESCRIPTION}
    return records


def spacings(system: System) -> dict[str, float]:
    """The mean step between grid points along each axis, by the axis' name."""
    grid = system.fields.trajectories[0].grid
    return dict(zip(grid.axes, grid.spacing[3 - grid.ndim :], strict=True))


def grids(system: System) -> list[list[int]]:
    """The numbers of grid points of the trajectories to train on, slowest axis first."""
    found = [system.fields.trajectories[i].grid for i in system.split["train"]]
    return [list(shape) for shape in sorted({grid.shape[3 - grid.ndim :] for grid in found})]


def spent(run: Path) -> Record:
    """Windows, tokens, operations and seconds of a run's steps, by its log; steps that a kill made
    it do again count again: they were paid for."""
    # An older version did not log rates.
    trained = [record for record in read_log(run).train if math.isfinite(record.operations)]
    counted = ("windows", "tokens", "operations", "seconds")
    return {name: sum(getattr(record, name) for record in trained) for name in counted}


def boundaries(system: System) -> dict[str, list[str]]:
    """The boundary conditions at the low and the high side of each axis, by the axis' name."""
    trajectory = system.fields.trajectories[0]
    sides = trajectory.boundaries[3 - trajectory.grid.ndim :]
    return {
        axis: [Boundary(side).name.lower() for side in pair]
        for axis, pair in zip(trajectory.grid.axes, sides, strict=True)
    }
