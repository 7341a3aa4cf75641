"""The stencils that a run's scores stand beside: fitted when it begins, and kept with its model."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from matey.config import BaselineConfig, ModelConfig, RunConfig
from matey.data.systems import open_systems
from matey.data.windows import Choice, Windows
from matey.errors import CheckpointError, ConfigError, MateyError
from matey.fields import Batch, SystemSpec
from matey.nn.baselines.stencil import StencilModel, Yardstick, predicts_beyond
from matey.nn.folder import load_yardstick, save_yardstick
from matey.nn.local.stencil import ROWS, WIDTHS
from matey.nn.surrogate import Surrogate
from matey.train.closed_form import WINDOWS, check_steps
from matey.train.run_folder import Journal

FOLDER = "stencil"  # of a run
OPERATIONS = 1e11  # of a system's fit: two to four seconds of a core
VALUES, FEWEST = 2**27, 4  # numbers to read for it, but so many windows at least
COLUMNS = 3072  # numbers that a point's increment may depend on
SEED = 0  # the same for every run, so that runs on the same data stand beside the same stencils


def put_beside(
    model: Surrogate, windows: Mapping[str, Windows], folder: Path, journal: Journal, step: int
) -> None:
    """Give a model the stencils of its systems: those in a folder, or new ones, which are logged
    and kept there. A model that has stencils of its own needs no others."""
    if has_stencils(model) or not journal.writes:
        return
    earlier, made = model.yardstick, load_yardstick(folder)
    if made is None:
        made, seconds = fit_beside(windows)
        if not folder.parent.is_dir():
            raise CheckpointError(
                f"{folder.parent} is no longer there: it was removed or moved during the run."
            )
        save_yardstick(made, folder)
        journal.write("stencil", step=step, cpu_seconds=seconds, refused=dict(made.refused))
    model.yardstick = earlier.beside(made) if earlier else made


def keep_beside(config: RunConfig, folder: Path) -> None:
    """Fit the stencils that runs of a config stand beside, and keep them in a folder for all of
    them, unless they are there."""
    if folder.is_dir():
        return
    systems = open_systems(config.data)
    windows = {name: system.windows("train", config.windows) for name, system in systems.items()}
    save_yardstick(fit_beside(windows)[0], folder)


def has_stencils(model: Surrogate) -> bool:
    """Whether a model is a stencil, or predicts beyond one on every system: then that stands
    beside its scores."""
    return predicts_beyond(model) or isinstance(model, StencilModel)


def fit_beside(windows: Mapping[str, Windows]) -> tuple[Yardstick, dict[str, float]]:
    """Fit a stencil to each system's training windows; the CPU seconds that each took."""
    history = next(iter(windows.values())).config.history
    width = width_for([group.spec for group in windows.values()], history)
    config = ModelConfig(baseline=BaselineConfig("stencil", width))
    fitted: dict[str, StencilModel] = {}
    seconds, refused = {}, {}
    for name, group in windows.items():
        began = time.process_time()
        try:
            fitted[name] = fit(StencilModel(config, [group.spec], history), group)
        except MateyError as error:
            refused[name] = str(error)
        else:
            seconds[name] = round(time.process_time() - began, 2)
    model = StencilModel(config, [one.specs[name] for name, one in fitted.items()], history)
    for name, one in fitted.items():
        model.stencils.take(name, one.stencils)
    return Yardstick(model.eval(), refused), seconds


def width_for(specs: Sequence[SystemSpec], history: int) -> int | None:
    """Points along each axis of the stencils: None, for as many as are usual, or fewer where there
    are too many variables and frames for that."""

    def columns(spec: SystemSpec, width: int) -> int:
        return history * len(spec.variables) * width**spec.ndim

    if all(columns(spec, WIDTHS[spec.ndim]) <= COLUMNS for spec in specs):
        return None
    widths = range(min(WIDTHS[spec.ndim] for spec in specs), 3, -2)
    fits = (w for w in widths if all(columns(spec, w) <= COLUMNS for spec in specs))
    return next(fits, 3)


def fit(model: StencilModel, windows: Windows) -> StencilModel:
    """Fit the stencil of a system at a bounded cost.

    Raises ConfigError or ShapeError, saying why, where none can be fitted.
    """
    spec, grid = windows.spec, max(windows.groups, key=math.prod)
    columns = model.stencils.weight(spec.name)[0].numel()
    if columns > COLUMNS:
        raise ConfigError(
            f"{len(spec.variables)} variables in {model.history} frames are too many: a stencil of "
            f"3 points along each axis has {columns:,} numbers for each variable, and {COLUMNS:,} "
            "are the most that are fitted beside a run."
        )
    for trajectory in windows.trajectories:
        model.check_grid(windows.fields.trajectories[trajectory].grid, spec)
    values = math.prod(grid) * len(spec.variables) * (model.history + 1)
    chosen = windows.scattered(min(WINDOWS, max(FEWEST, VALUES // values)))
    rows = min(ROWS, max(int(OPERATIONS / (2 * columns**2)), 2 * columns))
    model.stencils.fit(spec, one_by_one(windows, chosen), -(-rows // len(chosen)), SEED)
    return model


def one_by_one(windows: Windows, chosen: Sequence[Choice]) -> Iterator[Batch]:
    """Read windows one at a time. Raises ConfigError for steps of unequal length."""
    for choice in chosen:
        batch = windows.batch([choice])
        try:
            check_steps(batch)
        except ConfigError as error:  # whose path does not belong into a model folder
            raise ConfigError(
                "Its steps are of unequal length, and a stencil is fitted to equal ones."
            ) from error
        yield batch
