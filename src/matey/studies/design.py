"""The parts of a study: its scale, its cells, and their cost.

The cells of a study spend the same number of floating-point operations on training, so that a
model with cheaper steps takes more of them. For the comparison at equal optimizer steps a second
cell of each operating point takes as many steps as the reference does.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from matey.config import ModelConfig, OptimConfig, RunConfig, WindowConfig
from matey.cost.forecast import mean_operations
from matey.errors import ConfigError, nearest
from matey.evaluate.score import ScoreConfig
from matey.records.study import Findings, Outcome, Timings
from matey.studies.cells import Cell
from matey.studies.statistics import Estimate, Rows, estimate, over_trajectories, paired_ratio
from matey.studies.systems import Probe, Recipe, Source, medium_patch

OPERATIONS, STEPS = "operations", "steps"  # the budgets: what compared cells have in common
MOST_STEPS = 500  # between checkpoints


S = TypeVar("S", bound="Scale")


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The size of a study; a subclass adds what the study varies.

    `operations` are those that each cell may spend on training, and `model` is the transformer
    but for what the study varies. `tokens` are about how many the medium patch cuts a frame into;
    where they are as many, there are `batch` windows in a batch.
    Rollouts of `rollout` dt start from `windows` frames per system. `validations` is how often
    a cell looks at its validation windows; `turns` how often each step is timed.

    Trainings are repeated for the `shares` of the operations, `tenth` and `third`, as branches of
    one trunk. Of the `rates` each operating point has the best in trainings of a share `trial` of
    its steps; without any all have the rate `lr`.
    """

    recipes: tuple[Recipe, ...]
    operations: float
    model: ModelConfig
    tokens: int
    batch: int = 4
    history: int = 2
    seeds: int = 3
    lr: float = 4e-3
    rollout: int = 5
    windows: int = 16
    validations: int = 1
    turns: int = 7
    shares: tuple[str, ...] = ()
    rates: tuple[float, ...] = ()
    trial: float = 0.1

    def only(self: S, systems: Sequence[str]) -> S:
        """The scale with some of its systems. Raises ConfigError for one that it does not have."""
        names = [recipe.name for recipe in self.recipes]
        for name in systems:
            if name not in names:
                raise ConfigError(f"This study has no system {name!r}. {nearest(name, names)}")
        return replace(self, recipes=tuple(r for r in self.recipes if r.name in systems))

    @property
    def window_config(self) -> WindowConfig:
        """The windows that make one training sample."""
        return WindowConfig(history=self.history)


@dataclass(frozen=True)
class Design:
    """The cells of a study, and the operating points whose steps are to be timed.

    `benches` are configs by system and point; `facts` tell the page what was done.
    """

    cells: tuple[Cell, ...]
    benches: Mapping[str, Mapping[str, RunConfig]]
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def operations(self) -> float:
        """Operations of all trainings."""
        return math.fsum(cell.paid for cell in self.cells)


@dataclass(frozen=True)
class Material(Generic[S]):
    """The input of a design: the scale, the systems, and the first seed."""

    scale: S
    sources: Mapping[str, Source]
    probes: Mapping[str, Probe]
    seed: int
    device: str
    counted: dict[tuple[str, ModelConfig], float] = field(default_factory=dict)

    @property
    def seeds(self) -> range:
        """The seeds of the cells."""
        return range(self.seed, self.seed + self.scale.seeds)

    def config(self, system: str, model: ModelConfig, steps: int = 1, seed: int = 0) -> RunConfig:
        """A run on one system, complete."""
        config = run_config(self.scale, self.sources[system], model, steps, seed, self.device)
        return replace(config, batch=self.batch(system))

    def medium(self, system: str) -> int:
        """The medium patch of a system."""
        return medium_patch(self.probes[system].grid, self.scale.tokens)

    def cut(self, system: str, patch: int) -> int:
        """How many patches cut the grid of a system."""
        axes = [points for points in self.probes[system].grid if points > 1]
        return math.prod(points // patch for points in axes)

    def batch(self, system: str) -> int:
        """Windows per batch: as many as make the batches of all systems alike in tokens, if cut
        into medium patches. What a step takes besides its tokens then weighs alike, too."""
        tokens = self.cut(system, self.medium(system))
        return max(1, round(self.scale.batch * self.scale.tokens / tokens))

    def step_operations(self, system: str, model: ModelConfig) -> float:
        """Operations of a training step, by the tokens of the system's own windows."""
        if (system, model) not in self.counted:
            probe, config = self.probes[system], self.config(system, model)
            self.counted[system, model] = mean_operations(config, probe.spec, probe.inputs)
        return self.counted[system, model]

    def steps(self, system: str, model: ModelConfig, operations: float) -> int:
        """The number of steps that the operations pay for, at least one."""
        return max(1, round(operations / self.step_operations(system, model)))

    def cell(
        self, system: str, point: str, model: ModelConfig, steps: int, budget: str, seed: int
    ) -> Cell:
        """One cell that is trained on one system, and scored on it."""
        source = self.sources[system]
        return Cell(
            name=f"{system}/{slug(point)}-{budget}-{seed}",
            point=point,
            system=system,
            budget=budget,
            config=self.config(system, model, steps, seed),
            operations=steps * self.step_operations(system, model),
            test=source.data,
            ask=self.ask,
        )

    @property
    def ask(self) -> ScoreConfig:
        """How cells are scored."""
        return ScoreConfig(steps=self.scale.rollout, batch=8, windows=self.scale.windows)


@dataclass(frozen=True)
class Study(Generic[S]):
    """An experiment: how large it is at each scale, its cells, and what their outcomes say."""

    scales: Mapping[str, S]
    design: Callable[[Material[S]], Design]
    judge: Callable[[Material[S], Sequence[Outcome], Timings], Findings]


def run_config(
    scale: Scale, source: Source, model: ModelConfig, steps: int, seed: int, device: str
) -> RunConfig:
    """The run of one cell."""
    config = RunConfig(
        model=model,
        windows=scale.window_config,
        optim=OptimConfig(lr=scale.lr),
        data=source.data,
        batch=scale.batch,
        validate_windows=scale.windows,
        keep_checkpoints=1,
        seed=seed,
        device="cpu" if device == "cpu" else "auto" if device == "auto" else "cuda",
    )
    return paced(config, steps, scale.validations)


def paced(config: RunConfig, steps: int, validations: int) -> RunConfig:
    """A run of so many steps, with the schedule, the validations and the checkpoints of these."""
    return replace(
        config,
        optim=replace(config.optim, warmup=max(1, steps // 10)),
        steps=steps,
        validate_every=max(1, steps // validations) if validations > 1 else 0,
        checkpoint_every=max(10, min(steps // 4, MOST_STEPS)),
        log_every=max(1, steps // 20),
    )


def leveled(model: ModelConfig, patch: int) -> ModelConfig:
    """A model whose local path has as many levels as patches down to this one allow: where several
    are compared, the same for all."""
    return replace(model, levels=min(model.levels, max(0, (patch // 2).bit_length() - 1)))


def slug(text: str) -> str:
    """A name that is safe for a folder."""
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in text)


def by_seed(
    outcomes: Sequence[Outcome],
    system: str,
    point: str,
    budget: str,
    value: Callable[[Outcome], float] = Outcome.error,
) -> dict[int, float]:
    """A number of each cell of an operating point, by seed."""
    return {
        one.seed: value(one)
        for one in outcomes
        if (one.system, one.point, one.budget) == (system, point, budget)
    }


def trajectories_of(outcomes: Sequence[Outcome], system: str, point: str, budget: str) -> Rows:
    """The error one step ahead on each test trajectory, by seed."""
    return {
        one.seed: [row[0] for row in one.by_trajectory]
        for one in outcomes
        if (one.system, one.point, one.budget) == (system, point, budget)
    }


def mean_of(
    outcomes: Sequence[Outcome],
    system: str,
    point: str,
    value: Callable[[Outcome], float] = Outcome.error,
    budget: str = OPERATIONS,
) -> Estimate:
    """The mean of a number over the seeds of an operating point, with its interval; that of the
    error is one over test trajectories, too."""
    found = estimate(by_seed(outcomes, system, point, budget, value).values())
    if value is not Outcome.error:
        return found
    return over_trajectories(found, trajectories_of(outcomes, system, point, budget))


def error_ratio(
    outcomes: Sequence[Outcome], system: str, ours: tuple[str, str], theirs: tuple[str, str]
) -> Estimate:
    """The error of an operating point after trainings of a budget over that of another, paired by
    seed, with its interval over seeds and test trajectories."""
    errors = [by_seed(outcomes, system, *which) for which in (ours, theirs)]
    rows = [trajectories_of(outcomes, system, *which) for which in (ours, theirs)]
    return over_trajectories(paired_ratio(errors[0], errors[1]), *rows)


def points_of(outcomes: Sequence[Outcome], system: str) -> list[str]:
    """The operating points that were tried on a system, in order."""
    return list(dict.fromkeys(one.point for one in outcomes if one.system == system))


def end_of(one: Outcome) -> float:
    """The error at the end of the rollout."""
    return one.error(-1)


def steps_of(one: Outcome) -> float:
    """The number of steps that a cell was trained for."""
    return float(one.steps)


def persistence(outcomes: Sequence[Outcome], system: str, lead: int = 0) -> float:
    """The NRMSE of persistence on the windows that models are scored on."""
    errors = (one.persistence["nrmse"] for one in outcomes if one.system == system and one.leads)
    return next(errors, (math.nan,))[lead]


def stencil(
    outcomes: Sequence[Outcome], system: str, lead: int = 0, point: str | None = None
) -> float:
    """The NRMSE there of the least-squares stencil fitted to the same training windows: those of an
    operating point, or of the first; NaN where none stands beside."""
    errors = (
        one.stencil["nrmse"]
        for one in outcomes
        if one.system == system and one.stencil and point in (None, one.point)
    )
    return next(errors, (math.nan,))[lead]
