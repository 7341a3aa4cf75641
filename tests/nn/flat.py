"""The resident memory of a long rollout, measured in a process of its own.

python -m tests.nn.flat STEPS POINTS [keep]     # prints peaks in bytes, one for each quarter
"""

import sys
from pathlib import Path

import torch

from matey.fields import PERIODIC_SIDES, Field, Grid
from tests.cost.resident import resident
from tests.nn.helpers import system, tiny_model


def field_of(points: int) -> Field:
    """Two frames of waves that differ from place to place."""
    place = torch.linspace(0, 6.28, points + 1)[:-1]
    wave = (place[:, None] ** 2).sin() * place.cos()
    values = torch.stack([wave, wave.roll(1, 1), wave.roll(1, 0), wave.roll(2, 1)])
    return Field(
        values.view(2, 2, 1, points, points),
        torch.tensor([0.0, 0.5]),
        Grid(("y", "x"), (1, points, points), (0.0,) * 3, (1.0,) * 3),
        (PERIODIC_SIDES,) * 3,
        {"nu": 0.1},
        system(),
    )


def peaks(steps: int, points: int, keep: bool) -> list[int]:
    """The highest resident memory in each quarter of a rollout; with `keep` its frames stay."""
    model = tiny_model(system(), patches=(32, 8))
    kept, found = [], []
    for step, frame in enumerate(model.rollout_steps(field_of(points), steps)):
        if keep:
            kept.append(frame)
        if step % (steps // 4) == 0:
            Path("/proc/self/clear_refs").write_text("5")  # forget the highest so far
        if (step + 1) % (steps // 4) == 0:
            found.append(resident("VmHWM"))
    return found


if __name__ == "__main__":
    torch.manual_seed(0)
    print(*peaks(int(sys.argv[1]), int(sys.argv[2]), keep="keep" in sys.argv))
