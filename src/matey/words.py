"""Numbers in plain words."""

import math
from collections.abc import Iterable, Sequence
from typing import Any


def mean(values: Iterable[float]) -> float:
    """The mean; NaN of no values."""
    kept = list(values)
    return sum(kept) / len(kept) if kept else math.nan


def geometric_mean(values: Sequence[float]) -> float:
    """The geometric mean; NaN of no values or where one is not finite."""
    if not values or not all(math.isfinite(value) for value in values):
        return math.nan
    return math.exp(mean(math.log(max(value, 1e-12)) for value in values))


def number(value: float) -> str:
    """Three significant digits; `diverged` where it is not finite."""
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


def ratio(value: float) -> str:
    """How many times: `1.03`; a dash where it is undefined."""
    return f"{value:.2f}" if math.isfinite(value) else "–"


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


def patch_size(patch: Any) -> str:
    """`16`, or `8 × 16` of a size for each axis."""
    return " × ".join(map(str, patch)) if isinstance(patch, list | tuple) else str(patch)


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
