"""`matey finetune`: a trained model goes on with new data."""

from typing import Any, Literal

from matey.cli import Command
from matey.cli.train import add_resume


def add_arguments(parser: Any) -> None:
    from matey.config import RefineConfig, RunConfig

    parser.add_argument("checkpoint", help="a run or a model folder")
    parser.add_argument("--config", action="config", help="a YAML file with any of these options")
    parser.add_argument("--run", required=True, help="the run folder to write")
    add_resume(parser)
    parser.add_argument("--mode", type=Literal["full"], default="full", help="which weights train")
    parser.add_argument(
        "--trajectories",
        type=int | None,
        default=None,
        help="train on the first so many training trajectories of each system only",
    )
    parser.add_class_arguments(RunConfig, skip={"model"})
    parser.add_class_arguments(RefineConfig, "refine")


def defaults(options: Any) -> dict[str, Any]:
    """What the checkpoint was trained with, unless told otherwise."""
    from pathlib import Path

    from matey.nn.pretrained import empty_model, find_model

    model, _ = empty_model(find_model(Path(options.checkpoint)))
    refine = model.config.refine
    return {
        "windows.history": model.history,
        "refine.criterion": refine.criterion,
        "refine.threshold": refine.threshold,
    }


def run(options: Any) -> None:
    from dataclasses import replace
    from pathlib import Path

    from matey.cli.console import console, watch_training
    from matey.cli.options import run_config
    from matey.config import ModelConfig
    from matey.train.finetune import finetune

    config = run_config(options, model=ModelConfig(refine=options.refine))
    if options.trajectories is not None:
        config = replace(config, data=replace(config.data, trajectories=options.trajectories))
    with watch_training("finetune") as watch:
        finetune(
            Path(options.checkpoint),
            config,
            Path(options.run),
            watch,
            resume=options.resume == "auto",
        )
    console.print(
        f"Model in {options.run}/model. Score it: matey evaluate {options.run} --data ..."
    )


COMMANDS = {
    "": Command(
        "adapt a trained model to a new system",
        "matey finetune runs/a --data mine.yaml --trajectories 1 --run runs/b",
        add_arguments,
        run,
        defaults,
    )
}
