"""Make the folder of a model that ships, from a run and its scores.

    python examples/pretrain-mini/ship.py runs/mini results/mini --name mini --version 1

Copies the model folder of the run into src/matey/pretrained/mini, with what `matey models` tells of
it: version, licence and operations (`shipped.json`), the scores that `matey evaluate` left in the
results folder (`scores.json`, without the command line), and a model card made of all that. Refuses
more than 16 MB, scores on trajectories that it was trained on, and files that no model folder has.

Cost a second, or that of reading the training data where an older run did not note the grids and
ranges of it.
Shows the list as `matey models` will print it.
"""

import argparse
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from matey.cli.models import COMMANDS, about
from matey.config import WindowConfig
from matey.data.systems import open_systems
from matey.errors import CheckpointError, ConfigError, MateyError
from matey.hub import check, copy, names_in, refuse_others
from matey.nn.adapters.stored import CONFIG
from matey.nn.folder import CARD, card_of, find_model
from matey.output import plain_yaml, replacing, to_json
from matey.records.descriptions import read_config
from matey.records.files import read, read_json, read_text
from matey.records.scores import Scores
from matey.records.shipped import FACTS, NAME, PRETRAINED, SCORES, Shipped
from matey.train.run_folder import grids, parent_of, spent

MOST = 16e6  # bytes


def main(words: list[str] | None = None) -> int:
    """Read the options, make the folder, and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="a run, or one of its model folders, as RUN/best")
    parser.add_argument("results", type=Path, help="a results folder of matey evaluate")
    parser.add_argument("--name", required=True, help="by which it will be called")
    parser.add_argument("--version", required=True, help="of this model, as 1 or 2026.11")
    parser.add_argument("--licence", default="BSD-3-Clause", help="of the weights")
    parser.add_argument(
        "--operations", type=float, help="of the training, where the run's log has not all of it"
    )
    parser.add_argument("--out", type=Path, default=PRETRAINED, help="where models that ship lie")
    options = parser.parse_args(words)
    try:
        made = ship(options)
    except MateyError as error:
        print(f"ship.py: error: {error}", file=sys.stderr)
        return 2
    print("\n".join(about(options.name, made)))
    return 0


def ship(options: argparse.Namespace) -> Path:
    """Make the folder, whole or not at all. Raises MateyError."""
    if not NAME.fullmatch(options.name) or options.name in COMMANDS:
        raise ConfigError(
            f"--name {options.name!r}: expected lower case, digits, - and _, no command."
        )
    folder = find_model(options.run)
    run = folder.parent if folder.name in ("model", "best") else folder
    operations = options.operations or spent(run)["operations"]
    if not operations:
        raise ConfigError(f"{run} has no log of its steps. Give --operations.")
    if not options.operations and (parent := parent_of(run)):
        raise ConfigError(
            f"{run} goes on from {parent}. Give --operations: {operations:.3e}, which its log "
            f"counts, and those of {parent}."
        )
    scores = Scores.load(options.results / "scores.json")
    if seen := [system.name for system in scores.systems if system.trained_on]:
        raise ConfigError(f"The scores of {', '.join(seen)} are on trajectories of the training.")
    names = names_in(folder)
    refuse_others(names, f"{folder}")
    with tempfile.TemporaryDirectory() as room:
        made = Path(room) / options.name
        copy(folder, names, made)
        note_ranges(made / CONFIG, run)
        Shipped(options.version, options.licence, operations).save(made / FACTS)
        kept = {key: value for key, value in scores.provenance.items() if key != "command"}
        model = {**scores.model, "name": options.name}
        replace(scores, model=model, provenance=kept).save(made / SCORES, indent=None)
        (made / CARD).write_text(card_of(made), encoding="utf-8")
        names = names_in(made)
        check(made, names)
        size = sum((made / name).stat().st_size for name in names)
        if size > MOST:
            raise CheckpointError(f"{folder} makes {size / 1e6:.1f} MB, over {MOST / 1e6:.0f} MB.")
        with replacing(options.out / options.name, CheckpointError) as temporary:
            shutil.copytree(made, temporary)
    return Path(options.out / options.name)


def note_ranges(config: Path, run: Path) -> None:
    """Add the grids and ranges of the training to a description that has none, from its data."""
    description = read_json(config)
    training = description["training"]
    if "grids" in training and "ranges" in training:
        return
    settings = plain_yaml(read_text(run / "config.yaml"))
    systems = open_systems(read_config(settings["data"], f"{run / 'config.yaml'}"))
    training["grids"] = {name: grids(system) for name, system in systems.items()}
    windows = read(WindowConfig, training["windows"])
    training["ranges"] = {name: system.ranges(windows) for name, system in systems.items()}
    config.write_text(to_json(description, indent=2), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
