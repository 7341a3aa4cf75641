"""Settings of what training learns from: windows of trajectories, and how systems share batches."""

import math
from dataclasses import dataclass, field
from typing import Literal

from matey.config.checks import require, require_fraction, require_positive


@dataclass(frozen=True)
class WindowConfig:
    """What one training sample is.

    Args:
        history: number of input frames, T.
        stride: use one in this many frames: the model's dt is the data's times the stride.
        min_lead: the target is at least this many steps after the last frame ...
        max_lead: ... and at most this many, drawn at random; fixed if both are equal.
        pushforward: in training, let the model itself predict up to this many of the frames
            before the target, drawn anew for each batch: it learns to continue from its own
            errors, as in a rollout. Costs a third more per frame.
        learn_rollout: with pushforward, learn from each of the model's own frames too, with the
            gradient through all of them: a whole step more per frame, in memory as well, and more
            accurate many steps ahead.
        pushforward_end: up to this many in the end of a run, its last `end_share` of the steps;
            by default as many as before.
        end_share: the fraction of all steps that counts as the end.
        noise: in training, add noise to every frame of the history, of so many standard deviations
            of each variable over it, static ones aside; the target stays as it is. 1e-3 is little,
            1e-2 much: what is finer than that is no longer seen.
        past_noise: in training, make what changes over the history larger or smaller at random, by
            a smooth field of so many times itself; the last frame stays. A prediction then relies
            more on how things are, and less on how fast they change, which in a rollout is what
            the model made of it. Try 0.3, and look at both leads: not every system gains.
        roll: in training, shift each window at random along its periodic axes that are not
            stretched: the physics stays the same, and little data goes further.
        flip: in training, mirror half of the windows along each of these axes (x, y, z, as in
            canonical names: in a vertical section y points up). Vectors, tensors and walls are
            mirrored too, and pseudo quantities change their sign: `pseudo` of each variable
            must be known (see the data config). Name no axis along which gravity or another
            constant force acts, and none at all in a rotating frame.
        crop: in training, cut of each window a box at random: of so many points along each axis
            that has more, or of one number for each axis, slowest first; None takes windows whole.
            Validation, scores and predictions are of whole domains (see docs/large-domains.md).
        margin: points beside each cut that the loss leaves out, for each step from the last true
            frame to the one that is learned from: what happens there depends on what is not seen.
    """

    history: int = 4
    stride: int = 1
    min_lead: int = 1
    max_lead: int = 1
    pushforward: int = 0
    learn_rollout: bool = False
    pushforward_end: int | None = None
    end_share: float = 0.1
    noise: float = 0.0
    past_noise: float = 0.0
    roll: bool = False
    flip: tuple[Literal["x", "y", "z"], ...] = ()
    crop: int | tuple[int, ...] | None = None
    margin: int = 8

    def __post_init__(self) -> None:
        require_positive(self, "windows.", "history", "stride", "min_lead", "max_lead")
        require(
            self.min_lead <= self.max_lead,
            "windows.min_lead",
            self.min_lead,
            f"at most windows.max_lead = {self.max_lead}",
        )
        require_fraction(self, "windows.", "end_share", "noise", "past_noise")
        require(
            self.history > 1 or not self.past_noise,
            "windows.past_noise",
            self.past_noise,
            "0 with windows.history = 1: there is no frame before the last",
        )
        for name, steps in (
            ("pushforward", self.pushforward),
            ("pushforward_end", self.pushes(at_end=True)),
        ):
            require(steps >= 0, f"windows.{name}", steps, "0 or more")
            require(
                steps == 0 or self.min_lead == 1,
                f"windows.{name}",
                steps,
                f"0 with windows.min_lead = {self.min_lead}: the model goes on by single steps",
            )
        require(
            self.longest > 0 or not self.learn_rollout,
            "windows.learn_rollout",
            self.learn_rollout,
            "false with windows.pushforward = 0: there is no rollout to learn from",
        )
        require(len(set(self.flip)) == len(self.flip), "windows.flip", self.flip, "each axis once")
        sizes = (self.crop,) if isinstance(self.crop, int) else self.crop
        require(
            sizes is None or (0 < len(sizes) <= 3 and min(sizes) > 0),
            "windows.crop",
            self.crop,
            "a number of points above 0, or one for each of up to 3 axes",
        )
        require(self.margin >= 0, "windows.margin", self.margin, "0 points or more")

    def pushes(self, at_end: bool) -> int:
        """The most frames that the model predicts before a target, in the end of a run or not."""
        at_first = self.pushforward_end is None or not at_end
        return self.pushforward if at_first else self.pushforward_end or 0

    @property
    def longest(self) -> int:
        """The most frames that the model predicts before a target in all of a run."""
        return max(self.pushforward, self.pushes(at_end=True))

    @property
    def mean_pushes(self) -> float:
        """Frames that the model predicts before a target, on average over a run."""
        at_end = self.end_share * self.pushes(at_end=True)
        return ((1 - self.end_share) * self.pushforward + at_end) / 2

    def cropped(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The points along Z, Y and X of a window on a grid of so many. Raises ConfigError where
        `crop` has fewer numbers than the grid has axes, or the loss would leave out all of it."""
        if self.crop is None:
            return shape
        ndim = 3 - next((axis for axis, points in enumerate(shape) if points > 1), 2)
        sizes = (self.crop,) * ndim if isinstance(self.crop, int) else self.crop[-ndim:]
        require(
            len(sizes) == ndim,
            "windows.crop",
            self.crop,
            f"one number, or one for each of {ndim} axes",
        )
        z, y, x = (
            min(points, size) for points, size in zip(shape, (1,) * (3 - ndim) + sizes, strict=True)
        )
        parts = [n for n, points in zip((z, y, x), shape, strict=True) if n < points]
        require(
            min(parts, default=math.inf) > 2 * self.reach,
            "windows.crop",
            self.crop,
            f"more than twice the {self.reach} points beside a cut that windows.margin = "
            f"{self.margin} leaves out; or lower that",
        )
        return z, y, x

    @property
    def reach(self) -> int:
        """The most points beside a cut that the loss leaves out."""
        return self.margin * (self.longest + self.max_lead)

    @property
    def learned_steps(self) -> int:
        """Steps of the longest rollout that the gradient flows through."""
        return 1 + self.longest if self.learn_rollout else 1


@dataclass(frozen=True)
class MixtureConfig:
    """How systems share the batches, of which each holds one system.

    Args:
        weights: `uniform`: every system equally often; `size`: in proportion to its
            windows; `temperature`: in proportion to their number to the power 1 / temperature.
        temperature: 1 is `size`; larger values come near `uniform`. Start with 2 to 5.
        tokens_per_batch: fit as many windows into a batch as have at most this many tokens, history
            included, counting every patch as fine; `batch` then has no effect.
        batch: windows per batch of single systems, by name, as `{shallow_water: 2}`: fewer of a
            system with more grid points, whose batches then cost no more than the others'.
        shares: how many times as often as by `weights` single systems are drawn, by name, as
            `{compressible: 2}`: more often what is learned last.
    """

    weights: Literal["uniform", "size", "temperature"] = "uniform"
    temperature: float = 2.0
    tokens_per_batch: int | None = None
    batch: dict[str, int] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_positive(self, "mixture.", "temperature")
        if self.tokens_per_batch is not None:
            require_positive(self, "mixture.", "tokens_per_batch")
            require(not self.batch, "mixture.batch", self.batch, "none with tokens_per_batch")
        for name, windows in self.batch.items():
            require(windows > 0, f"mixture.batch.{name}", windows, "above 0")
        for name, times in self.shares.items():
            require(0 < times < math.inf, f"mixture.shares.{name}", times, "above 0")
