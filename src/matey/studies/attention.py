"""Does decoupled attention pay? ViT, SViT, AViT and partly decoupled models, uniform patches.

Claim of arXiv:2412.20601: fully decoupled, axial attention needs 2 to 3 times the training time and
the weights of ViT for the same accuracy.

At matched width all schemes have one width; for the comparison at matched error each has several.
Time to an error is read off the validations during a training, as steps, and taken times the step
time, which is measured apart.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from matey.config import ModelConfig, Scheme
from matey.studies.cells import Outcome
from matey.studies.design import OPERATIONS, STEPS, Design, Material, Scale, by_seed
from matey.studies.statistics import Estimate, paired_ratio
from matey.studies.systems import medium_patch
from matey.studies.timing import Timing

REFERENCE = "ViT"
Side = Literal["", "at least ", "at most "]
OPPOSITE: dict[Side, Side] = {"": "", "at least ": "at most ", "at most ": "at least "}
# What the blocks of each kind of model attend with, repeated over its depth.
PATTERNS: dict[str, tuple[Scheme, ...]] = {
    "ViT": ("vit",),
    "SViT": ("svit",),
    "AViT": ("avit",),
    "SViT, joint every 2nd": ("svit", "vit"),
    "AViT, joint every 2nd": ("avit", "vit"),
    "AViT, joint every 4th": ("avit", "avit", "avit", "vit"),
}


def patterns(scale: Scale) -> dict[str, tuple[Scheme, ...]]:
    """The kinds of models of this scale: all that its depth allows, unless it names them."""
    wanted = scale.extra.get("kinds", tuple(PATTERNS))
    return {
        name: kind
        for name, kind in PATTERNS.items()
        if name in wanted and scale.model.depth % len(kind) == 0
    }


def point(kind: str, width: int) -> str:
    """An operating point's name."""
    return f"{kind} {width}"


def trained(scale: Scale) -> tuple[str, ...]:
    """The systems that models are trained on; the others are for timing alone."""
    return tuple(recipe.name for recipe in scale.recipes if not recipe.simulator)


def timed_only(scale: Scale) -> tuple[str, ...]:
    """One system at several resolutions, coarse to fine, to see how cost grows with tokens."""
    return tuple(recipe.name for recipe in scale.recipes if recipe.simulator)


def patch_of(material: Material, system: str) -> int:
    """The patch of a system: the medium one; at several resolutions one for all of them, since
    patches that grow with the grid would leave as many tokens at each."""
    ladder = timed_only(material.scale)
    if system not in ladder:
        return material.medium(system)
    return medium_patch(material.probes[ladder[0]].grid, material.scale.tokens // 4)


def design(material: Material) -> Design:
    """Every kind at every width for equal operations, and at the middle width for equal steps."""
    scale, cells, benches = material.scale, [], {}
    widths: tuple[int, ...] = scale.extra["widths"]
    middle = middle_width(scale)
    for system in material.sources:
        patch = patch_of(material, system)
        own = {
            point(kind, width): model_of(scale, kind, width, patch)
            for kind in patterns(scale)
            for width in (widths if system in trained(scale) else (middle,))
        }
        benches[system] = {name: material.config(system, model) for name, model in own.items()}
        if system not in trained(scale):
            continue
        reference = material.steps(system, own[point(REFERENCE, middle)], scale.operations)
        for name, model in own.items():
            affordable = material.steps(system, model, scale.operations)
            for seed in material.seeds:
                args = (system, name, model)
                cells.append(material.cell(*args, affordable, OPERATIONS, seed))
                if name.endswith(f" {middle}") and name != point(REFERENCE, middle):
                    cells.append(material.cell(*args, reference, STEPS, seed))
    return Design(tuple(cells), benches)


def middle_width(scale: Scale) -> int:
    """The width at which schemes are compared."""
    widths: tuple[int, ...] = scale.extra["widths"]
    return widths[len(widths) // 2]


def model_of(scale: Scale, kind: str, width: int, patch: int) -> ModelConfig:
    """A model of one kind and width, with uniform patches."""
    head = scale.model.embed_dim // scale.model.heads
    return replace(
        scale.model,
        embed_dim=width,
        heads=max(1, width // head),
        scheme=PATTERNS[kind],
        mode="uniform",
        patches=(patch,),
    )


@dataclass(frozen=True)
class Needs:
    """What a kind of model needs over what ViT does, on one system.

    At matched width: `error` after equal operations and `few` after equally many steps,
    `parameters`, `step_time` and `memory`. At matched error: `time` and `weights`; `bounds` are
    which of the two are bounds, since some seeds did not reach the error, or reached it with the
    least that was tried.
    """

    system: str
    kind: str
    error: Estimate
    few: Estimate
    parameters: float
    step_time: float
    memory: float
    time: Estimate
    weights: Estimate
    bounds: Mapping[str, str]


def needs(
    outcomes: Sequence[Outcome], timings: Mapping[str, Timing], scale: Scale, system: str, kind: str
) -> Needs:
    """One kind beside ViT on one system."""
    middle = middle_width(scale)
    ours, base = point(kind, middle), point(REFERENCE, middle)
    # Seed by seed, so that the reference reaches it in each.
    targets = by_seed(outcomes, system, base, OPERATIONS, valid_error)
    times: dict[str, dict[int, Reached]] = {}
    weights: dict[str, dict[int, Reached]] = {}
    for name in (kind, REFERENCE):
        rows = {s: own for s, own in of_kind(outcomes, system, name).items() if s in targets}
        times[name] = {
            seed: first_reached(
                [reached(one.curve, targets[seed], timings[one.point].step_seconds) for one in own]
            )
            for seed, own in rows.items()
        }
        weights[name] = {
            seed: weights_for(targets[seed], [(float(one.parameters), one.valid) for one in own])
            for seed, own in rows.items()
        }
    return Needs(
        system=system,
        kind=kind,
        error=paired_ratio(
            by_seed(outcomes, system, ours, OPERATIONS), by_seed(outcomes, system, base, OPERATIONS)
        ),
        few=paired_ratio(
            by_seed(outcomes, system, ours, STEPS), by_seed(outcomes, system, base, OPERATIONS)
        ),
        parameters=timings[ours].parameters / timings[base].parameters,
        step_time=timings[ours].step_seconds / timings[base].step_seconds,
        memory=timings[ours].step_bytes / timings[base].step_bytes,
        time=ratio_of(times[kind], times[REFERENCE]),
        weights=ratio_of(weights[kind], weights[REFERENCE]),
        bounds={
            "time": bound(times[kind], times[REFERENCE]),
            "weights": bound(weights[kind], weights[REFERENCE]),
        },
    )


def valid_error(one: Outcome) -> float:
    """What errors are matched by."""
    return one.valid


def of_kind(outcomes: Sequence[Outcome], system: str, kind: str) -> dict[int, list[Outcome]]:
    """The models of one kind and all widths that had equal operations, by seed; those that
    diverged left out."""
    found: dict[int, list[Outcome]] = {}
    for one in outcomes:
        mine = (one.system, one.budget, one.point.rpartition(" ")[0]) == (system, OPERATIONS, kind)
        if mine and not one.failed:
            found.setdefault(one.seed, []).append(one)
    return found


@dataclass(frozen=True)
class Reached:
    """What it took to reach an error: at least that much where it was not reached, at most where
    the first look, or the fewest weights, showed it already."""

    value: float
    side: Side = ""


def reached(curve: Sequence[tuple[int, float]], target: float, step_seconds: float) -> Reached:
    """The time until a validation curve first lies at or below an error, by straight lines."""
    for (early, above), (late, below) in pairwise(((0, math.inf), *curve)):
        if below <= target:
            if not math.isfinite(above):
                return Reached(late * step_seconds, "at most ")
            part = (above - target) / (above - below)
            return Reached((early + part * (late - early)) * step_seconds)
    return Reached(curve[-1][0] * step_seconds if curve else math.nan, "at least ")


def first_reached(found: Sequence[Reached]) -> Reached:
    """The quickest of several models, at most that where one may have been quicker than its first
    look told; the longest try where none got there."""
    there = [one for one in found if one.side != "at least "]
    if there:
        best = min(there, key=lambda one: one.value)
        return Reached(best.value, "at most " if any(one.side for one in there) else "")
    return max(found, key=lambda one: one.value)


def weights_for(target: float, curve: Sequence[tuple[float, float]]) -> Reached:
    """The fewest weights with which an error is reached, between two widths by a power law."""
    rows = sorted(curve)
    if rows[0][1] <= target:
        return Reached(rows[0][0], "at most ")
    for (few, worse), (many, better) in pairwise(rows):
        if better <= target < worse:
            if not math.isfinite(worse):
                return Reached(many, "at most ")
            part = math.log(worse / target) / math.log(worse / better)
            return Reached(few * (many / few) ** part)
    return Reached(rows[-1][0], "at least ")


def ratio_of(ours: Mapping[int, Reached], theirs: Mapping[int, Reached]) -> Estimate:
    """How many times as much, paired by seed."""
    return paired_ratio(
        {seed: one.value for seed, one in ours.items()},
        {seed: one.value for seed, one in theirs.items()},
    )


def bound(ours: Mapping[int, Reached], theirs: Mapping[int, Reached]) -> str:
    """What a ratio is where some of either are bounds: one too, or no more than a guess."""
    sides = {one.side for one in ours.values()}
    sides |= {OPPOSITE[one.side] for one in theirs.values()}
    sides -= {""}
    return "about " if len(sides) > 1 else "".join(sides)
