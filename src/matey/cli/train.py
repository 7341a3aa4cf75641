"""`matey train`: pretraining."""

from typing import TYPE_CHECKING, Any

from matey.cli import Command

if TYPE_CHECKING:
    from matey.config import RunConfig
    from matey.config.model import BaselineKind


def add_arguments(parser: Any) -> None:
    from matey.config import RunConfig

    parser.add_argument("--config", action="config", help="a YAML file with any of these options")
    parser.add_argument("--run", required=True, help="the run folder to write")
    add_baseline(parser)
    add_shared(parser)
    parser.add_class_arguments(RunConfig)


def add_baseline(parser: Any) -> None:
    """`--baseline`, where a model is made anew."""
    from matey.config.model import BaselineKind

    parser.add_argument(
        "--baseline",
        type=BaselineKind,
        default="none",
        help="train this instead, a network of as many weights or a fit: short for "
        "model.baseline.kind",
    )


def with_baseline(config: "RunConfig", kind: "BaselineKind") -> "RunConfig":
    """The config with a baseline of a kind; as it is where the kind is `none`."""
    from dataclasses import replace

    if kind == "none":
        return config
    return replace(
        config, model=replace(config.model, baseline=replace(config.model.baseline, kind=kind))
    )


def add_shared(parser: Any) -> None:
    """The options of training and fine-tuning besides a run's settings."""
    from typing import Literal

    parser.add_argument(
        "--trajectories",
        type=int | None,
        help="train on so many training trajectories of each system: short for data.trajectories",
    )
    parser.add_argument(
        "--resume",
        type=Literal["no", "auto"],
        default="no",
        help="auto: go on from the newest checkpoint of the run, if there is one",
    )


def run(options: Any) -> None:
    from pathlib import Path

    from matey.cli.console import console, watch_training
    from matey.cli.options import run_config
    from matey.train.loop import train

    config = with_baseline(run_config(options), options.baseline)
    with watch_training("train") as watch:
        train(config, Path(options.run), watch, resume=options.resume == "auto")
    console.print(
        f"Model in {options.run}/model. Score it: matey evaluate {options.run} --data ..."
    )


COMMANDS = {
    "": Command(
        "pretrain a model on one or many systems",
        "matey train --config examples/pretrain-nano.yaml --data mix.yaml --run runs/a",
        add_arguments,
        run,
    )
}
