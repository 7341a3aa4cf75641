"""Do adaptive tokens pay? Error against cost, for uniform patches and for those cut where needed.

Claim of arXiv:2412.20601: adaptive tokens are 2 to 5 times cheaper at equal error.

On each system uniform patches of three sizes stand beside Adap_Mix and Adap_Mul at several
thresholds, by variance and by gradient, with and without a ring of neighbours. The coarse patch of
the adaptive points is the uniform coarse one, their fine patch the uniform medium one; `finer`
ones go down to the uniform fine one. What an operating point costs is that of a step.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from matey.config import ModelConfig, RefineConfig, RunConfig
from matey.studies.cells import Cell
from matey.studies.design import OPERATIONS, STEPS, Design, Material, Scale, leveled
from matey.studies.systems import medium_patch

COARSE, MEDIUM, FINE = "uniform coarse", "uniform medium", "uniform fine"
UNIFORM = (COARSE, MEDIUM, FINE)
PUBLISHED = "published design"
PUBLISHED_RULE = RefineConfig("variance", 0.2)
SAME_STEPS = "resolution"  # the budget of the cells that repeat one point at other resolutions
SHARE = 6  # cells that such a cell is worth at the finest resolution, in operations
MOST = 12.0  # cells that one at equal steps may be worth; a dearer one is not made
MODES: tuple[Literal["adap_mix", "adap_mul"], ...] = ("adap_mix", "adap_mul")


@dataclass(frozen=True)
class Variant:
    """An adaptive operating point; one that is `finer` goes down to the uniform fine patch.

    Refined are the cells whose criterion exceeds a share of its maximum (`threshold`), the fewest
    that hold a share of it (`bulk`), or as many as a share of the medium patch's tokens pays for
    (`budget`): `value` is that share.
    """

    mode: Literal["adap_mix", "adap_mul"]
    value: float
    criterion: str = "variance"
    rings: int = 0
    finer: bool = False
    rule: Literal["threshold", "bulk", "budget"] = "threshold"

    @property
    def name(self) -> str:
        """Its name on the page."""
        words = [self.mode, *([] if self.rule == "threshold" else [self.rule]), f"{self.value:g}"]
        words += [] if self.criterion == "variance" else [self.criterion]
        words += ["ring"] if self.rings else []
        words += ["finer"] if self.finer else []
        return " ".join(words)

    def model(self, model: ModelConfig, medium: int, tokens: int) -> ModelConfig:
        """The model of this point for a medium patch of this size, which makes so many tokens."""
        refine = RefineConfig(self.criterion, self.value, buffer=self.rings)
        if self.rule == "bulk":
            refine = RefineConfig(self.criterion, bulk=self.value, buffer=self.rings)
        elif self.rule == "budget":
            refine = RefineConfig(self.criterion, token_budget=round(self.value * tokens))
        patches = (2 * medium, medium // 2 if self.finer else medium)
        return replace(model, mode=self.mode, patches=patches, refine=refine)


def variants(thresholds: Sequence[float]) -> tuple[Variant, ...]:
    """Both modes at each threshold, and at the middle one by the gradient and with a ring;
    Adap_Mix with finer patches at the highest."""
    middle = thresholds[len(thresholds) // 2]
    points: list[Variant] = []
    for mode in MODES:
        points += [Variant(mode, threshold) for threshold in thresholds]
        points += [Variant(mode, middle, "gradient"), Variant(mode, middle, rings=1)]
    return (*points, Variant("adap_mix", thresholds[-1], finer=True))


def rules(bulk: float, budget: float) -> tuple[Variant, ...]:
    """Each criterion by a bulk, and the change by a budget of tokens, too, in Adap_Mix; the
    change by a bulk in Adap_Mul as well, and down to the fine patch in both."""
    change = [
        Variant(mode, bulk, "change", rule="bulk", finer=finer)
        for mode in MODES
        for finer in (False, True)
    ]
    others = [Variant("adap_mix", bulk, name, rule="bulk") for name in ("variance", "gradient")]
    return (*change, *others, Variant("adap_mix", budget, "change", rule="budget"))


@dataclass(frozen=True, kw_only=True)
class TokensScale(Scale):
    """How large the study of tokens is.

    `resolutions` are the systems, coarse to fine, that repeat one operating point. A cell at equal
    steps may be worth `most` others. `published` is a model that stands beside, from coarse to fine
    patches by its own rule: no claim chooses it.
    """

    variants: tuple[Variant, ...]
    published: ModelConfig | None = None
    resolutions: tuple[str, ...] = ()
    most: float = MOST

    def only(self, systems: Sequence[str]) -> "TokensScale":
        """The scale with some of its systems. Raises ConfigError for one that it does not have."""
        left = tuple(name for name in self.resolutions if name in systems)
        return replace(super().only(systems), resolutions=left)


def points(scale: TokensScale, medium: int, tokens: int) -> dict[str, ModelConfig]:
    """The operating points, by name, where a medium patch makes so many tokens. The local path has
    as many levels in each as the fine patch allows."""
    sizes = (2 * medium, medium, medium // 2)
    model = leveled(scale.model, sizes[-1])
    uniform = {
        name: replace(model, mode="uniform", patches=(patch,))
        for name, patch in zip(UNIFORM, sizes, strict=True)
    }
    adaptive = {v.name: v.model(model, medium, tokens) for v in scale.variants}
    points = {**uniform, **adaptive}
    if scale.published is not None:
        ends = (sizes[0], sizes[-1])
        points[PUBLISHED] = replace(
            scale.published, mode="adap_mix", patches=ends, refine=PUBLISHED_RULE
        )
    return points


def adaptive_of(names: Sequence[str]) -> list[str]:
    """The adaptive points of ours among those of a system."""
    return [name for name in names if name not in (*UNIFORM, PUBLISHED)]


def design(material: Material[TokensScale]) -> Design:
    """Every operating point on every system, at equal operations and at equal steps."""
    scale, cells = material.scale, []
    benches = {}
    for system in material.sources:
        if system in scale.resolutions:
            continue
        medium = material.medium(system)
        models = points(scale, medium, material.cut(system, medium))
        benches[system] = {name: material.config(system, model) for name, model in models.items()}
        reference = material.steps(system, models[MEDIUM], scale.operations)
        for name, model in models.items():
            affordable = material.steps(system, model, scale.operations)
            for budget, steps in ((OPERATIONS, affordable), (STEPS, reference)):
                dear = (
                    steps * material.step_operations(system, model) > scale.most * scale.operations
                )
                if budget == STEPS and (name == MEDIUM or dear):
                    continue  # the medium patch's two cells are the same one
                for seed in material.seeds:
                    cell = material.cell(system, name, model, steps, budget, seed)
                    cells.append(replace(cell, guide=2 * medium if name in UNIFORM else 0))
    more, others = repeats(material)
    return Design((*cells, *more), {**benches, **others})


def repeats(material: Material[TokensScale]) -> tuple[list[Cell], dict[str, dict[str, RunConfig]]]:
    """The uniform medium patch and Adap_Mix at several resolutions, for the same steps at each."""
    scale, systems = material.scale, material.scale.resolutions
    if not systems:
        return [], {}
    medium = medium_patch(material.probes[systems[0]].grid, scale.tokens // 4)
    wanted = (MEDIUM, repeated_point(scale))
    models = points(scale, medium, scale.tokens // 4)
    steps = material.steps(systems[-1], models[MEDIUM], SHARE * scale.operations)
    cells = [
        material.cell(system, name, models[name], steps, SAME_STEPS, seed)
        for system in systems
        for name in wanted
        for seed in material.seeds
    ]
    return cells, {
        system: {name: material.config(system, models[name]) for name in wanted}
        for system in systems
    }


def repeated_point(scale: TokensScale) -> str:
    """The adaptive point that is repeated at several resolutions: plain Adap_Mix, in the middle of
    the thresholds."""
    plain = [v.name for v in scale.variants if v == Variant("adap_mix", v.value)]
    return plain[len(plain) // 2]
