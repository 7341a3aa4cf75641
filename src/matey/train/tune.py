"""Settings chosen by short trainings, scored on the validation split, within a budget of time.

Every combination of the settings in question is trained for the same share of the budget, so that a
wide model gets fewer steps than a narrow one, or for all steps of the run where these are fewer.
Each trial has its own schedule; one that is shorter than the run warms up over a quarter of it at
most. All have the run's seed.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from matey.config import RunConfig
from matey.errors import ConfigError, DivergenceError
from matey.nn.surrogate import Surrogate
from matey.records.run import ValidRecord, Worse, read_log
from matey.train.run_folder import Sink

PROBE = 6  # steps that a combination is timed on
LEAST = 30  # steps of a trial: fewer tell hardly anything
WARMUP = 4  # a part in so many of a trial's steps, at most: the rate itself is compared
NEAR = 1.5  # times the lowest score, at most, of what is taken in its place for being sound

Training = Callable[[RunConfig, Path, Sink], Surrogate]


class BudgetError(ConfigError):
    """A budget of time in which settings cannot be compared."""


@dataclass(frozen=True)
class Trial:
    """One combination of settings, and its outcome.

    `score` is the geometric mean over systems of validation NRMSE over persistence's: infinite
    where the training diverged. `worse` is by system, of those that have windows where persistence
    is better.
    """

    settings: dict[str, Any]
    steps: int
    seconds: float
    score: float
    nrmse: dict[str, float]
    worse: dict[str, Worse] = field(default_factory=dict)


def tune(
    config: RunConfig,
    choices: Mapping[str, Sequence[Any]],
    budget: float,
    train: Training,
    folder: Path,
    watch: Sink = lambda record: None,
) -> Iterator[Trial]:
    """Try every combination of `choices`, values by dotted key, within `budget` seconds.

    `train` trains a config into a run folder, of which each trial has one in `folder`. Yields each
    trial when it is done. Raises ConfigError, with the least that would do, for a budget in which
    two settings cannot be compared; and, before any training, for settings that cannot be.
    """
    if config.model.baseline.kind == "stencil":
        raise ConfigError(
            "A stencil has no learning rate to tune: it is fitted in closed form. Fit it with "
            "matey train --baseline stencil."
        )
    combinations = [dict(zip(choices, row, strict=True)) for row in product(*choices.values())]
    if len(combinations) < 2:
        raise ConfigError("One combination of settings is nothing to choose from: give two rates.")
    configs = [with_settings(config, settings) for settings in combinations]
    began = time.monotonic()
    costs: dict[tuple[Any, ...], Cost] = {}  # by all settings but the rate, which costs nothing
    for settings, one in zip(combinations, configs, strict=True):
        if shape_of(settings) not in costs:
            costs[shape_of(settings)] = probe(one, train, folder / f"probe_{len(costs)}")
    spent = time.monotonic() - began
    share = (budget - spent) / len(combinations)
    fewest = min(LEAST, config.steps)
    least = max(cost.fixed + fewest * cost.step for cost in costs.values())
    if share < least:
        needed = math.ceil(1.1 * (least * len(combinations) + spent))
        raise BudgetError(
            f"A budget of {budget:.0f} s is too small to compare {len(combinations)} settings by "
            f"{fewest} steps each. Give {needed} s or more, or fewer settings."
        )
    for i, settings in enumerate(combinations):
        steps = min(costs[shape_of(settings)].steps(share), config.steps)
        yield attempt(config, settings, steps, train, folder / f"trial_{i}", watch)


def shape_of(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    """The settings that decide what a step costs."""
    return tuple(value for key, value in settings.items() if key != "optim.lr")


@dataclass(frozen=True)
class Cost:
    """Seconds of a training: of each step, and once."""

    step: float
    fixed: float

    def steps(self, seconds: float) -> int:
        """How many steps fit."""
        return int((seconds - self.fixed) / self.step)


def probe(config: RunConfig, train: Training, run: Path) -> Cost:
    """Time a few steps of a config."""
    began = time.monotonic()
    short = replace(config, steps=PROBE, log_every=1, validate_every=0, checkpoint_every=PROBE)
    train(short, run, lambda record: None)
    whole = time.monotonic() - began
    # The first step allocates, and is slower.
    step = median(record.seconds for record in read_log(run).train[1:])
    return Cost(step=step, fixed=max(0.0, whole - PROBE * step))


def attempt(
    config: RunConfig,
    settings: dict[str, Any],
    steps: int,
    train: Training,
    run: Path,
    watch: Sink,
) -> Trial:
    """Train one combination, and score it on the validation split."""
    tried = replace(
        with_settings(config, settings), steps=steps, validate_every=0, checkpoint_every=steps
    )
    if steps < config.steps:
        warmup = min(tried.optim.warmup, steps // WARMUP)
        tried = replace(tried, optim=replace(tried.optim, warmup=warmup))
    began = time.monotonic()
    try:
        train(tried, run, watch)
    except DivergenceError:
        return Trial(settings, steps, time.monotonic() - began, math.inf, {})
    valid = read_log(run).valid[-1]
    seconds, score = time.monotonic() - began, mean_ratio(valid)
    return Trial(settings, steps, seconds, score, valid.nrmse, valid.worse)


def mean_ratio(valid: ValidRecord) -> float:
    """Geometric mean over systems of a validation's NRMSE over persistence's.

    Raises ConfigError where no system has a defined score: there is nothing to choose by.
    """
    ratios = [
        error / valid.persistence[name]
        for name, error in valid.nrmse.items()
        if math.isfinite(error) and valid.persistence[name] > 0
    ]
    if not ratios:
        raise ConfigError(
            "No system has validation windows with a defined error: nothing to choose settings "
            "by. Give data.split.valid a larger share."
        )
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def best_of(trials: Sequence[Trial]) -> Trial:
    """The trial of the lowest score; if persistence is better in some of its windows, that of the
    lowest one up to `NEAR` times as high where it is better in none. At a rate that loses a few
    windows a longer training may lose more.

    Raises DivergenceError where all diverged.
    """
    best = lowest(trials)
    if not math.isfinite(best.score):
        raise DivergenceError(f"All {len(trials)} trainings diverged. Try lower learning rates.")
    near = [trial for trial in trials if trial.score <= NEAR * best.score]
    sound = [trial for trial in near if not trial.worse]
    return lowest(sound) if best.worse and sound else best


def lowest(trials: Sequence[Trial]) -> Trial:
    """The trial of the lowest score, the first of equal ones."""
    return min(trials, key=lambda trial: trial.score)


def with_settings(config: Any, settings: Mapping[str, Any]) -> Any:
    """A config with values set by dotted key, as `optim.lr`."""
    for key, value in settings.items():
        name, _, rest = key.partition(".")
        inner = with_settings(getattr(config, name), {rest: value}) if rest else value
        config = replace(config, **{name: inner})
    return config
