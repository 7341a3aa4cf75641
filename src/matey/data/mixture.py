"""The mixture of systems: which windows make which batch, as a pure function of (seed, step).

One system and one grid shape per batch; systems take turns, so that they interleave under
gradient accumulation. Any batch can be made at any time, by any process: that is what lets
a run resume exactly.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from matey.config import MixtureConfig
from matey.data.symmetry import apply, draw_symmetry
from matey.data.windows import GOLDEN, Choice, Windows
from matey.errors import ConfigError, DataError, MateyError
from matey.fields import Batch

FIRSTS = 8  # one validation window in so many, at most, is the first of its trajectory by choice


@dataclass(frozen=True)
class Group:
    """Windows of one grid shape, of which `batch` make a batch of each process."""

    members: np.ndarray
    batch: int


class Mixture(Dataset[Batch]):
    """An endless sequence of batches: `mixture[i]` is the i-th, whoever asks and when.

    The processes of a run, `ranks` of them, hold the same system in their i-th batches, and
    share out one larger batch of different windows. `tokens` is how many tokens a window on
    a grid of so many points (z, y, x) has at most; `config.tokens_per_batch` needs it.
    Raises DataError where no system has a window, ConfigError where one window alone has
    more tokens than a batch may. From the batch number `end` on, rollouts are those of the end of a
    run.
    """

    def __init__(
        self,
        windows: Mapping[str, Windows],
        batch: int,
        seed: int,
        config: MixtureConfig | None = None,
        *,
        rank: int = 0,
        ranks: int = 1,
        tokens: Callable[[tuple[int, int, int]], int] | None = None,
        end: int | None = None,
    ) -> None:
        self.windows = {name: windows[name] for name in sorted(windows) if len(windows[name])}
        if not self.windows:
            raise DataError(f"No window to train on in any of the systems {sorted(windows)}.")
        assert 0 <= rank < ranks
        self.seed, self.rank, self.ranks, self.end = seed, rank, ranks, end
        config = config or MixtureConfig()
        self.weights = system_weights({k: len(group) for k, group in self.windows.items()}, config)
        self._groups: dict[str, list[Group]] = {}
        for name, group in self.windows.items():
            self._groups[name] = []
            for shape, members in group.groups.items():
                size = config.batch.get(name, batch)
                if config.tokens_per_batch is not None:
                    assert tokens is not None
                    size = fitting(tokens(shape), config.tokens_per_batch, name, shape)
                self._groups[name].append(Group(members, size))

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng([self.seed, 1, index])
        name = self.system(index)
        windows, groups = self.windows[name], self._groups[name]
        sizes = np.array([len(group.members) for group in groups])
        group = groups[rng.choice(len(groups), p=sizes / sizes.sum())]
        drawn = group.members[draw(rng, len(group.members), group.batch * self.ranks)].tolist()
        pushes, config = 0, windows.config
        most = config.pushes(at_end=self.end is not None and index >= self.end)
        if most:
            # Fewer where a window stands at the end of its trajectory.
            room = min(windows.after(i) for i in drawn) - 1
            pushes = min(int(rng.integers(most + 1)), room)
        longest = [min(windows.after(i) - pushes, config.max_lead) for i in drawn]
        leads = [int(rng.integers(config.min_lead, lead + 1)) for lead in longest]
        trajectories = [windows.fields.trajectories[windows.place(i)[0]] for i in drawn]
        symmetries = [draw_symmetry(trajectory, config, rng) for trajectory in trajectories]
        # Everything is drawn for all processes; each reads its own share.
        corners = [(0, 0, 0)] * len(drawn)
        if config.crop is not None:
            corners = [windows.corner(i, rng.random(3).tolist()) for i in drawn]
        share = slice(self.rank * group.batch, (self.rank + 1) * group.batch)
        choices = [
            Choice(i, lead, pushes, corner)
            for i, lead, corner in zip(drawn[share], leads[share], corners[share], strict=True)
        ]
        return apply(symmetries[share], windows.batch(choices))

    def system(self, index: int) -> str:
        """The system of a batch.

        In a round of as many batches as there are systems each has its share, rounded up or
        down so that it is exact on average, in an order of its own: systems interleave.
        """
        names = list(self.windows)
        turn, place = divmod(index, len(names))
        rng = np.random.default_rng([self.seed, 0, turn])
        place = rng.permutation(len(names))[place]
        edges = np.cumsum(self.weights) * len(names)
        drawn = np.searchsorted(edges, place + rng.random(), side="right")
        return names[min(int(drawn), len(names) - 1)]

    def batches(
        self, start: int, stop: int, workers: int = 0, start_method: str | None = None
    ) -> Iterator[Batch]:
        """Batches from `start` up to `stop`, read ahead by worker processes if there are any.

        `start_method` is how they are made: `fork`, `spawn`, or the system's own choice.
        Raises DataError if a worker process ends before its time.
        """
        if workers == 0:
            yield from (self[index] for index in range(start, stop))
            return
        loader: DataLoader[Batch | MateyError] = DataLoader(
            Guarded(self),
            batch_size=None,
            sampler=range(start, stop),
            num_workers=workers,
            multiprocessing_context=start_method,
            worker_init_fn=leave_signals,
            generator=torch.Generator(),  # else it draws from the generator of the drop path
        )
        handler = signal.getsignal(signal.SIGCHLD)
        loaded = iter(loader)
        if threading.current_thread() is threading.main_thread() and handler is not None:
            # Torch's handler raises wherever the main thread is; the queue tells here as well.
            signal.signal(signal.SIGCHLD, handler)
        try:
            for _ in range(start, stop):
                try:
                    batch = next(loaded)
                except (RuntimeError, ConnectionError, EOFError, FileNotFoundError) as error:
                    # A dead process is noticed by its absence, or in fetching what it had sent.
                    if (
                        isinstance(error, RuntimeError)
                        and "DataLoader worker" not in str(error)[:20]
                    ):
                        raise
                    raise DataError(
                        f"A process that loads data has ended ({error}). Was it killed, or is "
                        f"memory short? Lower workers = {workers} or batch, and go on with "
                        "--resume auto."
                    ) from error
                if isinstance(batch, MateyError):
                    raise batch
                yield batch
        finally:
            del loaded  # ends the processes now, whoever keeps the error and so this frame


def leave_signals(worker: int) -> None:
    """Leave to the main process what is sent to all: it needs its data until a step is done."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


class Guarded(Dataset["Batch | MateyError"]):
    """The same batches, with our errors as values: a worker process would bury their message in
    its traceback."""

    def __init__(self, mixture: Mixture) -> None:
        self.mixture = mixture

    def __getitem__(self, index: int) -> Batch | MateyError:
        try:
            return self.mixture[index]
        except MateyError as error:
            return error


def system_weights(windows: Mapping[str, int], config: MixtureConfig) -> np.ndarray:
    """The share of the batches that each system has, from how many windows it has."""
    power = {"uniform": 0.0, "size": 1.0, "temperature": 1 / config.temperature}[config.weights]
    weights = np.array(list(windows.values()), dtype=np.float64) ** power
    weights *= [config.shares.get(name, 1.0) for name in windows]
    return weights / weights.sum()


def fitting(tokens: int, limit: int, name: str, shape: tuple[int, int, int]) -> int:
    """How many windows of so many tokens fit. Raises ConfigError if not even one does."""
    if tokens > limit:
        raise ConfigError(
            f"mixture.tokens_per_batch is {limit}, but one window of system {name!r} on {shape} "
            f"points has up to {tokens} tokens. Raise it to {tokens} or more."
        )
    return limit // tokens


def draw(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Draw `size` of `count` windows, each once; if there are fewer, repeat all of them."""
    if size <= count:
        return rng.choice(count, size=size, replace=False)
    rounds = [rng.permutation(count) for _ in range(-(-size // count))]
    return np.concatenate(rounds)[:size]


def in_order(windows: Windows, batch: int, limit: int | None = None) -> list[list[Choice]]:
    """Windows at their shortest lead, each once, for validation: all, or `limit` of each grid
    shape. Those that make one batch stand together."""
    lead, batches = windows.config.min_lead, []
    for group in windows.groups.values():
        chosen = sorted(some(windows, group, len(group) if limit is None else limit))
        for first in range(0, len(chosen), batch):
            batches.append([Choice(i, lead) for i in chosen[first : first + batch]])
    return batches


def some(windows: Windows, group: np.ndarray, most: int) -> list[int]:
    """At most so many windows of a group: first ones of trajectories, where states may be as they
    never are again, up to one in `FIRSTS`, and others spread over all.

    Which are spread is by the golden ratio, which never falls in step with the lengths of
    trajectories, as an even spread may.
    """
    places = (np.arange(2 * most) * GOLDEN % 1 * len(group)).astype(int)
    spread = list(dict.fromkeys([*group[places].tolist(), *group[:most].tolist()]))[:most]
    firsts = dict.fromkeys(window - windows.place(window)[1] for window in spread)
    return list(dict.fromkeys([*list(firsts)[: max(1, most // FIRSTS)], *spread]))[:most]
