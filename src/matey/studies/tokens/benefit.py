"""What the data say of adaptive tokens before any training, and whether that comes true.

Axes: B samples, T times, C variables, (Z, Y, X) grid points.
"""

import math
from collections.abc import Mapping, Sequence
from copy import copy

import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import RefineConfig
from matey.cost.benefit import Refined, change_in_cells, refined_by
from matey.cost.forecast import together, tokens_of
from matey.fields import Batch
from matey.nn.make import outline_model
from matey.nn.transformer import Matey
from matey.records.study import Claim, Outcome, Plot, Spot, SpotGroup, TextTable
from matey.studies.curves import decays_of
from matey.studies.design import OPERATIONS, STEPS, Material, error_ratio, mean_of
from matey.studies.page import brief, decide, ranged
from matey.studies.statistics import Estimate, estimate, rank_correlation
from matey.studies.tokens.design import COARSE, MEDIUM, UNIFORM, TokensScale, points

THRESHOLDS = (0.02, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)
BULKS = (0.5, 0.8, 0.9, 0.95)
CRITERIA = ("variance", "change", "gradient")
SAVED, HELD = 0.9, 0.5  # shares of the medium tokens, and of the increments
FEWEST = 4  # points that a rank correlation takes
GOOD = 0.5  # rank correlation from which on a prediction counts as good

Benefits = Mapping[str, Mapping[str, Refined]]  # by system, then by operating point


def windows_of(material: Material[TokensScale], system: str) -> Batch | None:
    """The training windows that a study was planned with, as one batch; None without files."""
    probe = material.probes.get(system)
    batches = [one for one in probe.inputs if isinstance(one, Batch)] if probe else []
    return together(batches) if batches else None


def outline_of(material: Material[TokensScale], system: str, point: str) -> Matey:
    """The outline of the model of an operating point."""
    medium = material.medium(system)
    model = points(material.scale, medium, material.cut(system, medium))[point]
    spec, history = material.probes[system].spec, material.scale.history
    outline = outline_model(model, [spec], history)
    assert isinstance(outline, Matey)
    return outline


def come_to(model: Matey, every: Batch, rule: RefineConfig | None = None) -> Refined:
    """What a model's rule of refinement, or another, comes to on some windows."""
    model = copy(model)
    model.refine = rule or model.refine
    change = change_in_cells(every, model.patches(every.spec.ndim)[0])
    return refined_by(model.plan_inputs(every), tokens_of(model, every), change)


def benefits(
    material: Material[TokensScale], systems: Sequence[str], names: Sequence[str]
) -> dict[str, dict[str, Refined]]:
    """What the rule of each adaptive point comes to on each system whose files are there."""
    found = {}
    for system in systems:
        if (every := windows_of(material, system)) is not None:
            found[system] = {
                name: come_to(outline_of(material, system, name), every) for name in names
            }
    return found


def benefit_claim(outcomes: Sequence[Outcome], found: Benefits) -> Claim:
    """Does the share of the increments that refined cells hold predict what a point gains?"""
    each, sentences, groups = [], [], []
    for system, by_point in found.items():
        told = {name: one for name, one in by_point.items() if one.holds is not None}
        ratios = {name: ratio_of(outcomes, system, name) for name in told}
        gains = {name: ratio.mean for name, ratio in ratios.items()}
        names = [name for name, gain in gains.items() if math.isfinite(gain)]
        places = [(name, told[name].holds or 0.0, ratios[name]) for name in names]
        spots = [Spot(f"{system}: {n}", x, y.mean, y.low, y.high) for n, x, y in places]
        groups.append(SpotGroup(system, tuple(spots)))
        if len(names) < FEWEST:
            sentences.append(f"{system}: {len(names)} adaptive points are too few to rank.")
            continue
        holds = [told[name].holds or 0.0 for name in names]
        found_here = rank_correlation(holds, [gains[name] for name in names])
        each.append(found_here)
        sentences.append(f"{system}: {brief(found_here, 2)} over {len(names)} adaptive points.")
    overall = estimate(each)
    return Claim(
        "The share of the increments that refined cells hold predicts what an adaptive point gains "
        f"on the coarse patch: a rank correlation of {GOOD:g} or more",
        decide(overall.low >= GOOD, overall.high < GOOD),
        (
            "The share is counted on training windows without a model; the gain is the error of "
            "the uniform coarse patch over that of the point, after equally many steps. Mean over "
            f"systems {ranged(overall, 2)}.",
            *sentences,
        ),
        Plot(
            "Predicted and measured benefit of every adaptive point: the claim is that they rise",
            "share of the increments that refined cells hold",
            "coarse patch's error over the point's",
            tuple(groups),
            goal_y=1,
        ),
    )


def ratio_of(outcomes: Sequence[Outcome], system: str, point: str) -> Estimate:
    """The error of the coarse patch over that of a point, after equally many steps."""
    return error_ratio(outcomes, system, (COARSE, STEPS), (point, STEPS))


def benefit_table(outcomes: Sequence[Outcome], found: Benefits) -> TextTable:
    """What was predicted of each adaptive point, and what came of it."""
    return TextTable(
        "Predicted and measured benefit",
        "Cells: the share of the coarse cells that is refined; hold: their share of the squared "
        "increment over the next step, on training windows. Then the error of the coarse patch "
        "over the point's after equally many steps, and the point's over the medium patch's after "
        "equal operations.",
        ("point", "tokens", "cells", "hold", "gain on coarse", "over medium"),
        tuple(
            (
                f"{system}: {name}",
                brief(one.tokens),
                brief(one.cells),
                "–" if one.holds is None else brief(one.holds),
                ranged(ratio_of(outcomes, system, name)),
                ranged(error_ratio(outcomes, system, (name, OPERATIONS), (MEDIUM, OPERATIONS))),
            )
            for system, by_point in found.items()
            for name, one in by_point.items()
        ),
    )


def rule_table(material: Material[TokensScale], systems: Sequence[str]) -> TextTable:
    """What each rule of each criterion comes to, and where it is set wrong: no training."""
    rows = []
    plain = [v for v in material.scale.variants if v.mode == "adap_mix" and not v.finer]
    mixed = plain[0].name if plain else ""
    for system in systems if mixed else ():
        every = windows_of(material, system)
        if every is None:
            continue
        outline = outline_of(material, system, mixed)
        whole = material.cut(system, material.medium(system))
        for name in CRITERIA:
            for text, rule in rules_of(name):
                one = come_to(outline, every, rule)
                rows.append((f"{system}: {name}, {text}", *described(one, whole)))
    return TextTable(
        "Thresholds and bulks, before any training",
        "Of Adap_Mix from the coarse to the medium patch. Tokens over those of the uniform medium "
        f"patch: from {SAVED:g} on nothing is saved. Hold: the share of the squared increment in "
        f"the refined cells: below {HELD:g} most of what changes is left coarse. Both are signs of "
        "a rule that does not suit the system.",
        ("rule", "tokens over medium", "cells", "hold", "sign"),
        tuple(rows),
    )


def rules_of(criterion: str) -> list[tuple[str, RefineConfig]]:
    """Rules of a criterion, by name."""
    thresholds = [(f"threshold {t:g}", RefineConfig(criterion, t)) for t in THRESHOLDS]
    return [*thresholds, *((f"bulk {b:g}", RefineConfig(criterion, bulk=b)) for b in BULKS)]


def described(one: Refined, whole: int) -> tuple[str, str, str, str]:
    """A rule's tokens, cells, share held, and what is wrong with it."""
    share, holds = one.tokens / whole, one.holds
    sign = "saves nothing" if share >= SAVED else ""
    if not sign and holds is not None and holds < HELD:
        sign = "leaves change coarse"
    return brief(share), brief(one.cells), "–" if holds is None else brief(holds), sign


def smallest_structure(values: Float[Tensor, "B T C Z Y X"]) -> float:
    """The thickness of the thinnest front in grid points: the range of a variable over its steepest
    step between neighbours, in the last frame; of the variables the least, over samples the median.
    """
    last = values[:, -1].double()
    span = last.amax(dim=(2, 3, 4)) - last.amin(dim=(2, 3, 4))
    steepest = torch.zeros_like(span)
    for axis in (2, 3, 4):
        if last.shape[axis] > 1:
            steepest = steepest.maximum(last.diff(dim=axis).abs().amax(dim=(2, 3, 4)))
    thickness = torch.where(steepest > 0, span / steepest, torch.inf).amin(dim=1)
    return float(thickness.median())


def patch_table(
    material: Material[TokensScale], outcomes: Sequence[Outcome], systems: Sequence[str]
) -> TextTable:
    """Error against the patch, with the smallest structure beside it."""
    rows = []
    for system in systems:
        every = windows_of(material, system)
        if every is None:
            continue
        thin, medium = smallest_structure(every.values), material.medium(system)
        sizes = dict(zip(UNIFORM, (2 * medium, medium, medium // 2), strict=True))
        for name, size in sizes.items():
            left = estimate(one.open for one in decays_of(outcomes, system, name))
            rows.append(
                (
                    f"{system}: {size} points",
                    brief(thin),
                    brief(size / thin),
                    ranged(mean_of(outcomes, system, name)),
                    ranged(error_ratio(outcomes, system, (name, OPERATIONS), (MEDIUM, OPERATIONS))),
                    ranged(left, 2),
                )
            )
    return TextTable(
        "How small a patch pays",
        "Structure: the thickness of the thinnest front in points, the range of a variable over "
        "its steepest step. Error after equal operations, and over the medium patch's; open: the "
        "share of the error that the fit of three trainings has above its floor, if there are "
        "three: near 1 the patch was trained too briefly to tell.",
        ("patch", "structure", "patch over it", "NRMSE one step ahead", "over medium", "open"),
        tuple(rows),
    )
