"""The steps since the last line of the log: losses, counts, and whether all is finite."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from matey.errors import DivergenceError
from matey.fields import Batch
from matey.train.parallel.distributed import Team
from matey.train.run_folder import Record


@dataclass
class StepLog:
    """Losses by system and counts of the steps since the last line of the log."""

    seconds: float = 0.0
    windows: int = 0
    tokens: int = 0
    operations: int = 0
    losses: dict[str, list[torch.Tensor]] = field(default_factory=dict)

    def add(self, batch: Batch, tokens: int, loss: torch.Tensor, operations: int) -> None:
        """Count one batch, of so many tokens per frame in all its steps, without waiting for the
        device."""
        samples, times = batch.values.shape[:2]
        self.windows += samples
        self.tokens += tokens * times
        self.operations += operations
        self.losses.setdefault(batch.spec.name, []).append(loss.detach())

    def total(self, team: Team) -> "StepLog":
        """The log of all processes, which had the same systems, each as often."""
        means = [torch.stack(group).mean() for group in self.losses.values()]
        counts = torch.tensor([self.windows, self.tokens, self.operations], device=team.device)
        mean = team.total(torch.stack(means)) / team.data_ranks
        losses = {name: [loss] for name, loss in zip(self.losses, mean, strict=True)}
        windows, tokens, operations = team.total(counts).tolist()
        return StepLog(self.seconds, windows, tokens, operations, losses)

    @property
    def work(self) -> tuple[float, int, int, int]:
        """Seconds of steps, and the windows, tokens and operations in them."""
        return self.seconds, self.windows, self.tokens, self.operations

    def record(self) -> Record:
        """The counts, and the mean loss of each system."""
        losses = {name: float(torch.stack(group).mean()) for name, group in self.losses.items()}
        return {
            "loss": sum(losses.values()) / len(losses),
            "losses": losses,
            "windows": self.windows,
            "tokens": self.tokens,
        }


@dataclass(frozen=True)
class Loss:
    """The loss of one batch, and the system and files of the batch."""

    value: torch.Tensor
    system: str
    sources: tuple[str, ...]

    def where_from(self) -> str:
        """Name the system and files."""
        return f"system {self.system!r}, from {'; '.join(self.sources)}"


def check_finite(team: Team, step: int, losses: Sequence[Loss], norm: torch.Tensor) -> None:
    """Raise DivergenceError, naming the batch, in all processes if a loss of the step or the norm
    of its gradient is not finite in one."""
    values = torch.stack([*(loss.value for loss in losses), norm.detach()])
    if not team.most(not bool(values.isfinite().all())):
        return
    wrong = next((loss for loss in losses if not bool(loss.value.isfinite())), None)
    first = wrong and f"The loss is {float(wrong.value)} at step {step + 1}, {wrong.where_from()}"
    reason = team.agree(first or "") or team.agree(
        f"The gradient is {float(norm)} at step {step + 1}, "
        f"{', and '.join(loss.where_from() for loss in losses)}"
    )
    raise DivergenceError(f"{reason}. Nothing was updated. Lower optim.lr, or look at the data.")
