"""`matey train`: pretraining."""

from typing import Any

from matey.cli import Command


def add_arguments(parser: Any) -> None:
    from matey.config import RunConfig

    parser.add_argument("--config", action="config", help="a YAML file with any of these options")
    parser.add_argument("--run", required=True, help="the run folder to write")
    add_resume(parser)
    parser.add_class_arguments(RunConfig)


def add_resume(parser: Any) -> None:
    """The option to go on with a run."""
    from typing import Literal

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

    config = run_config(options)
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
