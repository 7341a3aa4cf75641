"""MLflow: `mlflow/` in the run folder, or where the environment says."""

import logging
import os
import re
import time
from pathlib import Path
from typing import Any

from matey.errors import ConfigError
from matey.train.trackers.records import LAST, Record, leaves, load, scalars, shortly

AT_ONCE = 100  # parameters that MLflow takes in one call
LONGEST = 500  # letters of a parameter
ENDS = {"end": "FINISHED", "stop": "KILLED"}


def package() -> Any:
    """Its package, which tells no progress. Raises ConfigError where it is missing."""
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    return load("mlflow", "mlflow", "MLflow")


class MLflow:
    """Logs the numbers of records, named by their kind and key, and the settings as parameters.

    Each process that goes on with a run is a run of its own there. Raises ConfigError where none
    can be begun.
    """

    def __init__(self, run: Path, settings: Record, step: int) -> None:
        self.mlflow, name = package(), run.resolve().name
        self.entities = self.mlflow.entities
        called, uri = os.environ.get("MLFLOW_EXPERIMENT_NAME", "matey"), address(run)
        try:
            self.client = self.mlflow.MlflowClient(tracking_uri=uri)
            there = self.client.get_experiment_by_name(called)
            number = there.experiment_id if there else self.client.create_experiment(called)
            name = f"{name} from step {step}" if step else name
            self.run = self.client.create_run(number, run_name=name).info.run_id
            parameters = [
                self.entities.Param(allowed(key), str(value)[:LONGEST])
                for key, value in leaves(settings)
            ]
            for first in range(0, len(parameters), AT_ONCE):
                self.client.log_batch(self.run, params=parameters[first : first + AT_ONCE])
        except Exception as error:
            raise ConfigError(
                f"mlflow is true, but MLflow cannot begin a run at {uri}: {shortly(error)}. Set "
                "MLFLOW_TRACKING_URI to where it can, or leave mlflow out."
            ) from error

    def __call__(self, record: Record) -> None:
        now, step = round(1000 * time.time()), record["step"]
        metrics = [
            self.entities.Metric(allowed(name), value, now, step)
            for name, value in scalars(record).items()
        ]
        self.client.log_batch(self.run, metrics=metrics)
        if record["kind"] in LAST:
            self.client.set_terminated(self.run, ENDS[record["kind"]])


def address(run: Path) -> str:
    """Where the environment says, or a data base in the run folder, which MLflow makes."""
    there = os.environ.get("MLFLOW_TRACKING_URI")
    if there:
        return there
    folder = run.resolve() / "mlflow"
    folder.mkdir(exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}"


def allowed(name: str) -> str:
    """A name with only the letters that MLflow takes."""
    return re.sub(r"[^\w\-. /]", "_", name)
