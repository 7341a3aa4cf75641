"""The trackers that a run asks for."""

from pathlib import Path
from typing import Any

from matey.config import RunConfig
from matey.train.trackers import mlflow, tensorboard, wandb
from matey.train.trackers.records import Optional, Sink


def check_trackers(config: RunConfig) -> None:
    """Raise ConfigError where a tracker that is asked for is not installed."""
    for asked, module in (
        (config.tensorboard, tensorboard),
        (config.wandb, wandb),
        (config.mlflow, mlflow),
    ):
        if asked:
            module.package()


def open_trackers(config: RunConfig, settings: dict[str, Any], run: Path, step: int) -> list[Sink]:
    """The trackers of a process that goes on after a step; they show the `settings`.

    Raises ConfigError where one cannot begin.
    """
    sinks: list[Sink] = []
    if config.tensorboard:
        sinks.append(tensorboard.TensorBoard(run / "tensorboard", step))
    if config.wandb:
        sinks.append(Optional("Weights & Biases", wandb.WandB(run, settings, step)))
    if config.mlflow:
        sinks.append(Optional("MLflow", mlflow.MLflow(run, settings, step)))
    return sinks
