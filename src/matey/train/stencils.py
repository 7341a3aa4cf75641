"""Stencils fitted before training: what the neighbours of a point say in closed form."""

from collections.abc import Mapping

from matey.data.windows import Windows
from matey.nn.model import Matey
from matey.nn.surrogate import Surrogate

WINDOWS = 96  # that a stencil is fitted to
AT_ONCE = 8


def fit_stencils(model: Surrogate, windows: Mapping[str, Windows], seed: int) -> None:
    """Fit the stencil of every system that has none yet to its training windows."""
    if not isinstance(model, Matey) or not model.config.stencil:
        return
    for group in windows.values():
        weight = model.stencils.weights[group.spec.name]
        if len(group) and not bool(weight.any()):
            chosen = group.scattered(WINDOWS)
            batches = (
                group.batch(chosen[first : first + AT_ONCE])
                for first in range(0, len(chosen), AT_ONCE)
            )
            model.stencils.fit(group.spec, batches, seed)
