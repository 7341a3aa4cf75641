"""Numbers in plain words: the verdict on a model, and what it cost."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matey.config import RefineConfig
from matey.errors import ConfigError
from matey.report.load import Run
from matey.report.scores import Results, SystemScores

BASELINES = {"unet": "a U-Net", "fno": "an FNO"}
SCHEMES = {"vit": "ViT", "svit": "SViT", "avit": "AViT"}
PACKING = {
    "adap_mix": "coarse and fine in one sequence (adap_mix)",
    "adap_mul": "fine ones in sequences of their own (adap_mul)",
}


@dataclass(frozen=True)
class Tile:
    """One number that matters, with its name and what it is to be compared with."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Verdict:
    """What to think of one model. `grade` is `good`, `mixed`, `bad` or `open`."""

    name: str
    grade: str
    badge: str
    headline: str
    sentences: tuple[str, ...]
    tiles: tuple[Tile, ...]


def judge_results(results: Results, run: Run | None) -> Verdict:
    """The verdict on scored rollouts; `run` is the training of that model, if known."""
    systems = results.systems
    skills = [
        s.main.skill(at)
        for at in (0, -1)
        for s in systems
        if not math.isnan(s.main.persistence[at])
    ]
    grade, badge = grade_of(skills)
    sentences = [model_sentence(results.model)]
    if run is not None:
        sentences.append(training_sentence(run))
    sentences.append(scoring_sentence(systems, trained_systems(run) if run is not None else []))
    sentences += [weak_sentence(systems), diverged_sentence(systems), token_sentence(systems)]
    tiles = [
        Tile(f"{metric_name(systems)}, one step", mean_error(systems), versus(systems, 0)),
        beside_persistence("One step ahead", typical(systems, 0)),
    ]
    steps = common_steps(systems)
    if steps > 1:
        tiles.append(beside_persistence(f"At step {steps}", typical(systems, -1)))
    used, fine = token_means(systems)
    if fine:
        tiles.append(Tile("Tokens per frame", f"{used:,.0f}", f"of {fine:,.0f} if all fine"))
    if "parameters" in results.model:
        tiles.append(Tile("Parameters", amount(results.model["parameters"])))
    if run is not None and run.seconds:
        tiles.append(Tile("Training", duration(run.seconds), f"{run.step:,} steps"))
    return Verdict(
        results.name,
        grade,
        badge,
        headline(systems),
        tuple(s for s in sentences if s),
        tuple(tiles),
    )


def judge_run(run: Run) -> Verdict:
    """The verdict on a run that was not scored: what its last validation says."""
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
    if "parameters" in run.provenance:
        tiles.append(Tile("Parameters", amount(run.provenance["parameters"])))
    if run.seconds:
        tiles.append(Tile("Training", duration(run.seconds), f"{run.step:,} steps"))
    if run.train and math.isfinite(run.train[-1].rate):
        last = run.train[-1]
        tiles.append(Tile("Windows per second", number(last.rate), f"{last.of_peak:.0%} of peak"))
    return Verdict(run.name, grade, badge, text, tuple(s for s in sentences if s), tuple(tiles))


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


def headline(systems: Sequence[SystemScores]) -> str:
    """The result in one line."""
    skill = typical(systems, 0)
    better = sum(system.main.skill(0) > 0 for system in systems)
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


def model_settings(run: Run) -> dict[str, Any]:
    """What a run's config says of its model."""
    model = run.config.get("model")
    return dict(model) if isinstance(model, dict) else {}


def model_sentence(model: dict[str, Any]) -> str:
    """What the model is."""
    if model.get("kind", "matey") != "matey":
        size = f", {amount(model['parameters'])} parameters" if "parameters" in model else ""
        called = BASELINES.get(model["kind"], model["kind"])
        width = f" of width {model['width']}" if model.get("width") else ""
        return f"The model is a baseline: {called}{width}{size}."
    if "scheme" not in model:
        return ""
    size = f"{amount(model['parameters'])} parameters" if "parameters" in model else ""
    shape = f"{model['depth']} blocks of width {model['embed_dim']}" if "depth" in model else ""
    patches = [str(patch) for patch in model.get("patches") or ()]
    cut = ""
    if len(patches) > 1:
        cut = f"patches of {listed(patches)} grid points"
        cut += f", {PACKING[model['mode']]}" if model.get("mode") in PACKING else ""
        cells = refinement(model.get("refine"))
        cut += f", finer {cells}" if cells else ""
    elif patches:
        cut = f"uniform patches of {patches[0]} grid points"
    facts = "; ".join(fact for fact in (size, shape, cut) if fact)
    return f"The model is a {scheme_name(model['scheme'])} transformer" + (
        f": {facts}." if facts else "."
    )


def scheme_name(scheme: Any) -> str:
    """`SViT`; of a model whose blocks differ, `SViT, SViT and ViT`."""
    names = [str(name) for name in (scheme if isinstance(scheme, list | tuple) else [scheme])]
    return listed([SCHEMES.get(name, name) for name in names])


def refinement(settings: Any) -> str:
    """How cells are chosen, in words; nothing where the record does not tell."""
    try:
        return RefineConfig(**settings).describe()
    except (TypeError, ConfigError):
        return ""


def training_sentence(run: Run) -> str:
    """On what a model was trained, how long, and from where."""
    names = trained_systems(run)
    text = f"It has trained for {run.step:,} steps"
    if run.seconds:
        text += f" in {duration(run.seconds)}"
    if names:
        text += f" on {listed(names)}"
    if run.provenance.get("parent"):
        text += f", starting from {run.provenance['parent']}"
    if run.ended:
        return text + "."
    left = run.train[-1].seconds_left if run.train else math.nan
    wait = f": about {duration(left)} were left" if math.isfinite(left) else ""
    return text + f", and had not finished when this page was made{wait}."


def trained_systems(run: Run) -> list[str]:
    """The names of the systems that a run learns from."""
    data = run.config.get("data")
    sources = data.get("systems") if isinstance(data, dict) else None
    names = [str(s["name"]) for s in sources or () if isinstance(s, dict) and s.get("name")]
    return names or sorted({name for point in run.valid for name in point.nrmse})


def scoring_sentence(systems: Sequence[SystemScores], trained: Sequence[str]) -> str:
    """What the scores rest on; systems are named where they are not those of the training."""
    windows, trajectories = sum(s.windows for s in systems), sum(s.trajectories for s in systems)
    if not windows:
        return ""
    names = [s.name for s in systems]
    which = "" if set(names) == set(trained) else f" ({listed(names)})"
    return (
        f"Scored on {plural(windows, 'rollout')} from {plural(trajectories, 'trajectory')} held "
        f"out for the test{which}."
    )


def weak_sentence(systems: Sequence[SystemScores]) -> str:
    """Where the model loses against persistence: said, not left to be found."""
    weak = []
    for system in systems:
        lost = [
            step
            for i, step in enumerate(system.steps)
            if not (system.main.skill(i) > 0 or math.isnan(system.main.persistence[i]))
        ]
        if lost:
            weak.append(f"{system.name} (from step {lost[0]})")
    return f"Persistence is better on {listed(weak)}." if weak else ""


def diverged_sentence(systems: Sequence[SystemScores]) -> str:
    """Which rollouts did not last, and when."""
    found = [
        f"{s.diverged:,} of {plural(s.windows, 'rollout')} on {s.name} (first at step "
        f"{s.first_diverged:g})"
        for s in systems
        if s.diverged
    ]
    return f"Diverged: {listed(found)}." if found else ""


def metric_name(systems: Sequence[SystemScores]) -> str:
    """What the errors are called that systems are judged by."""
    names = {system.metric for system in systems}
    return names.pop() if len(names) == 1 else "Error"


def token_sentence(systems: Sequence[SystemScores]) -> str:
    """What adaptivity saved."""
    used, fine = token_means(systems)
    if not fine or used >= 0.995 * fine:
        return ""
    return (
        f"It spends {used:,.0f} tokens per frame on average, where uniform fine patches would "
        f"need {fine:,.0f}: {1 - used / fine:.0%} fewer."
    )


def token_means(systems: Sequence[SystemScores]) -> tuple[float, float]:
    """Tokens used and tokens of uniform fine patches, both means over systems; 0 if unknown."""
    known = [s.tokens for s in systems if {"mean", "fine"} <= set(s.tokens)]
    return (mean(t["mean"] for t in known), mean(t["fine"] for t in known)) if known else (0.0, 0.0)


def common_steps(systems: Sequence[SystemScores]) -> int:
    """The last step, where all systems have the same one; else 0."""
    last = {system.steps[-1] for system in systems}
    return last.pop() if len(last) == 1 else 0


def typical(systems: Sequence[SystemScores], index: int) -> float:
    """1 - the geometric mean of error / persistence, over systems where that has a meaning.

    -inf where it has none in any of them.
    """
    ratios = [1 - system.main.skill(index) for system in systems if system.main.comparable(index)]
    return 1 - geometric_mean(ratios) if ratios else -math.inf


def versus(systems: Sequence[SystemScores], index: int) -> str:
    """What an error is to be compared with."""
    known = [
        s.main.persistence[index] for s in systems if not math.isnan(s.main.persistence[index])
    ]
    return f"persistence {number(mean(known))}" if known else ""


def mean_error(systems: Sequence[SystemScores]) -> str:
    """The mean error one step ahead, over the systems where it is defined."""
    known = [s.main.error[0] for s in systems if not math.isnan(s.main.persistence[0])]
    return number(mean(known)) if known else "undefined"


def last_ratios(run: Run) -> list[float]:
    """Error over persistence in the last validation, by system."""
    if not run.valid:
        return []
    point = run.valid[-1]
    still = point.persistence
    return [error / still[name] for name, error in point.nrmse.items() if still.get(name, 0) > 0]


def mean(values: Iterable[float]) -> float:
    """NaN where there is none."""
    kept = list(values)
    return sum(kept) / len(kept) if kept else math.nan


def geometric_mean(values: Sequence[float]) -> float:
    """NaN where a value is not finite or none is given."""
    if not values or not all(math.isfinite(value) for value in values):
        return math.nan
    return math.exp(mean(math.log(max(value, 1e-12)) for value in values))


def number(value: float) -> str:
    """Three digits that count; what is not finite has diverged."""
    if not math.isfinite(value):
        return "diverged"
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2e}"
    return f"{value:#.3g}".rstrip(".") if abs(value) < 1000 else f"{value:,.0f}"


def against(error: float, still: float) -> str:
    """An error as a number. It is undefined where persistence's is: the truth is zero there."""
    return "undefined" if math.isnan(still) else number(error)


def change(skill: float) -> str:
    """How much lower or higher an error is: `78% lower`, `3.1 times`."""
    if skill == -math.inf:
        return "no yardstick"
    if not math.isfinite(skill):
        return "diverged"
    if skill <= -1:
        return f"{1 - skill:,.3g} times"
    return f"{abs(skill):.0%} {'lower' if skill >= 0 else 'higher'}"


def beside(skill: float) -> str:
    """`78% lower error than persistence`, `3.1 times the error of persistence`."""
    return f"{change(skill)} {yardstick(skill)}"


def yardstick(skill: float) -> str:
    """What follows a change of the error, for it to be a sentence."""
    return "the error of persistence" if -math.inf < skill <= -1 else "error than persistence"


def beside_persistence(name: str, skill: float) -> Tile:
    """How much lower an error is than persistence's, as a tile."""
    return Tile(name, change(skill), yardstick(skill) if math.isfinite(skill) else "")


def amount(value: Any) -> str:
    """A large count: `1.23 M`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}\u202f{unit}"
    return f"{value:g}"


def duration(seconds: float) -> str:
    """`45 s`, `3 min 50 s`, `2 h 5 min`."""
    if not math.isfinite(seconds):
        return "unknown"
    whole = round(seconds)
    if whole < 60:
        text = f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    elif whole < 3600:
        text = f"{whole // 60} min {whole % 60} s"
    else:
        text = f"{whole // 3600} h {whole % 3600 // 60} min"
    return text.replace(" ", "\u00a0")


def plural(count: int, noun: str) -> str:
    """`1 rollout`, `2 rollouts`, `3 trajectories`."""
    many = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{count:,} {noun if count == 1 else many}"


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
