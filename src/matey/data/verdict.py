"""Whether training would take the trajectories of a system, divided as it would divide them."""

from matey.config import SplitConfig, WindowConfig
from matey.data.files import shown
from matey.data.layout import SPLITS
from matey.data.reader import Fields
from matey.data.systems import split_trajectories
from matey.data.windows import is_uniform
from matey.errors import DataError

Parts = dict[str, list[int]]
SHARE = {"train": "train on", "valid": "validate on"}


def divided(fields: Fields, split: SplitConfig, problems: list[str]) -> Parts:
    """Which trajectories training would take for what; nothing where it refuses to divide them,
    which is one of the `problems` then."""
    try:
        return split_trajectories(fields, split)
    except DataError as error:
        problems.append(str(error))
        return {name: [] for name in SPLITS}


def is_even(fields: Fields) -> bool:
    """Whether the time steps of all trajectories count as equal."""
    return all(is_uniform(t.times.diff() / fields.spec.dt) for t in fields.trajectories)


def without_training(fields: Fields, parts: Parts) -> list[str]:
    """That nothing is left to train on, if so."""
    if parts["train"] or not any(parts.values()):
        return []
    there = ", ".join(f"{len(parts[split])} {split}" for split in SPLITS if parts[split])
    return [
        f"System {shown(fields.spec.name)} has no trajectory left to train on: {there}. Give "
        "files for training as well."
    ]


def too_short(fields: Fields, parts: Parts, windows: WindowConfig) -> tuple[list[str], list[str]]:
    """Problems and notices of trajectories without one window: training takes some that are short,
    but not where all are that it trains on, or all that it validates on."""
    needed = (windows.history - 1 + windows.min_lead) * windows.stride
    short = {i for i, known in enumerate(fields.trajectories) if len(known.times) <= needed}
    name, few = shown(fields.spec.name), f"too few frames for windows.history = {windows.history}"
    problems = [
        f"All {len(parts[split])} trajectories of {name} to {purpose} have {few} and a target. "
        "Lower it (--history), or give longer ones."
        for split, purpose in SHARE.items()
        if parts[split] and short.issuperset(parts[split])
    ]
    if not short or problems:
        return problems, []
    return [], [f"{len(short)} of {len(fields)} trajectories of {name} have {few} and a target."]
