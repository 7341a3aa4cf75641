"""Where runs and scores come from: what a reader needs to make them again."""

from collections.abc import Iterator, Mapping
from typing import Any

from matey.report.load import Results, Run
from matey.report.model import refinement
from matey.words import duration, plural


def provenance(run: Run) -> Iterator[tuple[str, str]]:
    """The provenance of a run, without keys that this version does not know."""
    record = run.provenance
    yield from told(record)
    if isinstance(split := record.get("split"), dict):
        yield "Trajectories", "; ".join(f"{name}: {parts(value)}" for name, value in split.items())


def scoring(result: Results) -> Iterator[tuple[str, str]]:
    """The provenance of scores: protocol, data and rollouts."""
    yield "Protocol", result.protocol
    yield from told(result.scores.provenance)
    if result.scores.model.get("seed") is not None:
        yield "Seed", str(result.scores.model["seed"])
    if cells := refinement(result.scores.model.get("refine")):
        yield "Finer cells", cells
    for system in result.systems:
        rollouts = plural(system.windows, "rollout")
        yield system.name, f"{rollouts} of {system.steps[-1]} dt, from {system.tested_on}"
    if result.scores.seconds == result.scores.seconds:
        yield "Took", duration(result.scores.seconds)


def told(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The entries of a record of provenance, by name."""
    for key, name in (
        ("command", "Command"),
        ("started", "Started"),
        ("git_commit", "Commit"),
        ("parent", "Starts from"),
        ("seed", "Seed"),
    ):
        if record.get(key) not in (None, ""):
            yield name, str(record[key])
    for key, name in (("versions", "Versions"), ("data_fingerprint", "Data fingerprint")):
        value = record.get(key)
        if isinstance(value, dict):
            yield name, ", ".join(f"{k} {v}" for k, v in value.items())
        elif value:
            yield name, str(value)


def parts(split: Any) -> str:
    """The number of trajectories in each part of a split."""
    if not isinstance(split, dict):
        return "unknown"
    counts = {name: len(names) for name, names in split.items() if isinstance(names, list)}
    return ", ".join(f"{count} {name}" for name, count in counts.items())
