"""The verdict on a model: how its errors compare with persistence, and what it cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matey.records.scores import Curve, SystemScore
from matey.report.load import Results, Run
from matey.report.model import model_sentence, model_settings, trained_systems, training_sentence
from matey.words import (
    amount,
    beside,
    change,
    duration,
    geometric_mean,
    listed,
    mean,
    number,
    plural,
    yardstick,
)


@dataclass(frozen=True)
class Tile:
    """One number with its name, and a note to compare it with."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Verdict:
    """The verdict on one model. `grade` is `good`, `mixed`, `bad` or `open`."""

    name: str
    grade: str
    badge: str
    headline: str
    sentences: tuple[str, ...]
    tiles: tuple[Tile, ...]


def judge_results(results: Results, run: Run | None) -> Verdict:
    """The verdict on scored rollouts; `run` is the training of that model, if known."""
    systems = results.systems
    skills = [curve.skill[at] for at in (0, -1) for curve in defined(systems, at)]
    grade, badge = grade_of(skills)
    if any(system.trained_on for system in systems):
        grade, badge = "open", "scored on training data"
    sentences = [
        model_sentence(results.scores.model),
        training_sentence(run) if run else "",
        scoring_sentence(systems, trained_systems(run) if run else []),
        weak_sentence(systems),
        stencil_sentence(systems),
        diverged_sentence(systems),
        outside_sentence(systems),
        token_sentence(systems),
    ]
    tiles = [
        error_tile(systems),
        beside_persistence("One step ahead", typical(systems, 0)),
    ]
    steps = common_steps(systems)
    if steps > 1:
        tiles.append(beside_persistence(f"At step {steps}", typical(systems, -1)))
    used, fine = token_means(systems)
    if fine:
        tiles.append(Tile("Tokens per frame", f"{used:,.0f}", f"of {fine:,.0f} if all fine"))
    tiles += size_tiles(results.scores.model, run)
    text = tuple(s for s in sentences if s)
    return Verdict(results.name, grade, badge, headline(systems), text, tuple(tiles))


def judge_run(run: Run) -> Verdict:
    """The verdict on a run without scores, from its last validation."""
    sentences = [model_sentence({**model_settings(run), **run.provenance}), training_sentence(run)]
    tiles = []
    if run.train:
        tiles.append(
            Tile("Training loss", number(run.train[-1].loss), f"first {number(run.train[0].loss)}")
        )
    ratios = last_ratios(run)
    text, grade, badge = "Trained, not yet scored", "open", "not scored"
    if ratios:
        grade, badge = grade_of([1 - ratio for ratio in ratios])
        lower = 1 - geometric_mean(ratios)
        text = f"In its last validation: {beside(lower)}"
        sentences.append(
            "For a verdict on trajectories that never guided training, run `matey evaluate`."
        )
        tiles.append(beside_persistence("In validation", lower))
    tiles += size_tiles(run.provenance, run)
    if run.train and math.isfinite(rate := run.train[-1].windows_per_second):
        of_peak = f"{run.train[-1].of_peak:.0%} of peak"
        tiles.append(Tile("Windows per second", number(rate), of_peak))
    return Verdict(run.name, grade, badge, text, tuple(s for s in sentences if s), tuple(tiles))


def size_tiles(model: Mapping[str, Any], run: Run | None) -> list[Tile]:
    """How many weights a model has, and how long it was trained, as far as is known."""
    tiles = []
    if "parameters" in model:
        tiles.append(Tile("Parameters", amount(model["parameters"])))
    if run is not None and run.seconds:
        tiles.append(Tile("Training", duration(run.seconds), f"{run.step:,} steps"))
    return tiles


def grade_of(skills: Sequence[float]) -> tuple[str, str]:
    """Grade and badge: does the error stay below persistence everywhere?"""
    better = [skill > 0 for skill in skills]  # NaN, a rollout that diverged, is not better
    if not better:
        return "open", "nothing to compare"
    if all(better):
        return "good", "better than persistence"
    if any(better):
        return "mixed", "partly better than persistence"
    return "bad", "not better than persistence"


def headline(systems: Sequence[SystemScore]) -> str:
    """The result in one line."""
    skill = typical(systems, 0)
    better = sum(system.main.skill[0] > 0 for system in systems)
    late = common_steps(systems)
    if not systems:
        return "No system was scored"
    if skill == -math.inf:
        return "Persistence is exact or undefined: nothing to compare with"
    if len(systems) > 1 and not better:
        return f"Persistence is better one step ahead on each of {len(systems)} systems"
    if len(systems) > 1 and better < len(systems):
        return f"Better than persistence one step ahead on {better} of {len(systems)} systems"
    text = f"{beside(skill)} one step ahead"
    if late > 1:
        text += f", {change(typical(systems, -1))} at step {late}"
    return text[0].upper() + text[1:]


def scoring_sentence(systems: Sequence[SystemScore], trained: Sequence[str]) -> str:
    """Rollouts and trajectories behind the scores; names the systems if training had others."""
    windows, trajectories = sum(s.windows for s in systems), sum(s.trajectories for s in systems)
    if not windows:
        return ""
    names = [s.name for s in systems]
    which = "" if set(names) == set(trained) else f" ({listed(names)})"
    scored = f"Scored on {plural(windows, 'rollout')} from {plural(trajectories, 'trajectory')}"
    if seen := sum(s.trained_on or 0 for s in systems):
        return f"{scored}{which}; the model was trained on {seen:,} of them: this is no test."
    return f"{scored} held out for the test{which}."


def weak_sentence(systems: Sequence[SystemScore]) -> str:
    """The systems on which the model loses against persistence."""
    weak = []
    for system in systems:
        lost = [
            step
            for i, step in enumerate(system.steps)
            if not (system.main.skill[i] > 0 or math.isnan(system.main.persistence[i]))
        ]
        if lost:
            weak.append(f"{system.name} (from step {lost[0]})")
    return f"Persistence is better on {listed(weak)}." if weak else ""


def stencil_sentence(systems: Sequence[SystemScore]) -> str:
    """The systems on which the model loses against the least-squares stencil, one step ahead or at
    the end."""
    compared, beaten = [system.main for system in systems if system.main.stencil], []
    for system in systems:
        curve, leads = system.main, []
        for at, when in ((0, "one step ahead"), (-1, "at the end")):
            fit = curve.stencil[at] if curve.stencil else math.nan
            if math.isfinite(fit) and not curve.error[at] < fit:  # NaN: a rollout that diverged
                leads.append(when)
        if leads:
            beaten.append(f"{system.name} ({' and '.join(leads)})")
    if beaten:
        return f"A stencil fitted by least squares is better on {listed(beaten)}."
    return "It is better than a stencil fitted by least squares." if compared else ""


def diverged_sentence(systems: Sequence[SystemScore]) -> str:
    """The rollouts that diverged, and when."""
    diverged = [
        f"{s.divergence.rollouts:,} of {plural(s.windows, 'rollout')} on {s.name} (first at step "
        f"{s.divergence.first:g})"
        for s in systems
        if s.divergence.rollouts
    ]
    return f"Diverged: {listed(diverged)}." if diverged else ""


def outside_sentence(systems: Sequence[SystemScore]) -> str:
    """The systems whose inputs lie outside of what the model was trained on."""
    lines = [f"{s.name} ({plural(len(s.outside), 'quantity')})" for s in systems if s.outside]
    return f"Inputs lie outside the ranges of training on {listed(lines)}." if lines else ""


def metric_name(systems: Sequence[SystemScore], several: str = "Error") -> str:
    """The primary metric of the systems; `several` where they have different ones."""
    names = {system.metric for system in systems}
    return names.pop() if len(names) == 1 else several


def token_sentence(systems: Sequence[SystemScore]) -> str:
    """The tokens that adaptivity saved."""
    used, fine = token_means(systems)
    if not fine or used >= 0.995 * fine:
        return ""
    return (
        f"It spends {used:,.0f} tokens per frame on average, where uniform fine patches would "
        f"need {fine:,.0f}: {1 - used / fine:.0%} fewer."
    )


def token_means(systems: Sequence[SystemScore]) -> tuple[float, float]:
    """Tokens used and tokens of uniform fine patches, both means over systems; 0 if unknown."""
    counts = [s.tokens for s in systems if {"mean", "fine"} <= set(s.tokens)]
    if not counts:
        return 0.0, 0.0
    return mean(tokens["mean"] for tokens in counts), mean(tokens["fine"] for tokens in counts)


def common_steps(systems: Sequence[SystemScore]) -> int:
    """The last step, if it is the same for all systems; else 0."""
    last = {system.steps[-1] for system in systems}
    return last.pop() if len(last) == 1 else 0


def typical(systems: Sequence[SystemScore], index: int) -> float:
    """1 - the geometric mean of error / persistence, over systems where persistence is above 0.

    -inf where it has none in any of them.
    """
    ratios = [1 - system.main.skill[index] for system in systems if system.main.comparable(index)]
    return 1 - geometric_mean(ratios) if ratios else -math.inf


def defined(systems: Sequence[SystemScore], index: int) -> list[Curve]:
    """The errors of the systems whose error is defined there."""
    return [s.main for s in systems if not math.isnan(s.main.persistence[index])]


def error_tile(systems: Sequence[SystemScore]) -> Tile:
    """The mean error one step ahead beside persistence's, over the systems where it is defined."""
    curves, name = defined(systems, 0), f"{metric_name(systems)}, one step"
    if not curves:
        return Tile(name, "undefined")
    error, still = (mean(c.error[0] for c in curves), mean(c.persistence[0] for c in curves))
    return Tile(name, number(error), f"persistence {number(still)}")


def last_ratios(run: Run) -> list[float]:
    """Error over persistence in the last validation, by system."""
    if not run.valid:
        return []
    errors, still = run.valid[-1].nrmse, run.valid[-1].persistence
    return [error / still[name] for name, error in errors.items() if still.get(name, 0) > 0]


def beside_persistence(name: str, skill: float) -> Tile:
    """How much lower an error is than persistence's, as a tile."""
    return Tile(name, change(skill), yardstick(skill) if math.isfinite(skill) else "")
