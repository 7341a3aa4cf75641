"""`matey finetune`: a trained model goes on with new data."""

from typing import Any, Literal

from matey.cli import Command
from matey.cli.train import add_resume


def add_arguments(parser: Any) -> None:
    from matey.config import RunConfig

    parser.add_argument("checkpoint", help="a run or a model folder")
    parser.add_argument("--config", action="config", help="a YAML file with any of these options")
    parser.add_argument(
        "--run", help="the run folder to write; by default runs/<name of the checkpoint>-finetuned"
    )
    add_resume(parser)
    parser.add_argument("--mode", type=Literal["full"], default="full", help="which weights train")
    parser.add_argument(
        "--trajectories",
        type=int | None,
        default=None,
        help="train on the first so many training trajectories of each system only",
    )
    parser.add_class_arguments(RunConfig)


def defaults(options: Any) -> dict[str, Any]:
    """What the checkpoint is and was trained with, unless told otherwise."""
    from pathlib import Path

    from matey.nn.pretrained import empty_model, find_model
    from matey.train.log import plain
    from matey.train.resume import flat

    model, _ = empty_model(find_model(Path(options.checkpoint)))
    return {"windows.history": model.history, **flat(plain(model.config), "model.")}


def run(options: Any) -> None:
    from dataclasses import replace
    from pathlib import Path

    from matey.cli.console import console, watch_training
    from matey.cli.options import run_config
    from matey.train.finetune import finetune, parent_name

    checkpoint = Path(options.checkpoint)
    config = run_config(options)
    if options.trajectories is not None:
        config = replace(config, data=replace(config.data, trajectories=options.trajectories))
    run = Path(options.run or f"runs/{parent_name(checkpoint)}-finetuned")
    with watch_training("finetune") as watch:
        finetune(checkpoint, config, run, watch, resume=options.resume == "auto")
    console.print(f"Model in {run}/model. Score it: matey evaluate {run} --data ...")


COMMANDS = {
    "": Command(
        "adapt a trained model to a new system",
        "matey finetune runs/a --data mine.yaml --trajectories 1 --run runs/a-mine",
        add_arguments,
        run,
        defaults,
    )
}
