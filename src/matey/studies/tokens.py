"""Do adaptive tokens pay? Error against cost, for uniform patches and for those cut where needed.

Claim of arXiv:2412.20601: adaptive tokens are 2 to 5 times cheaper at equal error.

On each system uniform patches of three sizes stand beside Adap_Mix and Adap_Mul at several
thresholds, by variance and by gradient, with and without a ring of neighbours. The coarse patch of
the adaptive points is the uniform coarse one, their fine patch the uniform medium one; `finer`
ones go down to the uniform fine one. What an operating point costs is that of a step.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from matey.config import ModelConfig, RefineConfig, RunConfig
from matey.studies.cells import Cell, Outcome
from matey.studies.design import (
    OPERATIONS,
    STEPS,
    Design,
    Material,
    Scale,
    by_seed,
)
from matey.studies.statistics import Estimate, geometric, paired_ratio
from matey.studies.systems import medium_patch
from matey.studies.timing import Timing

COARSE, MEDIUM, FINE = "uniform coarse", "uniform medium", "uniform fine"
UNIFORM = (COARSE, MEDIUM, FINE)
SAME_STEPS = "resolution"  # the budget of the cells that repeat one point at other resolutions
SHARE = 6  # cells that such a cell is worth at the finest resolution, in operations
MOST = 12  # cells that one at equal steps may be worth; a dearer one is not made


@dataclass(frozen=True)
class Variant:
    """An adaptive operating point; one that is `finer` goes down to the uniform fine patch."""

    mode: Literal["adap_mix", "adap_mul"]
    threshold: float
    criterion: str = "variance"
    rings: int = 0
    finer: bool = False

    @property
    def name(self) -> str:
        """How it is called on the page."""
        words = [self.mode, f"{self.threshold:g}"]
        words += ["gradient"] if self.criterion == "gradient" else []
        words += ["ring"] if self.rings else []
        words += ["finer"] if self.finer else []
        return " ".join(words)

    def model(self, model: ModelConfig, medium: int) -> ModelConfig:
        """The model of this point, where the medium patch is so large."""
        return replace(
            model,
            mode=self.mode,
            patches=(2 * medium, medium // 2 if self.finer else medium),
            refine=RefineConfig(self.criterion, self.threshold, buffer=self.rings),
        )


def variants(thresholds: Sequence[float]) -> tuple[Variant, ...]:
    """Both modes at each threshold, and at the middle one by the gradient and with a ring;
    Adap_Mix with finer patches at the highest."""
    middle = thresholds[len(thresholds) // 2]
    found: list[Variant] = []
    modes: tuple[Literal["adap_mix", "adap_mul"], ...] = ("adap_mix", "adap_mul")
    for mode in modes:
        found += [Variant(mode, threshold) for threshold in thresholds]
        found.append(Variant(mode, middle, criterion="gradient"))
        found.append(Variant(mode, middle, rings=1))
    found.append(Variant("adap_mix", thresholds[-1], finer=True))
    return tuple(found)


def points(scale: Scale, medium: int) -> dict[str, ModelConfig]:
    """The operating points of a system, by name."""
    sizes = (2 * medium, medium, medium // 2)
    uniform = {
        name: replace(scale.model, mode="uniform", patches=(patch,))
        for name, patch in zip(UNIFORM, sizes, strict=True)
    }
    adaptive = {v.name: v.model(scale.model, medium) for v in scale.extra["variants"]}
    return {**uniform, **adaptive}


def design(material: Material) -> Design:
    """Every operating point on every system, at equal operations and at equal steps."""
    scale, cells = material.scale, []
    benches = {}
    for system in material.sources:
        if system in repeated(scale):
            continue
        medium = material.medium(system)
        own = points(scale, medium)
        benches[system] = {name: material.config(system, model) for name, model in own.items()}
        reference = material.steps(system, own[MEDIUM], scale.operations)
        for name, model in own.items():
            affordable = material.steps(system, model, scale.operations)
            for budget, steps in ((OPERATIONS, affordable), (STEPS, reference)):
                dear = steps * material.step_operations(system, model) > MOST * scale.operations
                if budget == STEPS and (name == MEDIUM or dear):
                    continue  # the medium patch's two cells are the same one
                for seed in material.seeds:
                    cell = material.cell(system, name, model, steps, budget, seed)
                    cells.append(replace(cell, guide=2 * medium if name in UNIFORM else 0))
    more, others = repeats(material)
    return Design((*cells, *more), {**benches, **others})


def repeated(scale: Scale) -> tuple[str, ...]:
    """The systems that repeat one operating point at several resolutions, coarse to fine."""
    return tuple(scale.extra.get("resolutions", ()))


def repeats(material: Material) -> tuple[list[Cell], dict[str, dict[str, RunConfig]]]:
    """The uniform medium patch and Adap_Mix at several resolutions, for the same steps at each."""
    scale, systems = material.scale, repeated(material.scale)
    if not systems:
        return [], {}
    medium = medium_patch(material.probes[systems[0]].grid, scale.tokens // 4)
    wanted = (MEDIUM, repeated_point(scale))
    own = points(scale, medium)
    steps = material.steps(systems[-1], own[MEDIUM], SHARE * scale.operations)
    cells = [
        material.cell(system, name, own[name], steps, SAME_STEPS, seed)
        for system in systems
        for name in wanted
        for seed in material.seeds
    ]
    return cells, {
        system: {name: material.config(system, own[name]) for name in wanted} for system in systems
    }


def repeated_point(scale: Scale) -> str:
    """The adaptive point that is repeated at several resolutions: plain Adap_Mix, in the middle of
    the thresholds."""
    plain = [v.name for v in scale.extra["variants"] if v == Variant("adap_mix", v.threshold)]
    return plain[len(plain) // 2]


# Costs of a step, by name.
COSTS: dict[str, Callable[[Timing], float]] = {
    "tokens": lambda timing: timing.tokens,
    "operations": lambda timing: timing.operations,
    "step time": lambda timing: timing.step_seconds,
    "inference time": lambda timing: timing.inference_seconds,
    "memory": lambda timing: float(timing.step_bytes),
}


@dataclass(frozen=True)
class Beside:
    """An adaptive point beside uniform patches after trainings of one budget.

    `cheaper` is by cost of a step: how many times cheaper it is than the uniform patch of equal
    error; `bound` says `at most` where in some seed even the coarse patch has no larger an error,
    `at least` where in some no uniform patch is as good. Its error is `at_cost` times that of the
    uniform patch of equal step time, `best` times that of the uniform patch that is the best in
    validation, `medium` the medium one's.
    """

    cheaper: Mapping[str, Estimate]
    bound: str
    at_cost: Estimate
    best: Estimate
    medium: Estimate


@dataclass(frozen=True)
class Comparison:
    """An adaptive point of a system after equally many steps, and after equal operations.

    `time` is the error over the medium patch's after an equal time of training, `share` are the
    costs of a step over the medium patch's, `valid` the error on the validation windows.
    """

    point: str
    steps: Beside
    operations: Beside
    time: Estimate
    share: Mapping[str, float]
    valid: float

    @property
    def quick(self) -> bool:
        """Whether a step takes at most half the time of the medium patch's."""
        return self.share["step time"] <= 0.5


def compare(
    outcomes: Sequence[Outcome], costs: Mapping[str, Timing], system: str, point: str
) -> Comparison:
    """One adaptive point of one system beside the uniform ones."""
    ours, medium = costs[point], costs[MEDIUM]
    same_time = {
        seed: at_equal_time(outcomes, system, point, seed, ours, medium)
        for seed in by_seed(outcomes, system, point, OPERATIONS)
    }
    return Comparison(
        point=point,
        steps=beside(outcomes, costs, system, point, STEPS),
        operations=beside(outcomes, costs, system, point, OPERATIONS),
        time=paired_ratio(same_time, by_seed(outcomes, system, MEDIUM, OPERATIONS)),
        share={cost: of(ours) / of(medium) for cost, of in COSTS.items()},
        valid=mean_valid(outcomes, system, point, OPERATIONS),
    )


def mean_valid(outcomes: Sequence[Outcome], system: str, point: str, budget: str) -> float:
    """The mean error on validation windows: what choices go by. The medium patch, which is the
    reference, has cells of one budget only."""
    budget = OPERATIONS if point == MEDIUM else budget
    found = by_seed(outcomes, system, point, budget, lambda one: one.valid).values()
    return math.fsum(found) / len(found) if found else math.inf


@dataclass(frozen=True)
class Coarse:
    """The uniform coarse patch beside the medium one: error after equal operations, and share of
    the step time. What is cheap need not be adaptive."""

    error: Estimate
    share: float

    @property
    def passes(self) -> bool:
        """Whether it has no larger an error for at most half the step time."""
        return self.error.mean <= 1 and self.share <= 0.5


def coarse_of(outcomes: Sequence[Outcome], costs: Mapping[str, Timing], system: str) -> Coarse:
    """The uniform coarse patch of one system."""
    errors = [by_seed(outcomes, system, name, OPERATIONS) for name in (COARSE, MEDIUM)]
    return Coarse(
        paired_ratio(errors[0], errors[1]),
        costs[COARSE].step_seconds / costs[MEDIUM].step_seconds,
    )


def beside(
    outcomes: Sequence[Outcome],
    costs: Mapping[str, Timing],
    system: str,
    point: str,
    budget: str,
) -> Beside:
    """One adaptive point beside the uniform ones, after trainings of one budget."""
    own = by_seed(outcomes, system, point, budget)
    uniform = {name: by_seed(outcomes, system, name, budget) for name in UNIFORM}
    # The medium patch is the reference: its cells are of both budgets.
    uniform[MEDIUM] = by_seed(outcomes, system, MEDIUM, OPERATIONS)
    uniform = {name: errors for name, errors in uniform.items() if errors}
    best = min(uniform, key=lambda name: mean_valid(outcomes, system, name, budget))

    def curve(cost: str, seed: int) -> list[tuple[float, float]]:
        return [(COSTS[cost](costs[name]), errors[seed]) for name, errors in uniform.items()]

    return Beside(
        cheaper={
            cost: geometric(
                cost_at(error, curve(cost, seed)) / of(costs[point]) for seed, error in own.items()
            )
            for cost, of in COSTS.items()
        },
        bound=bound_of(own, uniform),
        at_cost=paired_ratio(
            own, {s: error_at(costs[point].step_seconds, curve("step time", s)) for s in own}
        ),
        best=paired_ratio(own, uniform[best]),
        medium=paired_ratio(own, uniform[MEDIUM]),
    )


def bound_of(own: Mapping[int, float], uniform: Mapping[str, Mapping[int, float]]) -> str:
    """What a gain is where the uniform patches leave it open to a side in some seed: a bound, or
    no more than a guess where they do to both."""
    sides = set()
    for seed, error in own.items():
        errors = [row[seed] for row in uniform.values() if math.isfinite(row[seed])]
        if errors and error >= errors[0]:  # the coarsest patch that has an error
            sides.add("at most ")
        elif errors and error < min(errors):
            sides.add("at least ")
    return "about " if len(sides) > 1 else "".join(sides)


def cost_at(error: float, curve: Sequence[tuple[float, float]]) -> float:
    """The least cost at which uniform patches reach an error, between them by power laws.

    `curve` are costs with errors. Where even the best has a larger error its cost is the answer:
    the true one is higher. Where the cheapest has a smaller one, that is.
    """
    envelope = falling(curve)
    if not envelope:
        return math.nan
    if error >= envelope[0][1]:
        return envelope[0][0]
    for (cheap, worse), (dear, better) in pairwise(envelope):
        if error >= better:
            part = math.log(error / worse) / math.log(better / worse)
            return cheap * (dear / cheap) ** part
    return envelope[-1][0]


def error_at(cost: float, curve: Sequence[tuple[float, float]]) -> float:
    """The least error of uniform patches at a cost, between them by power laws.

    Below the cheapest, and beyond the dearest, theirs.
    """
    envelope = falling(curve)
    if not envelope:
        return math.nan
    if cost <= envelope[0][0]:
        return envelope[0][1]
    for (cheap, worse), (dear, better) in pairwise(envelope):
        if cost <= dear:
            part = math.log(cost / cheap) / math.log(dear / cheap)
            return worse * (better / worse) ** part
    return envelope[-1][1]


def falling(curve: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those points, by rising cost, whose error is finite and below that of all cheaper ones."""
    envelope: list[tuple[float, float]] = []
    for cost, error in sorted(curve):
        if error < (envelope[-1][1] if envelope else math.inf):
            envelope.append((cost, error))
    return envelope


def at_equal_time(
    outcomes: Sequence[Outcome], system: str, point: str, seed: int, ours: Timing, medium: Timing
) -> float:
    """The error after as much training time as the medium patch took, by its two trainings.

    Between them by a power law in the number of steps; beyond both, the nearer one's.
    """
    found = [o for o in outcomes if (o.system, o.point, o.seed) == (system, point, seed)]
    reference = next(o for o in outcomes if (o.system, o.point, o.seed) == (system, MEDIUM, seed))
    steps = reference.steps * medium.step_seconds / ours.step_seconds
    runs = sorted((one.steps, one.error()) for one in found)
    (few, early), (many, late) = runs[0], runs[-1]
    if steps <= few or few == many:
        return early
    if steps >= many or not math.isfinite(early * late):
        return late
    return early * (late / early) ** (math.log(steps / few) / math.log(many / few))
