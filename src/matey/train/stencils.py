"""What is measured before training: stencils, and how large fields usually are."""

from collections.abc import Mapping

from matey.data.windows import Windows
from matey.nn.model import Matey
from matey.nn.surrogate import Surrogate

WINDOWS = 96  # of a system that are looked at
AT_ONCE = 8


def measure_systems(model: Surrogate, windows: Mapping[str, Windows], seed: int) -> None:
    """Fit the stencil of every system that has none yet to its training windows, and measure
    the sizes of its fields."""
    if not isinstance(model, Matey):
        return
    for group in windows.values():
        spec = group.spec
        fits = model.config.stencil and not bool(model.stencils.weights[spec.name].any())
        measures = model.config.local and not bool(model.usual.logs[spec.name].any())
        if len(group) and (fits or measures):
            chosen = group.scattered(WINDOWS)
            starts = range(0, len(chosen), AT_ONCE)
            batches = [group.batch(chosen[first : first + AT_ONCE]) for first in starts]
            if measures:
                model.usual.measure(spec, batches)
            if fits:
                model.stencils.fit(spec, batches, seed)
